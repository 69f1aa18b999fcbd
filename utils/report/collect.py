"""Gather the finished runs of a profile into one folder that the report is made from."""

import argparse
import sys
from pathlib import Path

from utils import profiles
from utils.files import read_json
from utils.paths import runs_dir
from utils.runs import export, find_runs, is_complete, same_settings


def finished_runs(profile: str, planned: dict[str, dict]) -> list[Path]:
    """Folders of the complete runs that belong to a profile.

    A run belongs if the plan names it and it had the planned settings, or if its ``config.json``
    names the profile (a run with another seed, say).

    Parameters
    ----------
    profile : str
    planned : dict
        Name of a run -> parameters of its notebook.
    """
    named = [
        runs_dir() / run
        for run, parameters in planned.items()
        if is_complete(runs_dir() / run)
        and same_settings(parameters, read_json(runs_dir() / run / "config.json"))
    ]
    return sorted({*named, *find_runs(profile=profile)})


def main(arguments: list[str] | None = None) -> int:
    """``python -m utils.report.collect PROFILE FOLDER``."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.collect")
    parser.add_argument("profile")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args(arguments)
    steps = profiles.plan(profiles.load_profile(asked.profile))
    planned = {step.run: step.parameters for step in steps if step.run}
    found = finished_runs(asked.profile, planned)
    if not found:
        print(f"no finished run of profile {asked.profile} in {runs_dir()}", file=sys.stderr)
        return 1
    export(found, asked.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
