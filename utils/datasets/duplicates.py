"""Which pictures show the same photograph? Groups that must not cross a split."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import imagehash
import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from tqdm.auto import tqdm

from utils.datasets.facetable import DataError, FaceSet
from utils.files import locked, write_aside
from utils.paths import cache_dir

HASH_SIDE = 16  # 16 x 16 comparisons: a 256-bit difference hash
DISTANCE = 10  # differing bits up to which two pictures count as near-duplicates


def _fingerprint(faces: FaceSet, image: str) -> tuple[str, bytes | None, str | None]:
    """Content digest, packed perceptual hash and error of one picture."""
    try:
        picture = faces.read(image)
        content = faces.source_bytes(image) if faces.source_bytes else picture.tobytes()
    except DataError as error:
        return "", None, str(error)
    bits = imagehash.dhash(picture, hash_size=HASH_SIDE).hash
    return hashlib.sha256(content).hexdigest(), np.packbits(bits.ravel()).tobytes(), None


def fingerprints(faces: FaceSet, progress: bool = True) -> pd.DataFrame:
    """Content digest and perceptual hash of every picture, kept in the cache.

    Returns
    -------
    DataFrame
        ``image``, ``digest`` (SHA-256 of the file), ``hash`` (32 bytes, or None) and ``error``
        (reason why a picture cannot be read, or None).
    """
    names = faces.table["image"].tolist()
    key = hashlib.sha256("\n".join([str(faces.root), *names]).encode()).hexdigest()[:16]
    path = cache_dir() / f"fingerprints-{faces.name}-{key}.parquet"
    with locked(path):
        if not path.is_file():
            table = _hash_all(faces, names, progress)
            with write_aside(path) as aside:
                table.to_parquet(aside)
    return pd.read_parquet(path)


def _hash_all(faces: FaceSet, names: list[str], progress: bool) -> pd.DataFrame:
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = pool.map(lambda name: _fingerprint(faces, name), names, chunksize=64)
        bar = tqdm(found, total=len(names), desc=f"hash {faces.name}", disable=not progress)
        rows = [(name, *row) for name, row in zip(names, bar, strict=True)]
    return pd.DataFrame(rows, columns=["image", "digest", "hash", "error"])


def near_pairs(hashes: np.ndarray, distance: int = DISTANCE) -> np.ndarray:
    """Pairs of rows whose hashes differ in at most `distance` bits.

    Parameters
    ----------
    hashes : uint8 array [n, bytes]
        Packed hashes.
    distance : int
        Largest number of differing bits.

    Returns
    -------
    int array [pairs, 2]
        Row numbers, first < second.

    Examples
    --------
    >>> near_pairs(np.array([[0], [1], [255]], dtype=np.uint8), distance=1).tolist()
    [[0, 1]]
    """
    # As vectors of -1 and +1 the dot product is bits - 2 x distance: one matrix product.
    signs = np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
    least = signs.shape[1] - 2 * distance
    pairs = []
    for start in range(0, len(signs), 2048):
        block = signs[start : start + 2048] @ signs[start:].T
        first, second = np.nonzero(block >= least)
        keep = second > first
        pairs.append(np.stack([first[keep], second[keep]], axis=1) + start)
    return np.concatenate(pairs) if pairs else np.zeros((0, 2), int)


def _components(n: int, pairs: np.ndarray) -> np.ndarray:
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def assign_groups(faces: FaceSet, distance: int = DISTANCE, progress: bool = True) -> FaceSet:
    """Put pictures that are identical or nearly so into one group.

    The group's name is the smallest image name in it, so it does not depend on row order.
    Unreadable pictures are excluded with their reason.

    Parameters
    ----------
    faces : FaceSet
    distance : int
        Largest Hamming distance of two 256-bit difference hashes within a group.

    References
    ----------
    ``imagehash`` (difference hash).
    """
    prints = fingerprints(faces, progress)
    bad = prints[prints["error"].notna()]
    faces = faces.exclude(dict(zip(bad["image"], bad["error"], strict=True)), "readable pictures")
    prints = prints[prints["error"].isna()].reset_index(drop=True)
    hashes = np.stack([np.frombuffer(value, np.uint8) for value in prints["hash"]])
    labels = _components(len(prints), near_pairs(hashes, distance))
    # Identical bytes give identical hashes, so exact duplicates are in the same component.
    table = faces.table.copy()
    names = table["image"].reset_index(drop=True)
    table["group"] = names.groupby(labels).transform("min").to_numpy()
    return replace(faces, table=table)
