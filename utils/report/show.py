"""What notebook 06 needs: parts of a study's report by name, and what its study lacks."""

from fnmatch import fnmatch
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display

from utils import plan
from utils.files import read_json
from utils.notebook import show
from utils.paths import ROOT


def find_study(study_dir: str) -> Path:
    """A study folder by its path: as given, or below the project's folder."""
    given = Path(study_dir).expanduser()
    return next((path for path in (given, ROOT / given) if path.is_dir()), given)


def show_figures(report, *patterns: str) -> None:
    """Show the figures of a report whose names fit, or say in one sentence why there are none."""
    shown = [name for one in patterns for name in report.figures if fnmatch(name, one)]
    for name in dict.fromkeys(shown):
        show(report.figures[name])
    if not shown:
        why = [text for name, text in report.left_out if any(fnmatch(name, p) for p in patterns)]
        reason = why[0] if why else "the runs of this study do not allow it"
        display(Markdown(f"Left out: {reason}."))


def show_table(report, name: str, caption: str, titles: dict | None = None) -> None:
    """Show a table of a report, its columns renamed by `titles`, or say that there is none."""
    table = report.tables.get(name)
    if table is None:
        what = caption[0].lower() + caption.rstrip(".")[1:]
        display(Markdown(f"Left out: {what} (no run allows it)."))
    else:
        show(table.rename(columns=titles or {}).reset_index(drop=True), caption)


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
