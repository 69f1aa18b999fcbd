"""The baseline: what a model that never looks at the picture would score.

Age: the median of the training ages, which no constant beats on mean absolute error. Classes: the
most frequent one among the training labels.
"""

import numpy as np

from utils.evaluation.columns import require, truth
from utils.evaluation.metrics import evaluate
from utils.files import DataError
from utils.vocabulary import CLASSES, probability_columns, truth_column


def baseline_predictions(labels):
    """The labels (image, split and any of age, gender, ethnicity) with one answer for all faces.

    Adds pred_age and probabilities of 0 or 1, made on the training faces, or on validation faces
    in a table without training faces.
    """
    require(labels, ["image", "split"], "labels")
    fit = labels[labels["split"] == ("train" if (labels["split"] == "train").any() else "val")]
    if fit.empty:
        raise DataError("baseline: no train or val faces; pass a table that has their labels")
    found = [name for name in ("image", "split", "age", "gender", "ethnicity") if name in labels]
    result = labels[found].reset_index(drop=True).copy()
    if "age" in found and fit["age"].notna().any():
        result["pred_age"] = float(np.nanmedian(fit["age"].to_numpy(float)))
    for task in (task for task in CLASSES if truth_column(task) in found):
        codes = truth(fit, task)
        if (codes >= 0).any():
            winner = np.bincount(codes[codes >= 0]).argmax()
            for number, column in enumerate(probability_columns(task)):
                result[column] = float(number == winner)
    return result


def baseline(labels, splits=("val", "test")):
    """Score the baseline, in the format of `utils.evaluation.metrics.evaluate`."""
    return evaluate(baseline_predictions(labels), splits)
