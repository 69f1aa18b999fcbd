"""Results on other data sets beside those at home."""

import numpy as np

from utils.datasets.facetable import DataError
from utils.evaluation.columns import HEADLINE, TASK_LABELS
from utils.plots import theme
from utils.plots.study import shown

NAMES = TASK_LABELS | {"age_group": "age group"}
HEADLINES = HEADLINE | {"age_group": "accuracy"}
STYLES = {False: ("as they are", theme.ORANGE, "s"), True: ("cut as in training", theme.BLUE, "o")}


def elsewhere(table, dataset):
    """One panel a task, one line a model: at home, as the pictures are, cut as in training.

    Parameters
    ----------
    table : DataFrame
        From `utils.evaluation.elsewhere.elsewhere`.
    dataset : str
        Data set whose faces were scored.
    """
    rows = table[(table["dataset"] == dataset) & (table["metric"] == table["task"].map(HEADLINES))]
    if rows.empty:
        raise DataError(f"{dataset}: no model was scored on it; run python -m utils.transfer")
    tasks = [task for task in NAMES if (rows["task"] == task).any()]
    models = list(dict.fromkeys(rows["label"]))
    figure, panels = theme.canvas(
        1, len(tasks), width=10, height=3.0 + 0.6 * len(models), sharey=True, squeeze=False
    )
    for task, axes in zip(tasks, panels[0], strict=True):
        _panel(axes, rows[rows["task"] == task], models, task)
    panels[0, 0].set_yticks(range(len(models)), [theme.wrap(name, 22) for name in models])
    panels[0, 0].set_ylim(len(models) - 0.4, -0.6)
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize=11)
    caption = "Pictures as they are, and cut so that the face lies where it lay in training. Bars: "
    caption += "95% interval by bootstrap over duplicate groups; dotted: the best constant answer "
    caption += "on these faces"
    found = rows["found"].dropna()
    if len(found):
        caption += f"; MTCNN found {found.iloc[0]:.1%} of the faces, the others stay as they are"
    return theme.finish(figure, _title(rows, dataset), dataset, caption, int(rows["n"].max()))


def _panel(axes, rows, models, task):
    metric = HEADLINES[task]
    for cropped, (name, tint, mark) in STYLES.items():
        part = rows[rows["cropped"] == cropped]
        place = np.array([models.index(label) for label in part["label"]]) + 0.24 * cropped - 0.04
        ends = np.abs([part["value"] - part["ci_low"], part["ci_high"] - part["value"]])
        axes.errorbar(
            part["value"], place, xerr=ends, fmt=mark, ms=8, color=tint, capsize=3, label=name
        )
    home = rows.drop_duplicates("label").dropna(subset=["in_domain"])
    place = np.array([models.index(label) for label in home["label"]]) - 0.24
    axes.plot(home["in_domain"], place, "D", ms=7, mfc="none", color=theme.BLACK, label="at home")
    guess = rows["baseline"].iloc[0]
    axes.axvline(guess, color=theme.RED, ls=":", lw=2, label="constant answer")
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)
    axes.set(title=NAMES[task], xlabel="mean error (years)" if metric == "mae" else "accuracy")
    if metric != "mae":
        theme.percent(axes, "x")


def _title(rows, dataset):
    """What the best model of the first task loses, and what the crop gives back."""
    task = next(task for task in ("age", "gender", "ethnicity") if (rows["task"] == task).any())
    part, metric = rows[rows["task"] == task], HEADLINES[task]
    best = part.loc[part["value"].idxmin() if metric == "mae" else part["value"].idxmax(), "label"]
    part = part[part["label"] == best].set_index("cropped")
    words = [
        f"{shown(part['value'][cropped], metric)} on {name}"
        for cropped, name in ((False, "pictures as they are"), (True, "faces cut as in training"))
        if cropped in part.index
    ]
    home = part["in_domain"].iloc[0]
    words += [f"{shown(home, metric)} at home"] if np.isfinite(home) else []
    what = "age error" if metric == "mae" else f"{NAMES[task]} accuracy"
    return f"{theme.NAMES.get(dataset, dataset)}, {best}: {what} {', '.join(words)}"
