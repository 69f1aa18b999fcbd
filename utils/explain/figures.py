"""Figures of explanations, in the look that all figures of the study share.

Figures with faces of real people are for executed copies only, never for git; mean faces, mean
maps and drawn faces may be shown anywhere.
"""

import numpy as np
import pandas as pd

from utils.explain import maps
from utils.explain.checks import CONTROL, FAILS_ABOVE, inside, similarity
from utils.explain.evidence import labels
from utils.plots import theme
from utils.vocabulary import TASK_LABELS, TASKS


def range_of(counts) -> str:
    """Numbers of faces in words, such as ``8 to 24``."""
    low, high = int(min(counts)), int(max(counts))
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def grid(rows, titles, title, dataset, caption="", n=None, names=(), **values):
    """Pictures in rows of None or (picture, heat or None, text, wrong), and columns.

    The map is drawn over the picture, the text below it, in red where `wrong`; `titles` stand
    above the columns, `names` before the rows; the rest is for `utils.plots.theme.finish`.
    """
    told = any(cell is not None and len(cell[2]) > 0 for cell in sum(rows, []))
    height, width = (1.9 if told else 1.7) * len(rows) + 1.2, max(1.8 * len(titles), 5)
    figure, axes = theme.canvas(len(rows), len(titles), height, width, squeeze=False)
    for axis, cell in zip(axes.ravel(), sum(rows, []), strict=True):
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        if cell is not None:
            picture, heat, text, wrong = cell
            tint, text = (theme.RED, f"wrong: {text}") if wrong else (theme.BLACK, text)
            if heat is not None:
                heat = maps.resize_maps(np.asarray(heat, float)[None], len(picture))[0]
            axis.imshow(picture if heat is None else maps.overlay(picture, heat))
            axis.set_xlabel(text, fontsize=10, color=tint)
    for axis, text in zip(axes[0], titles, strict=True):
        axis.set_title(theme.wrap(text, 20), fontsize=11)
    for axis, text in zip(axes[:, 0], names, strict=False):
        axis.set_ylabel(text, fontsize=11)
    return theme.finish(figure, title, dataset, caption, n, **values)


def mean_maps(found, face, verdict="Where Grad-CAM lies on average, network by network"):
    """Mean Grad-CAM on the mean face, networks by tasks, from a list of Evidence."""
    at = {(one.about["run"], one.about["task"]): one for one in found}
    names, tasks = labels(found), [task for task in TASKS if any(t == task for _, t in at)]
    rows = [
        [(face, at[run, t].maps["all"], "", False) if (run, t) in at else None for t in tasks]
        for run in names
    ]
    cells = {names[one.about["run"]]: len(one.about["field_of_view"]) for one in found}
    told = ", ".join(f"{name} {k} x {k}" for name, k in cells.items())
    told = {"n": max(one.about["counts"]["all"] for one in found), "cells": told}
    told |= {"caption": "mean_maps", "names": names.values()}
    return grid(rows, [*map(TASK_LABELS.get, tasks)], verdict, found[0].about["dataset"], **told)


def examples(held, case):
    """Maps of a drawn face by network and method, its true evidence outlined.

    `held` is what `utils.explain.examples.measure_examples` stores, `case` 0 the face that most
    networks read right, 1 the other, 2 the first with new weights.
    """
    face, rows = case % 2, []
    picture, mask = held["pictures"][face], held["masks"][face]
    trained, shown = (
        maps.resize_maps(held["maps"][:, k].reshape(-1, *held["maps"].shape[3:]) / 255, len(mask))
        for k in (face, case)
    )
    shares = inside(shown, np.broadcast_to(mask, shown.shape))["energy_inside"]
    alike, texts = similarity(trained, shown), [f"{share:.0%} inside" for share in shares]
    if case == 2:
        texts = [f"{'stays' if r > FAILS_ABOVE else 'changes'}, r = {r:.2f}" for r in alike]
    for network, (said, right) in enumerate(zip(held["texts"], held["right"], strict=True)):
        some = range(network * len(maps.METHODS), (network + 1) * len(maps.METHODS))
        drawn = [maps.outlined(maps.overlay(picture, shown[k]), mask) for k in some]
        drawn = [(one, None, texts[k], False) for one, k in zip(drawn, some, strict=True)]
        first = (maps.outlined(picture, mask), None, f"said {said[face]}", not right[face])
        rows.append([first, *drawn])
    best = f"{shares.max():.0%} of a map's attention lies inside the true evidence"
    title = f"Read right by {held['right'][:, face].sum()} of {len(rows)} networks: at most {best}"
    if case == 2:
        title = f"{(alike > FAILS_ABOVE).sum()} of {len(alike)} maps survive new, random weights"
    columns = ["the face", *maps.METHODS.values()]
    return grid(rows, columns, title, "synthetic", "examples", names=held["labels"])


