"""Heat-maps of what a trained network looked at, for thousands of faces.

The maps are those of tf-keras-vis (notebook 05 and the tests show it), from one compiled graph a
network and method. All have the size of the input, each scaled to 0..1, without NaN.
"""

import keras
import numpy as np
import tensorflow as tf

from utils.explain import maps as heat
from utils.explain.target import batches, checked

PREDICTED = -1  # stands for "the predicted class" inside a compiled step


def batched_gradcam(
    target, images, classes=None, batch_size=32, placed=False, plus=False
) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017) or, `plus`, Grad-CAM++ (Chattopadhay et al. 2018).

    Maps, float32 [n, s, s], each in 0..1, of images [n, s, s, 3] in 0..255 for the predicted
    classes, or those given (one or [n]); for ages 1 asks what makes a face older (the default), -1
    younger. `placed` draws the cells as tiles of equal size: see `resize_maps`.
    """
    images, step, found = checked(images, target), _gradcam_step(target, plus), []
    if classes is None and target.kind == "class":
        wanted = np.full(len(images), PREDICTED)
    else:
        wanted = target.classes(np.empty((len(images), target.net.output.shape[-1])), classes)
    for part, chosen in zip(batches(images, batch_size), batches(wanted, batch_size), strict=True):
        found.append(step(tf.constant(part), tf.cast(chosen, "int32")))
    return heat.normalise(heat.resize_maps(np.concatenate(found), target.size, placed))


def _gradcam_step(target, plus):
    """Compiled: images [n, s, s, 3], classes [n] -> raw cells [n, h, w]."""
    net = keras.Model(target.net.inputs, [target.features, target.net.output])

    def cells(images, classes):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            features, logits = net(images, training=False)
            if target.kind == "class":
                best = tf.argmax(logits, axis=-1, output_type=tf.int32)
                classes = tf.where(classes == PREDICTED, best, classes)
            score = target.scores(logits, classes)
        # Inside a graph only the path from the score to the features is kept.
        weights = _weights(features, tape.gradient(score, features), plus)
        return tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))

    return target.compiled(f"gradcam{plus}", cells, "int32")


def _weights(features, gradients, plus):
    """Weight of each feature map, [n, 1, 1, c]."""
    if not plus:
        return tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    # exp(score) stands in every term of the paper and cancels in the normalised map.
    total = tf.reduce_sum(features, axis=(1, 2), keepdims=True)
    alphas = tf.math.divide_no_nan(gradients**2, 2 * gradients**2 + gradients**3 * total)
    alphas = tf.math.divide_no_nan(alphas, tf.reduce_sum(alphas, axis=(1, 2), keepdims=True))
    return tf.reduce_sum(tf.nn.relu(gradients) * alphas, axis=(1, 2), keepdims=True)


def scorecam(target, images, classes=None, max_maps=32, placed=True) -> np.ndarray:
    """Score-CAM (Wang et al. 2020), the faster variant with the most variable feature maps."""
    images = checked(images, target)
    classes = target.classes(target.logits(images), classes)
    net = keras.Model(target.net.inputs, target.features)
    step, found = target.compiled("features", lambda x: net(x, training=False)), []
    for face, chosen in zip(batches(images, 1), classes, strict=True):
        features = np.moveaxis(step(tf.constant(face)).numpy()[0], -1, 0)
        features = features[np.argsort(-features.std(axis=(1, 2)), kind="stable")[:max_maps]]
        masks = heat.normalise(heat.resize_maps(features, target.size))[..., None]
        weights = target.confidence(face * masks, np.full(len(masks), chosen))
        found.append(np.maximum(np.tensordot(weights, features, 1), 0))
    return heat.normalise(heat.resize_maps(np.stack(found), target.size, placed))


def smoothgrad(target, images, classes=None, batch_size=8, seed=129, samples=20, noise=0.2):
    """SmoothGrad (Smilkov et al. 2017): mean gradient over noisy copies of each picture.

    Equal noise needs an equal `batch_size`.
    """
    images = checked(images, target)
    # The class is that of the picture, not of its noisy copies.
    wanted = target.classes(target.logits(images), classes).astype(np.int32)

    def gradient(pictures, classes):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(pictures)
            score = target.scores(target.net(pictures, training=False), classes)
        return tf.abs(tape.gradient(score, pictures))

    step = target.compiled("saliency", gradient, "int32")
    draw, found = np.random.RandomState(seed), []
    for i, part in enumerate(batches(images, batch_size)):
        chosen = tf.constant(wanted[i * batch_size :][: len(part)])
        spread = np.ptp(part, axis=(1, 2, 3)).reshape(1, -1, 1, 1, 1) * noise
        drawn = draw.normal(0.0, spread, (samples, *part.shape)).astype(np.float32)
        total = sum(step(tf.constant(part + one), chosen).numpy() for one in drawn)
        found.append(total.max(axis=-1) / samples)
    return heat.normalise(np.concatenate(found))


def explain(target, images, method, classes=None, seed=129, max_maps=32, samples=20) -> np.ndarray:
    """Maps [n, s, s] by any of `METHODS` and `CONTROLS`, cells drawn as tiles."""
    how, shape = (
        {"target": target, "images": images, "classes": classes},
        (len(images), target.size),
    )
    makers = {
        "gradcam": lambda: batched_gradcam(**how, placed=True),
        "gradcam_pp": lambda: batched_gradcam(**how, placed=True, plus=True),
        "scorecam": lambda: scorecam(**how, max_maps=max_maps),
        "smoothgrad": lambda: smoothgrad(**how, seed=seed, samples=samples),
        "random": lambda: heat.random_maps(*shape, seed, target.features.shape[1]),
        "random_pixels": lambda: heat.random_maps(*shape, seed, target.size),
        "center_gaussian": lambda: heat.center_gaussian_maps(*shape),
    }
    if method not in makers:
        raise ValueError(f"method {method!r} is unknown; expected one of {', '.join(makers)}")
    return makers[method]()


def field_of_view(target, images, seed=129) -> np.ndarray:
    """Centre and spread of what each cell on a map's diagonal sees, [cells, 2], shares of the side.

    The energy of the gradient of one cell, under random signs of its channels, is averaged over
    the pictures (Luo, Li, Urtasun and Zemel 2016).
    """
    net = keras.Model(target.net.inputs, target.features)
    channels = net.output.shape[-1]
    signs = np.sign(np.random.default_rng(seed).normal(size=channels)).astype(np.float32)

    def energy(pictures, i):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(pictures)
            score = tf.reduce_sum(net(pictures, training=False)[:, i[0], i[0]] * signs)
        return tf.reduce_sum(tape.gradient(score, pictures) ** 2, axis=(0, 3))

    step, pictures = target.compiled("view", energy, "int32"), np.asarray(images, np.float32)
    place, rows = (np.arange(target.size) + 0.5) / target.size, []
    for i in range(net.output.shape[1]):
        share = step(tf.constant(pictures), tf.constant([i])).numpy().astype(np.float64)
        share = share.sum(axis=0) + share.sum(axis=1)  # the diagonal is alike on both axes
        share /= share.sum() or np.nan  # nothing the cell sees moves it
        centre = (share * place).sum()
        rows.append((centre, np.sqrt((share * (place - centre) ** 2).sum())))
    return np.array(rows)
