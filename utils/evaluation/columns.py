"""Which columns of a predictions table belong to which task.

A predictions table has one row per face: `image`, `split`, the true `age` (years), `gender` and
`ethnicity`, and what one run says: `pred_age`, `age_q10`, `age_q90` (years) and one probability
column per class.
"""

import numpy as np
import pandas as pd

from utils.datasets.facetable import AGE_BINS, ETHNICITIES, GENDERS, DataError, age_bin

TASKS = ("age", "age_bin", "gender", "ethnicity")
CLASSES = {"age_bin": AGE_BINS, "gender": GENDERS, "ethnicity": ETHNICITIES}
CLASS_METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
METRICS = {"age": ("mae", "cs5"), **dict.fromkeys(CLASSES, CLASS_METRICS)}
HEADLINE = {"age": "mae", **dict.fromkeys(CLASSES, "accuracy")}
LOWER_IS_BETTER = ("mae",)
TASK_LABELS = {
    "age": "age",
    "age_bin": "age bin",
    "gender": "gender",
    "ethnicity": "ethnicity",
}
METRIC_LABELS = {
    "mae": "mean absolute error (years)",
    "cs5": "share within 5 years",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
}


def probability_columns(task):
    """Names of the probability columns of a classification task.

    >>> probability_columns("gender")
    ['p_gender_male', 'p_gender_female']
    """
    if task not in CLASSES:
        raise ValueError(f"task {task!r} has no classes; expected one of {', '.join(CLASSES)}")
    names = range(len(AGE_BINS)) if task == "age_bin" else CLASSES[task]
    return [f"p_{task}_{name}" for name in names]


def prediction_columns(task):
    """Columns that a run must have written to be scored on `task`."""
    return ["pred_age"] if task == "age" else probability_columns(task)


def truth_column(task):
    """Column that holds the true label; age bins come from the age in years."""
    return "age" if task == "age_bin" else task


def require(predictions, columns, what="predictions"):
    """Raise a DataError that names the missing columns, if any are missing."""
    missing = [name for name in columns if name not in predictions]
    if missing:
        seen = ", ".join(map(str, predictions.columns)) or "none"
        raise DataError(
            f"{what}: missing column(s) {', '.join(missing)}; found: {seen}; "
            "write the table again with utils.runs"
        )


def tasks_of(predictions):
    """Tasks that a predictions table can be scored on, in the order of `TASKS`."""
    return [
        task
        for task in TASKS
        if {truth_column(task), *prediction_columns(task)} <= set(predictions.columns)
        and known(predictions, task).any()
    ]


def known(predictions, task):
    """Mask of the faces with both a true label and a prediction.

    Returns
    -------
    ndarray of bool, shape [n]
    """
    needed = [truth_column(task), *prediction_columns(task)]
    require(predictions, needed)
    return predictions[needed].notna().all(axis=1).to_numpy()


def truth(predictions, task):
    """True labels: years (float) for age, else class numbers (int, -1 where unknown)."""
    column = truth_column(task)
    require(predictions, [column])
    if task in ("age", "age_bin"):
        years = predictions["age"].to_numpy(float)
        if task == "age":
            return years
        return np.where(np.isnan(years), -1, age_bin(np.nan_to_num(years)))
    labels = predictions[column]
    unknown = sorted(set(labels.dropna().astype(str)) - set(CLASSES[task]))
    if unknown:
        raise DataError(
            f"{column}: unknown label(s) {', '.join(unknown)}; expected {', '.join(CLASSES[task])}"
        )
    return pd.Categorical(labels, categories=CLASSES[task]).codes.astype(int)


def probabilities(predictions, task):
    """Class probabilities, float64, shape [n, classes]."""
    columns = probability_columns(task)
    require(predictions, columns)
    return predictions[columns].to_numpy(float)


def predicted(predictions, task):
    """Predicted years for age, else the number of the most probable class."""
    if task == "age":
        require(predictions, ["pred_age"])
        return predictions["pred_age"].to_numpy(float)
    return np.nan_to_num(probabilities(predictions, task), nan=-1.0).argmax(axis=1)


def part(predictions, split):
    """Rows of one split, with a fresh index; `split` None keeps all rows."""
    if split is None:
        return predictions.reset_index(drop=True)
    require(predictions, ["split"])
    rows = predictions[predictions["split"] == split].reset_index(drop=True)
    if rows.empty:
        seen = ", ".join(sorted(map(str, predictions["split"].unique()))) or "none"
        raise DataError(f"no faces in split {split!r}; splits in this table: {seen}")
    return rows
