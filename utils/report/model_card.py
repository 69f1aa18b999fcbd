"""Ship a network with its model card: ``python -m utils.report.model_card RUN [NAME]``.

Writes ``data/models/NAME`` (float16 weights, how to build it, a card) from a finished run. Every
figure of the card is computed from the run's predictions.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from utils import models, runs
from utils.datasets.splits import published_split
from utils.evaluation.baselines import trivial_baseline
from utils.evaluation.bootstrap import Resamples, groups_of, intervals
from utils.evaluation.columns import METRIC_LABELS, TASK_LABELS, part
from utils.evaluation.subgroups import AXES, subgroups
from utils.files import read_json, write_aside

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"


def _value(value: float, low: float, high: float, metric: str) -> str:
    scale, digits, unit = (1, 2, "") if metric in ("mae", "bias") else (100, 1, " %")
    ends = f"{scale * low:.{digits}f}, {scale * high:.{digits}f}"
    return f"{scale * value:.{digits}f}{unit} [{ends}]"


def metrics_table(predictions: pd.DataFrame, groups) -> str:
    """Every test metric with its interval beside the trivial guess, as Markdown."""
    guess = trivial_baseline(predictions, ("test",)).set_index(["task", "metric"])["value"]
    lines = ["| task | metric | value | trivial guess |", "| --- | --- | --- | --- |"]
    for row in intervals(predictions, groups).itertuples():
        value = _value(row.value, row.ci_low, row.ci_high, row.metric)
        other = guess.get((row.task, row.metric))
        other = "" if other is None else _value(other, 0, 0, row.metric).split(" [")[0]
        lines.append(
            f"| {TASK_LABELS[row.task]} | {METRIC_LABELS[row.metric]} | {value} | {other} |"
        )
    return "\n".join(lines)


COLUMNS = {
    ("age", "mae"): "age error, years",
    ("age", "bias"): "age bias, years",
    ("gender", "accuracy"): "gender right",
    ("ethnicity", "accuracy"): "ethnicity right",
}


def groups_table(predictions: pd.DataFrame, groups) -> str:
    """Test errors of each age bin, gender and ethnicity, as Markdown."""
    faces = part(predictions, "test")
    found = subgroups(faces, Resamples(groups_of(faces, groups)))
    found = found[found["by"].isin(AXES)].set_index(["group", "task", "metric"])
    names = list(dict.fromkeys(found.index.get_level_values("group")))
    lines = ["| true label | n | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("| --- " * (2 + len(COLUMNS)) + "|")
    for name in names:
        rows = found.loc[name]
        first = rows.loc[("age", "mae")]
        title = f"{name} (small)" if first["small"] else name
        cells = [title, f"{first['n']:,}"]
        for (task, metric), _ in COLUMNS.items():
            row = rows.loc[(task, metric)]
            cells.append(_value(row["value"], row["ci_low"], row["ci_high"], metric))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_card(run: str, name: str, root: Path = models.SHIPPED) -> Path:
    """Ship a finished run's network and write its card.

    Parameters
    ----------
    run : str
        A complete run with all four tasks.
    name : str
        Name of the shipped model.
    root : Path
        Folder of shipped models.

    Returns
    -------
    Path
        Folder of the shipped model.

    Raises
    ------
    FileNotFoundError
        If there is no such run.
    """
    folder = runs.runs_dir() / run
    if not runs.is_complete(folder):
        have = [path.name for path in runs.find_runs()]
        raise FileNotFoundError(f"there is no finished run {run}; there are {have or 'none'}")
    config, cost = read_json(folder / "config.json"), read_json(folder / "cost.json")
    predictions = pd.read_parquet(folder / "predictions.parquet")
    target = models.ship(run, name, root)
    groups = published_split(config["dataset"])
    if groups is None:
        groups = pd.DataFrame({"image": [], "group": []})  # every face its own group
    text = TEMPLATE.read_text().format(
        **{key: config[key] for key in ("label", "model", "protocol", "epochs", "seed", "run")},
        **{key: config[key] for key in ("n_train", "n_val", "n_test")},
        name=name,
        size=config["input_size"],
        batch=config["batch_size"],
        parameters=cost["parameters"] / 1e6,
        flops=cost["flops"] / 1e9,
        megabytes=(target / "weights.h5").stat().st_size / 1e6,
        metrics=metrics_table(predictions, groups),
        groups=groups_table(predictions, groups),
    )
    with write_aside(target / "README.md") as aside:
        aside.write_text(text)
    return target


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.report.model_card", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run")
    parser.add_argument("name", nargs="?", help="default: that of the backbone")
    parser.add_argument("--out", type=Path, default=models.SHIPPED)
    asked = parser.parse_args(arguments)
    try:
        print(write_card(asked.run, asked.name or asked.run.split("-")[1], asked.out))
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
