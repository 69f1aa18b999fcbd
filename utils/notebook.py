"""What the notebooks share: small steps between a run or a study and what is shown of it.

>>> described(pd.Series({"age": 34.0, "gender": "female", "ethnicity": None}))
'34, female'
"""

from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown, display

from utils import profiles
from utils.datasets.facetable import DataError, FaceSet
from utils.evaluation.baselines import trivial_baseline
from utils.evaluation.bootstrap import intervals
from utils.evaluation.columns import (
    CLASSES,
    HEADLINE,
    METRIC_LABELS,
    TASK_LABELS,
    known,
    part,
    predicted,
    probabilities,
    truth,
)
from utils.evaluation.tables import missing_runs
from utils.files import read_json
from utils.paths import ROOT
from utils.report.show import show
from utils.report.step import Journal


def draw(function, *arguments, **options) -> None:
    """Show a figure; where the data do not allow it, say why in one sentence."""
    try:
        show(function(*arguments, **options))
    except DataError as error:
        display(Markdown(f"Left out: {error}."))


# ---------------------------------------------------------------- data sets


def described(face: pd.Series) -> str:
    """Labels of a face in one line, missing ones left out."""
    age = "" if pd.isna(face["age"]) else f"{face['age']:.0f}"
    names = [face[name] for name in ("gender", "ethnicity") if face[name] is not None]
    return ", ".join(filter(None, [age, *names]))


def open_faces(faces: FaceSet, rows, size: int) -> np.ndarray:
    """Pictures of some rows, uint8 [rows, size, size, 3], read now and not cached."""
    pictures = (faces.read(faces.table["image"].iloc[row]) for row in rows)
    return np.stack([np.asarray(picture.resize((size, size))) for picture in pictures])


def mean_faces(images: np.ndarray, labels, names, least: int = 30) -> dict[str, np.ndarray]:
    """The average picture of each class with enough faces that nobody can be recognised."""
    labels = np.asarray(labels, dtype=object)
    sizes = {name: int((labels == name).sum()) for name in names}
    return {
        f"{name} (n = {n})": images[labels == name].mean(axis=0).round().astype(np.uint8)
        for name, n in sizes.items()
        if n >= least
    }


def conflicting_pairs(table: pd.DataFrame, most: int = 6) -> pd.DataFrame:
    """Two faces from each of some duplicate groups whose age, gender or ethnicity differ."""
    columns = ["age", "gender", "ethnicity"]
    kinds = table.groupby("group")[columns].nunique().max(axis=1)
    chosen = kinds[kinds > 1].index[:most]
    pairs = [table[table["group"] == group] for group in chosen]
    firsts = [pair.drop_duplicates(columns).head(2) for pair in pairs]
    return pd.concat(firsts) if firsts else table.head(0)


# ---------------------------------------------------------------- one run


def layers_table(network, every: bool = False) -> pd.DataFrame:
    """A network in a few rows: its input, its body and its heads.

    Parameters
    ----------
    network : keras.Model
        Flat.
    every : bool
        One row for each layer with parameters instead.

    Returns
    -------
    DataFrame
        Columns part, layers, output and parameters.
    """
    heads = set(network.output)
    rows = []
    for layer in network.layers:
        kind = "heads" if layer.name in heads else "body" if layer.weights else "other"
        name = f"{layer.name} ({type(layer).__name__})" if every else kind
        rows.append((name, 1, _shape(layer.output.shape), layer.count_params()))
    table = pd.DataFrame(rows, columns=["part", "layers", "output", "parameters"])
    if every:
        table = table[table["parameters"] > 0].drop(columns="layers")
    else:
        table = _by_part(table, network)
    total = {"part": "all", "layers": len(network.layers), "parameters": network.count_params()}
    total = {name: total.get(name, "") for name in table}
    table = pd.concat([table, pd.DataFrame([total])], ignore_index=True)
    return table.assign(parameters=[f"{value:,}" for value in table["parameters"]])


def _by_part(table: pd.DataFrame, network) -> pd.DataFrame:
    heads = table[table["part"] == "heads"]
    body = table[table["part"] != "heads"]
    outputs = {name: tensor.shape[-1] for name, tensor in network.output.items()}
    text = ", ".join(f"{name} {size}" for name, size in outputs.items())
    last = next(layer for layer in network.layers if layer.name == "features")
    rows = [
        ("input", 1, _shape(network.input_shape), 0),
        ("body", len(body) - 1, _shape(last.output.shape), body["parameters"].sum()),
        ("heads", len(heads), text, heads["parameters"].sum()),
    ]
    return pd.DataFrame(rows, columns=table.columns)


