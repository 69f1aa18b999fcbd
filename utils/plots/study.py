"""How sure, for whom, how honest, at what cost: figures over all runs of a study."""

import numpy as np
import pandas as pd

from utils.datasets.facetable import AGE_BINS, DataError
from utils.evaluation.calibration import apply_temperature, ece, reliability
from utils.evaluation.columns import (
    HEADLINE,
    LOWER_IS_BETTER,
    METRIC_LABELS,
    TASK_LABELS,
    known,
    part,
    probabilities,
    truth,
)
from utils.plots import theme


def _some(table, what):
    if not len(table):
        raise DataError(f"{what}: no rows to draw; score the runs first")
    return table


def shown(value, metric):
    """A value with its unit, as titles write it.

    >>> shown(4.5, "mae"), shown(0.93, "accuracy")
    ('4.50 years', '93.0%')
    """
    return f"{value:.2f} years" if metric in ("mae", "bias") else f"{value:.1%}"


def _axis(task, metric):
    return f"{TASK_LABELS[task]}: {METRIC_LABELS.get(metric, metric)}"


def who_beats_whom(matrix, task, dataset, n, labels=None):
    """Which models are better beyond chance, best first.

    Parameters
    ----------
    matrix : DataFrame
        From `utils.evaluation.pairwise.beats`.
    """
    _some(matrix, "who beats whom")
    size = len(matrix)
    names = [(labels or {}).get(run, run) for run in matrix.index]
    side = 2.6 + 0.42 * size
    figure, axes = theme.canvas(height=side, width=max(theme.WIDTH, side + 2.2))
    values = matrix.to_numpy(float)
    words = {1: "+", -1: "\u2212", 0: "="}
    texts = [["" if i == j else words[int(values[i, j])] for j in range(size)] for i in range(size)]
    numbers = [str(i + 1) for i in range(size)]
    rows = [f"{i + 1}  {name}" for i, name in enumerate(names)]
    # Blue to orange: told apart by all readers, and the signs say the same.
    theme.annotated(
        axes, np.where(np.eye(size) > 0, np.nan, values), texts, rows, numbers, (-1.8, 1.8), "PuOr"
    )
    axes.set(xlabel="against model number")
    pairs = size * (size - 1) // 2
    decided = int((values > 0).sum())
    title = f"{TASK_LABELS[task].capitalize()}: {decided} of {pairs} pairs of models differ "
    title += "beyond chance"
    if size > 1 and not values[0, 1]:
        title += "; the first two do not"
    # Not "+ better" first: Markdown would make a list of it.
    caption = "Better +, worse \u2212, undecided =: paired bootstrap over duplicate groups, Holm, "
    caption += f"5% level, {METRIC_LABELS[HEADLINE[task]]}"
    return theme.finish(figure, title, dataset, caption, n)


def front(cost, value, lower):
    """Mask of the models that no other beats on both cost and value.

    >>> front([1, 2, 3], [0.8, 0.7, 0.9], lower=False).tolist()
    [True, False, True]
    """
    cost, value = np.asarray(cost, float), np.asarray(value, float)
    score = -value if lower else value
    as_good = (cost[None] <= cost[:, None]) & (score[None] >= score[:, None])
    better = (cost[None] < cost[:, None]) | (score[None] > score[:, None])
    return ~(as_good & better).any(axis=1)


