"""Figures over all runs of a study, drawn from the tables of its report."""

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from utils import vocabulary as words
from utils.evaluation import calibration
from utils.evaluation.cross_dataset import HEADLINES
from utils.evaluation.references import references
from utils.evaluation.subgroups import AXES, SMALL
from utils.files import DataError
from utils.plots import run, theme
from utils.vocabulary import CLASSES, HEADLINE, LOWER_IS_BETTER, TASKS, in_words, written

NAMES = words.TASK_LABELS | {"age_group": "age group", "bias": "age: predicted minus true"}
DOT, PLAIN = {"marker": "o"}, {"color": theme.GREY}  # in a legend of colours and one of marks
ZERO = [(name, 0, theme.BLACK, "-", "") for name in NAMES.values()]


def draw(report, study, progress=None):
    """Draw every figure that the tables of a `Report` allow, into its ``figures``; return it.

    What cannot be drawn is noted in ``report.left_out``.
    """
    others = report.tables.get("cross_dataset", pd.DataFrame({"dataset": []}))
    for dataset in report.findings:
        (progress or str)(f"{dataset}: figures")
        head = f"{dataset}_"
        held = {k.removeprefix(head): t for k, t in report.tables.items() if k.startswith(head)}
        for name, function in FIGURES.items():
            _try(report, head + name, function, held, study, dataset)
        for row in held["best"].itertuples() if "best" in held else ():
            told = study.predictions[row.run], dataset
            if row.task == "age":
                _try(report, f"{head}age_true_predicted", run.true_vs_predicted, *told, row.label)
            elif len(CLASSES[row.task]) > 2:  # two shares need no picture
                told = (told[0], row.task, dataset, row.label)
                _try(report, f"{head}{row.task}_confusion", run.confusion, *told)
    for dataset in others["dataset"].unique():
        _try(report, f"cross_dataset_{dataset}", cross_dataset, others, dataset)
    return report


def _try(report, name, function, *arguments, **options):
    try:
        report.figures[name] = function(*arguments, **options)
    except (DataError, KeyError) as error:
        why = f"no runs for the table {error}" if isinstance(error, KeyError) else str(error)
        report.left_out.append((f"figure {name}", why))


def _panels(table, **columns):
    """A table with task, metric, value and its interval as rows of `theme.dot_panels`."""
    rows = table.drop(columns=["low", "high"], errors="ignore")
    rows = rows.rename(columns={"ci_low": "low", "ci_high": "high"})
    rows = rows.assign(order=rows["task"].map(list(NAMES).index), tint=theme.BLUE, mark="o")
    rows = rows.assign(panel=rows["task"].map(NAMES), **columns)
    return rows.sort_values("order", kind="stable")


def _runs(table):
    """`comparison` without the baseline, as rows of `theme.dot_panels`."""
    parts = [pd.DataFrame()]
    for task in (task for task in TASKS if table[task].notna().any()):
        rows = table[table[task].notna() & (table["protocol"] != "baseline")]
        ends = {f"ci_{end}": rows[f"{task}_{end}"] for end in ("low", "high")}
        ends |= {"value": rows[task], "row": rows["label"], "metric": HEADLINE[task]}
        style = {"tint": rows["model"].map(theme.colour)}
        style["mark"] = rows["protocol"].map(theme.PROTOCOL_MARKERS).fillna("o")
        parts.append(_panels(rows.assign(task=task, **ends), **style))
    return pd.concat(parts)


def _of_best(held, name):
    """Rows of a table that belong to the best network of their task, or of the first task."""
    best, table = held["best"].set_index("task"), held[name]
    wanted = table["task"].map(best["run"]) if "task" in table else best["run"].iloc[0]
    return table[table["run"] == wanted], best["label"].iloc[0]


def _faces(study, run, split="test"):
    """How many faces of a split a run was scored on."""
    return int((study.predictions[run]["split"] == split).sum())


