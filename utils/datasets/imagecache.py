"""All pictures of a data set as one uint8 array on disk, decoded once."""

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from utils.datasets.facetable import DataError, FaceSet, exclusions_table
from utils.files import locked, read_json, write_aside, write_json
from utils.paths import cache_dir

DECODER = "pillow-bilinear-1"  # change when the pixels would change: old caches are left alone
# What is taken from a picture before it is resized: its colour, its detail.
LOOKS = ("colour", "grey", "colour48", "grey48")


def _key(faces: FaceSet, size: int, look: str) -> str:
    parts = [DECODER, str(size), faces.name, str(faces.root), *faces.table["image"]]
    parts += [] if look == "colour" else [look]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def look_of(picture: Image.Image, look: str) -> Image.Image:
    """Take colour, detail or both from a picture.

    Parameters
    ----------
    picture : PIL.Image
        RGB.
    look : {"colour", "grey", "colour48", "grey48"}
        ``grey``: three equal channels. ``48``: shrunk to 48 x 48 pixels.

    Returns
    -------
    PIL.Image
        RGB.

    Examples
    --------
    >>> look_of(Image.new("RGB", (200, 200), "red"), "grey48").getpixel((0, 0))
    (76, 76, 76)
    """
    if look.startswith("grey"):
        picture = picture.convert("L").convert("RGB")
    return picture.resize((48, 48), Image.Resampling.BILINEAR) if "48" in look else picture


def _decode(faces: FaceSet, image: str, size: int, look: str, out: np.ndarray) -> str | None:
    """Decode one picture into `out`; return the reason if it cannot be read."""
    try:
        picture = look_of(faces.read(image), look)
    except DataError as error:
        return str(error)
    if picture.size != (size, size):
        # Pillow widens the bilinear filter when it shrinks, so nothing aliases.
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    out[:] = np.asarray(picture)
    return None


def check_disk(path: Path, needed: int, what: str = "the image cache") -> None:
    """Refuse to fill a disk: a memory map that finds no room ends the process without a word."""
    path.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path).free
    if free < needed:
        raise DataError(
            f"{what} needs {needed / 1e9:.1f} GB in {path}, {free / 1e9:.1f} GB are free; "
            "free some space, or set FACES_WORK_DIR to another disk"
        )


def _build(
    faces: FaceSet, size: int, look: str, folder: Path, workers: int, progress: bool
) -> None:
    names = faces.table["image"].tolist()
    shape = (len(names), size, size, 3)
    check_disk(folder.parent, int(np.prod(shape, dtype=np.int64)) + 10_000_000)
    with write_aside(folder) as aside:
        aside.mkdir()
        images = np.lib.format.open_memmap(aside / "images.npy", "w+", np.uint8, shape)
        with ThreadPoolExecutor(max_workers=workers) as pool:
            done = pool.map(
                lambda k: _decode(faces, names[k], size, look, images[k]), range(len(names))
            )
            bar = tqdm(
                done,
                total=len(names),
                desc=f"decode {faces.name} {size} px",
                disable=not progress,
                unit="face",
                mininterval=1.0,
            )
            reasons = list(bar)
        images.flush()
        bad = [(name, why) for name, why in zip(names, reasons, strict=True) if why]
        exclusions_table(bad).to_csv(aside / "unreadable.csv", index=False)
        write_json(aside / "cache.json", {"shape": shape, "decoder": DECODER})


def _is_whole(folder: Path, n: int, size: int) -> bool:
    try:
        content = read_json(folder / "cache.json")
        shape = np.load(folder / "images.npy", mmap_mode="r").shape
        return list(shape) == content["shape"] == [n, size, size, 3]
    except (OSError, ValueError, KeyError):
        return False


def load_images(
    faces: FaceSet, size: int, workers: int = 4, progress: bool = True, look: str = "colour"
) -> tuple[FaceSet, np.ndarray]:
    """Return the pictures as an array, from the cache or by decoding them now.

    Parameters
    ----------
    faces : FaceSet
    size : int
        Width and height in pixels.
    workers : int
        Decoding threads.
    progress : bool
        Show a progress bar.
    look : str
        See `look_of`.

    Returns
    -------
    faces : FaceSet
        Without the unreadable pictures, which are in its ``exclusions``.
    images : uint8 array [n, size, size, 3]
        RGB, 0..255, memory-mapped read-only; row i belongs to row i of ``faces.table``.

    Raises
    ------
    DataError
        If the disk is too small, or no picture can be read.
    """
    if not 16 <= size <= 1024:
        raise ValueError(f"image size {size} px is not usable; expected 16 to 1024")
    if look not in LOOKS:
        raise ValueError(f"look {look!r} is unknown; expected one of {LOOKS}")
    folder = cache_dir() / f"images-{faces.name}-{size}-{_key(faces, size, look)}"
    with locked(folder):
        if not _is_whole(folder, len(faces), size):
            shutil.rmtree(folder, ignore_errors=True)
            _build(faces, size, look, folder, workers, progress)
    images = np.load(folder / "images.npy", mmap_mode="r")
    bad = pd.read_csv(folder / "unreadable.csv", dtype=str)
    if len(bad):
        keep = np.flatnonzero(~faces.table["image"].isin(bad["image"]))
        faces = faces.exclude(
            dict(zip(bad["image"], bad["reason"], strict=True)), "readable pictures"
        )
        images = images[keep]
    return faces, images
