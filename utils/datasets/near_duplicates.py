"""Which pictures show the same photograph? Groups that must not cross a split.

Three kinds of evidence join two pictures: identical files, difference hashes that hardly differ,
and the same pixels once one picture is mirrored, shifted, scaled or turned
(`utils.datasets.copies`).
"""

import hashlib
from dataclasses import replace
from functools import partial
from itertools import combinations

import imagehash
import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from utils.datasets.copies import SIDE, candidates, flat, similarity, threshold
from utils.datasets.progress import in_threads
from utils.datasets.table import FaceSet, cached_table
from utils.files import DataError
from utils.paths import cache_dir

HASH_SIDE = 16  # 16 x 16 comparisons: a 256-bit difference hash
DISTANCE = 10  # differing bits up to which two pictures count as near-duplicates
RULE = "near-duplicates-2"  # change when the groups would change: old caches are left alone


def _fingerprint(faces: FaceSet, image: str) -> tuple[str | bytes | None, ...]:
    """What `fingerprints` tells of one picture."""
    try:
        content, picture = faces.source_bytes(image), faces.read(image)
    except DataError as error:
        return image, "", None, None, str(error)
    bits = imagehash.dhash(picture, hash_size=HASH_SIDE).hash
    grey = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.HAMMING)
    digest = hashlib.sha256(content).hexdigest()
    return image, digest, np.packbits(bits.ravel()).tobytes(), grey.tobytes(), None


def fingerprints(faces: FaceSet, progress: bool = True) -> pd.DataFrame:
    """What tells one picture from another, kept in the cache; one row a picture.

    ``image``, ``digest`` (SHA-256 of the file), ``hash`` (32 bytes, or None), ``grey`` (49 x 49
    bytes, or None) and ``error`` (why a picture cannot be read, or None).
    """

    def make() -> pd.DataFrame:
        read, names = partial(_fingerprint, faces), faces.table["image"].tolist()
        rows = in_threads(read, names, f"hash {faces.name}", progress)
        columns = ["image", "digest", "hash", "grey", "error"]
        return pd.DataFrame(rows, columns=columns, dtype=object)

    return cached_table(cache_dir() / f"fingerprints-{faces.name}-{faces.key(RULE)}.parquet", make)