def comparison(held, study, dataset):
    """What the first table shows, beside what others report; the baseline would squeeze it."""
    table, best = held["comparison"], held["best"].iloc[0]
    table = table[table["label"].isin(held["main_readable"]["model"])]
    guess = table.iloc[-1]
    style = (theme.GREY, ":", "published or claimed")
    lines = [(NAMES[row.task], row.value, *style) for row in references(dataset, True).itertuples()]
    title = f"{best['label']}: {in_words(*best[['task', 'value']])}, baseline "
    title += written(guess[best["task"]], metric=HEADLINE[best["task"]], unit=True)
    figure, chosen = theme.dot_panels(_runs(table), lines), best["chosen_on"]
    n = _faces(study, best["run"])
    return theme.finish(figure, title, dataset, "comparison", n, chosen_on=chosen)


def front(cost, value, lower):
    """Mask of the models that no other beats on both cost and value; lower may be better."""
    points = np.stack([np.negative(cost), np.multiply(value, -1 if lower else 1)], axis=-1)
    ahead = points[None] - points[:, None]  # of every other model, on cost and value
    return ~((ahead >= 0).all(axis=-1) & (ahead > 0).any(axis=-1)).any(axis=1)


def cost(held, study, dataset):
    """Quality against FLOPs, a panel a task; the best models at each cost are joined."""
    rows = _runs(held["comparison"].dropna(subset=["flops"]))
    if rows.empty or rows["model"].nunique() < 2:
        raise DataError("the costs of fewer than two networks are known")
    tasks, known, ends = list(dict.fromkeys(rows["task"])), {}, []
    lines, columns = -(-len(tasks) // 2), min(len(tasks), 2)
    figure, grid = theme.canvas(lines, columns, 2.6 + 3.2 * lines, squeeze=False)
    for task, axes in zip(tasks, grid.ravel(), strict=False):
        here = rows[rows["task"] == task].sort_values("flops").assign(x=lambda t: t["flops"] / 1e9)
        on = here[front(here["x"], here["value"], HEADLINE[task] in LOWER_IS_BETTER)]
        axes.plot(on["x"], on["value"], "-", color=theme.GREY, lw=1.5, zorder=1)
        for row in here.itertuples():
            style = {"color": row.tint, "marker": row.mark, "ms": 8, "ls": ""}
            spread = [[row.value - row.low], [row.high - row.value]]
            axes.errorbar(row.x, row.value, spread, capsize=3, **style)
            known[words.MODEL_LABELS.get(row.model, row.model)] = Line2D([], [], **style | DOT)
            known[words.PROTOCOLS.get(row.protocol)] = Line2D([], [], **style | PLAIN)
        axes.set(xscale="log", xlabel="FLOPs an image (G)", title=NAMES[task])
        if task == "age":
            axes.set_ylabel("years")
        else:
            theme.percent(axes)
        ends.append(on.iloc[[0, -1]])
    for axes in grid.ravel()[len(tasks) :]:
        axes.set_visible(False)
    first, last = (row for _, row in ends[0].iterrows())
    told = [written(row["value"], metric=HEADLINE[tasks[0]], unit=True) for row in (first, last)]
    title = f"{NAMES[tasks[0]]}: {told[0]} by {first['label']}; {told[1]} by {last['label']}, for "
    title += f"{last['x'] / first['x']:,.3g} times the operations"
    n = _faces(study, held["best"]["run"].iloc[0])
    return theme.finish(theme.legend(figure, known), title, dataset, "cost", n)


def subgroups(held, study, dataset):
    """The best network of each task by age bin, gender and ethnicity, and its bias."""
    table, label = _of_best(held, "subgroups")
    table = table[table["by"].isin(AXES) & ~table["small"]]
    tints = table["by"].map(dict(zip(AXES, (theme.BLUE, theme.ORANGE, theme.GREEN), strict=True)))
    tasks = table["task"].where(table["metric"] != "bias", "bias")
    rows = _panels(table.assign(task=tasks), row=table["group"], tint=tints)
    best = held["best"].itertuples()
    lines = [(NAMES[row.task], row.value, theme.GREY, ":", "all faces") for row in best]
    gap = _of_best(held, "gaps")[0].iloc[0]
    worst, least = (
        f"{gap[end]} ({written(gap[f'{end}_value'], metric=gap['metric'], unit=True)})"
        for end in ("worst", "best")
    )
    fails = "errs most" if gap["task"] == "age" else "fails most often"
    title = f"{label} {fails} in {NAMES[gap['task']]} on {worst}, least on {least}"
    n = _faces(study, held["best"]["run"].iloc[0])
    figure = theme.dot_panels(rows, [*lines, ZERO[-1]])
    return theme.finish(figure, title, dataset, "subgroups", n, small=SMALL)


def reliability(held, study, dataset):
    """Accuracy against confidence, before and after temperature scaling."""
    table, _ = _of_best(held, "calibration")
    titles, known = [], {}
    figure, grid = theme.canvas(1, len(table), 4.6, sharey=True, squeeze=False)
    for row, axes in zip(table.itertuples(), grid[0], strict=True):
        p, labels = calibration.known_probabilities(study.predictions[row.run], row.task, "test")
        curves = [("as predicted", p, theme.ORANGE, "o-")]
        if np.isfinite(row.temperature):
            scaled = calibration.apply_temperature(p, row.temperature)
            curves.append(("after scaling", scaled, theme.BLUE, "s-"))
        axes.plot([0, 1], [0, 1], "--", color=theme.BLACK, lw=1.3)
        for name, values, tint, mark in curves:
            bins = calibration.reliability(values, labels).query("n >= 10")  # fewer show chance
            known[name] = axes.plot(bins["confidence"], bins["accuracy"], mark, color=tint)[0]
        low = max(0.0, 1 / p.shape[1] - 0.05)
        axes.set(xlim=(low, 1.02), ylim=(low, 1.02), title=NAMES[row.task], xlabel="confidence")
        theme.percent(axes)
        theme.percent(axes, "x")
        way = "over" if p.max(axis=1).mean() > (p.argmax(axis=1) == labels).mean() else "under"
        titles.append(f"{NAMES[row.task]} is {way}confident by {row.ece:.1%}")
    grid[0, 0].set(ylabel="accuracy")
    told, n = "; ".join(titles), _faces(study, table["run"].iloc[0])
    return theme.finish(theme.legend(figure, known), told, dataset, "reliability", n)


def age_coverage(held, study, dataset):
    """How often the true age lies inside its 80 % interval, all and by age bin."""
    table, label = _of_best(held, "coverage")
    table = table[table["n"] >= SMALL]
    names = [f"{row.group} (n = {row.n:,})" for row in table.itertuples()]
    table = table.assign(task="age", metric="share", value=table["coverage"])
    own = table["interval"] != "conformal"
    style = {"tint": np.where(own, theme.ORANGE, theme.BLUE), "mark": np.where(own, "o", "D")}
    style |= {"name": table["interval"], "shift": np.where(own, -0.12, 0.12)}
    whole = table[table["group"] == "all"]
    claimed, n = whole[["claimed", "n"]].iloc[0]
    told = ((row.coverage, row.interval, row.width) for row in whole.itertuples())
    told = [f"{share:.1%} {way} ({width:.1f} years wide)" for share, way, width in told]
    title = f"{label}: true ages in their {claimed:.0%} interval: {', '.join(told)}"
    lines = [("age", claimed, theme.RED, "--", "claimed")]
    figure = theme.dot_panels(_panels(table, row=names, **style), lines)
    return theme.finish(figure, title, dataset, "age_coverage", int(n))


def label_noise(held, study, dataset):
    """Best network of each task beside what the label noise allows."""
    bounds, best = held["label_noise"], held["best"]
    bounds = bounds[bounds["metric"] == bounds["task"].map(HEADLINE)]
    bounds = bounds[bounds["task"].isin(best["task"])].assign(value=bounds["bound"])
    tops = best.assign(metric=best["task"].map(HEADLINE))
    style = {"tint": theme.RED, "mark": "D", "row": "allowed by " + bounds["kind"]}
    rows = pd.concat([_panels(tops, row="best network"), _panels(bounds, **style)])
    costs = abs(bounds["value"] - (bounds["task"] != "age")).groupby(bounds["task"], sort=False)
    costs = [in_words(task, cost.min()) for task, cost in costs]
    title = f"On copies of one photograph label noise alone costs at least: {'; '.join(costs)}"
    groups = bounds.groupby("kind")["groups"].max().items()
    groups = " and ".join(f"{count:,} of {kind}" for kind, count in groups)
    return theme.finish(theme.dot_panels(rows), title, dataset, "label_noise", groups=groups)


def _gains(table, prefix, **columns):
    """Differences as gains: years saved or points won, with their interval."""
    table = table.dropna(subset=["difference"])
    sign = np.where(table["metric"].isin(LOWER_IS_BETTER), -1.0, 100.0)
    low, high = np.sort([table[f"{prefix}_{end}"] * sign for end in ("low", "high")], axis=0)
    unit = table["metric"].where(sign < 0, "points")
    value = table["difference"] * sign
    return table.assign(value=value, metric=unit, ci_low=low, ci_high=high, **columns)


def random_split(held, study, dataset):
    """What near-duplicates in training seem to gain, by two comparisons."""
    told = {"random_split": ": both splits", "near_duplicates": ": within random split"}
    parts = [held[name].assign(told=text) for name, text in told.items() if name in held]
    if not parts:
        raise DataError("no run on a random split")
    rows = _gains(pd.concat(parts), "ci")
    rows["row"] = rows["label"].str.replace(", random split", "") + rows["told"]
    clear = int(((rows["ci_low"] > 0) | (rows["ci_high"] < 0)).sum())
    title = f"{clear} of {len(rows)} differences by near-duplicates in training are beyond chance"
    figure = theme.dot_panels(_panels(rows), ZERO)
    return theme.finish(figure, title, dataset, "random_split")


def curves(held, study, dataset):
    """Validation curves: a line for each protocol, a column for each task."""
    table = held["comparison"].dropna(subset=["run"]).sort_values("input_size", ascending=False)
    table = table[table["run"].isin(list(study.histories))]
    tasks = [task for task in TASKS if table[task].notna().any()]
    protocols = [name for name in words.PROTOCOLS if name in set(table["protocol"])]
    if not tasks:
        raise DataError("the study holds no history of a run")
    size = {"height": 2.4 + 2.4 * len(protocols)}
    figure, grid = theme.canvas(len(protocols), len(tasks), squeeze=False, **size)
    known, early = {}, []
    for (protocol, task), axes in zip(product(protocols, tasks), grid.ravel(), strict=True):
        for row in table[table["protocol"] == protocol].itertuples():
            values = study.histories[row.run].get(f"val_{task}_{HEADLINE[task]}")
            if values is not None:
                tint, name = theme.colour(row.model), row.label.split(",")[0]
                dash = "--" if tint in [line.get_color() for line in axes.lines] else "-"
                (drawn,) = axes.plot(np.arange(len(values)) + 1, values, dash, color=tint, lw=2)
                known.setdefault(name, drawn)
                best = values.argmin() if task == "age" else values.argmax()
                early.append(best < len(values) - 1)
        axes.set(title=f"{NAMES[task]},\n{words.PROTOCOLS[protocol]}", xlabel="epoch")
        axes.set_visible(len(axes.lines) > 0)
        guess = held["comparison"][task].iloc[-1]
        known["baseline"] = axes.axhline(guess, color=theme.RED, ls=":", lw=1.5)
    title = f"{sum(early)} of {len(early)} validation curves peak before their last epoch"
    n = _faces(study, table["run"].iloc[0], "val")
    return theme.finish(theme.legend(figure, known), title, dataset, "curves", n)


def ablations(held, study, dataset):
    """Gain of each variant over its reference on validation and test faces."""
    rows = _gains(held["ablations"], "difference")
    rows = rows.assign(row=rows["change"] + ": " + rows["variant"])
    on_test = rows["split"] == "test"
    test = {"tint": theme.ORANGE, "mark": "s", "name": "test faces", "shift": 0.15}
    val = _panels(rows[~on_test], name="validation faces", shift=-0.15)
    figure = theme.dot_panels(pd.concat([val, _panels(rows[on_test], **test)]), ZERO)
    for axes in figure.axes:  # a few large changes would hide all small ones
        near, far = (0.5, 3) if axes.get_xlabel() == "years" else (2, 15)
        axes.set_xscale("symlog", linthresh=near, linscale=0.5)
        marks = (-far, -near, 0, near, far)
        axes.set_xticks(marks, map("{:g}".format, marks))
        axes.set_xticks([], minor=True)
    judged = rows[(rows["split"] == "val") & (rows["task"] == "age") & (rows["p_holm"] < 0.05)]
    top = judged.sort_values("value").iloc[[0, -1][: len(judged)]]
    ways = np.where(top["value"] > 0, "better", "worse")
    told = [
        f"{row.change} ({row.variant}) {abs(row.value):.2f} years {way}"
        for row, way in zip(top.itertuples(), ways, strict=True)
    ]
    told = "; ".join(told) or "all within chance"
    title = f"Largest loss and gain in age: {told}"
    return theme.finish(figure, title, dataset, "ablations", val["n"].max())


def sizes(held, study, dataset):
    """Networks by input size, all layers trained and all else alike; validation faces."""
    told = pd.DataFrame.from_dict(study.configs, "index")[["model", "protocol", "input_size"]]
    kept = "split == 'val' and protocol == 'finetune' and ablation.str.startswith('size_')"
    rows = held["ablations"].join(told, on="run").query(kept).sort_values(["input_size", "model"])
    if rows.empty:
        raise DataError("no network was trained at several input sizes")
    place, names = pd.factorize(rows["model"].replace(words.MODEL_LABELS), sort=True)
    style = {"row": rows["input_size"].map("{:.0f} px".format), "name": names[place]}
    style |= {"tint": rows["model"].map(theme.colour), "shift": 0.2 * (place - place.max() / 2)}
    rows = _panels(rows, **style)
    ages = rows[rows["task"] == "age"].groupby("name")["value"].agg(["first", "last"])
    told = [f"{one.Index} {written(one.first)} to {written(one.last)}" for one in ages.itertuples()]
    title = f"Age errors in years, smallest to largest input: {', '.join(told)}"
    return theme.finish(theme.dot_panels(rows), title, dataset, "sizes", rows["n"].max())


def cross_dataset(table, dataset):
    """One panel a task, one line a network: own set, pictures as they are, cut as in training."""
    rows = table[(table["dataset"] == dataset) & (table["metric"] == table["task"].map(HEADLINES))]
    if rows.empty:
        raise DataError(f"{dataset}: no network was scored on it; run python -m utils.predict")
    if rows["label"].nunique() == 1:
        raise DataError(f"{dataset}: one network was scored on it, see the table")
    rows, cut = rows.assign(row=rows["label"]), rows["cropped"].astype(bool)
    home = rows.dropna(subset=["in_domain"]).drop_duplicates(["row", "task"])
    home = home.assign(value=home["in_domain"], ci_low=np.nan, ci_high=np.nan)
    parts = [
        _panels(home, tint=theme.BLACK, mark="D", name="own test faces", shift=-0.22),
        _panels(rows[~cut], tint=theme.ORANGE, mark="s", name="as they are", shift=0.0),
        _panels(rows[cut], name="cut as in training", shift=0.22),
    ]
    guess = rows.drop_duplicates("task").set_index("task")["baseline"]
    lines = [(NAMES[t], value, theme.RED, "--", "baseline") for t, value in guess.items()]
    figure = theme.dot_panels(pd.concat(parts).sort_values("order", kind="stable"), lines)
    ours = rows[(rows["task"] == rows["task"].iloc[0]) & ~cut]
    sign = -1 if HEADLINES[ours["task"].iloc[0]] in LOWER_IS_BETTER else 1
    worse = int((sign * ours["value"] < sign * ours["baseline"]).sum())
    title = f"{words.DATASET_LABELS.get(dataset, dataset)}, pictures as they are: {worse} of "
    title += f"{len(ours)} networks are worse than the baseline in {NAMES[ours['task'].iloc[0]]}"
    return theme.finish(figure, title, dataset, "cross_dataset", rows["n"].max())


_DRAWN = (comparison, cost, subgroups, reliability, age_coverage, label_noise)
FIGURES = {one.__name__: one for one in (*_DRAWN, random_split, curves, ablations, sizes)}
