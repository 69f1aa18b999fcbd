"""Frozen networks: `fit` through the frozen part every epoch, against features computed once."""

import shutil
import uuid

import keras
import numpy as np
from tqdm.auto import tqdm

from utils.backbones import BACKBONES, cut
from utils.backbones.networks import FEATURES
from utils.bench.costs import UTKFACE, UnitCosts, totals
from utils.bench.material import Bench, pictures
from utils.bench.results import Measured
from utils.bench.timing import interleaved
from utils.paths import cache_dir
from utils.training.activations import cached_activations
from utils.training.batches import Batches
from utils.training.config import RunConfig, precision_policy
from utils.training.losses import losses_and_metrics, targets
from utils.training.run import HEAD_EPOCH_BATCH, build

# Faces in one timed epoch: enough that a step, not the call of `fit`, takes the time.
SUBSET = {"alexnet": 512, "mobilenetv2": 256, "resnet50": 96, "vgg19": 32}
PARTIAL_TIMES = 4  # as many more at the smaller input of `partial`
HEAD_ROWS = 4096  # an epoch of heads is timed on so many cached rows
EPOCHS, TASKS = 10, ("age", "gender", "ethnicity")
PARTIAL_SIZE = 96
# Adam's first steps have the size of the rate whatever the gradient, so at 1e-3 the rounding of
# cached features grows into another training. A small rate takes the same time and shows it bare.
RATE = 1e-5


def config_of(name: str, bench: Bench, size: int, tasks, precision: str) -> RunConfig:
    """Configuration of one side."""
    return RunConfig(
        dataset="synthetic",
        model=name,
        protocol="head",
        input_size=size,
        tasks=list(tasks),
        weights=bench.weights(),
        precision=precision,
        batch_size=32,
    )


def built(config: RunConfig, seam: str):
    """A network in its precision, frozen below the seam, and its two parts."""
    keras.mixed_precision.set_global_policy(precision_policy(config))
    keras.utils.set_random_seed(config.seed)
    network = build(config)
    lower, upper = cut(network, seam)
    for layer in lower.layers:
        layer.trainable = False
    keras.mixed_precision.set_global_policy("float32")
    return network, lower, upper


def compiled(model: keras.Model, outputs, rate: float = 1e-3) -> keras.Model:
    """Compile for training as a user would: Adam, by default at its default rate."""
    model.compile(keras.optimizers.Adam(rate), **losses_and_metrics(outputs))
    return model


def one_epoch(model: keras.Model, batches: Batches, epoch: int) -> float:
    """Train one epoch; its mean loss."""
    batches.start_epoch(epoch)
    # `Batches` has drawn the order; without shuffle=False `fit` would draw another one of batches.
    history = model.fit(batches, epochs=1, verbose=0, shuffle=False).history
    return float(history["loss"][0])


def without_dropout(model: keras.Model) -> None:
    """Switch dropout off: the same seed gives other masks in bfloat16."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


def extract(lower, images, progress=False) -> np.ndarray:
    """Activations of all pictures by the study's own code, in a cache that nobody has filled."""
    before = set(cache_dir().glob("activations-*"))
    found = cached_activations(lower, images, uuid.uuid4().hex, progress=progress, mirror=False)
    for old in before:
        shutil.rmtree(old, ignore_errors=True)
    return found


class Sides:
    """Both ways to train one frozen network on the same faces in the same order."""

    def __init__(self, name, bench, table, images, seam, tasks, precision, head_rows):
        size = images.shape[1]
        y = targets(table, tasks)
        rows = np.arange(len(images))
        plain = config_of(name, bench, size, tasks, "float32")
        ours = config_of(name, bench, size, tasks, precision)
        self.images, self.y, self.seed = images, y, ours.seed
        self.batch = ours.batch_size
        network, _, _ = built(plain, seam)
        _, self.lower, upper = built(ours, seam)
        self.policy = precision_policy(ours)
        if self.policy != "float32":
            without_dropout(network)
            without_dropout(upper)
        self.network = compiled(network, tasks, RATE)
        self.direct = Batches(images, y, rows, self.batch, self.seed)
        self.checked = compiled(upper, tasks, RATE)
        # The timed epoch is long, so it has a copy of the head: the other one is compared.
        self.timed = compiled(keras.models.clone_model(upper), tasks, RATE)
        self.many = np.resize(rows, max(head_rows, len(rows)))
        self.turn = {"fit": 0, "upper": 0}
        self.cached = None

    def fit(self):
        """One epoch through the whole network."""
        self.turn["fit"] += 1
        return one_epoch(self.network, self.direct, self.turn["fit"])

    def extract(self):
        """Activations of all pictures."""
        self.cached = extract(self.lower, self.images)

    def upper(self):
        """One epoch on cached activations, on `many` rows."""
        self.turn["upper"] += 1
        size = HEAD_EPOCH_BATCH if self.cached.ndim == 2 else self.batch
        batches = Batches(self.cached, self.y, self.many, size, self.seed)
        return one_epoch(self.timed, batches, self.turn["upper"])

    def cached_losses(self, epochs: int) -> list[float]:
        """Losses of as many epochs as `fit` did, on cached activations."""
        rows = np.arange(len(self.images))
        batches = Batches(self.cached, self.y, rows, self.batch, self.seed)
        return [one_epoch(self.checked, batches, k + 1) for k in range(epochs)]

    def measure(self, bench: Bench, title: str):
        """Unit costs, and the losses of both sides."""
        sides = {"fit": self.fit, "extract": self.extract, "upper": self.upper}
        timing = interleaved(sides, bench.repeats, 1, title, bench.progress)
        n = len(self.images)
        forward = timing.median("extract") / n
        costs = UnitCosts(
            fit=timing.median("fit") / n,
            forward=forward,
            extract=forward,
            upper=timing.median("upper") / len(self.many),
        )
        losses = timing.results["fit"]
        return costs, losses, self.cached_losses(len(losses))


