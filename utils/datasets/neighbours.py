"""Which of many unit vectors are nearest to others? An inverted file, for what grows large.

The vectors are filed in drawers, each about a centre, and only those in the drawers of the nearest
few centres are compared (Sivic and Zisserman 2003). For n vectors there are about the root of n
centres, so time grows as n to the power of 1.5, and not of 2.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

DRAWERS = 1.1  # times the root of the number of vectors
PROBES = 16  # drawers that a vector looks into; with eight, 1 of 439 near-duplicates is missed
SAMPLE = 80  # vectors a drawer from which the centres are found


def blocks(n: int, size: int) -> Iterator[slice]:
    """Rows 0 to `n` in slices of `size`."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1 along the last axis; of zeros remain zeros."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)


class InvertedFile:
    """Unit vectors [n, d], several an owner; `owners` [n] are the numbers of the owners."""

    def __init__(self, vectors: np.ndarray, owners: np.ndarray):
        count = int(DRAWERS * len(vectors) ** 0.5) + 1
        chosen = np.random.default_rng(0).permutation(len(vectors))[: SAMPLE * count]
        means = KMeans(min(count, len(chosen)), init="random", n_init=1, max_iter=8, random_state=0)
        self.centres = unit(means.fit(vectors[np.sort(chosen)]).cluster_centers_)
        parts = (vectors[rows] for rows in blocks(len(vectors), 8192))
        drawer = np.concatenate([self._drawers(part, 1)[:, 0] for part in parts])
        order = np.argsort(drawer, kind="stable")
        self.vectors, self.owners = vectors[order], owners[order]
        self.ends = np.searchsorted(drawer[order], np.arange(len(self.centres) + 1))

    def _drawers(self, vectors: np.ndarray, count: int = PROBES) -> np.ndarray:
        count = min(count, len(self.centres))
        near = np.argpartition(-(vectors @ self.centres.T), count - 1, axis=1)
        return near[:, :count].copy()  # a view would keep all of it

    def nearest(self, vectors, owners, count: int, least: float) -> pd.DataFrame:
        """The `count` owners nearest to each of `owners` [n] of unit vectors [n, d].

        Rows ``owner``, ``other`` (never itself) and ``likeness``, the largest product of their
        vectors, which is `least` or more.
        """
        drawers = self._drawers(vectors)
        askers = np.argsort(drawers, axis=None, kind="stable")
        starts = np.searchsorted(drawers.ravel()[askers], np.arange(len(self.ends)))
        askers, found = askers // drawers.shape[1], []
        for drawer in np.flatnonzero(np.diff(starts) * np.diff(self.ends)):
            held = slice(*self.ends[drawer : drawer + 2])
            rows = askers[slice(*starts[drawer : drawer + 2])]
            likeness, other = vectors[rows] @ self.vectors[held].T, owners[rows]
            for _ in range(count):  # the best one, then the best one of the others
                likeness[self.owners[held] == other[:, None]] = -1
                best = likeness.argmax(axis=1)
                other, value = self.owners[held][best], likeness[np.arange(len(rows)), best]
                found.append((owners[rows], other, value))
        columns = dict(zip(("owner", "other", "likeness"), zip(*found, strict=True), strict=True))
        table = pd.DataFrame({name: np.concatenate(parts) for name, parts in columns.items()})
        table = table[table["likeness"] >= least]
        table = table.sort_values("likeness", ascending=False, kind="stable")
        return table.drop_duplicates(["owner", "other"]).groupby("owner").head(count)