def pareto(table, task, dataset, cost="flops", n=None, baseline=None, level=()):
    """Quality against cost; models on the front are joined by a line.

    Parameters
    ----------
    table : DataFrame
        From `utils.evaluation.tables.comparison`.
    cost : {"flops", "parameters", "train_seconds"}
    level : list of str
        Runs that the test faces do not tell apart from the best one.
    """
    names = {
        "flops": "FLOPs an image (G)",
        "parameters": "parameters (M)",
        "train_seconds": "training (minutes)",
    }
    scale = {"flops": 1e9, "parameters": 1e6, "train_seconds": 60}
    if cost not in names:
        raise ValueError(f"cost {cost!r} is unknown; expected one of {', '.join(names)}")
    rows = _some(table[table[task].notna() & table[cost].notna()], "pareto plot")
    metric = HEADLINE[task]
    rows = rows.assign(x=rows[cost].astype(float) / scale[cost]).sort_values("x")
    best = front(rows["x"], rows[task], metric in LOWER_IS_BETTER)
    figure, axes = theme.canvas(height=5)
    axes.plot(rows["x"][best], rows[task][best], "-", color=theme.GREY, lw=1.5, zorder=1)
    for row in rows.to_dict("records"):
        ends = [[row[task] - row[f"{task}_low"]], [row[f"{task}_high"] - row[task]]]
        axes.errorbar(
            row["x"],
            row[task],
            np.abs(np.nan_to_num(ends)),
            ms=10,
            color=theme.colour(row["model"]),
            capsize=3,
            marker=theme.PROTOCOL_MARKERS.get(row["protocol"], "P"),
        )
    _key(axes, rows)
    axes.set_xscale("log")
    axes.set(xlabel=names[cost], ylabel=_axis(task, metric))
    if baseline is not None and np.isfinite(baseline):
        axes.axhline(baseline, color=theme.RED, ls=":", lw=2)
    top = rows.loc[rows[task].idxmin() if metric in LOWER_IS_BETTER else rows[task].idxmax()]
    equal = rows[rows["run"].isin(level) & (rows["x"] < top["x"])]
    cheap = (equal if len(equal) else rows[best]).iloc[0]
    title = f"{TASK_LABELS[task].capitalize()}: {shown(top[task], metric)} at best ({top['label']})"
    if cheap["label"] != top["label"]:
        title += f"; {cheap['label']} costs {top['x'] / cheap['x']:.1f} times less and reaches "
        title += shown(cheap[task], metric) + ", not told apart" * bool(len(equal))
    caption = "The line joins the models that none beats on both; bars: 95% interval"
    return theme.finish(figure, title, dataset, caption, n)


def _key(axes, rows):
    """Legend: colour tells the model, the mark what is trained."""
    from utils.evaluation.tables import MODELS, PROTOCOLS

    for model in dict.fromkeys(rows["model"]):
        name = MODELS.get(model, model)
        axes.plot([], [], "s", ms=9, color=theme.colour(model), label=name)
    for protocol in dict.fromkeys(rows["protocol"]):
        mark = theme.PROTOCOL_MARKERS.get(protocol, "P")
        name = PROTOCOLS.get(protocol, protocol)
        if name:
            axes.plot([], [], mark, ms=9, color=theme.GREY, mfc="none", label=name)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=11)


def subgroup_bars(table, task, dataset, label="", metric=None):
    """One metric by age bin, gender and ethnicity, with intervals; small groups hollow.

    Parameters
    ----------
    table : DataFrame
        From `utils.evaluation.subgroups.subgroups`.
    metric : str, optional
        The headline metric, or `bias` for age.
    """
    metric = metric or HEADLINE[task]
    rows = table[(table["task"] == task) & (table["metric"] == metric)]
    rows = _some(rows[rows["by"].isin(["age_bin", "gender", "ethnicity"])], "subgroups")
    rows = rows.assign(order=rows["by"].map({"age_bin": 0, "gender": 1, "ethnicity": 2}))
    rows = rows.sort_values("order", kind="stable").reset_index(drop=True)
    figure, axes = theme.canvas(height=2.2 + 0.33 * len(rows))
    place = np.arange(len(rows)) + rows["order"] * 0.6
    tints = (theme.BLUE, theme.ORANGE, theme.GREEN)
    for y, row in zip(place, rows.to_dict("records"), strict=True):
        tint = tints[row["order"]]
        fill = "white" if row["small"] else tint
        ends = np.abs([[row["value"] - row["ci_low"]], [row["ci_high"] - row["value"]]])
        axes.errorbar(
            row["value"],
            y,
            xerr=np.nan_to_num(ends),
            marker="o",
            ms=8,
            color=tint,
            mfc=fill,
            capsize=3,
        )
    names = [f"{r.group} (n = {r.n:,}{', small' if r.small else ''})" for r in rows.itertuples()]
    axes.set_yticks(place, names)
    axes.invert_yaxis()
    axes.set(xlabel="predicted minus true age (years)" if metric == "bias" else _axis(task, metric))
    if metric == "bias":
        axes.axvline(0, color=theme.BLACK, lw=1)
    n = int(rows.loc[rows["by"] == rows["by"].iloc[0], "n"].sum())
    caption = "95% interval by bootstrap over duplicate groups"
    if rows["small"].any():
        caption += "; hollow: fewer than 30 faces, not ranked"
    title = _worst(rows[~rows["small"]], metric, TASK_LABELS[task])
    return theme.finish(figure, f"{label + ': ' if label else ''}{title}", dataset, caption, n)


