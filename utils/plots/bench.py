"""How much faster: figures of the benchmark."""

import matplotlib as mpl

from utils.datasets.facetable import DataError
from utils.plots import theme


def gains(rows, dataset, machine):
    """How many times better than the baseline each row is, beside its goal.

    Parameters
    ----------
    rows : list of dict
        ``title``, ``gain`` (times), ``goal`` (times or None), ``agree``.
    dataset : str
        ``synthetic`` if any row was measured on stand-ins.
    machine : str
        For the caption.
    """
    if not rows:
        raise DataError("gains: no measured row with a baseline; run ./run_all.sh bench")
    figure, axes = theme.canvas(height=1.9 + 0.62 * len(rows), width=1.25 * theme.WIDTH)
    for k, row in enumerate(rows):
        axes.barh(k, row["gain"], 0.6, color=theme.BLUE if row["agree"] else theme.PALE)
        # Right of the goal's line where that would strike it through.
        at = max(row["gain"], row["goal"] if row["gain"] < (row["goal"] or 0) else 0)
        axes.text(at * 1.06, k, f"{row['gain']:.3g}x", va="center", fontsize=12)
        if row["goal"]:
            axes.plot([row["goal"]] * 2, [k - 0.42, k + 0.42], color=theme.RED, linewidth=2.5)
    axes.axvline(1, color=theme.BLACK, linewidth=1)
    axes.set_xscale("log")
    least = min(0.5, 0.7 * min(row["gain"] for row in rows))
    axes.set_xlim(least, 3 * max(max(row["gain"], row["goal"] or 1) for row in rows))
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    labels = [theme.wrap(row["title"], 34) for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("times better than the baseline (log scale)")
    met = sum(bool(row["goal"]) and row["gain"] >= row["goal"] for row in rows)
    caption = f"Red: goal. Grey bar: results did not agree. {machine}"
    return theme.finish(
        figure, f"{met} of {len(rows)} comparisons reach their goal", dataset, caption
    )


def growth(panels, dataset, machine):
    """Seconds of a study against its size, without and with the feature cache.

    Parameters
    ----------
    panels : list of dict
        ``label`` of the x axis, ``x``, ``before`` and ``after`` (seconds), same lengths.
    """
    if not panels:
        raise DataError("growth: no unit costs; measure the row protocol first")
    figure, axes = theme.canvas(1, len(panels), height=4.2, width=1.5 * theme.WIDTH, sharey=True)
    for ax, panel in zip(axes, panels, strict=True):
        hours = {side: [s / 3600 for s in panel[side]] for side in ("before", "after")}
        ax.plot(panel["x"], hours["before"], "s-", color=theme.ORANGE, label="fit every epoch")
        ax.plot(panel["x"], hours["after"], "o-", color=theme.BLUE, label="features once")
        ax.set_yscale("log")
        if max(panel["x"]) > 100:
            ax.set_xscale("log")
            ax.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        ax.set_xticks(panel["x"], [f"{x // 1000}k" if x >= 1000 else str(x) for x in panel["x"]])
        ax.set_xlabel(panel["label"])
    axes[0].set_ylabel("hours (log scale)")
    axes[0].legend(loc="upper left", fontsize=11)
    last = panels[-1]
    before, after = last["before"][-1] / 3600, last["after"][-1] / 3600
    title = (
        f"{last['x'][-1]} seeds of the first protocol: {after:,.1f} hours with features kept, "
        f"{before:,.1f} without"
    )
    caption = f"Cost model on measured seconds a face, first protocol. {machine}"
    return theme.finish(figure, title, dataset, caption)
