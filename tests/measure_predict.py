"""How fast is a folder scored against the network alone, and in how much memory?

``python tests/measure_predict.py [2000 20000] [--engine onnx]`` links so many pictures to a few
hundred drawn faces, scores them as ``python -m utils.predict`` does, in a process each, and prints
pictures a second, those of the network alone on crops in memory, their ratio (at least 0.8 is the
goal, on an idle machine) and the peak memory, which must not grow with the folder.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from utils import predict
from utils.datasets.synthetic import draw_face
from utils.training.machine import peak_memory_mb

DRAWN, BATCHES = 200, 20  # different faces; batches of the network alone


def link_pictures(folder: Path, count: int) -> Path:
    """A folder of `count` links to drawn faces of 200 pixels, in JPEG."""
    for number in range(min(DRAWN, count)):
        draw_face(f"synthetic/5/{number:06d}.png").save(folder / f"{number}.jpg", quality=92)
    (folder / "linked").mkdir()
    for number in range(count):
        (folder / "linked" / f"{number:07d}.jpg").hardlink_to(folder / f"{number % DRAWN}.jpg")
    return folder / "linked"


def measure(count: int, model: str, engine: str) -> dict[str, float]:
    """Pictures a second and peak memory (MB) for `count` pictures, in this process."""
    scorer = predict.Scorer(model, engine)
    crops = [scorer.crop(draw_face(f"synthetic/5/{k:06d}.png")) for k in range(predict.BATCH)]
    scorer.outputs(crops)
    began = time.perf_counter()
    for _ in range(BATCHES):
        scorer.outputs(crops)
    alone = BATCHES * predict.BATCH / (time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = link_pictures(Path(scratch), count), Path(scratch) / "scores.parquet"
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            command = [str(folder), "--model", model, "--engine", engine, "--out", str(out)]
            assert predict.main(command) == 0
        rate = count / (time.perf_counter() - began)
    found = {"pictures": count, "folder": rate, "alone": alone, "ratio": rate / alone}
    return found | {"MB": peak_memory_mb()}


def main(arguments: list[str] | None = None) -> int:
    """Command line; a process for each size, as the peak of one is the peak of all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("counts", type=int, nargs="*", default=[2000, 20000])
    parser.add_argument("--model", default="mobilenetv2")
    parser.add_argument("--engine", choices=("keras", "onnx"), default="keras")
    asked = parser.parse_args(arguments)
    if len(asked.counts) == 1:
        found = measure(asked.counts[0], asked.model, asked.engine).items()
        print(", ".join(f"{name} {np.round(value, 2)}" for name, value in found), flush=True)
        return 0
    options = ["--model", asked.model, "--engine", asked.engine]
    for count in asked.counts:
        subprocess.run([sys.executable, __file__, str(count), *options], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
