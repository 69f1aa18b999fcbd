"""From a registry entry to a flat network with one softmax head a task."""

import keras
from keras import layers

from utils.backbones import registry
from utils.backbones.layers import OrdinalYears, Preprocess
from utils.datasets.facetable import AGE_BINS, ETHNICITIES, GENDERS, MAX_AGE

TASKS = {
    "age": MAX_AGE + 1,
    "age_bin": len(AGE_BINS),
    "gender": len(GENDERS),
    "ethnicity": len(ETHNICITIES),
}
FEATURES = "features"  # the layer whose output the `head` protocol caches
AGE_HEADS = ("distribution", "ordinal", "regression")
_FRESH = {*TASKS, "hidden", "age_hazards", "age_unit", "age_value"}  # layers without ImageNet


def check_tasks(tasks) -> tuple[str, ...]:
    """Return the tasks as a tuple, or say which one is unknown."""
    tasks = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        raise ValueError(f"tasks {unknown or tasks} are unknown; expected some of {list(TASKS)}")
    return tasks


def _head(x, task: str, age_head: str, width: int):
    """Name and tensor of one output; in float32 under mixed precision too."""
    if task == "age" and age_head == "ordinal":
        # Starts as a chain that lasts for decades: at 0.5 a year nobody would get old.
        start = keras.initializers.Constant(4.0)
        chain = layers.Dense(
            TASKS[task] - 1, dtype="float32", bias_initializer=start, name="age_hazards"
        )
        return task, OrdinalYears(name=task)(chain(x))
    if task == "age" and age_head == "regression":
        unit = layers.Dense(1, dtype="float32", name="age_unit")(x)
        # Years about a plausible mean and spread, so that small weights suffice.
        return "age_value", layers.Rescaling(20.0, 35.0, dtype="float32", name="age_value")(unit)
    classes = max(TASKS[task], width)
    return task, layers.Dense(classes, activation="softmax", dtype="float32", name=task)(x)


def _heads(features, entry, tasks, dropout, seed, age_head, width):
    x = features
    if entry.hidden:
        x = layers.Dropout(dropout, seed=seed, name="dropout_features")(x)
        x = layers.Dense(entry.hidden, activation="relu", name="hidden")(x)
    x = layers.Dropout(dropout, seed=seed + 1, name="dropout")(x)
    return dict(_head(x, task, age_head, width) for task in tasks)


def _set_momentum(network: keras.Model, momentum: float) -> None:
    # Keras' .99 (ResNet50) and .999 (MobileNetV2) outlast a short fine-tune: evaluation would
    # still normalise as for ImageNet.
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = momentum


def build_network(
    name: str,
    input_size: int,
    tasks=tuple(TASKS),
    weights: str = "imagenet",
    dropout: float = 0.3,
    momentum: float = 0.9,
    seed: int = 129,
    age_head: str = "distribution",
    head_width: int = 0,
) -> keras.Model:
    """Build a backbone with its heads as one flat model.

    Parameters
    ----------
    name : str
        A name of `utils.backbones.registry.BACKBONES`.
    input_size : int
        Pixels a side.
    tasks : sequence of {"age", "age_bin", "gender", "ethnicity"}
        One softmax head each: 117 years, 5 bins, 2, 5.
    weights : {"imagenet", "none"}
        Pretrained or random.
    dropout : float
        Share of features dropped in training.
    momentum : float
        Of all batch normalisations.
    seed : int
        Initialisation and dropout.
    age_head : {"distribution", "ordinal", "regression"}
        A softmax over years, a chain of thresholds (see `OrdinalYears`), or one value in years,
        whose output is called ``age_value``.
    head_width : int
        Outputs of every softmax at least; those beyond a task's classes have no meaning.

    Returns
    -------
    keras.Model
        Input [n, size, size, 3] with pixels 0..255; output a dict from task to probabilities.
        The pooled vector is the output of the layer ``features``.

    Examples
    --------
    >>> network = build_network("mobilenetv2", 64, ["gender"], weights="none")
    >>> network.output["gender"].shape
    (None, 2)
    """
    entry, tasks = registry.get(name), check_tasks(tasks)
    if weights not in ("imagenet", "none"):
        raise ValueError(f"weights {weights!r} are unknown; expected 'imagenet' or 'none'")
    keras.utils.set_random_seed(seed)
    images = keras.Input((input_size, input_size, 3), name="image")
    maps = entry.build(Preprocess(entry.preprocessing, name="preprocess")(images))
    pool = layers.GlobalAveragePooling2D if entry.pooling == "avg" else layers.Flatten
    features = pool(name=FEATURES)(maps)
    if age_head not in AGE_HEADS:
        raise ValueError(f"age_head {age_head!r} is unknown; expected one of {AGE_HEADS}")
    heads = _heads(features, entry, tasks, dropout, seed, age_head, head_width)
    network = keras.Model(images, heads, name=name)
    if weights == "imagenet":
        _copy_imagenet(entry, input_size, network)
    _set_momentum(network, momentum)
    return network


def _copy_imagenet(entry, input_size: int, network: keras.Model) -> None:
    # Weight files name layers by counters, so they are read into a bare copy first.
    bare_input = keras.Input((input_size, input_size, 3))
    bare = keras.Model(bare_input, entry.build(bare_input), name=entry.name)
    registry.load_imagenet(entry, bare)
    values = bare.get_weights()
    own = [layer for layer in network.layers if layer.name not in _FRESH]
    variables = [variable for layer in own for variable in layer.weights]
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def cut(network: keras.Model, boundary: str) -> tuple[keras.Model, keras.Model]:
    """Cut a flat network in two that share its layers.

    Parameters
    ----------
    network : keras.Model
    boundary : str
        Name of the layer whose output is the seam; every path must pass through it.

    Returns
    -------
    lower, upper : keras.Model
        ``upper(lower(images))`` equals ``network(images)``; training `upper` changes `network`.
    """
    try:
        seam = network.get_layer(boundary).output
    except ValueError:
        names = [layer.name for layer in network.layers][-8:]
        raise ValueError(
            f"{network.name} has no layer {boundary!r}; its last layers are {names}"
        ) from None
    return keras.Model(network.input, seam), keras.Model(seam, network.output)
