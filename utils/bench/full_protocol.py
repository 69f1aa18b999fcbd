"""The first protocol of one backbone with every epoch really run: a check of the cost model."""

import keras
import numpy as np

from utils.backbones.networks import FEATURES
from utils.bench.costs import UTKFACE
from utils.bench.frozen import (
    EPOCHS,
    TASKS,
    built,
    compiled,
    config_of,
    extract,
    one_epoch,
    worst_difference,
)
from utils.bench.material import Bench, pictures
from utils.bench.results import Measured
from utils.bench.timing import interleaved
from utils.training.batches import Batches
from utils.training.losses import targets
from utils.training.run import HEAD_EPOCH_BATCH

ALLOWED = 0.02


def _train(model, inputs, table, task, parts, epochs, batch) -> list[list[float]]:
    """Train one task; training and validation losses of each epoch."""
    y = targets(table, [task])
    train, val = (Batches(inputs, y, rows, batch, shuffle=k == 0) for k, rows in enumerate(parts))
    compiled(model, [task])
    losses = []
    for epoch in range(epochs):
        train_loss = one_epoch(model, train, epoch)
        losses.append([train_loss, float(model.evaluate(val, verbose=0)[0])])
    return losses


def protocol_full(bench: Bench) -> Measured:
    """Both sides in full: three tasks, ten epochs, all faces, once."""
    name, size = bench.full_backbone, bench.pick(224, 64)
    n = bench.pick(UTKFACE["train"] + UTKFACE["val"] + UTKFACE["test"], 40)
    epochs = bench.pick(EPOCHS, 2)
    table, images = pictures(bench, n, size)
    order = np.random.default_rng(129).permutation(len(images))
    parts = order[: int(0.8 * n)], order[int(0.8 * n) :]

    def config(task):
        return config_of(name, bench, size, [task], "float32")

    def direct():
        networks = {task: built(config(task), FEATURES)[0] for task in TASKS}
        batch = HEAD_EPOCH_BATCH
        return [_train(networks[t], images, table, t, parts, epochs, batch) for t in TASKS]

    def cached():
        lower = built(config(TASKS[0]), FEATURES)[1]
        features = extract(lower, images, bench.progress)
        uppers = {task: built(config(task), FEATURES)[2] for task in TASKS}
        batch = HEAD_EPOCH_BATCH
        return [_train(uppers[t], features, table, t, parts, epochs, batch) for t in TASKS]

    timing = interleaved({"fit": direct, "ours": cached}, 1, 0, name, bench.progress)
    keras.backend.clear_session()
    before, after = timing.results["fit"][0], timing.results["ours"][0]
    worst = worst_difference(before, after)
    return Measured(
        timing.ratio("fit", "ours"),
        timing.median("fit"),
        timing.median("ours"),
        worst <= ALLOWED,
        f"losses of every epoch differ by at most {worst:.1e} of their value "
        f"(allowed {ALLOWED}: at Adam's 1e-3 rounding grows from epoch to epoch)",
        1,
        note=f"{name}, {n:,} faces, {epochs} epochs, {', '.join(TASKS)}; run once, not a median.",
        details={"backbone": name, "losses_fit": before, "losses_cached": after},
    )
