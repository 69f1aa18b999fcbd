"""What one run, or a few side by side, learned."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from utils.datasets.facetable import DataError
from utils.evaluation.columns import (
    CLASSES,
    LOWER_IS_BETTER,
    METRIC_LABELS,
    TASK_LABELS,
    part,
    require,
)
from utils.evaluation.metrics import confusion as confusion_counts
from utils.evaluation.metrics import from_confusion
from utils.plots import theme


def learning_curves(histories, quantity, dataset, labels=None, baseline=None):
    """Training and validation curves of several runs, side by side on one scale.

    Parameters
    ----------
    histories : dict of str to DataFrame
        Per run its history: epoch, `quantity`, `val_<quantity>`.
    quantity : str
        Column such as `loss`, `age_mae` or `gender_accuracy`.
    labels : dict of str to str, optional
        Name shown for each run.
    baseline : float, optional
        Value of the trivial guess, drawn as a line.
    """
    found = {k: h for k, h in histories.items() if quantity in h or f"val_{quantity}" in h}
    if not found:
        raise DataError(f"no history holds {quantity!r}; runs: {', '.join(histories) or 'none'}")
    columns = min(len(found), 4)
    rows = -(-len(found) // columns)
    figure, panels = theme.canvas(
        rows,
        columns,
        width=max(theme.WIDTH, 2.6 * columns),
        height=1.3 + 2.7 * rows,
        sharex=False,
        sharey=True,
        squeeze=False,
    )
    for axes in panels.ravel()[len(found) :]:
        axes.axis("off")
    for position, (axes, run) in enumerate(zip(panels.ravel(), found, strict=False)):
        _curve(axes, found[run], quantity, position, baseline)
        axes.set(title=theme.wrap((labels or {}).get(run, run), 24), xlabel="epoch")
    for line in panels:
        line[0].set(ylabel=_quantity(quantity))
    panels[0][0].legend(fontsize=10.5)
    caption = "Solid: validation, dashed: training; the dot marks the best epoch by validation"
    return theme.finish(figure, _curve_title(found, quantity, labels or {}), dataset, caption)


def _curve(axes, history, quantity, position, baseline):
    epoch = history["epoch"] if "epoch" in history else np.arange(1, len(history) + 1)
    if quantity in history:
        axes.plot(epoch, history[quantity], "--", color=theme.GREY, lw=1.8, label="training")
    if f"val_{quantity}" in history:
        values = history[f"val_{quantity}"]
        axes.plot(epoch, values, "-", color=theme.BLUE, lw=2.4, label="validation")
        if values.notna().any():
            best = _best(values, quantity)
            axes.plot(
                epoch.iloc[best] if hasattr(epoch, "iloc") else epoch[best],
                values.iloc[best],
                "o",
                color=theme.BLUE,
                ms=7,
            )
    if baseline is not None:
        axes.axhline(baseline, color=theme.RED, ls=":", lw=1.8, label="trivial guess")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _words(name):
    return name.replace("_mae", " error").replace("_", " ")


def _quantity(name):
    """A column of a history in words.

    >>> _quantity("age_mae"), _quantity("loss")
    ('age: mean absolute\\nerror (years)', 'loss')
    """
    task, _, metric = name.rpartition("_")
    if task not in TASK_LABELS:
        return name.replace("_", " ")
    return theme.wrap(f"{TASK_LABELS[task]}: {METRIC_LABELS.get(metric, metric)}", 22)


def _best(values, quantity):
    falling = quantity == "loss" or quantity.endswith(("_mae", "_loss", "_mse"))
    return int(values.argmin() if falling else values.argmax())


def _curve_title(histories, quantity, labels):
    best = {}
    for run, history in histories.items():
        values = history.get(f"val_{quantity}", pd.Series(dtype=float)).dropna()
        if len(values):
            best[run] = (_best(values, quantity), values)
    if not best:
        return f"Training {_words(quantity)} by epoch; no validation was recorded"
    final = {run: float(values.iloc[at]) for run, (at, values) in best.items()}
    falling = quantity == "loss" or quantity.endswith(("_mae", "_loss", "_mse"))
    winner = (min if falling else max)(final, key=final.get)
    if len(best) == 1:
        at, values = best[winner]
        return f"Validation {_words(quantity)} is best in epoch {at + 1} of " + (
            f"{len(values)}: {final[winner]:.3g}"
        )
    early = sum(at < len(values) - 1 for at, values in best.values())
    text = f"{labels.get(winner, winner)} reaches the best validation {_words(quantity)}"
    text += f" ({final[winner]:.3g}); {early} of {len(best)} runs peak before their last epoch"
    return text


def metric_bars(rows, dataset, baseline=None, references=()):
    """Test value of several models on one metric, with the trivial guess as a line.

    Parameters
    ----------
    rows : DataFrame
        Columns label, task, metric, value, n and, where known, ci_low, ci_high; one task and one
        metric.
    baseline : float, optional
    references : sequence of (str, float)
        Published or claimed values, drawn as dotted lines with their text in the caption.
    """
    require(rows, ["label", "task", "metric", "value", "n"], "metric bars")
    pairs = rows[["task", "metric"]].drop_duplicates()
    if len(pairs) != 1:
        raise ValueError(f"metric bars show one task and metric, got {len(pairs)}; select one")
    task, metric = pairs.iloc[0]
    rows = rows.sort_values("value", ascending=metric in LOWER_IS_BETTER, kind="stable")
    extra = 0.3 * (len(references) + 1)
    figure, axes = theme.canvas(height=2.2 + 0.4 * len(rows) + extra)
    place = np.arange(len(rows))
    axes.barh(place, rows["value"], color=[theme.BLUE] + [theme.SKY] * (len(rows) - 1), height=0.7)
    ends = rows["value"].to_numpy(float)
    if {"ci_low", "ci_high"} <= set(rows):
        ends = rows["ci_high"].fillna(rows["value"]).to_numpy(float)
        spread = [rows["value"] - rows["ci_low"], rows["ci_high"] - rows["value"]]
        axes.errorbar(rows["value"], place, xerr=spread, fmt="none", color=theme.BLACK, capsize=3)
    for y, (end, value) in enumerate(zip(ends, rows["value"], strict=True)):
        axes.annotate(
            _number(value, metric),
            (end, y),
            xytext=(6, 0),
            va="center",
            textcoords="offset points",
            # Readable where a reference line runs through it.
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
            zorder=5,
        )
    _lines(axes, baseline, references)
    axes.set_yticks(place, [theme.wrap(label, 26) for label in rows["label"]])
    lines = (baseline is not None) + sum(1 + (len(text) > 44) for text, _ in references)
    # Empty rows below the bars make room for the legend.
    axes.set_ylim(len(rows) - 0.4 + 0.75 * lines, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set(xlabel=f"{TASK_LABELS[task]}: {METRIC_LABELS[metric]}")
    axes.margins(x=0.14)
    if lines:
        axes.legend(loc="lower left", fontsize=10.5, frameon=True, framealpha=1, edgecolor="none")
    best = rows.iloc[0]
    title = f"{TASK_LABELS[task].capitalize()}: {_number(best['value'], metric)}"
    title += f"{' years' if metric == 'mae' else ''} at best ({best['label']})"
    if baseline is not None:
        title += f", the trivial guess {_number(baseline, metric)}"
    caption = "Test split" + (", lines: 95% interval" if "ci_low" in rows else "")
    return theme.finish(figure, title, dataset, caption, int(rows["n"].max()))


def _lines(axes, baseline, references):
    if baseline is not None:
        axes.axvline(baseline, color=theme.RED, ls="--", lw=2, label="trivial guess")
    styles = [(theme.BLACK, ":"), (theme.GREEN, "-."), (theme.PINK, ":"), (theme.ORANGE, "-.")]
    for (text, value), (tint, dash) in zip(references, styles * 5, strict=False):
        axes.axvline(value, color=tint, ls=dash, lw=2, label=theme.wrap(text, 44))


def _number(value, metric):
    return f"{value:.2f}" if metric == "mae" else f"{value:.1%}"


def confusion(predictions, task, dataset, split="test", label=""):
    """Confusion matrix: share of each true class, with counts."""
    counts = confusion_counts(predictions, task, split)
    real = counts.sum(axis=1).to_numpy()
    shares = counts.to_numpy() / np.maximum(real, 1)[:, None]
    texts = [
        [f"{shares[i, j]:.0%}\n{counts.iloc[i, j]:,}" for j in range(len(real))]
        for i in range(len(real))
    ]
    size = 2.6 + 0.75 * len(real)
    figure, axes = theme.canvas(height=size, width=max(5.4, 2.4 + 1.05 * len(real)))
    rows = [f"{name}\n(n = {n:,})" for name, n in zip(counts.index, real, strict=True)]
    theme.annotated(axes, shares, texts, rows, list(counts.columns), (0, 1))
    axes.set(xlabel=f"predicted {TASK_LABELS[task]}", ylabel=f"labelled {TASK_LABELS[task]}")
    values = from_confusion(counts.to_numpy())
    wrong = np.where(np.eye(len(real), dtype=bool), 0, counts.to_numpy())
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    title = f"{label + ': ' if label else ''}{values['accuracy']:.1%} right"
    if wrong.max():
        title += f"; most often label '{counts.index[i]}' is taken for '{counts.columns[j]}' "
        title += f"({wrong[i, j]:,} faces, {shares[i, j]:.0%})"
    caption = f"Share of each labelled class, {split} split; balanced accuracy "
    caption += f"{values['balanced_accuracy']:.1%}"
    return theme.finish(figure, title, dataset, caption, int(real.sum()))


def _ages(predictions, split):
    faces = part(predictions, split)
    require(faces, ["age", "pred_age"])
    faces = faces.dropna(subset=["age", "pred_age"])
    if faces.empty:
        raise DataError(f"no face of split {split!r} has a true and a predicted age")
    return faces["age"].to_numpy(float), faces["pred_age"].to_numpy(float)


def true_vs_predicted(predictions, dataset, split="test", label=""):
    """Predicted against true age as a density, with the median prediction."""
    age, guess = _ages(predictions, split)
    figure, axes = theme.canvas(height=5)
    top = max(age.max(), guess.max()) + 2
    grid = axes.hexbin(
        age,
        guess,
        gridsize=42,
        bins="log",
        cmap="Blues",
        mincnt=1,
        extent=(0, top, 0, top),
        linewidths=0.1,
    )
    figure.colorbar(grid, ax=axes, label="faces (log)")
    axes.plot([0, top], [0, top], color=theme.BLACK, lw=1.5, ls="--", label="exact")
    bins = pd.Series(guess).groupby(age // 5 * 5 + 2.5)
    middle = bins.agg(["median", "size"]).query("size >= 10")
    axes.plot(middle.index, middle["median"], "o-", color=theme.RED, lw=2, ms=5, label="median")
    axes.set(xlabel="labelled age (years)", ylabel="predicted age (years)", xlim=(0, top))
    axes.set(ylim=(0, top))
    axes.legend(loc="upper left")
    error = np.abs(guess - age)
    slope = np.polyfit(age, guess, 1)[0] if np.ptp(age) else np.nan
    title = f"{label + ': ' if label else ''}off by {error.mean():.2f} years on average, "
    title += f"{np.mean(error <= 5):.0%} within 5"
    if slope == slope:
        title += f"; one more year of age adds {slope:.2f}"
    caption = f"Predicted against true age, {split} split; red: median by 5 years (10 faces or more"
    return theme.finish(figure, title, dataset, caption + ")", len(age))


def error_by_age(predictions, dataset, split="test", labels=None, baseline_age=None):
    """Absolute error and bias by age, for one or several runs.

    Parameters
    ----------
    predictions : DataFrame or dict of str to DataFrame
    labels : dict, optional
        Name shown for each run.
    baseline_age : float, optional
        Constant guess (years) whose error is drawn for comparison.
    """
    runs = predictions if isinstance(predictions, dict) else {"": predictions}
    figure, (upper, lower) = theme.canvas(2, 1, height=6.2, sharex=True)
    worst = None
    for position, (run, table) in enumerate(runs.items()):
        age, guess = _ages(table, split)
        bins = age // 10 * 10 + 5
        error = pd.Series(np.abs(guess - age)).groupby(bins).agg(["mean", "sem", "size"])
        bias = pd.Series(guess - age).groupby(bins).agg(["mean", "sem", "size"])
        kept = error["size"] >= 10
        tint, name = theme.PALETTE[position % 8], (labels or {}).get(run, run)
        for axes, rows in ((upper, error[kept]), (lower, bias[kept])):
            axes.errorbar(
                rows.index,
                rows["mean"],
                1.96 * rows["sem"],
                color=tint,
                lw=2,
                capsize=3,
                marker="osD^vPX*"[position % 8],
                label=name,
            )
        worst = error[kept] if worst is None else worst
    if baseline_age is not None:
        years = np.arange(0, age.max() + 1)
        upper.plot(years, np.abs(years - baseline_age), ":", color=theme.RED, label="trivial guess")
    lower.axhline(0, color=theme.BLACK, lw=1)
    upper.set(ylabel="mean abs. error (years)", ylim=(0, None))
    lower.set(xlabel="labelled age (years)", ylabel="bias (years)")
    if len(runs) > 1 or baseline_age is not None:
        upper.legend(fontsize=10.5)
    figure.align_ylabels()
    title = "Too few faces of any age to tell the error"
    if len(worst):
        low, high = worst["mean"].idxmin(), worst["mean"].idxmax()
        title = f"The error runs from {worst['mean'].min():.1f} years at ages "
        title += f"{low - 5:.0f}-{low + 4:.0f} to {worst['mean'].max():.1f} at "
        title += f"{high - 5:.0f}-{high + 4:.0f}"
        first = (labels or {}).get(next(iter(runs)), next(iter(runs)))
        title += f" ({first})" if first else ""
    caption = f"Means by decade with 95% interval, {split} split; bias is predicted minus true"
    return theme.finish(figure, title, dataset, caption, len(age))


def all_confusions(predictions, dataset, split="test", label=""):
    """One confusion figure for each classification task in a table: dict task -> Figure."""
    from utils.evaluation.columns import tasks_of

    tasks = [task for task in tasks_of(part(predictions, split)) if task in CLASSES]
    return {task: confusion(predictions, task, dataset, split, label) for task in tasks}
