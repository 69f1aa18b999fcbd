"""What is measured on: real faces and ImageNet weights where they are at hand, else stand-ins."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.paths import cache_dir, weights_dir

STUDY_BACKBONES = ("alexnet", "vgg19", "mobilenetv2", "resnet50")
QUICK_BACKBONES = ("alexnet", "mobilenetv2")


@dataclass
class Bench:
    """Settings of a benchmark, and a note of what it was measured on.

    Attributes
    ----------
    quick : bool
        Tiny sizes: shows that a row works, its figures mean nothing.
    repeats : int
        Timed rounds.
    progress : bool
    full_backbone : str
        Backbone whose first protocol is also run in full; empty for none.
    shared_cache : Path, optional
        The study's own cache, from which images and hashes may be read.
    used : list of str
        Stand-ins that the running row used, such as "synthetic faces".
    """

    quick: bool = False
    repeats: int = 5
    progress: bool = True
    full_backbone: str = ""
    shared_cache: Path | None = None
    used: list[str] = field(default_factory=list)

    @property
    def backbones(self) -> tuple[str, ...]:
        """Which networks are measured."""
        return QUICK_BACKBONES if self.quick else STUDY_BACKBONES

    def pick(self, full, quick):
        """One of two sizes."""
        return quick if self.quick else full

    def note(self, text: str) -> None:
        """Remember a stand-in."""
        if text not in self.used:
            self.used.append(text)

    def weights(self) -> str:
        """``imagenet`` where a folder has the weights, else ``none``; nothing is downloaded."""
        if self.quick or weights_dir() is None:
            self.note("random weights")
            return "none"
        return "imagenet"


@contextmanager
def scratch(bench: Bench) -> Iterator[Path]:
    """A work folder of the benchmark's own; everything in it is gone afterwards."""
    before = os.environ.get("FACES_WORK_DIR")
    bench.shared_cache = cache_dir()
    with tempfile.TemporaryDirectory(prefix="faces-bench-", ignore_cleanup_errors=True) as folder:
        os.environ["FACES_WORK_DIR"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("FACES_WORK_DIR")
            if before is not None:
                os.environ["FACES_WORK_DIR"] = before


def faces(bench: Bench, n: int):
    """Some faces with known labels: UTKFace if it is there, else synthetic ones.

    Returns
    -------
    FaceSet
        `n` faces, the same on every call.
    """
    from utils.datasets import DataError, load

    if not bench.quick:
        try:
            found = load("utkface")
            order = np.random.default_rng(129).permutation(len(found))[:n]
            mask = np.isin(np.arange(len(found)), order)
            return found.subset(mask)
        except DataError:
            pass
    bench.note("synthetic faces")
    return load("synthetic", n=n)


def pictures(bench: Bench, n: int, size: int):
    """Labels and pixels of some faces.

    Returns
    -------
    table : DataFrame
    images : uint8 array [n, size, size, 3]
    """
    from utils.datasets.imagecache import load_images

    found, images = load_images(faces(bench, n), size, progress=bench.progress)
    return found.table, images


def is_synthetic(bench: Bench) -> bool:
    """Whether the running row used synthetic faces."""
    return "synthetic faces" in bench.used
