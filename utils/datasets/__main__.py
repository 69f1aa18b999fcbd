"""Get and check the data sets from a command line.

python -m utils.datasets check
python -m utils.datasets fetch utkface
python -m utils.datasets pack utkface --size 128 --to utkface.zip
python -m utils.datasets pack wiki --like utkface --size 96 --to wiki.zip
"""

import argparse
import sys
from pathlib import Path

from utils.datasets import LOADERS, load
from utils.datasets.fetch import SOURCES, fetch
from utils.datasets.pack import pack
from utils.datasets.table import FaceSet
from utils.faces import cutter
from utils.files import DataError
from utils.paths import data_dir


def describe(faces: FaceSet) -> str:
    """Say what a data set holds: counts after each step and reasons of exclusion."""
    place = f" in {faces.root}" if faces.root else ""
    lines = [f"{faces.name:<12} {len(faces):,} faces{place}"]
    lines += [f"    {step.faces:>8,}  {step.step}" for step in faces.steps.itertuples()]
    reasons = faces.exclusions["reason"].value_counts()
    lines += [f"    {count:>8,}  left out: {reason}" for reason, count in reasons.head(8).items()]
    rest = int(reasons.iloc[8:].sum())
    lines += [f"    {rest:>8,}  left out for other reasons"] if rest else []
    return "\n".join([*lines, f"    {faces.terms}"])


def check_all(root: Path) -> int:
    """Print what is found of each set under `root`; return how many were found."""
    print(f"looking in {root}")
    found = 0
    for name in [one for one in LOADERS if one != "synthetic"]:  # drawn, not found
        try:
            print(describe(load(name, root)))
            found += 1
        except DataError as error:
            print(f"{name:<12} -\n    {error}")
    if not found:
        print("no real faces: `python -m utils.datasets fetch utkface` gets some")
    return found


def _parser() -> argparse.ArgumentParser:
    kind = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser("python -m utils.datasets", None, __doc__, **kind)
    verbs = parser.add_subparsers(dest="verb", required=True)
    default = "folder (default: FACES_DATA_DIR or data/raw)"
    get = verbs.add_parser("fetch", help="download a data set and check it")
    get.add_argument("name", choices=sorted(SOURCES))
    get.add_argument("--to", type=Path, help=default)
    get.add_argument("--force", action="store_true", help="get it again")
    look = verbs.add_parser("check", help="list what is found, with counts")
    look.add_argument("--root", type=Path, help=default)
    small = verbs.add_parser("pack", help="write a data set as one small archive")
    small.add_argument("name", nargs="?", default="utkface", help="utkface (default) or wiki")
    small.add_argument("--like", default="", help="find each face and cut it as in this data set")
    small.add_argument("--size", type=int, default=128, help="pixels a side (default: 128)")
    small.add_argument("--to", type=Path, default=Path("utkface.zip"), help="where to write it")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.verb == "check":
            return 0 if check_all(options.root or data_dir()) else 1
        if options.verb == "pack":
            own = {"cut": cutter(options.like)} if options.like else {}
            path, lost = pack(load(options.name), options.size, options.to, **own)
            told = f"{path.stat().st_size / 1e6:.1f} MB, {lost} pictures without a face left out"
            print(f"{path}: {told}; train with --data {path}")
            return 0
        print(describe(fetch(options.name, options.to, options.force)))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
