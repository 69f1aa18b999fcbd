"""Training steps on the JAX backend, timed; run as a process by `utils.bench.gpu`.

Images lie on the device as uint8; the network casts and normalises there.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import keras
import numpy as np

from utils.backbones import build_network, count_flops
from utils.bench.timing import interleaved
from utils.training.batches import Batches
from utils.training.losses import AgeDistributionLoss

STEPS = 20  # in one timed stretch: the device works ahead, so only a stretch has a duration


def _functions(network, optimizer, loss):
    """Compiled training step and forward pass on explicit state."""

    def value(trained, fixed, x, y):
        outputs, fixed = network.stateless_call(trained, fixed, x, training=True)
        return loss(y, outputs["age"]), fixed

    gradient = jax.value_and_grad(value, has_aux=True)

    def step(state, x, y):
        trained, fixed, slots = state
        (now, fixed), slopes = gradient(trained, fixed, x, y)
        trained, slots = optimizer.stateless_apply(slots, slopes, trained)
        return (trained, fixed, slots), now

    def forward(state, x):
        return network.stateless_call(state[0], state[1], x, training=False)[0]["age"]

    return jax.jit(step, donate_argnums=0), jax.jit(forward)


class Step:
    """One network with its state on the device and a pool of pictures on both sides."""

    def __init__(self, name: str, size: int, batch: int, steps: int = STEPS):
        keras.utils.set_random_seed(129)
        self.network = build_network(name, size, ["age"], weights="none")
        self.optimizer = keras.optimizers.AdamW(1e-4)
        self.optimizer.build(self.network.trainable_variables)
        self.step, self.forward = _functions(self.network, self.optimizer, AgeDistributionLoss())
        draw, self.batch, self.steps = np.random.default_rng(129), batch, steps
        n = batch * min(steps, 8)
        self.images = draw.integers(0, 256, (n, size, size, 3), np.uint8)
        self.ages = draw.integers(0, 100, n).astype("float32")
        self.there = jax.device_put(self.images), jax.device_put(self.ages)
        rows = np.resize(np.arange(n), batch * steps)
        self.order = Batches(self.images, {"age": self.ages}, rows, batch, shuffle=False)
        self.reset()

    def reset(self):
        """Weights as at the start, as copies: a step gives its own away."""
        variables = (
            self.network.trainable_variables,
            self.network.non_trainable_variables,
            self.optimizer.variables,
        )
        self.state = tuple([jax.numpy.array(v.value) for v in part] for part in variables)

    def on_device(self) -> float:
        """A stretch of steps on pictures that are there already; the last loss."""
        x, y = self.there
        for k in range(self.steps):
            first = (k * self.batch) % len(x)
            rows = slice(first, first + self.batch)
            self.state, loss = self.step(self.state, x[rows], y[rows])
        return float(loss)

    def from_host(self) -> float:
        """The same from `Batches`, one batch ahead in a thread."""
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self._fetch, 0)
            for k in range(self.steps):
                x, y = ahead.result()
                if k + 1 < self.steps:
                    ahead = pool.submit(self._fetch, k + 1)
                self.state, loss = self.step(self.state, x, y)
        return float(loss)

    def _fetch(self, k):
        x, y = self.order[k]
        return jax.device_put(x), jax.device_put(y["age"])

    def only_forward(self) -> float:
        """As many forward passes."""
        for k in range(self.steps):
            first = (k * self.batch) % len(self.there[0])
            age = self.forward(self.state, self.there[0][first : first + self.batch])
        return float(np.asarray(age, "float32")[0, 0])


def measure(name: str, size: int, batch: int, repeats: int, steps: int = STEPS) -> dict:
    """Images a second of one network at one batch size, three ways."""
    one = Step(name, size, batch, steps)
    losses = {}
    for way in ("on_device", "from_host"):
        one.reset()
        losses[way] = getattr(one, way)()
    apart = abs(losses["on_device"] / losses["from_host"] - 1)
    sides = {"host": one.from_host, "device": one.on_device, "forward": one.only_forward}
    timing = interleaved(sides, repeats, 1, f"{name} {batch}", progress=False)
    rate = {side: batch * steps / timing.median(side) for side in sides}
    return {
        "model": name,
        "batch": batch,
        "size": size,
        "flops": count_flops(one.network),
        "images_per_second": rate["device"],
        "images_per_second_host": rate["host"],
        "images_per_second_forward": rate["forward"],
        "loss_difference": apart,
        "losses_agree": bool(apart <= 1e-2),
    }


def main(asked: str) -> None:
    """Print one line of JSON."""
    asked = json.loads(asked)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    steps = asked.get("steps", STEPS)
    found = [
        measure(name, asked["size"], batch, asked["repeats"], steps)
        for name in asked["backbones"]
        for batch in asked["batches"]
    ]
    versions = {"jax": jax.__version__, "keras": keras.__version__}
    print(json.dumps({"steps": found, "versions": versions}))


if __name__ == "__main__":
    main(sys.argv[1])
