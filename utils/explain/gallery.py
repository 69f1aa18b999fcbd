"""Figures of explanations: faces by network, mean maps, curves, regions.

Figures with faces of real people are for executed copies only, never for git; mean faces, mean
maps and synthetic faces may be shown anywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np

from utils.explain.maps import overlay, resize_maps
from utils.explain.names import CONTROLS, METHOD_LABELS
from utils.explain.regions import REGIONS, region_masks
from utils.plots import theme


@dataclass
class Panel:
    """One column of a gallery.

    Attributes
    ----------
    label : str
        Name above the column, such as the backbone's.
    maps : array [n, s, s]
        Maps in 0..1; may be of another size than the pictures.
    texts : sequence of str
        Prediction and probability below each picture.
    right : sequence of bool
        Whether each prediction is right.
    """

    label: str
    maps: np.ndarray
    texts: Sequence[str]
    right: Sequence[bool]


def _show(axis, picture, text="", colour=theme.BLACK):
    axis.imshow(picture)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.set_xlabel(text, fontsize=10, color=colour)


def _fitted(heat, side):
    return heat if heat.shape[0] == side else resize_maps(heat[None], side)[0]


def face_gallery(images, truths, panels, title, dataset, caption="", n=None):
    """Faces by networks: what each network looked at, with truth, prediction, probability.

    Parameters
    ----------
    images : uint8 array [n, s, s, 3]
    truths : sequence of str
        True label of each face.
    panels : sequence of Panel
        One column a network, method or class.
    title, dataset, caption, n
        As for `utils.plots.theme.finish`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    _check_panels(len(images), panels)
    rows, columns = len(images), len(panels) + 1
    figure, axes = theme.canvas(
        rows, columns, height=1.9 * rows + 1, width=max(1.75 * columns, 5), squeeze=False
    )
    for row, image in enumerate(images):
        _show(axes[row, 0], image, f"true: {truths[row]}")
        for axis, panel in zip(axes[row, 1:], panels, strict=True):
            heat = _fitted(panel.maps[row], image.shape[0])
            good = bool(panel.right[row])
            text = panel.texts[row] if good else f"wrong: {panel.texts[row]}"
            _show(axis, overlay(image, heat), text, theme.BLACK if good else theme.RED)
    for axis, label in zip(axes[0], ["face", *(p.label for p in panels)], strict=True):
        axis.set_title(label, fontsize=11)
    return theme.finish(figure, title, dataset, caption, n)


def _check_panels(n, panels):
    if not n or not panels:
        raise ValueError("a gallery needs at least one face and one column")
    for panel in panels:
        if not len(panel.maps) == len(panel.texts) == len(panel.right) == n:
            raise ValueError(
                f"gallery column {panel.label!r} has {len(panel.maps)} maps, "
                f"{len(panel.texts)} texts; expected {n}, one a face"
            )


