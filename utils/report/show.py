"""What notebook 06 needs: parts of a study's report by name, and what its study lacks."""

import re
from fnmatch import translate
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display

from utils import plan
from utils import vocabulary as words
from utils.files import read_json
from utils.notebook import show
from utils.paths import ROOT

LABELS = words.METRIC_LABELS | words.TASK_LABELS | words.DATASET_LABELS


def find_study(study_dir: str) -> Path:
    """A study folder by its path: as given, or below the project's folder."""
    given = Path(study_dir).expanduser()
    return next((path for path in (given, ROOT / given) if path.is_dir()), given)


def show_figures(report, *patterns: str) -> None:
    """Show the figures of a report whose names fit, or say in one sentence why there are none."""
    fits = re.compile("|".join(map(translate, patterns))).match
    for name in (shown := list(filter(fits, report.figures))):
        show(report.figures[name])
    if not shown:
        why = [text for name, text in report.left_out if fits(name)]
        display(Markdown(f"Left out: {[*why, 'the runs of this study do not allow it'][0]}."))


def show_table(report, name: str, caption: str, titles: dict | None = None) -> None:
    """Show a table of a report, its columns renamed by `titles`, or say that there is none."""
    table = report.tables.get(name)
    if table is None:
        display(Markdown(f"Left out, as no run allows it: {caption}"))
    else:
        numbers = report.folder / "tables" / f"{name.removesuffix('_readable')}.csv"
        show_words(table.rename(columns=titles or {}), caption, numbers)


def show_words(table, caption: str, numbers: Path = Path()) -> None:
    """Show a table without internal names and empty cells; what never changes joins the caption.

    A page in a folder of ``reports`` links to the CSV `numbers`, if that lies in one too.
    """
    table = table.map(lambda cell: LABELS.get(cell, cell)).astype(object).fillna("-")
    same = {name: cells.iloc[0] for name, cells in table.items() if cells.nunique() == 1}
    if len(table) > 1 and 0 < len(same) < table.shape[1]:
        caption += f" In all rows: {'; '.join(f'{name} {cell}' for name, cell in same.items())}."
        table = table.drop(columns=same)
    numbers, reports = numbers.resolve(), ROOT / "reports"
    linked = numbers.is_file() and numbers.is_relative_to(reports)
    link = f"../{numbers.relative_to(reports).as_posix()}" if linked else ""
    show(table.reset_index(drop=True), caption, csv=link)


def not_run(study, folder: Path, profile: str = "") -> pd.DataFrame:
    """Runs that the profiles of a study plan and the study lacks: run, label, reason.

    Reasons stand in ``not_run.json`` of the study folder (by run, data set, model or protocol) and
    in the logs of failed steps beside it.
    """
    asked = {profile} if profile else {told.get("profile") for told in study.configs.values()}
    profiles = [plan.load_profile(name) for name in plan.names() if name in asked]
    steps = {step.name: step for profile in profiles for step in plan.steps(profile) if step.config}
    reasons = read_json(folder / "not_run.json") if (folder / "not_run.json").is_file() else {}
    for log in folder.parent.glob("logs/*.failed.ipynb"):
        if (name := log.name.split(".failed")[0]) in steps:
            lines = log.with_name(f"{name}.log").read_text("utf-8").splitlines()
            reasons[steps[name].config.run] = ["ended without a word", *lines][-1]
    usual, rows = "no finished run was found; start it again, it goes on from its checkpoint", []
    for config in (step.config for step in steps.values() if not study.matching(step.config)):
        keys = (config.run, config.dataset, config.model, config.protocol)
        told = next((reasons[key] for key in keys if key in reasons), usual)
        rows.append((config.run, config.label, told))
    return pd.DataFrame(rows, columns=["run", "label", "reason"])
