"""Names of the test faces for a peer, and its scores into a study.

``python -m utils.peers names --out test.txt``
``python -m utils.peers convert face_api scores.csv``
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from utils.files import write_aside, write_json
from utils.paths import ROOT
from utils.peers import PEERS, convert, describe
from utils.runs import write_predictions

STUDY = ROOT / "reports" / "study"


def _names(asked, splits):
    names = sorted(splits.loc[splits["split"] == "test", "image"])
    with write_aside(asked.out) as aside:
        aside.write_text("\n".join(names) + "\n")
    return f"{len(names)} names in {asked.out}"


def _convert(asked, splits):
    scores = pd.read_csv(asked.scores)
    table, about = convert(scores, splits), describe(asked.peer, scores)
    path = asked.study / "predictions" / f"{about['run']}.parquet"
    write_predictions(table, path)
    write_json(asked.study / "runs" / about["run"] / "config.json", about)
    found = f"; the peer found {about['n_found']} itself" if about["n_found"] is not None else ""
    return f"{len(table)} faces in {path}{found}"


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m utils.peers", description=__doc__)
    parser.add_argument("--study", type=Path, default=STUDY, help="folder with splits/utkface.csv")
    steps = parser.add_subparsers(dest="step", required=True)
    names = steps.add_parser("names", help="write the names of the test faces, one a line")
    names.add_argument("--out", type=Path, required=True)
    scores = steps.add_parser("convert", help="a peer's CSV into predictions of the study")
    scores.add_argument("peer", choices=sorted(PEERS))
    scores.add_argument("scores", type=Path)
    asked = parser.parse_args(arguments)
    try:
        splits = pd.read_csv(asked.study / "splits" / "utkface.csv", dtype=str)
        print((_names if asked.step == "names" else _convert)(asked, splits))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