def mean_map_figure(face, maps, title, dataset, caption="", n=None, columns=4):
    """Mean heat-maps on the mean face.

    Parameters
    ----------
    face : uint8 array [s, s, 3], or dict label -> array
        The mean face, or one for each map.
    maps : dict
        Label -> mean map [s, s] in 0..1.
    """
    if not maps:
        raise ValueError("no mean map to draw; expected at least one")
    columns = min(columns, len(maps))
    rows = -(-len(maps) // columns)
    figure, axes = theme.canvas(
        rows, columns, height=2.1 * rows + 1, width=max(1.9 * columns, 5), squeeze=False
    )
    for axis in axes.ravel()[len(maps) :]:
        axis.set_visible(False)
    for axis, (label, heat) in zip(axes.ravel(), maps.items(), strict=False):
        below = face[label] if isinstance(face, dict) else face
        _show(axis, overlay(below, _fitted(heat, below.shape[0])))
        axis.set_title(label, fontsize=11)
    return theme.finish(figure, title, dataset, caption, n)


def region_figure(
    face,
    dataset,
    title="Regions of the aligned crop",
    caption="Fixed regions on the mean face; each pixel belongs to one",
    n=None,
):
    """The named regions drawn on the mean face."""
    masks = region_masks(face.shape[0])
    picture = face.astype(float)
    figure, axis = theme.canvas(height=4.4, width=4)
    for i, mask in enumerate(masks.values()):
        colour = np.array(mpl.colors.to_rgb(theme.PALETTE[i])) * 255
        picture[mask] = 0.7 * picture[mask] + 0.3 * colour
    _show(axis, picture.round().astype(np.uint8))
    for name, mask in masks.items():
        y, x = np.argwhere(mask).mean(axis=0)
        if name in ("hair", "background", "cheeks"):  # their centres lie in other regions
            x = face.shape[1] * (0.12 if name != "cheeks" else 0.24)
        axis.text(
            x,
            y,
            name,
            ha="center",
            va="center",
            fontsize=8,
            color="white",
            bbox=dict(boxstyle="round,pad=0.15", fc="#00000088", ec="none"),
        )
    return theme.finish(figure, title, dataset, caption, n)


def attention_figure(tables, title, dataset, caption="", n=None):
    """Share of attention per region, one mark a network, with intervals.

    Parameters
    ----------
    tables : dict
        Label -> table of `utils.explain.regions.attention_table`.
    """
    figure, axis = theme.canvas(height=4.6)
    place = np.arange(len(REGIONS))
    first = next(iter(tables.values()))
    axis.bar(place, first["area"] * 100, color=theme.PALE, width=0.85, label="share of the area")
    step = 0.7 / max(len(tables), 1)
    for i, (label, table) in enumerate(tables.items()):
        low, high = table["value"] - table["ci_low"], table["ci_high"] - table["value"]
        axis.errorbar(
            place + (i - (len(tables) - 1) / 2) * step,
            table["value"] * 100,
            yerr=np.array([low, high]) * 100,
            fmt="o",
            ms=5,
            capsize=2,
            color=theme.PALETTE[i % len(theme.PALETTE)],
            label=label,
        )
    axis.set_xticks(place, REGIONS, rotation=30, ha="right")
    axis.set_ylabel("share of attention (%)")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=10)
    return theme.finish(figure, title, dataset, caption, n)


def _method_style(method, i):
    control = method in CONTROLS
    style = "--" if method == "center_gaussian" else ":" if control else "-"
    colour = theme.GREY if control else theme.PALETTE[i % len(theme.PALETTE)]
    return dict(color=colour, linestyle=style, label=METHOD_LABELS.get(method, method))


def curves_figure(curves, title, dataset, caption="", n=None, ylabel="confidence"):
    """Deletion and insertion curves of all methods.

    Parameters
    ----------
    curves : DataFrame
        Second result of `utils.explain.faithfulness.faithfulness`.
    """
    figure, axes = theme.canvas(1, 2, height=4.2, sharey=True)
    names = {"deletion": "pixels removed (%)", "insertion": "pixels shown (%)"}
    for axis, mode in zip(axes, names, strict=True):
        part = curves[curves["mode"] == mode]
        for i, (method, line) in enumerate(part.groupby("method", sort=False)):
            axis.plot(line["share"] * 100, line["value"], **_method_style(method, i))
        better = "lower" if mode == "deletion" else "higher"
        axis.set_title(f"{mode.capitalize()} ({better} is better)", fontsize=12)
        axis.set_xlabel(names[mode])
    axes[0].set_ylabel(ylabel)
    axes[1].legend(fontsize=10)
    return theme.finish(figure, title, dataset, caption, n)


def cascade_figure(tables, title, dataset, caption="", n=None):
    """Similarity to the original maps as layers are randomised from the output down.

    Parameters
    ----------
    tables : dict
        Label -> table of `utils.explain.sanity.cascade`.
    """
    figure, axis = theme.canvas(height=4.2)
    for i, (label, table) in enumerate(tables.items()):
        colour = theme.PALETTE[i % len(theme.PALETTE)]
        share = table["layers"] / max(table["layers"].iloc[-1], 1) * 100
        axis.plot(share, table["value"], "o-", ms=4, color=colour, label=label)
        axis.fill_between(share, table["ci_low"], table["ci_high"], color=colour, alpha=0.15)
    axis.axhline(0, color=theme.GREY, linewidth=0.8)
    axis.set_xlabel("layers randomised, from the output down (%)")
    axis.set_ylabel("rank correlation")
    axis.legend(fontsize=10)
    return theme.finish(figure, title, dataset, caption, n)
