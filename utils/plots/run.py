"""What one run, or a few side by side, learned."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from utils.evaluation.columns import part, require, tasks_of
from utils.evaluation.metrics import confusion as confusion_counts
from utils.evaluation.metrics import from_confusion
from utils.files import DataError
from utils.plots import theme
from utils.vocabulary import BASELINE, CLASSES, METRIC_LABELS, TASK_LABELS, written


def learning_curves(histories, quantity, dataset, labels=None, baseline=None):
    """Training and validation curves of several runs, side by side on one scale.

    `histories` holds columns epoch, `quantity` (such as `loss`, `age_mae`, `gender_accuracy`) and
    `val_<quantity>` by run; `labels` the name shown for each; `baseline` is drawn as a line.
    """
    found = {k: h for k, h in histories.items() if quantity in h or f"val_{quantity}" in h}
    if not found:
        raise DataError(f"no history holds {quantity!r}; runs: {', '.join(histories) or 'none'}")
    columns = min(len(found), 4)
    rows = -(-len(found) // columns)
    size = {"width": max(theme.WIDTH, 2.6 * columns), "height": 1.3 + 2.7 * rows}
    figure, panels = theme.canvas(rows, columns, sharey=True, squeeze=False, **size)
    for axes in panels.ravel()[len(found) :]:
        axes.axis("off")
    for axes, (run, history) in zip(panels.ravel(), found.items(), strict=False):
        _curve(axes, history, quantity, baseline)
        axes.set(title=theme.wrap((labels or {}).get(run, run), 24), xlabel="epoch")
    task, _, metric = quantity.rpartition("_")
    name = f"{TASK_LABELS.get(task, task)}: {METRIC_LABELS.get(metric, metric)}".removeprefix(": ")
    for line in panels:
        line[0].set(ylabel=theme.wrap(name, 22))
    panels[0][0].legend(fontsize=10.5)
    caption = "Solid: validation, dashed: training; the dot marks the best epoch by validation"
    return theme.finish(figure, _curve_title(found, quantity, labels or {}), dataset, caption)


def _curve(axes, history, quantity, baseline):
    epoch = np.arange(1, len(history) + 1)
    if quantity in history:
        axes.plot(epoch, history[quantity], "--", color=theme.GREY, lw=1.8, label="training")
    values = history.get(f"val_{quantity}", pd.Series(dtype=float))
    if values.notna().any():
        best = _best_epoch(values, quantity)
        style = {"color": theme.BLACK, "lw": 2.4, "markevery": [best], "ms": 7}
        axes.plot(epoch, values, "-o", label="validation", **style)
    if baseline is not None:
        axes.axhline(baseline, color=theme.RED, ls=":", lw=1.8, label="baseline")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _best_epoch(values, quantity):
    falling = quantity == "loss" or quantity.endswith(("_mae", "_loss", "_mse"))
    return int(values.argmin() if falling else values.argmax())


def _curve_title(histories, quantity, labels):
    name = quantity.replace("_mae", " error").replace("_", " ")
    held = {run: history.get(f"val_{quantity}") for run, history in histories.items()}
    held = {run: values.dropna() for run, values in held.items() if values is not None}
    held = {run: values for run, values in held.items() if len(values)}
    if not held:
        return f"Training {name} by epoch; no validation was recorded"
    best = {run: _best_epoch(values, quantity) for run, values in held.items()}
    final = pd.Series({run: values.iloc[best[run]] for run, values in held.items()})
    top = final.index[_best_epoch(final, quantity)]
    if len(held) == 1:
        text = f"Validation {name} is best in epoch {best[top] + 1} of {len(held[top])}"
        return f"{text}: {final[top]:.3g}"
    early = sum(best[run] < len(values) - 1 for run, values in held.items())
    text = f"{labels.get(top, top)} reaches the best validation {name} ({final[top]:.3g})"
    return f"{text}; {early} of {len(held)} runs peak before their last epoch"


def confusion(predictions, task, dataset, split="test", label=""):
    """Confusion matrix: share of each true class, with counts."""
    counts = confusion_counts(predictions, task, split)
    real, classes = counts.sum(axis=1).to_numpy(), range(len(counts))
    shares = counts.to_numpy() / np.maximum(real, 1)[:, None]
    cells = [[f"{shares[i, j]:.0%}\n{counts.iloc[i, j]:,}" for j in classes] for i in classes]
    size = {"height": 2.6 + 0.75 * len(real), "width": max(5.4, 2.4 + 1.05 * len(real))}
    figure, axes = theme.canvas(**size)
    rows = [f"{name}\n(n = {n:,})" for name, n in zip(counts.index, real, strict=True)]
    theme.annotated(axes, shares, cells, rows, list(counts.columns), (0, 1))
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


def all_confusions(predictions, dataset, split="test", label=""):
    """One confusion figure for each classification task in a table: dict task -> Figure."""
    tasks = [task for task in tasks_of(part(predictions, split)) if task in CLASSES]
    return {task: confusion(predictions, task, dataset, split, label) for task in tasks}


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
    style = {"gridsize": 42, "bins": "log", "cmap": "Blues", "mincnt": 1, "linewidths": 0.1}
    grid = axes.hexbin(age, guess, extent=(0, top, 0, top), **style)
    figure.colorbar(grid, ax=axes, label="faces (log)")
    axes.plot([0, top], [0, top], color=theme.BLACK, lw=1.5, ls="--", label="exact")
    middle = pd.Series(guess).groupby(age // 5 * 5 + 2.5).agg(["median", "size"])
    middle = middle.query("size >= 10")
    axes.plot(middle.index, middle["median"], "o-", color=theme.RED, lw=2, ms=5, label="median")
    axes.set(xlabel="labelled age (years)", ylabel="predicted age (years)")
    axes.set(xlim=(0, top), ylim=(0, top))
    axes.legend(loc="upper left")
    error = np.abs(guess - age)
    title = f"{label + ': ' if label else ''}off by {written(error.mean(), unit=True)} on "
    title += f"average, {np.mean(error <= 5):.0%} within 5"
    if np.ptp(age):
        title += f"; one more year of age adds {np.polyfit(age, guess, 1)[0]:.2f}"
    caption = f"Predicted against true age, {split} split; red: median by 5 years (10 faces or more"
    return theme.finish(figure, title, dataset, caption + ")", len(age))


def error_by_age(predictions, dataset, split="test", label="", baseline_age=None):
    """Absolute error and bias by age, beside the error of a constant answer (`baseline_age`)."""
    age, guess = _ages(predictions, split)
    figure, (upper, lower) = theme.canvas(2, 1, height=6.2, sharex=True)
    table = pd.DataFrame({"error": np.abs(guess - age), "bias": guess - age})
    means = table.groupby(age // 10 * 10 + 5).agg(["mean", "sem", "size"])
    means = means[means["error", "size"] >= 10]
    for axes, name in ((upper, "error"), (lower, "bias")):
        rows = means[name]
        style = {"color": theme.BLACK, "lw": 2, "capsize": 3, "marker": "o", "label": label or None}
        axes.errorbar(rows.index, rows["mean"], 1.96 * rows["sem"], **style)
    if baseline_age is not None:
        years = np.arange(0, age.max() + 1)
        upper.plot(years, np.abs(years - baseline_age), ":", color=theme.RED, label=BASELINE)
        upper.legend(fontsize=10.5)
    lower.axhline(0, color=theme.BLACK, lw=1)
    upper.set(ylabel="mean abs. error (years)", ylim=(0, None))
    lower.set(xlabel="labelled age (years)", ylabel="bias (years)")
    figure.align_ylabels()
    title, error = "Too few faces of any age to tell the error", means["error", "mean"]
    if len(error):
        ends = [
            f"{written(error[at], unit=True)} at ages {at - 5:.0f}-{at + 4:.0f}"
            for at in (error.idxmin(), error.idxmax())
        ]
        title = f"{label + ': ' if label else ''}the error runs from {ends[0]} to {ends[1]}"
    caption = f"Means by decade with 95% interval, {split} split; bias is predicted minus true"
    return theme.finish(figure, title, dataset, caption, len(age))
