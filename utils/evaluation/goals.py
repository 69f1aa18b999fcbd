"""What the study set out to reach on its own test faces, and what it reached.

The goals are one network from ImageNet weights (WIKI: from random ones), the full age range and
the group-aware split. They were set before the first training.
"""

import pandas as pd

from utils.evaluation.columns import HEADLINE, LOWER_IS_BETTER, TASK_LABELS
from utils.evaluation.findings import winner
from utils.evaluation.tables import networks, with_ends

GOALS = {
    "utkface": {"age": 4.3, "age_bin": 0.84, "gender": 0.955, "ethnicity": 0.88},
    "wiki": {"age": 6.5},
}


def goals(comparison, dataset):
    """Goals against the best network of each task.

    Parameters
    ----------
    comparison : DataFrame
        From `utils.evaluation.tables.comparison`.
    dataset : str

    Returns
    -------
    DataFrame
        Columns task, goal, value, ci_low, ci_high, label, met; empty without goals or networks.
    """
    ours = networks(comparison)
    rows = []
    for task, goal in GOALS.get(dataset, {}).items():
        best = winner(ours, task)
        if best is None:
            continue
        value = best[task]
        met = value <= goal if HEADLINE[task] in LOWER_IS_BETTER else value >= goal
        ends = best[f"{task}_low"], best[f"{task}_high"]
        rows.append((task, goal, value, *ends, best["label"], bool(met)))
    columns = ["task", "goal", "value", "ci_low", "ci_high", "label", "met"]
    return pd.DataFrame(rows, columns=columns)


def readable(table):
    """The table as text for a page: age in years, accuracies in percent."""
    rows = [
        {
            "task": TASK_LABELS[row.task],
            "goal": with_ends(row.goal, None, None, row.task),
            "reached": with_ends(row.value, row.ci_low, row.ci_high, row.task),
            "by": row.label,
            "met": "yes" if row.met else "no",
        }
        for row in table.itertuples()
    ]
    return pd.DataFrame(rows)
