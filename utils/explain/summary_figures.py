"""Figures of the page on explanations, from ``explanations.csv`` and stored evidence alone."""

import numpy as np
import pandas as pd

from utils.evaluation.columns import TASK_LABELS, TASKS
from utils.evaluation.tables import MODELS
from utils.explain.judge import FAILS_ABOVE
from utils.explain.maps import overlay, resize_maps
from utils.explain.names import METHOD_LABELS, METHODS
from utils.explain.regions import REGIONS, focus, region_areas
from utils.plots import theme

CONTROL = "center_gaussian"


def tasks_of(values) -> list[str]:
    """Tasks among the values, in the study's order."""
    held = set(values)
    return [task for task in TASKS if task in held]


def attention_of(table) -> pd.DataFrame:
    """Rows of Grad-CAM's attention with columns region, area and ratio (share over area)."""
    rows = table[table["statistic"].str.startswith("attention_") & (table["method"] == "gradcam")]
    rows = rows.assign(region=rows["statistic"].str.removeprefix("attention_"))
    rows["area"] = rows["region"].map(region_areas())
    return rows.assign(ratio=rows["value"] / rows["area"])


def _mark(run) -> str:
    """Mark of a run by what was trained, as in the report's other figures."""
    parts = run.split("-")
    return theme.PROTOCOL_MARKERS.get(parts[2] if len(parts) > 2 else "", "o")


def _range(sizes) -> str:
    low, high = int(sizes.min()), int(sizes.max())
    return f"{low}" if low == high else f"{low} to {high}"


