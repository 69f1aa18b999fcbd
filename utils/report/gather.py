"""Gather the finished runs of a profile in a study folder; the Snakefile calls it.

python -m utils.report.gather PROFILE FOLDER
"""

import sys
from pathlib import Path

from utils import plan, study
from utils.paths import runs_dir


def gather(profile: str, folder: Path) -> None:
    """Export the finished runs that a profile plans, or that name it in their configuration."""
    planned = map(study.finished, plan.configs(plan.load_profile(profile)))
    found = sorted({*filter(None, planned), *study.find_runs(profile=profile)})
    if not found:
        raise ValueError(f"no finished run of profile {profile} in {runs_dir()}")
    study.export(found, folder)


if __name__ == "__main__":
    try:
        gather(sys.argv[1], Path(sys.argv[2]))
    except ValueError as error:
        sys.exit(f"error: {error}")
