"""What a reader sees: ``README.md`` and two figures, made from ``benchmarks.json`` alone."""

from pathlib import Path

from utils.bench.costs import UTKFACE, UnitCosts, totals
from utils.bench.million import million
from utils.bench.results import is_met
from utils.files import write_aside
from utils.plots import bench as plots

EPOCHS, TASKS = 10, 3
FACES = (1000, 5000, 23_000)
SEEDS = (1, 2, 5, 10)

# Change, row that measures it, gain that arithmetic predicts.
CHANGES = (
    (
        "Features of frozen networks once, for all tasks, epochs and seeds",
        "protocol",
        "30 at most: 3 tasks x 10 epochs of forward passes become one",
    ),
    (
        "Frozen lower layers cached at the freeze boundary",
        "partial",
        "2.7 by multiply-adds (AlexNet 1.2, VGG-19 3.2, MobileNetV2 1.7, ResNet50 2.1), more where "
        "bfloat16 helps",
    ),
    (
        "Mixed bfloat16 where the processor computes it, by backbone",
        "features",
        "2 at most: half the bits",
    ),
    (
        "Faces decoded once into a uint8 memory map",
        "pipeline",
        "4: 1,165 decoded and 4,177 copied images/s were measured on another machine",
    ),
    ("The same, against the older generator", "pipeline_generator", "more than the row above"),
    (
        "Grad-CAM as one compiled graph for many faces",
        "gradcam",
        "no estimate: the time of Python for each face is what goes",
    ),
    (
        "Bootstrap as sums over groups and one matrix product",
        "bootstrap",
        "150: 15 ms of metrics a resample, against 0.2 s for all draws and the product",
    ),
)
# Why a goal may be missed; said only where it is.
MISSED = {
    "pipeline": "Both sides write float32, so memory is the limit: five times a decoder that does "
    "7,000 images/s would be 21 GB/s.",
    "features": "VGG-19 takes most of the time, and bfloat16 without AMX computes at most twice as "
    "fast as float32.",
    "partial": "The trained part costs the same on both sides; by multiply-adds 2.7 times is what "
    "these freeze boundaries allow in one precision.",
    "protocol_full": "The goal is for the four backbones together. AlexNet has the cheapest "
    "backbone and the widest features (9,216), so its heads weigh most. The cost model said "
    "2,375 s for `fit` where 2,455 s were measured, and 227 s for ours (without validation of the "
    "heads) where 322 s were. Why losses differ: at Adam's default rate rounding grows into "
    "another course of the same training; at a small rate the first row's agree to 1e-4.",
}
REMOVED = (
    ("XLA (jit_compile) on a CPU", "12 times slower for MobileNetV2"),
    ("bfloat16 for MobileNetV2 on a CPU", "slower, and features 15 % wrong"),
    ("JAX instead of TensorFlow on a CPU", "2 to 10 times slower"),
    (
        "OpenVINO for features",
        "faster for MobileNetV2 (154 against 50 to 90 images/s), not for ResNet50 (24 against 18 "
        "to 42), 4 times slower for VGG-19 than TensorFlow in bfloat16",
    ),
)


def gain_of(row: dict, value=None) -> float | None:
    """How many times better than the baseline: the value itself, or its inverse share."""
    if row["skipped"] or row["baseline"] in (None, 0) or row["row"].startswith("gpu"):
        return None
    if row["unit"] == "times":
        return row["value"] if value is None else value
    if row["unit"] == "GB":
        return row["baseline"] / (row["value"] if value is None else value)
    return None


def _bars(rows: list[dict]) -> list[dict]:
    bars = []
    for row in rows:
        gain = gain_of(row)
        if gain is not None:
            goal = gain_of(row, row["goal"]) if row["goal"] else None
            bars.append({"title": row["title"], "gain": gain, "goal": goal, "agree": row["agree"]})
    return bars


def unit_costs(rows: list[dict]) -> dict[str, UnitCosts]:
    """Seconds a face of each backbone, from the row ``protocol``."""
    for row in rows:
        if row["row"] == "protocol" and not row["skipped"]:
            keys = UnitCosts.__dataclass_fields__
            found = row["details"]["unit_costs"]
            return {n: UnitCosts(**{k: one[k] for k in keys}) for n, one in found.items()}
    return {}


def growth_panels(costs: dict[str, UnitCosts]) -> list[dict]:
    """Seconds against faces, backbones and seeds."""
    if not costs:
        return []
    share = 1 - UTKFACE["test"] / sum(UTKFACE.values())

    def seconds(faces, backbones, seeds):
        some = dict(list(costs.items())[:backbones])
        n_train = round(share * faces)
        return totals(some, n_train, faces - n_train, EPOCHS, TASKS * seeds)

    every = len(costs)
    axes = {
        "faces (all backbones, one seed)": [(n, (n, every, 1)) for n in FACES],
        "backbones (23k faces, one seed)": [(k, (FACES[-1], k, 1)) for k in range(1, every + 1)],
        "seeds (23k faces, all backbones)": [(k, (FACES[-1], every, k)) for k in SEEDS],
    }
    panels = []
    for label, points in axes.items():
        before, after = zip(*(seconds(*point) for _, point in points), strict=True)
        panels.append(
            {"label": label, "x": [x for x, _ in points], "before": before, "after": after}
        )
    return panels


