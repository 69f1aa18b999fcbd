"""The tables of the report, from a study loaded by `utils.study.load_study`."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd

from utils import vocabulary as words
from utils.evaluation.bootstrap import draw, groups_of, interval, intervals, over_seeds
from utils.evaluation.bootstrap import scored as scored_on
from utils.evaluation.columns import part
from utils.evaluation.metrics import baseline, evaluate
from utils.evaluation.subgroups import AXES
from utils.plan import RunConfig
from utils.vocabulary import HEADLINE, TASK_LABELS, TASKS, written

RUN_COLUMNS = "run dataset model protocol input_size seed split study label system".split()
BEST = ["task", "run", "label", "value", "ci_low", "ci_high", "chosen_on"]
ENDS = {"": "value", "_low": "ci_low", "_high": "ci_high", "_val": "validation"}
LABELS = ("age", "gender", "ethnicity", "same_file")
COSTS = {"parameters": ("parameters (M)", 1e6), "flops": ("FLOPs an image (G)", 1e9)}
TIMES = {"train_seconds": ("training (min)", 60), "images_per_second": ("images/s", 1)}
TIMES |= {"latency_ms": ("latency (ms)", 1)}
# Settings in which two runs of one system may differ: who asked, how fast, with which seed.
_FREE = ("seed", "profile", "study", "precision", "batch_size")


def system_of(config):
    """What makes two runs the same system: their settings but the seed, as text."""
    fields = {name: field.default for name, field in RunConfig.model_fields.items()}
    held = {name: config.get(name, usual) for name, usual in fields.items() if name not in _FREE}
    return json.dumps(held | {"model": config.get("model")}, sort_keys=True, default=str)


def run_table(study):
    """`RUN_COLUMNS` of each run; `system` is the run of the lowest seed with the same settings."""
    usual = dict.fromkeys(("dataset", "model", "protocol", "study"), "")
    usual |= {"input_size": 0, "seed": 0, "split": "group"}
    rows = []
    for run, config in sorted(study.configs.items()):
        row = {name: config.get(name) or value for name, value in usual.items()}
        rows.append(row | {"run": run, "label": study.label(run), "system": system_of(config)})
    table = pd.DataFrame(rows, columns=RUN_COLUMNS)
    first = table.sort_values("seed", kind="stable").groupby("system")["run"].first()
    return table.assign(system=table["system"].map(first))


def comparable(study):
    """The study without the runs that only an ablation shows (``study: ablation``)."""
    odd = {run for run, config in study.configs.items() if config.get("study") == "ablation"}
    held = {"results": study.results[~study.results["run"].isin(odd)]}
    for name in ("predictions", "histories", "configs", "costs"):
        held[name] = {run: one for run, one in getattr(study, name).items() if run not in odd}
    return replace(study, **held)


def study_intervals(study, resamples=2000, seed=129):
    """`bootstrap.intervals` of all runs, the validation value, `run_table` (split: split_kind)."""
    keys, tables = ["task", "metric"], []
    for row in run_table(study).rename(columns={"split": "split_kind"}).to_dict("records"):
        predictions = study.predictions.get(row["run"])
        if predictions is not None and (predictions["split"] == "test").any():
            splits = study.splits.get(row["dataset"])
            drawn = draw(part(predictions, "test"), splits, resamples, seed)
            held = evaluate(predictions, ("val",)).set_index(keys)["value"].rename("validation")
            tables.append(intervals(predictions, drawn).join(held, on=keys).assign(**row))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def on_main_split(rows, dataset, column="split"):
    """Rows of a data set on the split its runs are compared on: group-aware where any has it."""
    rows = rows[rows["dataset"] == dataset]
    group = rows[column] == "group"
    return rows[group] if group.any() else rows


def labels_of(study, dataset):
    """True labels of all faces of a data set: from its runs and from its split file."""
    runs = on_main_split(run_table(study), dataset)
    tables = [study.predictions[run] for run in runs["run"] if run in study.predictions]
    listed = study.splits.get(dataset)
    if listed is not None and "age" in listed and (runs["split"] == "group").any():
        tables.insert(0, listed)  # it alone says which files are identical
    tables = [table.filter(("image", "split", "group", *LABELS)) for table in tables]
    faces = pd.concat([pd.DataFrame(columns=["image", "split"]), *tables], ignore_index=True)
    faces = faces.drop_duplicates("image", ignore_index=True)
    return faces.assign(group=groups_of(faces, listed))


def _seed_intervals(study, runs, resamples, seed):
    """Ends by system, task and column of those with several seeds, which are drawn with groups."""
    found = {}
    for (system, dataset), rows in runs.groupby(["system", "dataset"]):
        if rows["run"].nunique() < 2:
            continue
        tests = [part(study.predictions[run], "test") for run in rows["run"].unique()]
        held = [(f, draw(f, study.splits.get(dataset), resamples, seed)) for f in tests]
        for task in rows["task"].unique():
            own = [scored_on(*one, task, HEADLINE[task]) for one in held]
            low, high = interval(over_seeds(own, seed)[1])
            found |= {(system, task, "ci_low"): low, (system, task, "ci_high"): high}
    return found


def comparison(study, scored, dataset, resamples=2000, seed=129):
    """Systems by tasks with the baseline (last row) and costs, from `study_intervals`.

    For each task the headline metric on test faces, `<task>_low`, `<task>_high` and `<task>_val`
    (validation faces), means over seeds, which enter the interval where there are several; `COSTS`;
    `TIMES`, those measured alone where any were.
    """
    here = on_main_split(scored, dataset, "split_kind").sort_values("seed", kind="stable")
    table = here.drop_duplicates("system").set_index("system", drop=False)
    groups = here[here["metric"] == here["task"].map(HEADLINE)].groupby(["system", "task"])
    means = groups[list(ENDS.values())].mean()
    for (*key, column), value in _seed_intervals(study, here, resamples, seed).items():
        means.loc[tuple(key), column] = value
    means = means.unstack()
    found = {t + end: means.get((name, t)) for end, name in ENDS.items() for t in TASKS}
    alone = any("idle" in cost for cost in study.costs.values())
    for name in (*COSTS, *TIMES):
        costs = [study.costs.get(run, {}) for run in table["run"]]
        timed = [cost.get("idle", {}) if alone and name in TIMES else cost for cost in costs]
        found[name] = [cost.get(name) for cost in timed]
    found["seeds"] = here.groupby("system")["run"].nunique()
    table = table.drop(columns="task").assign(**found)
    table = table.sort_values(["age", "age_bin"], ascending=[True, False], kind="stable")
    last = {"label": words.BASELINE, "model": "baseline", "protocol": "baseline", "seeds": 0}
    labels = labels_of(study, dataset)
    if labels["split"].isin(["train", "val"]).any():
        guess = baseline(labels, ("test",)).set_index(["task", "metric"])["value"]
        last |= {task: guess.get((task, metric)) for task, metric in HEADLINE.items()}
    columns = ["label", "model", "protocol", "input_size", *TASKS, *found, "run", "system"]
    table = pd.DataFrame([*table.to_dict("records"), last], columns=dict.fromkeys(columns))
    return table.astype(dict.fromkeys(found, float)).astype({"seeds": int})


def networks(table):
    """Rows of the study's own single networks: no off-the-shelf system, ensemble or baseline."""
    return table[~table["protocol"].isin(["off_the_shelf", "ensemble", "baseline"])]


