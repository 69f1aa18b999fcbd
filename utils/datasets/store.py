"""All pictures of a data set as one uint8 array on disk, decoded once."""

import hashlib
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from utils.datasets.archives import check_room
from utils.datasets.pictures import in_mode, resized
from utils.datasets.progress import in_threads
from utils.datasets.table import FaceSet
from utils.files import DataError, locked, release_pages, write_aside
from utils.paths import cache_dir

DECODER = "pillow-bilinear-2"  # change when the pixels would change: old caches are left alone


class Stored(NamedTuple):
    """Faces whose pictures can be read, the others in ``exclusions``, and these pictures.

    `images` are RGB, uint8 [n, size, size, 3], memory-mapped read-only, row by row as in
    ``faces.table``; `digests` those of each row's ``pixels``, and of the ``file`` they come from.
    """

    faces: FaceSet
    images: np.ndarray
    digests: pd.DataFrame


def _decode(faces: FaceSet, image: str, image_mode: str, out: np.ndarray) -> tuple[str, str, str]:
    """Decode one picture into `out`; digests of pixels and file, or the reason why not."""
    try:
        file, picture = faces.source_bytes(image), in_mode(faces.read(image), image_mode)
    except DataError as error:
        return "", "", str(error)
    out[:] = np.asarray(resized(picture, len(out)))
    return _digest(out), _digest(file), ""


def _digest(content) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _build(faces: FaceSet, size: int, image_mode: str, folder: Path, show: bool) -> None:
    names = faces.table["image"].tolist()
    check_room(folder.parent, len(names) * size * size * 3, "the image cache")
    with write_aside(folder) as aside:
        aside.mkdir()
        images = _array(aside / "images.npy", len(names), size)
        rows = in_threads(
            lambda row: _decode(faces, names[row], image_mode, images[row]),
            *(range(len(names)), f"decode {faces.name} {size} px", show),
        )
        content = pd.DataFrame(rows, columns=["pixels", "file", "reason"])
        content.insert(0, "image", names)
        whole = np.flatnonzero(content["reason"] == "")
        if len(whole) < len(names):  # close the gaps on disk: in memory it may not fit
            full, images = images, _array(aside / "whole.npy", len(whole), size)
            for start in range(0, len(whole), 512):
                images[start : start + 512] = full[whole[start : start + 512]]
            (aside / "whole.npy").replace(aside / "images.npy")
        images.flush()
        content.to_csv(aside / "content.csv", index=False)


def _array(path: Path, n: int, size: int) -> np.memmap:
    # One row at least: an empty file cannot be mapped.
    return np.lib.format.open_memmap(path, "w+", np.uint8, (max(n, 1), size, size, 3))


def _read(folder: Path) -> tuple[np.ndarray, pd.DataFrame] | None:
    """Pictures and content of a cache; None if it is not there, or broken."""
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        content = pd.read_csv(folder / "content.csv", dtype=str, keep_default_na=False)
        known = content.loc[content["reason"] == "", "pixels"]
        same = (_digest(image) == one for image, one in zip(images, known, strict=False))
        whole = len(images) == max(1, len(known)) and all(same)
        release_pages(images)
        return (images, content) if whole else None
    except (OSError, EOFError, KeyError, ValueError):  # as of an array that is cut short
        return None


def load_stored(faces: FaceSet, size: int, progress=True, image_mode: str = "colour") -> Stored:
    """Pictures of `size` x `size` pixels, from the cache or decoded now.

    A DataError tells of a disk that is too small, and of faces of which none can be read. For
    `image_mode` see `utils.datasets.pictures.in_mode`.
    """
    if not 16 <= size <= 1024:
        raise ValueError(f"image size {size} px is not usable; expected 16 to 1024")
    folder = cache_dir() / f"images-{faces.name}-{size}-{faces.key(DECODER, size, image_mode)}"
    with locked(folder):
        if (stored := _read(folder)) is None:
            shutil.rmtree(folder, ignore_errors=True)
            _build(faces, size, image_mode, folder, progress)
            stored = _read(folder)
    images, content = stored
    readable, reasons = content["reason"] == "", content.set_index("image")["reason"]
    if not readable.all():
        faces = faces.exclude(reasons[reasons != ""].to_dict(), "readable pictures")
    return Stored(faces, images, content.loc[readable, ["pixels", "file"]].reset_index(drop=True))