def attention_figure(table, dataset, names):
    """Attention by region for all networks, a panel a task; bars: the region's area."""
    rows = attention_of(table)
    tasks, runs = tasks_of(rows["task"]), list(dict.fromkeys(rows["run"]))
    columns = min(len(tasks), 2)
    lines = -(-len(tasks) // columns)
    figure, axes = theme.canvas(
        lines, columns, height=2.9 * lines + 1.4, width=10, squeeze=False, sharex=True, sharey=True
    )
    for axis in axes.ravel()[len(tasks) :]:
        axis.set_visible(False)
    step = 0.7 / len(runs)
    for axis, task in zip(axes.ravel(), tasks, strict=False):
        areas = [region_areas()[name] * 100 for name in REGIONS]
        axis.bar(range(len(REGIONS)), areas, color=theme.PALE, width=0.85, label="share of area")
        for i, run in enumerate(runs):
            own = rows[(rows["run"] == run) & (rows["task"] == task)].set_index("region")
            own = own.reindex(REGIONS)
            place = np.arange(len(REGIONS)) + (i - (len(runs) - 1) / 2) * step
            ends = np.array([own["value"] - own["ci_low"], own["ci_high"] - own["value"]]) * 100
            tint = theme.colour(own["model"].dropna().iloc[0], i) if len(own.dropna()) else "k"
            axis.errorbar(
                place,
                own["value"] * 100,
                ends,
                fmt=_mark(run),
                ms=5,
                capsize=2,
                color=tint,
                label=names[run],
            )
        axis.set_title(TASK_LABELS[task], fontsize=12)
        axis.set_xticks(range(len(REGIONS)), REGIONS, rotation=40, ha="right")
    for axis in axes[:, 0]:
        axis.set_ylabel("attention (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    axes[0, -1].legend(handles, labels, loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=10)
    top = rows.groupby("region")["ratio"].mean()
    first, second = top.nlargest(2).index
    title = (
        f"For their area most of Grad-CAM lies on {first} ({top[first]:.1f} times an even spread, "
        f"mean over networks and tasks) and {second} ({top[second]:.1f})"
    )
    caption = (
        "Share of Grad-CAM's attention by region, 95 % intervals; bars: attention spread evenly"
    )
    return theme.finish(figure, title, dataset, caption, int(rows["n"].max()))


def mean_maps_figure(evidence, face, names):
    """Mean Grad-CAM on the mean face: networks by tasks."""
    tasks = tasks_of(one.task for one in evidence)
    runs = list(dict.fromkeys(one.run for one in evidence))
    at = {(one.run, one.task): one for one in evidence}
    figure, axes = theme.canvas(
        len(runs),
        len(tasks),
        height=1.9 * len(runs) + 1.2,
        width=max(1.9 * len(tasks), 5),
        squeeze=False,
    )
    for line, run in zip(axes, runs, strict=True):
        for axis, task in zip(line, tasks, strict=True):
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            for side in axis.spines.values():
                side.set_visible(False)
            if (run, task) in at:
                heat = at[run, task].maps["all"].astype(np.float64)[None]
                heat = np.clip(resize_maps(heat, face.shape[0])[0], 0, 1)
                axis.imshow(overlay(face, heat))
        line[0].set_ylabel(names[run], fontsize=12)
    for axis, task in zip(axes[0], tasks, strict=True):
        axis.set_title(TASK_LABELS[task], fontsize=12)
    n = max(one.about["counts"]["all"] for one in evidence)
    places = pd.Series([focus(one.about["attention"]["all"])[0] for one in evidence])
    top = places.value_counts()
    parts = [f"{region} in {count}" for region, count in top.items()]
    title = f"Most of Grad-CAM for its area: {', '.join(parts)} of {len(places)} mean maps"
    caption = "Mean Grad-CAM on the mean face; bright: more attention"
    return theme.finish(figure, title, evidence[0].dataset, caption, n)


def methods_figure(table, gains, dataset, names):
    """Gain over the centred Gaussian and similarity under randomisation, one mark a case."""
    methods = [m for m in METHODS if m in set(gains["method"])]
    figure, axes = theme.canvas(1, 3, height=0.55 * len(methods) + 2.6, width=10, sharey=True)
    models = dict(zip(table["run"], table["model"], strict=True))
    last = table[table["statistic"] == "randomization_similarity"]
    panels = (
        (gains[gains["statistic"] == "deletion_auc"], "deletion: gain over Gaussian", 0.0),
        (gains[gains["statistic"] == "insertion_auc"], "insertion: gain over Gaussian", 0.0),
        (last, "similarity after randomisation", FAILS_ABOVE),
    )
    for axis, (rows, label, line) in zip(axes, panels, strict=True):
        axis.axvline(line, color=theme.RED if line else theme.BLACK, lw=1.2, ls="--")
        for y, method in enumerate(methods):
            own = rows[rows["method"] == method].reset_index(drop=True)
            for i, row in own.iterrows():
                place = y + (i - (len(own) - 1) / 2) * 0.7 / max(len(own), 2)
                tint = theme.colour(models[row["run"]], list(models).index(row["run"]))
                axis.plot([row["ci_low"], row["ci_high"]], [place, place], color=tint, lw=1.5)
                axis.plot(row["value"], place, _mark(row["run"]), ms=4, color=tint)
        axis.set_xlabel(label, fontsize=11)
        axis.tick_params(labelsize=10)
    axes[0].set_yticks(range(len(methods)), [METHOD_LABELS[m] for m in methods], fontsize=11)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    for i, run in enumerate(models):
        axes[2].plot([], [], _mark(run), color=theme.colour(models[run], i), label=names[run])
    axes[2].legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=10)
    both = gains[gains["statistic"].isin(["deletion_auc", "insertion_auc"])]
    both = both[both["method"].isin(methods)]
    won = both.groupby(["method", "run", "task"])["beats"].all()
    title = f"Both curves beat the centred Gaussian in {int(won.sum())} of {len(won)} cases"
    caption = (
        "One mark a network and task, 95 % intervals, paired by face; right of the dashed line is "
        "better than the Gaussian (left, middle) or fails (right); "
        f"{_range(gains['n'])} faces a mark, right {_range(last['n'])}"
    )
    return theme.finish(figure, title, dataset, caption, int(gains["n"].max()))


def true_evidence_figure(table):
    """Attention inside the true evidence of drawn faces: methods and controls, by task."""
    rows = table[table["statistic"] == "energy_inside"]
    tasks = tasks_of(rows["task"])
    figure, axes = theme.canvas(
        1, len(tasks), height=3.4, width=2.4 * len(tasks) + 2.5, sharey=True, squeeze=False
    )
    methods = [m for m in METHOD_LABELS if m in set(rows["method"])]
    runs = list(dict.fromkeys(rows["run"]))
    for axis, task in zip(axes[0], tasks, strict=True):
        for y, method in enumerate(methods):
            own = rows[(rows["task"] == task) & (rows["method"] == method)].reset_index(drop=True)
            for i, row in own.iterrows():
                place = y + (i - (len(own) - 1) / 2) * 0.7 / max(len(own), 2)
                grey = method not in METHODS
                tint = theme.GREY if grey else theme.colour(row["model"], runs.index(row["run"]))
                axis.plot([row["ci_low"], row["ci_high"]], [place, place], color=tint, lw=1.5)
                axis.plot(row["value"], place, _mark(row["run"]), ms=4, color=tint)
        axis.set_title(TASK_LABELS[task], fontsize=12)
        axis.set_xlim(left=0)
        theme.percent(axis, "x")
        axis.tick_params(labelsize=10)
    axes[0, 0].set_yticks(range(len(methods)), [METHOD_LABELS[m] for m in methods], fontsize=11)
    axes[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    models = dict(zip(rows["run"], rows["model"], strict=True))
    for i, (run, model) in enumerate(models.items()):
        name = MODELS.get(model, model)
        axes[0, -1].plot([], [], _mark(run), color=theme.colour(model, i), label=name)
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=10)
    mean = rows.groupby("method")["value"].mean()
    own = mean.reindex([m for m in METHODS if m in mean])
    title = (
        f"Drawn faces: {METHOD_LABELS[own.idxmax()]} puts {own.max():.0%} of its attention on the "
        f"true evidence, the centred Gaussian {mean.get(CONTROL, np.nan):.0%}"
    )
    caption = "Share of attention inside the drawn evidence, 95 % intervals; grey: controls"
    return theme.finish(figure, title, "synthetic", caption, int(rows["n"].max()))
