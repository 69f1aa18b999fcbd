"""Does the time of a study grow in proportion to its faces?"""

import keras

from utils.backbones.networks import FEATURES
from utils.bench.frozen import built, compiled, config_of, extract, one_epoch
from utils.bench.material import Bench, pictures
from utils.bench.results import Measured
from utils.bench.timing import interleaved
from utils.training.batches import Batches
from utils.training.losses import targets
from utils.training.run import HEAD_EPOCH_BATCH

MODEL, EPOCHS = "alexnet", 3
TASKS = ["age", "gender", "ethnicity"]


def _study(bench: Bench, table, images):
    """A function that does features and heads of some faces once."""
    size = images.shape[1]
    _, lower, upper = built(config_of(MODEL, bench, size, TASKS, "auto"), FEATURES)
    compiled(upper, TASKS)
    y = targets(table, TASKS)

    def run():
        features = extract(lower, images)
        batches = Batches(features, y, range(len(images)), HEAD_EPOCH_BATCH)
        for epoch in range(EPOCHS):
            loss = one_epoch(upper, batches, epoch)
        return len(features), loss

    return run


def growth(bench: Bench) -> Measured:
    """Seconds at three sizes against a line through the smallest one and zero."""
    sizes = bench.pick((1000, 2000, 4000), (32, 64, 128))
    table, images = pictures(bench, sizes[-1], bench.pick(96, 64))
    runs = {n: _study(bench, table.iloc[:n], images[:n]) for n in sizes}
    timing = interleaved(runs, bench.repeats, 1, "growth", bench.progress)
    keras.backend.clear_session()
    seconds = {n: timing.median(n) for n in sizes}
    first, last = sizes[0], sizes[-1]
    expected = seconds[first] * last / first
    whole = all(result[0] == n for n in sizes for result in timing.results[n])
    return Measured(
        seconds[last] / expected,
        expected,
        seconds[last],
        whole,
        "every size kept all its faces",
        bench.repeats,
        note=(
            f"AlexNet at {images.shape[1]} px, features and {EPOCHS} epochs of heads: "
            + ", ".join(f"{n:,} faces {s:.2f} s" for n, s in seconds.items())
        ),
        details={"seconds": {str(n): s for n, s in seconds.items()}},
    )