def _worst(rows, metric, task):
    if len(rows) < 2:
        return f"too few faces to tell for whom {task} is hardest"
    score = rows["value"].abs() if metric == "bias" else rows["value"]
    rising = metric in (*LOWER_IS_BETTER, "bias")
    worst = rows.loc[score.idxmax() if rising else score.idxmin()]
    best = rows.loc[score.idxmin() if rising else score.idxmax()]
    if metric == "bias":
        way = "too old" if worst["value"] > 0 else "too young"
        return f"'{worst['group']}' is judged {abs(worst['value']):.1f} years {way}"
    return (
        f"{task} is hardest for '{worst['group']}' ({shown(worst['value'], metric)}), easiest "
        f"for '{best['group']}' ({shown(best['value'], metric)})"
    )


def subgroup_cells(values, counts, task, dataset, label=""):
    """Heat-map of the headline metric by gender, ethnicity and age bin; small cells in brackets.

    Parameters
    ----------
    values, counts : DataFrame
        From `utils.evaluation.subgroups.by_cell`.
    """
    metric, scale = HEADLINE[task], 1 if task == "age" else 100
    figure, panels = theme.canvas(1, 2, width=9.5, height=4.4, sharey=True)
    big = counts.to_numpy() >= 30
    ranked = np.where(big, values, np.nan)
    limits = (np.nanmin(ranked), np.nanmax(ranked)) if big.any() else (0, 1)
    genders = counts.index.get_level_values(0).unique()
    for gender, axes in zip(genders, panels, strict=True):
        mean, n = values.loc[gender].to_numpy(), counts.loc[gender].to_numpy()
        texts = [
            [
                "-"
                if not n[i, j]
                else (
                    f"{scale * mean[i, j]:.1f}\n"
                    if n[i, j] >= 30
                    else f"({scale * mean[i, j]:.0f})\n"
                )
                + f"n = {n[i, j]:,}"
                for j in range(n.shape[1])
            ]
            for i in range(n.shape[0])
        ]
        tone = np.where(n >= 30, mean, np.nan)
        theme.annotated(axes, tone, texts, counts.loc[gender].index, AGE_BINS, limits, size=10)
        axes.set(title=gender, xlabel="age (years)")
    title = f"{label + ': ' if label else ''}too few faces in every cell"
    if big.any():
        low, high = np.nanargmin(ranked), np.nanargmax(ranked)
        hard, easy = (high, low) if metric in LOWER_IS_BETTER else (low, high)
        names = [
            f"{AGE_BINS[k % 5]}, {', '.join(reversed(counts.index[k // 5]))}" for k in (hard, easy)
        ]
        title = f"{label + ': ' if label else ''}{shown(ranked.flat[hard], metric)} for "
        title += f"{names[0]}, {shown(ranked.flat[easy], metric)} for {names[1]}"
    unit = "mean absolute error in years" if task == "age" else "accuracy in percent"
    caption = f"{TASK_LABELS[task].capitalize()}, {unit}; in brackets and white: fewer than 30 "
    return theme.finish(figure, title, dataset, caption + "faces", int(counts.to_numpy().sum()))


