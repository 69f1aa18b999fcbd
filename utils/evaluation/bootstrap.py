"""Cluster bootstrap: how certain a metric is, when some faces are near-duplicates of others.

Faces of one duplicate group rise and fall together, so groups are drawn, not faces (Davison and
Hinkley 1997, section 3.8). Each metric is a function of sums over faces; a resample is a vector of
counts per group, and all resamples of all metrics are one matrix product.
"""

import functools

import numpy as np
import pandas as pd
from scipy import stats

from utils.evaluation.columns import known, part, require, tasks_of
from utils.evaluation.metrics import metrics_from, statistics
from utils.files import DataError
from utils.vocabulary import METRICS


class Resamples:
    """Counts [groups, n] of resamples of the groups (one of each face), shared by all metrics."""

    def __init__(self, groups, n=2000, seed=129):
        self.codes, names = pd.factorize(np.asarray(groups, dtype=object))
        if not len(names) or (self.codes < 0).any():
            raise DataError("bootstrap: no faces, or some without a group; give each face a group")
        if n < 2:
            raise ValueError(f"bootstrap: {n} resamples asked for; expected at least 2")
        draw, size = np.random.default_rng(seed), len(names)
        # Single precision: counts stay exact up to 16 million, and the product is twice as fast.
        rows = [np.bincount(draw.integers(0, size, size), minlength=size) for _ in range(n)]
        self.counts = np.ascontiguousarray(np.array(rows, np.float32).T)

    def sums(self, values, mask=None):
        """Sums of `values` [faces, d] over the faces of each resample: [resamples, d].

        With a bool `mask` [faces] only over its faces; a small part costs a small part of the time.
        """
        values = np.asarray(values, float)
        if len(values) != len(self.codes):
            seen = f"{len(values)} rows of values for {len(self.codes)} faces"
            raise ValueError(f"bootstrap: {seen}; pass the faces that they were drawn for")
        codes, counts = self.codes, self.counts
        if mask is not None:
            present, codes = np.unique(codes[mask], return_inverse=True)
            values, counts = values[mask], counts[present]
        grouped = np.zeros((len(counts), values.shape[1]))
        np.add.at(grouped, codes, values)
        return (grouped.T.astype(np.float32) @ counts).T.astype(float)

    def table(self, values, masks, name="value"):
        """Mean of `values` [faces] over each part of the faces, with its interval.

        `masks` holds bool [faces] by group. Columns group, `name`, ci_low, ci_high, n.
        """
        values, members = np.asarray(values, float), np.stack(list(masks.values()), axis=1)
        sums, rows = self.sums(np.hstack([members * values[:, None], members])).T, []
        for number, (group, mask) in enumerate(masks.items()):
            if mask.any():
                with np.errstate(invalid="ignore", divide="ignore"):
                    spread = sums[number] / sums[number + len(masks)]
                rows.append((group, values[mask].mean(), *interval(spread), int(mask.sum())))
        return pd.DataFrame(rows, columns=["group", name, "ci_low", "ci_high", "n"])


_draw = functools.lru_cache(maxsize=4)(Resamples)


def draw(faces, splits=None, n=2000, seed=129):
    """Resamples of the duplicate groups (`groups_of`) of some faces; kept for the next run."""
    return _draw(tuple(groups_of(faces, splits)), n, seed)


def interval(values, level=0.95):
    """Percentile interval of resampled values, resamples without faces left out."""
    tail, values = 100 * (1 - level) / 2, np.asarray(values, float)
    if np.isnan(values).all():
        return np.nan, np.nan
    return tuple(map(float, np.nanpercentile(values, [tail, 100 - tail])))


def bootstrap_p(difference, spread):
    """Two-sided p-value of a difference from its bootstrap standard error (normal theory).

    Counting resamples beyond zero gives no p below 1 / n, too coarse for Holm's correction.
    """
    error = float(np.nanstd(spread, ddof=1))
    return float(2 * stats.norm.sf(abs(difference) / error) if error else difference == 0)


def gap(first, second):
    """Difference of two (value, resampled values): difference, ci_low, ci_high and p."""
    difference, spread = first[0] - second[0], first[1] - second[1]
    low, high = interval(spread)
    p = bootstrap_p(difference, spread) if np.isfinite(difference) else np.nan
    return {"difference": difference, "ci_low": low, "ci_high": high, "p": p}


def scored(faces, drawn, task, metric, mask=None):
    """Value of a metric on some faces, and its value on every resample of them."""
    parts = statistics(faces, task) * (1 if mask is None else mask[:, None])
    value = float(metrics_from(task, parts.sum(axis=0))[metric])
    return value, metrics_from(task, drawn.sums(parts))[metric]


def bootstrap_mean(values, groups=None, seed=129, resamples=2000) -> dict:
    """Mean of one number a face (NaN is left out), its 95 % interval over groups, and the faces."""
    values = np.asarray(values, np.float64)
    use = np.isfinite(values)
    if not use.any():
        return {"value": np.nan, "ci_low": np.nan, "ci_high": np.nan, "n": 0}
    labels = np.arange(len(values)) if groups is None else np.asarray(groups, object)
    codes = pd.factorize(labels[use])[0]
    size, sums = np.bincount(codes), np.bincount(codes, values[use])
    rng, means = np.random.default_rng(seed), []
    for _ in range(-(-resamples // 100)):  # in parts: 2,000 x 5,000 numbers would take 160 MB
        drawn = rng.integers(0, len(size), (100, len(size)))
        means.append(sums[drawn].sum(axis=1) / size[drawn].sum(axis=1))
    low, high = interval(np.concatenate(means))
    value = float(values[use].mean())
    return {"value": value, "ci_low": low, "ci_high": high, "n": int(use.sum())}


def groups_of(predictions, splits=None):
    """Group of each face [n], from `splits` or the predictions' own column; else it is its own."""
    require(predictions, ["image"])
    image = predictions["image"]
    if splits is None:
        group = predictions.get("group", image)
    else:
        require(splits, ["image", "group"], "splits")
        group = splits.drop_duplicates("image").set_index("image")["group"].reindex(image)
    return np.where(group.isna().to_numpy(), image.to_numpy(object), group.to_numpy(object))


def intervals(predictions, groups=None, split="test", n=2000, seed=129):
    """All metrics of one split: task, metric, split, value, n (faces), ci_low, ci_high (95 %).

    `groups` is a table of image and group, or Resamples already drawn for these faces.
    """
    faces, rows = part(predictions, split), []
    drawn = groups if isinstance(groups, Resamples) else draw(faces, groups, n, seed)
    for task in tasks_of(faces):
        parts, faces_n = statistics(faces, task), int(known(faces, task).sum())
        values, spread = (metrics_from(task, s) for s in (parts.sum(axis=0), drawn.sums(parts)))
        for metric in METRICS[task]:
            ends = interval(spread[metric])
            rows.append((task, metric, split, float(values[metric]), faces_n, *ends))
    return pd.DataFrame(rows, columns="task metric split value n ci_low ci_high".split())
