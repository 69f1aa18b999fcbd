"""Train the ablations: ``python -m utils.training.ablations [NAME ...] [--list]``.

Finished runs are kept, here or in the published study; an interrupted one goes on where it was.
"""

import argparse
import gc
import sys
import time
import traceback
from pathlib import Path

from utils import runs
from utils.ablations import Variant, load_plan
from utils.paths import ROOT

STUDY = ROOT / "reports" / "study"


def is_done(run: str, study: Path) -> bool:
    """Whether a run is complete here, or its predictions are in the study."""
    published = Path(study) / "predictions" / f"{run}.parquet"
    return runs.is_complete(runs.runs_dir() / run) or published.is_file()


def train_variant(variant: Variant, limit: int = 0, epochs: int = 0) -> Path:
    """Train one run as if its process had done nothing before."""
    import keras

    from utils.training import RunConfig, train

    keras.utils.clear_session()
    settings = variant.settings | ({"limit": limit} if limit else {})
    settings |= {"epochs": epochs} if epochs else {}
    folder = train(RunConfig(**settings, profile="ablations", study=variant.study))
    gc.collect()
    return folder


def train_all(wanted: dict[str, Variant], limit: int = 0, epochs: int = 0) -> list[str]:
    """Train some runs, one after the other; return the names of those that failed."""
    failed = []
    for number, (run, variant) in enumerate(wanted.items(), 1):
        started = time.perf_counter()
        print(f"[{number}/{len(wanted)}] {run}: about {variant.minutes:.0f} min", flush=True)
        try:
            train_variant(variant, limit, epochs)
        except Exception:  # the next run may work all the same
            traceback.print_exc()
            failed.append(run)
            continue
        print(f"    done in {(time.perf_counter() - started) / 60:.1f} min", flush=True)
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m utils.training.ablations", description=__doc__)
    parser.add_argument("names", nargs="*", help="ablations, or `repeats` (default: all)")
    parser.add_argument("--list", action="store_true", help="say what there is, and stop")
    parser.add_argument("--most-minutes", type=float, default=float("inf"), help="leave longer out")
    parser.add_argument("--study", type=Path, default=STUDY, help="published runs are not repeated")
    parser.add_argument("--limit", type=int, default=0, help="faces, for a trial")
    parser.add_argument("--epochs", type=int, default=0, help="for a trial; with --limit")
    asked = parser.parse_args(arguments)
    try:
        wanted = load_plan().runs(tuple(asked.names))
    except ValueError as error:
        parser.error(str(error))
    if asked.epochs and not asked.limit:
        parser.error("--epochs without --limit would take the real run's place; give both")
    if asked.list:
        for run, variant in wanted.items():
            mark = "done" if is_done(run, asked.study) else f"{variant.minutes:.0f} min"
            print(f"{mark:>8}  {run}")
        return 0
    trial = bool(asked.limit or asked.epochs)
    chosen = {
        run: variant
        for run, variant in wanted.items()
        if variant.minutes <= asked.most_minutes and (trial or not is_done(run, asked.study))
    }
    failed = train_all(chosen, asked.limit, asked.epochs)
    print(f"{len(chosen) - len(failed)} runs finished, {len(failed)} failed", *failed, sep="\n  ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
