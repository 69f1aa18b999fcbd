"""What one choice is worth: differences to a reference, task by task."""

import numpy as np

from utils.evaluation.columns import LOWER_IS_BETTER, TASK_LABELS, TASKS
from utils.plots import theme
from utils.plots.study import _some, shown

LOOKS = {"val": (theme.BLUE, "o", "validation"), "test": (theme.ORANGE, "s", "test")}


def _oriented(rows):
    """Gain over the reference with its interval: years saved, or points of accuracy."""
    sign = np.where(rows["metric"].isin(LOWER_IS_BETTER), -1.0, 100.0)
    ends = np.stack([rows["difference_low"] * sign, rows["difference_high"] * sign]).astype(float)
    gain = (rows["difference"] * sign).to_numpy(float)
    return rows.assign(gain=gain, low=ends.min(axis=0), high=ends.max(axis=0), sign=sign)


def ablation(table, question, dataset):
    """Gain of each variant over the reference on validation and test faces, one panel a task.

    Parameters
    ----------
    table : DataFrame
        Rows of one ablation from `utils.evaluation.ablations.ablations`.
    question : str
        What differs.
    """
    rows = _some(_oriented(table[table["difference"].notna()]), "ablation")
    names = list(dict.fromkeys(rows["variant"]))
    tasks = [task for task in TASKS if (rows["task"] == task).any()]
    figure, panels = theme.canvas(
        1, len(tasks), height=2.6 + 0.62 * len(names), width=9.5, sharey=True, squeeze=False
    )
    for task, axes in zip(tasks, panels[0], strict=True):
        _panel(axes, rows[rows["task"] == task], names)
        axes.set(title=TASK_LABELS[task], xlabel="years saved" if task == "age" else "points won")
        axes.locator_params(axis="x", nbins=3)
    panels[0][0].set_yticks(range(len(names)), [theme.wrap(name, 18) for name in names])
    panels[0][0].set_ylim(len(names) - 0.5, -0.5)
    _key(panels[0][-1], rows)
    first = table.loc[table["run"] == table["reference_run"], "variant"].iloc[0]
    caption = f"Zero is \u2018{first}\u2019; right of it is better; 95% interval by "
    caption += "bootstrap over duplicate groups"
    caption += ", both on the same faces" if rows["paired"].all() else ""
    if rows["seed_sd"].notna().any():
        caption += "; grey: standard deviation of the reference over seeds"
    judged = rows["split"] == ("val" if (rows["split"] == "val").any() else "test")
    counts = rows.groupby("split", sort=False)["n"].max()
    counts = [f"{n:,} {LOOKS[split][2]}" for split, n in counts.items()]
    caption += f". {theme.NAMES.get(dataset, dataset)}, n = {' and '.join(counts)} faces"
    return theme.finish(figure, _title(rows[judged], question, first), dataset, caption)


def _panel(axes, rows, names):
    spread = (rows["seed_sd"] * rows["sign"].abs()).dropna()
    if len(spread):
        axes.axvspan(-spread.iloc[0], spread.iloc[0], color=theme.PALE, alpha=0.6, lw=0, zorder=0)
    axes.axvline(0, color=theme.BLACK, lw=1)
    for split, shift in (("val", -0.13), ("test", 0.13)):
        part = rows[rows["split"] == split]
        tint, mark, _ = LOOKS[split]
        place = [names.index(name) + shift for name in part["variant"]]
        ends = [part["gain"] - part["low"], part["high"] - part["gain"]]
        axes.errorbar(part["gain"], place, xerr=np.abs(ends), fmt=mark, ms=7, capsize=3, color=tint)


def _key(axes, rows):
    for split, (tint, mark, name) in LOOKS.items():
        if (rows["split"] == split).any():
            axes.plot([], [], mark, color=tint, ms=7, label=f"{name}\nfaces")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=11)


def _title(rows, question, reference):
    """The largest change of the first task, in words."""
    task = next(task for task in TASKS if (rows["task"] == task).any())
    part = rows[rows["task"] == task].reset_index(drop=True)
    top = part.loc[part["gain"].abs().idxmax()]
    text = question.split(" (")[0]
    name = "age error" if task == "age" else TASK_LABELS[task]
    way = f"{name} {shown(top['value'], top['metric'])} with \u2018{top['variant']}\u2019"
    return f"{text}: {way}, {shown(top['reference'], top['metric'])} with \u2018{reference}\u2019"
