"""Cluster bootstrap: how certain a metric is, when some faces are near-duplicates of others.

Faces of one duplicate group rise and fall together, so groups are drawn, not faces (Davison and
Hinkley 1997, section 3.8). Each metric is a function of sums over faces; a resample is a vector of
counts per group, and all resamples of all metrics are one matrix product.
"""

import functools

import numpy as np
import pandas as pd
from scipy import stats

from utils.evaluation.columns import part
from utils.evaluation.metrics import evaluate, metrics_from, statistics
from utils.files import DataError, require

HELD = 2**25  # counts in memory at a time: all resamples of up to 16,000 groups


class Resamples:
    """Counts [groups, n] of resamples of the groups (one of each face), shared by all metrics.

    Kept if at most `HELD`; else every use draws the same ones again, a block at a time.
    """

    def __init__(self, groups, n=2000, seed=129):
        self.codes, names = pd.factorize(np.asarray(groups, dtype=object))
        if not len(names) or (self.codes < 0).any():
            raise DataError("bootstrap: no faces, or some without a group; give each face a group")
        if n < 2:
            raise ValueError(f"bootstrap: {n} resamples asked for; expected at least 2")
        self.shape, self.seed = (len(names), n), seed
        self.counts = next(self._drawn()) if len(names) * n <= HELD else None

    def _drawn(self):
        (size, n), draw = self.shape, np.random.default_rng(self.seed)
        step = max(1, HELD // size)
        for start in range(0, n, step):
            each = (draw.integers(0, size, size) for _ in range(min(step, n - start)))
            # Single precision: exact up to 16 million, and the product is twice as fast.
            rows = np.array([np.bincount(drawn, minlength=size) for drawn in each], np.float32)
            yield np.ascontiguousarray(rows.T)

    def sums(self, values, mask=None):
        """Sums of `values` [faces, d] over the faces of each resample: [resamples, d].

        With a bool `mask` [faces] only over its faces; a small part costs a small part of the time.
        """
        values = np.asarray(values, float)
        codes, present = self.codes, slice(None)
        if mask is not None:
            present, codes = np.unique(codes[mask], return_inverse=True)
            values = values[mask]
        grouped = np.zeros((self.shape[0] if mask is None else len(present), values.shape[1]))
        np.add.at(grouped, codes, values)
        grouped = grouped.T.astype(np.float32)
        blocks = self._drawn() if self.counts is None else [self.counts]
        sums = np.concatenate([grouped @ counts[present] for counts in blocks], axis=1)
        return sums.T.astype(float)

    def mean(self, values, mask):
        """Mean of `values` [faces] over the faces of a mask: value, ci_low, ci_high, n."""
        top, n = self.sums(np.stack([np.where(mask, values, 0), mask], axis=1)).T
        with np.errstate(invalid="ignore", divide="ignore"):
            low, high = interval(top / n)
        value = float(np.mean(values[mask], dtype=float))
        return {"value": value, "ci_low": low, "ci_high": high, "n": int(mask.sum())}


_draw = functools.lru_cache(maxsize=4)(Resamples)


def draw(faces, splits=None, n=2000, seed=129):
    """Resamples of the duplicate groups (`groups_of`) of some faces; kept for the next run."""
    return _draw(tuple(groups_of(faces, splits)), n, seed)


def groups_of(predictions, splits=None):
    """Group of each face [n], from `splits` or the predictions' own column; else it is its own."""
    require(predictions, ["image"])
    image = predictions["image"]
    if splits is None:
        group = predictions.get("group", image)
    else:
        require(splits, ["image", "group"], "the split")
        group = splits.drop_duplicates("image").set_index("image")["group"].reindex(image)
    return np.where(group.isna().to_numpy(), image.to_numpy(object), group.to_numpy(object))


def interval(values, level=0.95):
    """Percentile interval of resampled values, resamples without faces left out."""
    tail, values = 100 * (1 - level) / 2, np.asarray(values, float)
    if np.isnan(values).all():
        return np.nan, np.nan
    return tuple(map(float, np.nanpercentile(values, [tail, 100 - tail])))


def gap(first, second):
    """Difference of two (value, resampled values): difference, ci_low, ci_high and p.

    p is two-sided, from the bootstrap standard error (normal theory): counting resamples beyond
    zero gives no p below 1 / n, too coarse for Holm's correction.
    """
    difference, spread = first[0] - second[0], first[1] - second[1]
    (low, high), p = interval(spread), np.nan
    if np.isfinite(difference):
        error = np.nanstd(spread, ddof=1)
        p = float(2 * stats.norm.sf(abs(difference) / error) if error else difference == 0)
    return {"difference": difference, "ci_low": low, "ci_high": high, "p": p}


def scored(faces, drawn, task, metric, mask=None):
    """Value of a metric on some faces, and its value on every resample of them."""
    parts = statistics(faces, task) * (1 if mask is None else mask[:, None])
    value = float(metrics_from(task, parts.sum(axis=0))[metric])
    return value, metrics_from(task, drawn.sums(parts))[metric]


def over_seeds(values, seed):
    """Mean of (value, resampled values [n]) of some runs; for each resample runs are drawn anew."""
    spread = np.stack([resampled for _, resampled in values])
    drawn = np.random.default_rng(seed).integers(0, len(spread), spread.shape)
    mean = float(np.mean([value for value, _ in values]))
    return mean, np.take_along_axis(spread, drawn, axis=0).mean(axis=0)


def bootstrap_mean(values, groups=None, seed=129, resamples=2000) -> dict:
    """Mean of one number a face (NaN is left out), its 95 % interval over groups, and the faces."""
    values = np.asarray(values, float)
    use = np.isfinite(values)
    if not use.any():
        return {"value": np.nan, "ci_low": np.nan, "ci_high": np.nan, "n": 0}
    labels = np.arange(len(values)) if groups is None else np.asarray(groups, object)
    return _draw(tuple(labels[use]), resamples, seed).mean(values[use], use[use])


def intervals(predictions, groups=None, split="test", n=2000, seed=129):
    """All metrics of one split: task, metric, split, value, n (faces), ci_low, ci_high (95 %).

    `groups` is a table of image and group, or Resamples already drawn for these faces.
    """
    faces = part(predictions, split)
    drawn = groups if isinstance(groups, Resamples) else draw(faces, groups, n, seed)
    table = evaluate(faces, (split,))
    tasks = table["task"].unique()
    spread = {task: metrics_from(task, drawn.sums(statistics(faces, task))) for task in tasks}
    ends = [interval(spread[task][metric]) for task, metric in table[["task", "metric"]].to_numpy()]
    return table.join(pd.DataFrame(ends, columns=["ci_low", "ci_high"], dtype=float))
