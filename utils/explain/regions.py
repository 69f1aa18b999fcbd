"""How much attention falls on the eyes, the nose, the mouth ...?

The aligned and cropped UTKFace pictures put the parts of the face at nearly the same places, so
fixed regions do. They divide the picture: the shares of one map sum to 1. Checked with mtcnn's
landmarks on 200 random UTKFace crops (195 with a face found): median eyes at (.30, .29) and
(.68, .29), nose tip at (.49, .52), corners of the mouth at (.32, .69) and (.66, .69), as shares of
the side; 99.5 to 100 % of each of these points lie in the region of their name. The table is
``reports/study/explanations/region_check.csv``; `utils.explain.landmarks` makes it.
"""

from statistics import NormalDist

import numpy as np
import pandas as pd

from utils.explain.uncertainty import bootstrap_mean

REGIONS = (
    "forehead",
    "eyes",
    "nose",
    "cheeks",
    "mouth",
    "chin",
    "hair",
    "background",
)
ALIGNED = ("utkface", "utkface_csv")  # data sets whose faces lie where the regions are
FACE = dict(centre=(0.49, 0.50), half=(0.36, 0.48))  # an ellipse, (x, y)
BROW, LID, LIP, CHIN = 0.19, 0.38, 0.60, 0.80  # heights that part the face
HAIR = 0.45  # outside the face: hair above this height, background below
NOSE, MOUTH = (0.36, 0.62), (0.24, 0.75)  # widths


def region_masks(size) -> dict[str, np.ndarray]:
    """Masks of the named regions for pictures of `size` pixels.

    Returns
    -------
    dict
        Region name -> bool array [size, size]; each pixel belongs to exactly one region.

    Examples
    --------
    >>> masks = region_masks(100)
    >>> bool((sum(mask.astype(int) for mask in masks.values()) == 1).all())
    True
    """
    y, x = np.mgrid[:size, :size] / size + 0.5 / size
    (cx, cy), (a, b) = FACE["centre"], FACE["half"]
    face = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 <= 1
    nose = face & (y >= LID) & (y < LIP) & (x >= NOSE[0]) & (x < NOSE[1])
    mouth = face & (y >= LIP) & (y < CHIN) & (x >= MOUTH[0]) & (x < MOUTH[1])
    middle = face & (y >= LID) & (y < CHIN)
    return {
        "forehead": face & (y < BROW),
        "eyes": face & (y >= BROW) & (y < LID),
        "nose": nose,
        "cheeks": middle & ~nose & ~mouth,
        "mouth": mouth,
        "chin": face & (y >= CHIN),
        "hair": ~face & (y < HAIR),
        "background": ~face & (y >= HAIR),
    }


def attention_shares(maps) -> pd.DataFrame:
    """Share of each map's attention that falls on each region.

    Parameters
    ----------
    maps : array [n, s, s], >= 0

    Returns
    -------
    DataFrame
        One column a region, one row a map, rows sum to 1 (NaN for a map without attention).
    """
    maps = np.asarray(maps, np.float64)
    if maps.ndim != 3 or maps.shape[1] != maps.shape[2]:
        raise ValueError(f"maps of shape {maps.shape}; expected (n, s, s)")
    masks = region_masks(maps.shape[1])
    total = maps.sum(axis=(1, 2))
    total[total == 0] = np.nan
    return pd.DataFrame({name: maps[:, mask].sum(axis=1) / total for name, mask in masks.items()})


def region_areas(size=200) -> dict[str, float]:
    """Each region's share of the picture, which attention spread evenly would give."""
    return {name: float(mask.mean()) for name, mask in region_masks(size).items()}


def shares_table(shares, size=200, seed=129) -> pd.DataFrame:
    """Mean share per region with bootstrap intervals over faces.

    Parameters
    ----------
    shares : DataFrame
        From `attention_shares`.
    size : int
        Side of the pictures.

    Returns
    -------
    DataFrame
        Columns statistic (``attention_<region>``), value, ci_low, ci_high, n and ``area``
        (`region_areas`).
    """
    area = region_areas(size)
    rows = [
        {"statistic": f"attention_{name}", **bootstrap_mean(shares[name], seed), "area": area[name]}
        for name in shares
    ]
    return pd.DataFrame(rows)


def attention_table(maps, seed=129) -> pd.DataFrame:
    """`shares_table` of maps [n, s, s]."""
    return shares_table(attention_shares(maps), np.shape(maps)[1], seed)


def focus(shares, size=200) -> tuple[str, float]:
    """Region with the most attention for its area, and how many times its area's share that is.

    Parameters
    ----------
    shares : dict or Series
        Region -> mean share of attention.

    Examples
    --------
    >>> focus({"eyes": 0.9, "nose": 0.1})[0]
    'eyes'
    """
    area = region_areas(size)
    ratio = {name: value / area[name] for name, value in dict(shares).items()}
    ratio = {name: value for name, value in ratio.items() if np.isfinite(value)}
    if not ratio:
        return "nothing", 0.0
    best = max(ratio, key=ratio.get)
    return best, float(ratio[best])


def attention_differences(shares, families=1) -> pd.DataFrame:
    """Which regions differ between networks, on the same faces.

    Parameters
    ----------
    shares : dict
        Label of the network -> table of `attention_shares`, rows for the same faces.
    families : int
        Tables of this kind that are read together, such as tasks: all are corrected for.

    Returns
    -------
    DataFrame
        Columns first, second, region, value (first minus second), ci_low, ci_high, n and
        ``differs``: the interval, widened for the number of comparisons (Bonferroni), leaves
        out zero. It is the mean plus or minus normal quantiles of its standard error, as resamples
        cannot resolve tails that narrow.
    """
    labels = list(shares)
    pairs = [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
    z = NormalDist().inv_cdf(1 - 0.025 / max(len(pairs) * len(REGIONS) * families, 1))
    rows = []
    for first, second in pairs:
        for region in REGIONS:
            gap = shares[first][region].to_numpy() - shares[second][region].to_numpy()
            gap = gap[np.isfinite(gap)]
            wide = z * gap.std(ddof=1) / len(gap) ** 0.5 if len(gap) > 1 else np.inf
            row = {"value": gap.mean() if len(gap) else np.nan, "n": len(gap)}
            row |= {"ci_low": row["value"] - wide, "ci_high": row["value"] + wide}
            differs = bool(row["ci_low"] > 0 or row["ci_high"] < 0)
            rows.append(dict(first=first, second=second, region=region, **row, differs=differs))
    return pd.DataFrame(rows)
