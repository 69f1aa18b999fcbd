"""The style that all figures share: safe for colour-blind readers, readable at half width.

Every colour of a mark has a contrast of 3:1 to white. A network has one colour everywhere.
"""

import math
import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
import yaml
from matplotlib.figure import Figure

from utils.files import DataError
from utils.vocabulary import DATASET_LABELS, IN_YEARS

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D97B00", "#008F68", "#C44E9B"
SKY, RED, BLACK, GREY = "#2F8FD0", "#C1121F", "#222222", "#767676"
PALE = "#C9CDD1"  # of areas, never of a mark
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK, GREY)
_LOOK = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
MODEL_COLOURS, PROTOCOL_MARKERS = _LOOK["models"], _LOOK["protocols"]
INTERVALS = "95% interval by bootstrap over groups of near-duplicates"
HEATMAP = "Blues"
WIDTH, SMALL = 8.0, 10.5  # inches of a figure, points of its smallest text


def canvas(rows=1, columns=1, height=4.4, width=WIDTH, **options):
    """A new figure in the shared style and its axes (one, or an array of them)."""
    sns.set_theme(context="notebook", style="ticks", palette=PALETTE, rc=_LOOK["settings"])
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def finish(figure, title, dataset, caption="", n=None, **values):
    """Put the finding (in words and numbers) above a figure and the caption below it.

    `caption` is a text or the name of one in ``theme.yaml``, whose fields `values` fill. It ends
    with the data set and the number of faces `n`, if given. The data set `synthetic` puts that word
    into the title.
    """
    name = DATASET_LABELS.get(dataset, dataset)
    if caption in _LOOK["captions"]:
        caption = _LOOK["captions"][caption].format(intervals=INTERVALS, data=name, **values)
    title = title[:1].upper() + title[1:]
    if dataset == "synthetic" and "synthetic" not in title.lower():
        title = f"{title} (synthetic faces)"
    note = [caption.rstrip(".")] if caption else []
    if n is not None:
        note.append(f"{name[:1].upper()}{name[1:]}, n = {int(n):,} faces")
    text = ". ".join(note) + "." if note else ""
    columns = int(figure.get_figwidth() * 8.0)
    figure.suptitle(wrap(title, columns), fontsize=14, fontweight="bold", x=0.01, ha="left")
    # A legend and a caption would lie on each other: empty lines keep its place.
    text_and_place = wrap(text, int(columns * 1.45)) + "\n" * getattr(figure, "legend_lines", 0)
    figure.supxlabel(text_and_place, fontsize=SMALL, color=GREY, x=0.01, ha="left")
    figure.caption, figure.finding = text, title
    return figure


def legend(figure, held):
    """Put a legend below a figure, from handles by name (those without one are left out)."""
    held = {name: handle for name, handle in held.items() if name}
    if held:
        columns = 2 if max(map(len, held)) > 24 else 4
        style = {"ncols": columns, "fontsize": SMALL, "columnspacing": 1.2}
        figure.legend(held.values(), held.keys(), loc="outside lower left", **style)
        figure.legend_lines = 1 + math.ceil(1.25 * math.ceil(len(held) / columns))
    return figure


def wrap(text, columns):
    """Break a text into lines of at most `columns` letters, not inside fine-tuning or 96 px."""
    joined = text.replace(" px", "\N{NO-BREAK SPACE}px").replace(" %", "\N{NO-BREAK SPACE}%")
    return "\n".join(textwrap.wrap(joined, columns, break_on_hyphens=False))


def colour(model):
    """Colour of a network: fixed for the known ones, the next spare one for others."""
    if model not in MODEL_COLOURS:
        MODEL_COLOURS[model] = _LOOK["spare"][len(MODEL_COLOURS) % len(_LOOK["spare"])]
    return MODEL_COLOURS[model]


