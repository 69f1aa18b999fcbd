"""Do the maps find the true evidence? Only synthetic faces tell: they are drawn by us."""

import numpy as np
import pandas as pd
from PIL import Image

from utils.explain.uncertainty import bootstrap_mean


def evidence_masks(images, task, size) -> np.ndarray:
    """True regions of evidence of synthetic faces, bool [n, size, size].

    Parameters
    ----------
    images : sequence of str
        Identifiers from the synthetic face table.
    task : str
    size : int
        Side of the maps.
    """
    from utils.datasets.synthetic import evidence_mask

    def resized(image):
        mask = np.asarray(evidence_mask(image, task)) > 0
        picture = Image.fromarray(mask.astype(np.uint8) * 255)
        return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)) >= 128

    return np.stack([resized(image) for image in images])


def _check(maps, masks):
    maps, masks = np.asarray(maps, np.float64), np.asarray(masks, bool)
    if maps.shape != masks.shape or maps.ndim != 3:
        raise ValueError(f"maps {maps.shape} and masks {masks.shape}; expected equal (n, s, s)")
    return maps, masks


def energy_inside(maps, masks) -> np.ndarray:
    """Share of each map's attention inside its mask, [n]; 0 for a map without attention.

    Wang et al. 2020 (Score-CAM), the energy-based pointing game.

    Examples
    --------
    >>> mask = np.array([[[True, False], [False, False]]])
    >>> energy_inside(np.array([[[3.0, 1.0], [0.0, 0.0]]]), mask).tolist()
    [0.75]
    """
    maps, masks = _check(maps, masks)
    total = maps.sum(axis=(1, 2))
    inside = (maps * masks).sum(axis=(1, 2))
    return np.divide(inside, total, out=np.zeros(len(maps)), where=total > 0)


def pointing_game(maps, masks) -> np.ndarray:
    """1 where the strongest point lies in the mask, else 0, [n] (Zhang et al. 2018).

    Several equally strong points count by the share of them inside; a map without attention
    points nowhere and misses.
    """
    maps, masks = _check(maps, masks)
    peak = maps.max(axis=(1, 2), keepdims=True)
    best = (maps >= peak) & (peak > 0)
    points = best.sum(axis=(1, 2))
    hits = (best & masks).sum(axis=(1, 2))
    return np.divide(hits, points, out=np.zeros(len(maps)), where=points > 0)


def localisation(maps, masks, seed=129) -> pd.DataFrame:
    """Both statistics for several methods.

    Parameters
    ----------
    maps : dict
        Method -> maps [n, s, s], or fewer maps for the first faces (a slow method).
    masks : bool array [n, s, s]
        Faces whose mask is empty (nothing shows the label) are left out.

    Returns
    -------
    DataFrame
        Columns method, statistic, value, ci_low, ci_high, n.
    """
    masks = np.asarray(masks, bool)
    rows = []
    for method, heat in maps.items():
        heat, known = _check(heat, masks[: len(heat)])
        shown = known.any(axis=(1, 2))
        for name, score in (("energy_inside", energy_inside), ("pointing_game", pointing_game)):
            row = bootstrap_mean(score(heat[shown], known[shown]), seed)
            rows.append({"method": method, "statistic": name, **row})
    return pd.DataFrame(rows)
