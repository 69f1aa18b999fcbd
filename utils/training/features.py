"""What the frozen part of a network says of every face: computed once, kept on disk."""

import contextlib
import hashlib
import math
from itertools import takewhile

import keras
import numpy as np

from utils.datasets.archives import check_room
from utils.datasets.progress import progress_bar
from utils.files import locked, read_json, release_pages, write_json
from utils.paths import cache_dir

CHUNK = 1024  # faces between two marks from which an interrupted extraction goes on


def cached_features(
    lower: keras.Model,
    images: np.ndarray,
    pictures: str,
    batch_size: int = 64,
    progress: bool = True,
    flip: bool = True,
) -> np.ndarray:
    """Output of the frozen `lower` part for each picture and its mirror image, from the cache.

    `lower` is the first part of `utils.backbones.networks.cut`; `images` and `pictures`, a digest
    of their content, are as in `utils.datasets.Prepared`. An interrupted extraction goes on where
    it stopped. A float16 array [n, 2, ...], or [n, ...] without `flip`, memory-mapped; index 0 of
    axis 1 is the picture, 1 its mirror image.
    """
    # Layer names that Keras counts up are left out: they depend on what the process did before.
    # The weights are float32 under every policy, so they do not tell the precision.
    computed = ",".join(sorted({layer.compute_dtype for layer in lower.layers}))
    seam = f"{lower.layers[-1].name}|{lower.input_shape}|{lower.output_shape}"
    key = hashlib.sha256(f"{pictures}|{seam}|{computed}|{flip}".encode())
    for array in lower.get_weights():
        key.update(np.ascontiguousarray(array).tobytes())
    folder = cache_dir() / f"activations-{key.hexdigest()[:16]}"
    shape = (len(images), *([2] if flip else []), *lower.output_shape[1:])
    with locked(folder):
        _extract(lower, images, folder, shape, batch_size, progress, flip)
    return np.load(folder / "activations.npy", mmap_mode="r")


def _open(folder, shape) -> tuple[np.ndarray, list[str]]:
    """The array on disk, and digests of its chunks that are done and whole."""
    mark, path = folder / "done.json", folder / "activations.npy"
    # What is missing or damaged is begun anew.
    with contextlib.suppress(OSError, EOFError, ValueError, KeyError, TypeError):
        content, array = read_json(mark), np.load(path, mmap_mode="r+")
        if content["shape"] == list(shape) == list(array.shape):
            said = enumerate(content["digests"])
            whole = takewhile(lambda one: _digest(array, one[0]) == one[1], said)
            return array, [digest for _, digest in whole]
    folder.mkdir(parents=True, exist_ok=True)
    mark.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    check_room(folder, 2 * math.prod(shape), "the cache of features")
    return np.lib.format.open_memmap(path, "w+", np.float16, shape), []


def _digest(array: np.ndarray, chunk: int) -> str:
    return hashlib.sha256(array[chunk * CHUNK : (chunk + 1) * CHUNK]).hexdigest()


def _extract(lower, images, folder, shape, batch_size: int, progress: bool, flip: bool) -> None:
    array, digests = _open(folder, shape)
    n, words, done = len(images), f"features {images.shape[1]} px", len(digests) * CHUNK
    bar = progress_bar(total=n, initial=min(done, n), desc=words, unit="face", show=progress)
    for start in range(done, n, CHUNK):
        stop = min(start + CHUNK, n)
        for first in range(start, stop, batch_size):
            batch = np.asarray(images[first : min(first + batch_size, stop)])
            pair = (batch, np.ascontiguousarray(batch[:, :, ::-1]))[: 1 + flip]
            said = [np.asarray(lower.predict_on_batch(one), "float32") for one in pair]
            values = np.stack(said, axis=1) if flip else said[0]
            array[first : first + len(batch)] = np.clip(values, -65504, 65504)  # float16's range
            bar.update(len(batch))
        array.flush()
        digests.append(_digest(array, len(digests)))
        release_pages(array)
        release_pages(images)
        write_json(folder / "done.json", {"shape": shape, "digests": digests})
    bar.close()