def annotated(axes, values, texts, rows, columns, limits):
    """Heat-map of an array [rows, columns] with a text in each cell; NaN is left white.

    `limits` are the values of the palest and the darkest colour.
    """
    style = {"cmap": HEATMAP, "cbar": False, "vmin": limits[0], "vmax": limits[1]}
    style |= {"annot": np.array(texts), "fmt": "", "annot_kws": {"fontsize": 12}}
    sns.heatmap(values, ax=axes, xticklabels=columns, yticklabels=rows, **style)
    axes.tick_params(length=0, labelrotation=0)


def density(axes, x, y, width, least, **options):
    """Faces as a density; the median of y by `width` of x, where that holds `least` faces."""
    style = {"gridsize": 42, "bins": "log", "cmap": HEATMAP, "mincnt": 1, "linewidths": 0.1}
    grid = axes.hexbin(x, y, **style, **options)
    axes.figure.colorbar(grid, ax=axes, label="faces (log)")
    table = pd.DataFrame({"x": x, "y": y})
    middle = table.groupby(table["x"] // width * width + width / 2)["y"].agg(["median", "size"])
    middle = middle[middle["size"] >= least]
    axes.plot(middle.index, middle["median"], "o-", color=RED, lw=2, ms=5, label="median")
    axes.legend(loc="upper left")


def percent(axes, axis="y"):
    """Show a 0..1 axis in percent."""
    chosen = axes.yaxis if axis == "y" else axes.xaxis
    chosen.set_major_formatter(mpl.ticker.PercentFormatter(1.0, decimals=0))


def dot_panels(rows, lines=()):
    """Dots with intervals, a panel for each task and one line of text for each row.

    `rows` has columns panel, row, metric, value, low, high, tint, mark, and where wanted name (for
    the legend) and shift (in lines); `lines` are upright: (panel, value, tint, dash, name). Where
    a line holds several dots they are smaller, from four on with more room.
    """
    if rows.empty:
        raise DataError("no rows to draw; score the runs first")
    rows = pd.DataFrame({"name": "", "shift": 0.0}, rows.index).assign(**rows)
    panels, names = list(dict.fromkeys(rows["panel"])), list(dict.fromkeys(rows["row"]))
    labels = [wrap(name, 30) for name in names]
    crowd = rows.groupby(["panel", "row"]).size().max()
    room, size = 0.4 if crowd > 3 else 0.14, 7 if crowd == 1 else 4.5
    height = 3.4 + sum(room + 0.19 * (1 + label.count("\n")) for label in labels)
    figure, grid = canvas(1, len(panels), height, sharey=True, squeeze=False)
    held = {}
    for axes, panel in zip(grid[0], panels, strict=True):
        here = rows[rows["panel"] == panel]
        for (tint, mark, name), dots in here.groupby(["tint", "mark", "name"], sort=False):
            place = dots["row"].map(names.index) + dots["shift"]
            ends = np.abs([dots["value"] - dots["low"], dots["high"] - dots["value"]])
            style = {"xerr": np.nan_to_num(ends), "fmt": mark, "ms": size, "capsize": 3}
            held[name] = axes.errorbar(dots["value"], place, color=tint, **style)
        for _, value, tint, dash, name in (line for line in lines if line[0] == panel):
            held[name] = axes.axvline(value, color=tint, ls=dash, lw=2, zorder=0)
        metric = here["metric"].iloc[0]
        unit = "years" if metric in IN_YEARS else "share"
        unit = metric if metric in ("points", "difference", "correlation") else unit
        axes.set(title=wrap(panel, 14), xlabel=unit)
        if unit == "share":
            percent(axes, "x")
        axes.grid(axis="y", visible=False)
        axes.locator_params(axis="x", nbins=3)
        axes.tick_params(labelsize=SMALL)
    grid[0, 0].set_yticks(range(len(names)), labels)
    grid[0, 0].set_ylim(len(names) - 0.4, -0.6)
    return legend(figure, held)
