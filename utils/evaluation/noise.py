"""What the labels allow: disagreement inside duplicate groups, and heaping of ages.

Two files that show the same picture should carry the same labels. Where they do not, at least one
label is wrong, and no model can agree with both. From that follows a bound that holds for every
kind of label error that strikes the copies alike and independently:

* classes: P(labels differ) <= 2 P(a label is wrong), so accuracy <= 1 - P(differ) / 2;
* years: |a - b| <= |a - t| + |b - t|, so mean absolute error >= mean |a - b| / 2;
* within 5 years: |a - b| > 10 means that one is off by more than 5, so cs5 <= 1 - P(.) / 2.

The bounds are optimistic, and copies may be labelled worse than other pictures: read them as an
indication, not as a law.
"""

import numpy as np
import pandas as pd

from utils.evaluation.bootstrap import Resamples, interval
from utils.evaluation.columns import HEADLINE, METRICS, require, truth, truth_column

TASKS = ("age", "age_bin", "gender", "ethnicity")


def duplicate_faces(table, task):
    """Faces with a known label that share their group with another such face."""
    require(table, ["group"], "labels")
    rows = table[table[truth_column(task)].notna()]
    return rows[rows.groupby("group")["group"].transform("size") > 1].reset_index(drop=True)


def label_conflicts(table):
    """How many duplicate groups hold more than one label.

    Parameters
    ----------
    table : DataFrame
        Columns group and any of age, gender, ethnicity.

    Returns
    -------
    DataFrame
        Columns task, groups, conflicts, conflict_share; a row for age, gender and ethnicity, as
        far as the labels are known for some duplicates.
    """
    rows = []
    for task in ("age", "gender", "ethnicity"):
        if task not in table:
            continue
        twins = duplicate_faces(table, task)
        if len(twins):
            differs = twins.groupby("group")[task].nunique() > 1
            rows.append((task, len(differs), int(differs.sum()), float(differs.mean())))
    return pd.DataFrame(rows, columns=["task", "groups", "conflicts", "conflict_share"])


def _pairs(twins, task):
    """Each group's mean over its pairs of (difference, differs by more than 10 or at all)."""
    labels = pd.Series(truth(twins, task))
    rows = []
    for _, values in labels.groupby(twins["group"].to_numpy()):
        a, b = np.triu_indices(len(values), 1)
        gap = np.abs(values.to_numpy(float)[a] - values.to_numpy(float)[b])
        rows.append((1.0, gap.mean(), np.mean(gap > (10 if task == "age" else 0))))
    return np.array(rows)


def ceilings(table, resamples=2000, seed=129):
    """Best value that any model can be expected to reach against these labels.

    Parameters
    ----------
    table : DataFrame
        Columns group, age, gender, ethnicity. Groups must be copies of one picture, not other
        pictures of one person.

    Returns
    -------
    DataFrame
        Columns task, metric, ceiling, ci_low, ci_high, groups: a lower bound for mae, upper bounds
        for cs5 and accuracy (see the module's notes).
    """
    rows = []
    for task in TASKS:
        if truth_column(task) not in table:
            continue
        twins = duplicate_faces(table, task)
        if twins.empty:
            continue
        pairs = _pairs(twins, task)
        drawn = Resamples(np.arange(len(pairs)), resamples, seed).sums(pairs)
        for metric in METRICS[task] if task == "age" else (HEADLINE[task],):
            value = _bound(metric, pairs.sum(axis=0))
            ends = interval(_bound(metric, drawn))
            rows.append((task, metric, float(value), *map(float, ends), len(pairs)))
    return pd.DataFrame(rows, columns=["task", "metric", "ceiling", "ci_low", "ci_high", "groups"])


def _bound(metric, sums):
    if metric == "mae":
        return sums[..., 1] / sums[..., 0] / 2
    return 1 - sums[..., 2] / sums[..., 0] / 2


def heaping_index(ages):
    """Whipple's index: how far ages from 23 to 62 prefer to end in 0 or 5.

    Returns
    -------
    float
        100 without heaping, 500 where all ages end in 0 or 5, NaN without ages in the range.
        Source: United Nations, Demographic Yearbook 1955.

    >>> heaping_index(range(23, 63)), heaping_index([25, 30, 35])
    (100.0, 500.0)
    """
    ages = np.asarray(list(ages), float)
    ages = np.floor(ages[(ages >= 23) & (ages < 63)])
    return float(500 * np.mean(ages % 5 == 0)) if len(ages) else float("nan")


def error_by_digit(faces, resamples):
    """Age error by the last digit of the true age.

    Parameters
    ----------
    faces : DataFrame
        Predictions of one split, with `age` and `pred_age`.
    resamples : Resamples
        Drawn for these faces.

    Returns
    -------
    DataFrame
        Columns digit, mae (years), ci_low, ci_high, n, share, mae_equal_ages (each decade weighed
        as in all faces: the error grows with age, and ages that end in 0 or 5 are older than the
        others); one row for each digit seen.
    """
    require(faces, ["age", "pred_age"])
    use = faces[["age", "pred_age"]].notna().all(axis=1).to_numpy()
    error = np.where(use, np.abs(faces["pred_age"] - faces["age"]), 0.0)
    digit = np.where(use, faces["age"].fillna(0) % 10, -1).astype(int)
    member = digit[:, None] == np.arange(10)
    drawn = resamples.sums(np.hstack([member * error[:, None], member]))
    rows = []
    with np.errstate(invalid="ignore"):
        spread = drawn[:, :10] / drawn[:, 10:]
    for value in np.flatnonzero(member.any(axis=0)):
        here = member[:, value]
        ends = interval(spread[:, value])
        rows.append((value, error[here].mean(), *ends, int(here.sum()), here.sum() / use.sum()))
    table = pd.DataFrame(rows, columns=["digit", "mae", "ci_low", "ci_high", "n", "share"])
    decade = (faces["age"].fillna(0) // 10).to_numpy(int)
    cells = pd.DataFrame({"error": error, "digit": digit, "decade": decade})[use]
    mean = cells.pivot_table(index="decade", columns="digit", values="error")
    mean = mean.dropna()  # only decades that hold every digit can be compared
    weight = cells["decade"].value_counts().reindex(mean.index)
    equal = mean.mul(weight, axis=0).sum() / weight.sum()
    return table.assign(mae_equal_ages=table["digit"].map(equal))
