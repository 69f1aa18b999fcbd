"""Measure the explanations of networks: ``python -m utils.explain RUN [RUN ...]``.

Writes ``explanations.csv`` and, beside it, one small file a run and task with its mean maps and
curves. A stopped measurement goes on with the next run and task.
"""

import argparse
import sys
from pathlib import Path

from utils.explain.evidence import FOLDER, NUMBERS
from utils.paths import ROOT
from utils.vocabulary import TASKS

OUT = ROOT / "reports" / "study" / "explanations.csv"


def main(arguments=None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser("python -m utils.explain", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", help="names of finished runs or shipped networks")
    for name, (usual, text) in NUMBERS.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=usual, help=f"{text} ({usual})")
    drawn = "explain on so many drawn faces, whose true evidence is known, instead of test faces"
    parser.add_argument("--drawn", type=int, default=0, help=drawn)
    two = "instead, keep two drawn faces with the maps of all these networks, for the gallery"
    parser.add_argument("--examples", action="store_true", help=two)
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated")
    parser.add_argument("--force", action="store_true", help="measure again")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    # Here, so that a question for help does not wait for Keras.
    from utils.explain.examples import measure_examples
    from utils.explain.measure import measure_runs  # likewise
    from utils.explain.views import open_views  # likewise

    settings = {name: getattr(asked, name) for name in NUMBERS}
    try:
        if asked.examples:
            views = open_views(asked.runs, drawn=asked.drawn or 60)
            print(f"written: {measure_examples(views, asked.out.parent / FOLDER)}")
            return 0
        for view in open_views(asked.runs, drawn=asked.drawn):
            found = measure_runs([view], asked.tasks.split(","), asked.out, settings, asked.force)
            print(f"{view.run}: {len(found)} tasks", flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
