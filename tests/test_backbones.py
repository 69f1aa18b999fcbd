"""Registry, flat networks, weights, parameter counts."""

import os
import pickle
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from conftest import run_cells

from utils.backbones.alexnet import read_torch_checkpoint
from utils.backbones.flops import count_flops
from utils.backbones.layers import Augment, Preprocess, fused
from utils.backbones.networks import build_network, cut, float32_copy, imagenet_weights
from utils.backbones.registry import BACKBONES, get
from utils.paths import ROOT
from utils.plan import RunConfig
from utils.vocabulary import OUTPUTS

IMAGES = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module", params=list(BACKBONES))
def network(request):
    keras.backend.clear_session()
    return build_network(request.param, 64, weights="none")


def test_networks_are_flat_with_one_float32_softmax_a_task(network):
    kinds = {type(layer).__name__ for layer in network.layers}
    assert not kinds & {"Model", "Functional"}
    outputs = network.predict(IMAGES, verbose=0)
    assert {name: p.shape for name, p in outputs.items()} == {k: (2, n) for k, n in OUTPUTS.items()}
    for p in outputs.values():
        assert p.dtype == np.float32
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)


def test_the_explained_layer_is_spatial_and_cuts_equal_the_whole(network):
    entry = get(network.name)
    assert len(network.get_layer(entry.last_conv).output.shape) == 4
    whole = network.predict(IMAGES, verbose=0)
    for boundary in ("features", entry.freeze_from):
        lower, upper = cut(network, boundary)
        parts = upper.predict(lower.predict(IMAGES, verbose=0), verbose=0)
        for task in OUTPUTS:
            np.testing.assert_allclose(parts[task], whole[task], atol=1e-4)


def test_the_study_compares_the_four_of_the_seed():
    default = {name for name, entry in BACKBONES.items() if entry.default}
    assert default == {"alexnet", "vgg19", "mobilenetv2", "resnet50"}


@pytest.mark.parametrize(
    ("name", "parameters"),
    # Published sizes without top, plus 129 outputs on the pooled vector.
    [("vgg19", 20_024_384), ("mobilenetv2", 2_257_984), ("resnet50", 23_587_712)],
)
def test_backbone_parameters_are_the_published_ones(name, parameters):
    net = build_network(name, 64, weights="none")
    width = net.get_layer("features").output.shape[-1]
    assert net.count_params() == parameters + (width + 1) * sum(OUTPUTS.values())


def test_alexnet_has_torchvisions_convolutions():
    net = build_network("alexnet", 224, weights="none")
    convolutions = sum(net.get_layer(f"conv{k}").count_params() for k in range(1, 6))
    assert convolutions == 2_469_696
    assert net.get_layer("pool5").output.shape[1:] == (6, 6, 256)


@pytest.mark.parametrize(
    ("name", "multiply_adds", "rel"),
    # He et al. count 3.8e9 for ResNet50 at 224; the Keras variant has 3.87e9.
    [("resnet50", 3.87e9, 0.02), ("mobilenetv2", 0.3e9, 0.03)],
)
def test_flops_are_near_the_published_multiply_adds(name, multiply_adds, rel):
    network = build_network(name, 224, weights="none")
    assert count_flops(network) == pytest.approx(2 * multiply_adds, rel=rel)


def _trunk(*widths):
    """Parameters of separable blocks with batch normalisation, from three channels on."""
    pairs = zip((3, *widths), widths, strict=False)
    return sum(9 * a + a * b + b + 4 * b for a, b in pairs)


def _branch(*widths, outputs):
    """Parameters of dense layers with batch normalisation, and of the output after them."""
    hidden = sum(a * b + b + 4 * b for a, b in zip(widths, widths[1:], strict=False))
    return hidden + (widths[-1] + 1) * outputs


