"""A second data set to learn from: its training faces, less copies of faces that judge."""

import numpy as np
import pandas as pd

from utils.datasets import FaceSet, Prepared, prepare
from utils.datasets.near_duplicates import assign_groups


def copied(judges: FaceSet, learned: FaceSet, progress: bool = True) -> set[str]:
    """Names of the faces of `learned` that are near-duplicates of one of `judges`."""
    table = pd.concat([judges.table, learned.table], ignore_index=True)
    paths = {name: one.path(name) for one in (judges, learned) for name in one.table["image"]}
    both = FaceSet(f"{judges.name}+{learned.name}", table, paths=paths)
    found = assign_groups(both, progress).table
    groups = found.loc[found["image"].isin(judges.table["image"]), "group"]
    return set(found.loc[found["group"].isin(groups), "image"]) - set(judges.table["image"])


def training_part(name: str, ours: Prepared, size: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Pictures and FaceTable of the data set `name`, to be learned from beside `ours`.

    ``split`` is ``train`` for those to learn from: its own training faces that copy no validation
    or test face of `ours`. Its pictures are taken as they are: cut them like `ours` before
    (``python -m utils.datasets pack wiki --like utkface``).
    """
    other = prepare(name, size)
    judges = ours.faces.subset(ours.table["split"].isin(["val", "test"]))
    train = other.table["split"] == "train"
    copies = copied(judges, other.faces.subset(train))
    print(
        f"{name}: {train.sum():,} training faces, {len(copies)} of them copies of faces that judge"
    )
    unseen = train & ~other.table["image"].isin(copies)
    return other.images, other.table.assign(split=np.where(unseen, "train", "excluded"))
