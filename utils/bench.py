"""What a user feels: how long things take.

``python -m utils.bench [--list] [--rows a,b] [--quick]`` (or ``./run_all.sh bench``) writes
``reports/benchmarks``. Both sides of a ratio run in one process, in turns; the medians of five
rounds count. ``--quick`` shows that a row works: its figures mean nothing.
"""

import argparse
import functools
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from unittest import mock

import keras
import numpy as np
import pandas as pd
import psutil
from tf_keras_vis.gradcam import Gradcam

from utils import datasets, models
from utils.datasets.store import load_stored
from utils.explain import cams, maps
from utils.explain.target import explain_target
from utils.files import read_json, write_aside, write_json
from utils.paths import ROOT
from utils.training.machine import describe_machine

FULL = ROOT / "reports" / "benchmarks"
QUICK = ROOT / "reports" / "smoke" / "benchmarks"  # ignored by git
SHIPPED = "mobilenetv2"
MARK = "<!-- measured -->"  # the table stands between two of these


class Bench:
    """Sizes and repeats; real faces where they are, else drawn ones."""

    def __init__(self, quick: bool):
        self.quick, self.repeats = quick, 1 if quick else 5
        self.dataset = "utkface" if not quick and datasets.is_there("utkface") else "synthetic"

    def pick(self, full, quick):
        """One of two sizes."""
        return quick if self.quick else full

    def faces(self, n: int, size: int) -> tuple[pd.DataFrame, np.ndarray]:
        """Labels and pixels of some faces, the same on every call."""
        found = datasets.load(self.dataset)
        chosen = np.isin(np.arange(len(found)), np.linspace(0, len(found) - 1, n, dtype=int))
        stored = load_stored(found.subset(chosen), size, progress=False)
        return stored.faces.table, stored.images

    def in_turns(self, **sides: Callable) -> tuple[dict, dict]:
        """Median seconds and last result of some functions, called in turns after one warm-up."""
        seconds, results = {name: [] for name in sides}, {}
        for name in [*sides] * (self.repeats + 1):
            gc.collect()
            started = time.perf_counter()
            results[name] = sides[name]()
            seconds[name].append(time.perf_counter() - started)
        return {name: median(taken[1:]) for name, taken in seconds.items()}, results


@dataclass
class Measured:
    """Both sides of a row, and how far apart their results are (`compared` says what of)."""

    ours: float
    baseline: float | None = None
    note: str = ""
    compared: str = ""
    apart: float = 0.0
    allowed: float = 0.0


@dataclass(frozen=True)
class Row:
    """One question; its goal is at least so many ``times``, or at most so much of another unit."""

    title: str
    run: Callable[[Bench], Measured]
    ours: str
    baseline: str
    goal: float
    unit: str = "times"

    def value(self, found: Measured) -> float:
        """What is judged."""
        return found.baseline / found.ours if self.unit == "times" else found.ours


def _apart(there, here) -> float:
    """Largest difference of two arrays, or of two dicts of them."""
    pairs = zip(keras.tree.flatten(there), keras.tree.flatten(here), strict=True)
    return max(float(np.abs(one - other).max()) for one, other in pairs)


def _run(module: str, *arguments: str) -> int:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True).returncode


def gradcam(bench: Bench) -> Measured:
    """Maps of the shipped network by one compiled graph, and by tf-keras-vis."""
    network = models.load(SHIPPED)
    size = network.inputs[0].shape[1]
    images = np.asarray(bench.faces(bench.pick(64, 6), size)[1], "float32")
    target = explain_target(network, "gender")
    options = {"seek_penultimate_conv_layer": False, "normalize_cam": False}
    explainer = functools.partial(Gradcam(target.net), penultimate_layer=target.layer, **options)

    def one(face):
        wanted = target.classes(target.logits(face))
        return maps.normalise(explainer(functools.partial(target.scores, classes=wanted), face))[0]

    taken, made = bench.in_turns(
        one=lambda: np.stack([one(face) for face in images[:, None]]),
        ours=lambda: cams.batched_gradcam(target, images),
    )
    note = f"gender, {len(images)} faces at {size} px, compiled before"
    return Measured(taken["ours"], taken["one"], note, "maps", _apart(*made.values()), 1e-4)


def report(bench: Bench) -> Measured:
    """From the committed predictions to every table and figure."""
    with tempfile.TemporaryDirectory() as folder:
        given = ["reports/study", "--out", folder, "--resamples", bench.pick("2000", "50")]
        taken, made = bench.in_turns(ours=lambda: _run("utils.evaluation", *given))
        scored = pd.read_csv(Path(folder) / "tables" / "metrics.csv")
    stored = pd.read_csv(ROOT / "reports" / "study" / "results.csv")
    both = scored.merge(stored, on=["run", "task", "metric", "split"], suffixes=("", "_stored"))
    apart = float((both["value"] / both["value_stored"] - 1).abs().max()) + made["ours"]
    note = f"{scored['run'].nunique()} runs, start of Python included"
    return Measured(taken["ours"], None, note, "of values stored at training", apart, 1e-4)


