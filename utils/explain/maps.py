"""Heat-maps as arrays: scaling, resizing, averages, controls, overlays."""

import matplotlib
import numpy as np
from scipy.ndimage import binary_dilation, zoom

METHODS = {
    "gradcam": "Grad-CAM",
    "gradcam_pp": "Grad-CAM++",
    "scorecam": "Score-CAM",
    "smoothgrad": "SmoothGrad",
}
# Many passes a face, and their control: tested on fewer faces.
SLOW = ("scorecam", "smoothgrad", "random_pixels")
CONTROLS = {
    "random": "random patches",  # as wide as a map's cells
    "random_pixels": "random pixels",  # as fine as SmoothGrad
    "center_gaussian": "centred Gaussian",
}
METHOD_LABELS = METHODS | CONTROLS

EYES_TO_NOSE = 0.23  # share of the side between the eyes and the tip of the nose
LEAST_CELLS = 5  # a side: wider cells cover eyes and nose at once


def normalise(maps) -> np.ndarray:
    """Scale each map to 0..1, float32 [n, h, w]; flat or undefined maps become all zero.

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


def resize_maps(maps, size, tiles=False) -> np.ndarray:
    """Resize maps [n, h, w] to size x size, linear between the cells.

    The first cell comes on the first pixel and the last cell on the last one, as in tf-keras-vis;
    as `tiles`, all cells are of equal size, as the study draws them: on UTKFace at 96 pixels, what
    cells really see lies nearer to the tiles (MobileNetV2: 17 pixels off, the library's way 27;
    ResNet50 6 and 16; VGG-19 6 and 10).

    Examples
    --------
    >>> resize_maps(np.array([[[0.0, 1.0], [2.0, 3.0]]]), 3)[0].tolist()
    [[0.0, 0.5, 1.0], [1.0, 1.5, 2.0], [2.0, 2.5, 3.0]]
    >>> resize_maps(np.array([[[0.0, 1.0], [0.0, 1.0]]]), 4, tiles=True)[0, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    maps = np.asarray(maps, np.float64)
    factors = (1, size / maps.shape[1], size / maps.shape[2])
    return zoom(maps, factors, order=1, mode="nearest", grid_mode=tiles)


def mean_map(maps) -> np.ndarray:
    """Average of maps [n, h, w], each with the same total attention (none: left out), in 0..1."""
    maps = np.asarray(maps, np.float64)
    total = maps.sum(axis=(1, 2), keepdims=True)
    share = np.divide(maps, total, out=np.zeros_like(maps), where=total > 0)
    return normalise(share.sum(axis=0)[None])[0]


def random_maps(n, size, seed=129, cells=7) -> np.ndarray:
    """Control: random maps of so many cells a side, float32 [n, size, size] in 0..1."""
    drawn = np.random.default_rng(seed).random((n, cells, cells))
    return normalise(resize_maps(drawn, size, tiles=True))


def center_gaussian_maps(n, size, spread=0.25) -> np.ndarray:
    """Control: a Gaussian on the centre, its deviation a share of the side, [n, size, size]."""
    bell = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (spread * size)) ** 2)
    return np.repeat(normalise(np.outer(bell, bell)[None]), n, axis=0)


def overlay(image, heat, strength=0.65, cmap="inferno") -> np.ndarray:
    """A map [s, s] in 0..1 over a picture [s, s, 3], uint8; `strength`: greatest opacity."""
    heat = np.clip(np.nan_to_num(np.asarray(heat, np.float64)), 0, 1)
    opacity = strength * heat[..., None]
    colours = matplotlib.colormaps[cmap](heat)[..., :3] * 255
    return np.round((1 - opacity) * image + opacity * colours).astype(np.uint8)


def outlined(image, mask, colour=(0, 255, 255)) -> np.ndarray:
    """A picture [s, s, 3] with the edge of a mask [s, s] in a colour that no map has."""
    return np.where((binary_dilation(mask) & ~mask)[..., None], np.uint8(colour), image)
