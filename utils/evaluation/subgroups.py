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


def attributes(faces):
    """True age_bin, gender and ethnicity of each face as text, where the table has them."""
    codes = {axis: truth(faces, axis) for axis in AXES if truth_column(axis) in faces}
    names = {axis: np.array([*CLASSES[axis], None], dtype=object) for axis in AXES}
    seen = {axis: names[axis][code] for axis, code in codes.items() if (code >= 0).any()}
    return pd.DataFrame(seen, index=faces.index)


def _members(faces):
    """(attributes, their values, mask of the faces): one attribute, two, then all, crossed."""
    labels = attributes(faces)
    hits = {axis: {v: (labels[axis] == v).to_numpy() for v in CLASSES[axis]} for axis in labels}
    for keys in (keys for k in range(1, len(hits) + 1) for keys in combinations(hits, k)):
        for values in product(*(CLASSES[key] for key in keys)):
            chosen = [hits[key][value] for key, value in zip(keys, values, strict=True)]
            mask = np.logical_and.reduce(chosen)
            if mask.any():
                yield keys, values, mask


def _ratio(task, metric, parts):
    """Per face the numerator and denominator of a metric that is a mean over faces."""
    if task == "age":
        return parts[:, 1 if metric == "mae" else 3], parts[:, 0]
    return parts[:, :: len(CLASSES[task]) + 1].sum(axis=1), parts.sum(axis=1)


def subgroups(faces, resamples):
    """Headline metric of each task in each subgroup, and the signed bias of the age.

    For predictions of one split, which the resamples were drawn for. `bias` is predicted minus
    true age; `by` names the crossed attributes, which are empty where they are no part of it.
    """
    scores, rows = {}, []
    for task in tasks_of(faces):
        parts = statistics(faces, task)
        for metric in ("mae", "bias") if task == "age" else (HEADLINE[task],):
            scores[task, metric] = _ratio(task, metric, parts)
    flat = np.hstack([np.stack(pair, axis=1) for pair in scores.values()])
    for keys, values, mask in _members(faces):
        drawn = resamples.sums(flat, mask)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = drawn[:, ::2] / drawn[:, 1::2]
        told = {"by": " x ".join(keys), "group": ", ".join(values)}
        told |= dict.fromkeys(AXES, "") | dict(zip(keys, values, strict=True))
        for number, ((task, metric), (top, bottom)) in enumerate(scores.items()):
            n = int(bottom[mask].sum())
            if n:
                ends = interval(spread[:, number]) if n > 1 else (np.nan, np.nan)
                value = float(top[mask].sum() / n)
                rows.append((task, metric, *told.values(), value, *ends, n, n < SMALL))
    columns = ["task", "metric", "by", "group", *AXES, "value", "ci_low", "ci_high", "n", "small"]
    return pd.DataFrame(rows, columns=columns)


def gaps(table):
    """Worst and best of `subgroups` and their gap; small groups are counted and left out.

    For `bias`, worst is the group with the largest absolute bias.
    """
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
    return pd.DataFrame(rows)


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
        keep, codes = labels.isin(big).to_numpy(), pd.factorize(labels)[0]  # it is slow on text
        for name in ("equalized_odds_difference", "demographic_parity_difference"):
            if len(big) > 1:
                measure, groups = getattr(fair, name), codes[keep]
                value = float(measure(real[keep], guess[keep], sensitive_features=groups))
                left = labels.dropna().nunique() - len(big)
                rows.append(("gender", axis, name, value, int(keep.sum()), left))
    return pd.DataFrame(rows, columns=["task", "by", "measure", "value", "n", "small_left_out"])
