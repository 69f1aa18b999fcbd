"""Figures of explanations, in the look that all figures of the study share.

Figures with faces of real people are for executed copies only, never for git; mean faces, mean
maps and drawn faces may be shown anywhere.
"""

import numpy as np
import pandas as pd

from utils.explain import maps
from utils.explain.checks import CONTROL, FAILS_ABOVE
from utils.explain.evidence import labels
from utils.plots import theme
from utils.vocabulary import TASK_LABELS, TASKS


def tasks_of(values) -> list[str]:
    """Tasks among the values, in the study's order."""
    held = set(values)
    return [task for task in TASKS if task in held]


def range_of(counts) -> str:
    """Numbers of faces in words, such as ``8 to 24``."""
    low, high = int(min(counts)), int(max(counts))
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def grid(rows, titles, title, dataset, caption="", n=None, names=()):
    """Pictures in rows of None or (picture, heat or None, text, wrong), and columns.

    The map is drawn over the picture, the text below it, in red where `wrong`; `titles` stand
    above the columns, `names` before the rows; the rest is for `utils.plots.theme.finish`.
    """
    size = {"height": 1.9 * len(rows) + 1.2, "width": max(1.8 * len(titles), 5)}
    figure, axes = theme.canvas(len(rows), len(titles), squeeze=False, **size)
    for axis, cell in zip(axes.ravel(), sum(rows, []), strict=True):
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        if cell is not None:
            picture, heat, text, wrong = cell
            if heat is not None:
                heat = maps.resize_maps(np.asarray(heat, float)[None], len(picture))[0]
                picture = maps.overlay(picture, heat)
            axis.imshow(picture)
            text = f"wrong: {text}" if wrong else text
            axis.set_xlabel(text, fontsize=10, color=theme.RED if wrong else theme.BLACK)
    for axis, text in zip(axes[0], titles, strict=True):
        axis.set_title(theme.wrap(text, 20), fontsize=11)
    for axis, text in zip(axes[:, 0], names, strict=False):
        axis.set_ylabel(text, fontsize=11)
    return theme.finish(figure, title, dataset, caption, n)


def mean_maps(found, face):
    """Mean Grad-CAM on the mean face, networks by tasks, from a list of Evidence."""
    names, tasks = labels(found), tasks_of(one.about["task"] for one in found)
    at = {(one.about["run"], one.about["task"]): one for one in found}
    rows = [
        [(face, at[run, t].maps["all"], "", False) if (run, t) in at else None for t in tasks]
        for run in names
    ]
    cells = {names[one.about["run"]]: len(one.about["field_of_view"]) for one in found}
    told = ", ".join(f"{name} {k} x {k}" for name, k in cells.items())
    title = "Where Grad-CAM lies on average, network by network"
    caption = f"Mean Grad-CAM on the mean face; bright: more attention. Cells of a map: {told}"
    n, titles = max(one.about["counts"]["all"] for one in found), [TASK_LABELS[t] for t in tasks]
    return grid(rows, titles, title, found[0].about["dataset"], caption, n, names.values())


def _dots(panels, rows, found):
    """Marks with intervals of some Evidence, a panel for each (label, table, dashed line or None).

    `rows` are values of the tables' column ``row`` with their names. A mark says what was trained,
    its colour the network, as in the report's other figures.
    """
    every, shapes = [one.about for one in found], theme.PROTOCOL_MARKERS
    marks = {
        a["run"]: (shapes.get(a.get("protocol"), "o"), theme.colour(a["model"])) for a in every
    }
    size = {"height": 0.5 * len(rows) + 2.5, "width": 2.4 * len(panels) + 2.6}
    figure, axes = theme.canvas(1, len(panels), sharey=True, squeeze=False, **size)
    order = {row: y for y, row in enumerate(rows)}
    for axis, (label, table, line) in zip(axes[0], panels, strict=True):
        if line is not None:
            axis.axvline(line, color=theme.RED if line else theme.BLACK, lw=1.2, ls="--")
        for row, own in table.groupby("row"):
            for i, case in enumerate(own.to_dict("records")):
                y = order[row] + (i - (len(own) - 1) / 2) * 0.7 / max(len(own), 2)
                mark, tint = marks[case["run"]]
                tint = theme.GREY if row in maps.CONTROLS else tint
                axis.plot([case["ci_low"], case["ci_high"]], [y, y], color=tint, lw=1.5)
                axis.plot(case["value"], y, mark, ms=4, color=tint)
        axis.set_xlabel(label, fontsize=11)
        axis.tick_params(labelsize=10)
    axes[0, 0].set_yticks(range(len(rows)), rows.values(), fontsize=11)
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    for run, name in labels(found).items():
        axes[0, -1].plot([], [], marks[run][0], color=marks[run][1], label=name)
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=10)
    return figure, axes[0]