@pytest.mark.parametrize(
    ("protocol", "size", "parameters", "outputs"),
    [
        (
            *("scratch", 198),  # 198 -> 66 -> 33 -> 16 -> 8
            _trunk(32, 64, 128, 128, 256, 256, 256)
            + _branch(8 * 8 * 256, 64, 32, outputs=2)
            + _branch(8 * 8 * 256, 128, 64, 32, outputs=5),
            {"age_bin": 5, "gender": 2},
        ),
        (
            *("regress", 180),  # halved five times
            _trunk(64, 128, 128, 256, 256) + _branch(5 * 5 * 256, 128, 64, 64, outputs=1),
            {"age_value": 1},
        ),
    ],
)
def test_notebooks_03_and_04_have_the_second_studys_layers(
    protocol, size, parameters, outputs, work_dir
):
    options = {"dataset_options": {"n": 100}, "protocol": protocol, "input_size": size}
    config = RunConfig(dataset="synthetic", **options)
    net = run_cells(config, until="y = targets")["network"]  # before it is trained
    assert net.count_params() == parameters
    assert {k: v.shape[1] for k, v in net.output.items()} == outputs


def test_batch_normalisation_forgets_imagenet_within_an_epoch():
    net = build_network("mobilenetv2", 64, weights="none")
    kind = keras.layers.BatchNormalization
    assert {layer.momentum for layer in net.layers if isinstance(layer, kind)} == {0.9}


@pytest.mark.parametrize(
    ("shape", "options", "is_fused"),
    [
        ((8, 6, 6, 4), {}, True),
        ((8, 6, 6, 4), {"trainable": False}, False),
        ((8, 6, 6, 4), {"scale": False}, False),
        ((8, 6, 6, 4), {"axis": 1}, False),
        ((8, 4), {}, False),
    ],
)
def test_fused_batch_normalisation_learns_the_same(shape, options, is_fused):
    rng, found = np.random.default_rng(1), []
    inputs, answers = rng.normal(3, 2, shape).astype("float32"), rng.random((8, 1))
    for change in (lambda layer: None, fused):
        keras.utils.set_random_seed(1)
        norm = keras.layers.BatchNormalization(momentum=0.9, **options)
        net = keras.Sequential([norm, keras.layers.Flatten(), keras.layers.Dense(1)])
        net.build(shape)
        change(norm)
        net.compile(keras.optimizers.SGD(0.01), "mse", run_eagerly=False)
        for _ in range(3):
            net.train_on_batch(inputs, answers)
        found.append(net.get_weights() + [net.predict(inputs, verbose=0)])
    for usual, same in zip(*found, strict=True):
        np.testing.assert_allclose(same, usual, rtol=1e-4, atol=1e-6)
    assert np.any(norm.moving_mean) == norm.trainable
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        step = tf.function(lambda x: norm(x, training=True))
        kinds = {op.type for op in step.get_concrete_function(inputs).graph.get_operations()}
        assert ("FusedBatchNormV3" in kinds) == is_fused


@pytest.mark.parametrize(
    ("mode", "red"),
    [
        *(("tf", [1, -1, -1]), ("unit", [1, 0, 0]), ("none", [255, 0, 0])),
        ("caffe", [-103.939, -116.779, 255 - 123.68]),  # blue comes first
        ("torch", [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]),
    ],
)
def test_preprocessing_of_red(mode, red):
    values = Preprocess(mode)(np.array([255, 0, 0], np.uint8).reshape(1, 1, 1, 3))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(values).ravel(), red, atol=1e-3)


def test_augmentation_only_in_training_and_by_seed():
    images = IMAGES.astype("float32")
    layer = Augment(seed=1)
    np.testing.assert_array_equal(layer(images, training=False), images)
    first = np.asarray(layer(images, training=True))
    assert np.abs(first - images).mean() > 1
    np.testing.assert_array_equal(first, Augment(seed=1)(images, training=True))


