"""Batches gathered from an array on disk: memory stays small whatever the data set."""

import keras
import numpy as np

from utils.files import release_pages

RELEASE_EVERY = 64  # batches between two times that the read pages of a memory map are dropped


class Batches(keras.utils.PyDataset):
    """Shuffled batches of the `rows` of images or cached features, which may be a memory map.

    `targets` goes from output names to arrays [n]. The order of an epoch depends on the seed and
    the epoch's number alone, so that a run that was interrupted goes on with the order that it
    would have had. With `variants`, axis 1 of `inputs` holds the picture and its mirror image;
    one of the two is drawn at random each time (the first, if not shuffled or not to `mirror`).
    """

    def __init__(
        self, inputs, targets, rows, batch_size, seed=129, shuffle=True, variants=False, mirror=True
    ):
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=8)
        self.inputs, self.targets, self.rows = inputs, targets, np.asarray(rows)
        self.batch_size, self.seed = batch_size, seed
        self.shuffle, self.variants, self.mirror = shuffle, variants, shuffle and mirror
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Draw the order of an epoch."""
        random = np.random.default_rng([self.seed, epoch])
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
            release_pages(self.inputs)
        return np.ascontiguousarray(x), {name: y[rows] for name, y in self.targets.items()}


def count_faces(prepared) -> dict[str, int]:
    """``n_train``, ``n_val`` and ``n_test`` of prepared faces; a ValueError if one is zero."""
    found = {f"n_{split}": len(prepared.rows(split)) for split in ("train", "val", "test")}
    if not all(found.values()):
        raise ValueError(
            f"a split without faces: {found}; {len(prepared.table)} faces are too few, take at "
            "least 100 (limit)"
        )
    return found
