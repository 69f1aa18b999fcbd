"""Which faces does a gallery show? Chosen by rule, never by hand."""

import numpy as np

from utils.evaluation.columns import CLASSES, known, predicted, probabilities, truth

WAYS = ("random", "confident_right", "confident_wrong", "by_gender", "by_ethnicity", "by_age_bin")


def confidence(predictions, task) -> np.ndarray:
    """How sure the run was, [n]: the greatest probability; for ages minus the 10-90 % width."""
    if task == "age":
        if {"age_q10", "age_q90"} <= set(predictions):
            return -(predictions["age_q90"] - predictions["age_q10"]).to_numpy(float)
        return np.zeros(len(predictions))
    return probabilities(predictions, task).max(axis=1)


def right(predictions, task, years=5) -> np.ndarray:
    """Mask of the faces judged rightly; for ages within `years` (wrong: beyond twice that)."""
    error = np.abs(predicted(predictions, task) - truth(predictions, task))
    return error <= years if task == "age" else error == 0


def choose_faces(predictions, task, how="random", n=6, seed=129) -> np.ndarray:
    """Positions in `predictions` of the faces to show.

    Parameters
    ----------
    predictions : DataFrame
        As a run writes it, one split.
    how : {"random", "confident_right", "confident_wrong", "by_gender", "by_ethnicity", \
"by_age_bin"}
        ``by_...`` takes random faces of each group in turn.
    n : int
        At most that many; fewer if there are not enough.

    Returns
    -------
    int array
    """
    if how not in WAYS:
        raise ValueError(f"choice {how!r} is unknown; expected one of {', '.join(WAYS)}")
    usable = np.flatnonzero(known(predictions, task))
    order = np.random.default_rng(seed).permutation(usable)
    if how == "random":
        return order[:n]
    if how.startswith("by_"):
        return _in_turn(predictions, how.removeprefix("by_"), order)[:n]
    good = right(predictions, task)
    if how == "confident_wrong":
        good = ~(right(predictions, task, years=10) if task == "age" else good)
    sure = confidence(predictions, task)
    order = order[good[order]]
    return order[np.argsort(-sure[order], kind="stable")][:n]


def _in_turn(predictions, column, order):
    labels = truth(predictions, column)[order]
    place = np.zeros(len(order), int)  # the how-manieth of its group each face is
    for label in range(len(CLASSES[column])):
        place[labels == label] = np.arange((labels == label).sum())
    shown = labels >= 0
    return order[shown][np.lexsort((labels[shown], place[shown]))]


def truth_text(predictions, task, position) -> str:
    """True label in words, such as ``female`` or ``31 years``."""
    value = truth(predictions, task)[position]
    return f"{value:.0f} years" if task == "age" else str(CLASSES[task][int(value)])


def prediction_text(predictions, task, position) -> str:
    """Prediction with its probability (ages: its 10-90 % range)."""
    value = predicted(predictions, task)[position]
    if task == "age":
        row = predictions.iloc[position]
        ends = "age_q10" in predictions and "age_q90" in predictions
        spread = f" ({row['age_q10']:.0f}-{row['age_q90']:.0f})" if ends else ""
        return f"{value:.0f} years{spread}"
    share = probabilities(predictions, task)[position].max()
    return f"{CLASSES[task][int(value)]} {share:.2f}"