def latency(bench: Bench) -> Measured:
    """One face through the shipped network."""
    network, calls = models.load(SHIPPED), range(bench.pick(50, 3))
    face = np.asarray(bench.faces(1, network.inputs[0].shape[1])[1], "float32")
    taken, made = bench.in_turns(
        ours=lambda: [network.predict_on_batch(face) for _ in calls][-1],
        predict=lambda: [network.predict(face, verbose=0) for _ in calls][-1],
    )
    each = [1000 * seconds / len(calls) for seconds in taken.values()]
    note = f"mean of {len(calls)} calls, without finding the face"
    return Measured(*each, note, "probabilities", _apart(*made.values()), 1e-5)


_ROWS = [
    ("Grad-CAM of many faces", gradcam, "one graph", "tf-keras-vis, face by face", 4),
    ("report from committed predictions", report, "utils.evaluation", "", 120, "s"),
    ("one face, shipped network", latency, "predict_on_batch", "predict", 50, "ms"),
]
ROWS = {one[1].__name__: Row(*one) for one in _ROWS}


def measure(name: str, bench: Bench) -> dict:
    """One row of ``benchmarks.json``, measured in a work folder of its own."""
    row, memory = ROWS[name], round(psutil.virtual_memory().total / 1e9, 1)
    about = describe_machine() | {"memory_gb": memory, "load_before": psutil.getloadavg()[0]}
    with tempfile.TemporaryDirectory(prefix="faces-bench-", ignore_cleanup_errors=True) as folder:
        with mock.patch.dict(os.environ, FACES_WORK_DIR=folder):
            found = row.run(bench)
    value = row.value(found)
    met = value >= row.goal if row.unit == "times" else value <= row.goal
    told = {"row": name, "value": value, "goal": row.goal, "met": met, "machine": about}
    return told | {"agree": found.apart <= found.allowed} | asdict(found) | vars(bench)


def _cells(told: dict) -> dict[str, str]:
    """What the page says of a row, by the heads of its table."""
    row, about = ROWS[told["row"]], told["machine"]
    where = (about[key] for key in ("cpu", "cores", "device", "memory_gb") if key in about)
    other = f"; {row.baseline} {told['baseline']:.3g}" if told["baseline"] else ""
    return {
        "what": row.title,
        "measured": f"{told['value']:.3g} {row.unit}",
        "goal": f"at {'least' if row.unit == 'times' else 'most'} {told['goal']:g}",
        "met": "quick: means nothing" if told["quick"] else "yes" if told["met"] else "**no**",
        "sides": f"{row.ours} {told['ours']:.3g}{other}{'' if row.unit == 'ms' else ' s'}",
        "results differ by": f"{told['apart']:.1e} {told['compared']}" if told["compared"] else "",
        "how": f"{told['note']}; {told['dataset']}",
        "machine": ", ".join(map(str, where)),
    }


def store(told: dict, folder: Path) -> None:
    """Write or replace a row of ``benchmarks.json``; on the page the table is made anew."""
    path = folder / "benchmarks.json"
    known = {row["row"]: row for row in read_json(path)["rows"]} if path.is_file() else {}
    known[told["row"]] = told
    rows = [known[name] for name in ROWS if name in known]
    write_json(path, {"rows": rows})
    table = [_cells(told), ["---"] * len(_cells(told)), *(_cells(row).values() for row in rows)]
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    if missing := [row.title for name, row in ROWS.items() if name not in known]:
        lines += ["", f"Not measured yet on this version: {'; '.join(missing)}."]
    before, _, after = (FULL / "README.md").read_text().split(MARK)
    with write_aside(folder / "README.md") as aside:
        aside.write_text(MARK.join([before, "\n\n" + "\n".join(lines) + "\n\n", after]))


def main(arguments=None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m utils.bench", description=__doc__)
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    parser.add_argument("--rows", default=",".join(ROWS), help="some rows, comma-separated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work?")
    asked = parser.parse_args(arguments)
    if asked.list:
        print("\n".join(f"{name:12} {row.title}" for name, row in ROWS.items()))
        return 0
    if unknown := [name for name in asked.rows.split(",") if name not in ROWS]:
        parser.error(f"--rows: {', '.join(unknown)} is unknown; expected some of {', '.join(ROWS)}")
    for name in asked.rows.split(","):
        print(f"{name}: {ROWS[name].title} ...", flush=True)
        told = measure(name, Bench(asked.quick))
        store(told, QUICK if asked.quick else FULL)  # row by row: a stop loses one at most
        print(", ".join(_cells(told).values()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
