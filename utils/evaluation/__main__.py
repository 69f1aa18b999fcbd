"""Rebuild every table and figure of a study: `python -m utils.evaluation reports/study`."""

import argparse
import sys
import time
from pathlib import Path

from threadpoolctl import threadpool_limits

from utils.evaluation.report import build, write
from utils.plots.study import draw  # a command stands above plots, the package below
from utils.study import load_study


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m utils.evaluation", description=__doc__)
    parser.add_argument("study", type=Path, help="folder with predictions/ and runs/")
    parser.add_argument("--out", type=Path, help="folder to write to (default: the study itself)")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=129)
    asked, start = parser.parse_args(arguments), time.perf_counter()
    if not asked.study.is_dir():
        parser.error(f"{asked.study} is no folder; expected a study such as reports/study")

    def say(text):
        print(f"{time.perf_counter() - start:6.1f} s  {text}", flush=True)

    try:
        study = load_study(asked.study)
        # Many small products: more threads only wait for each other on a busy machine.
        with threadpool_limits(1):
            report = draw(build(study, asked.resamples, asked.seed, say), study, say)
        size = write(report, asked.out or asked.study)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, reason in report.left_out:
        say(f"left out: {name}: {reason}")
    for dataset, sentences in report.findings.items():
        print(f"\n{dataset}:", *sentences, sep="\n  ")
    say(f"done, {size / 1e6:.1f} MB in {asked.out or asked.study}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
