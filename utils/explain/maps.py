"""Heat-maps as arrays: scaling, resizing, averages, control maps, overlays."""

import matplotlib
import numpy as np
from scipy.ndimage import gaussian_filter


def normalise(maps) -> np.ndarray:
    """Scale each map to 0..1; flat or undefined maps become all zero.

    Parameters
    ----------
    maps : array [n, h, w]

    Returns
    -------
    float32 array [n, h, w]

    Examples
    --------
    >>> normalise(np.array([[[1.0, 3.0]], [[2.0, 2.0]], [[np.nan, 1.0]]])).tolist()
    [[[0.0, 1.0]], [[0.0, 0.0]], [[0.0, 1.0]]]
    """
    maps = np.nan_to_num(np.asarray(maps, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low = maps.min(axis=(1, 2), keepdims=True)
    spread = maps.max(axis=(1, 2), keepdims=True) - low
    # A spread below rounding error holds no information: scaling it up would show noise.
    real = spread > np.maximum(np.abs(low) * 1e-6, 1e-30)
    return np.where(real, (maps - low) / np.where(real, spread, 1.0), 0.0).astype(np.float32)


def _weights(small, large):
    """Matrix [large, small] of linear interpolation with the corners aligned."""
    place = np.linspace(0, small - 1, large) if large > 1 else np.zeros(1)
    left = np.minimum(place.astype(int), max(small - 2, 0))
    share = place - left
    matrix = np.zeros((large, small), np.float64)
    matrix[np.arange(large), left] = 1 - share
    matrix[np.arange(large), np.minimum(left + 1, small - 1)] += share
    return matrix


def resize_maps(maps, size) -> np.ndarray:
    """Resize maps bilinearly to size x size, corners aligned as tf-keras-vis does it.

    Two small matrix products do all maps at once.

    Examples
    --------
    >>> resize_maps(np.array([[[0.0, 1.0], [2.0, 3.0]]]), 3)[0].tolist()
    [[0.0, 0.5, 1.0], [1.0, 1.5, 2.0], [2.0, 2.5, 3.0]]
    """
    maps = np.asarray(maps, np.float64)
    rows, columns = _weights(maps.shape[1], size), _weights(maps.shape[2], size)
    return rows @ maps @ columns.T


def mean_map(maps) -> np.ndarray:
    """Average of maps [n, h, w], each counted with the same total attention.

    Maps without any attention are left out, so one faint map weighs as much as a strong one.

    Returns
    -------
    float32 array [h, w], scaled to 0..1
    """
    maps = np.asarray(maps, np.float64)
    if maps.ndim != 3 or not len(maps):
        raise ValueError(f"maps of shape {maps.shape}; expected (n, h, w) with n >= 1")
    total = maps.sum(axis=(1, 2), keepdims=True)
    used = total[:, 0, 0] > 0
    if not used.any():
        return np.zeros(maps.shape[1:], np.float32)
    return normalise((maps[used] / total[used]).mean(axis=0)[None])[0]


def mean_face(images) -> np.ndarray:
    """Mean picture, uint8 [s, s, 3], of images [n, s, s, 3] with pixels 0..255."""
    if not len(images):
        raise ValueError("no images to average; expected at least one")
    total = np.zeros(images.shape[1:], np.float64)
    for start in range(0, len(images), 256):
        total += np.asarray(images[start : start + 256], np.float64).sum(axis=0)
    return np.round(total / len(images)).astype(np.uint8)


def random_maps(n, size, seed=129, cells=7) -> np.ndarray:
    """Control: smooth random maps, as coarse as a CAM, float32 [n, size, size] in 0..1."""
    noise = np.random.default_rng(seed).random((n, cells, cells))
    return normalise(resize_maps(noise, size))


def center_gaussian_maps(n, size, spread=0.25) -> np.ndarray:
    """Control: a Gaussian on the centre, its deviation a share of the side, [n, size, size]."""
    axis = (np.arange(size) - (size - 1) / 2) / (spread * size)
    bell = np.exp(-0.5 * axis**2)
    return np.repeat(normalise(np.outer(bell, bell)[None]), n, axis=0)


def blurred(images, share=0.08) -> np.ndarray:
    """Gaussian-blurred images, float32 [n, s, s, 3]; the deviation is a share of the side."""
    images = np.asarray(images, np.float32)
    sigma = share * images.shape[1]
    return gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest")


def overlay(image, heat, strength=0.65, cmap="inferno") -> np.ndarray:
    """Draw a map over a picture; where there is no attention the picture stays as it is.

    Parameters
    ----------
    image : array [s, s, 3], 0..255
    heat : array [s, s], 0..1
    strength : float
        Opacity at full attention.

    Returns
    -------
    uint8 array [s, s, 3]
    """
    heat = np.clip(np.nan_to_num(np.asarray(heat, np.float64)), 0, 1)
    colour = matplotlib.colormaps[cmap](heat)[..., :3] * 255
    opacity = strength * heat[..., None]
    mixed = (1 - opacity) * np.asarray(image, np.float64) + opacity * colour
    return np.round(np.clip(mixed, 0, 255)).astype(np.uint8)
