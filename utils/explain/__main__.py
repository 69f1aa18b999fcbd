"""Measure the explanations of finished runs: ``python -m utils.explain RUN [RUN ...]``.

Writes ``explanations.csv`` and, beside it, one small file a run and task with its mean maps and
curves. A stopped measurement goes on with the next run and task.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from utils.paths import ROOT  # noqa: E402


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m utils.explain", description=__doc__.splitlines()[0]
    )
    parser.add_argument("runs", nargs="*", help="names of finished runs or shipped models")
    parser.add_argument("--n", type=int, default=1000, help="faces in mean maps and attention")
    parser.add_argument("--faithful", type=int, default=100, help="faces for faithfulness")
    parser.add_argument("--sanity", type=int, default=24, help="faces for the randomisation check")
    parser.add_argument(
        "--slow", type=int, default=40, help="faithful faces for Score-CAM, SmoothGrad"
    )
    parser.add_argument("--steps", type=int, default=5, help="of the deletion and insertion curves")
    parser.add_argument("--tasks", default="age,gender,ethnicity,age_bin", help="comma-separated")
    parser.add_argument("--seed", type=int, default=129)
    parser.add_argument(
        "--synthetic",
        metavar="BACKBONES",
        default="",
        help="comma-separated: train these on drawn faces first, then measure them",
    )
    parser.add_argument("--force", action="store_true", help="measure again")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "study" / "explanations.csv")
    return parser


def _views(asked):
    from utils.explain.study import open_named

    names = list(asked.runs)
    if asked.synthetic:
        from utils.explain import synthetic

        names += [synthetic.train(name) for name in asked.synthetic.split(",")]
    if not names:
        raise ValueError("no run named; expected names of finished runs or shipped models")
    return open_named(names)


def main(arguments=None) -> int:
    """Command line; returns the exit status."""
    asked = _parser().parse_args(arguments)
    start = time.process_time()
    try:
        from utils.explain.measure import Settings, measure_runs

        settings = Settings(
            asked.n, asked.faithful, asked.sanity, asked.slow, asked.steps, seed=asked.seed
        )
        for view in _views(asked):
            began = time.process_time()
            found = measure_runs([view], asked.tasks.split(","), asked.out, settings, asked.force)
            minutes = (time.process_time() - began) / 60
            print(f"{view.run}: {len(found)} tasks, {minutes:.1f} core-minutes", flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"done in {(time.process_time() - start) / 60:.1f} core-minutes: {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
