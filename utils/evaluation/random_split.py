"""What near-duplicates between training and test faces are worth.

On a random split some test faces have a near-duplicate among the training faces. Three views: the
same protocol on both splits; within a run on the random split, test faces with such a duplicate
against those without; and the group-aware split of earlier runs, whose rule missed some.

Each gives one row a task: task, metric, a value for each of the two sides, their numbers of faces
(``n_<side>``), the difference (first minus second), ci_low, ci_high and p.
"""

import numpy as np
import pandas as pd

from utils.evaluation.bootstrap import Resamples, draw, gap, groups_of, scored
from utils.evaluation.columns import known, part, tasks_of
from utils.files import require
from utils.vocabulary import HEADLINE


def _table(sides):
    """Two sides by name, each faces, their resamples and a mask of the faces that count."""
    rows, (first, second) = [], (tasks_of(faces) for faces, _, _ in sides.values())
    for task in (task for task in first if task in second):
        row = {"task": task, "metric": HEADLINE[task]}
        found = {n: scored(f, drawn, *row.values(), m) for n, (f, drawn, m) in sides.items()}
        row |= {name: value for name, (value, _) in found.items()} | gap(*found.values())
        counts = {f"n_{n}": (known(f, task) & m).sum() for n, (f, _, m) in sides.items()}
        rows.append(row | counts)
    return pd.DataFrame(rows)


def split_effect(group_run, random_run, splits=None, resamples=2000, seed=129):
    """The ``random`` against the ``group`` split, for one protocol."""
    sides = {}  # on other faces, so resampled independently
    for number, (name, run) in enumerate({"random": random_run, "group": group_run}.items()):
        faces = part(run, "test")
        drawn = Resamples(groups_of(faces, splits), resamples, seed + number)
        sides[name] = (faces, drawn, np.ones(len(faces), bool))
    return _table(sides)


def leaked(predictions, splits):
    """Which test faces have a member of their group in training: bool, as `part(., "test")`.

    Faces that the predictions (of all splits) lack count as training faces if `splits` (columns
    image and group) holds them: training faces are often not written.
    """
    require(splits, ["image", "group"], "the split")
    here = predictions.set_index("image")["split"]
    other = splits["image"].map(here).fillna("train").eq("train").to_numpy()
    groups = pd.Series(groups_of(part(predictions, "test"), splits))
    return groups.isin(splits["group"][other]).to_numpy()


def near_duplicates_effect(random_run, splits, resamples=2000, seed=129):
    """Of a run on the random split: faces ``with_duplicate`` in training, and ``without``."""
    faces, mark = part(random_run, "test"), leaked(random_run, splits)
    drawn = draw(faces, splits, resamples, seed)
    return _table({"with_duplicate": (faces, drawn, mark), "without": (faces, drawn, ~mark)})


def clean_effect(predictions, splits, resamples=2000, seed=129):
    """Faces ``clean`` of near-duplicates in the former training part, against ``all`` of them."""
    if "copy_in_train" not in splits:
        return pd.DataFrame()
    faces, said = part(predictions, "test"), splits["copy_in_train"].astype(str).str.lower()
    clean = ~faces["image"].isin(splits["image"][said.isin(["true", "1", "yes"])]).to_numpy()
    drawn = draw(faces, splits, resamples, seed)
    return _table({"clean": (faces, drawn, clean), "all": (faces, drawn, clean | True)})