def worst_difference(before, after) -> float:
    """Largest relative difference of two series of losses."""
    before, after = np.asarray(before), np.asarray(after)
    return float((np.abs(after - before) / np.abs(before)).max())


def _all_backbones(bench: Bench, size: int, seam_of, tasks, precision, head_rows, times=1):
    """Unit costs, precision and loss differences of every backbone."""
    costs, details, worst = {}, {}, 0.0
    for name in tqdm(bench.backbones, desc="backbones", disable=not bench.progress, leave=False):
        n = bench.pick(times * SUBSET[name], 24)
        table, images = pictures(bench, n, size)
        sides = Sides(name, bench, table, images, seam_of(name), tasks, precision, head_rows)
        costs[name], before, after = sides.measure(bench, name)
        apart = worst_difference(before, after)
        worst = max(worst, apart)
        details[name] = vars(costs[name]) | {
            "faces": len(images),
            "precision": sides.policy,
            "losses_fit": before,
            "losses_cached": after,
            "largest_loss_difference": apart,
        }
        keras.backend.clear_session()
    return costs, details, worst


def protocol(bench: Bench) -> Measured:
    """The first study's protocol: one frozen network for each backbone and task."""
    size = bench.pick(224, 64)
    # Float32 on both sides: what is compared is the order of the work, not its precision.
    costs, details, worst = _all_backbones(
        bench, size, lambda name: FEATURES, ["age"], "float32", bench.pick(HEAD_ROWS, 24)
    )
    n_train, n_val = UTKFACE["train"] + UTKFACE["val"], UTKFACE["test"]
    before, after = totals(costs, n_train, n_val, EPOCHS, len(TASKS))
    return Measured(
        before / after,
        before,
        after,
        worst <= 1e-3,
        f"losses of every epoch (Adam, {RATE:g}) differ by at most {worst:.1e} of their value "
        "(allowed 1e-3)",
        bench.repeats,
        note=(
            f"Cost model: {len(TASKS)} tasks x {EPOCHS} epochs x ({n_train:,} x a training step "
            f"+ {n_val:,} x a forward pass) against {n_train + n_val:,} x a forward pass + "
            f"{len(TASKS)} tasks x {EPOCHS} epochs of heads; seconds a face measured on subsets."
        ),
        details={"input_size": size, "unit_costs": details},
    )


def partial(bench: Bench) -> Measured:
    """Last layers trained, the rest frozen, four heads at once, as the study does it."""
    size = bench.pick(PARTIAL_SIZE, 64)
    costs, details, worst = _all_backbones(
        bench,
        size,
        lambda name: BACKBONES[name].freeze_from,
        ["age", "age_bin", "gender", "ethnicity"],
        "auto",
        0,
        PARTIAL_TIMES,
    )
    before, after = totals(costs, UTKFACE["train"], UTKFACE["val"], EPOCHS, 1)
    allowed = 0.02
    each = {
        name: totals({name: one}, UTKFACE["train"], UTKFACE["val"], EPOCHS, 1)
        for name, one in costs.items()
    }
    ratios = {name: slow / fast for name, (slow, fast) in each.items()}
    return Measured(
        before / after,
        before,
        after,
        worst <= allowed,
        f"losses of every epoch (Adam, {RATE:g}, no dropout in bfloat16) differ by at most "
        f"{worst:.1e} of their value (allowed {allowed})",
        bench.repeats,
        note="Each alone: " + ", ".join(f"{BACKBONES[n].label} {r:.1f}" for n, r in ratios.items()),
        details={"input_size": size, "unit_costs": details, "ratios": ratios},
    )
