"""Maps: equal to tf-keras-vis, finite, in 0..1, with clear errors for unfit models."""

import keras
import numpy as np
import pytest

from utils.explain.cams import (
    batched_gradcam,
    batched_smoothgrad,
    cam,
    explain,
    feature_maps,
    gradcam_of_features,
)
from utils.explain.maps import (
    center_gaussian_maps,
    mean_face,
    mean_map,
    normalise,
    overlay,
    random_maps,
    resize_maps,
)
from utils.explain.names import METHODS
from utils.explain.placement import field_of_view, place_maps
from utils.explain.target import convolution_layers, explain_target

SIZE = 32
TASKS = {"age": 117, "age_bin": 5, "gender": 2, "ethnicity": 5}


def tiny_model(size=SIZE, tasks=TASKS, seed=1, dtype="float32", name="tiny"):
    """A flat network like the study's, with outputs that look trained."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((size, size, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, dtype="float32")(images)
    for i, width in enumerate((8, 16)):
        x = keras.layers.Conv2D(
            width, 3, strides=2, padding="same", dtype=dtype, name=f"conv{i + 1}"
        )(x)
        x = keras.layers.BatchNormalization(dtype=dtype, name=f"norm{i + 1}")(x)
        x = keras.layers.ReLU(dtype=dtype, name=f"relu{i + 1}")(x)
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(x)
    outputs = {
        task: keras.layers.Dense(
            n, activation="softmax", name=task, dtype="float32", bias_initializer="random_normal"
        )(x)
        for task, n in tasks.items()
    }
    return keras.Model(images, outputs, name=name)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("task", ["age", "ethnicity"])
@pytest.mark.parametrize("method", METHODS)
def test_maps_are_finite_and_scaled(model, images, task, method):
    maps = cam(model, images, task, "relu2", method, batch_size=2, max_maps=4, smooth_samples=2)
    assert maps.shape == (5, SIZE, SIZE) and maps.dtype == np.float32
    assert np.isfinite(maps).all() and maps.min() >= 0 and maps.max() <= 1
    assert maps.max() > 0.99


@pytest.mark.parametrize("task", TASKS)
def test_batched_gradcam_equals_tf_keras_vis(model, images, task):
    ours = batched_gradcam(model, images, task, "relu2", batch_size=2)
    theirs = cam(model, images, task, "relu2", "gradcam")
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_batched_gradcam_equals_the_library_called_directly(model, images):
    """Without any code of ours in between: ReplaceToLinear and its own normalisation."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    single = keras.Model(model.input, model.get_layer("gender").output)
    theirs = Gradcam(single, ReplaceToLinear())(
        CategoricalScore([1] * 5),
        images.astype("float32"),
        "relu2",
        seek_penultimate_conv_layer=False,
    )
    ours = batched_gradcam(model, images, "gender", "relu2", classes=1)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


BACKBONES = ("alexnet", "vgg19", "mobilenetv2", "resnet50")


@pytest.mark.parametrize("name", BACKBONES)
def test_equal_on_every_backbone(name):
    from utils.backbones import build_network, get

    size = 96 if name == "alexnet" else 64
    network = build_network(name, size, ["gender"], weights="none")
    kernel = np.random.default_rng(2).normal(0, 0.5, network.get_layer("gender").kernel.shape[0])
    # Opposite weights: what speaks against one class speaks for the other.
    network.get_layer("gender").set_weights([np.stack([kernel, -kernel], axis=1), np.ones(2)])
    faces = np.random.default_rng(3).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    layer = get(name).last_conv
    target = explain_target(network, "gender", layer)
    ours = batched_gradcam(target, faces, "gender", classes=[0, 1])
    theirs = cam(target, faces, "gender", classes=[0, 1])
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert ours.max() > 0.99


def test_original_model_is_untouched(model, images):
    before = {k: v.numpy() for k, v in model(images.astype("float32")).items()}
    config, weights = model.to_json(), [w.copy() for w in model.get_weights()]
    for method in METHODS:
        explain(model, images[:2], "gender", method, "relu2")
    assert model.to_json() == config
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for task, value in model(images.astype("float32")).items():
        np.testing.assert_array_equal(before[task], value.numpy())


def test_classes_and_directions(model, images):
    first, second = (cam(model, images, "gender", "relu2", classes=c) for c in (0, 1))
    assert not np.allclose(first, second)
    older, younger = (batched_gradcam(model, images, "age", "relu2", classes=c) for c in (1, -1))
    assert not np.allclose(older, younger)
    predicted = np.argmax(explain_target(model, "gender").logits(images), axis=1)
    np.testing.assert_allclose(
        batched_gradcam(model, images, "gender", "relu2"),
        batched_gradcam(model, images, "gender", "relu2", classes=predicted),
        atol=1e-6,
    )