def main_rows(table, runs):
    """What a reader asks for first: declared `runs`, best networks and probe, means, baseline.

    All rows where there are no such runs.
    """
    if not table["run"].isin(runs).any():
        return table
    probes = table[table["protocol"] == "linear_probe"].nsmallest(1, "age_val")["run"]
    beside = table["protocol"].isin(["ensemble", "off_the_shelf", "baseline"])
    best = [row["run"] for row in best_rows(table)]
    return table[table["run"].isin([*runs, *probes, *best]) | beside].reset_index(drop=True)


def best_rows(table):
    """`best_row` of the networks in `comparison`, for each task that any of them has."""
    rows = (best_row(networks(table), task) for task in TASKS)
    return [row for row in rows if row is not None]


def best_row(rows, task):
    """`BEST` of the best of some rows of `comparison`, on validation faces if any; or None."""
    rows = rows.dropna(subset=[task])
    if rows.empty:
        return None
    column = f"{task}_val" if rows[f"{task}_val"].notna().any() else task
    lower = HEADLINE[task] in words.LOWER_IS_BETTER
    top = rows.loc[rows[column].idxmin() if lower else rows[column].idxmax()]
    told = {name: top[task + end] for end, name in ENDS.items()}
    told |= {"task": task, "chosen_on": "test" if column == task else "validation"}
    return pd.Series(top.to_dict() | told)


def off_the_shelf(study, dataset):
    """Off-the-shelf systems; `n_found`: in how many pictures their own detector found a face."""
    told = [config | {"label": study.label(run)} for run, config in study.configs.items()]
    columns = "label package trained_on scored n_test n_found".split()
    table = pd.DataFrame(told).reindex(columns=["dataset", "protocol", *columns])
    table = table[(table["dataset"] == dataset) & (table["protocol"] == "off_the_shelf")]
    return table[columns].astype({"n_found": object}).fillna({"n_found": "not asked"})


def seeds_table(scored):
    """Mean, std, seeds, low and high over seeds, for systems run with two seeds or more."""
    keys = ["dataset", "system", "label", "split_kind", "task", "metric"]
    table = scored.groupby(keys, sort=False)["value"].agg(["mean", "std", "size", "min", "max"])
    table = table.rename(columns={"size": "seeds", "min": "low", "max": "high"}).reset_index()
    return table[table["seeds"] > 1].reset_index(drop=True)


