"""The finding of the study in five sentences, computed from its tables."""

import pandas as pd

from utils.datasets.facetable import AGE_BINS, age_bin
from utils.evaluation.columns import HEADLINE, TASK_LABELS, TASKS, part
from utils.evaluation.pairwise import undecided
from utils.evaluation.tables import MODELS, networks

NAMES = {
    "utkface": "UTKFace",
    "wiki": "WIKI",
    "fairface": "FairFace",
    "synthetic": "synthetic faces",
}
CLASS_TASKS = TASKS[1:]


def findings(study, table, dataset, pairs=None):
    """Five sentences on one data set.

    Parameters
    ----------
    study : Study
    table : DataFrame
        From `tables.comparison`.
    dataset : str
    pairs : DataFrame, optional
        From `utils.evaluation.pairwise.compare`: names the networks that the test faces do not
        tell apart from the best one.

    Returns
    -------
    list of str, length 5
        A sentence that the runs do not allow says what is missing instead.
    """
    runs = networks(table)
    guess = table[table["model"] == "trivial"].iloc[0]
    return [
        _best(runs, guess, ("age",), dataset, pairs) + _caution(runs),
        _best(runs, guess, CLASS_TASKS, dataset, pairs),
        _protocols(runs, pairs),
        _cost(runs, pairs),
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


def _caution(runs):
    parts = []
    once = (runs["seeds"] == 1).sum()
    if once:
        who = "each network was" if once == len(runs) else f"{once} of {len(runs)} networks were"
        parts.append(f"{who} trained once")
    if runs["input_size"].nunique() > 1:
        parts.append("input sizes differ")
    return f" Mind that {' and '.join(parts)}." if parts else ""


def _best(runs, guess, tasks, dataset, pairs):
    parts = []
    for task in tasks:
        row = winner(runs, task)
        if row is None:
            continue
        text = f"{_value(row[task], task)}{_span(row, task)} by {row['label']}"
        if pd.notna(guess[task]):
            text += f", against {_value(guess[task], task)} for the trivial guess"
        equal = runs.loc[runs["run"].isin(undecided(pairs, row["run"], task)), "label"]
        if len(equal):
            names = " and ".join(equal) if len(equal) < 3 else f"{len(equal)} others"
            text += f" (not told apart from {names})"
        parts.append(f"{TASK_LABELS[task]} {text}" if task != "age" else text)
    where = NAMES.get(dataset, dataset)
    if not parts:
        names = " or ".join(TASK_LABELS[task] for task in tasks)
        return f"No finished run on {where} predicts {names}."
    if tasks == ("age",):
        return f"On {where} the smallest mean error of the age is {parts[0]}."
    return f"The best test accuracies on {where} are: {'; '.join(parts)}."


def _protocols(runs, pairs):
    """What training all layers gains over the frozen backbone at the same input size."""
    both = _both(runs)
    parts = []
    for task in TASKS:
        gain = (both[f"{task}_finetune"] - both[f"{task}_head"]).dropna()
        if len(gain):
            name = "age error" if task == "age" else TASK_LABELS[task]
            less = name + (" by {:+.2f} years" if task == "age" else " by {:+.1f}")
            parts.append(less.format(gain.mean() * (1 if task == "age" else 100)))
    sizes = _sizes(runs, pairs)
    if not parts:
        missing = "No backbone was trained both frozen and in full at one input size"
        return f"{missing}, so their difference is not known.{sizes}"
    unit = " points of accuracy" if len(parts) > 1 or "years" not in parts[0] else ""
    names = " and ".join(MODELS.get(model, model) for model, _ in both.index)
    return (
        f"At the same input size, training all layers instead of heads on the frozen backbone "
        f"changes the {', '.join(parts)}{unit} ({names}).{sizes}"
    )


def _both(runs):
    """Backbones and input sizes with both protocols."""
    plain = runs[runs["protocol"].isin(["head", "finetune"])]
    best = plain.groupby(["model", "input_size", "protocol"], sort=False)[list(TASKS)].agg(
        {task: "min" if task == "age" else "max" for task in TASKS}
    )
    wide = best.unstack("protocol")
    wide.columns = [f"{task}_{protocol}" for task, protocol in wide.columns]
    wide = wide.reindex(columns=[f"{t}_{p}" for t in TASKS for p in ("head", "finetune")])
    head = wide.filter(like="_head").notna().any(axis=1)
    return wide[head & wide.filter(like="_finetune").notna().any(axis=1)]


def _sizes(runs, pairs):
    """What larger pictures alone change for frozen backbones."""
    plain = runs[(runs["protocol"] == "head") & runs["age"].notna()]
    parts = []
    for model, rows in plain.sort_values("input_size").groupby("model", sort=False):
        if rows["input_size"].nunique() > 1:
            first, last = rows.iloc[0], rows.iloc[-1]
            text = f"{MODELS.get(model, model)} {last['age'] - first['age']:+.2f} years from "
            text += f"{first['input_size']:.0f} to {last['input_size']:.0f} px"
            equal = first["run"] in undecided(pairs, last["run"], "age")
            parts.append(text + (" (no more than chance would give)" if equal else ""))
    return f" Larger pictures alone change the frozen ones: {', '.join(parts)}." if parts else ""


def _cost(runs, pairs):
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
    if small["run"] in undecided(pairs, best["run"], task):
        text += " (no more than chance would give)"
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
