"""Age intervals and sets of classes that hold what they promise, on faces like those tried here.

Conformal prediction (Vovk et al. 2005; the crepes package) sets their size on validation faces.
Age intervals are sized apart for five ranges of the predicted age, sets of classes apart for each
true class, so that neither the old nor a rare class pays for the others. The promise is for new
faces of the same set; on photographs of other people it need not hold.
"""

import numpy as np
import pandas as pd
from crepes import ConformalClassifier, ConformalRegressor

from utils.evaluation.calibration import known_probabilities
from utils.evaluation.columns import (
    AGE_INTERVAL,
    known,
    part,
    probabilities,
    sized_interval,
    tasks_of,
    truth,
)
from utils.vocabulary import AGE_BINS, CLASSES, age_bin

LEVEL, SET_LEVEL = 0.8, 0.9
RANGES = 5  # of the predicted age, with equally many validation faces
NEEDED = ["age", "pred_age", *AGE_INTERVAL]


def age_sizes(predictions):
    """By how much to scale the network's own age intervals, from the validation faces.

    For `columns.sized_interval`: `edges` in years part the predicted ages, with a factor a range.
    """
    faces = part(predictions[predictions["age"].notna()], "val")
    age, said, low, high = faces[NEEDED].to_numpy(float).T
    edges = np.quantile(said, np.linspace(0, 1, RANGES + 1)[1:-1])
    model, zero = ConformalRegressor(), np.zeros(RANGES)
    own = np.maximum(high - low, 1.0) / 2
    model.fit(residuals=age - said, sigmas=own, bins=np.digitize(said, edges))
    factors = model.predict_int(zero, zero + 1, np.arange(RANGES), confidence=LEVEL)[:, 1]
    return {"edges": edges.tolist(), "factors": factors.tolist()}


def coverage(predictions, resamples):
    """How many true ages of test faces lie in their interval: the network's own, and conformal.

    One row an `interval` and `group` (all, age bins): coverage with its interval, mean `width` in
    years, `claimed`, n. `resamples` are of the test faces. Without validation faces the network's
    own alone.
    """
    faces = part(predictions, "test")
    use, age = known(faces, "age"), faces["age"].fillna(0).to_numpy(float)
    ends = {"from the network": faces[[*AGE_INTERVAL]].to_numpy(float)}
    if (predictions["split"] == "val").any():
        said = faces[NEEDED[1:]].to_numpy(float).T
        ends["conformal"] = sized_interval(*said, age_sizes(predictions))
    masks = {"all": use}
    masks |= {name: use & (age_bin(age) == number) for number, name in enumerate(AGE_BINS)}
    rows = []
    for way, (low, high) in ((way, both.T) for way, both in ends.items()):
        for group, mask in ((name, mask) for name, mask in masks.items() if mask.any()):
            held = resamples.mean((low <= age) & (age <= high), mask)
            about = {"interval": way, "group": group, "claimed": LEVEL}
            rows.append(about | held | {"width": float((high - low)[mask].mean())})
    return pd.DataFrame(rows).rename(columns={"value": "coverage"})


def class_sets(predictions, level=SET_LEVEL):
    """Which classes each test face may have, by task: bool [n, classes].

    A class is left out where fewer than 1 - `level` of the validation faces that have it got so
    small a probability for it; a class that too few of them have is judged by all of them.
    """
    found = {}
    for task in (task for task in tasks_of(part(predictions, "test")) if task in CLASSES):
        p, labels = known_probabilities(predictions, task, "val")
        asked = 1 - np.nan_to_num(probabilities(part(predictions, "test"), task))
        inside = np.ones(asked.shape, bool)
        own = p[np.arange(len(p)), labels]  # what each validation face gave its true class
        for number in range(p.shape[1]):
            rows = labels == number
            model = ConformalClassifier()
            model.fit(1 - own[rows if rows.sum() > 1 / (1 - level) else slice(None)])
            likely = model.predict_p(asked[:, [number]], smoothing=False)
            inside[:, number] = likely[:, 0] > 1 - level
        found[task] = inside
    return found


def sets(predictions, resamples):
    """Coverage and mean `size` of `class_sets`, and the share `alone` that name one class.

    One row a task and `group` (all, or the true class): coverage with its interval, claimed, n.
    """
    rows, faces = [], part(predictions, "test")
    for task, inside in class_sets(predictions).items():
        use, labels = known(faces, task), truth(faces, task)
        held, sizes = inside[np.arange(len(faces)), labels], inside.sum(axis=1)
        masks = {"all": use} | {k: use & (labels == i) for i, k in enumerate(CLASSES[task])}
        for group, mask in ((name, mask) for name, mask in masks.items() if mask.any()):
            row = {"task": task, "group": group, **resamples.mean(held, mask)}
            row |= {"size": sizes[mask].mean(), "alone": (sizes[mask] == 1).mean()}
            rows.append(row | {"claimed": SET_LEVEL})
    return pd.DataFrame(rows).rename(columns={"value": "coverage"})
