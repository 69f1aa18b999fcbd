"""Which of two models is better, and could it be chance?

Both models are scored on the same faces, so the difference is bootstrapped over duplicate groups
with the same resamples for both (paired bootstrap). McNemar's test looks at the faces on which
one is right and the other wrong (McNemar 1947). With many pairs, p-values are corrected by
Holm's (1979) method.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from utils.datasets.facetable import DataError
from utils.evaluation.bootstrap import Resamples, groups_of, interval
from utils.evaluation.columns import (
    HEADLINE,
    LOWER_IS_BETTER,
    METRICS,
    known,
    part,
    predicted,
    truth,
)
from utils.evaluation.metrics import WITHIN_YEARS, metrics_from, statistics

COLUMNS = [
    "a",
    "b",
    "task",
    "metric",
    "value_a",
    "value_b",
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "only_a",
    "only_b",
    "p_mcnemar",
    "p_mcnemar_holm",
    "n",
]


def common_faces(predictions, task, split="test", least=0.5):
    """The same faces, in the same order, from all tables that hold the task.

    Parameters
    ----------
    predictions : dict of str to DataFrame
    least : float
        Tables that hold less than this share of the faces of the largest are left out.

    Returns
    -------
    dict of str to DataFrame
        Faces with a true label and a prediction in every table that stays.
    """
    tables = {}
    for run, table in predictions.items():
        faces = table[table["split"] == split] if split else table
        try:
            faces = faces[known(faces, task)]
        except DataError:
            continue
        if len(faces):
            tables[run] = faces.drop_duplicates("image").set_index("image")
    if not tables:
        return {}
    largest = max(map(len, tables.values()))
    tables = {run: table for run, table in tables.items() if len(table) >= least * largest}
    shared = sorted(set.intersection(*(set(table.index) for table in tables.values())))
    return {run: table.loc[shared].reset_index() for run, table in tables.items()}


def correct(faces, task):
    """Whether each face is judged rightly; for age, within 5 years."""
    gap = predicted(faces, task) - truth(faces, task)
    return np.abs(gap) <= WITHIN_YEARS if task == "age" else gap == 0


def mcnemar(right_a, right_b):
    """McNemar's test, exact (binomial) for fewer than 25 discordant faces.

    Parameters
    ----------
    right_a, right_b : ndarray of bool, shape [n]

    Returns
    -------
    (only_a, only_b, p)
        Faces that only one of the two has right, and the two-sided p-value; with 25 or more, the
        chi-squared test with Edwards' (1948) correction. Faces count as independent.

    >>> only_a, only_b, p = mcnemar(np.array([1, 1, 1, 1, 1, 0]) > 0, np.zeros(6) > 0)
    >>> only_a, only_b, round(p, 4)
    (5, 0, 0.0625)
    """
    right_a, right_b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    discordant = only_a + only_b
    if discordant == 0:
        return only_a, only_b, 1.0
    if discordant < 25:
        return only_a, only_b, float(stats.binomtest(only_a, discordant).pvalue)
    statistic = (abs(only_a - only_b) - 1) ** 2 / discordant if only_a != only_b else 0.0
    return only_a, only_b, float(stats.chi2.sf(statistic, 1))


def holm(p):
    """Holm's step-down correction of p-values, in the order given.

    >>> [round(float(value), 3) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, float)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty(len(p))
    result[order] = np.minimum(stepped, 1.0)
    return result


def bootstrap_p(difference, spread):
    """Two-sided p-value of a difference from its bootstrap standard error (normal theory).

    Counting resamples on the other side of zero cannot give p below 1 / resamples, too coarse for
    Holm's correction over many pairs.
    """
    error = float(np.nanstd(spread, ddof=1))
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * stats.norm.sf(abs(difference) / error))


