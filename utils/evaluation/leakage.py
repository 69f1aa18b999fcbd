"""What a leaking split is worth.

On the naive random split some test faces have a near-copy among the training faces. Two views:
the same protocol on both splits, and, within the naive run, test faces with such a copy against
those without.
"""

import numpy as np
import pandas as pd

from utils.evaluation.bootstrap import Resamples, groups_of, interval
from utils.evaluation.columns import HEADLINE, known, part, require, tasks_of
from utils.evaluation.metrics import metrics_from, statistics
from utils.evaluation.pairwise import bootstrap_p, difference


def split_effect(group_run, naive_run, groups=None, resamples=2000, seed=129):
    """Naive minus group-aware split, per task, for one protocol.

    Parameters
    ----------
    group_run, naive_run : DataFrame
        Predictions of the same protocol on both splits.
    groups : DataFrame, optional
        Columns image and group.

    Returns
    -------
    DataFrame
        Columns task, metric, naive, group, difference, ci_low, ci_high, p, n_naive, n_group. The
        test faces differ, so the two are resampled independently.
    """
    shared = [task for task in tasks_of(part(group_run, "test")) if task in tasks_of(naive_run)]
    rows = [
        difference(naive_run, group_run, task, groups=groups, n=resamples, seed=seed)
        for task in shared
    ]
    names = {"value_a": "naive", "value_b": "group", "n_a": "n_naive", "n_b": "n_group"}
    columns = [
        "task",
        "metric",
        "naive",
        "group",
        "difference",
        "ci_low",
        "ci_high",
        "p",
        "n_naive",
        "n_group",
    ]
    return pd.DataFrame(rows).rename(columns=names).reindex(columns=columns)


def leaked(predictions, splits, split="test"):
    """Which faces of a split have a member of their group in training.

    Parameters
    ----------
    predictions : DataFrame
        With image and split, of all splits; faces that it lacks (training faces are often not
        written) count as training faces if `splits` holds them.
    splits : DataFrame
        Columns image and group.

    Returns
    -------
    ndarray of bool
        One entry for each face of `part(predictions, split)`.
    """
    require(splits, ["image", "group"], "splits")
    here = predictions.set_index("image")["split"]
    other = splits["image"].map(here).fillna("train").eq("train").to_numpy()
    crossing = set(splits["group"][other])
    return np.array([group in crossing for group in groups_of(part(predictions, split), splits)])


def copies_effect(naive_run, splits, resamples=2000, seed=129):
    """Within a naive run: test faces with a copy in training against those without.

    Returns
    -------
    DataFrame
        Columns task, metric, with_copy, without, difference, ci_low, ci_high, p, n_with, n_without.
    """
    faces = part(naive_run, "test")
    mark = leaked(naive_run, splits)
    drawn = Resamples(groups_of(faces, splits), resamples, seed)
    rows = []
    for task in tasks_of(faces):
        metric, parts = HEADLINE[task], statistics(faces, task)
        sides = [parts * mark[:, None], parts * ~mark[:, None]]
        value = [float(metrics_from(task, side.sum(axis=0))[metric]) for side in sides]
        spread = [metrics_from(task, drawn.sums(side))[metric] for side in sides]
        gaps, use = spread[0] - spread[1], known(faces, task)
        gap = value[0] - value[1]
        p = bootstrap_p(gap, gaps) if np.isfinite(gap) else np.nan
        rows.append(
            (
                task,
                metric,
                *value,
                gap,
                *interval(gaps),
                p,
                int((use & mark).sum()),
                int((use & ~mark).sum()),
            )
        )
    columns = [
        "task",
        "metric",
        "with_copy",
        "without",
        "difference",
        "ci_low",
        "ci_high",
        "p",
        "n_with",
        "n_without",
    ]
    return pd.DataFrame(rows, columns=columns)
