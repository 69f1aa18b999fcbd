"""Heat-maps of what a trained network looked at.

The methods come from tf-keras-vis; `batched_gradcam` and `batched_smoothgrad` are our own, equal
and faster, for thousands of faces.
All return maps of the size of the input, each scaled to 0..1, without NaN.
"""

import functools

import keras
import numpy as np
import tensorflow as tf

from utils.explain.maps import center_gaussian_maps, normalise, random_maps, resize_maps
from utils.explain.names import METHODS
from utils.explain.placement import place_maps
from utils.explain.target import Target, batches, checked, explain_target


def _gradcam(target, images, score, options):
    from tf_keras_vis.gradcam import Gradcam

    return Gradcam(target.net)(
        score,
        images,
        target.layer,
        seek_penultimate_conv_layer=False,
        normalize_cam=False,
        expand_cam=not options["placed"],
    )


def _gradcam_pp(target, images, score, options):
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus

    # exp(score) cancels in the normalised map; without this shift it overflows.
    def shifted(output):
        value = score(output)
        return value - tf.stop_gradient(value)

    return GradcamPlusPlus(target.net)(
        shifted,
        images,
        target.layer,
        seek_penultimate_conv_layer=False,
        normalize_cam=False,
        expand_cam=not options["placed"],
    )


def _scorecam(target, images, score, options):
    from tf_keras_vis.scorecam import Scorecam

    explainer = Scorecam(target.net)

    # Keras' predict would print a progress bar for every batch, and is slow for few pictures.
    def predict(pictures, batch_size):
        return target.logits(pictures[0] if isinstance(pictures, list) else pictures, batch_size)

    explainer.model = _Quiet(target.net, predict)
    channels = target.net.get_layer(target.layer).output.shape[-1]
    return explainer(
        score,
        images,
        target.layer,
        seek_penultimate_conv_layer=False,
        max_N=min(options["max_maps"], channels),
        normalize_cam=False,
        expand_cam=not options["placed"],
    )


class _Quiet:
    """A model whose `predict` prints nothing; all else is the model's."""

    def __init__(self, model, predict):
        self._model, self.predict = model, predict

    def __getattr__(self, name):
        return getattr(self._model, name)


def _smoothgrad(target, images, score, options):
    from tf_keras_vis.saliency import Saliency

    return Saliency(target.net)(
        score,
        tf.constant(images),
        smooth_samples=options["smooth_samples"],
        smooth_noise=options["smooth_noise"],
        normalize_map=False,
    )


_EXPLAINERS = {
    "gradcam": _gradcam,
    "gradcam_pp": _gradcam_pp,
    "scorecam": _scorecam,
    "smoothgrad": _smoothgrad,
}