def test_seed_repeats_and_leaves_global_state(model, images):
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    one = cam(model, images, "gender", "relu2", "smoothgrad", smooth_samples=3, seed=1)
    assert np.random.random() == expected
    two = cam(model, images, "gender", "relu2", "smoothgrad", smooth_samples=3, seed=1)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", ["gender", "age"])
def test_saturated_softmax_and_constant_images_give_no_nan(method, task, recwarn):
    model = tiny_model()
    head = model.get_layer(task)
    kernel, bias = head.get_weights()
    head.set_weights([kernel * 1e4, bias * 1e6])
    flat = np.stack([np.full((SIZE, SIZE, 3), v, np.uint8) for v in (0, 128, 255)])
    noise = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    maps = cam(
        model, np.concatenate([flat, noise]), task, "relu2", method, max_maps=4, smooth_samples=2
    )
    assert np.isfinite(maps).all() and maps.min() >= 0 and maps.max() <= 1
    if method in ("gradcam", "smoothgrad"):  # our own versions
        maps = explain(model, flat, task, method, "relu2")
        assert np.isfinite(maps).all() and maps.min() >= 0 and maps.max() <= 1


def test_bfloat16_model_is_explained_by_a_float32_copy(images):
    coarse, fine = tiny_model(dtype="mixed_bfloat16"), tiny_model()
    fine.set_weights(coarse.get_weights())
    target = explain_target(coarse, "gender", "relu2")
    assert {layer.compute_dtype for layer in target.net.layers} == {"float32"}
    np.testing.assert_allclose(
        batched_gradcam(coarse, images, "gender", "relu2"),
        batched_gradcam(fine, images, "gender", "relu2"),
        atol=1e-5,
    )
    assert coarse.get_layer("conv1").compute_dtype == "bfloat16"


def test_uint8_input_has_gradients(images):
    inner = tiny_model()
    start = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="image")
    model = keras.models.clone_model(inner, input_tensors=start)
    model.set_weights(inner.get_weights())
    maps = cam(model, images, "gender", "relu2", "smoothgrad", smooth_samples=2)
    assert maps.max() > 0.99


def test_regression_output(images):
    x = start = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(1, activation="relu", name="age_value", bias_initializer="ones")(x)
    model = keras.Model(start, x)
    for method in METHODS:
        maps = cam(model, images, "age_value", "conv", method, max_maps=4, smooth_samples=2)
        assert np.isfinite(maps).all()
    np.testing.assert_allclose(
        batched_gradcam(model, images, "age_value", "conv"),
        cam(model, images, "age_value", "conv"),
        atol=1e-4,
    )
    target = explain_target(model, "age_value")
    value = model.predict(images.astype("float32"), verbose=0)[:, 0]
    raw = target.logits(images)[:, 0] * 116
    np.testing.assert_allclose(np.maximum(raw, 0), value, rtol=1e-4)


def test_softmax_as_a_layer_of_its_own(images):
    start = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(start)
    x = keras.layers.Dense(2, bias_initializer="ones")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(start, keras.layers.Activation("softmax", name="gender")(x))
    other = keras.Model(start, keras.layers.Softmax(name="gender")(x))
    for variant in (model, other):
        logits = explain_target(variant, "gender").logits(images)
        assert not np.allclose(logits.sum(axis=1), 1)


def test_errors_are_clear(model, images):
    with pytest.raises(ValueError, match="no task 'height'; it has"):
        cam(model, images, "height")
    with pytest.raises(ValueError, match="'nowhere' does not lead.*conv1, conv2"):
        cam(model, images, "gender", "nowhere")
    with pytest.raises(ValueError, match="no feature maps"):
        cam(model, images, "gender", _pooling(model))
    with pytest.raises(ValueError, match="method 'lime' is unknown"):
        cam(model, images, "gender", method="lime")
    with pytest.raises(ValueError, match="expected 0..1"):
        cam(model, images, "gender", classes=2)
    with pytest.raises(ValueError, match=r"\+1 \(older\)"):
        batched_gradcam(model, images, "age", classes=30)
    with pytest.raises(ValueError, match=r"shape \(5, 16, 16, 3\); expected \(n, 32, 32, 3\)"):
        cam(model, images[:, ::2, ::2], "gender")
    with pytest.raises(ValueError, match="expected a keras.Model"):
        cam("resnet50", images, "gender")


def _pooling(model):
    return next(layer.name for layer in model.layers if "pooling" in layer.name)


def test_untrained_task_is_refused(images):
    model = tiny_model()
    head = model.get_layer("gender")
    head.set_weights([head.get_weights()[0], np.zeros(2)])
    with pytest.raises(ValueError, match="'gender' was never trained"):
        cam(model, images, "gender")


