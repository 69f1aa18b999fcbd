"""Which networks does the study compare? One entry each; adding a backbone is adding an entry."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import applications

from utils.backbones import weights
from utils.backbones.alexnet import alexnet_convolutions


@dataclass(frozen=True)
class Backbone:
    """What has to be known about a network.

    Attributes
    ----------
    name, label : str
        Identifier and the name that figures show.
    build : callable
        From an image tensor to the last feature map [n, h, w, c], all layers flat.
    preprocessing : str
        Mode of `utils.backbones.layers.Preprocess`.
    last_conv : str
        Layer that Grad-CAM explains: the last one with a spatial feature map.
    freeze_from : str
        Layer whose output the ``partial`` protocol caches; layers after it are trained.
    weights_stem : str
        Beginning of the weights' file name in ``FACES_WEIGHTS_DIR``.
    download : callable
        Returns the list of ImageNet weight arrays on a machine with a network.
    pooling : {"avg", "flatten"}
        How the feature map becomes a vector.
    hidden : int
        Width of a fresh dense layer before the heads; 0 for none.
    learning_rate : float
        Peak rate for full fine-tuning at batch 64.
    default : bool
        Part of the study unless backbones are named.
    note : str
        Said beside every result.
    """

    name: str
    label: str
    build: Callable
    preprocessing: str
    last_conv: str
    freeze_from: str
    weights_stem: str
    download: Callable
    pooling: str = "avg"
    hidden: int = 0
    learning_rate: float = 1e-3
    default: bool = True
    note: str = ""


def _from_keras(constructor, **options) -> dict:
    """`build` and `download` of a network that `keras.applications` has."""

    def build(images):
        return constructor(include_top=False, weights=None, input_tensor=images, **options).output

    def download():
        return constructor(include_top=False, weights="imagenet", **options).get_weights()

    return {"build": build, "download": download}


def _download_alexnet():
    path = keras.utils.get_file("alexnet-owt-7be5be79.pth", weights.ALEXNET_URL)
    return weights.alexnet_kernels(path)


_ENTRIES = [
    Backbone(
        "alexnet",
        "AlexNet",
        alexnet_convolutions,
        "torch",
        "conv5",
        "pool2",
        "alexnet",
        _download_alexnet,
        pooling="flatten",
        hidden=1024,
        learning_rate=2e-4,
        note="dense layers are fresh: only the convolutions carry ImageNet weights",
    ),
    Backbone(
        "vgg19",
        "VGG-19",
        preprocessing="caffe",
        last_conv="block5_conv4",
        freeze_from="block4_pool",
        weights_stem="vgg19",
        learning_rate=1e-4,
        **_from_keras(applications.VGG19),
    ),
    Backbone(
        "mobilenetv2",
        "MobileNetV2",
        preprocessing="tf",
        last_conv="out_relu",
        freeze_from="block_12_add",
        weights_stem="mobilenet_v2",
        learning_rate=1e-3,
        **_from_keras(applications.MobileNetV2),
    ),
    Backbone(
        "resnet50",
        "ResNet50",
        preprocessing="caffe",
        last_conv="conv5_block3_out",
        freeze_from="conv4_block6_out",
        weights_stem="resnet50",
        learning_rate=5e-4,
        **_from_keras(applications.ResNet50),
    ),
    Backbone(
        "convnext_tiny",
        "ConvNeXt-Tiny",
        preprocessing="torch",
        default=False,
        last_conv="convnext_tiny_stage_3_block_2_identity",
        learning_rate=2e-4,
        freeze_from="convnext_tiny_downsampling_block_2",
        weights_stem="convnext_tiny",
        **_from_keras(applications.ConvNeXtTiny, include_preprocessing=False),
    ),
    Backbone(
        "efficientnetv2b0",
        "EfficientNetV2-B0",
        preprocessing="tf",
        default=False,
        last_conv="top_activation",
        freeze_from="block5e_add",
        weights_stem="efficientnetv2-b0",
        learning_rate=5e-4,
        **_from_keras(applications.EfficientNetV2B0, include_preprocessing=False),
    ),
]

BACKBONES: dict[str, Backbone] = {entry.name: entry for entry in _ENTRIES}


def get(name: str) -> Backbone:
    """Return a registry entry.

    Examples
    --------
    >>> get("resnet50").last_conv
    'conv5_block3_out'
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone {name!r} is unknown; expected one of {list(BACKBONES)}")
    return BACKBONES[name]


def load_imagenet(backbone: Backbone, network: keras.Model) -> None:
    """Give a bare backbone its ImageNet weights, from ``FACES_WEIGHTS_DIR`` or by download.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder lacks the file, or the file is of another network.
    """
    path = weights.weights_file(backbone.weights_stem)
    if path is None:
        arrays = backbone.download()
    elif path.suffix == ".pth":
        arrays = weights.alexnet_kernels(path)
    else:
        return weights.load_into(network, path)
    network.set_weights(arrays)
