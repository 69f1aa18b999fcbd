"""What does a network cost on a machine that does nothing else? ``python -m utils.training.cost``.

A run notes its own seconds, but other work may have slowed it. This measures every finished run
again, alone, one after the other, and adds the figures to its ``cost.json`` under ``idle``.
"""

import argparse
import sys
import time
from pathlib import Path

import keras
import numpy as np
from tqdm.auto import tqdm

from utils import runs
from utils.files import read_json, write_json
from utils.training.config import RunConfig, describe_machine, precision_policy
from utils.training.losses import losses_and_metrics
from utils.training.run import INFERENCE_BATCH, build, optimizer_of, step_size, trainable_parts


def _median_seconds(work, repeats: int) -> float:
    work()  # tracing and first allocations
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def _predicting(folder: Path, repeats: int) -> dict:
    network = runs.load_model(folder)
    size = network.input_shape[1]
    images = np.random.default_rng(0).integers(0, 256, (INFERENCE_BATCH, size, size, 3), np.uint8)
    one = _median_seconds(lambda: network.predict_on_batch(images[:1]), 4 * repeats)
    batch = _median_seconds(lambda: network.predict_on_batch(images), repeats)
    return {
        "latency_ms": round(1e3 * one, 2),
        "images_per_second": round(len(images) / batch, 1),
    }


def _step(config: RunConfig, repeats: int) -> float:
    """Seconds of one training step on random pictures, or on random frozen activations."""
    keras.mixed_precision.set_global_policy(precision_policy(config))
    network = build(config)
    lower, fitted = trainable_parts(config, network)
    random, n = np.random.default_rng(0), step_size(config)
    if lower is None:
        inputs = random.integers(0, 256, (n, *network.input_shape[1:]), np.uint8)
    else:
        inputs = random.random((n, *lower.output_shape[1:]), "float32").astype("float16")
    outputs = list(network.output)
    labels = {name: random.integers(0, 2, n).astype("int32") for name in outputs}
    labels |= {name: labels[name].astype("float32") for name in outputs if name.startswith("age")}
    fitted.compile(optimizer_of(config, 100), **losses_and_metrics(outputs, config.age_loss))
    return _median_seconds(lambda: fitted.train_on_batch(inputs, labels), repeats)


def measure(folder: Path, repeats: int = 7) -> dict:
    """Latency, throughput and training time of a finished run's network, alone on this machine.

    Parameters
    ----------
    folder : Path
        A complete run folder.
    repeats : int
        Timed repetitions; medians are kept.

    Returns
    -------
    dict
        ``latency_ms`` (batch of one), ``images_per_second`` (batches of 64; both with the saved
        float32 network), ``train_seconds`` (median training step x steps of the run, without
        validation) and the machine.
    """
    stored = read_json(folder / "config.json")
    known = {name: value for name, value in stored.items() if name in RunConfig.__annotations__}
    config = RunConfig(**known | {"weights": "none"})
    steps = -(-stored["n_train"] // step_size(config)) * config.epochs
    found = _predicting(folder, repeats)
    seconds = _step(config, repeats) * steps
    if config.start_from:  # went on from another run, whose training belongs to it
        seconds += measure(folder.parent / config.start_from, repeats)["train_seconds"]
    found["train_seconds"] = round(seconds, 3)
    keras.mixed_precision.set_global_policy("float32")
    keras.backend.clear_session()
    return found | describe_machine()


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m utils.training.cost", description=__doc__)
    parser.add_argument("runs", nargs="*", help="default: every finished run")
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args(arguments)
    # A run that only predicts otherwise (no mirror image) has no network of its own.
    held = [path for path in runs.find_runs() if (path / "model.keras").is_file()]
    folders = [path for path in held if not asked.runs or path.name in asked.runs]
    if not folders:
        print(f"error: no finished run {asked.runs or ''} in {runs.runs_dir()}", file=sys.stderr)
        return 2
    for folder in tqdm(folders, unit="run", desc="cost"):
        cost = read_json(folder / "cost.json")
        write_json(folder / "cost.json", cost | {"idle": measure(folder, asked.repeats)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
