"""Registry, flat networks, weights, parameter counts."""

import pickle
import zipfile

import keras
import numpy as np
import pytest

from utils.backbones import (
    BACKBONES,
    TASKS,
    build_network,
    count_flops,
    cut,
    get,
    scratch_classifier,
    wiki_regressor,
)
from utils.backbones.layers import Augment, Preprocess
from utils.backbones.weights import alexnet_kernels, read_torch_checkpoint
from utils.datasets.facetable import AGE_BINS

IMAGES = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module", params=list(BACKBONES))
def network(request):
    keras.backend.clear_session()
    return build_network(request.param, 64, weights="none")


def test_networks_are_flat_with_one_float32_softmax_a_task(network):
    assert not any(
        type(layer) is keras.Model or type(layer).__name__ == "Functional"
        for layer in network.layers
    )
    outputs = network.predict(IMAGES, verbose=0)
    assert {name: p.shape for name, p in outputs.items()} == {k: (2, n) for k, n in TASKS.items()}
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
        for task in TASKS:
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
    assert net.count_params() == parameters + (width + 1) * sum(TASKS.values())


def test_alexnet_has_torchvisions_convolutions():
    net = build_network("alexnet", 224, weights="none")
    convolutions = sum(net.get_layer(f"conv{k}").count_params() for k in range(1, 6))
    assert convolutions == 2_469_696
    assert net.get_layer("pool5").output.shape[1:] == (6, 6, 256)


def test_flops_are_near_the_published_multiply_adds():
    # He et al. count 3.8e9 multiply-adds for ResNet50 at 224; the Keras variant has 3.87e9.
    assert count_flops(build_network("resnet50", 224, weights="none")) == pytest.approx(
        2 * 3.87e9, rel=0.02
    )
    assert count_flops(build_network("mobilenetv2", 224, weights="none")) == pytest.approx(
        2 * 0.3e9, rel=0.03
    )


def _separable(cin, cout):
    return 9 * cin + cin * cout + cout


def _dense(cin, cout):
    return cin * cout + cout + 4 * cout  # with batch normalisation


def test_scratch_classifier_has_the_seeds_layers():
    net = scratch_classifier(198)
    widths = [3, 32, 64, 128, 128, 256, 256, 256]
    trunk = sum(_separable(a, b) + 4 * b for a, b in zip(widths, widths[1:], strict=False))
    flat = 8 * 8 * 256  # 198 -> 66 -> 33 -> 16 -> 8
    gender = _dense(flat, 64) + _dense(64, 32) + 32 * 2 + 2
    age = _dense(flat, 128) + _dense(128, 64) + _dense(64, 32) + 32 * 5 + 5
    assert net.count_params() == trunk + gender + age
    assert {k: v.shape[1] for k, v in net.output.items()} == {"age_bin": len(AGE_BINS), "gender": 2}


def test_wiki_regressor_has_the_seeds_layers():
    net = wiki_regressor(180)
    widths = [3, 64, 128, 128, 256, 256]
    trunk = sum(_separable(a, b) + 4 * b for a, b in zip(widths, widths[1:], strict=False))
    flat = 5 * 5 * 256  # 180 halved five times
    dense = _dense(flat, 128) + _dense(128, 64) + _dense(64, 64) + 64 + 1
    assert net.count_params() == trunk + dense


def test_batch_normalisation_forgets_imagenet_within_an_epoch():
    net = build_network("mobilenetv2", 64, weights="none")
    momenta = {
        layer.momentum for layer in net.layers if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert momenta == {0.9}


@pytest.mark.parametrize(("mode", "white"), [("tf", 1.0), ("unit", 1.0), ("none", 255.0)])
def test_preprocessing_of_white(mode, white):
    values = Preprocess(mode)(np.full((1, 2, 2, 3), 255, np.uint8))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(values), white, atol=1e-6)


def test_caffe_preprocessing_swaps_the_channels():
    red = np.zeros((1, 1, 1, 3), np.float32)
    red[..., 0] = 255
    values = keras.ops.convert_to_numpy(Preprocess("caffe")(red)).ravel()
    np.testing.assert_allclose(values, [-103.939, -116.779, 255 - 123.68], atol=1e-3)


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
    first = [layer for layer in pretrained.layers if layer.weights][0].name
    assert not np.allclose(
        pretrained.get_layer(first).get_weights()[0], random.get_layer(first).get_weights()[0]
    )


