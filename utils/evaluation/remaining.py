"""What is left of the error: how much of it can be label noise, and on how much all networks agree.

Two views. Copies of one picture with different labels tell how far off a perfect network would
still be (`utils.evaluation.noise`; an indication, no law). And where networks of different kinds
all give the same answer against the label, the cause is not the kind of network: it is the label,
the picture, or what the networks share, such as their training faces.
"""

import numpy as np
import pandas as pd

from utils.evaluation.columns import HEADLINE, TASK_LABELS, known, predicted, truth

FAR = 10  # years; a larger age error counts as a wrong answer
COLUMNS = [
    "task",
    "error",
    "noise",
    "noise_low",
    "noise_high",
    "noise_share",
    "wrong",
    "n",
    "same_answer",
]


def wrong_answers(faces, task):
    """What a network answers where it is wrong.

    Returns
    -------
    int array [n]
        Class number; for age 1 or 0 where it says more than 10 years too much or too little;
        -1 where it is right or nothing is known.
    """
    true, said = truth(faces, task), predicted(faces, task)
    if task == "age":
        gap = said - true
        return np.where(known(faces, task) & (np.abs(gap) > FAR), (gap > 0).astype(int), -1)
    return np.where(known(faces, task) & (said != true), said, -1)


def remaining(tables, bounds):
    """Shares of the best network's error.

    Parameters
    ----------
    tables : list of DataFrame
        Test predictions of networks of different kinds on the same faces, the best one first.
    bounds : DataFrame
        From `utils.evaluation.noise.ceilings`.

    Returns
    -------
    DataFrame
        `COLUMNS`, one row a task, on the faces that all tables hold: the best network's error
        (years, or share of faces), what a perfect network would have by the labels of copies, with
        its interval and as a share of the error (missing for age: absolute errors do not add),
        the number of wrong answers among n, and the share of them that all others give too.
    """
    tables = [table.drop_duplicates("image").set_index("image") for table in tables]
    shared = sorted(set.intersection(*(set(table.index) for table in tables)))
    tables = [table.loc[shared].reset_index() for table in tables]
    rows = []
    for bound in bounds.itertuples():
        if bound.metric != HEADLINE[bound.task]:
            continue
        ends = [bound.ceiling, bound.ci_low, bound.ci_high]
        if bound.task != "age":
            ends = [1 - bound.ceiling, 1 - bound.ci_high, 1 - bound.ci_low]
        first, *others = (wrong_answers(table, bound.task) for table in tables)
        use, wrong = known(tables[0], bound.task), first >= 0
        gaps = predicted(tables[0], "age") - truth(tables[0], "age")
        error = np.abs(gaps[use]).mean() if bound.task == "age" else wrong[use].mean()
        agreed = np.all([first == other for other in others], axis=0) & wrong
        same = agreed.sum() / wrong.sum() if wrong.any() else np.nan
        share = np.nan if bound.task == "age" else ends[0] / error
        rows.append((bound.task, error, *ends, share, int(wrong.sum()), int(use.sum()), same))
    return pd.DataFrame(rows, columns=COLUMNS)


def readable(table):
    """The table as text for a page."""
    rows = []
    for row in table.itertuples():
        share = pd.notna(row.noise_share)
        scale, unit, digits = (1, " years", 2) if row.task == "age" else (100, " %", 1)
        error, noise, low, high = (
            f"{scale * value:.{digits}f}"
            for value in (row.error, row.noise, row.noise_low, row.noise_high)
        )
        rows.append(
            {
                "task": TASK_LABELS[row.task],
                "error": f"{error}{unit}",
                "label noise": f"{noise}{unit} [{low}, {high}]",
                "share of the error": f"{100 * row.noise_share:.0f} %" if share else "-",
                "wrong answers": f"{row.wrong:,} of {row.n:,}",
                "given by all networks": f"{100 * row.same_answer:.0f} %" if row.wrong else "-",
            }
        )
    return pd.DataFrame(rows)
