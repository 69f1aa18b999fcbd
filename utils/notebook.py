"""What the notebooks share: to show a figure or a table, and what a run's predictions say."""

import base64
import io

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from utils.datasets.table import FaceSet
from utils.evaluation.bootstrap import intervals
from utils.evaluation.columns import known, part, predicted, probabilities, truth
from utils.evaluation.metrics import baseline
from utils.evaluation.tables import COSTS, TIMES, readable
from utils.files import DataError
from utils.vocabulary import CLASSES, HEADLINE, in_words, written

_TABLES = (
    *("display.max_colwidth", None, "display.max_columns", None, "display.max_rows", None),
    *("display.float_format", lambda x: f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"),
)


def show(thing, caption: str = "", alt: str = "", csv: str = "") -> None:
    """Display a figure, a table or anything that a notebook can show, with a caption.

    Finding and caption (of a figure of `utils.plots`) travel in the output's metadata to the page,
    and stand beside it for readers of the notebook. `alt` is for those who cannot see the picture,
    `csv` the address of a table's numbers.
    """
    drawn, repeated = hasattr(thing, "savefig"), {"repeats_caption": True}
    caption = caption or (getattr(thing, "caption", "") if drawn else "")
    finding = getattr(thing, "finding", "") if drawn else ""
    alt = alt or ". ".join(text for text in (finding, caption) if text)
    about = {"caption": caption, "finding": finding, "alt": alt, "csv": csv}
    if finding:
        display(Markdown(f"**{finding}**"), metadata=repeated)
    with pd.option_context(*_TABLES):
        display(_picture(thing, alt) if drawn else thing, raw=drawn, metadata=about)
    if caption:
        display(Markdown(f"*{caption}*"), metadata=repeated)


def _picture(figure, alt: str) -> dict:
    """A figure without the texts that stand around it on a page, for `display`."""
    if hasattr(figure, "finding"):
        figure.supxlabel("")
        figure.suptitle("")
    # Lines and letters stay sharp and can be searched; a photograph has neither.
    photo = any(np.ndim(one.get_array()) == 3 for axes in figure.axes for one in axes.images)
    file = io.BytesIO()  # no need of a backend, and no second copy from pyplot
    figure.savefig(file, format="png" if photo else "svg", dpi=150)
    held = base64.b64encode(file.getvalue()) if photo else file.getvalue()
    return {"image/png" if photo else "image/svg+xml": held.decode(), "text/plain": alt}


def draw(function, *arguments, **options) -> None:
    """Show a figure; where the data do not allow it, say why in one sentence."""
    try:
        show(function(*arguments, **options))
    except DataError as error:
        display(Markdown(f"Left out: {error}."))


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
    """Two faces from each of some groups of near-duplicates whose labels differ."""
    columns = ["age", "gender", "ethnicity"]
    kinds = table.groupby("group")[columns].nunique().max(axis=1)
    pairs = [table[table["group"] == group] for group in kinds[kinds > 1].index[:most]]
    firsts = [pair.drop_duplicates(columns).head(2) for pair in pairs]
    return pd.concat(firsts) if firsts else table.head(0)


def scores(predictions: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Test metrics of a run: task, metric, value, ci_low, ci_high (95 %), baseline and n.

    The groups of the FaceTable are what the bootstrap draws, its labels make the baseline.
    """
    found, keys = intervals(predictions, table[["image", "group"]]), ["task", "metric"]
    never_looks = baseline(table, ("test",)).set_index(keys)["value"].rename("baseline")
    return found.join(never_looks, on=keys)[[*keys, "value", "ci_low", "ci_high", "baseline", "n"]]


def scores_text(table: pd.DataFrame) -> pd.DataFrame:
    """`scores` as text for a page."""
    run = {"this run [95 % interval]": ["value", "ci_low", "ci_high"], "baseline": ["baseline"]}
    return readable(table, {"task": "task", "metric": "metric", **run, "faces": "n"})


def sentence(table: pd.DataFrame, label: str, dataset: str) -> str:
    """The result of a run in one sentence, from `scores`."""
    rows = [row for row in table.itertuples() if HEADLINE[row.task] == row.metric]
    parts = [
        f"{in_words(row.task, row.value)} (baseline {written(row.baseline, metric=row.metric)})"
        for row in rows
    ]
    note = "; drawn faces, so no result of the study" if dataset == "synthetic" else ""
    return f"**{label}** on {rows[0].n:,} test faces: {', '.join(parts)}{note}."


def baselines(table: pd.DataFrame, split: str = "val") -> dict[str, float]:
    """Headline value of the baseline for each task."""
    rows = baseline(table, (split,))
    rows = rows[rows["metric"] == rows["task"].map(HEADLINE)]
    return dict(zip(rows["task"], rows["value"], strict=True))


def ranked(predictions: pd.DataFrame, task: str, split: str = "test") -> pd.DataFrame:
    """Faces of a split from best to worst judged: image, error and text.

    The error is in years, or one minus the probability of the true class.
    """
    faces = part(predictions, split)
    faces = faces[known(faces, task)].reset_index(drop=True)
    real, said = truth(faces, task), predicted(faces, task)
    if task == "age":
        error = np.abs(said - real)
        text = [f"{a:.0f}, said {b:.0f}" for a, b in zip(real, said, strict=True)]
    else:
        p, names, rows = probabilities(faces, task), CLASSES[task], np.arange(len(faces))
        error = 1 - p[rows, real]
        text = [f"{names[real[k]]}, said\n{names[said[k]]} {p[k, said[k]]:.0%}" for k in rows]
    table = pd.DataFrame({"image": faces["image"], "error": error, "text": text})
    return table.sort_values("error", kind="stable", ignore_index=True)


def cost_table(cost: dict) -> pd.DataFrame:
    """What a run cost, from its ``cost.json``."""
    titles = COSTS | TIMES | {"feature_seconds": ("frozen part (min)", 60)}
    titles |= {"peak_memory_mb": ("peak memory (MB)", 1)}
    held = ((title, cost.get(key), by) for key, (title, by) in titles.items())
    told = [(title, f"{value / by:,.3g}") for title, value, by in held if value]
    told += [(title, cost[key]) for title, key in (("processor", "cpu"), ("device", "device"))]
    return pd.DataFrame(told, columns=["cost", "value"])