def test_nested_model_is_refused(images):
    inner = tiny_model(tasks={"gender": 2}, name="backbone")
    start = keras.Input((SIZE, SIZE, 3))
    outer = keras.Model(start, keras.layers.Dense(2, name="gender")(inner(start)["gender"]))
    with pytest.raises(ValueError, match=r"holds another model as one layer \(backbone\)"):
        cam(outer, images, "gender")


def test_convolution_layers(model):
    assert convolution_layers(model) == ["conv1", "conv2"]
    assert explain_target(model, "gender").layer == "relu2"


def test_map_arithmetic():
    rng = np.random.default_rng(0)
    maps = rng.random((3, 4, 4))
    np.testing.assert_allclose(resize_maps(maps, 4), maps)
    from scipy.ndimage import zoom

    np.testing.assert_allclose(resize_maps(maps, 15), zoom(maps, (1, 15 / 4, 15 / 4), order=1))
    assert resize_maps(np.ones((1, 1, 1)), 3).tolist() == [[[1.0] * 3] * 3]
    assert normalise(np.full((1, 2, 2), 1e-12) * [[1, 2], [3, 4]]).max() == 1
    faint = np.zeros((3, 2, 2))
    faint[0, 0, 0], faint[1, 1, 1] = 1e-3, 1.0
    assert mean_map(faint).tolist() == [[1, 0], [0, 1]]
    assert not mean_map(np.zeros((2, 3, 3))).any()
    with pytest.raises(ValueError, match="n >= 1"):
        mean_map(np.zeros((0, 3, 3)))


def test_controls_and_pictures():
    one, two = random_maps(3, 20, seed=1), random_maps(3, 20, seed=1)
    np.testing.assert_array_equal(one, two)
    bell = center_gaussian_maps(2, 21)
    assert bell[0].argmax() == 10 * 21 + 10 and bell[0, 0, 0] == 0
    grey = np.full((8, 8, 3), 100, np.uint8)
    np.testing.assert_array_equal(overlay(grey, np.zeros((8, 8))), grey)
    assert not np.array_equal(overlay(grey, np.ones((8, 8))), grey)
    np.testing.assert_array_equal(mean_face(np.stack([grey, grey + 10])), grey + 5)


@pytest.mark.parametrize("task", ["age", "ethnicity"])
def test_fast_smoothgrad_equals_tf_keras_vis(model, images, task):
    options = dict(batch_size=2, seed=4, smooth_samples=3)
    ours = batched_smoothgrad(model, images, task, "relu2", **options)
    theirs = cam(model, images, task, "relu2", "smoothgrad", **options)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("task", ["age", "ethnicity"])
def test_gradcam_of_shared_features_equals_gradcam(model, images, task):
    features = feature_maps(explain_target(model, "gender", "relu2"), images, batch_size=2)
    target = explain_target(model, task, "relu2")
    np.testing.assert_allclose(
        gradcam_of_features(target, features, batch_size=3),
        batched_gradcam(target, images, task, placed=True),
        atol=1e-5,
    )


def test_scorecam_does_not_depend_on_the_batch(model, images):
    one = cam(model, images[:1], "gender", "relu2", "scorecam", max_maps=3)
    many = cam(model, images, "gender", "relu2", "scorecam", max_maps=3, batch_size=5)
    np.testing.assert_allclose(one[0], many[0], atol=1e-5)


def test_field_of_view_of_a_known_network():
    """A 5 x 5 window with stride 4 sees its own place and no other."""
    start = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(2, 5, strides=4, name="a")(start)
    x = keras.layers.Dense(2, name="gender", bias_initializer="ones")(
        keras.layers.GlobalAveragePooling2D()(x)
    )
    target = explain_target(keras.Model(start, {"gender": x}), "gender", "a")
    field = field_of_view(target, np.zeros((2, 32, 32, 3)))
    assert field.shape == (7, 2)
    np.testing.assert_allclose(field[:, 0] * 32, 2.5 + 4 * np.arange(7), atol=0.5)
    assert (field[:, 1] * 32 < 1.8).all()


def test_placed_maps_are_tiles(model, images):
    """Each cell keeps its value in the middle of its tile, for every method with cells."""
    raw = np.random.default_rng(0).random((2, 4, 4))
    np.testing.assert_allclose(place_maps(raw, 20)[:, 2::5, 2::5], raw, atol=1e-12)
    for method in ("gradcam", "gradcam_pp", "scorecam"):
        placed = explain(model, images, "gender", method, "relu2")
        usual = cam(model, images, "gender", "relu2", method)
        assert placed.shape == usual.shape and not np.allclose(placed, usual)
        assert np.corrcoef(placed.ravel(), usual.ravel())[0, 1] > 0.7
