"""How honest the probabilities and the age intervals are.

Expected calibration error: mean gap between confidence and accuracy over bins of confidence,
weighted by their faces (Guo et al. 2017); it depends on the bins, so they are named. Temperature
scaling divides the logits by one number, fitted on validation faces only.
"""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from utils.evaluation.columns import known, part, probabilities, require, tasks_of, truth
from utils.vocabulary import AGE_BINS, CLASSES, age_bin

BINS = 15  # of equal width
TINY = 1e-12


def reliability(p, labels, bins=BINS):
    """Confidence, accuracy and n in the bins that are not empty, of p [n, classes], labels [n]."""
    right = (p.argmax(axis=1) == labels).astype(float)
    table = pd.DataFrame({"confidence": p.max(axis=1), "accuracy": right, "n": 1})
    place = np.digitize(table["confidence"], np.linspace(0, 1, bins + 1)[1:-1], right=True)
    means = table.groupby(place).agg({"confidence": "mean", "accuracy": "mean", "n": "size"})
    return means.reset_index(drop=True)


def ece(p, labels, bins=BINS):
    """Expected calibration error, 0..1."""
    table = reliability(p, labels, bins)
    return float(np.average((table["confidence"] - table["accuracy"]).abs(), weights=table["n"]))


def nll(p, labels):
    """Mean negative log-likelihood of the true classes."""
    return float(-np.log(np.maximum(p[np.arange(len(labels)), labels], TINY)).mean())


def apply_temperature(p, temperature):
    """Probabilities with their logits divided by `temperature`; above 1 softens them."""
    return softmax(np.log(np.maximum(p, TINY)) / temperature, axis=1)


def fit_temperature(p, labels):
    """Temperature with the smallest negative log-likelihood, within 0.05..20."""

    def loss(log):
        return nll(apply_temperature(p, np.exp(log)), labels)

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded").x))


def known_probabilities(predictions, task, split):
    """Probabilities and true classes of the faces of a split that have both."""
    faces = part(predictions, split)
    use = known(faces, task)
    return probabilities(faces, task)[use], truth(faces, task)[use]


def calibration(predictions):
    """Calibration on test before and after temperature scaling fitted on validation.

    Without validation faces the scaled values are missing: test faces are never fitted on. A task
    whose answers are all 0 or 1 is left out: they say nothing of confidence.
    """
    rows, has_val = [], (predictions["split"] == "val").any()
    for task in (task for task in tasks_of(part(predictions, "test")) if task in CLASSES):
        p, labels = known_probabilities(predictions, task, "test")
        fit = known_probabilities(predictions, task, "val") if has_val else ([], [])
        row = {"task": task, "binning": f"{BINS} equal-width bins", "n": len(labels)}
        row |= {"ece": ece(p, labels), "nll": nll(p, labels), "n_val": len(fit[1])}
        if row["n_val"]:
            row["temperature"] = fit_temperature(*fit)
            scaled = apply_temperature(p, row["temperature"])
            row |= {"ece_scaled": ece(scaled, labels), "nll_scaled": nll(scaled, labels)}
        rows += [row] * (not np.isin(p, (0, 1)).all())
    names = "task binning ece ece_scaled nll nll_scaled temperature n_val n".split()
    return pd.DataFrame(rows, columns=names)


def coverage(faces, resamples, claimed=0.8):
    """Share of true ages inside the interval from `age_q10` to `age_q90`, all and by age bin.

    For predictions of one split, which the resamples were drawn for; `width` is a mean in years.
    """
    names = ["age", "age_q10", "age_q90"]
    require(faces, names)
    use = faces[names].notna().all(axis=1).to_numpy()
    age, low, high = faces[names].fillna(0).to_numpy(float).T
    masks, rows = {"all": use}, []
    masks |= {name: use & (age_bin(age) == number) for number, name in enumerate(AGE_BINS)}
    for name, mask in ((name, mask) for name, mask in masks.items() if mask.any()):
        row = {"group": name, **resamples.mean((low <= age) & (age <= high), mask)}
        rows.append(row | {"width": (high - low)[mask].mean(), "claimed": claimed})
    return pd.DataFrame(rows).rename(columns={"value": "coverage"})