def test_weights_of_another_net_are_refused(tmp_path, monkeypatch):
    other = build_network("mobilenetv2", 64, ["gender"], weights="none")
    other.save_weights(tmp_path / "resnet50_wrong.weights.h5")
    monkeypatch.setenv("FACES_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="does not hold the weights of resnet50"):
        build_network("resnet50", 64)


def test_a_missing_weights_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FACES_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="has no vgg19.*unset FACES_WEIGHTS_DIR"):
        build_network("vgg19", 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lenet", 64), "backbone 'lenet' is unknown"),
        (("vgg19", 64, ["income"]), r"\['income'\] are unknown"),
        (("vgg19", 64, ["age"], "jft"), "weights 'jft' are unknown"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_network(*arguments)


def test_an_unknown_boundary_lists_layers():
    net = build_network("alexnet", 64, ["gender"], weights="none")
    with pytest.raises(ValueError, match="no layer 'conv9'.*gender"):
        cut(net, "conv9")


class _Rebuild:
    """Pickles as torch pickles a tensor."""

    def __init__(self, key, shape):
        self.key, self.shape = key, shape


def _checkpoint(path, arrays, poison=None):
    """Write a checkpoint in torch's zip format, with torch's own module names."""
    import io
    import sys
    import types
    from collections import OrderedDict

    torch, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*_):
        raise AssertionError("the reader must not call this")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = (
        "torch._utils",
        "_rebuild_tensor_v2",
    )
    inner._rebuild_tensor_v2 = _rebuild_tensor_v2
    storage = type("FloatStorage", (), {"__module__": "torch"})
    torch.FloatStorage, torch._utils = storage, inner

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            return item.key if isinstance(item, _Rebuild) else None

        def reducer_override(self, item):
            if isinstance(item, np.ndarray):
                shape = item.shape
                stride = tuple(int(np.prod(shape[k + 1 :])) for k in range(len(shape)))
                pid = _Rebuild(("storage", storage, str(id(item)), "cpu", item.size), shape)
                return _rebuild_tensor_v2, (pid, 0, shape, stride, False, OrderedDict())
            return NotImplemented

    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules["torch"], sys.modules["torch._utils"] = torch, inner
    buffer = io.BytesIO()
    try:
        Pickler(buffer, protocol=2).dump(poison or OrderedDict(arrays))
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for array in arrays.values():
            archive.writestr(f"archive/data/{id(array)}", array.astype("<f4").tobytes())


def test_a_torch_checkpoint_is_read_without_torch(tmp_path):
    random = np.random.default_rng(0)
    shapes = {
        0: (64, 3, 11, 11),
        3: (192, 64, 5, 5),
        6: (384, 192, 3, 3),
        8: (256, 384, 3, 3),
        10: (256, 256, 3, 3),
    }
    arrays = {}
    for index, shape in shapes.items():
        arrays[f"features.{index}.weight"] = random.normal(size=shape).astype("float32")
        arrays[f"features.{index}.bias"] = random.normal(size=shape[0]).astype("float32")
    _checkpoint(tmp_path / "alexnet.pth", arrays)
    state = read_torch_checkpoint(tmp_path / "alexnet.pth")
    np.testing.assert_array_equal(state["features.3.weight"], arrays["features.3.weight"])
    kernels = alexnet_kernels(tmp_path / "alexnet.pth")
    assert [k.shape for k in kernels[::2]] == [
        (11, 11, 3, 64),
        (5, 5, 64, 192),
        (3, 3, 192, 384),
        (3, 3, 384, 256),
        (3, 3, 256, 256),
    ]
    assert kernels[0][4, 7, 2, 9] == arrays["features.0.weight"][9, 2, 4, 7]


class _Poison:
    def __reduce__(self):
        import os

        return os.system, ("touch pwned",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    _checkpoint(tmp_path / "bad.pth", {}, poison=_Poison())
    with pytest.raises(ValueError, match="must not run code"):
        read_torch_checkpoint(tmp_path / "bad.pth")


def test_a_file_that_is_no_checkpoint(tmp_path):
    (tmp_path / "x.pth").write_text("hello")
    with pytest.raises(ValueError, match="no torch checkpoint"):
        read_torch_checkpoint(tmp_path / "x.pth")
