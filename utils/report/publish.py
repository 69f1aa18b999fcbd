"""Publish a study: ``python -m utils.report.publish [RUN ...]`` fills ``reports/study``.

Copies finished runs on real faces (all of them, or those named), writes the splits, scores, and
makes the pages. No picture of a single real face is in what it writes.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from utils import datasets, runs
from utils.datasets.splits import write_split
from utils.evaluation.report import build, write
from utils.files import read_json, write_aside
from utils.paths import ROOT
from utils.report.index import write_index
from utils.report.step import run_step

STUDY = ROOT / "reports" / "study"
GALLERY = "05_gradcam_gallery"


def _page(notebook: str, name: str, label: str, parameters: dict, folder: Path) -> bool:
    """Execute a notebook elsewhere and keep its page only: the executed copy is large."""
    with tempfile.TemporaryDirectory() as scratch:
        path = ROOT / "notebooks" / f"{notebook}.ipynb"
        if not run_step(path, Path(scratch), name, label, parameters):
            print((Path(scratch) / "logs" / f"{name}.log").read_text()[-3000:], file=sys.stderr)
            return False
        with write_aside(folder / f"{name}.html") as aside:
            shutil.copyfile(Path(scratch) / f"{name}.html", aside)
    return True


def publish(names: list[str], folder: Path = STUDY, resamples: int = 2000) -> bool:
    """Fill a study folder from finished runs.

    Parameters
    ----------
    names : list of str
        Runs; empty: every finished run on all faces of a real set.
    folder : Path
    resamples : int
        Of every bootstrap interval.

    Returns
    -------
    bool
        Whether every page could be made.
    """
    # Runs on a part of the faces are trials; synthetic ones are no results.
    found = [path for path in runs.find_runs(limit=0) if not path.name.startswith("synthetic")]
    chosen = [path for path in found if not names or path.name in names]
    unknown = set(names) - {path.name for path in chosen}
    if unknown or not chosen:
        have = [path.name for path in found]
        raise ValueError(f"no finished run {sorted(unknown) or 'on real faces'}; there are {have}")
    runs.export(chosen, folder, keep_train=False)
    made = []
    used = {read_json(path / "config.json")["dataset"] for path in chosen}
    for name in sorted(used | {path.stem for path in folder.glob("splits/*.csv")}):
        path = folder / "splits" / f"{name}.csv"
        if not path.is_file():
            write_split(datasets.with_splits(datasets.load(name)).table, path)
        options = {"dataset": name, "limit": 0, "show_faces": False}
        made.append(_page("01_dataset_eda", f"01_dataset_eda-{name}", name, options, folder))
    write(build(runs.load_study(folder), resamples), folder)
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
    parser = argparse.ArgumentParser(prog="python -m utils.report.publish", description=__doc__)
    parser.add_argument("runs", nargs="*", help="default: all on real faces")
    parser.add_argument("--out", type=Path, default=STUDY)
    asked = parser.parse_args(arguments)
    try:
        return 0 if publish(asked.runs, asked.out) else 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