def test_augmentation_without_strength_flips_or_keeps():
    ramp = np.broadcast_to(np.arange(64, dtype="float32"), (8, 64, 64))[..., None].repeat(3, -1)
    layer = Augment(shift=0, zoom=0, rotation=0, light=0, flip=True, seed=3)
    changed = np.asarray(layer(ramp, training=True))
    kept = [np.allclose(one, ramp[0], atol=1e-3) for one in changed]
    flipped = [np.allclose(one, ramp[0][:, ::-1], atol=1e-3) for one in changed]
    assert all(a != b for a, b in zip(kept, flipped, strict=True))
    assert any(kept) and any(flipped)


@pytest.mark.parametrize("name", [n for n, entry in BACKBONES.items() if entry.default])
def test_real_imagenet_weights_load_and_see(name, real_weights, monkeypatch):
    monkeypatch.setenv("FACES_WEIGHTS_DIR", str(real_weights))
    pretrained = build_network(name, 64, ["gender"])
    random = build_network(name, 64, ["gender"], weights="none")
    layer = next(layer.name for layer in pretrained.layers if layer.weights)
    kernels = [net.get_layer(layer).get_weights()[0] for net in (pretrained, random)]
    assert not np.allclose(*kernels)


def test_weights_of_another_net_are_refused_and_a_missing_file_is_named(tmp_path, monkeypatch):
    other = build_network("mobilenetv2", 64, ["gender"], weights="none")
    other.save_weights(tmp_path / "resnet50_wrong.weights.h5")
    monkeypatch.setenv("FACES_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="cannot be read .*check that it is resnet50"):
        build_network("resnet50", 64)
    with pytest.raises(FileNotFoundError, match="has no vgg19.*unset FACES_WEIGHTS_DIR"):
        build_network("vgg19", 64)
    with pytest.raises(ValueError, match="3 arrays do not fit the 10 of alexnet's backbone"):
        build_network("alexnet", 64, weights=other.get_weights()[:3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lenet", 64), "backbone 'lenet' is unknown"),
        (("vgg19", 64, ["age"], "jft"), "weights 'jft' are unknown"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_network(*arguments)


def test_an_unknown_boundary_lists_layers():
    net = build_network("alexnet", 64, ["gender"], weights="none")
    with pytest.raises(ValueError, match="(?s)conv9.*gender"):
        cut(net, "conv9")


def test_alexnets_checkpoint_is_read_without_torch(real_weights, monkeypatch, tmp_path):
    checkpoint = next(real_weights.glob("alexnet*.pth"), None)
    if checkpoint is None:
        pytest.skip("torchvision's checkpoint of AlexNet is not among the weights here")
    shutil.copy(checkpoint, tmp_path)
    monkeypatch.setenv("FACES_WEIGHTS_DIR", str(tmp_path))
    kernels = imagenet_weights("alexnet")
    shapes = [(11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256)]
    assert [k.shape[1:] for k in kernels[::2]] == shapes
    state = read_torch_checkpoint(checkpoint)
    assert kernels[0][4, 7, 2, 9] == state["features.0.weight"][9, 2, 4, 7]
    assert "torch" not in sys.modules


class _Poison:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_checkpoint_that_would_run_code_or_is_none_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Poison()))
    with pytest.raises(ValueError, match="must not run code"):
        read_torch_checkpoint(tmp_path / "bad.pth")
    (tmp_path / "x.pth").write_text("hello")
    with pytest.raises(ValueError, match="no torch checkpoint"):
        read_torch_checkpoint(tmp_path / "x.pth")


def test_the_registry_needs_no_keras():
    code = "import sys; from utils.backbones import registry; assert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_float32_copy_predicts_as_the_network_it_copies():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    network = build_network(
        "mobilenetv2", 64, ["age", "gender"], weights="none", age_head="ordinal"
    )
    keras.mixed_precision.set_global_policy("float32")
    copy = float32_copy(network)
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    for own, other in zip(copy.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    p, q = (one.predict(IMAGES, verbose=0)["gender"] for one in (copy, network))
    np.testing.assert_allclose(p, q, atol=0.05)
    assert float32_copy(copy) is copy
