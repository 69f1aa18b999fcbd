"""For whom: errors by age bin, gender and ethnicity, with their size and uncertainty.

Groups with few faces are marked and never ranked: their extremes are mostly chance.
"""

from itertools import combinations, product

import numpy as np
import pandas as pd

from utils.datasets.facetable import AGE_BINS
from utils.evaluation.bootstrap import interval
from utils.evaluation.columns import (
    CLASSES,
    HEADLINE,
    LOWER_IS_BETTER,
    known,
    predicted,
    tasks_of,
    truth,
)
from utils.evaluation.metrics import statistics

SMALL = 30
AXES = ("age_bin", "gender", "ethnicity")


def attributes(faces):
    """True age bin, gender and ethnicity of each face as text; missing ones as None.

    Returns
    -------
    DataFrame
        Columns age_bin, gender, ethnicity, as far as the table has them.
    """
    result = {}
    for axis in AXES:
        if ("age" if axis == "age_bin" else axis) in faces:
            codes = truth(faces, axis)
            names = np.array([*CLASSES[axis], None], dtype=object)
            if (codes >= 0).any():
                result[axis] = names[codes]
    return pd.DataFrame(result, index=faces.index)


def groupings(names):
    """All ways to cross the attributes, from one at a time to all of them.

    >>> groupings(["gender", "ethnicity"])
    [('gender',), ('ethnicity',), ('gender', 'ethnicity')]
    """
    return [keys for size in range(1, len(names) + 1) for keys in combinations(names, size)]


def subgroups(faces, resamples, tasks=None):
    """Headline metric of each task in each subgroup, and the signed bias of the age.

    Parameters
    ----------
    faces : DataFrame
        Predictions of one split.
    resamples : Resamples
        Drawn for these faces.
    tasks : sequence of str, optional

    Returns
    -------
    DataFrame
        Columns task, metric (`bias` for predicted minus true age), by (crossed attributes), group,
        age_bin, gender, ethnicity (empty where not part of it), value, ci_low, ci_high, n, small.
    """
    scores = _scores(faces, tasks or tasks_of(faces))
    flat = np.hstack([np.stack(pair, axis=1) for pair in scores.values()])
    rows = []
    for keys, values, mask in _members(faces):
        drawn = resamples.sums(flat, mask)
        for number, ((task, metric), (top, bottom)) in enumerate(scores.items()):
            n = int(bottom[mask].sum())
            if not n:
                continue
            with np.errstate(invalid="ignore", divide="ignore"):
                spread = drawn[:, 2 * number] / drawn[:, 2 * number + 1]
            ends = interval(spread) if n > 1 else (np.nan, np.nan)
            rows.append(_row(task, metric, keys, values, float(top[mask].sum() / n), ends, n))
    columns = ["task", "metric", "by", "group", *AXES, "value", "ci_low", "ci_high", "n", "small"]
    return pd.DataFrame(rows, columns=columns)


def _scores(faces, tasks):
    """(task, metric) -> per face the numerator and denominator of its mean."""
    result = {}
    for task in tasks:
        parts = statistics(faces, task)
        for metric in ("mae", "bias") if task == "age" else (HEADLINE[task],):
            result[task, metric] = _ratio(task, metric, parts)
    return result


def _members(faces):
    """(attributes, their values, mask of the faces), in the order of the classes."""
    labels = attributes(faces)
    hits = {axis: {v: (labels[axis] == v).to_numpy() for v in CLASSES[axis]} for axis in labels}
    for keys in groupings(list(labels.columns)):
        for values in product(*(CLASSES[key] for key in keys)):
            chosen = [hits[key][value] for key, value in zip(keys, values, strict=True)]
            mask = np.logical_and.reduce(chosen)
            if mask.any():
                yield keys, values, mask


def _ratio(task, metric, parts):
    """Per face the numerator and denominator of a metric that is a mean over faces."""
    if task == "age":
        return parts[:, 1 if metric == "mae" else 3], parts[:, 0]
    classes = len(CLASSES[task])
    return parts.reshape(-1, classes, classes).trace(axis1=1, axis2=2), parts.sum(axis=1)


