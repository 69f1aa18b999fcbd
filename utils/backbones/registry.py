"""Which networks does the study compare? One entry each; adding a backbone is adding an entry.

Needs no Keras: who only wants a label does not wait for it.
"""

import importlib
import inspect
from dataclasses import dataclass


@dataclass(frozen=True)
class Backbone:
    """What has to be known about a network."""

    name: str
    label: str  # shown in figures
    # A network of ``keras.applications``, such as ``MobileNetV2``; or a module that has
    # ``build(images)`` and ``imagenet_weights(path)``, such as ``utils.backbones.alexnet``.
    source: str
    preprocessing: str  # mode of `utils.backbones.layers.Preprocess`
    last_conv: str  # layer that Grad-CAM explains: the last one with a spatial feature map
    freeze_from: str  # layer whose output the protocol ``partial`` caches; later ones are trained
    learning_rate: float = 5e-4  # peak rate for full fine-tuning at batch 64
    weights_stem: str = ""  # how its file in ``FACES_WEIGHTS_DIR`` begins; by default the name
    pooling: str = "avg"  # or "flatten": how the feature map becomes a vector
    hidden: int = 0  # width of a fresh dense layer after it
    bfloat16_on_cpu: bool = False  # whether a CPU with bfloat16 trains it faster so
    default: bool = True  # whether the study compares it
    note: str = ""  # said beside every result

    @property
    def own_module(self):
        """The module that builds the network, or None if ``keras.applications`` does."""
        return importlib.import_module(self.source) if "." in self.source else None

    def build(self, images):
        """From an image tensor to the last feature map [n, h, w, c], all layers flat."""
        if self.own_module:
            return self.own_module.build(images)
        return self.construct(weights=None, input_tensor=images).output

    def construct(self, **arguments):
        """The network of ``keras.applications`` without its top."""
        from keras import applications  # here: a look into the registry must not start Keras

        constructor = getattr(applications, self.source)
        if "include_preprocessing" in inspect.signature(constructor).parameters:
            arguments["include_preprocessing"] = False  # `Preprocess` does it, in float32
        return constructor(include_top=False, **arguments)


_ENTRIES = [
    Backbone(
        name="alexnet",
        label="AlexNet",
        source="utils.backbones.alexnet",
        preprocessing="torch",
        last_conv="conv5",
        freeze_from="pool2",
        learning_rate=2e-4,
        pooling="flatten",
        hidden=1024,
        bfloat16_on_cpu=True,
        note="dense layers are fresh: only the convolutions carry ImageNet weights",
    ),
    Backbone(
        name="vgg19",
        label="VGG-19",
        source="VGG19",
        preprocessing="caffe",
        last_conv="block5_conv4",
        freeze_from="block4_pool",
        learning_rate=1e-4,
        bfloat16_on_cpu=True,
    ),
    Backbone(
        name="mobilenetv2",
        label="MobileNetV2",
        source="MobileNetV2",
        preprocessing="tf",
        last_conv="out_relu",
        freeze_from="block_12_add",
        learning_rate=1e-3,
        weights_stem="mobilenet_v2",
    ),
    Backbone(
        name="resnet50",
        label="ResNet50",
        source="ResNet50",
        preprocessing="caffe",
        last_conv="conv5_block3_out",
        freeze_from="conv4_block6_out",
        bfloat16_on_cpu=True,
    ),
    Backbone(
        name="convnext_tiny",
        label="ConvNeXt-Tiny",
        source="ConvNeXtTiny",
        preprocessing="torch",
        last_conv="convnext_tiny_stage_3_block_2_identity",
        freeze_from="convnext_tiny_downsampling_block_2",
        learning_rate=2e-4,
        default=False,
    ),
    Backbone(
        name="efficientnetv2b0",
        label="EfficientNetV2-B0",
        source="EfficientNetV2B0",
        preprocessing="torch",
        last_conv="top_activation",
        freeze_from="block5e_add",
        weights_stem="efficientnetv2-b0",
        default=False,
    ),
]

BACKBONES: dict[str, Backbone] = {entry.name: entry for entry in _ENTRIES}


def get(name: str) -> Backbone:
    """Return a registry entry.

    >>> get("resnet50").last_conv
    'conv5_block3_out'
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone {name!r} is unknown; expected one of {list(BACKBONES)}")
    return BACKBONES[name]