def reliability_diagram(predictions, task, dataset, temperature=None, label="", bins=15):
    """Accuracy against confidence, before and after temperature scaling.

    Parameters
    ----------
    predictions : DataFrame
    temperature : float, optional
        Fitted on validation faces, see `utils.evaluation.calibration`.
    """
    faces = part(predictions, "test")
    use = known(faces, task)
    p, labels = probabilities(faces, task)[use], truth(faces, task)[use]
    curves = {"as predicted": p}
    if temperature is not None and np.isfinite(temperature):
        curves[f"temperature {temperature:.2f}"] = apply_temperature(p, temperature)
    figure, axes = theme.canvas(height=4.8)
    axes.plot([0, 1], [0, 1], "--", color=theme.BLACK, lw=1.3, label="honest")
    errors = []
    for (name, values), tint, mark in zip(
        curves.items(), (theme.ORANGE, theme.BLUE), "os", strict=False
    ):
        table = reliability(values, labels, bins)
        errors.append(ece(values, labels, bins))
        table = table[table["n"] >= 10]  # a bin of a few faces shows chance only
        axes.plot(table["confidence"], table["accuracy"], "-", color=tint, lw=2)
        size = 15 + 220 * table["n"] / table["n"].max()
        axes.scatter(
            table["confidence"],
            table["accuracy"],
            size,
            color=tint,
            marker=mark,
            label=f"{name}: error {errors[-1]:.1%}",
            alpha=0.85,
        )
    low = max(0.0, 1 / p.shape[1] - 0.05)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(low, 1.02), ylim=(low, 1.02))
    axes.legend(loc="lower right")
    theme.percent(axes)
    theme.percent(axes, "x")
    sure = "over" if p.max(axis=1).mean() > (p.argmax(axis=1) == labels).mean() else "under"
    title = f"{label + ': ' if label else ''}{TASK_LABELS[task]} is {sure}confident, "
    title += f"calibration error {errors[0]:.1%}"
    if len(errors) > 1:
        title += f", {errors[1]:.1%} after scaling"
    caption = (
        f"{bins} equal-width bins, test split, bins of 10 faces or more; area: faces in the bin"
    )
    caption += "; temperature fitted on validation" if len(errors) > 1 else ""
    return theme.finish(figure, title, dataset, caption, len(labels))


def coverage(table, dataset, label=""):
    """How often the true age lies inside its 80 % interval, all and by age bin."""
    _some(table, "coverage")
    figure, axes = theme.canvas(height=2.3 + 0.4 * len(table))
    place, value = np.arange(len(table)), table["coverage"]
    ends = np.abs([value - table["ci_low"], table["ci_high"] - value])
    axes.errorbar(
        value, place, xerr=np.nan_to_num(ends), fmt="o", ms=8, capsize=3, color=theme.BLUE
    )
    claimed = float(table["claimed"].iloc[0])
    axes.axvline(claimed, color=theme.RED, ls="--", lw=2, label=f"claimed {claimed:.0%}")
    axes.set_yticks(place, [f"{r.group} (n = {r.n:,})" for r in table.itertuples()])
    axes.invert_yaxis()
    axes.set(xlabel="true ages inside the interval")
    axes.legend(loc="upper left", frameon=True, edgecolor="none")
    theme.percent(axes, "x")
    whole = table[table["group"] == "all"].iloc[0]
    title = f"{label + ': ' if label else ''}{claimed:.0%} age intervals hold "
    title += f"{whole['coverage']:.1%} of the true ages, at a mean width of "
    title += f"{whole['width']:.1f} years"
    caption = "Interval from the 10% to the 90% quantile of the predicted ages, test split"
    return theme.finish(figure, title, dataset, caption, int(whole["n"]))


