"""Measure: ``python -m utils.bench`` writes ``reports/benchmarks``.

Rows that are there already, from the same code and machine, are kept: a stopped benchmark goes on.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from utils.bench import results
from utils.bench.material import STUDY_BACKBONES, Bench, scratch
from utils.bench.rows import ROWS, choose
from utils.paths import ROOT

FULL = ROOT / "reports" / "benchmarks"
QUICK = ROOT / "reports" / "smoke" / "benchmarks"  # ignored by git


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m utils.bench", description=__doc__)
    parser.add_argument("--rows", default="", help=f"some of {', '.join(ROWS)}; default: all")
    parser.add_argument("--full-backbone", default="", help="run its first protocol in full, slow")
    parser.add_argument(
        "--repeats", type=int, default=5, help="timed rounds, at least 5 to publish"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work?")
    parser.add_argument("--force", action="store_true", help="measure finished rows again")
    parser.add_argument("--out", type=Path, help=f"default: {FULL.relative_to(ROOT)}")
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    return parser


def _measure(row, bench: Bench, machine: str) -> dict:
    """One row of the file."""
    started = time.perf_counter()
    bench.used.clear()
    try:
        measured = row.run(bench)
    except results.Skip as reason:
        return results.skipped(row, str(reason), bench, machine)
    return results.entry(row, measured, bench, machine, time.perf_counter() - started)


def _say(row: dict) -> None:
    if row["skipped"]:
        print(f"{row['row']}: not measured, {row['skipped']}", flush=True)
        return
    agree = "results agree" if row["agree"] else "RESULTS DIFFER"
    told = row["met"] is not None and not row["quick"]
    goal = f", goal {row['goal']:g} {'met' if row['met'] else 'missed'}" if told else ""
    print(
        f"{row['row']}: {row['value']:g} {row['unit']}{goal}; {agree}: {row['agreement']}"
        f" ({row['took_seconds']:.0f} s)",
        flush=True,
    )


def run(chosen, bench: Bench, folder: Path, force: bool = False) -> dict:
    """Measure rows one by one; the files are written after each.

    Returns
    -------
    dict
        The content of ``benchmarks.json``.
    """
    from utils.bench import page
    from utils.bench.machine import machine, short_name

    about = machine()
    name = short_name(about)
    content = results.load(folder) | {"machine": about}
    for row in chosen:
        if not force and results.is_finished(content, row, name, bench.quick):
            print(f"{row.name}: kept, measured before; --force measures it again", flush=True)
            continue
        print(
            f"{row.name}: {row.title}" + ("" if bench.quick else f", {row.minutes:g} min"),
            flush=True,
        )
        made = _measure(row, bench, name)
        _say(made)
        content = results.merge(content, made, list(ROWS))
        results.store(content, folder)
    page.write(content, folder)
    return content


def main(arguments=None) -> int:
    """Command line; returns the exit status."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.list:
        for row in ROWS.values():
            print(f"{row.name:20} {row.minutes:5g} min  {row.title}")
        return 0
    try:
        chosen = choose(asked.rows, asked.full_backbone)
    except ValueError as error:
        parser.error(str(error))
    if asked.full_backbone and asked.full_backbone not in STUDY_BACKBONES:
        parser.error(
            f"backbone {asked.full_backbone!r} is unknown; expected one of {STUDY_BACKBONES}"
        )
    if asked.repeats < 1:
        parser.error(f"{asked.repeats} repeats asked for; expected at least 1")
    folder = asked.out or (QUICK if asked.quick else FULL)
    bench = Bench(asked.quick, asked.repeats, sys.stderr.isatty(), asked.full_backbone)
    with scratch(bench):
        run(chosen, bench, folder, asked.force)
    print(f"written: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
