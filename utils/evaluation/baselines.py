"""The trivial guess: what a model that never looks at the picture would score.

Age: the median of the training ages, which no constant beats on mean absolute error. Classes: the
most frequent one among the training labels.
"""

import numpy as np

from utils.datasets.facetable import DataError
from utils.evaluation.columns import CLASSES, probability_columns, require, truth, truth_column
from utils.evaluation.metrics import evaluate


def fitting_split(labels):
    """The split that the guess is made on: train, else val, for tables without training rows."""
    require(labels, ["split"], "labels")
    for split in ("train", "val"):
        if (labels["split"] == split).any():
            return split
    raise DataError(
        "baseline: no train or val faces among the labels; pass a table that has their labels"
    )


def trivial_predictions(labels):
    """A predictions table in which every face gets the same answer.

    Parameters
    ----------
    labels : DataFrame
        Columns image, split and any of age, gender, ethnicity; a FaceTable or predictions.

    Returns
    -------
    DataFrame
        `labels` columns plus pred_age and probabilities of 0 or 1.
    """
    require(labels, ["image", "split"], "labels")
    fit = labels[labels["split"] == fitting_split(labels)]
    found = [name for name in ("image", "split", "age", "gender", "ethnicity") if name in labels]
    result = labels[found].reset_index(drop=True).copy()
    if "age" in found and fit["age"].notna().any():
        result["pred_age"] = float(np.nanmedian(fit["age"].to_numpy(float)))
    for task in CLASSES:
        if truth_column(task) not in found:
            continue
        codes = truth(fit, task)
        if (codes >= 0).any():
            winner = np.bincount(codes[codes >= 0]).argmax()
            for number, column in enumerate(probability_columns(task)):
                result[column] = float(number == winner)
    return result


def trivial_baseline(labels, splits=("val", "test")):
    """Score the trivial guess, in the format of `metrics.evaluate`.

    Returns
    -------
    DataFrame
        Columns task, metric, split, value, n.

    >>> import pandas as pd
    >>> split = ["train", "train", "train", "test"]
    >>> faces = pd.DataFrame({"image": list("abcd"), "split": split, "age": [10, 20, 60, 25]})
    >>> trivial_baseline(faces)["value"].tolist()[:2]
    [5.0, 1.0]
    """
    return evaluate(trivial_predictions(labels), splits)
