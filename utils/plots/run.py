"""What one run learned."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from utils.evaluation.columns import part, tasks_of
from utils.evaluation.metrics import confusion as confusion_counts
from utils.evaluation.metrics import metrics_from
from utils.files import DataError, require
from utils.plots import theme
from utils.vocabulary import BASELINE, CLASSES, METRIC_LABELS, TASK_LABELS, written


def learning_curves(history, quantity, dataset, label="", baseline=None):
    """Training and validation curve of a run; `baseline` is drawn as a line.

    `history` has a row an epoch and columns `quantity` (such as `loss`, `age_mae`,
    `gender_accuracy`) and `val_<quantity>`.
    """
    if not {quantity, f"val_{quantity}"} <= set(history):
        raise DataError(f"no history holds {quantity!r}; it has {', '.join(history) or 'nothing'}")
    figure, axes = theme.canvas(height=4.0)
    epoch = np.arange(1, len(history) + 1)
    name = quantity.replace("_mae", " error").replace("_", " ")
    axes.plot(epoch, history[quantity], "--", color=theme.GREY, lw=1.8, label="training")
    values = history[f"val_{quantity}"]
    falling = quantity == "loss" or quantity.endswith(("_mae", "_loss", "_mse"))
    best = int(values.argmin() if falling else values.argmax())
    style = {"color": theme.BLACK, "lw": 2.4, "markevery": [best], "ms": 7}
    axes.plot(epoch, values, "-o", label="validation", **style)
    title = f"Validation {name} is best in epoch {best + 1} of {len(values)}: "
    title += f"{values.iloc[best]:.3g}"
    if baseline is not None:
        axes.axhline(baseline, color=theme.RED, ls=":", lw=1.8, label="baseline")
    task, _, metric = quantity.rpartition("_")
    name = f"{TASK_LABELS.get(task, task)}: {METRIC_LABELS.get(metric, metric)}".removeprefix(": ")
    axes.set(title=theme.wrap(label, 70), xlabel="epoch", ylabel=theme.wrap(name, 26))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.legend(fontsize=theme.SMALL)
    return theme.finish(figure, title, dataset, "learning_curves")


def confusion(predictions, task, dataset, label=""):
    """Confusion matrix of the test faces: share of each true class, with counts."""
    counts = confusion_counts(predictions, task, "test")
    real, classes = counts.sum(axis=1).to_numpy(), range(len(counts))
    shares = counts.to_numpy() / np.maximum(real, 1)[:, None]
    cells = [[f"{shares[i, j]:.0%}\n{counts.iloc[i, j]:,}" for j in classes] for i in classes]
    size = {"height": 2.6 + 0.75 * len(real), "width": max(5.4, 2.4 + 1.05 * len(real))}
    figure, axes = theme.canvas(**size)
    rows = [f"{name}\n(n = {n:,})" for name, n in zip(counts.index, real, strict=True)]
    theme.annotated(axes, shares, cells, rows, list(counts.columns), (0, 1))
    axes.set(xlabel=f"predicted {TASK_LABELS[task]}", ylabel=f"labelled {TASK_LABELS[task]}")
    values = metrics_from(task, counts.to_numpy().ravel())
    wrong = np.where(np.eye(len(real), dtype=bool), 0, counts.to_numpy())
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    title = f"{label + ': ' if label else ''}{values['accuracy']:.1%} right"
    if wrong.max():
        title += f"; most often label '{counts.index[i]}' is taken for '{counts.columns[j]}' "
        title += f"({wrong[i, j]:,} faces, {shares[i, j]:.0%})"
    balanced = values["balanced_accuracy"]
    return theme.finish(figure, title, dataset, "confusion", real.sum(), balanced=balanced)


def all_confusions(predictions, dataset, label=""):
    """One confusion figure for each classification task in a table: dict task -> Figure."""
    tasks = [task for task in tasks_of(part(predictions, "test")) if task in CLASSES]
    return {task: confusion(predictions, task, dataset, label) for task in tasks}


def _ages(predictions):
    """True and predicted ages of the test faces."""
    faces = part(predictions, "test")
    require(faces, ["age", "pred_age"])
    faces = faces.dropna(subset=["age", "pred_age"])
    if faces.empty:
        raise DataError("no face of split 'test' has a true and a predicted age")
    return faces["age"].to_numpy(float), faces["pred_age"].to_numpy(float)


def true_vs_predicted(predictions, dataset, label=""):
    """Predicted against true age as a density, with the median prediction."""
    age, guess = _ages(predictions)
    figure, axes = theme.canvas(height=5)
    top = max(age.max(), guess.max()) + 2
    axes.plot([0, top], [0, top], color=theme.BLACK, lw=1.5, ls="--", label="exact")
    theme.density(axes, age, guess, 5, 10, extent=(0, top, 0, top))
    axes.set(xlabel="labelled age (years)", ylabel="predicted age (years)")
    axes.set(xlim=(0, top), ylim=(0, top))
    error = np.abs(guess - age)
    title = f"{label + ': ' if label else ''}off by {written(error.mean(), unit=True)} on "
    title += f"average, {np.mean(error <= 5):.0%} within 5"
    if np.ptp(age):
        title += f"; one more year of age adds {np.polyfit(age, guess, 1)[0]:.2f}"
    return theme.finish(figure, title, dataset, "true_vs_predicted", len(age))


def error_by_age(predictions, dataset, label="", baseline_age=None):
    """Absolute error and bias by age, beside the error of a constant answer (`baseline_age`)."""
    age, guess = _ages(predictions)
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
        upper.legend(fontsize=theme.SMALL)
    lower.axhline(0, color=theme.BLACK, lw=1)
    upper.set(ylabel="mean abs. error (years)", ylim=(0, None))
    lower.set(xlabel="labelled age (years)", ylabel="bias (years)")
    figure.align_ylabels()
    title, ends = "Too few faces of any age to tell the error", means["error", "mean"].sort_values()
    if len(ends):
        told = [
            f"{written(v, unit=True)} at ages {at - 5:.0f}-{at + 4:.0f}" for at, v in ends.items()
        ]
        title = f"{label + ': ' if label else ''}the error runs from {told[0]} to {told[-1]}"
    return theme.finish(figure, title, dataset, "error_by_age", len(age))
