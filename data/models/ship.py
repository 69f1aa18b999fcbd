"""Ship a network with its model card: ``python data/models/ship.py RUN [NAME]``.

Writes ``data/models/NAME`` (float16 weights, how to build it, a card) from a finished run. Every
figure of the card is computed from the run's predictions. ``ship.py RUN [NAME] --intervals`` only
sizes the age intervals of a shipped network anew, from the predictions that the study published.
"""

import argparse
import sys
from pathlib import Path

import h5py
import jinja2
import numpy as np
import pandas as pd

from utils import models, study
from utils.backbones.registry import BACKBONES
from utils.evaluation.bootstrap import draw, intervals
from utils.evaluation.columns import AGE_INTERVAL, part, sized_interval
from utils.evaluation.conformal import LEVEL, age_sizes
from utils.evaluation.metrics import baseline, evaluate
from utils.evaluation.subgroups import AXES, subgroups
from utils.evaluation.tables import readable
from utils.files import digest_of, read_json, write_aside, write_json
from utils.paths import ROOT, runs_dir
from utils.vocabulary import HEADLINE, written

STUDY = ROOT / "reports" / "study"
COLUMNS = {
    ("age", "mae"): "age error, years",
    ("age", "bias"): "age bias, years",
    ("gender", "accuracy"): "gender correct, %",
    ("ethnicity", "accuracy"): "ethnicity correct, %",
}


_KEPT = (  # of a run's configuration
    *("run", "model", "tasks", "input_size", "dataset", "protocol", "seed", "split"),
    *("epochs", "n_train", "data_fingerprint", "image_mode", "flip_tta", "zoom_tta"),
)


def ship(run: str, name: str, root: Path = models.SHIPPED) -> Path:
    """Write a complete run's network as float16 weights, small enough for git.

    Batch-normalisation statistics stay float32: their variances overflow float16.
    """
    folder, target = models.folder_of(run), Path(root) / name
    network, config = models.load(run), study.read_config(folder)
    with write_aside(target / "weights.h5") as aside, h5py.File(aside, "w") as file:
        for k, array in enumerate(network.get_weights()):
            matrix = array.ndim > 1
            options = {"compression": "gzip", "shuffle": True} if matrix else {}
            kind = np.float16 if matrix else np.float32
            file.create_dataset(f"{k:04d}", data=array.astype(kind), **options)
    errors = {split: models.age_error(folder, split) for split in ("val", "test")}
    about = {key: config[key] for key in _KEPT if key in config}
    about |= {"label": BACKBONES[config["model"]].label}
    about |= {"age_mae": errors, "sha256": digest_of(target / "weights.h5")}
    write_json(target / "model.json", about)
    return target


def size_intervals(predictions: pd.DataFrame, target: Path) -> dict:
    """Size the age intervals of a shipped network on its validation faces, into ``model.json``.

    Beside their sizes (`age_sizes`) stands what share of ages they ``held``: of the test faces, and
    of WIKI's photographs where the study has scored the run on them. Empty without such ages.
    """
    about, needed = read_json(target / "model.json"), ["pred_age", *AGE_INTERVAL]
    if not set(needed) <= set(predictions):
        return {}
    labelled = predictions[predictions["age"].notna()]
    sizes, faces = age_sizes(labelled), {"test": part(labelled, "test")}
    others = (STUDY / "cross_dataset").glob(f"{about['run']}@wiki*.parquet")
    faces |= {path.stem.rpartition("@")[2]: pd.read_parquet(path) for path in sorted(others)}
    held = {}
    for name, table in faces.items():
        low, high = sized_interval(*table[needed].to_numpy(float).T, sizes).T
        held[name] = float(table["age"].between(low, high).mean())
    told = {"level": LEVEL, "faces": len(part(labelled, "val"))} | sizes | {"held": held}
    write_json(target / "model.json", about | {"age_interval": told})
    return told


def metrics_rows(predictions: pd.DataFrame, groups) -> list[dict]:
    """Every test metric with its interval beside the baseline, as text."""
    keys = ["task", "metric"]
    guess = baseline(predictions, ("test",)).set_index(keys)["value"].rename("baseline")
    told = {"value": ("value", "ci_low", "ci_high"), "baseline": ("baseline",)}
    table = intervals(predictions, groups).join(guess, on=keys)
    return readable(table, {"task": "task", "metric": "metric", **told}).to_dict("records")


def headlines(predictions: pd.DataFrame) -> list[dict]:
    """Task, metric and value on test faces, for the card's ``model-index``."""
    rows = evaluate(predictions, ("test",)).to_dict("records")
    rows = [row for row in rows if row["metric"] == HEADLINE[row["task"]]]
    return [row | {"value": round(row["value"], 4)} for row in rows]


def groups_rows(predictions: pd.DataFrame, groups) -> list[dict]:
    """Test errors of each age bin, gender and ethnicity, as text."""
    faces, rows = part(predictions, "test"), {}
    found = subgroups(faces, draw(faces, groups))
    for row in found[found["by"].isin(AXES)].itertuples():
        title = f"{row.group} (small)" if row.small else row.group
        told = rows.setdefault(title, {"true label": title, "n": f"{row.n:,}"})
        if (row.task, row.metric) in COLUMNS:
            text = written(row.value, row.ci_low, row.ci_high, row.metric)
            told[COLUMNS[row.task, row.metric]] = text
    return list(rows.values())


def write_card(run: str, name: str = "", root: Path = models.SHIPPED) -> Path:
    """Ship a finished run's network, by default under its backbone's name, and write its card.

    Returns the folder of the shipped model; ValueError if there is no such run.
    """
    folder = runs_dir() / run
    if not study.is_complete(folder):
        have = [path.name for path in study.find_runs()]
        raise ValueError(f"there is no finished run {run}; there are {have or 'none'}")
    config, cost = study.read_config(folder), read_json(folder / "cost.json")
    predictions = pd.read_parquet(folder / "predictions.parquet")
    target = ship(run, name or config["model"], root)
    sizes = size_intervals(predictions, target)
    groups = study.published_split(config["dataset"])
    template = jinja2.Template(Path(__file__).with_name("card.md.j2").read_text("utf-8"))
    text = template.render(
        **config | {"label": BACKBONES[config["model"]].label, "name": target.name, "run": run},
        parameters=cost["parameters"] / 1e6,
        flops=cost["flops"] / 1e9,
        megabytes=(target / "weights.h5").stat().st_size / 1e6,
        headlines=headlines(predictions),
        age_interval=sizes,
        metrics=metrics_rows(predictions, groups),
        groups=groups_rows(predictions, groups),
    )
    with write_aside(target / "README.md") as aside:
        aside.write_text(text + "\n", encoding="utf-8")
    return target


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("name", nargs="?", default="", help="default: that of the backbone")
    parser.add_argument("--out", type=Path, default=models.SHIPPED)
    parser.add_argument("--intervals", action="store_true", help="only the age intervals anew")
    asked = parser.parse_args(arguments)
    try:
        if asked.intervals:
            predictions = pd.read_parquet(STUDY / "predictions" / f"{asked.run}.parquet")
            target = asked.out / (asked.name or study.read_config(STUDY / "runs" / asked.run)["model"])
            print(size_intervals(predictions, target))
            return 0
        print(write_card(asked.run, asked.name, asked.out))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
