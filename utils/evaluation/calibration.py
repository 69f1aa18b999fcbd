"""How honest the probabilities and the age intervals are.

Expected calibration error: mean gap between confidence and accuracy over bins of confidence,
weighted by their faces (Guo et al. 2017); it depends on the bins, so they are named. Temperature
scaling divides the logits by one number, fitted on validation faces only.
"""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from utils.evaluation.bootstrap import gap, scored
from utils.evaluation.columns import known, part, probabilities, tasks_of, truth
from utils.evaluation.metrics import metrics_from, statistics
from utils.vocabulary import CLASSES, probability_columns

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


def logit_adjusted(predictions, resamples):
    """What a bonus for rare classes does for the balanced accuracy of ethnicity and age bin.

    Probabilities are divided by the class shares of the validation faces to the power `strength`:
    that with the best balanced accuracy there, of those that cost no accuracy there (Menon et al.:
    Long-Tail Learning via Logit Adjustment, ICLR 2021). One row a task that gains, on test faces:
    strength, before, value, difference with its interval and p, accuracy before and after, n.
    """
    faces, rows = part(predictions, "test"), []
    for task in (task for task in tasks_of(faces) if task in ("age_bin", "ethnicity")):
        strength, shares = _bonus(task, *known_probabilities(predictions, task, "val"))
        names = probability_columns(task)
        changed = faces.assign(**(faces[names] / shares**strength))
        new, old = (scored(one, resamples, task, "balanced_accuracy") for one in (changed, faces))
        sums = (statistics(one, task).sum(axis=0) for one in (changed, faces))
        after, before = (float(metrics_from(task, one)["accuracy"]) for one in sums)
        told = {"accuracy": after, "accuracy_before": before}
        row = {"task": task, "metric": "balanced_accuracy", "strength": strength, "value": new[0]}
        row |= {"before": old[0]} | gap(new, old) | told | {"n": int(known(faces, task).sum())}
        rows += [row] if strength else []
    return pd.DataFrame(rows)


def _bonus(task, p, labels):
    """Power and class shares of `logit_adjusted`, from validation faces."""
    kinds = p.shape[1]
    shares = np.maximum(np.bincount(labels, minlength=kinds), 1) / len(labels)

    def judged(strength):
        cells = labels * kinds + (p / shares**strength).argmax(axis=1)
        return metrics_from(task, np.bincount(cells, minlength=kinds**2))

    tried = {strength: judged(strength) for strength in np.linspace(0, 1, 21)}
    kept = {s: one for s, one in tried.items() if one["accuracy"] >= tried[0]["accuracy"]}
    return max(kept, key=lambda s: kept[s]["balanced_accuracy"]), shares
