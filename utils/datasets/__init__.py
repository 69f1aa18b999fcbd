"""What do we know about each face? Loaders, duplicates, splits and the image cache.

>>> faces = load("synthetic", n=40)
>>> len(faces), sorted(faces.table["gender"].unique())
(40, ['female', 'male'])
"""

import hashlib
import importlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from utils.datasets.facetable import DataError, FaceSet
from utils.datasets.splits import assign_splits, check_no_leak, published_split

# A loader is a function (root, **options) -> FaceSet, or "module:function", imported on use so that
# evaluation needs no image library.
LOADERS = {
    "utkface": "utils.datasets.utkface:load_utkface",
    "utkface_csv": "utils.datasets.utkface_csv:load_utkface_csv",
    "wiki": "utils.datasets.wiki:load_wiki",
    "fairface": "utils.datasets.fairface:load_fairface",
    "synthetic": "utils.datasets.synthetic:load_synthetic",
}


@dataclass
class Prepared:
    """Faces with groups and splits, and their pictures row by row.

    Attributes
    ----------
    faces : FaceSet
    images : uint8 array [n, size, size, 3]
    fingerprint : str
        Changes whenever a face, a label, a group or a side of the split changes.
    pictures : str
        Changes whenever a picture or their order changes, whatever the labels and the split.
    """

    faces: FaceSet
    images: np.ndarray
    fingerprint: str
    pictures: str

    @property
    def table(self) -> pd.DataFrame:
        """The FaceTable."""
        return self.faces.table

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split."""
        return np.flatnonzero(self.table["split"] == split)


def load(name: str, root: Path | None = None, **options) -> FaceSet:
    """Load a data set by its name.

    Raises
    ------
    ValueError
        If there is no loader of that name.
    DataError
        If the files are not there, or hold no face.
    """
    if name not in LOADERS:
        raise ValueError(f"data set {name!r} is unknown; expected one of {sorted(LOADERS)}")
    loader = LOADERS[name]
    if isinstance(loader, str):
        module, function = loader.split(":")
        loader = getattr(importlib.import_module(module), function)
    return loader(root, **options)


def limited(faces: FaceSet, limit: int) -> FaceSet:
    """A fixed random choice of `limit` whole groups, the same whatever the row order."""
    if not 0 < limit < len(faces):
        return faces
    order = faces.table["group"].map(lambda g: hashlib.blake2b(g.encode()).hexdigest())
    first = order.sort_values(kind="stable").index[:limit]
    return faces.subset(faces.table.index.isin(first))


def with_splits(
    faces: FaceSet, split: str = "group", seed: int = 129, limit: int = 0, progress: bool = True
) -> FaceSet:
    """Find duplicate groups and assign train, val and test."""
    from utils.datasets.duplicates import assign_groups

    faces = limited(assign_groups(faces, progress=progress), limit)
    published = published_split(faces.name) if seed == 129 else None
    table = faces.table.copy()
    table["split"] = assign_splits(table, seed, split, published)
    if split == "group":
        check_no_leak(table)
    return replace(faces, table=table)


def prepare(
    name: str,
    size: int,
    split: str = "group",
    seed: int = 129,
    limit: int = 0,
    root: Path | None = None,
    progress: bool = True,
    look: str = "colour",
    **options,
) -> Prepared:
    """Load, group, split and decode a data set.

    Parameters
    ----------
    name : str
        One of ``LOADERS``.
    size : int
        Pixels of the square pictures.
    split : {"group", "naive"}
        See `utils.datasets.splits.assign_splits`.
    seed : int
        Seed of the split.
    limit : int
        Use only that many faces, chosen by a hash of their names; 0 for all.
    look : {"colour", "grey", "colour48", "grey48"}
        See `utils.datasets.imagecache.look_of`.
    **options
        Passed to the loader.
    """
    faces = load(name, root, **options)
    from utils.datasets.imagecache import load_images

    # All pictures are decoded, also under a limit: the cache serves every later run.
    decoded, images = load_images(faces, size, progress=progress, look=look)
    chosen = with_splits(decoded, split, seed, limit, progress)
    rows = pd.Index(decoded.table["image"]).get_indexer(chosen.table["image"])
    if len(rows) != len(decoded) or (rows != np.arange(len(rows))).any():
        images = images[rows]
    suffix = "" if look == "colour" else look
    table = chosen.table.to_csv(index=False) + suffix
    pictures = "\n".join([name, str(root), str(options), suffix, *chosen.table["image"]])
    return Prepared(chosen, images, *map(_digest, (table, pictures)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


__all__ = ["LOADERS", "DataError", "FaceSet", "Prepared", "load", "prepare", "with_splits"]
