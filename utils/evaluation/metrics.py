"""Metrics of a predictions table.

Every metric here is a function of sums over faces (`statistics`), so that the bootstrap can
re-weight the faces without scoring them again. The values equal scikit-learn's.
"""

import numpy as np
import pandas as pd

from utils.evaluation.columns import (
    CLASSES,
    METRICS,
    known,
    part,
    predicted,
    require,
    tasks_of,
    truth,
)

WITHIN_YEARS = 5


def statistics(predictions, task):
    """What each face adds to the sums that the metrics are made of.

    Returns
    -------
    ndarray, shape [n, d]
        Age: count, absolute error, within 5 years, signed error (predicted minus true).
        Else: the face's cell of the confusion matrix, rows true, flattened (d = classes squared).
        Faces without a true label or a prediction add zeros.
    """
    use = known(predictions, task)
    target, guess = truth(predictions, task), predicted(predictions, task)
    if task == "age":
        error = np.where(use, guess - target, 0.0)
        columns = [use, np.abs(error), use & (np.abs(error) <= WITHIN_YEARS), error]
        return np.stack(columns, axis=1).astype(float)
    classes = len(CLASSES[task])
    cells = np.zeros((len(predictions), classes * classes))
    rows = np.flatnonzero(use)
    cells[rows, target[rows] * classes + guess[rows]] = 1.0
    return cells


def metrics_from(task, sums):
    """Metrics from summed statistics.

    Parameters
    ----------
    sums : ndarray, shape [..., d]
        Sums over faces of `statistics`, weighted or not.

    Returns
    -------
    dict of ndarray, shape [...]
        NaN where no face is left.

    >>> {name: float(value) for name, value in metrics_from("age", [4, 10, 3, -2]).items()}
    {'mae': 2.5, 'cs5': 0.75}
    """
    sums = np.asarray(sums, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        if task == "age":
            return {"mae": sums[..., 1] / sums[..., 0], "cs5": sums[..., 2] / sums[..., 0]}
        classes = len(CLASSES[task])
        return from_confusion(sums.reshape(*sums.shape[:-1], classes, classes))


def from_confusion(counts):
    """Accuracy, balanced accuracy and macro F1 of confusion matrices.

    Parameters
    ----------
    counts : ndarray, shape [..., classes, classes]
        Rows are true classes, columns predicted ones.

    Notes
    -----
    As in scikit-learn, recall is averaged over the classes that occur among the true labels, F1
    over those that occur among the true or the predicted ones.
    """
    counts = np.asarray(counts, float)
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
    """Confusion matrix as counts, rows true, columns predicted.

    Returns
    -------
    DataFrame, shape [classes, classes]
    """
    names = list(CLASSES[task])
    counts = statistics(part(predictions, split), task).sum(axis=0).reshape(len(names), -1)
    return pd.DataFrame(counts.astype(int), index=names, columns=names)


def evaluate(predictions, splits=("val", "test")):
    """Score a predictions table on all tasks that it holds.

    Parameters
    ----------
    predictions : DataFrame
        See `utils.evaluation.columns`.
    splits : sequence of str
        Splits to score; one that the table lacks is left out.

    Returns
    -------
    DataFrame
        Columns task, metric, split, value, n (faces scored). Errors in years, shares in 0..1.
    """
    require(predictions, ["image", "split"])
    rows = []
    for split in splits:
        if not (predictions["split"] == split).any():
            continue
        faces = part(predictions, split)
        for task in tasks_of(faces):
            n = int(known(faces, task).sum())
            values = metrics_from(task, statistics(faces, task).sum(axis=0))
            rows += [(task, metric, split, float(values[metric]), n) for metric in METRICS[task]]
    return pd.DataFrame(rows, columns=["task", "metric", "split", "value", "n"])