def readable(table, columns):
    """A table as text, by ``pages.yaml``; its `metric` or `task` says the unit of its values."""
    rows = table.to_dict("records")
    cells = {title: [_cell(row, what) for row in rows] for title, what in columns.items()}
    return pd.DataFrame(cells)


def _cell(row, what):
    if not isinstance(what, str):
        metric = row.get("metric") or HEADLINE[row["task"]]
        writer = signed if what[0] == "difference" else written
        return writer(*(row.get(name) for name in what), metric=metric, unit=True)
    value = row.get(what.removeprefix("%"))
    if what.startswith("%"):
        return written(value, metric="share", unit=True)
    if isinstance(value, str):
        labels = words.METRIC_LABELS | TASK_LABELS | words.DATASET_LABELS | words.MODEL_LABELS
        return labels.get(value, value.replace("_", " "))
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    whole = value is not None and float(value).is_integer()
    return f"{int(value):,}" if whole else written(value)


def signed(value, *ends, metric="mae", unit=False):
    """A difference and the ends of its interval with their signs; shares in points.

    >>> signed(0.125, unit=True), signed(-0.0213, -0.03, -0.01, metric="accuracy", unit=True)
    ('+0.12 years', '\u22122.1 [\u22123.0, \u22121.0] points')
    """
    texts = ["\u2212+"[int(v >= 0)] + written(abs(v), metric=metric) for v in (value, *ends)]
    text = texts[0] + (f" [{', '.join(texts[1:])}]" if ends else "")
    return text + ((" years" if metric == "mae" else " points") if unit else "")


def comparison_readable(table, letters):
    """`comparison` as text: values with intervals and letters (by task and run), and costs."""
    text = pd.DataFrame({"model": table["label"], "seeds": table["seeds"].replace(0, "-")})
    for task in (task for task in TASKS if table[task].notna().any()):
        cells = table[[task, f"{task}_low", f"{task}_high", "run"]].itertuples(index=False)
        marks = letters.get(task, {})
        told = [f"{written(*cell, HEADLINE[task])} {marks.get(run, '')}" for *cell, run in cells]
        text[column_title(task)] = pd.Series(told).str.strip()
    for name, (title, scale) in (COSTS | TIMES).items():
        costs = (table[name] / scale).dropna().map("{:,.3g}".format)
        text[title] = costs.reindex(table.index, fill_value="-")
    return text.loc[:, text.nunique() > 1]  # no column that says nothing


def primary_readable(table):
    """The declared family as text: one row a pair, difference and verdict a task."""
    told = {"network": "a", "against": "b"}
    told = {name: table[column].replace(words.MODEL_LABELS) for name, column in told.items()}

    def cell(row):
        ends = (row[name] for name in ("difference", "ci_low", "ci_high"))
        return f"{signed(*ends, metric=row['metric'])} {row['verdict']}"

    return wide(table.assign(**told), [*told], cell)


def seeds_readable(table):
    """Mean and standard deviation over seeds as text, one row a network."""
    rows = table[table["metric"] == table["task"].map(HEADLINE)]

    def cell(row):
        return " \u00b1 ".join(written(row[name], metric=row["metric"]) for name in ("mean", "std"))

    return wide(rows.rename(columns={"label": "network"}), ["network", "seeds"], cell)


def groups_readable(table, labels):
    """`subgroups` but the small ones as text: a row a group and task, a column a network."""
    rows = table[table["label"].isin(labels) & ~table["small"] & (table["metric"] != "bias")]
    cells = rows[["value", "ci_low", "ci_high", "metric"]].itertuples(index=False)
    told = {axis: rows[axis].replace("", "all") for axis in AXES}
    told["faces"] = rows["n"].map("{:,}".format)
    rows = rows.assign(text=[written(*cell) for cell in cells], **told).rename(columns=TASK_LABELS)
    rows["task"] = rows["task"].map(column_title)
    keys = [*map(TASK_LABELS.get, AXES), "task", "faces", "label"]
    wide_rows = rows.set_index(keys)["text"].unstack(sort=False).fillna("-")
    return wide_rows.rename_axis(None, axis=1).reset_index()


def calibration_readable(table, labels):
    """Calibration error of each task before -> after scaling as text, one row a network."""

    def cell(row):
        return " -> ".join(written(row[name], metric="share") for name in ("ece", "ece_scaled"))

    rows = table[table["label"].isin(labels)]
    return wide(rows.rename(columns={"label": "network"}), ["network"], cell)


def column_title(task):
    """Title of a column of headline values: the task and its unit."""
    return f"{TASK_LABELS.get(task, 'age group')}, {'years' if task == 'age' else '%'}"


def wide(table, keys, cell):
    """One row for each value of the key columns, one column of texts, by `cell(row)`, a task."""
    rows = {}
    for row in table.to_dict("records"):
        key = tuple(row[name] for name in keys)
        told = rows.setdefault(key, dict(zip(keys, key, strict=True)))
        told[column_title(row["task"])] = cell(row)
    return pd.DataFrame(rows.values()).fillna("-")