def _row(task, metric, keys, values, mean, ends, n):
    told = dict(zip(keys, values, strict=True))
    return {
        "task": task,
        "metric": metric,
        "by": " x ".join(keys),
        "group": ", ".join(values),
        **{axis: told.get(axis, "") for axis in AXES},
        "value": mean,
        "ci_low": float(ends[0]),
        "ci_high": float(ends[1]),
        "n": n,
        "small": n < SMALL,
    }


def gaps(table):
    """Worst and best subgroup and their gap, small groups left out.

    Parameters
    ----------
    table : DataFrame
        From `subgroups`.

    Returns
    -------
    DataFrame
        Columns task, metric, by, worst, worst_value, worst_n, best, best_value, best_n, gap,
        ranked, small (numbers of subgroups ranked and left out). For `bias`, worst is the group
        with the largest absolute bias.
    """
    rows = []
    for (task, metric, by), every in table.groupby(["task", "metric", "by"], sort=False):
        part = every[~every["small"]]
        if len(part) < 2:
            continue
        score = part["value"].abs() if metric == "bias" else part["value"]
        rising = metric in (*LOWER_IS_BETTER, "bias")
        worst = part.loc[score.idxmax() if rising else score.idxmin()]
        best = part.loc[score.idxmin() if rising else score.idxmax()]
        rows.append(
            (
                task,
                metric,
                by,
                worst["group"],
                worst["value"],
                worst["n"],
                best["group"],
                best["value"],
                best["n"],
                abs(worst["value"] - best["value"]),
                len(part),
                int(every["small"].sum()),
            )
        )
    return pd.DataFrame(
        rows,
        columns=[
            "task",
            "metric",
            "by",
            "worst",
            "worst_value",
            "worst_n",
            "best",
            "best_value",
            "best_n",
            "gap",
            "ranked",
            "small",
        ],
    )


def fairness(faces):
    """Equalised-odds style gaps of the predicted gender, by fairlearn, if it is installed.

    Parameters
    ----------
    faces : DataFrame
        Predictions of one split.

    Returns
    -------
    DataFrame
        Columns task, by, measure, value, n, small_left_out; empty without fairlearn. Positive class
        `female`. Source: Hardt, Price and Srebro 2016; fairlearn, https://fairlearn.org.
    """
    columns = ["task", "by", "measure", "value", "n", "small_left_out"]
    try:
        from fairlearn import metrics as fair
    except ImportError:
        return pd.DataFrame(columns=columns)
    if "gender" not in tasks_of(faces):
        return pd.DataFrame(columns=columns)
    use = known(faces, "gender")
    real, guess = truth(faces, "gender")[use], predicted(faces, "gender")[use]
    rows = []
    for axis, labels in attributes(faces)[use].items():
        if axis == "gender":
            continue
        # A rate needs enough faces of both genders in each group.
        sizes = pd.crosstab(labels.to_numpy(), real).reindex(columns=[0, 1], fill_value=0)
        big = set(sizes.index[(sizes >= SMALL).all(axis=1)])
        keep = labels.isin(big).to_numpy()
        if len(big) < 2:
            continue
        codes = pd.factorize(labels)[0]  # fairlearn is slow on text
        for measure in ("equalized_odds_difference", "demographic_parity_difference"):
            value = getattr(fair, measure)(real[keep], guess[keep], sensitive_features=codes[keep])
            left = labels.dropna().nunique() - len(big)
            rows.append(("gender", axis, measure, float(value), int(keep.sum()), left))
    return pd.DataFrame(rows, columns=columns)


def by_cell(faces, task="age"):
    """Mean of the headline metric in each cell of ethnicity x age bin x gender, and its n.

    Returns
    -------
    (values, counts) : DataFrames
        Rows (gender, ethnicity), columns age bins; NaN and 0 where there is no face.
    """
    labels = attributes(faces)
    parts = statistics(faces, task)
    score, weight = _ratio(task, HEADLINE[task], parts)
    table = labels.assign(score=score, n=weight).dropna()
    sums = table.pivot_table(["score", "n"], ["gender", "ethnicity"], "age_bin", "sum")
    order = pd.MultiIndex.from_product([CLASSES["gender"], CLASSES["ethnicity"]])
    counts = sums["n"].reindex(index=order, columns=AGE_BINS).fillna(0).astype(int)
    return sums["score"].reindex(index=order, columns=AGE_BINS) / counts.where(counts > 0), counts
