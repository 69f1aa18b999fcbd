"""What do we know about each face? Loaders, near-duplicates, splits and the image store.

>>> faces = load("synthetic", n=40)
>>> len(faces), sorted(faces.table["gender"].unique())
(40, ['female', 'male'])
"""

import contextlib
import hashlib
import importlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from utils.datasets.near_duplicates import assign_groups
from utils.datasets.pictures import open_rgb
from utils.datasets.splits import PUBLISHED_SEED, assign_splits, check_no_leak, check_sizes
from utils.datasets.store import load_stored
from utils.datasets.table import FaceSet, new_table
from utils.files import DataError
from utils.paths import data_dir
from utils.study import published_split

# A loader is a function (root, **options) -> FaceSet, or "module:function", imported on use so that
# a study without WIKI needs no reader of MATLAB's files.
LOADERS = {
    "utkface": "utils.datasets.utkface:load_utkface",
    "utkface_csv": "utils.datasets.utkface_csv:load_utkface_csv",
    "wiki": "utils.datasets.wiki:load_wiki",
    "fairface": "utils.datasets.fairface:load_fairface",
    "synthetic": "utils.datasets.synthetic:load_synthetic",
}


@dataclass
class Prepared:
    """Faces with groups and splits, and their pictures row by row: uint8 [n, size, size, 3].

    `digest` changes whenever a face, a label, a group, a side of the split or the image mode
    changes. `pictures` changes whenever a pixel or the order of the pictures changes, whatever
    names, labels and split are: the key of what is computed from pixels alone.
    """

    faces: FaceSet
    images: np.ndarray
    digest: str
    pictures: str

    @property
    def table(self) -> pd.DataFrame:
        """The FaceTable."""
        return self.faces.table

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split."""
        return np.flatnonzero(self.table["split"] == split)


def load(name: str, root: Path | str | None = None, **options) -> FaceSet:
    """Load one of ``LOADERS`` by its name; a DataError if no picture of it is there to be read.

    `root` holds the set, packed or not, or is the set; by default ``FACES_DATA_DIR`` or
    ``data/raw``. `options` are passed to the loader.
    """
    if name not in LOADERS:
        raise ValueError(f"data set {name!r} is unknown; expected one of {sorted(LOADERS)}")
    loader = LOADERS[name]
    if isinstance(loader, str):
        module, function = loader.split(":")
        loader = getattr(importlib.import_module(module), function)
    try:
        faces = loader(Path(root) if root else data_dir(), **options)
    except OSError as error:
        raise DataError(f"{name} cannot be loaded: {error}") from None
    for image in faces.table["image"]:
        with contextlib.suppress(DataError):
            faces.read(image)
            return faces
    raise DataError(f"{name}: none of its {len(faces)} pictures can be read, such as {image}")


def is_there(name: str, folder: Path | str | None = None) -> str:
    """Whether a data set can be loaded (`load`): empty, or a digest of labels and files."""
    try:
        faces = load(name, folder)
        return faces.key(faces.table.to_csv(index=False))
    except DataError:
        return ""


def limited(faces: FaceSet, limit: int) -> FaceSet:
    """A fixed random choice of whole groups, the same whatever the row order.

    As many groups as bring the number of faces closest to `limit`; 0 for all.
    """
    if not 0 < limit < len(faces):
        return faces
    sizes = faces.table.groupby("group").size()
    order = sorted(sizes.index, key=lambda g: hashlib.blake2b(g.encode()).hexdigest())
    totals = sizes[order].cumsum()
    chosen = order[: int(np.argmin(np.abs(totals.to_numpy() - limit))) + 1]
    return faces.subset(faces.table["group"].isin(chosen))


def _with_groups(faces: FaceSet, progress: bool = True) -> FaceSet:
    """Put near-duplicates into one group.

    Where the project publishes a split that knows all faces, its groups answer: a search ends in
    the same ones, but for pairs at the threshold, which rounding decides.
    """
    published = published_split(faces.name)
    if published is None or not faces.table["image"].isin(published["image"]).all():
        return faces if faces.grouped else assign_groups(faces, progress=progress)
    groups = faces.table["image"].map(published.set_index("image")["group"])
    return replace(faces, table=faces.table.assign(group=groups))


def with_splits(
    faces: FaceSet, split: str = "group", seed: int = 129, limit: int = 0, progress: bool = True
) -> FaceSet:
    """Find near-duplicates and assign train, val and test (and ``excluded``).

    Where the project publishes a split of the data set, its sides answer for seed 129.
    """
    found, published = _with_groups(faces, progress), published_split(faces.name)
    if split not in ("group", "random"):
        return limited(_listed(found, split), limit)
    faces, published = limited(found, limit), published if seed == PUBLISHED_SEED else None
    table = faces.table.assign(split=assign_splits(faces.table, seed, split, published))
    if split == "group":
        check_no_leak(table)
    return replace(faces, table=table)


def _listed(faces: FaceSet, kind: str) -> FaceSet:
    """The faces of a file list of others, on its sides."""
    sides = faces.table["image"].map(published_split(faces.name, kind).set_index("image")["split"])
    faces = faces.subset(sides.notna())
    return replace(faces, table=faces.table.assign(split=sides.dropna().to_numpy()))


def prepare(
    name: str,
    size: int,
    split: str = "group",
    seed: int = 129,
    limit: int = 0,
    root: Path | str | None = None,
    progress: bool = True,
    image_mode: str = "colour",
    **options,
) -> Prepared:
    """Load, group, split and decode a data set; a DataError if there are too few faces for that.

    For `name`, `root` and `options` see `load`; `size` and `image_mode` (`pictures.in_mode`) are
    those of the square pictures; `split` is ``group`` or ``random`` (`splits.assign_splits`), or
    names a file list, as ``coral`` does ``data/splits/utkface-coral.csv``;
    `limit` uses only about that many faces, in whole groups (`limited`), 0 all.
    """
    faces = with_splits(load(name, root, **options), split, seed, limit, progress)
    check_sizes(faces.table, name)
    stored = load_stored(faces, size, progress=progress, image_mode=image_mode)
    table = stored.faces.table.assign(file=stored.digests["file"])
    digest = hashlib.sha256((table.to_csv(index=False) + image_mode).encode())
    pixels = hashlib.sha256("\n".join(stored.digests["pixels"]).encode())
    return Prepared(stored.faces, stored.images, digest.hexdigest()[:16], pixels.hexdigest()[:16])


__all__ = ["LOADERS", "DataError", "FaceSet", "Prepared", "is_there", "limited", "load"]
__all__ += ["new_table", "open_rgb", "prepare", "with_splits"]