def ceilings(table, best, dataset):
    """Best model of each task beside what the label noise allows.

    Parameters
    ----------
    table : DataFrame
        From `utils.evaluation.noise.ceilings`.
    best : DataFrame
        Columns task, metric, value, label.
    """
    rows = _some(table.merge(best, on=["task", "metric"]), "ceilings")
    shares = rows[rows["metric"] != "mae"]
    years = rows[rows["metric"] == "mae"]
    panels = [(shares, "share of faces"), (years, "mean absolute error (years)")]
    panels = [(part, text) for part, text in panels if len(part)]
    sizes = [len(part) for part, _ in panels]
    figure, grid = theme.canvas(
        len(panels),
        1,
        height=2.6 + 0.75 * sum(sizes),
        squeeze=False,
        gridspec_kw={"height_ratios": [s + 0.4 for s in sizes]},
    )
    for (part_rows, text), axes in zip(panels, grid[:, 0], strict=True):
        place = np.arange(len(part_rows))
        axes.barh(place, part_rows["value"], 0.55, color=theme.SKY, label="best model")
        ends = np.abs(
            [
                part_rows["ceiling"] - part_rows["ci_low"],
                part_rows["ci_high"] - part_rows["ceiling"],
            ]
        )
        axes.errorbar(
            part_rows["ceiling"],
            place,
            xerr=ends,
            fmt="|",
            ms=26,
            mew=3,
            capsize=3,
            color=theme.RED,
            label="bound by label noise",
        )
        names = [
            f"{TASK_LABELS[r.task]}: {METRIC_LABELS[r.metric].split(' (')[0]}"
            for r in part_rows.itertuples()
        ]
        axes.set_yticks(place, [theme.wrap(name, 20) for name in names])
        axes.invert_yaxis()
        axes.set(xlabel=text)
    grid[0, 0].legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    title = "By the labels of copies, noise bounds "
    parts = [
        f"{TASK_LABELS[r.task]} at {shown(r.ceiling, r.metric)} (best model "
        f"{shown(r.value, r.metric)})"
        for r in rows.itertuples()
        if r.metric in ("mae", "accuracy")
    ]
    title += "; ".join(parts[:2])
    groups = int(rows["groups"].max())
    caption = f"Bounds from labels that disagree inside {groups:,} groups of copies of one "
    caption += "picture; other faces may carry less noise, or more"
    return theme.finish(figure, title, dataset, caption)


def error_by_digit(table, dataset, label=""):
    """Age error by the last digit of the true age, 0 and 5 marked."""
    _some(table, "error by digit")
    figure, axes = theme.canvas()
    tints = [theme.RED if digit % 5 == 0 else theme.SKY for digit in table["digit"]]
    ends = np.abs([table["mae"] - table["ci_low"], table["ci_high"] - table["mae"]])
    axes.bar(table["digit"], table["mae"], color=tints)
    axes.errorbar(
        table["digit"], table["mae"], np.nan_to_num(ends), fmt="none", capsize=3, color=theme.BLACK
    )
    axes.set_xticks(table["digit"], [f"{r.digit}\n{r.share:.0%}" for r in table.itertuples()])
    axes.set(
        xlabel="last digit of the true age, share of the faces",
        ylabel="mean absolute error (years)",
    )
    axes.grid(axis="x", visible=False)
    round_age = table["digit"] % 5 == 0
    sides = (table[round_age], table[~round_age])
    means, equal = (
        [np.average(rows[name], weights=rows["n"]) if len(rows) else np.nan for rows in sides]
        for name in ("mae", "mae_equal_ages")
    )
    title = f"{label + ': ' if label else ''}ages ending in 0 or 5 are missed by {means[0]:.2f} "
    title += f"years, others by {means[1]:.2f}; at equal ages by {equal[0]:.2f} and {equal[1]:.2f}"
    caption = "95% interval by bootstrap over duplicate groups, test split; equal ages: decades "
    caption += "weighed alike, as round ages are older"
    return theme.finish(figure, title, dataset, caption, int(table["n"].sum()))