def cam(
    model,
    images,
    task,
    layer=None,
    method="gradcam",
    classes=None,
    batch_size=16,
    seed=129,
    max_maps=32,
    smooth_samples=20,
    smooth_noise=0.2,
    placed=False,
) -> np.ndarray:
    """Explain one task on some faces with a method of tf-keras-vis.

    Parameters
    ----------
    model : keras.Model or Target
        A trained flat network, images 0..255 -> one softmax per task.
    images : array [n, s, s, 3]
        Pixels 0..255.
    task : str
        ``age`` is explained by its expected value, the others by the logit of a class.
    layer : str, optional
        Layer of the feature maps, as the registry names it.
    method : {"gradcam", "gradcam_pp", "scorecam", "smoothgrad"}
        Selvaraju et al. 2017; Chattopadhay et al. 2018; Wang et al. 2020 (the faster variant
        with the `max_maps` most variable feature maps); Smilkov et al. 2017.
    classes : int or int array [n], optional
        Class to explain, by default the predicted one. For ages: 1 what makes the face older
        (default), -1 what makes it younger.
    seed : int
        Seed of SmoothGrad's noise.
    placed : bool
        Draw the cells of the feature map as equal tiles (`utils.explain.placement`), not, as the
        library does, from the first to the last pixel.

    Returns
    -------
    float32 array [n, s, s], each map in 0..1

    Raises
    ------
    ValueError
        If the method, task, layer, class or picture size does not fit, or the model is nested
        or untrained.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown; expected one of {', '.join(METHODS)}")
    target = explain_target(model, task, layer)
    images = checked(images, target)
    chosen = target.classes(target.logits(images, batch_size), classes)
    options = dict(max_maps=max_maps, smooth_samples=smooth_samples, smooth_noise=smooth_noise)
    options["placed"] = placed
    if method == "scorecam":
        # The library picks the most variable maps of a batch: of one face, or the cost explodes.
        batch_size = 1
    parts, state = [], np.random.get_state()
    np.random.seed(seed)  # tf-keras-vis draws from NumPy's global generator
    try:
        for i, part in enumerate(batches(images, batch_size)):
            wanted = chosen[i * batch_size : i * batch_size + len(part)]
            score = functools.partial(target.scores, classes=wanted, softmaxed=method == "scorecam")
            parts.append(np.asarray(_EXPLAINERS[method](target, part, score, options)))
    finally:
        np.random.set_state(state)
    maps = np.concatenate(parts)
    return normalise(_enlarged(target, maps, True) if placed and method != "smoothgrad" else maps)


def _enlarged(target, maps, placed):
    if placed:
        return place_maps(maps, target.size)
    return resize_maps(maps, target.size)


def batched_gradcam(
    model, images, task, layer=None, classes=None, batch_size=32, placed=False
) -> np.ndarray:
    """Grad-CAM of many faces: the maps of ``cam(..., method="gradcam")``, faster.

    One compiled graph gives features, logits and the gradient between them, which stops at the
    layer; all maps are resized by two matrix products.

    Parameters and returns as for `cam`.
    """
    target = explain_target(model, task, layer)
    images = checked(images, target)
    wanted = requested(target, classes, len(images))
    step = _gradcam_step(target)
    parts = [
        step(tf.constant(part), tf.constant(wanted[i * batch_size : i * batch_size + len(part)]))
        for i, part in enumerate(batches(images, batch_size))
    ]
    return normalise(_enlarged(target, np.concatenate(parts), placed))


PREDICTED = -1  # stands for "the predicted class" inside the compiled step


def requested(target: Target, classes, n) -> np.ndarray:
    """Class numbers [n] for the compiled step; `PREDICTED` where none is given."""
    if classes is None and target.kind == "class":
        return np.full(n, PREDICTED, np.int32)
    k = target.net.outputs[0].shape[-1]
    return target.classes(np.empty((n, k)), classes).astype(np.int32)


def _gradcam_step(target: Target):
    """Compile images [n, s, s, 3], classes [n] -> raw maps [n, h, w]."""
    net = keras.Model(
        target.net.inputs, [target.net.get_layer(target.layer).output, target.net.outputs[0]]
    )

    def step(images, classes):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            features, logits = net(images, training=False)
            score = _score(target, logits, classes)
        # Inside a graph only the path from the score to the features is kept.
        return _weighted(features, tape.gradient(score, features))

    picture = ("float32", target.net.inputs[0].shape[1:])
    return target.compiled("gradcam", step, picture, ("int32", ()))


def _score(target, logits, classes):
    if target.kind == "class":
        best = tf.argmax(logits, axis=-1, output_type=tf.int32)
        classes = tf.where(classes == PREDICTED, best, classes)
    return target.scores(logits, classes)


def _weighted(features, gradients):
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))


def feature_maps(target: Target, images, batch_size=32) -> np.ndarray:
    """Outputs of the explained layer, float32 [n, h, w, c]: the same for every task of a model."""
    net = keras.Model(target.net.inputs, target.net.get_layer(target.layer).output)
    picture = ("float32", target.net.inputs[0].shape[1:])
    step = target.compiled("features", lambda x: net(x, training=False), picture)
    return np.concatenate([step(tf.constant(part)).numpy() for part in batches(images, batch_size)])


def gradcam_of_features(target: Target, features, classes=None, batch_size=256) -> np.ndarray:
    """Placed `batched_gradcam` from `feature_maps`: all tasks share one forward pass.

    Parameters
    ----------
    features : array [n, h, w, c]
        Of the target's own layer.

    Returns
    -------
    float32 array [n, s, s]
    """
    wanted = requested(target, classes, len(features))
    upper = keras.Model(target.net.get_layer(target.layer).output, target.net.outputs[0])

    def step(values, classes):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            score = _score(target, upper(values, training=False), classes)
        return _weighted(values, tape.gradient(score, values))

    shape = ("float32", features.shape[1:])
    step = target.compiled("gradcam_of_features", step, shape, ("int32", ()))
    parts = [
        step(tf.constant(part), tf.constant(wanted[i * batch_size : i * batch_size + len(part)]))
        for i, part in enumerate(batches(features, batch_size))
    ]
    return normalise(_enlarged(target, np.concatenate(parts), True))


def batched_smoothgrad(
    model,
    images,
    task,
    layer=None,
    classes=None,
    batch_size=8,
    seed=129,
    smooth_samples=20,
    smooth_noise=0.2,
) -> np.ndarray:
    """SmoothGrad: the maps of ``cam(..., method="smoothgrad")`` from one compiled gradient.

    Parameters and returns as for `cam`; equal noise needs an equal `batch_size`.
    """
    target = explain_target(model, task, layer)
    images = checked(images, target)
    wanted = requested(target, classes, len(images))

    def step(pictures, classes):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(pictures)
            score = _score(target, target.net(pictures, training=False), classes)
        return tf.abs(tape.gradient(score, pictures))

    picture = ("float32", target.net.inputs[0].shape[1:])
    step = target.compiled("saliency", step, picture, ("int32", ()))
    draw, parts = np.random.RandomState(seed), []
    for i, part in enumerate(batches(images, batch_size)):
        chosen = tf.constant(wanted[i * batch_size : i * batch_size + len(part)])
        if target.kind == "class":  # the class of the picture, not of its noisy copies
            best = np.argmax(target.logits(part), axis=1).astype(np.int32)
            chosen = tf.where(chosen == PREDICTED, best, chosen)
        spread = np.ptp(part, axis=(1, 2, 3)).reshape(1, -1, 1, 1, 1) * smooth_noise
        noise = draw.normal(0.0, spread, (smooth_samples, *part.shape)).astype(np.float32)
        total = sum(step(tf.constant(part + one), chosen).numpy() for one in noise)
        parts.append(total.max(axis=-1) / smooth_samples)
    return normalise(np.concatenate(parts))


def explain(
    model, images, task, method, layer=None, classes=None, batch_size=16, seed=129, **options
) -> np.ndarray:
    """Maps by any method or control, fast and placed as tiles: see `cam`.

    `method` may also be ``random`` or ``center_gaussian``; Grad-CAM and SmoothGrad are the
    batched ones.
    """
    target = explain_target(model, task, layer)
    if method == "random":
        return random_maps(len(images), target.size, seed)
    if method == "center_gaussian":
        return center_gaussian_maps(len(images), target.size)
    if method == "gradcam":
        return batched_gradcam(target, images, task, None, classes, batch_size, placed=True)
    if method == "smoothgrad":
        smooth = {k: v for k, v in options.items() if k.startswith("smooth_")}
        return batched_smoothgrad(target, images, task, None, classes, batch_size, seed, **smooth)
    options = options | {"batch_size": batch_size, "seed": seed, "placed": True}
    return cam(target, images, task, None, method, classes, **options)
