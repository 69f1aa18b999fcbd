"""How honest the probabilities and the age intervals are.

Expected calibration error: mean gap between confidence and accuracy over bins of confidence,
weighted by their faces (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017). It depends on the
binning, so each number carries the name of its binning. Temperature scaling (Guo et al. 2017)
divides the logits by one number, fitted on validation faces only.
"""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from utils.datasets.facetable import AGE_BINS, age_bin
from utils.evaluation.bootstrap import interval
from utils.evaluation.columns import CLASSES, known, part, probabilities, require, tasks_of, truth

BINNINGS = ("equal-width", "equal-mass")
TINY = 1e-12


def reliability(p, labels, bins=15, binning="equal-width"):
    """Confidence and accuracy in bins of confidence.

    Parameters
    ----------
    p : ndarray, shape [n, classes]
        Probabilities.
    labels : ndarray of int, shape [n]
        True classes.
    bins : int
    binning : {"equal-width", "equal-mass"}
        Bins of the same width over 0..1, or with the same number of faces.

    Returns
    -------
    DataFrame
        Columns low, high, confidence, accuracy, n; empty bins are left out.
    """
    if binning not in BINNINGS:
        raise ValueError(f"binning {binning!r} is unknown; expected one of {', '.join(BINNINGS)}")
    p, labels = np.asarray(p, float), np.asarray(labels)
    if p.ndim != 2 or len(p) != len(labels) or not len(p):
        raise ValueError(f"got {p.shape} probabilities for {len(labels)} labels; expected [n, k]")
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    if binning == "equal-mass":
        edges = np.unique(np.quantile(confidence, edges))
        edges[0], edges[-1] = 0.0, 1.0
    place = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, len(edges) - 2)
    n = np.bincount(place, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, confidence, len(n)) / n
        hits = np.bincount(place, right, len(n)) / n
    table = {"low": edges[:-1], "high": edges[1:], "confidence": mean, "accuracy": hits, "n": n}
    return pd.DataFrame(table)[n > 0].reset_index(drop=True)


def ece(p, labels, bins=15, binning="equal-width"):
    """Expected calibration error, 0..1.

    >>> round(ece(np.array([[0.8, 0.2]] * 5), np.array([0, 0, 0, 0, 1])), 9)
    0.0
    """
    table = reliability(p, labels, bins, binning)
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["n"]).sum() / table["n"].sum())


def nll(p, labels):
    """Mean negative log-likelihood of the true classes."""
    chosen = np.asarray(p, float)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, TINY)).mean())


def apply_temperature(p, temperature):
    """Probabilities with their logits divided by `temperature`; above 1 softens them.

    >>> apply_temperature(np.array([[0.9, 0.1]]), 2.0).round(2).tolist()
    [[0.75, 0.25]]
    """
    logits = np.log(np.maximum(np.asarray(p, float), TINY)) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def fit_temperature(p, labels):
    """Temperature with the smallest negative log-likelihood, within 0.05..20."""
    found = minimize_scalar(
        lambda log: nll(apply_temperature(p, np.exp(log)), labels),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    return float(np.exp(found.x))


def calibration(predictions, bins=15, binning="equal-width"):
    """Calibration on test before and after temperature scaling fitted on validation.

    Returns
    -------
    DataFrame
        Columns task, binning, ece, ece_scaled, nll, nll_scaled, temperature, n_val, n. Without
        validation faces the scaled values are missing: test faces are never fitted on. A task
        whose answers are all 0 or 1 is left out: they say nothing of confidence.
    """
    test, rows = part(predictions, "test"), []
    has_val = (predictions["split"] == "val").any()
    for task in (task for task in tasks_of(test) if task in CLASSES):
        p, labels = _known(test, task)
        if np.isin(p, (0, 1)).all():
            continue  # bare answers, without a probability
        row = {
            "task": task,
            "binning": f"{bins} {binning} bins",
            "ece": ece(p, labels, bins, binning),
            "nll": nll(p, labels),
            "n": len(labels),
            "n_val": 0,
        }
        if has_val:
            p_val, labels_val = _known(part(predictions, "val"), task)
            if len(labels_val):
                row["n_val"] = len(labels_val)
                row["temperature"] = fit_temperature(p_val, labels_val)
                scaled = apply_temperature(p, row["temperature"])
                row["ece_scaled"] = ece(scaled, labels, bins, binning)
                row["nll_scaled"] = nll(scaled, labels)
        rows.append(row)
    return pd.DataFrame(
        rows,
        columns=[
            "task",
            "binning",
            "ece",
            "ece_scaled",
            "nll",
            "nll_scaled",
            "temperature",
            "n_val",
            "n",
        ],
    )


def _known(faces, task):
    use = known(faces, task)
    return probabilities(faces, task)[use], truth(faces, task)[use]


def coverage(faces, resamples, claimed=0.8):
    """Share of true ages inside the interval from `age_q10` to `age_q90`, all and by age bin.

    Parameters
    ----------
    faces : DataFrame
        Predictions of one split.
    resamples : Resamples
        Drawn for these faces.

    Returns
    -------
    DataFrame
        Columns group, coverage, ci_low, ci_high, width (mean, years), n, claimed.
    """
    names = ["age", "age_q10", "age_q90"]
    require(faces, names)
    use = faces[names].notna().all(axis=1).to_numpy()
    age, low, high = (faces[name].fillna(0).to_numpy(float) for name in names)
    inside = use & (low <= age) & (age <= high)
    masks = {"all": use}
    bins = age_bin(age)
    masks |= {name: use & (bins == number) for number, name in enumerate(AGE_BINS)}
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    members = np.stack(list(masks.values()), axis=1)
    drawn = resamples.sums(np.hstack([members & inside[:, None], members]))
    with np.errstate(invalid="ignore"):
        spread = drawn[:, : len(masks)] / drawn[:, len(masks) :]
    rows = []
    for column, (name, mask) in enumerate(masks.items()):
        ends, width = interval(spread[:, column]), (high - low)[mask].mean()
        rows.append((name, inside[mask].mean(), *ends, width, int(mask.sum()), claimed))
    columns = ["group", "coverage", "ci_low", "ci_high", "width", "n", "claimed"]
    return pd.DataFrame(rows, columns=columns)
