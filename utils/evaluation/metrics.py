"""Metrics of a predictions table, and the baseline: what never looking at the picture would score.

Every metric is a function of sums over faces (`statistics`), so that the bootstrap can re-weight
the faces without scoring them again. The values equal scikit-learn's.
"""

import numpy as np
import pandas as pd

from utils.evaluation.columns import known, part, predicted, tasks_of, truth
from utils.files import DataError, require
from utils.vocabulary import CLASSES, probability_columns, truth_column

WITHIN_YEARS = 5


def statistics(predictions, task):
    """What each face adds to the sums that the metrics are made of, shape [n, d].

    Age: count, absolute error, within 5 years, signed error (predicted minus true). Else: the
    face's cell of the confusion matrix, rows true, flattened (d = classes squared). Faces without
    a true label or a prediction add zeros.
    """
    use = known(predictions, task)
    target, guess = truth(predictions, task), predicted(predictions, task)
    if task == "age":
        error = np.where(use, guess - target, 0.0)
        columns = [use, np.abs(error), use & (np.abs(error) <= WITHIN_YEARS), error]
        return np.stack(columns, axis=1).astype(float)
    classes, rows = len(CLASSES[task]), np.flatnonzero(use)
    cells = np.zeros((len(predictions), classes * classes))
    cells[rows, target[rows] * classes + guess[rows]] = 1.0
    return cells


def metrics_from(task, sums):
    """Metrics from sums [..., d] of `statistics`: dict of ndarray [...], NaN without a face.

    As in scikit-learn, recall is averaged over the classes that occur among the true labels, F1
    over those that occur among the true or the predicted ones.
    """
    sums = np.asarray(sums, float)
    if task == "age":
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"mae": sums[..., 1] / sums[..., 0], "cs5": sums[..., 2] / sums[..., 0]}
    counts = sums.reshape(*sums.shape[:-1], len(CLASSES[task]), -1)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    real, guessed = counts.sum(axis=-1), counts.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(real > 0, hits / real, 0.0)
        f1 = np.where(real + guessed > 0, 2 * hits / (real + guessed), 0.0)
        return {
            "accuracy": hits.sum(axis=-1) / real.sum(axis=-1),
            "balanced_accuracy": recall.sum(axis=-1) / (real > 0).sum(axis=-1),
            "macro_f1": f1.sum(axis=-1) / (real + guessed > 0).sum(axis=-1),
        }


def confusion(predictions, task, split="test"):
    """Confusion matrix as counts: DataFrame [classes, classes], rows true, columns predicted."""
    names = list(CLASSES[task])
    counts = statistics(part(predictions, split), task).sum(axis=0).reshape(len(names), -1)
    return pd.DataFrame(counts.astype(int), index=names, columns=names)


def evaluate(predictions, splits=("val", "test")):
    """Score a predictions table (`utils.evaluation.columns`) on all tasks that it holds.

    Columns task, metric, split, value, n (faces scored); a split that the table lacks is left
    out. Errors in years, shares in 0..1.
    """
    require(predictions, ["image", "split"])
    rows = []
    for split in (split for split in splits if (predictions["split"] == split).any()):
        faces = part(predictions, split)
        for task in tasks_of(faces):
            n = int(known(faces, task).sum())
            values = metrics_from(task, statistics(faces, task).sum(axis=0)).items()
            rows += [(task, metric, split, float(value), n) for metric, value in values]
    return pd.DataFrame(rows, columns=["task", "metric", "split", "value", "n"])


def baseline(labels, splits=("val", "test")):
    """Score one answer for all faces, made on the training faces; as `evaluate`.

    `labels` has image, split and any of age, gender, ethnicity. Age: the median, which no constant
    beats on mean absolute error; classes: the most frequent one. A table without training faces
    lends its validation faces.
    """
    require(labels, ["image", "split"], "the table of labels")
    fit = labels[labels["split"] == ("train" if (labels["split"] == "train").any() else "val")]
    if fit.empty:
        raise DataError("baseline: no train or val faces; pass a table that has their labels")
    told = labels.filter(("image", "split", "age", "gender", "ethnicity")).reset_index(drop=True)
    if "age" in told and fit["age"].notna().any():
        told["pred_age"] = float(np.nanmedian(fit["age"].to_numpy(float)))
    for task in (task for task in CLASSES if truth_column(task) in told):
        codes = truth(fit, task)
        if (codes >= 0).any():
            winner = np.bincount(codes[codes >= 0]).argmax()
            told[probability_columns(task)] = np.eye(len(CLASSES[task]))[winner]
    return evaluate(told, splits)
