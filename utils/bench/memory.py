"""How much memory does a whole run need? Watched from outside, in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from utils.bench.material import Bench
from utils.bench.results import Measured, Skip
from utils.files import read_json
from utils.paths import ROOT

ALL_FACES, SIZE = 23_705, 224
# One epoch: memory is the same in the first and the last.
FULL = {"dataset": "utkface", "model": "alexnet", "protocol": "head", "input_size": SIZE}
SMALL = FULL | {"dataset": "synthetic", "input_size": 64, "dataset_options": {"n": 120}}


def _own_cache(bench: Bench, folder: Path) -> None:
    """Lend the child the decoded pictures and hashes that the study has; features are its own."""
    cache = folder / "cache"
    cache.mkdir()
    for pattern in ("images-*", "fingerprints-*"):
        for path in bench.shared_cache.glob(pattern) if bench.shared_cache else []:
            (cache / path.name).symlink_to(path.resolve())


def _watch(process) -> dict:
    """Peaks of a process in bytes until it ends.

    Returns
    -------
    dict
        ``resident``: with the file pages that it has mapped, which the system takes back when
        others need memory. ``private``: without them.
    """
    peaks = {"resident": 0, "private": 0}
    seen = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            now = seen.memory_info()
        except psutil.NoSuchProcess:
            break
        peaks["resident"] = max(peaks["resident"], now.rss)
        peaks["private"] = max(peaks["private"], now.rss - getattr(now, "shared", 0))
        time.sleep(0.1)
    process.wait()
    return peaks


def _child(options: dict, folder: Path) -> tuple[dict, Path]:
    """Train one run in a process of its own; its peaks and its run folder."""
    code = (
        "import json, sys; from utils.training import RunConfig, train; "
        "print(train(RunConfig(**json.loads(sys.argv[1])), progress=False))"
    )
    environment = os.environ | {"FACES_WORK_DIR": str(folder)}
    command = [sys.executable, "-c", code, json.dumps(options)]
    log = folder / "log.txt"
    with open(log, "w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
        try:
            peaks = _watch(process)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"the run ended with {process.returncode}: {log.read_text()[-800:]}")
    return peaks, Path(log.read_text().strip().splitlines()[-1])


def full_run(bench: Bench) -> Measured:
    """Peak of a run from files to metrics; agrees if every face was predicted."""
    from utils.bench.material import faces, is_synthetic

    n = ALL_FACES if not bench.quick else SMALL["dataset_options"]["n"]
    options = dict(FULL if not bench.quick else SMALL)
    if not bench.quick:
        faces(bench, 2)
        if is_synthetic(bench):
            raise Skip("UTKFace is not here; put it into data/raw or set FACES_DATA_DIR")
    options |= {"epochs": 1, "weights": bench.weights(), "precision": "auto"}
    if bench.quick:
        bench.note("synthetic faces")
    with tempfile.TemporaryDirectory() as scratch:
        _own_cache(bench, Path(scratch))
        peaks, folder = _child(options, Path(scratch))
        cost = read_json(folder / "cost.json")
        predicted = pd.read_parquet(folder / "predictions.parquet")
    done = len(predicted) == n and bool(np.isfinite(predicted["pred_age"]).all())
    whole = n * options["input_size"] ** 2 * 3 * 4 / 1e9
    peak = max(peaks["resident"] / 1e9, cost["peak_memory_mb"] / 1e3)
    return Measured(
        peak,
        whole,
        peak,
        done,
        f"{len(predicted):,} of {n:,} faces predicted, all numbers finite",
        1,
        sides_in="GB",
        note=(
            f"AlexNet, heads on features at {options['input_size']} px, one epoch, one run. "
            f"{whole / peak:.1f} times less than the array. The peak counts mapped file pages, "
            f"which the system takes back at need; without them {peaks['private'] / 1e9:.2f} GB."
        ),
        details={
            "private_gb": peaks["private"] / 1e9,
            "feature_seconds": cost["feature_seconds"],
            "train_seconds": cost["train_seconds"],
        },
    )
