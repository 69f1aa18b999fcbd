"""Gather the finished runs of a profile into one folder that the report is made from."""

import argparse
import sys
from pathlib import Path

from utils import profiles
from utils.paths import runs_dir
from utils.runs import export, find_runs, is_complete


def finished_runs(profile: str, planned: list[str]) -> list[Path]:
    """Folders of the complete runs that belong to a profile.

    A run belongs if the plan names it, or if its ``config.json`` names the profile (a run with
    another seed, say).
    """
    named = [runs_dir() / run for run in planned if is_complete(runs_dir() / run)]
    return sorted({*named, *find_runs(profile=profile)})


def main(arguments: list[str] | None = None) -> int:
    """``python -m utils.report.collect PROFILE FOLDER``."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.collect")
    parser.add_argument("profile")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args(arguments)
    planned = [step.run for step in profiles.plan(profiles.load_profile(asked.profile)) if step.run]
    found = finished_runs(asked.profile, planned)
    if not found:
        print(f"no finished run of profile {asked.profile} in {runs_dir()}", file=sys.stderr)
        return 1
    export(found, asked.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
