"""Cluster bootstrap: how sure a metric is, when some faces are near-copies of others.

Faces of one duplicate group rise and fall together, so groups are drawn, not faces (Davison and
Hinkley 1997, section 3.8). Each metric is a function of sums over faces; a resample is a vector of
counts per group, and all resamples of all metrics are one matrix product.
"""

import numpy as np
import pandas as pd

from utils.datasets.facetable import DataError
from utils.evaluation.columns import METRICS, known, part, require, tasks_of
from utils.evaluation.metrics import metrics_from, statistics

LEVEL = 0.95


class Resamples:
    """Counts of `n` resamples of the groups, drawn once and shared by all metrics and runs.

    Parameters
    ----------
    groups : sequence, length faces
        Group of each face.
    n : int
        Number of resamples.
    seed : int
    """

    def __init__(self, groups, n=2000, seed=129):
        self.codes, names = pd.factorize(np.asarray(groups, dtype=object))
        if not len(names):
            raise DataError("bootstrap: no faces to draw from; check the split and the group names")
        if (self.codes < 0).any():
            raise DataError("bootstrap: some faces have no group; give each face a group")
        if n < 2:
            raise ValueError(f"bootstrap: {n} resamples asked for; expected at least 2")
        draw = np.random.default_rng(seed)
        size = len(names)
        # Single precision: counts stay exact up to 16 million, and the product is twice as fast.
        rows = [np.bincount(draw.integers(0, size, size), minlength=size) for _ in range(n)]
        self.counts = np.ascontiguousarray(np.array(rows, np.float32).T)  # [groups, n]

    def sums(self, values, mask=None):
        """Sum of `values` over the faces of each resample.

        Parameters
        ----------
        values : ndarray, shape [faces, d]
        mask : ndarray of bool, shape [faces], optional
            Faces to sum over; a small part of them costs a small part of the time.

        Returns
        -------
        ndarray, shape [resamples, d]
        """
        values = np.asarray(values, float)
        if len(values) != len(self.codes):
            raise ValueError(
                f"bootstrap: {len(values)} rows of values for {len(self.codes)} faces; "
                "pass the faces that the resamples were drawn for"
            )
        codes, counts = self.codes, self.counts
        if mask is not None:
            present, codes = np.unique(codes[mask], return_inverse=True)
            values, counts = values[mask], counts[present]
        grouped = np.zeros((len(counts), values.shape[1]))
        np.add.at(grouped, codes, values)
        return (grouped.T.astype(np.float32) @ counts).T.astype(float)


def interval(values, level=LEVEL):
    """Percentile interval along the first axis, resamples without faces left out.

    >>> [round(float(end), 6) for end in interval(np.arange(101.0), 0.9)]
    [5.0, 95.0]
    """
    tail = 100 * (1 - level) / 2
    values = np.asarray(values, float)
    if np.isnan(values).all():
        return np.nan, np.nan
    return tuple(np.nanpercentile(values, [tail, 100 - tail], axis=0))


def groups_of(predictions, splits=None):
    """Duplicate group of each face.

    Parameters
    ----------
    predictions : DataFrame
        With a column `image`, and `group` where `splits` is None.
    splits : DataFrame, optional
        Columns image and group, as in `splits/utkface.csv`.

    Returns
    -------
    ndarray of object, shape [n]
        A face that has no known group is its own group.
    """
    require(predictions, ["image"])
    image = predictions["image"]
    if splits is None:
        group = predictions.get("group", image)
    else:
        require(splits, ["image", "group"], "splits")
        group = splits.drop_duplicates("image").set_index("image")["group"].reindex(image)
    return np.where(group.isna().to_numpy(), image.to_numpy(object), group.to_numpy(object))


def metric_resamples(faces, resamples):
    """Every metric of every task on every resample.

    Returns
    -------
    dict
        (task, metric) -> ndarray, shape [resamples]
    """
    result = {}
    for task in tasks_of(faces):
        values = metrics_from(task, resamples.sums(statistics(faces, task)))
        result.update({(task, metric): values[metric] for metric in METRICS[task]})
    return result


def intervals(predictions, groups=None, split="test", n=2000, seed=129, level=LEVEL):
    """All metrics of one split with their bootstrap intervals.

    Parameters
    ----------
    predictions : DataFrame
    groups : DataFrame or Resamples, optional
        Table of image and group, or resamples already drawn for these faces.
    split : str
    n, seed, level
        Resamples, seed and confidence level.

    Returns
    -------
    DataFrame
        Columns task, metric, split, value, n, ci_low, ci_high.
    """
    faces = part(predictions, split)
    drawn = groups
    if not isinstance(groups, Resamples):
        drawn = Resamples(groups_of(faces, groups), n, seed)
    rows = []
    spread = metric_resamples(faces, drawn)
    for task in tasks_of(faces):
        values = metrics_from(task, statistics(faces, task).sum(axis=0))
        count = int(known(faces, task).sum())
        for metric in METRICS[task]:
            ends = interval(spread[task, metric], level)
            rows.append((task, metric, split, float(values[metric]), count, *map(float, ends)))
    return pd.DataFrame(
        rows, columns=["task", "metric", "split", "value", "n", "ci_low", "ci_high"]
    )
