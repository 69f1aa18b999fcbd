"""Where on the picture does each cell of a feature map look, and how sharply?

tf-keras-vis puts the first cell of a map on the first pixel and the last cell on the last one. The
study draws cells as equal tiles, as the first Grad-CAM code did. The effective receptive fields
(Luo, Li, Urtasun and Zemel 2016), measured on UTKFace faces at 96 pixels, lie nearer to the tiles:
their centres are off by 17 pixels for MobileNetV2, 6 for ResNet50 and 6 for VGG-19 (the library's
way: 27, 16 and 10). They are wide, too: one cell of MobileNetV2 sees plus or minus 26 of 96 pixels
(one standard deviation), so that no map of it can tell the nose from the eyes. `field_of_view`
measures that for each run.
"""

import numpy as np


def place_maps(maps, size) -> np.ndarray:
    """Enlarge maps [n, h, w] to size x size, each cell a tile of equal size.

    Linear between the centres of tiles, constant beyond the outer ones.

    Examples
    --------
    >>> place_maps(np.array([[[0.0, 1.0], [0.0, 1.0]]]), 4)[0, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    maps = np.asarray(maps, np.float64)

    def weights(cells):
        place = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
        left = np.minimum(place.astype(int), max(cells - 2, 0))
        matrix = np.zeros((size, cells))
        matrix[np.arange(size), left] = 1 - (place - left)
        matrix[np.arange(size), np.minimum(left + 1, cells - 1)] += place - left
        return matrix

    return weights(maps.shape[1]) @ maps @ weights(maps.shape[2]).T


def field_of_view(target, images, seed=129) -> np.ndarray:
    """Centre and spread of what the cells on a map's diagonal see.

    The energy of the gradient of one cell, under random signs of its channels, is averaged over
    the pictures (Luo et al. 2016).

    Parameters
    ----------
    target : Target
    images : array [n, s, s, 3], 0..255

    Returns
    -------
    float array [cells, 2]
        Mean and standard deviation of the place, over both axes, as shares of the side.
    """
    import keras
    import tensorflow as tf

    net = keras.Model(target.net.inputs, target.net.get_layer(target.layer).output)
    cells, channels = net.output.shape[1], net.output.shape[-1]
    signs = np.sign(np.random.default_rng(seed).normal(size=channels)).astype(np.float32)

    @tf.function
    def energy(pictures, i):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(pictures)
            score = tf.reduce_sum(net(pictures, training=False)[:, i, i] * signs)
        return tf.reduce_sum(tape.gradient(score, pictures) ** 2, axis=(0, 3))

    pictures = tf.constant(np.asarray(images, np.float32))
    place, rows = (np.arange(target.size) + 0.5) / target.size, []
    for i in range(cells):
        share = energy(pictures, tf.constant(i)).numpy().astype(np.float64)
        both = share.sum(axis=0) + share.sum(axis=1)  # the diagonal is alike on both axes
        if not both.sum() > 0:  # nothing the cell sees moves it
            rows.append((np.nan, np.nan))
            continue
        centre = np.average(place, weights=both)
        rows.append((centre, np.sqrt(np.average((place - centre) ** 2, weights=both))))
    return np.array(rows)
