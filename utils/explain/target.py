"""What is explained: one task of one trained network, as a float32 network that ends in logits.

The model that is passed in is never changed. tf-keras-vis and our own Grad-CAM both work on the
`Target` built here, so they explain the same number.
"""

from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from utils.datasets.facetable import MAX_AGE

REGRESSIONS = ("age_value",)


@dataclass(frozen=True, eq=False)
class Target:
    """One explainable output of a network.

    Attributes
    ----------
    net : keras.Model
        Images 0..255, float32 [n, s, s, 3] -> logits [n, k], linear.
    task : str
        Name of the output.
    layer : str
        Name of the layer whose feature maps are weighted.
    kind : str
        ``class``: the score is the logit of a class. ``expected``: the expected age of a
        distribution over years. ``value``: a single regression output. The last two are divided
        by the greatest age, so that scores lie near 0..1 (Grad-CAM++ exponentiates them).
    """

    net: keras.Model
    task: str
    layer: str
    kind: str
    _compiled: dict = field(init=False, default_factory=dict, repr=False)

    def compiled(self, name, function, *shapes):
        """Compile `function` of tensors once, with any number of faces a call.

        Parameters
        ----------
        shapes : (dtype, shape behind the faces) of each argument
        """
        if name not in self._compiled:
            specs = [tf.TensorSpec([None, *shape], dtype) for dtype, shape in shapes]
            self._compiled[name] = tf.function(function).get_concrete_function(*specs)
        return self._compiled[name]

    @property
    def size(self) -> int:
        """Side of the input pictures in pixels."""
        return int(self.net.inputs[0].shape[1])

    def scores(self, logits, classes, softmaxed=False):
        """Score to explain, one number a face, as a differentiable tensor [n].

        Parameters
        ----------
        logits : tensor [n, k]
            Output of `net`, or its softmax if `softmaxed`.
        classes : int array [n]
            Class numbers; for ages +1 (what makes the face older) or -1 (younger).
        """
        ops = keras.ops
        classes = ops.convert_to_tensor(classes, "int32")
        if self.kind == "class":
            return ops.sum(logits * ops.one_hot(classes, logits.shape[-1]), axis=-1)
        if self.kind == "expected":
            shares = logits if softmaxed else ops.softmax(logits)
            years = ops.arange(logits.shape[-1], dtype="float32")
            value = ops.sum(shares * years, axis=-1)
        else:
            # The second column is zero: its log-odds give the value back after a softmax.
            tiny = 1e-12
            odds = ops.log(logits[:, 0] + tiny) - ops.log(logits[:, 1] + tiny)
            value = MAX_AGE * (odds if softmaxed else logits[:, 0])
        return ops.cast(classes, "float32") * value / MAX_AGE

    def confidence(self, images, classes=None, batch_size=64) -> np.ndarray:
        """Probability of each face's class; for ages the expected age / greatest age.

        Where the direction is -1 (younger) it is one minus that.

        Parameters
        ----------
        images : array [n, s, s, 3], 0..255
        classes : int array [n], optional
            As in `scores`; None for the predicted ones.

        Returns
        -------
        float32 array [n]
        """
        logits = self.logits(images, batch_size)
        classes = self.classes(logits, classes)
        softmaxed = self.kind != "value"
        outputs = keras.ops.softmax(logits) if softmaxed else logits
        scores = np.asarray(self.scores(outputs, classes, softmaxed))
        return scores if self.kind == "class" else np.where(classes < 0, 1 + scores, scores)

    def logits(self, images, batch_size=64) -> np.ndarray:
        """Logits, float32 [n, k]."""
        picture = ("float32", self.net.inputs[0].shape[1:])
        step = self.compiled("logits", lambda x: self.net(x, training=False), picture)
        parts = batches(images, batch_size)
        return np.concatenate([step(tf.constant(part)).numpy() for part in parts])

    def classes(self, logits, classes=None) -> np.ndarray:
        """Class numbers [n] to explain: those given, or the predicted (ages: +1, older)."""
        n, k = logits.shape
        if classes is None:
            return np.argmax(logits, axis=1) if self.kind == "class" else np.ones(n, int)
        classes = np.broadcast_to(np.asarray(classes, int), (n,))
        allowed = range(k) if self.kind == "class" else (-1, 1)
        if not np.isin(classes, list(allowed)).all():
            seen = sorted(set(classes.tolist()) - set(allowed))
            raise ValueError(
                f"classes {seen} for task {self.task!r}; expected "
                + (f"0..{k - 1}" if self.kind == "class" else "+1 (older) or -1 (younger)")
            )
        return classes


def batches(images, batch_size):
    """Yield float32 parts of at most `batch_size` images."""
    for start in range(0, len(images), batch_size):
        yield np.asarray(images[start : start + batch_size], np.float32)


