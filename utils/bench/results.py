"""``benchmarks.json``: rows from several starts in one file."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd

from utils.files import read_json, write_aside, write_json
from utils.paths import ROOT

NAME = "benchmarks.json"
COLUMNS = [
    "row",
    "value",
    "unit",
    "goal",
    "lower_is_better",
    "met",
    "agree",
    "baseline",
    "ours",
    "sides_in",
    "repeats",
    "material",
    "quick",
    "skipped",
]


@dataclass
class Measured:
    """What a row found.

    Attributes
    ----------
    value : float
        The figure of the row: a ratio unless its unit says otherwise.
    baseline, ours : float or None
        Medians of both sides, in `sides_in`.
    agree : bool
        Whether both sides gave the same results.
    agreement : str
        How far apart they were, and what was allowed.
    repeats : int
    sides_in : str
        Unit of `baseline` and `ours`.
    note : str
        What a reader must know.
    details : dict
        Everything else, for the growth plot and for the curious.
    """

    value: float
    baseline: float | None
    ours: float | None
    agree: bool
    agreement: str
    repeats: int
    sides_in: str = "seconds"
    note: str = ""
    details: dict = field(default_factory=dict)


class Skip(Exception):
    """A row that cannot be measured here; the message says why."""


def version_of(module: str, rooms) -> str:
    """A digest of the code that decides what a row measures.

    Parameters
    ----------
    module : str
        The row's own module in `utils.bench`.
    rooms : sequence of str
        Folders and modules of `utils` that it times.
    """
    paths = [ROOT / "utils" / "bench" / f"{name}.py" for name in (module, "timing", "material")]
    for room in rooms:
        folder = ROOT / "utils" / room
        paths += sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def is_met(value, goal, lower_is_better) -> bool | None:
    """Whether a value reaches its goal; None without one."""
    if goal is None or value is None:
        return None
    return bool(value <= goal if lower_is_better else value >= goal)


def entry(row, measured: Measured, bench, machine: str, seconds: float) -> dict:
    """The row of the file: what was asked, what was found, on what."""
    content = asdict(measured)
    content["value"] = float(f"{measured.value:.4g}")
    return {
        "row": row.name,
        "title": row.title,
        "unit": row.unit,
        "goal": row.goal,
        "lower_is_better": row.lower_is_better,
        "met": is_met(measured.value, row.goal, row.lower_is_better),
        "baseline_is": row.baseline,
        "ours_is": row.ours,
        **content,
        "material": ", ".join(bench.used) or "real faces and weights",
        "quick": bench.quick,
        "skipped": None,
        "machine": machine,
        "version": row.version,
        "took_seconds": round(seconds, 1),
    }


def skipped(row, reason: str, bench, machine: str) -> dict:
    """The row of the file for something that cannot be measured here."""
    nothing = Measured(0.0, None, None, False, "", 0)
    made = entry(row, nothing, bench, machine, 0.0)
    return made | {"value": None, "met": None, "agree": None, "material": "", "skipped": reason}


def load(folder: Path) -> dict:
    """Content of the file, without rows if there is none."""
    path = Path(folder) / NAME
    return read_json(path) if path.is_file() else {"machine": {}, "rows": []}


def is_finished(content: dict, row, machine: str, quick: bool) -> bool:
    """Whether a row was measured by this code, on this machine, at this size."""
    wanted = {"row": row.name, "version": row.version, "machine": machine, "quick": quick}
    for old in content["rows"]:
        if old["skipped"] is None and all(old.get(key) == wanted[key] for key in wanted):
            return True
    return False


def merge(content: dict, new: dict, order) -> dict:
    """Put a row in its place; a skipped one never replaces one that was measured.

    Parameters
    ----------
    content : dict
    new : dict
    order : sequence of str
        Names of all rows, in the order of the table.
    """
    old = {row["row"]: row for row in content["rows"]}
    there = old.get(new["row"])
    keep = there and new["skipped"] and not there["skipped"] and there["quick"] == new["quick"]
    if not keep:
        old[new["row"]] = new
    place = {name: k for k, name in enumerate(order)}
    rows = sorted(old.values(), key=lambda row: place.get(row["row"], len(place)))
    return content | {"rows": rows}


def store(content: dict, folder: Path) -> None:
    """Write the JSON and its rows as a table."""
    folder = Path(folder)
    write_json(folder / NAME, content)
    table = pd.DataFrame(content["rows"]).reindex(columns=COLUMNS)
    with write_aside(folder / "benchmarks.csv") as aside:
        table.to_csv(aside, index=False, float_format="%.4g", lineterminator="\n")