def compare(predictions, task, metric=None, groups=None, split="test", n=2000, seed=129):
    """All pairs of models on one metric.

    Parameters
    ----------
    predictions : dict of str to DataFrame
        Per run its predictions; all are scored on the faces that they share.
    task : str
    metric : str, optional
        By default the task's headline metric.
    groups : DataFrame, optional
        Columns image and group.
    split, n, seed
        Faces compared, resamples and their seed.

    Returns
    -------
    DataFrame
        One row a pair: a, b, values, difference (a minus b) with 95 % interval, p and p_holm of
        the paired bootstrap; only_a, only_b, p_mcnemar, p_mcnemar_holm; n faces.
    """
    metric = metric or HEADLINE[task]
    if metric not in METRICS[task]:
        expected = ", ".join(METRICS[task])
        raise ValueError(f"{task} has no metric {metric!r}; expected one of {expected}")
    tables = common_faces(predictions, task, split)
    if len(tables) < 2:
        return pd.DataFrame(columns=COLUMNS)
    first = next(iter(tables.values()))
    if first.empty:
        raise DataError(f"{task}: {', '.join(tables)} share no face of split {split!r}")
    drawn = Resamples(groups_of(first, groups), n, seed)
    value, spread, right = {}, {}, {}
    for run, faces in tables.items():
        parts = statistics(faces, task)
        value[run] = float(metrics_from(task, parts.sum(axis=0))[metric])
        spread[run] = metrics_from(task, drawn.sums(parts))[metric]
        right[run] = correct(faces, task)
    rows = []
    for a, b in combinations(tables, 2):
        gap, gaps = value[a] - value[b], spread[a] - spread[b]
        p = bootstrap_p(gap, gaps)
        rows.append(
            (
                a,
                b,
                task,
                metric,
                value[a],
                value[b],
                gap,
                *interval(gaps),
                p,
                np.nan,
                *mcnemar(right[a], right[b]),
                np.nan,
                len(first),
            )
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.assign(p_holm=holm(table["p"]), p_mcnemar_holm=holm(table["p_mcnemar"]))


def beats(pairs, alpha=0.05):
    """Who beats whom: 1 where the row is better than the column, -1 where worse, 0 undecided.

    Parameters
    ----------
    pairs : DataFrame
        From `compare`; decided by `p_holm` of the paired bootstrap.

    Returns
    -------
    DataFrame, shape [models, models]
        Sorted from best to worst value.
    """
    if pairs.empty:
        return pd.DataFrame(dtype=int)
    lower = pairs["metric"].iloc[0] in LOWER_IS_BETTER
    values = pd.concat([pairs.set_index("a")["value_a"], pairs.set_index("b")["value_b"]])
    names = values[~values.index.duplicated()].sort_values(ascending=lower).index
    matrix = pd.DataFrame(0, index=list(names), columns=list(names))
    for row in pairs.itertuples():
        if row.p_holm < alpha:
            sign = int(np.sign(row.difference)) * (-1 if lower else 1)
            matrix.loc[row.a, row.b], matrix.loc[row.b, row.a] = sign, -sign
    return matrix


def undecided(pairs, run, task, alpha=0.05):
    """Runs that the test faces do not tell apart from `run`, by the rule of `beats`.

    Parameters
    ----------
    pairs : DataFrame or None
        From `compare`, of any tasks.
    run, task : str

    Returns
    -------
    list of str
    """
    if pairs is None or pairs.empty:
        return []
    rows = pairs[(pairs["task"] == task) & (pairs["p_holm"] >= alpha)]
    return [*rows.loc[rows["a"] == run, "b"], *rows.loc[rows["b"] == run, "a"]]


def difference(first, second, task, metric=None, groups=None, split="test", n=2000, seed=129):
    """Difference of two models scored on *different* faces, with a 95 % interval.

    Returns
    -------
    dict
        value_a, value_b, difference (a minus b), ci_low, ci_high, p, n_a, n_b.
    """
    metric = metric or HEADLINE[task]
    values, spreads, sizes = [], [], []
    for number, table in enumerate((first, second)):
        faces = part(table, split)
        parts = statistics(faces, task)
        drawn = Resamples(groups_of(faces, groups), n, seed + number)  # independent draws
        values.append(float(metrics_from(task, parts.sum(axis=0))[metric]))
        spreads.append(metrics_from(task, drawn.sums(parts))[metric])
        sizes.append(int(known(faces, task).sum()))
    gap, gaps = values[0] - values[1], spreads[0] - spreads[1]
    low, high = map(float, interval(gaps))
    return {
        "task": task,
        "metric": metric,
        "value_a": values[0],
        "value_b": values[1],
        "difference": gap,
        "ci_low": low,
        "ci_high": high,
        "p": bootstrap_p(gap, gaps),
        "n_a": sizes[0],
        "n_b": sizes[1],
    }