def _number(value) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _verdict(row: dict) -> str:
    met = is_met(row["value"], row["goal"], row["lower_is_better"])
    return {True: "yes", False: "**no**", None: ""}[met]


def _is_missed(row: dict) -> bool:
    return row["row"] in MISSED and row["met"] is False and not row["quick"]


def _table(rows: list[dict]) -> list[str]:
    lines = [
        "| what | measured | goal | met | results agree | baseline | ours | repeats |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in (row for row in rows if not row["skipped"]):
        sign = "at most" if row["lower_is_better"] else "at least"
        goal = f"{sign} {_number(row['goal'])}" if row["goal"] is not None else ""
        cells = [
            row["title"] + (" (quick: means nothing)" if row["quick"] else ""),
            f"{_number(row['value'])} {row['unit']}",
            goal,
            _verdict(row),
            "yes" if row["agree"] else "**no**",
            f"{row['baseline_is']}: {_number(row['baseline'])}" if row["baseline"] else "",
            f"{row['ours_is']}: {_number(row['ours'])} {row['sides_in']}",
            str(row["repeats"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _notes(rows: list[dict]) -> list[str]:
    lines = ["## Row by row", ""]
    for row in rows:
        if row["skipped"]:
            lines.append(f"- **{row['title']}**: not measured, {row['skipped']}.")
            continue
        why = f" Why the goal is missed: {MISSED[row['row']]}" if _is_missed(row) else ""
        lines.append(
            f"- **{row['title']}** ({row['row']}). {row['note'].rstrip('.')}. Agreement: "
            f"{row['agreement']}. On {row['material']}; {row['machine']}.{why}"
        )
    return lines


def _changes(rows: list[dict]) -> list[str]:
    measured = {row["row"]: row for row in rows if not row["skipped"]}
    lines = [
        "## What was changed, and what it gave",
        "",
        "The predictions come from counts of operations and earlier measurements, not this run.",
        "",
        "| change | predicted, times | measured here, times |",
        "| --- | --- | --- |",
    ]
    for change, name, predicted in CHANGES:
        value = f"{measured[name]['value']:.3g}" if name in measured else "not measured here"
        lines.append(f"| {change} | {predicted} | {value} |")
    lines += [
        "",
        "Tried on a two-core machine with AMX before, and not kept:",
        "",
        "| change | found |",
        "| --- | --- |",
    ]
    return lines + [f"| {change} | {found} |" for change, found in REMOVED]


def _machine(about: dict) -> str:
    if not about:
        return ""
    load, cores = about["load_average"], about["usable_cores"]
    busy = f" (busy: {cores} cores)" if load and load > cores else ""
    able = ", ".join(about.get("instructions", [])) or "no AVX-512"
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"Machine: {about['cpu']}, {cores} cores used, "
        f"{about['memory_gb']:.0f} GB, "
        f"{able}, {', '.join(about['gpus']) or 'no GPU'}; Python {about['python']}, {versions}; "
        f"load average {load} at the start{busy}."
    )


def text(content: dict) -> str:
    """The page as markdown."""
    rows = content["rows"]
    lines = [
        "# How fast, against what a user would write",
        "",
        "Both sides do the same work, in one run, in turns; medians. Made by `./run_all.sh bench` "
        "(`python -m utils.bench --rows bootstrap,gradcam` does a part); the figures are in "
        "`benchmarks.json` and `benchmarks.csv`.",
        "",
        _machine(content["machine"]),
        "",
        *(["![Gains](gains.svg)", ""] if _bars(rows) else []),
        *_table(rows),
        "",
        *_notes(rows),
        "",
        "## How the time grows",
        "",
    ]
    costs = unit_costs(rows)
    if costs:
        lines += ["![Growth](growth.svg)", ""]
    lines += [*million(costs), "", *_changes(rows), ""]
    return "\n".join(lines)


def write(content: dict, folder: Path) -> None:
    """Write the page and its figures."""
    rows, folder = content["rows"], Path(folder)
    stand_in = any("synthetic" in row["material"] or row["quick"] for row in rows)
    dataset = "synthetic" if stand_in else "utkface"
    where = content["machine"].get("cpu", "")
    made = {}
    if _bars(rows):
        made["gains"] = plots.gains(_bars(rows), dataset, where)
    panels = growth_panels(unit_costs(rows))
    if panels:
        made["growth"] = plots.growth(panels, dataset, where)
    for name, figure in made.items():
        with write_aside(folder / f"{name}.svg") as aside:
            figure.savefig(aside, format="svg", metadata={"Date": None})
    with write_aside(folder / "README.md") as aside:
        aside.write_text(text(content), encoding="utf-8")