def _dots(table, rows, found, lines=()):
    """Marks with intervals of some Evidence, by columns row (one of `rows`), panel and metric.

    Without panels these are shares by task. A mark says what was trained, its colour the network,
    as in the report's other figures; controls are grey; `lines` as in `theme.dot_panels`.
    """
    about, marks = {one.about["run"]: one.about for one in found}, theme.PROTOCOL_MARKERS
    if "panel" not in table:
        table = table.assign(panel=table["task"].map(TASK_LABELS), metric="share")
    order = pd.Series(range(len(rows) + len(TASKS)), [*TASK_LABELS.values(), *rows])
    table = table.sort_values(["panel", "row"], key=lambda column: column.map(order))
    run, grey = table["run"], table["row"].isin(maps.CONTROLS.values())
    beside = run.groupby([table["panel"], table["row"]])
    size = beside.transform("size")
    table = table.assign(
        shift=(beside.cumcount() - (size - 1) / 2) * 0.7 / size.clip(lower=2),
        mark=run.map(lambda name: marks.get(about[name].get("protocol"), "o")),
        tint=run.map(lambda name: theme.colour(about[name]["model"])).mask(grey, theme.GREY),
        name=run.map(labels(found)).mask(grey, ""),
    )
    return theme.dot_panels(table.rename(columns={"ci_low": "low", "ci_high": "high"}), lines)


def methods(last, gains, found):
    """Gain over the centred Gaussian, and similarity under randomisation; see `_dots`."""
    both = gains[gains["statistic"].str.endswith("_auc") & gains["method"].isin(maps.METHODS)]
    panels = "gain by " + both["statistic"].str.removesuffix("_auc")
    third = "similarity, randomised"
    every = [
        both.assign(panel=panels, metric="difference").sort_values("panel", kind="stable"),
        last.assign(panel=third, metric="correlation"),
    ]
    every = pd.concat(every).assign(row=lambda table: table["method"].map(maps.METHODS))
    lines = [(panel, 0, theme.BLACK, "--", "") for panel in panels.unique()]
    lines.append((third, FAILS_ABOVE, theme.RED, "--", ""))
    figure = _dots(every, [*maps.METHODS.values()], found, lines)
    won = both.groupby(["method", "run", "task"])["beats"].all()
    title = f"Both curves beat the centred Gaussian in {int(won.sum())} of {len(won)} cases"
    told = {"faces": range_of(both["n"]), "checked": range_of(last["n"])}
    return theme.finish(figure, title, found[0].about["dataset"], "methods", **told)


def true_evidence(table, found):
    """Attention inside the true evidence of drawn faces: methods and controls; see `_dots`."""
    table = table[table["statistic"] == "energy_inside"]
    rows = table.assign(row=table["method"].map(maps.METHOD_LABELS))
    figure = _dots(rows, [*maps.METHOD_LABELS.values()], found)
    for axis in figure.axes:
        axis.set_xlim(left=0)
    mean = table.groupby("method")["value"].mean()
    own = mean[mean.index.isin(maps.METHODS)]
    title = (
        f"Drawn faces: {maps.METHODS[own.idxmax()]} puts {own.max():.0%} of its attention on the "
        f"true evidence, the centred Gaussian {mean.get(CONTROL, np.nan):.0%}"
    )
    return theme.finish(figure, title, "synthetic", "true_evidence", table["n"].max())