def checked(images, target: Target) -> np.ndarray:
    """Return `images`, or raise if they do not fit the network."""
    images = images if isinstance(images, np.ndarray) else np.asarray(images)
    shape = (target.size, target.size, 3)
    if images.ndim != 4 or images.shape[1:] != shape or not len(images):
        raise ValueError(
            f"images of shape {images.shape}; expected (n, {shape[0]}, {shape[1]}, 3) with "
            "pixels 0..255 and n >= 1: resize them to the network's input"
        )
    return images


def convolution_layers(model) -> list[str]:
    """Names of the convolution layers, from input to output."""
    kinds = ("Conv2D", "SeparableConv2D", "DepthwiseConv2D", "Conv2DTranspose")
    return [layer.name for layer in model.layers if type(layer).__name__ in kinds]


def last_feature_layer(model) -> str:
    """Name of the last layer with more than one place per feature map.

    The registry names a layer for every backbone; this serves networks that are not in it.
    """
    for layer in reversed(model.layers):
        shape = getattr(getattr(layer, "output", None), "shape", ())
        is_input = isinstance(layer, keras.layers.InputLayer)
        if len(shape) == 4 and (shape[1] or 0) > 1 and not is_input:
            return layer.name
    raise ValueError(f"model {model.name!r} has no layer with feature maps; expected a CNN")


def float32_copy(model):
    """Return `model` if all of it computes in float32, else a copy that does.

    bfloat16 gradients are too coarse for maps, and uint8 inputs have none.
    """
    same = all(layer.compute_dtype == "float32" for layer in model.layers)
    if same and all(tensor.dtype == "float32" for tensor in model.inputs):
        return model
    inputs = keras.tree.map_structure(
        lambda t: keras.Input(t.shape[1:], dtype="float32", name=t.name), model.input
    )

    def as_float32(layer):
        return type(layer).from_config(layer.get_config() | {"dtype": "float32"})

    copy = keras.models.clone_model(model, input_tensors=inputs, clone_function=as_float32)
    copy.set_weights(model.get_weights())
    return copy


def _check_flat(model):
    if not isinstance(model, keras.Model):
        raise ValueError(f"got {type(model).__name__}; expected a keras.Model")
    nested = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    if nested:
        raise ValueError(
            f"model {model.name!r} holds another model as one layer ({', '.join(nested)}); "
            "explanations need it flat: build the backbone with input_tensor="
        )


def _output_layer(model, task):
    if task not in model.output_names:
        raise ValueError(
            f"model {model.name!r} has no task {task!r}; it has {', '.join(model.output_names)}: "
            "choose one of these or train a run with the task"
        )
    return model.get_layer(task)


def _check_trained(layer):
    # Every optimiser step moves the bias of an output layer, which starts at zero.
    bias = getattr(layer, "bias", None)
    if bias is not None and not np.any(np.asarray(bias)):
        raise ValueError(
            f"task {layer.name!r} was never trained (its output bias is all zero); "
            "explain a finished run: see utils.runs.load_model"
        )


def _linear(layer):
    """The layer's output before its activation, from a twin that shares no state with it."""
    if isinstance(layer, keras.layers.Softmax):
        return layer.input
    config = layer.get_config() | {"activation": "linear", "name": f"{layer.name}_linear"}
    twin = type(layer).from_config(config)
    linear = twin(layer.input)
    twin.set_weights(layer.get_weights())
    return linear


def _check_layer(net, name):
    if name not in [layer.name for layer in net.layers]:
        raise ValueError(
            f"layer {name!r} does not lead to this task; "
            f"convolution layers that do: {', '.join(convolution_layers(net))}"
        )
    if len(net.get_layer(name).output.shape) != 4:
        raise ValueError(
            f"layer {name!r} has no feature maps (output {net.get_layer(name).output.shape}); "
            f"convolution layers: {', '.join(convolution_layers(net))}"
        )


def explain_target(model, task, layer=None, check_trained=True) -> Target:
    """Prepare one task of a network for explanation.

    Parameters
    ----------
    model : keras.Model or Target
        Flat functional model; a Target is returned as it is.
    task : str
        Name of the output: age, age_bin, gender, ethnicity or age_value.
    layer : str, optional
        Layer of the feature maps, as the registry names it; by default the last one.
    check_trained : bool
        Refuse a task whose output layer was never trained.

    Raises
    ------
    ValueError
        If the model is nested or untrained, or lacks the task or the layer.
    """
    if isinstance(model, Target):
        return model
    _check_flat(model)
    output = _output_layer(model, task)
    if check_trained:
        _check_trained(output)
    model = float32_copy(model)
    logits = _linear(model.get_layer(task))
    if task in REGRESSIONS or logits.shape[-1] == 1:
        kind = "value"
        logits = keras.layers.ZeroPadding1D((0, 1))(keras.layers.Reshape((1, 1))(logits))
        logits = keras.layers.Reshape((2,))(keras.layers.Rescaling(1 / MAX_AGE)(logits))
    else:
        kind = "expected" if task == "age" else "class"
    net = keras.Model(model.inputs, logits, name=f"{task}_explained")
    layer = layer or last_feature_layer(net)
    _check_layer(net, layer)
    return Target(net, task, layer, kind)
