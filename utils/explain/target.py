"""What is explained: one task of one trained network, as a float32 network that ends in logits.

The model that is passed in is never changed. tf-keras-vis and our own Grad-CAM can both work on the
`Target` built here, so they explain the same number.
"""

import hashlib
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from utils.backbones.networks import float32_copy
from utils.vocabulary import MAX_AGE, OUTPUTS


@dataclass(frozen=True, eq=False)
class Target:
    """One explainable output of a network.

    `net` maps images 0..255, float32 [n, s, s, 3], to logits [n, k]; the feature maps are those of
    `layer`. The score is by `kind` the logit of a ``class``, the ``expected`` age of a distribution
    over years, or an age as one ``value``; ages are divided by the greatest age. A `scorer` answers
    for the network where no gradient is asked.
    """

    net: keras.Model
    task: str
    layer: str
    kind: str
    scorer: "Scorer | None" = None
    _compiled: dict = field(init=False, default_factory=dict, repr=False)

    def compiled(self, name, function, *dtypes):
        """Compile, once, a function of pictures and of one number a face for each dtype."""
        if name not in self._compiled:
            picture = tf.TensorSpec([None, *self.net.inputs[0].shape[1:]], "float32")
            numbers = [tf.TensorSpec([None], dtype) for dtype in dtypes]
            self._compiled[name] = tf.function(function).get_concrete_function(picture, *numbers)
        return self._compiled[name]

    @property
    def size(self) -> int:
        """Side of the input pictures in pixels."""
        return int(self.net.inputs[0].shape[1])

    @property
    def features(self):
        """Feature maps, the symbolic output [n, cells, cells, c] of `layer`."""
        return self.net.get_layer(self.layer).output

    def scores(self, logits, classes):
        """Score to explain, differentiable [n]; for ages 1 asks what looks older, -1 younger."""
        classes = ops.convert_to_tensor(classes, "int32")
        if self.kind == "class":
            return ops.sum(logits * ops.one_hot(classes, logits.shape[-1]), axis=-1)
        if self.kind == "expected":
            years = ops.arange(logits.shape[-1], dtype="float32")
            value = ops.sum(ops.softmax(logits) * years, axis=-1)
        else:
            value = logits[:, 0]
        return ops.cast(classes, "float32") * value / MAX_AGE

    def confidence(self, images, classes=None) -> np.ndarray:
        """Probability of each class, [n]; for ages the share of the greatest age (-1: 1 minus)."""
        logits = self.logits(images)
        classes = self.classes(logits, classes)
        if self.kind == "class":
            return np.asarray(ops.softmax(logits))[np.arange(len(logits)), classes]
        return np.asarray(self.scores(logits, classes)) + (classes < 0)

    def logits(self, images, batch_size=64) -> np.ndarray:
        """Logits, float32 [n, k]."""
        if self.scorer:
            return self.scorer.logits(images, self.task)
        step = self.compiled("logits", lambda x: self.net(x, training=False))
        return np.concatenate([step(tf.constant(x)).numpy() for x in batches(images, batch_size)])

    def classes(self, logits, classes=None) -> np.ndarray:
        """Class numbers [n] to explain: those given, or the predicted (ages: +1, older)."""
        n, k = logits.shape
        if classes is None:
            return np.argmax(logits, axis=1) if self.kind == "class" else np.ones(n, int)
        classes = np.broadcast_to(np.asarray(classes, int), (n,))
        if not np.isin(classes, range(k) if self.kind == "class" else (-1, 1)).all():
            wanted = f"0..{k - 1}" if self.kind == "class" else "+1 (older) or -1 (younger)"
            seen = np.unique(classes).tolist()
            raise ValueError(f"classes {seen} for task {self.task!r}; expected {wanted}")
        return classes