def leakage(table, dataset, columns=("naive", "group"), label="", n=None):
    """Difference that near-copies in training make, per task, with its interval.

    Parameters
    ----------
    table : DataFrame
        From `utils.evaluation.leakage`: task, metric, difference, ci_low, ci_high and the two
        columns named.
    """
    rows = _some(table[table["difference"].notna()], "leakage").reset_index(drop=True)
    # A positive gain always means that the leaking side looks better.
    sign = np.where(rows["metric"].isin(LOWER_IS_BETTER), -1.0, 100.0)
    gain = rows["difference"] * sign
    low = np.minimum(rows["ci_low"] * sign, rows["ci_high"] * sign)
    high = np.maximum(rows["ci_low"] * sign, rows["ci_high"] * sign)
    figure, axes = theme.canvas(height=2.2 + 0.5 * len(rows))
    place = np.arange(len(rows))
    axes.errorbar(
        gain, place, xerr=[gain - low, high - gain], fmt="o", ms=9, capsize=4, color=theme.BLUE
    )
    axes.axvline(0, color=theme.BLACK, lw=1)
    unit = {"mae": "years"}
    axes.set_yticks(
        place,
        [f"{TASK_LABELS[r.task]} ({unit.get(r.metric, 'points')})" for r in rows.itertuples()],
    )
    axes.set(
        xlabel=f"gain of '{columns[0].replace('_', ' ')}' over '{columns[1]}'",
        ylim=(len(rows) - 0.5, -0.5),
    )
    clear = int(((low > 0) | (high < 0)).sum())
    what = "leaking copies change" if columns[0] == "naive" else "faces with a copy differ in"
    title = f"{label + ': ' if label else ''}{what} {clear} of {len(rows)} tasks "
    top = int(np.abs(gain / np.where(sign < 0, 1, 10)).argmax())
    title += f"beyond chance; {TASK_LABELS[rows['task'][top]]} by {gain[top]:+.2f} "
    title += unit.get(rows["metric"][top], "points")
    caption = "95% interval by bootstrap over duplicate groups, not corrected for the number of "
    caption += "tasks; above 0 the leaking side looks better"
    if columns[0] != "naive":
        caption += ". Faces with a copy may be easier ones, with no leak at all"
    return theme.finish(figure, title, dataset, caption, n)


def seeds(scored, task, dataset):
    """Each seed of each system as a dot, with mean and standard deviation.

    Parameters
    ----------
    scored : DataFrame
        Columns label, task, metric, value, seed, n, as `tables.study_intervals` gives them.
    """
    metric = HEADLINE[task]
    rows = scored[(scored["task"] == task) & (scored["metric"] == metric)]
    spread = rows.groupby("label")["value"].agg(["mean", "std", "size"]).query("size > 1")
    spread = _some(spread, "seeds").sort_values("mean", ascending=metric in LOWER_IS_BETTER)
    figure, axes = theme.canvas(height=2.2 + 0.42 * len(spread))
    for y, name in enumerate(spread.index):
        values = rows.loc[rows["label"] == name, "value"]
        axes.plot(values, [y] * len(values), "o", color=theme.SKY, ms=8, mec=theme.BLUE)
        axes.errorbar(
            spread["mean"][name],
            y,
            xerr=spread["std"][name],
            fmt="|",
            ms=20,
            mew=2.5,
            color=theme.BLACK,
            capsize=4,
        )
    names = [f"{name} ({int(size)} seeds)" for name, size in spread["size"].items()]
    axes.set_yticks(range(len(spread)), names)
    axes.invert_yaxis()
    axes.set(xlabel=_axis(task, metric))
    typical = float(spread["std"].mean())
    size = f"{typical:.2f} years" if metric == "mae" else f"{100 * typical:.2f} points"
    between = float(spread["mean"].max() - spread["mean"].min())
    span = f"{between:.2f} years" if metric == "mae" else f"{100 * between:.1f} points"
    title = f"{TASK_LABELS[task].capitalize()}: seeds differ by {size} (standard deviation)"
    if len(spread) > 1:
        title += f", models by up to {span}"
    caption = "Dots: seeds; bar: mean and standard deviation, test split"
    return theme.finish(figure, title, dataset, caption, int(rows["n"].max()))


def summary(table, dataset, task, n=None):
    """Bars of a comparison table with the trivial guess and the references: the README's figure."""
    from utils.evaluation.references import references
    from utils.plots.results import metric_bars

    runs = _some(table[table[task].notna() & (table["model"] != "trivial")], "summary")
    guess = table.loc[table["model"] == "trivial", task]
    rows = pd.DataFrame(
        {
            "label": runs["label"],
            "task": task,
            "metric": HEADLINE[task],
            "value": runs[task],
            "n": n or 0,
            "ci_low": runs[f"{task}_low"],
            "ci_high": runs[f"{task}_high"],
        }
    )
    lines = references(dataset, task, drawn=True)
    lines = [
        (f"{text}: {shown(value, HEADLINE[task])}", value)
        for text, value in zip(lines["source"], lines["value"], strict=True)
    ]
    guess = float(guess.iloc[0]) if len(guess) and pd.notna(guess.iloc[0]) else None
    return metric_bars(rows, dataset, guess, lines)
