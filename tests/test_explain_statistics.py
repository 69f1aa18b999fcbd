"""Statistics about maps: known answers on networks and pictures whose evidence is known."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from utils.explain import gallery, select
from utils.explain.cams import batched_gradcam, explain
from utils.explain.faithfulness import (
    area_under,
    faithfulness,
    perturbation_curves,
    summarise,
)
from utils.explain.judge import against_control, randomization_similarity, verdict, verdicts
from utils.explain.localisation import energy_inside, localisation, pointing_game
from utils.explain.maps import center_gaussian_maps, random_maps
from utils.explain.names import CONTROLS
from utils.explain.regions import (
    REGIONS,
    attention_differences,
    attention_shares,
    attention_table,
    region_masks,
)
from utils.explain.sanity import cascade, cascade_stages
from utils.explain.table import (
    COLUMNS,
    read_explanations,
    statistics_rows,
    write_explanations,
)
from utils.explain.target import explain_target
from utils.explain.uncertainty import bootstrap_mean

SIZE = 24
SPOT = slice(2, 8)


@pytest.fixture(scope="module")
def spot_model():
    """A network that says class 1 if the upper left corner is bright, and looks nowhere else."""
    start = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Conv2D(2, 3, padding="same", activation="relu", name="conv")(start)
    x = keras.layers.Flatten()(x)
    model = keras.Model(
        start, {"gender": keras.layers.Dense(2, activation="softmax", name="gender")(x)}
    )
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[1, 1] = 1 / 3
    model.get_layer("conv").set_weights([kernel, np.zeros(2)])
    head = np.zeros((SIZE, SIZE, 2, 2), np.float32)
    head[SPOT, SPOT, 0, 1] = 4 / 255 / 36
    model.get_layer("gender").set_weights([head.reshape(-1, 2), np.array([1.0, 0.0])])
    return model


@pytest.fixture(scope="module")
def faces():
    pictures = np.random.default_rng(0).integers(0, 60, (8, SIZE, SIZE, 3), dtype=np.uint8)
    pictures[:, SPOT, SPOT] = 255
    return pictures


@pytest.fixture(scope="module")
def spot():
    mask = np.zeros((8, SIZE, SIZE), bool)
    mask[:, SPOT, SPOT] = True
    return mask


def test_the_true_map_beats_the_controls(spot_model, faces, spot):
    maps = {
        "gradcam": spot.astype(np.float32),
        "random": random_maps(8, SIZE),
        "center_gaussian": center_gaussian_maps(8, SIZE),
    }
    per_face, curves = faithfulness(spot_model, faces, maps, "gender", steps=8)
    means = summarise(per_face).pivot(index="method", columns="statistic", values="value")
    for control in CONTROLS:
        assert means.loc["gradcam", "deletion_auc"] < means.loc[control, "deletion_auc"]
        assert means.loc["gradcam", "insertion_auc"] > means.loc[control, "insertion_auc"]
        assert means.loc["gradcam", "average_drop"] < means.loc[control, "average_drop"]
    compared = against_control(per_face)
    won = compared[compared["method"] == "gradcam"].set_index("statistic")["beats"]
    assert won["deletion_auc"] and won["insertion_auc"] and won["average_drop"]
    sentences = verdicts(compared)
    assert sentences[0].startswith("gradcam beats the centred Gaussian on deletion auc")
    assert len(curves) == 3 * 2 * 9 and curves["value"].between(0, 1).all()


def test_curves_start_and_end_where_they_must(spot_model, faces, spot):
    target = explain_target(spot_model, "gender")
    ones = np.ones(8, int)
    full = target.confidence(faces, ones)
    deletion = perturbation_curves(target, faces, spot, ones, "deletion", steps=4, batch_size=3)
    insertion = perturbation_curves(target, faces, spot, ones, "insertion", steps=4, batch_size=3)
    np.testing.assert_allclose(deletion[:, 0], full, rtol=1e-5)
    np.testing.assert_allclose(insertion[:, -1], full, rtol=1e-5)
    grey = np.broadcast_to(faces.mean(axis=(1, 2), keepdims=True), faces.shape)
    np.testing.assert_allclose(deletion[:, -1], target.confidence(grey, ones), rtol=1e-5)
    assert area_under(np.full((2, 5), 0.7)).tolist() == pytest.approx([0.7, 0.7])


def test_ties_are_broken_at_random_not_by_place(spot_model, faces):
    target = explain_target(spot_model, "gender")
    flat = np.zeros((8, SIZE, SIZE))
    curve = perturbation_curves(target, faces, flat, np.ones(8, int), "deletion", steps=2)
    # By place, half the pixels would hold the whole spot; at random, half of it.
    assert (curve[:, 1] > curve[:, 2] + 0.02).all()


def test_faithfulness_errors(spot_model, faces, spot):
    with pytest.raises(ValueError, match=r"maps of 'gradcam' have shape \(8, 12, 24\)"):
        faithfulness(spot_model, faces, {"gradcam": spot[:, ::2]}, "gender")
    target = explain_target(spot_model, "gender")
    with pytest.raises(ValueError, match="expected deletion or insertion"):
        perturbation_curves(target, faces, spot, np.ones(8, int), "removal")
    with pytest.raises(ValueError, match="control 'center_gaussian' is not among"):
        against_control(pd.DataFrame({"method": ["gradcam"], "face": [0]}))


def _trained_like_model():
    keras.utils.set_random_seed(3)
    start = keras.Input((SIZE, SIZE, 3), name="image")
    x = start
    for i in range(3):
        x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name=f"conv{i}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(2, activation="softmax", name="gender", bias_initializer="ones")(x)
    return keras.Model(start, x)


def test_cascade_starts_at_one_and_leaves_the_model(faces):
    model = _trained_like_model()
    before = [w.copy() for w in model.get_weights()]
    table = cascade(model, faces, "gender", "conv2", stages=3)
    assert table["stage"].tolist() == [0, 1, 2, 3]
    assert table["value"].iloc[0] == 1 and table["layers"].iloc[-1] == 4
    assert table["deepest"].iloc[-1] == "conv0"
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    again = cascade(model, faces, "gender", "conv2", stages=3)
    pd.testing.assert_frame_equal(table, again)


def test_a_control_fails_the_cascade(faces):
    """A map that ignores the network cannot change with it."""
    table = cascade(_trained_like_model(), faces, "gender", "conv2", "center_gaussian", stages=2)
    assert randomization_similarity(table)["value"] == 1
    assert "fails" in verdict(table)
    changed = table.assign(value=0.1, ci_low=0.0, ci_high=0.2)
    assert "passes" in verdict(changed)


def test_cascade_stages():
    names = cascade_stages(_trained_like_model(), 3)
    assert [len(part) for part in names] == [1, 2, 1] and names[0] == ["gender"]
    with pytest.raises(ValueError, match="expected 2 or more"):
        cascade_stages(_trained_like_model(), 1)


@pytest.mark.parametrize("size", [32, 96, 224])
def test_regions_divide_the_picture(size):
    masks = region_masks(size)
    assert tuple(masks) == REGIONS
    assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
    # mtcnn's median landmarks on real crops, as (x, y) shares of the side.
    landmarks = {
        "eyes": [(0.30, 0.285), (0.685, 0.285)],
        "nose": [(0.49, 0.52)],
        "mouth": [(0.315, 0.69), (0.665, 0.69)],
    }
    for name, points in landmarks.items():
        for x, y in points:
            assert masks[name][int(y * size), int(x * size)], (name, x, y)


def test_attention_sums_to_one_and_differences_are_found():
    masks = region_masks(40)
    eyes = np.repeat(masks["eyes"][None].astype(float), 6, axis=0)
    table = attention_table(eyes)
    assert table.set_index("statistic")["value"]["attention_eyes"] == 1
    shares = attention_shares(np.random.default_rng(0).random((6, 40, 40)))
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert np.isnan(attention_shares(np.zeros((1, 40, 40)))).all(axis=None)
    found = attention_differences({"a": attention_shares(eyes), "b": shares})
    assert found.set_index("region")["differs"]["eyes"]
    same = attention_differences({"a": shares, "b": shares})
    assert not same["differs"].any()


def test_localisation_on_known_evidence(spot_model, faces, spot):
    maps = {m: explain(spot_model, faces, "gender", m, "conv") for m in ("gradcam", *CONTROLS)}
    assert energy_inside(spot.astype(float), spot).tolist() == [1.0] * 8
    assert pointing_game(spot.astype(float), spot).tolist() == [1.0] * 8
    assert pointing_game(np.ones((1, SIZE, SIZE)), spot[:1])[0] == pytest.approx(36 / SIZE**2)
    assert pointing_game(np.zeros((1, SIZE, SIZE)), spot[:1])[0] == 0
    table = localisation(maps, spot)
    values = table.pivot(index="method", columns="statistic", values="value")
    assert values.loc["gradcam", "pointing_game"] > values.loc["center_gaussian", "pointing_game"]
    empty = spot.copy()
    empty[:3] = False
    assert (localisation(maps, empty)["n"] == 5).all()
    with pytest.raises(ValueError, match="expected equal"):
        energy_inside(maps["random"], spot[:, :4])


def test_evidence_of_synthetic_faces():
    from utils.explain.localisation import evidence_masks

    masks = evidence_masks(["synthetic/129/000001.png", "synthetic/129/000002.png"], "gender", 48)
    assert masks.shape == (2, 48, 48) and masks.dtype == bool and masks.any(axis=(1, 2)).all()


def test_bootstrap():
    values = np.random.default_rng(0).normal(3, 1, 400)
    row = bootstrap_mean(values)
    assert row["ci_low"] < 3 < row["ci_high"] and row["n"] == 400
    assert row["ci_high"] - row["ci_low"] == pytest.approx(4 / 20, rel=0.15)
    assert bootstrap_mean([np.nan])["n"] == 0
    assert row == bootstrap_mean(values)


def test_explanations_table(tmp_path, spot_model, faces, spot):
    per_face, _ = faithfulness(
        spot_model, faces, {"gradcam": spot, "random": random_maps(8, SIZE)}, "gender", steps=2
    )
    rows = statistics_rows(summarise(per_face), "run-a", "mobilenetv2", "gender")
    path = tmp_path / "study" / "explanations.csv"
    assert len(read_explanations(path)) == 0
    write_explanations(path, rows)
    write_explanations(path, rows.assign(run="run-b"))
    table = write_explanations(path, rows.assign(value=0.5))
    assert list(table.columns) == COLUMNS and len(table) == 16
    assert (table.loc[table["run"] == "run-a", "value"] == 0.5).all()
    assert len(read_explanations(path)) == 16 and len(list(path.parent.iterdir())) == 1
    with pytest.raises(ValueError, match=r"unknown statistic \['beauty'\]"):
        write_explanations(path, rows.assign(statistic="beauty"))
    with pytest.raises(ValueError, match=r"lack the columns \['n'\]"):
        write_explanations(path, rows.drop(columns="n"))


@pytest.fixture
def predictions():
    n = 40
    rng = np.random.default_rng(1)
    female = rng.random(n).astype(np.float32)
    age = rng.integers(1, 100, n).astype(float)
    return pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in range(n)],
            "split": "test",
            "age": age,
            "gender": np.where(np.arange(n) % 2, "female", "male"),
            "ethnicity": "Asian",
            "pred_age": age + rng.normal(0, 12, n),
            "age_q10": age - 5,
            "age_q90": age + 5.0,
            "p_gender_male": 1 - female,
            "p_gender_female": female,
        }
    )


def test_faces_are_chosen_by_rule(predictions):
    good = select.right(predictions, "gender")
    for how, right in (("confident_right", True), ("confident_wrong", False)):
        rows = select.choose_faces(predictions, "gender", how, 4)
        sure = select.confidence(predictions, "gender")
        assert (good[rows] == right).all() and (np.diff(sure[rows]) <= 0).all()
        assert sure[rows[0]] == sure[good == right].max()
    rows = select.choose_faces(predictions, "gender", "by_gender", 4)
    assert set(predictions["gender"].iloc[rows[:2]]) == {"male", "female"}
    errors = np.abs(predictions["pred_age"] - predictions["age"])
    assert (errors.iloc[select.choose_faces(predictions, "age", "confident_wrong", 4)] > 10).all()
    assert select.choose_faces(predictions, "age", "random", 5).tolist() == (
        select.choose_faces(predictions, "age", "random", 5).tolist()
    )
    with pytest.raises(ValueError, match="choice 'pretty' is unknown"):
        select.choose_faces(predictions, "age", "pretty")


def test_texts(predictions):
    assert select.truth_text(predictions, "gender", 1) == "female"
    assert select.truth_text(predictions, "age", 0).endswith(" years")
    share = max(predictions.loc[0, ["p_gender_male", "p_gender_female"]])
    assert select.prediction_text(predictions, "gender", 0).endswith(f"{share:.2f}")


def test_figures_say_what_they_show(spot_model, faces, spot):
    maps = batched_gradcam(spot_model, faces[:2], "gender", "conv")
    panel = gallery.Panel("MobileNetV2", maps, ["female 0.9", "male 0.6"], [True, False])
    figure = gallery.face_gallery(
        faces[:2], ["female", "female"], [panel], "What it saw", "synthetic", n=2
    )
    assert "synthetic" in figure.finding and "n = 2" in figure.caption
    assert figure.axes[3].get_xlabel() == "wrong: male 0.6"
    face = faces[0]
    per_face, curves = faithfulness(spot_model, faces, {"gradcam": spot}, "gender", steps=2)
    table = attention_table(maps)
    steps = pd.DataFrame(
        {"layers": [0, 2], "value": [1, 0.2], "ci_low": [1, 0.1], "ci_high": [1, 0.3]}
    )
    for drawn in (
        gallery.mean_map_figure(face, {"a": maps[0], "b": maps[1]}, "t", "utkface"),
        gallery.region_figure(face, "utkface"),
        gallery.attention_figure({"a": table, "b": table}, "t", "utkface"),
        gallery.curves_figure(curves, "t", "utkface"),
        gallery.cascade_figure({"Grad-CAM": steps}, "t", "utkface"),
    ):
        drawn.canvas.draw()
        assert drawn.finding and drawn.axes
    with pytest.raises(ValueError, match="expected 1, one a face"):
        gallery.face_gallery(faces[:1], ["female"], [panel], "t", "utkface")


def test_runs_are_found_or_the_message_helps(tmp_path):
    from utils.explain.study import NO_RUN, common_faces, common_tasks, open_runs

    assert open_runs(root=tmp_path) == []
    assert len(common_faces([])) == 0 and common_tasks([], ["age"]) == []
    assert "run_all.sh smoke" in NO_RUN
    for name, model in (("b", "resnet50"), ("a", "mobilenetv2"), ("c", "scratch_cnn")):
        folder = tmp_path / name
        folder.mkdir()
        config = dict(
            model=model,
            dataset="synthetic",
            protocol="finetune",
            seed=1,
            tasks=["age"],
            label=model,
        )
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "metrics.json").write_text("{}")
        (folder / "model.keras").write_text("")
    views = open_runs(root=tmp_path)
    assert [view.run for view in views] == ["a", "b"]
    assert [view.run for view in open_runs(["c"], root=tmp_path)] == ["c"]
    assert common_tasks(views, ["gender", "age"]) == ["age"]