class Scorer:
    """Logits of all tasks at once: pictures that the tasks share are looked at only once.

    With `bfloat16` the convolutions compute in it: on a processor made for it VGG-19 is six times
    as fast.
    """

    def __init__(self, model, bfloat16=False):
        net = float32_copy(model)
        net = keras.Model(net.inputs, {name: _logits(net, name) for name in net.output_names})
        if bfloat16:
            weights = net.get_weights()
            net = keras.models.clone_model(net, clone_function=_in_bfloat16)
            net.set_weights(weights)
        picture = tf.TensorSpec([None, *net.inputs[0].shape[1:]], "float32")
        step = tf.function(lambda x: net(x, training=False)).get_concrete_function(picture)
        self._step, self._net, self._known = step, net, {}

    def logits(self, images, task, batch_size=64) -> np.ndarray:
        """Logits of one task, float32 [n, k]."""
        images = np.ascontiguousarray(images, np.float32)
        key = hashlib.sha256(images).digest()
        if key not in self._known:
            parts = [self._step(tf.constant(part)) for part in batches(images, batch_size)]
            self._known[key] = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        return self._known[key][task]


def _in_bfloat16(layer):
    own = {"dtype": "mixed_bfloat16"} if isinstance(layer, keras.layers.Conv2D) else {}
    return type(layer).from_config(layer.get_config() | own)


def batches(images, batch_size):
    """Yield float32 parts of at most `batch_size` images."""
    for start in range(0, len(images), batch_size):
        yield np.asarray(images[start : start + batch_size], np.float32)


def checked(images, target: Target) -> np.ndarray:
    """Return `images`, or raise if they do not fit the network."""
    images, side = np.asarray(images), target.size
    if images.ndim != 4 or images.shape[1:] != (side, side, 3) or not len(images):
        raise ValueError(
            f"images of shape {images.shape}; expected (n, {side}, {side}, 3) with "
            "pixels 0..255 and n >= 1: resize them to the network's input"
        )
    return images


def _logits(model, task):
    """An output before its activation, from a twin that shares no state with its layer."""
    layer = model.get_layer(task)
    config, outputs = layer.get_config(), layer.output.shape[-1]
    if "activation" not in config:  # an age as one value, or ordinal ages
        return layer.output if outputs == 1 else ops.log(layer.output + 1e-12)
    twin = type(layer).from_config(config | {"activation": "linear", "name": f"{layer.name}_raw"})
    linear = twin(layer.input)
    twin.set_weights(layer.get_weights())
    return linear[:, : OUTPUTS.get(task, outputs)]  # wide heads: the rest has no meaning


def _feature_layer(net, name):
    """`name`, or the last layer with feature maps; an error says which layers would do."""
    inner = [layer for layer in net.layers if not isinstance(layer, keras.layers.InputLayer)]
    maps = {layer.name: layer.output.shape[1] for layer in inner if layer.output.ndim == 4}
    last = [one for one, side in maps.items() if (side or 0) > 1]
    if name in maps or (last and not name):
        return name or last[-1]
    raise ValueError(
        f"layer {name!r} holds no feature maps for this task; those do: {', '.join(maps) or 'none'}"
    )


def explain_target(model, task, layer=None, check_trained=True) -> Target:
    """Prepare one task, the name of an output, of a flat functional network for explanation.

    `layer` names the layer with the feature maps, by default the last one. A ValueError says what
    cannot be explained; with `check_trained` also an output layer that was never trained.
    """
    if nested := [layer.name for layer in model.layers if isinstance(layer, keras.Model)]:
        raise ValueError(
            f"model {model.name!r} holds another model as one layer ({', '.join(nested)}); "
            "explanations need it flat"
        )
    if task not in model.output_names:
        held = ", ".join(model.output_names)
        raise ValueError(f"model {model.name!r} has no task {task!r}; it has {held}")
    # Every optimiser step moves the bias of an output layer, which starts at zero.
    bias = getattr(model.get_layer(task), "bias", None)
    if check_trained and bias is not None and not np.any(np.asarray(bias)):
        raise ValueError(
            f"task {task!r} was never trained (its output bias is all zero); explain a finished run"
        )
    model = float32_copy(model)  # gradients in bfloat16 are too coarse
    logits = _logits(model, task)
    kind = "value" if logits.shape[-1] == 1 else "expected" if task == "age" else "class"
    net = keras.Model(model.inputs, logits, name=f"{task}_explained")
    return Target(net, task, _feature_layer(net, layer), kind)
