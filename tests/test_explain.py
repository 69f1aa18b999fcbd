"""Maps and what is computed of them: equal to tf-keras-vis, known answers, clear errors."""

import keras
import numpy as np
import pandas as pd
import pytest
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.saliency import Saliency
from tf_keras_vis.scorecam import Scorecam

from utils.backbones.networks import build_network
from utils.backbones.registry import get
from utils.explain import checks
from utils.explain import maps as heat
from utils.explain.cams import batched_gradcam, explain, field_of_view, scorecam, smoothgrad
from utils.explain.maps import CONTROLS, METHODS, resize_maps
from utils.explain.target import Scorer, explain_target
from utils.vocabulary import OUTPUTS

SIZE = 32
SPOT = slice(2, 8)


def tiny_model(size=SIZE, tasks=OUTPUTS, seed=1, dtype="float32", name="tiny", layer="relu2"):
    """A flat network like the study's, with outputs that look trained."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((size, size, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, dtype="float32")(images)
    same = {"strides": 2, "padding": "same"}
    for i, width in enumerate((8, 16)):
        x = keras.layers.Conv2D(width, 3, dtype=dtype, name=f"conv{i + 1}", **same)(x)
        x = keras.layers.BatchNormalization(dtype=dtype, name=f"norm{i + 1}")(x)
        x = keras.layers.ReLU(dtype=dtype, name=layer if i else "relu1")(x)
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="pool")(x)
    outputs = {task: head(n, task, activation="softmax")(x) for task, n in tasks.items()}
    return keras.Model(images, outputs, name=name)


def head(n, task, **options):
    """An output that looks trained: its bias is not zero."""
    options |= {"bias_initializer": "random_normal", "dtype": "float32"}
    return keras.layers.Dense(n, name=task, **options)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


def by_library(explainer, target, images, classes=None, softmaxed=False, **options):
    """Maps of tf-keras-vis for the class that the target predicts."""
    classes = target.classes(target.logits(images), classes)
    scores = target.scores

    def of_softmax(output, one=classes[0]):  # Score-CAM calls with one picture's softmax
        return output[:, one] if target.kind == "class" else scores(keras.ops.log(output), [one])

    made = explainer(target.net)(
        of_softmax if softmaxed else lambda output: scores(output, classes),
        images.astype("float32"),
        **options,
    )
    return heat.normalise(made)


CAM = {"penultimate_layer": "relu2", "seek_penultimate_conv_layer": False, "normalize_cam": False}


# ---------------------------------------------------------------- maps


@pytest.mark.parametrize("task", OUTPUTS)
def test_maps_equal_those_of_tf_keras_vis(model, images, task):
    target = explain_target(model, task, "relu2")
    ours = batched_gradcam(target, images, batch_size=2)
    theirs = by_library(Gradcam, target, images, **CAM)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    ours = batched_gradcam(target, images, plus=True)
    np.testing.assert_allclose(ours, by_library(GradcamPlusPlus, target, images, **CAM), atol=1e-4)
    ours = scorecam(target, images[:1], max_maps=4, placed=False)
    theirs = by_library(Scorecam, target, images[:1], softmaxed=True, max_N=4, **CAM)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_smoothgrad_equals_tf_keras_vis(model, images):
    target = explain_target(model, "ethnicity", "relu2")
    options = {"smooth_samples": 3, "smooth_noise": 0.2, "normalize_map": False}
    np.random.seed(4)
    theirs = by_library(Saliency, target, images, **options)
    np.testing.assert_allclose(smoothgrad(target, images, seed=4, samples=3), theirs, atol=1e-4)
    again = smoothgrad(target, images, seed=4, samples=3)
    np.testing.assert_array_equal(again, smoothgrad(target, images, seed=4, samples=3))


@pytest.mark.parametrize("name", ["alexnet", "vgg19", "mobilenetv2", "resnet50"])
def test_gradcam_is_equal_on_every_backbone(name):
    size = 96 if name == "alexnet" else 64
    network = build_network(name, size, ["gender"], weights="none")
    kernel = np.random.default_rng(2).normal(0, 0.5, network.get_layer("gender").kernel.shape[0])
    # Opposite weights: what speaks against one class speaks for the other.
    network.get_layer("gender").set_weights([np.stack([kernel, -kernel], axis=1), np.ones(2)])
    faces = np.random.default_rng(3).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    target = explain_target(network, "gender", get(name).last_conv)
    ours = batched_gradcam(target, faces, classes=[0, 1])
    options = CAM | {"penultimate_layer": target.layer}
    np.testing.assert_allclose(
        ours, by_library(Gradcam, target, faces, [0, 1], **options), atol=1e-4
    )
    assert ours.max() > 0.99


def test_original_model_is_untouched(model, images):
    before = {k: v.numpy() for k, v in model(images.astype("float32")).items()}
    config, weights = model.to_json(), [w.copy() for w in model.get_weights()]
    target = explain_target(model, "gender", "relu2")
    for method in METHODS:
        explain(target, images[:2], method)
    checks.cascade(target, images[:2], "gradcam", stages=2)
    assert model.to_json() == config
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for task, value in model(images.astype("float32")).items():
        np.testing.assert_array_equal(before[task], value.numpy())


def test_classes_and_directions(model, images):
    target, age = (explain_target(model, task, "relu2") for task in ("gender", "age"))
    maps = {c: batched_gradcam(target, images, classes=c) for c in (0, 1, None)}
    assert not np.allclose(maps[0], maps[1])
    best = np.argmax(target.logits(images), axis=1)
    chosen = np.where(best[:, None, None] == 0, maps[0], maps[1])
    np.testing.assert_allclose(maps[None], chosen, atol=1e-6)
    older, younger = (batched_gradcam(age, images, classes=c) for c in (1, -1))
    assert not np.allclose(older, younger)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", ["gender", "age"])
def test_saturated_softmax_and_constant_images_give_no_nan(method, task):
    model = tiny_model()
    kernel, bias = model.get_layer(task).get_weights()
    model.get_layer(task).set_weights([kernel * 1e4, bias * 1e6])
    flat = np.stack([np.full((SIZE, SIZE, 3), v, np.uint8) for v in (0, 128, 255)])
    noise = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    target = explain_target(model, task, "relu2")
    maps = explain(target, np.concatenate([flat, noise]), method, max_maps=4, samples=2)
    assert maps.shape == (5, SIZE, SIZE) and maps.dtype == np.float32
    assert np.isfinite(maps).all() and maps.min() >= 0 and maps.max() <= 1


def test_coarse_networks_are_explained_in_float32(images):
    coarse, fine = tiny_model(dtype="mixed_bfloat16"), tiny_model()
    fine.set_weights(coarse.get_weights())
    target = explain_target(coarse, "gender", "relu2")
    assert {layer.compute_dtype for layer in target.net.layers} == {"float32"}
    ours = batched_gradcam(target, images)
    theirs = batched_gradcam(explain_target(fine, "gender", "relu2"), images)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert coarse.get_layer("conv1").compute_dtype == "bfloat16"


def _with_head(layer):
    start = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(start)
    return keras.Model(start, layer(keras.layers.GlobalAveragePooling2D()(x)))


def test_heads_of_other_kinds(images):
    """An age as one value; outputs without a meaning; ordinal and single ages of the study."""
    value = explain_target(_with_head(head(1, "age_value")), "age_value")
    for method in METHODS:
        assert np.isfinite(explain(value, images, method, max_maps=4, samples=2)).all()
    wide = explain_target(_with_head(head(1000, "gender", activation="softmax")), "gender")
    assert wide.logits(images).shape == (5, 2)
    for kind, name in (("ordinal", "age"), ("regression", "age_value")):
        network = build_network("mobilenetv2", SIZE, ["age"], weights="none", age_head=kind)
        target = explain_target(network, name, "out_relu", check_trained=False)
        said = network.predict(images.astype("float32"), verbose=0)[name]
        said = said[:, 0] if kind == "regression" else said @ np.arange(117)
        np.testing.assert_allclose(target.confidence(images) * 116, said, rtol=1e-3)


def test_errors_are_clear(model, images):
    gender, age = (explain_target(model, task) for task in ("gender", "age"))
    untrained = tiny_model()
    untrained.get_layer("gender").bias.assign(np.zeros(2))
    inner = tiny_model(tasks={"gender": 2}, name="backbone")
    start = keras.Input((SIZE, SIZE, 3))
    outer = keras.Model(start, keras.layers.Dense(2, name="gender")(inner(start)["gender"]))
    for function, arguments, message in (
        (explain_target, (model, "height"), "no task 'height'; it has"),
        (explain_target, (model, "gender", "nowhere"), "'nowhere' holds no feature.*conv1.*relu2"),
        (explain_target, (model, "gender", "pool"), "'pool' holds no feature maps"),
        (explain_target, (untrained, "gender"), "'gender' was never trained"),
        (explain_target, (outer, "gender"), r"another model as one layer \(backbone\)"),
        (explain, (gender, images, "lime"), "method 'lime' is unknown.*gradcam, .*gaussian"),
        (batched_gradcam, (gender, images, 2), "expected 0..1"),
        (batched_gradcam, (age, images, 30), r"\+1 \(older\)"),
        (batched_gradcam, (age, images[:, ::2, ::2]), r"\(5, 16, 16, 3\); expected \(n, 32, 32, 3"),
    ):
        with pytest.raises(ValueError, match=message):
            function(*arguments)


def test_map_arithmetic():
    maps = np.random.default_rng(0).random((3, 4, 4))
    np.testing.assert_allclose(resize_maps(maps, 4), maps)
    # Each cell keeps its value in the middle of its tile.
    np.testing.assert_allclose(resize_maps(maps, 20, tiles=True)[:, 2::5, 2::5], maps, atol=1e-12)
    assert resize_maps(np.ones((1, 1, 1)), 3).tolist() == [[[1.0] * 3] * 3]
    faint = np.zeros((3, 2, 2))
    faint[0, 0, 0], faint[1, 1, 1] = 1e-3, 1.0
    assert heat.mean_map(faint).tolist() == [[1, 0], [0, 1]]
    assert not heat.mean_map(np.zeros((2, 3, 3))).any()
    np.testing.assert_array_equal(heat.random_maps(3, 20, seed=1), heat.random_maps(3, 20, seed=1))
    # As wide as a map's cells: neighbours are alike in patches, not among single pixels.
    patches, pixels = (heat.random_maps(9, 20, cells=n) for n in (4, 20))
    assert np.abs(np.diff(patches)).mean() * 3 < np.abs(np.diff(pixels)).mean()
    bell = heat.center_gaussian_maps(2, 21)
    assert bell[0].argmax() == 10 * 21 + 10 and bell[0, 0, 0] == 0
    grey = np.full((8, 8, 3), 100, np.uint8)
    for value in (0, 1):  # no attention leaves the picture as it is
        assert np.array_equal(heat.overlay(grey, np.full((8, 8), value)), grey) is (value == 0)


def test_field_of_view_of_a_known_network():
    """A 5 x 5 window with stride 4 sees its own place and no other."""
    start = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(2, 5, strides=4, name="a")(start)
    x = head(2, "gender")(keras.layers.GlobalAveragePooling2D()(x))
    target = explain_target(keras.Model(start, {"gender": x}), "gender", "a")
    field = field_of_view(target, np.zeros((2, 32, 32, 3)))
    assert field.shape == (7, 2)
    np.testing.assert_allclose(field[:, 0] * 32, 2.5 + 4 * np.arange(7), atol=0.5)
    assert (field[:, 1] * 32 < 1.8).all()


# ---------------------------------------------------------------- statistics


@pytest.fixture(scope="module")
def spot_target():
    """A network that says class 1 if the upper left corner is bright, and looks nowhere else."""
    start = keras.Input((24, 24, 3), name="image")
    x = keras.layers.Conv2D(2, 3, padding="same", activation="relu", name="conv")(start)
    x = keras.layers.Flatten()(x)
    model = keras.Model(start, {"gender": head(2, "gender", activation="softmax")(x)})
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[1, 1] = 1 / 3
    model.get_layer("conv").set_weights([kernel, np.zeros(2)])
    weights = np.zeros((24, 24, 2, 2), np.float32)
    weights[SPOT, SPOT, 0, 1] = 4 / 255 / 36
    model.get_layer("gender").set_weights([weights.reshape(-1, 2), np.array([1.0, 0.0])])
    return explain_target(model, "gender", "conv")


@pytest.fixture(scope="module")
def faces():
    pictures = np.random.default_rng(0).integers(0, 60, (8, 24, 24, 3), dtype=np.uint8)
    pictures[:, SPOT, SPOT] = 255
    return pictures


@pytest.fixture(scope="module")
def spot():
    mask = np.zeros((8, 24, 24), bool)
    mask[:, SPOT, SPOT] = True
    return mask


ONES = np.ones(8, int)


def test_the_true_map_beats_the_controls(spot_target, faces, spot):
    maps = {name: explain(spot_target, faces, name) for name in CONTROLS}
    maps["gradcam"] = spot.astype(np.float32)
    per_face, curves = checks.faithfulness(spot_target, faces, maps, ONES, steps=8)
    means = checks.means_of(per_face).pivot(index="method", columns="statistic", values="value")
    kinds = {"deletion_auc": -1, "insertion_auc": 1, "average_drop": -1}
    for control in CONTROLS:
        gain = means.loc["gradcam"] - means.loc[control]
        assert all(gain[name] * sign > 0 for name, sign in kinds.items())
    won = checks.against_control(per_face).query("method == 'gradcam'")
    assert won.set_index("statistic").loc[list(kinds), "beats"].all()
    assert len(curves) == 4 * 2 * 9 and curves["value"].between(0, 1).all()
    # Curves start and end where they must, and an area is the mean over both fills.
    ends = curves[curves["method"] == "gradcam"].set_index(["mode", "share"])["value"]
    full = spot_target.confidence(faces, ONES).mean()
    assert ends["deletion", 0] == pytest.approx(full) == pytest.approx(ends["insertion", 1])
    blanks = checks.blanks(faces.astype(np.float32))
    empty = [spot_target.confidence(blank, ONES).mean() for blank in blanks.values()]
    assert (
        ends["deletion", 1] == pytest.approx(np.mean(empty)) == pytest.approx(ends["insertion", 0])
    )
    both = [means[f"deletion_auc_{fill}"] for fill in blanks]
    np.testing.assert_allclose(means["deletion_auc"], np.mean(both, axis=0))
    assert not means["blank_alike"].any()


@pytest.mark.parametrize("slope", [-1 / 20, 0])
def test_an_age_is_scored_by_its_change_as_a_share_of_the_blanks(slope):
    """However old a blank picture looks, deletion goes from 1 to 0; others are left out."""
    start = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(1, 1, name="conv")(start))
    model = keras.Model(start, {"age_value": head(1, "age_value")(x)})
    kernel = np.zeros((64, 1))
    kernel[:4] = slope  # older the darker: who takes the bright spot away makes the face older
    model.set_weights([np.ones((1, 1, 3, 1)), np.zeros(1), kernel, np.array([90.0])])
    pictures = np.zeros((2, 8, 8, 3), np.float32)
    pictures[:, 0, :4] = 120
    target = explain_target(model, "age_value")
    maps = {"gradcam": pictures[..., 0] / 120}
    per_face, curves = checks.faithfulness(target, pictures, maps, np.ones(2, int), steps=4)
    assert (per_face["blank_alike"] == (slope == 0)).all()
    assert per_face["increase_in_confidence"].isna().all()  # no age is surer than another
    lines = curves.pivot(index="share", columns="mode", values="value")
    if slope:
        assert lines["deletion"].tolist() == [1, 0, 0, 0, 0]
        assert lines["insertion"].tolist() == [0, 1, 1, 1, 1]
    else:
        assert lines.isna().all(axis=None) and per_face["deletion_auc"].isna().all()


def test_ties_are_broken_at_random_not_by_place_and_misfits_are_named(spot_target, faces, spot):
    flat = {"gradcam": np.zeros((8, 24, 24))}
    _, curves = checks.faithfulness(spot_target, faces, flat, ONES, steps=2)
    values = curves[curves["mode"] == "deletion"]["value"].to_numpy()
    # By place, half the pixels would hold the whole spot; at random, half of it.
    assert values[1] > values[2] + 0.02
    with pytest.raises(ValueError, match=r"maps of 'gradcam' have shape \(8, 12, 24\)"):
        checks.faithfulness(spot_target, faces, {"gradcam": spot[:, ::2]}, ONES)


def test_near_duplicates_widen_the_intervals():
    """100 groups of ten equal faces say as much as 100 faces, not as 1,000."""
    value = np.repeat(np.random.default_rng(0).normal(size=100), 10)
    table = pd.DataFrame({"method": "gradcam", "face": np.arange(1000), "deletion_auc": value})
    alone = checks.means_of(table).iloc[0]
    grouped = checks.means_of(table, np.repeat(np.arange(100), 10)).iloc[0]
    assert grouped["ci_high"] - grouped["ci_low"] > 2.5 * (alone["ci_high"] - alone["ci_low"])
    assert grouped["value"] == alone["value"] and grouped["n"] == 1000


def test_cascade_starts_at_one_and_repeats(model, images):
    target = explain_target(model, "gender", "relu2")
    table, faces = checks.cascade(target, images, "gradcam", stages=3)
    assert table["stage"].tolist() == [0, 1, 2, 3]
    assert table["value"].iloc[0] == 1 and table["layers"].iloc[-1] == 5
    assert table["deepest"].iloc[-1] == "conv1" and table["deepest"].iloc[1].startswith("gender")
    again = checks.cascade(target, images, "gradcam", stages=3)
    pd.testing.assert_frame_equal(table, again[0])
    pd.testing.assert_frame_equal(faces, again[1])
    # A map that ignores the network cannot change with it.
    control, faces = checks.cascade(target, images, "center_gaussian", stages=2)
    assert control["value"].iloc[-1] == 1
    assert (faces["emprt"] == 0).all() and (faces["vanished"] == 0).all()
    with pytest.raises(ValueError, match="expected 2 or more"):
        checks.cascade(target, images, "gradcam", stages=1)


def test_vanished_maps_are_counted_apart_and_noise_is_more_complex():
    sharp, noise = np.zeros((3, 9, 9)), np.random.default_rng(0).random((3, 9, 9))
    sharp[:, 4, 4] = noise[:, 0, 0] = 1
    noise[1], sharp[2] = 0, 0
    faces = checks._after_randomisation(sharp, noise)
    np.testing.assert_array_equal(faces["vanished"], [0, 1, np.nan])
    assert np.isfinite(faces["randomization_similarity"]).tolist() == [True, False, False]
    assert faces["emprt"].iloc[0] > 10 and faces["emprt"].iloc[1:].isna().all()


def test_randomised_layers_begin_as_their_initializers_say(model):
    copy = keras.models.clone_model(model)
    copy.set_weights([np.full_like(w, 7) for w in model.get_weights()])
    for name in ("conv1", "norm1", "gender"):
        checks._reinitialise(copy.get_layer(name), 1)
    assert (
        0 < np.abs(copy.get_layer("conv1").kernel.numpy()).max() < 1
    )  # Glorot's, not a permuted 7
    values = [w.numpy().mean() for w in copy.get_layer("norm1").weights]
    assert values == [1, 0, 0, 1]
    assert (copy.get_layer("conv2").kernel.numpy() == 7).all()


def test_tasks_share_what_the_scorer_saw(model, images):
    scorer, coarse = Scorer(model), Scorer(model, bfloat16=True)
    for task in OUTPUTS:
        target = explain_target(model, task, "relu2")
        np.testing.assert_allclose(
            scorer.logits(images, task), target.logits(images), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            coarse.logits(images, task), target.logits(images), rtol=0.05, atol=0.05
        )
    assert len(scorer._known) == 1
    assert not np.array_equal(scorer.logits(images[:2], "age"), coarse.logits(images[:2], "age"))


def test_localisation_on_known_evidence(spot_target, faces, spot):
    maps = {m: explain(spot_target, faces, m) for m in ("gradcam", *CONTROLS)}
    perfect = checks.inside(spot.astype(float), spot)
    assert perfect["energy_inside"].tolist() == perfect["pointing_game"].tolist() == [1.0] * 8
    flat = checks.inside(np.ones((1, 24, 24)), spot[:1])["pointing_game"]
    assert flat[0] == pytest.approx(36 / 24**2)
    assert checks.inside(np.zeros((1, 24, 24)), spot[:1])["pointing_game"][0] == 0
    values = checks.localisation(maps, spot).set_index(["method", "statistic"])["value"]
    assert values["gradcam", "pointing_game"] > values["center_gaussian", "pointing_game"]
    empty = spot.copy()
    empty[:3] = False
    assert (checks.localisation(maps, empty)["n"] == 5).all()
    names = ["synthetic/129/000001.png", "synthetic/129/000002.png"]
    masks = checks.evidence_masks(names, "gender", 48)
    assert masks.shape == (2, 48, 48) and masks.dtype == bool and masks.any(axis=(1, 2)).all()
