"""The look that all figures share: safe for colour-blind readers, readable at half width.

Colours are those of Okabe and Ito (2008), https://jfly.uni-koeln.de/color/.
"""

import textwrap

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW, BLACK = "#56B4E9", "#D55E00", "#F0E442", "#222222"
GREY, PALE = "#767676", "#C9CDD1"
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK, GREY)
GENDER_COLOURS = {"male": BLUE, "female": ORANGE}
MODEL_COLOURS = {
    "alexnet": ORANGE,
    "vgg19": SKY,
    "mobilenetv2": GREEN,
    "resnet50": BLUE,
    "convnext_tiny": PINK,
    "efficientnetv2b0": RED,
}
PROTOCOL_MARKERS = {
    "head": "o",
    "partial": "s",
    "finetune": "D",
    "scratch": "^",
    "regress": "v",
}
HEATMAP = "Blues"
WIDTH = 7.0  # inches, with text of 12 to 13 points: half of it is still readable
NAMES = {
    "utkface": "UTKFace",
    "wiki": "WIKI",
    "fairface": "FairFace",
    "synthetic": "synthetic faces",
}


def set_theme():
    """Apply the shared style to all figures drawn from now on."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette=PALETTE,
        rc={
            "font.size": 13,
            "axes.labelsize": 13,
            "axes.titlesize": 13,
            "xtick.labelsize": 12,
            "ytick.labelsize": 12,
            "legend.fontsize": 12,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E6E8EA",
            "svg.hashsalt": "faces",  # the same figure gives the same file
            "figure.dpi": 110,
        },
    )


def canvas(rows=1, columns=1, height=4.4, width=WIDTH, **options):
    """A new figure in the shared style and its axes.

    Returns
    -------
    Figure, Axes or array of Axes
    """
    set_theme()
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def finish(figure, title, dataset, caption="", n=None):
    """Put the finding above a figure and the caption below it.

    Parameters
    ----------
    title : str
        The finding, in words and numbers.
    dataset : str
        Key such as `utkface`; `synthetic` puts that word into the title.
    caption : str
        What is shown.
    n : int, optional
        Faces shown; stands in the caption with the name of the data set.
    """
    if dataset == "synthetic" and "synthetic" not in title.lower():
        title = f"{title} (synthetic faces)"
    note = [caption.rstrip(".")] if caption else []
    if n is not None:
        name = NAMES.get(dataset, dataset)
        note.append(f"{name[:1].upper()}{name[1:]}, n = {n:,} faces")
    text = ". ".join(note) + "." if note else ""
    columns = int(figure.get_figwidth() * 8.0)
    figure.suptitle(wrap(title, columns), fontsize=14, fontweight="bold", x=0.01, ha="left")
    figure.supxlabel(wrap(text, int(columns * 1.45)), fontsize=10.5, color=GREY, x=0.01, ha="left")
    figure.caption = text
    figure.finding = title
    return figure


def wrap(text, columns):
    """Break a text into lines of at most `columns` letters."""
    return "\n".join(textwrap.wrap(text, columns))


def colour(model, position=0):
    """Colour of a model: fixed for the known ones, by position for others."""
    return MODEL_COLOURS.get(model, PALETTE[position % len(PALETTE)])


def ink(shade, cmap=HEATMAP):
    """Black or white, whichever reads better on a heat-map cell of relative value `shade`.

    >>> ink(0.0), ink(1.0)
    ('#222222', 'white')
    """
    red, green, blue, _ = mpl.colormaps[cmap](float(shade))
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def annotated(axes, values, texts, rows, columns, limits=None, cmap=HEATMAP, size=12):
    """Heat-map with a text in each cell.

    Parameters
    ----------
    values : ndarray, shape [rows, columns]
        Colour of the cells; NaN is left white.
    texts : nested sequence of str
    limits : (low, high), optional
    """
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
