"""Rebuild every table and figure of a study: `python -m utils.evaluation reports/study`."""

import argparse
import sys
import time
from pathlib import Path

from threadpoolctl import threadpool_limits

from utils.evaluation.report import build, write
from utils.runs import load_study


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m utils.evaluation", description=__doc__)
    parser.add_argument("study", type=Path, help="folder with predictions/, runs/, splits/")
    parser.add_argument("--out", type=Path, help="folder to write to (default: the study itself)")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=129)
    options = parser.parse_args(arguments)
    if not options.study.is_dir():
        parser.error(f"{options.study} is no folder; expected a study such as reports/study")
    start = time.perf_counter()

    def say(text):
        print(f"{time.perf_counter() - start:6.1f} s  {text}", flush=True)

    try:
        # Many small products: more threads only wait for each other on a busy machine.
        with threadpool_limits(1):
            report = build(load_study(options.study), options.resamples, options.seed, say)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    say(f"writing {len(report.tables)} tables and {len(report.figures)} figures")
    size = write(report, options.out or options.study)
    for name, reason in report.left_out:
        say(f"left out: {name}: {reason}")
    for dataset, sentences in report.findings.items():
        print(f"\n{dataset}:", *sentences, sep="\n  ")
    say(f"done, {size / 1e6:.1f} MB in {options.out or options.study}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
