"""Publish the study: ``python reports/study/publish.py [RUN ...]``, from the project's folder.

``--picture`` only draws README's picture again, from the newest measured maps.

Copies finished runs on real faces (all of them, or those named) into ``reports/study``, scores
them, and makes the pages. No picture of a single real face is in what it writes.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from utils import datasets, study
from utils.evaluation import report as reports
from utils.explain.summary import summarise_study
from utils.files import write_aside
from utils.paths import ROOT, runs_dir, splits_dir
from utils.plots.study import draw
from utils.report.html import write_index

STUDY = ROOT / "reports" / "study"
GALLERY = "05_gradcam_gallery"
SPLIT_COLUMNS = ["image", "split", "group", "age", "gender", "ethnicity"]
MOST_BYTES = 150_000  # of the picture that README shows


def write_mean_maps(folder: Path) -> Path | None:
    """Write ``figures/mean_maps.png`` of a study (at most 150 kB), where maps were measured."""
    figure = summarise_study(folder).figures.get("mean_maps")
    if figure is None:
        return None
    drawn, path = io.BytesIO(), folder / "figures" / "mean_maps.png"
    figure.savefig(drawn, format="png", dpi=110)
    with write_aside(path) as aside:
        for colours in (256, 128, 64, 32, 16):
            picture = Image.open(drawn, formats=["PNG"]).convert("RGB").quantize(colours, kmeans=1)
            picture.save(aside, "PNG", optimize=True)
            if aside.stat().st_size <= MOST_BYTES:
                break
    return path


def _page(notebook: str, name: str, label: str, parameters: dict, folder: Path) -> bool:
    """Execute a notebook elsewhere and keep its page only: the executed copy is large."""
    command = [sys.executable, "-m", "utils.report.step", f"notebooks/{notebook}.ipynb"]
    with tempfile.TemporaryDirectory() as scratch:
        command += [scratch, name, "--label", label, "--parameters", json.dumps(parameters)]
        if subprocess.run(command, cwd=ROOT).returncode:
            return False
        with write_aside(folder / f"{name}.html") as aside:
            shutil.copyfile(Path(scratch) / f"{name}.html", aside)
    return True


def publish(names: list[str], folder: Path = STUDY, resamples: int = 2000) -> bool:
    """Fill a study folder from finished runs; whether every page could be made.

    `names` are runs; empty: every finished run on all faces of a real set.
    """
    # Runs on a part of the faces are trials; synthetic ones are no results.
    found = {path.name: study.read_config(path) for path in study.find_runs(limit=0)}
    found = {run: told for run, told in found.items() if told["dataset"] != "synthetic"}
    chosen = [run for run in found if not names or run in names]
    if set(names) - set(chosen) or not chosen:
        lost = sorted(set(names) - set(chosen)) or "on real faces"
        raise ValueError(f"no finished run {lost}; there are {list(found)}")
    study.export([runs_dir() / run for run in chosen], folder, keep_train=False)
    for name in sorted({found[run]["dataset"] for run in chosen}):
        if study.published_split(name) is None:
            with write_aside(splits_dir() / f"{name}.csv") as aside:
                table = datasets.with_splits(datasets.load(name)).table
                table.reindex(columns=SPLIT_COLUMNS).to_csv(aside, index=False)
    held = study.load_study(folder)
    reports.write(draw(reports.build(held, resamples), held), folder)
    write_mean_maps(folder)
    made = []
    for name in sorted({config["dataset"] for config in held.configs.values()}):
        options = {"dataset": name, "limit": 0, "show_faces": False}
        made.append(_page("01_dataset_eda", f"01_dataset_eda-{name}", name, options, folder))
    # Relative, as the page shows its parameters and a machine's paths are nobody's business.
    study_dir = os.path.relpath(folder, ROOT)
    if any((folder / "explanations").glob("*--*.npz")):
        # Shown from what python -m utils.explain stored: no network and no face is needed.
        options = {"measured": study_dir, "show_faces": False}
        made.append(_page(GALLERY, GALLERY, "class activation maps", options, folder))
    options = {"study_dir": study_dir, "profile": "cpu", "resamples": resamples}
    made.append(_page("06_comparison_report", "report", "the report", options, folder))
    write_index(folder.parent)
    return all(made)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", help="default: all on real faces")
    parser.add_argument("--out", type=Path, default=STUDY)
    parser.add_argument("--picture", action="store_true", help="only README's picture")
    asked = parser.parse_args(arguments)
    if asked.picture:
        print(write_mean_maps(asked.out) or "no maps are measured")
        return 0
    try:
        return 0 if publish(asked.runs, asked.out) else 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
