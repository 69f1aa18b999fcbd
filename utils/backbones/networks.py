"""From a registry entry to a flat network with one softmax head a task.

Notebook 02 writes the same network out, layer by layer; a test holds the two together.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers

from utils.backbones import registry
from utils.backbones.layers import OrdinalYears, Preprocess
from utils.files import unreadable
from utils.paths import weights_dir
from utils.vocabulary import OUTPUTS, TASKS

FEATURES = "features"  # the layer whose output a linear probe caches
FRESH = {*TASKS, "hidden", "age_hazards", "age_unit", "age_value"}  # layers without ImageNet
# Keras' .99 (ResNet50) and .999 (MobileNetV2) outlast a short fine-tune: evaluation would still
# normalise as for ImageNet.
MOMENTUM = 0.9
DROPOUT = 0.3  # share of features dropped in training


def head(x, task: str, age_head: str = "distribution", width: int = 0):
    """Name and tensor of one output of features `x`; in float32 under mixed precision too.

    `age_head` ``distribution`` and ``class``: a softmax over years; ``ordinal``: a chain of
    thresholds (`OrdinalYears`); ``regression``: one value in years, called ``age_value``. A softmax
    has at least `width` outputs; those beyond a task's classes have no meaning.
    """
    if task == "age" and age_head == "ordinal":
        # Starts as a chain that lasts for decades: at 0.5 a year nobody would get old.
        start = keras.initializers.Constant(4.0)
        options = {"dtype": "float32", "bias_initializer": start, "name": "age_hazards"}
        return task, OrdinalYears(name=task)(layers.Dense(OUTPUTS[task] - 1, **options)(x))
    if task == "age" and age_head == "regression":
        unit = layers.Dense(1, dtype="float32", name="age_unit")(x)
        # Years about a plausible mean and spread, so that small weights suffice.
        return "age_value", layers.Rescaling(20.0, 35.0, dtype="float32", name="age_value")(unit)
    classes = max(OUTPUTS[task], width)
    return task, layers.Dense(classes, activation="softmax", dtype="float32", name=task)(x)


def before_heads(features, entry, seed: int, dropout: float = DROPOUT):
    """Dropout, after a dense layer where the backbone's own dense layers are left out."""
    x = features
    if entry.hidden:
        x = layers.Dropout(dropout, seed=seed, name="dropout_features")(x)
        x = layers.Dense(entry.hidden, activation="relu", name="hidden")(x)
    return layers.Dropout(dropout, seed=seed + 1, name="dropout")(x)


def build_network(
    name: str,
    input_size: int,
    tasks=TASKS,
    weights: str | list[np.ndarray] = "imagenet",
    dropout: float = DROPOUT,
    seed: int = 129,
    age_head: str = "distribution",
    head_width: int = 0,
) -> keras.Model:
    """Build a backbone with its heads as one flat model.

    `weights` of the backbone `name` are "imagenet", "none" (random) or a list of arrays; for the
    rest see `before_heads` and `head`. Input [n, size, size, 3] with pixels 0..255, output a dict
    from task to probabilities; the pooled vector is the output of the layer ``features``.
    """
    entry = registry.get(name)
    if isinstance(weights, str) and weights not in ("imagenet", "none"):
        raise ValueError(f"weights {weights!r} are unknown; expected 'imagenet' or 'none'")
    keras.utils.set_random_seed(seed)
    images = keras.Input((input_size, input_size, 3), name="image")
    maps = entry.build(Preprocess(entry.preprocessing, name="preprocess")(images))
    pool = layers.GlobalAveragePooling2D if entry.pooling == "avg" else layers.Flatten
    x = before_heads(pool(name=FEATURES)(maps), entry, seed, dropout)
    heads = dict(head(x, task, age_head, head_width) for task in tasks)
    network = keras.Model(images, heads, name=name)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = MOMENTUM
    if not isinstance(weights, str) or weights == "imagenet":
        copy_backbone(network, imagenet_weights(name) if isinstance(weights, str) else weights)
    return network


def _weights_file(stem: str) -> Path | None:
    """File in ``FACES_WEIGHTS_DIR`` whose name begins with `stem`, or None without that folder."""
    folder = weights_dir()
    if folder is None:
        return None
    found = sorted([*folder.glob(f"{stem}*.weights.h5"), *folder.glob(f"{stem}*.pth")])
    if not found:
        present = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else "no folder"
        raise FileNotFoundError(
            f"FACES_WEIGHTS_DIR={folder} has no {stem}*.weights.h5; it holds {present}; "
            "add the file, or unset FACES_WEIGHTS_DIR to download ImageNet weights"
        )
    return found[0]


def imagenet_weights(name: str) -> list[np.ndarray]:
    """ImageNet weights of a backbone without heads, from ``FACES_WEIGHTS_DIR`` or by download.

    They come in the order of the layers of ``Backbone.build`` and fit every input size.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder lacks the file, or the file is of another network.
    """
    entry = registry.get(name)
    path = _weights_file(entry.weights_stem or name)
    if entry.own_module and (path is None or path.suffix == ".pth"):
        return entry.own_module.imagenet_weights(path)
    if path is None:
        return entry.construct(weights="imagenet").get_weights()
    images = keras.Input((224, 224, 3))
    bare = keras.Model(images, entry.build(images))
    try:
        bare.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise unreadable(path, error, f"check that it is {name}'s, and complete") from None
    return bare.get_weights()


def copy_backbone(network: keras.Model, arrays: list[np.ndarray]) -> None:
    """Give a network's backbone the weights of one without heads; the heads stay as they are."""
    own = [layer for layer in network.layers if layer.name not in FRESH]
    variables = [variable for layer in own for variable in layer.weights]
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [array.shape for array in arrays]:
        raise ValueError(
            f"{len(arrays)} arrays do not fit the {len(variables)} of {network.name}'s backbone; "
            "expected the weights of the same backbone without its top"
        )
    for variable, value in zip(variables, arrays, strict=True):
        variable.assign(value)


def cut(network: keras.Model, boundary: str) -> tuple[keras.Model, keras.Model]:
    """Cut a flat network at the output of a layer that every path passes, in two that share it.

    ``upper(lower(images))`` equals ``network(images)``; training `upper` changes `network`.
    """
    seam = network.get_layer(boundary).output
    return keras.Model(network.input, seam), keras.Model(seam, network.output)


def float32_copy(network: keras.Model) -> keras.Model:
    """The same network with every layer in float32: Grad-CAM and CPUs want no bfloat16 layers."""
    if all(layer.dtype_policy.name == "float32" for layer in network.layers):
        return network
    copy = keras.models.clone_model(network, clone_function=_in_float32)
    copy.set_weights(network.get_weights())
    return copy


def _in_float32(layer):
    told = layer.get_config()
    return layer if "dtype" not in told else type(layer).from_config(told | {"dtype": "float32"})
