"""Batches gathered from an array on disk: memory stays small whatever the data set."""

import keras
import numpy as np

from utils.files import release_pages

RELEASE_EVERY = 64  # batches between two times that the read pages of a memory map are dropped


class Stacked:
    """Pictures of several arrays, one after the other; only the rows that are asked for are read.

    >>> Stacked(np.arange(3), np.arange(10, 12))[np.array([4, 0])].tolist()
    [11, 0]
    """

    def __init__(self, *arrays):
        self.arrays, self.ends = arrays, np.cumsum([len(array) for array in arrays])

    def __getitem__(self, rows):
        of = np.searchsorted(self.ends, rows, side="right")
        out = np.empty((len(rows), *self.arrays[0].shape[1:]), self.arrays[0].dtype)
        for k, array in enumerate(self.arrays):
            out[of == k] = array[rows[of == k] - (self.ends[k] - len(array))]
        return out


class Batches(keras.utils.PyDataset):
    """Shuffled batches of the `rows` of images or cached features, which may be a memory map.

    `targets` goes from output names to arrays [n]. The order of an epoch depends on the seed and
    the epoch's number alone, so that a run that was interrupted goes on with the order that it
    would have had. With `variants`, axis 1 of `inputs` holds the picture and its mirror image;
    one of the two is drawn at random each time (the first, if not shuffled or not to `mirror`).
    With `mixup` the faces of a batch, and their targets (then distributions), are mixed by twos:
    with shares drawn from Beta(mixup, mixup) (Zhang et al.: mixup, ICLR 2018).
    """

    def __init__(
        self,
        inputs,
        targets,
        rows,
        batch_size,
        seed=129,
        shuffle=True,
        variants=False,
        mirror=True,
        mixup=0.0,
    ):
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=8)
        self.inputs, self.targets, self.rows = inputs, targets, np.asarray(rows)
        self.batch_size, self.seed = batch_size, seed
        self.shuffle, self.variants, self.mirror = shuffle, variants, shuffle and mirror
        self.mixup = mixup if shuffle else 0.0
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Draw the order of an epoch."""
        self.epoch, random = epoch, np.random.default_rng([self.seed, epoch])
        n = len(self.rows)
        self.order = random.permutation(n) if self.shuffle else np.arange(n)
        self.variant = random.integers(0, 2, n) if self.mirror else np.zeros(n, int)

    def __len__(self):
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        rows = self.rows[chosen]
        x = self.inputs[rows, self.variant[chosen]] if self.variants else self.inputs[rows]
        if index % RELEASE_EVERY == RELEASE_EVERY - 1:
            for array in getattr(self.inputs, "arrays", [self.inputs]):
                release_pages(array)
        y = {name: y[rows] for name, y in self.targets.items()}
        if not self.mixup:
            return np.ascontiguousarray(x), y
        random = np.random.default_rng([self.seed, self.epoch, index])
        other, share = random.permutation(len(rows)), random.beta(self.mixup, self.mixup)
        share = np.float32(share)
        x, *mixed = (share * one + (1 - share) * one[other] for one in (x, *y.values()))
        return x, dict(zip(y, mixed, strict=True))


def count_faces(prepared) -> dict[str, int]:
    """``n_train``, ``n_val`` and ``n_test`` of prepared faces."""
    return {f"n_{split}": len(prepared.rows(split)) for split in ("train", "val", "test")}
