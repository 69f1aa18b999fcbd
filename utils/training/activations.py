"""What the frozen part of a network says of every face: computed once, kept on disk."""

import hashlib
import math

import keras
import numpy as np
from tqdm.auto import tqdm

from utils.datasets.imagecache import check_disk
from utils.files import locked, read_json, release_pages, write_json
from utils.paths import cache_dir

CHUNK = 1024  # faces between two marks from which an interrupted extraction goes on


def weights_digest(network: keras.Model) -> str:
    """A digest of all weights of a network."""
    digest = hashlib.sha256()
    for array in network.get_weights():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _open(folder, shape) -> tuple[np.ndarray, int]:
    """The array on disk and how many faces of it are done."""
    mark, path = folder / "done.json", folder / "activations.npy"
    if mark.is_file() and path.is_file():
        content = read_json(mark)
        if content["shape"] == list(shape):
            return np.load(path, mmap_mode="r+"), content["done"]
    folder.mkdir(parents=True, exist_ok=True)
    mark.unlink(missing_ok=True)
    check_disk(folder, 2 * math.prod(shape), "the cache of activations")
    return np.lib.format.open_memmap(path, "w+", np.float16, shape), 0


def cached_activations(
    lower: keras.Model,
    images: np.ndarray,
    key: str,
    batch_size: int = 64,
    progress: bool = True,
    mirror: bool = True,
) -> np.ndarray:
    """Output of the frozen lower part for each picture and its mirror image.

    Parameters
    ----------
    lower : keras.Model
        First part of `utils.backbones.cut`.
    images : uint8 array [n, size, size, 3]
    key : str
        Fingerprint of the pictures.
    batch_size : int
    progress : bool
        Show a progress bar. An interrupted extraction goes on where it stopped.
    mirror : bool
        Whether the mirror images too: half the time without.

    Returns
    -------
    float16 array [n, 2, ...], or [n, ...] without `mirror`
        Memory-mapped; index 0 of axis 1 is the picture, 1 its mirror image.
    """
    # Layer names that Keras counts up are left out: they depend on what the process did before.
    # The weights are float32 under every policy, so they do not tell the precision.
    computed = ",".join(sorted({layer.compute_dtype for layer in lower.layers}))
    seam = f"{lower.layers[-1].name}|{lower.input_shape}|{lower.output_shape}"
    name = f"{key}|{seam}|{computed}|{weights_digest(lower)}" + ("" if mirror else "|plain")
    folder = cache_dir() / f"activations-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    shape = (len(images), *([2] if mirror else []), *lower.output_shape[1:])
    with locked(folder):
        _extract(lower, images, folder, shape, batch_size, progress, mirror)
    return np.load(folder / "activations.npy", mmap_mode="r")


def _extract(lower, images, folder, shape, batch_size: int, progress: bool, mirror: bool) -> None:
    array, done = _open(folder, shape)
    bar = tqdm(
        total=len(images),
        initial=done,
        disable=not progress,
        unit="face",
        desc=f"features {images.shape[1]} px",
        mininterval=5.0,
    )
    for start in range(done, len(images), CHUNK):
        stop = min(start + CHUNK, len(images))
        for first in range(start, stop, batch_size):
            rows = slice(first, min(first + batch_size, stop))
            batch = np.asarray(images[rows])
            for variant in range(1 + mirror):
                pictures = np.ascontiguousarray(batch[:, :, ::-1] if variant else batch)
                values = np.asarray(lower.predict_on_batch(pictures), "float32")
                place = (rows, variant) if mirror else rows
                array[place] = np.clip(values, -65504, 65504)
            bar.update(rows.stop - rows.start)
        array.flush()
        release_pages(array)
        release_pages(images)
        write_json(folder / "done.json", {"shape": shape, "done": stop})
    bar.close()