def _shares(table, rows, found):
    """`_dots` of shares, a panel a task."""
    panels = [(TASK_LABELS[t], table[table["task"] == t], None) for t in tasks_of(table["task"])]
    figure, axes = _dots(panels, rows, found)
    for axis in axes:
        theme.percent(axis, "x")
    return figure, axes


def attention(table, found):
    """Attention by region, a panel a task, from rows of ``explanations.csv``; see `_dots`."""
    table = table.assign(row=table["statistic"].str.removeprefix("attention_"))
    areas = pd.Series({name: mask.mean() for name, mask in maps.region_masks(200).items()})
    figure, axes = _shares(table, {name: name for name in areas.index}, found)
    for axis in axes:
        axis.barh(range(len(areas)), areas, 0.9, color=theme.PALE, zorder=0)
    first, second = (table.groupby("row")["value"].mean() / areas).nlargest(2).index
    title = f"For their area, {first} and {second} hold most of Grad-CAM's attention"
    caption = (
        "Share of Grad-CAM's attention by region, 95 % intervals; bars: attention spread evenly. "
        f"Networks whose maps have at least {maps.LEAST_CELLS} cells a side"
    )
    return theme.finish(figure, title, found[0].about["dataset"], caption, int(table["n"].max()))


def methods(last, gains, found):
    """Gain over the centred Gaussian, and similarity under randomisation; see `_dots`."""
    both = gains[gains["statistic"].str.endswith("_auc") & gains["method"].isin(maps.METHODS)]
    both = both.assign(row=both["method"])
    panels = [
        (f"gain by {mode}", both[both["statistic"] == f"{mode}_auc"], 0.0)
        for mode in ("deletion", "insertion")
    ]
    panels.append(("similarity, randomised", last.assign(row=last["method"]), FAILS_ABOVE))
    rows = {m: name for m, name in maps.METHODS.items() if m in set(both["row"])}
    figure, _ = _dots(panels, rows, found)
    won = both.groupby(["method", "run", "task"])["beats"].all()
    title = f"Both curves beat the centred Gaussian in {int(won.sum())} of {len(won)} cases"
    caption = (
        "One mark a network and task, 95 % intervals. Left, middle: gain over the centred Gaussian "
        "paired by face, better right of the line; right panel: fails right of the line; "
        f"{range_of(gains['n'])} faces a mark, right {range_of(last['n'])}"
    )
    return theme.finish(figure, title, found[0].about["dataset"], caption, int(gains["n"].max()))


def true_evidence(table, found):
    """Attention inside the true evidence of drawn faces: methods and controls; see `_dots`."""
    table = table[table["statistic"] == "energy_inside"].assign(row=table["method"])
    rows = {m: name for m, name in maps.METHOD_LABELS.items() if m in set(table["row"])}
    figure, axes = _shares(table, rows, found)
    for axis in axes:
        axis.set_xlim(left=0)
    mean = table.groupby("method")["value"].mean()
    own = mean[mean.index.isin(maps.METHODS)]
    title = (
        f"Drawn faces: {maps.METHODS[own.idxmax()]} puts {own.max():.0%} of its attention on the "
        f"true evidence, the centred Gaussian {mean.get(CONTROL, np.nan):.0%}"
    )
    caption = "Share of attention inside the drawn evidence, 95 % intervals; grey: controls"
    return theme.finish(figure, title, "synthetic", caption, int(table["n"].max()))
