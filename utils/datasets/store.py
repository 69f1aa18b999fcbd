"""All pictures of a data set as one uint8 array on disk, decoded once."""

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from utils.datasets.archives import check_room
from utils.datasets.pictures import check_mode, in_mode
from utils.datasets.progress import progress_bar
from utils.datasets.table import FaceSet
from utils.files import DataError, locked, read_json, write_aside, write_json
from utils.paths import cache_dir

DECODER = "pillow-bilinear-2"  # change when the pixels would change: old caches are left alone


@dataclass
class Stored:
    """Faces whose pictures can be read, the others in ``exclusions``, and these pictures.

    `images` are RGB, uint8 [n, size, size, 3], memory-mapped read-only, row by row as in
    ``faces.table``; `digests` those of each row's ``pixels``, and of the ``file`` they come from.
    """

    faces: FaceSet
    images: np.ndarray
    digests: pd.DataFrame


def _key(faces: FaceSet, size: int, image_mode: str) -> str:
    """Of names, and of size and time of the files: a picture overwritten is another one."""
    digest = hashlib.sha256(f"{DECODER}\n{size}\n{image_mode}\n{faces.root}".encode())
    for image in faces.table["image"]:
        digest.update(f"\n{image}\t{faces.stamp(image)}".encode())
    return digest.hexdigest()[:16]


def _decode(faces: FaceSet, image: str, image_mode: str, out: np.ndarray) -> tuple[str, str, str]:
    """Decode one picture into `out`; digests of pixels and file, or the reason why not."""
    try:
        file, picture = faces.source_bytes(image), in_mode(faces.read(image), image_mode)
    except DataError as error:
        return "", "", str(error)
    if picture.size != out.shape[:2]:
        # Pillow widens the bilinear filter when it shrinks, so nothing aliases.
        picture = picture.resize(out.shape[:2], Image.Resampling.BILINEAR)
    out[:] = np.asarray(picture)
    pixels, file = (hashlib.sha256(part).hexdigest()[:32] for part in (out.tobytes(), file))
    return pixels, file, ""


def _build(faces: FaceSet, size: int, image_mode: str, folder: Path, workers: int, show: bool):
    names = faces.table["image"].tolist()
    check_room(folder.parent, len(names) * size * size * 3, "the image cache")
    with write_aside(folder) as aside:
        aside.mkdir()
        images = _array(aside / "images.npy", len(names), size)
        with ThreadPoolExecutor(max_workers=workers) as pool:
            found = pool.map(
                lambda k: _decode(faces, names[k], image_mode, images[k]), range(len(names))
            )
            title = f"decode {faces.name} {size} px"
            rows = list(progress_bar(found, total=len(names), desc=title, unit="face", show=show))
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
        write_json(aside / "cache.json", {"shape": images.shape, "decoder": DECODER})


def _array(path: Path, n: int, size: int) -> np.memmap:
    # One row at least: an empty file cannot be mapped.
    return np.lib.format.open_memmap(path, "w+", np.uint8, (max(n, 1), size, size, 3))


def _is_whole(folder: Path) -> bool:
    try:
        shape = np.load(folder / "images.npy", mmap_mode="r").shape
        return list(shape) == read_json(folder / "cache.json")["shape"]
    except (OSError, ValueError, KeyError):
        return False


def load_stored(
    faces: FaceSet, size: int, workers: int = 4, progress: bool = True, image_mode: str = "colour"
) -> Stored:
    """Pictures of `size` x `size` pixels, from the cache or decoded now by `workers` threads.

    A DataError tells of a disk that is too small, and of faces of which none can be read. For
    `image_mode` see `utils.datasets.pictures.in_mode`.
    """
    if not 16 <= size <= 1024:
        raise ValueError(f"image size {size} px is not usable; expected 16 to 1024")
    check_mode(image_mode)
    folder = cache_dir() / f"images-{faces.name}-{size}-{_key(faces, size, image_mode)}"
    with locked(folder):
        if not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
            _build(faces, size, image_mode, folder, workers, progress)
    content = pd.read_csv(folder / "content.csv", dtype=str, keep_default_na=False)
    bad = content[content["reason"] != ""]
    if len(bad):
        faces = faces.exclude(
            dict(zip(bad["image"], bad["reason"], strict=True)), "readable pictures"
        )
    digests = content.loc[content["reason"] == "", ["pixels", "file"]].reset_index(drop=True)
    return Stored(faces, np.load(folder / "images.npy", mmap_mode="r"), digests)


def load_images(faces: FaceSet, size: int, **options) -> tuple[FaceSet, np.ndarray]:
    """Faces whose pictures can be read, and these pictures; options as for `load_stored`."""
    stored = load_stored(faces, size, **options)
    return stored.faces, stored.images