def _shape(shape) -> str:
    return " x ".join(str(side) for side in shape[1:])


def scores(predictions: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Test metrics of a run with their 95 % intervals, beside the trivial guess.

    Parameters
    ----------
    predictions : DataFrame
        Of the run.
    table : DataFrame
        FaceTable: its groups are what the bootstrap draws, its labels make the trivial guess.

    Returns
    -------
    DataFrame
        Columns task, metric, value, ci_low, ci_high, trivial and n.
    """
    found = intervals(predictions, table[["image", "group"]])
    keys = ["task", "metric"]
    guess = trivial_baseline(table, ("test",)).set_index(keys)["value"].rename("trivial")
    columns = [*keys, "value", "ci_low", "ci_high", "trivial", "n"]
    return found.join(guess, on=keys)[columns]


def _text(value: float, metric: str) -> str:
    return f"{value:.2f}" if metric == "mae" else f"{100 * value:.1f} %"


def scores_text(table: pd.DataFrame) -> pd.DataFrame:
    """`scores` as text for a page."""
    rows = [
        {
            "task": TASK_LABELS[row.task],
            "metric": METRIC_LABELS[row.metric],
            "this run": _text(row.value, row.metric),
            "95 % interval": _span(row),
            "trivial guess": _text(row.trivial, row.metric),
            "faces": f"{row.n:,}",
        }
        for row in table.itertuples()
    ]
    return pd.DataFrame(rows)


def _span(row) -> str:
    low, high = _text(row.ci_low, row.metric), _text(row.ci_high, row.metric)
    return f"{low.removesuffix(' %')} to {high}".replace(" %", "\u00a0%")


def sentence(table: pd.DataFrame, label: str, dataset: str) -> str:
    """The result of a run in one sentence, from `scores`."""
    rows = [row for row in table.itertuples() if HEADLINE[row.task] == row.metric]
    parts = []
    for row in rows:
        unit = " years mean error" if row.metric == "mae" else ""
        own, guess = _text(row.value, row.metric), _text(row.trivial, row.metric)
        parts.append(f"{TASK_LABELS[row.task]} {own}{unit} (trivial guess {guess})")
    note = "; synthetic faces, so no result of the study" if dataset == "synthetic" else ""
    return f"**{label}** on {rows[0].n:,} test faces: {', '.join(parts)}{note}."


def guesses(table: pd.DataFrame, split: str = "val") -> dict[str, float]:
    """Headline value of the trivial guess for each task."""
    rows = trivial_baseline(table, (split,))
    rows = rows[rows["metric"] == rows["task"].map(HEADLINE)]
    return dict(zip(rows["task"], rows["value"], strict=True))


def ranked(predictions: pd.DataFrame, task: str, split: str = "test") -> pd.DataFrame:
    """Faces of a split from best to worst judged.

    Returns
    -------
    DataFrame
        Columns image, error (years, or one minus the probability of the true class) and text.
    """
    faces = part(predictions, split)
    faces = faces[known(faces, task)].reset_index(drop=True)
    real, said = truth(faces, task), predicted(faces, task)
    if task == "age":
        error = np.abs(said - real)
        text = [f"{a:.0f}, said {b:.0f}" for a, b in zip(real, said, strict=True)]
    else:
        p, names = probabilities(faces, task), CLASSES[task]
        rows = np.arange(len(faces))
        error = 1 - p[rows, real]
        text = [f"{names[real[k]]}, said\n{names[said[k]]} {p[k, said[k]]:.0%}" for k in rows]
    table = pd.DataFrame({"image": faces["image"], "error": error, "text": text})
    return table.sort_values("error", kind="stable", ignore_index=True)


COSTS = {
    "parameters": "parameters",
    "flops": "FLOPs an image",
    "feature_seconds": "seconds, frozen part",
    "train_seconds": "seconds, training",
    "images_per_second": "images a second, prediction",
    "peak_memory_mb": "peak memory (MB)",
    "device": "device",
}


def cost_table(cost: dict) -> pd.DataFrame:
    """What a run cost, from its ``cost.json``."""
    rows = [(title, cost[key]) for key, title in COSTS.items() if cost.get(key)]
    text = [
        (
            title,
            value
            if isinstance(value, str)
            else f"{value:,.4g}"
            if value < 1e4
            else f"{value:,.0f}",
        )
        for title, value in rows
    ]
    return pd.DataFrame(text, columns=["cost", "value"])


# ---------------------------------------------------------------- a study


def find_study(study_dir: str) -> Path:
    """A study folder by its path: as given, or below the project's folder."""
    given = Path(study_dir).expanduser()
    return next((path for path in (given, ROOT / given) if path.is_dir()), given)


def headlines(report, main: str) -> str:
    """The five sentences on the main data set and the first on each other, as a list."""
    if main not in report.findings:
        why = "; ".join(f"{name}: {text}" for name, text in report.left_out) or "it is empty"
        return f"**Nothing to report yet** ({why}). Train with `./run_all.sh`, then run this again."
    sentences = list(report.findings[main])
    sentences += [rows[0] for name, rows in report.findings.items() if name != main]
    return "\n".join(f"{number}. {text}" for number, text in enumerate(sentences, 1))


def comparison_html(table: pd.DataFrame) -> HTML:
    """The comparison (`utils.evaluation.tables.comparison`) as a table that fits a page."""
    text = pd.DataFrame({"model": table["label"]})
    for task in (task for task in TASK_LABELS if table[task].notna().any()):
        name = "age, years" if task == "age" else f"{TASK_LABELS[task]}, %"
        ends = zip(table[task], table[f"{task}_low"], table[f"{task}_high"], strict=True)
        text[name] = [_with_span(*values, task) for values in ends]
    costs = {"parameters": ("M par.", 1e6), "flops": ("GFLOPs", 1e9), "train_seconds": ("min", 60)}
    for column, (name, unit) in costs.items():
        values = table[column].astype(float) / unit
        text[name] = ["-" if pd.isna(value) else f"{value:,.3g}" for value in values]
    if (table["seeds"] > 1).any():
        text["seeds"] = table["seeds"].replace(0, "-")
    return HTML(text.to_html(index=False, escape=False, border=0))


def _with_span(value: float, low: float, high: float, task: str) -> str:
    if pd.isna(value):
        return "-"
    scale, digits = (1, 2) if task == "age" else (100, 1)
    value, low, high = (f"{scale * one:.{digits}f}" for one in (value, low, high))
    return value if low == "nan" else f"{value}<br><small>{low}\u2013{high}</small>"


def show_figures(report, *patterns: str) -> None:
    """Show the figures of a report whose names fit, or say in one sentence why there are none."""
    shown = [name for one in patterns for name in report.figures if fnmatch(name, one)]
    for name in dict.fromkeys(shown):
        show(report.figures[name])
    if not shown:
        why = [text for name, text in report.left_out if any(fnmatch(name, p) for p in patterns)]
        reason = f": {why[0]}" if why else ": the runs of this study do not allow it"
        display(Markdown(f"Left out{reason}."))


def show_table(report, name: str, caption: str, columns=None, **renamed) -> None:
    """Show a table of a report, or say that there is none."""
    table = report.tables.get(name)
    if table is None:
        display(Markdown(f"Left out: {caption[0].lower()}{caption[1:]} (no run allows it)."))
        return
    table = table[[c for c in columns if c in table]] if columns else table
    show(table.rename(columns=renamed).reset_index(drop=True), caption)


def not_run(study, folder: Path, profile: str = "") -> pd.DataFrame:
    """Runs that the profiles of a study plan and the study lacks, with the reason.

    Reasons are taken from ``not_run.json`` in the study folder (part of a run's name -> reason)
    and from the log of failed steps beside it.
    """
    asked = {profile} if profile else {c.get("profile") for c in study.configs.values()}
    known_names = [name for name in profiles.names() if name in asked]
    steps = [step for name in known_names for step in profiles.plan(profiles.load_profile(name))]
    reasons = read_json(folder / "not_run.json") if (folder / "not_run.json").is_file() else {}
    failed = {e["step"]: e["error"] for e in Journal(folder.parent).entries() if not e["ok"]}
    reasons |= {step.run: failed[step.name] for step in steps if step.name in failed and step.run}
    wanted = dict.fromkeys(step.run for step in steps if step.run)
    wanted |= {key: None for key in reasons if key.count("-") >= 3}
    return missing_runs(wanted, study.predictions, reasons)
