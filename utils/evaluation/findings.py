"""The finding of the study in five sentences, computed from its tables."""

import pandas as pd

from utils.datasets.facetable import AGE_BINS, age_bin
from utils.evaluation.columns import HEADLINE, TASK_LABELS, TASKS, part
from utils.evaluation.tables import MODELS

NAMES = {
    "utkface": "UTKFace",
    "wiki": "WIKI",
    "fairface": "FairFace",
    "synthetic": "synthetic faces",
}
CLASS_TASKS = TASKS[1:]


def findings(study, table, dataset):
    """Five sentences on one data set.

    Parameters
    ----------
    study : Study
    table : DataFrame
        From `tables.comparison`.
    dataset : str

    Returns
    -------
    list of str, length 5
        A sentence that the runs do not allow says what is missing instead.
    """
    runs = table[~table["model"].str.startswith(("trivial", "peer_"))]
    guess = table[table["model"] == "trivial"].iloc[0]
    return [
        _best(runs, guess, ("age",), dataset),
        _best(runs, guess, CLASS_TASKS, dataset),
        _protocols(runs),
        _cost(runs),
        _for_whom(study, runs),
    ]


def _span(row, task):
    low, high = row[f"{task}_low"], row[f"{task}_high"]
    if pd.isna(low):
        return ""
    if task == "age":
        return f" (95% interval {low:.2f} to {high:.2f})"
    return f" (95% interval {low:.1%} to {high:.1%})"


def _value(value, task):
    return f"{value:.2f} years" if task == "age" else f"{value:.1%}"


def winner(runs, task):
    """Row of the best run of a task, or None where no run has it."""
    rows = runs[runs[task].notna()]
    if rows.empty:
        return None
    return rows.loc[rows[task].idxmin() if HEADLINE[task] == "mae" else rows[task].idxmax()]


def _best(runs, guess, tasks, dataset):
    parts = []
    for task in tasks:
        row = winner(runs, task)
        if row is None:
            continue
        text = f"{_value(row[task], task)}{_span(row, task)} by {row['label']}"
        if pd.notna(guess[task]):
            text += f", against {_value(guess[task], task)} for the trivial guess"
        parts.append(f"{TASK_LABELS[task]} {text}" if task != "age" else text)
    where = NAMES.get(dataset, dataset)
    if not parts:
        names = " or ".join(TASK_LABELS[task] for task in tasks)
        return f"No finished run on {where} predicts {names}."
    if tasks == ("age",):
        return f"On {where} the smallest mean error of the age is {parts[0]}."
    return f"The best test accuracies on {where} are: {'; '.join(parts)}."


def _protocols(runs):
    """How much training all layers gains over the frozen backbone, on backbones with both."""
    pairs = _both(runs)
    parts = []
    for task in TASKS:
        gain = (pairs[f"{task}_finetune"] - pairs[f"{task}_head"]).dropna()
        if len(gain):
            name = "age error" if task == "age" else TASK_LABELS[task]
            less = name + (" by {:+.2f} years" if task == "age" else " by {:+.1f}")
            parts.append(less.format(gain.mean() * (1 if task == "age" else 100)))
    if not parts:
        return "No backbone was trained both frozen and in full, so their difference is not known."
    unit = " points of accuracy" if len(parts) > 1 or "years" not in parts[0] else ""
    here = runs[runs["model"].isin(pairs.index) & runs["protocol"].isin(["head", "finetune"])]
    mixed = here.groupby("model")["input_size"].nunique().gt(1).any()
    return (
        f"Training all layers instead of a frozen backbone changes, on average over "
        f"{len(pairs)} backbone{'s' * (len(pairs) > 1)}, the {', '.join(parts)}{unit}"
        f"{'; part of that is the input size, which differs too' if mixed else ''}."
    )


def _both(runs):
    plain = runs[runs["protocol"].isin(["head", "finetune"])]
    best = plain.groupby(["model", "protocol"], sort=False)[list(TASKS)].agg(
        {task: "min" if task == "age" else "max" for task in TASKS}
    )
    wide = best.unstack("protocol")
    wide.columns = [f"{task}_{protocol}" for task, protocol in wide.columns]
    wide = wide.reindex(columns=[f"{t}_{p}" for t in TASKS for p in ("head", "finetune")])
    head = wide.filter(like="_head").notna().any(axis=1)
    return wide[head & wide.filter(like="_finetune").notna().any(axis=1)]


def _cost(runs):
    """How far the smallest network is from the best one."""
    task = "age" if runs["age"].notna().sum() > 1 else "age_bin"
    rows = runs[runs["parameters"].notna() & runs[task].notna()]
    if rows["model"].nunique() < 2:
        return "The costs of fewer than two networks are known, so they cannot be compared."
    best = winner(rows, task)
    least = rows["parameters"].min()
    small = winner(rows[rows["parameters"] <= 1.001 * least], task)
    size = f"{least / 1e6:.1f} million parameters"
    if small["model"] == best["model"]:
        return f"{best['label']} is both the smallest network ({size}) and the best on age."
    gap = abs(small[task] - best[task])
    text = f"{gap:.2f} years" if task == "age" else f"{100 * gap:.1f} points"
    times = best["parameters"] / least
    return (
        f"The smallest network, {MODELS.get(small['model'], small['model'])} with {size}, stays "
        f"{text} behind {best['label']}, which is {times:.1f} times as large."
    )


def _for_whom(study, runs):
    row = winner(runs, "age")
    if row is None or row["run"] not in study.predictions:
        return "Without age predictions it cannot be said for whom the errors are largest."
    faces = part(study.predictions[row["run"]], "test").dropna(subset=["age", "pred_age"])
    error = (faces["pred_age"] - faces["age"]).abs().groupby(age_bin(faces["age"]))
    means, sizes = error.mean(), error.size()
    means = means[sizes >= 30]
    if len(means) < 2:
        return "Too few faces per age bin to say for whom the errors are largest."
    low, high = means.idxmin(), means.idxmax()
    return (
        f"The error is uneven: {row['label']} is off by {means[low]:.1f} years at ages "
        f"{AGE_BINS[low]} (n = {sizes[low]:,}) but by {means[high]:.1f} at ages "
        f"{AGE_BINS[high]} (n = {sizes[high]:,})."
    )