def near_pairs(hashes: np.ndarray, distance: int = DISTANCE) -> np.ndarray:
    """Pairs of rows [pairs, 2], first < second, of packed hashes uint8 [n, bytes] that are near.

    Near are those that differ in at most `distance` bits; none is missed. Of `distance` + 2 blocks
    of bits near ones agree in two at least, and only rows that agree in two are compared (Manku,
    Jain and Das Sarma 2007).

    >>> near_pairs(np.array([[0], [1], [255]], dtype=np.uint8), distance=1).tolist()
    [[0, 1]]
    """
    bits = np.unpackbits(hashes, axis=1)
    count = max(distance + 2, -(-bits.shape[1] // 32))  # blocks of at most 32 bits
    # Neighbouring bits are much alike; dealt out in turn they tell more.
    powers = 2 ** np.arange(32, dtype=np.uint64)
    dealt, found = [bits[:, k::count] for k in range(count)], [np.zeros((0, 2), int)]
    blocks = np.stack([part @ powers[: part.shape[1]] for part in dealt])
    for one, two in combinations(range(count), 2):
        key = blocks[one] << np.uint64(32) | blocks[two]
        order = np.argsort(key)
        key, at, step = key[order], np.arange(len(key) - 1), 1
        while len(at := at[at < len(key) - step]):  # at most n pairs at a time
            at = at[key[at] == key[at + step]]
            first, second = order[at], order[at + step]
            near = np.bitwise_count(hashes[first] ^ hashes[second]).sum(axis=1) <= distance
            first, second = first[near], second[near]
            # Once a pair: in the first two of the blocks in which it agrees.
            new = (blocks[:two, first] == blocks[:two, second]).sum(axis=0) == 1
            found.append(np.stack([first[new], second[new]], axis=1))
            step += 1
    pairs = np.sort(np.concatenate(found), axis=1)
    return pairs[np.lexsort(pairs.T[::-1])]


def thumbnails(prints: pd.DataFrame) -> np.ndarray:
    """Grey thumbnails of `fingerprints` as one array: uint8 [n, 49, 49]."""
    return np.frombuffer(b"".join(prints["grey"]), np.uint8).reshape(-1, SIDE, SIDE)


def duplicate_pairs(faces: FaceSet, progress: bool = True) -> pd.DataFrame:
    """Pairs of pictures that are one photograph, and what says so; kept in the cache.

    ``image_a`` < ``image_b``, ``evidence`` (``file``, ``hash`` or ``pixels``: the first of them
    that holds) and ``correlation`` of the pixels. Pictures that show next to nothing are joined
    only if their files are identical.
    """
    path = cache_dir() / f"duplicates-{faces.name}-{faces.key(RULE, DISTANCE)}.parquet"
    return cached_table(path, lambda: _find_pairs(fingerprints(faces, progress), progress))


def _find_pairs(prints: pd.DataFrame, progress: bool) -> pd.DataFrame:
    # In the order of the names, so that the order of the rows has no influence.
    prints = prints[prints["error"].isna()].sort_values("image", ignore_index=True)
    grey = thumbnails(prints)
    shown = np.flatnonzero(~flat(grey))
    hashes = np.stack([np.frombuffer(value, np.uint8) for value in prints["hash"]])
    found = {"file": _same(prints["digest"]), "hash": shown[near_pairs(hashes[shown])]}
    likely, mirrored = candidates(grey[shown], progress)
    score = similarity(grey[shown], likely, mirrored, progress)
    found["pixels"] = shown[likely[score >= threshold(grey[shown])]]
    pairs = pd.concat(
        pd.DataFrame(rows.reshape(-1, 2), columns=["a", "b"]).assign(evidence=kind)
        for kind, rows in found.items()
    ).drop_duplicates(["a", "b"], ignore_index=True)
    rows = pairs[["a", "b"]].to_numpy(int)
    first, second = prints["image"].to_numpy()[rows.T]
    table = pd.DataFrame({"image_a": first, "image_b": second, "evidence": pairs["evidence"]})
    table["correlation"] = similarity(grey, rows)
    return table.sort_values(["image_a", "image_b"], ignore_index=True)


def _same(values: pd.Series) -> np.ndarray:
    """Pairs of rows: each row of a repeated value with the first one of that value."""
    first = values.groupby(values).transform(lambda rows: rows.index[0]).to_numpy(int)
    rows = np.arange(len(values))
    return np.stack([first, rows], axis=1)[first < rows]


def components(names: pd.Series, pairs: pd.DataFrame) -> pd.Series:
    """Group of each name: the smallest name that pairs (``image_a``, ``image_b``) lead to."""
    rows = pd.Index(names)
    ends = [rows.get_indexer(pairs[side]) for side in ("image_a", "image_b")]
    graph = coo_matrix((np.ones(len(pairs)), ends), shape=(len(rows), len(rows)))
    labels = connected_components(graph, directed=False)[1]
    return names.groupby(labels).transform("min")


def assign_groups(faces: FaceSet, progress: bool = True) -> FaceSet:
    """Put pictures of one photograph into one ``group``; exclude unreadable ones with a reason.

    A group's name is the smallest image name in it, so it does not depend on row order.
    """
    prints, pairs = fingerprints(faces, progress), duplicate_pairs(faces, progress)
    bad = prints[prints["error"].notna()]
    faces = faces.exclude(dict(zip(bad["image"], bad["error"], strict=True)), "readable pictures")
    table = faces.table.assign(group=components(faces.table["image"], pairs))
    return replace(faces, table=table)
