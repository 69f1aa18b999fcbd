"""For whom: errors by age bin, gender and ethnicity, with their size and uncertainty.

Groups with few faces are marked and never ranked: their extremes are mostly chance.
"""

from itertools import combinations, product

import numpy as np
import pandas as pd
from fairlearn import metrics as fair

from utils.evaluation.bootstrap import interval
from utils.evaluation.columns import known, predicted, tasks_of, truth
from utils.evaluation.metrics import statistics
from utils.vocabulary import CLASSES, HEADLINE, LOWER_IS_BETTER, truth_column

SMALL = 30
AXES = ("age_bin", "gender", "ethnicity")
MEASURES = ("equalized_odds_difference", "demographic_parity_difference")
GAPS = "task metric by worst worst_value worst_n best best_value best_n gap ranked small".split()


def attributes(faces):
    """True age_bin, gender and ethnicity of each face as text, where the table has them."""
    codes = {axis: truth(faces, axis) for axis in AXES if truth_column(axis) in faces}
    names = {axis: np.array([*CLASSES[axis], None], dtype=object)[codes[axis]] for axis in codes}
    return pd.DataFrame(names, index=faces.index).dropna(axis=1, how="all")


def _members(faces):
    """(attributes, their values, mask of the faces): none, one attribute, two, all, crossed."""
    labels, everyone = attributes(faces), np.ones(len(faces), bool)
    of = {(key, one): (labels[key] == one).to_numpy() for key in labels for one in CLASSES[key]}
    for keys in (keys for k in range(len(AXES) + 1) for keys in combinations(labels, k)):
        for values in product(*(CLASSES[key] for key in keys)):
            mask = np.logical_and.reduce([everyone, *map(of.get, zip(keys, values, strict=True))])
            if mask.any():
                yield keys, values, mask


def _ratios(faces):
    """(task, metric) -> numerator and denominator [n, 2] of a metric that is a mean over faces."""
    found = {}
    for task in tasks_of(faces):
        parts = statistics(faces, task)
        if task == "age":
            found |= {(task, "mae"): parts[:, [1, 0]], (task, "bias"): parts[:, [3, 0]]}
        else:
            right = parts[:, :: len(CLASSES[task]) + 1].sum(axis=1)
            found[task, HEADLINE[task]] = np.stack([right, parts.sum(axis=1)], axis=1)
    return found


def subgroups(faces, resamples):
    """Headline metric of each task in each subgroup, and the signed bias of the age.

    For predictions of one split, which the resamples were drawn for. `bias` is predicted minus
    true age; `by` names the crossed attributes, which are empty where they are no part of it.
    """
    scores, rows = _ratios(faces), []
    flat = np.hstack(list(scores.values()))
    for keys, values, mask in _members(faces):
        drawn = resamples.sums(flat, mask)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = drawn[:, ::2] / drawn[:, 1::2]
        told = {"by": " x ".join(keys) or "all", "group": ", ".join(values) or "all"}
        told |= dict.fromkeys(AXES, "") | dict(zip(keys, values, strict=True))
        for number, ((task, metric), ratio) in enumerate(scores.items()):
            top, n = ratio[mask].sum(axis=0)
            if n:
                ends = interval(spread[:, number]) if n > 1 else (np.nan, np.nan)
                rows.append((task, metric, *told.values(), top / n, *ends, int(n), n < SMALL))
    columns = ["task", "metric", "by", "group", *AXES, "value", "ci_low", "ci_high", "n", "small"]
    return pd.DataFrame(rows, columns=columns)


def gaps(table):
    """Worst (of bias: the largest) and best of `subgroups`, their gap; small ones are left out."""
    rows = []
    for (task, metric, by), every in table.groupby(["task", "metric", "by"], sort=False):
        ranked = every[~every["small"]]
        if len(ranked) < 2:
            continue
        score = ranked["value"].abs() if metric in (*LOWER_IS_BETTER, "bias") else -ranked["value"]
        row = {"task": task, "metric": metric, "by": by}
        ends = {"worst": ranked.loc[score.idxmax()], "best": ranked.loc[score.idxmin()]}
        for name, one in ends.items():
            row |= {name: one["group"], f"{name}_value": one["value"], f"{name}_n": one["n"]}
        row |= {"gap": abs(row["worst_value"] - row["best_value"]), "ranked": len(ranked)}
        rows.append(row | {"small": len(every) - len(ranked)})
    return pd.DataFrame(rows, columns=GAPS)


def fairness(faces):
    """Equalised-odds style gaps of the predicted gender (positive class `female`), by fairlearn.

    For predictions of one split. Source: Hardt, Price and Srebro 2016; https://fairlearn.org.
    """
    if "gender" not in tasks_of(faces):
        return pd.DataFrame()
    use = known(faces, "gender")
    real, guess = truth(faces, "gender")[use], predicted(faces, "gender")[use]
    rows = []
    for axis, labels in attributes(faces)[use].drop(columns="gender").items():
        # A rate needs enough faces of both genders in each group.
        sizes = pd.crosstab(labels.to_numpy(), real).reindex(columns=[0, 1], fill_value=0)
        big = set(sizes.index[(sizes >= SMALL).all(axis=1)])
        keep, left = labels.isin(big).to_numpy(), labels.nunique() - len(big)
        codes = pd.factorize(labels[keep])[0]  # it is slow on text
        for name in MEASURES * (len(big) > 1):
            value = getattr(fair, name)(real[keep], guess[keep], sensitive_features=codes)
            rows.append(("gender", axis, name, float(value), int(keep.sum()), left))
    return pd.DataFrame(rows, columns=["task", "by", "measure", "value", "n", "small_left_out"])
