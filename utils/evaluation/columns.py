"""What the columns of a predictions table say of a task.

One row a face: `image`, `split`, the true `age` (years), `gender`, `ethnicity`, and what one run
says: `pred_age`, `age_q10`, `age_q90` (years) and a probability for each class.
"""

import numpy as np
import pandas as pd

from utils import vocabulary as words
from utils.files import DataError, require

AGE_INTERVAL = ("age_q10", "age_q90")  # holds 80 % of the true ages, says the network


def sized_interval(said, low, high, sizes):
    """Ends of age intervals in years [..., 2]: the network's own, scaled as `sizes` say.

    Expected ages `said` and own ends are [...]; `sizes` come from `conformal.age_sizes`.
    """
    own = np.maximum(high - low, 1.0) / 2  # no interval is narrower than a year
    half = own * np.asarray(sizes["factors"])[np.digitize(said, sizes["edges"])]
    return np.stack([np.maximum(said - half, 0), said + half], axis=-1)


def tasks_of(predictions):
    """Tasks that a predictions table can be scored on, in the order of `TASKS`."""
    names = {task: words.prediction_columns(task) for task in words.TASKS}
    held = [t for t in names if {words.truth_column(t), *names[t]} <= set(predictions)]
    return [task for task in held if known(predictions, task).any()]


def known(predictions, task):
    """Mask of the faces with both a true label and a prediction, bool [n]."""
    needed = [words.truth_column(task), *words.prediction_columns(task)]
    require(predictions, needed)
    return np.logical_and.reduce([predictions[name].notna().to_numpy() for name in needed])


def truth(predictions, task):
    """True labels [n]: years (float) for age, else class numbers (int, -1 where unknown)."""
    column = words.truth_column(task)
    require(predictions, [column])
    labels = predictions[column]
    if column == "age":
        years = labels.to_numpy(float)
        bins = np.where(np.isnan(years), -1, words.age_bin(np.nan_to_num(years)))
        return years if task == "age" else bins
    names = words.CLASSES[task]
    unknown = ", ".join(sorted({*map(str, labels.dropna().unique())} - {*names}))
    if unknown:
        raise DataError(f"{column}: unknown label(s) {unknown}; expected {', '.join(names)}")
    return pd.Categorical(labels, categories=names).codes.astype(int)


def probabilities(predictions, task):
    """Class probabilities, float64, shape [n, classes]."""
    require(predictions, words.probability_columns(task))
    return predictions[words.probability_columns(task)].to_numpy(float)


def predicted(predictions, task):
    """Predicted years for age, else the number of the most probable class; shape [n]."""
    if task == "age":
        require(predictions, ["pred_age"])
        return predictions["pred_age"].to_numpy(float)
    return np.nan_to_num(probabilities(predictions, task), nan=-1.0).argmax(axis=1)


def aligned(tables):
    """Tables on the images that all of them hold, each once, in one order, with a fresh index."""
    tables = [table.drop_duplicates("image").set_index("image") for table in tables]
    shared = sorted(set.intersection(*(set(table.index) for table in tables)))
    return [table.loc[shared].reset_index() for table in tables]


def part(predictions, split):
    """Rows of one split, with a fresh index."""
    require(predictions, ["split"])
    rows = predictions[predictions["split"] == split].reset_index(drop=True)
    if rows.empty:
        seen = ", ".join(sorted(map(str, predictions["split"].unique()))) or "none"
        raise DataError(f"no faces in split {split!r}; splits in this table: {seen}")
    return rows
