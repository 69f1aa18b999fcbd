"""Rows that need a GPU: measured once, by JAX, in a process of its own."""

import functools
import json
import os
import subprocess
import sys

from utils.bench.costs import UTKFACE
from utils.bench.machine import gpus
from utils.bench.material import Bench
from utils.bench.results import Measured, Skip
from utils.paths import ROOT

# Dense bfloat16 peaks in FLOP/s, from the makers' data sheets.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "T4": 65e12}
MODEL, EPOCHS = "resnet50", 10


def _why_not() -> str | None:
    if not gpus():
        return "no NVIDIA GPU here: nvidia-smi lists none"
    probe = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    found = subprocess.run(probe, capture_output=True, text=True)
    if found.stdout.strip() != "gpu":
        return "JAX sees no GPU: install the extra with pip install -e '.[gpu]'"
    return None


@functools.cache
def steps(backbones: tuple[str, ...], size: int, batches: tuple[int, ...], repeats: int) -> dict:
    """Timings of `utils.bench.gpu_steps` in a process of its own."""
    asked = {"backbones": backbones, "size": size, "batches": batches, "repeats": repeats}
    command = [sys.executable, "-m", "utils.bench.gpu_steps", json.dumps(asked)]
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the GPU steps ended with {done.returncode}: {done.stderr[-800:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _measured(bench: Bench) -> dict:
    reason = _why_not()
    if reason:
        raise Skip(reason)
    bench.note("random pixels, random weights")
    return steps(tuple(bench.backbones), 224, bench.pick((64, 256), (16,)), bench.repeats)


def _best(found: dict) -> dict:
    """The faster batch size of the network that the goals name."""
    model = MODEL if any(one["model"] == MODEL for one in found["steps"]) else "mobilenetv2"
    mine = [one for one in found["steps"] if one["model"] == model]
    return max(mine, key=lambda one: one["images_per_second"])


def _peak() -> float | None:
    name = gpus()[0]
    return next((peak for key, peak in PEAKS.items() if key in name), None)


def _row(bench: Bench, value, baseline, ours, unit, note, found) -> Measured:
    best = _best(found)
    return Measured(
        value,
        baseline,
        ours,
        best["losses_agree"],
        f"losses from host and from device differ by {best['loss_difference']:.1e} (allowed 1e-2)",
        bench.repeats,
        sides_in=unit,
        note=note,
        details={"steps": found["steps"], "versions": found["versions"]},
    )


def images(bench: Bench) -> Measured:
    """Images a second of a training step on the device."""
    found = _measured(bench)
    best = _best(found)
    told = "; ".join(
        f"{one['model']} {one['batch']}: {one['images_per_second']:,.0f}" for one in found["steps"]
    )
    rate = best["images_per_second"]
    return _row(bench, rate, None, rate, "images/s", f"Network, batch size: {told}.", found)


def utilisation(bench: Bench) -> Measured:
    """Three forward passes of arithmetic a step, over what the card could do."""
    found, peak = _measured(bench), _peak()
    if peak is None:
        raise Skip(f"the peak rate of {gpus()[0]} is not in utils/bench/gpu.py; add it there")
    rate = {
        f"{one['model']} {one['batch']}": 3 * one["flops"] * one["images_per_second"] / peak
        for one in found["steps"]
    }
    best = _best(found)
    value = rate[f"{best['model']} {best['batch']}"]
    note = "Network, batch size: " + "; ".join(f"{k}: {v:.1%}" for k, v in rate.items()) + "."
    return _row(bench, value, peak / 1e12, value * peak / 1e12, "TFLOP/s", note, found)


def input_share(bench: Bench) -> Measured:
    """Time that batches from the host cost more than data on the device."""
    found = _measured(bench)
    best = _best(found)
    lost = max(0.0, 1 - best["images_per_second_host"] / best["images_per_second"])
    note = "The study's Batches on the host, next batch gathered while the device computes."
    sides = best["images_per_second_host"], best["images_per_second"]
    return _row(bench, lost, *sides, "images/s", note, found)


def finetune(bench: Bench) -> Measured:
    """Ten epochs of all training and validation faces at the measured rates."""
    found = _measured(bench)
    best = _best(found)
    seconds = EPOCHS * (
        UTKFACE["train"] / best["images_per_second"]
        + UTKFACE["val"] / best["images_per_second_forward"]
    )
    note = f"From measured rates: {EPOCHS} x ({UTKFACE['train']:,} steps + {UTKFACE['val']:,} val)."
    return _row(bench, seconds, None, seconds, "seconds", note, found)
