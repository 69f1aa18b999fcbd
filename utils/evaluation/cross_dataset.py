"""How much of a result stays on other faces, and how much of the loss is the crop alone?

Works from the files of `utils.predict`: ``cross_dataset/<run>@<dataset>[-cropped].parquet``.
"""

import numpy as np
import pandas as pd

from utils.evaluation.bootstrap import draw, intervals
from utils.evaluation.columns import AGE_INTERVAL, part
from utils.evaluation.metrics import baseline, evaluate
from utils.vocabulary import DATASET_LABELS, HEADLINE, written

# FairFace's groups by their first year; ages are rounded to whole years first.
STARTS = (0, 3, 10, 20, 30, 40, 50, 60, 70)
AGE_GROUPS = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
HEADLINES = HEADLINE | {"age_group": "accuracy"}
KEYS = ["task", "metric"]
COLUMNS = (
    "run label dataset cropped task metric value ci_low ci_high n baseline in_domain found".split()
)
CROPS = {False: "as it is", True: "as in training"}
PAGE_COLUMNS = (
    "faces of,network,age as it is,age as in training,80 % interval holds,gender as it is,"
    "gender as in training,baseline age,baseline gender"
).split(",")


def age_group(years):
    """Name of FairFace's age group of each age in years."""
    whole = np.floor(np.maximum(np.asarray(years, float), 0) + 0.5)
    return np.array(AGE_GROUPS, object)[np.searchsorted(STARTS, whole, side="right") - 1]


def _scored(faces, drawn):
    """All metrics of one file, each beside the best constant answer on the same faces."""
    # There may be no training part: the constant is fitted on these faces, so it is a hard one.
    guess = baseline(faces.assign(split="train"), ("train",)).set_index(KEYS)["value"]
    table = intervals(faces, drawn).join(guess.rename("baseline"), on=KEYS)
    if "age_group" in faces:
        # Ages are the middles of groups, and 20-29 straddles two bins: bins mean nothing there.
        table = table[(table["task"] != "age_bin") & (table["metric"] != "cs5")]
        right = age_group(faces["pred_age"]) == faces["age_group"].to_numpy()
        row = {"task": "age_group", "metric": "accuracy"} | drawn.mean(right, right | True)
        row["baseline"] = faces["age_group"].value_counts(normalize=True).max()
    elif set(AGE_INTERVAL) <= set(faces):
        held = faces["age"].between(*(faces[name] for name in AGE_INTERVAL)).to_numpy()
        held = drawn.mean(held, faces["age"].notna().to_numpy())
        row = {"task": "age", "metric": "coverage"} | held
    else:
        return table
    return pd.concat([table, pd.DataFrame([row])], ignore_index=True)


def _in_domain(study, run):
    """Test values of the run on its own data set, by task and metric."""
    if run not in study.predictions:
        return pd.Series(dtype=float, name="in_domain")
    test = part(study.predictions[run], "test")
    values = evaluate(test, ("test",)).set_index(KEYS)["value"]
    if "pred_age" in test:
        right = age_group(test["pred_age"]) == age_group(test["age"])
        values["age_group", "accuracy"] = float(right[test["age"].notna()].mean())
    return values.rename("in_domain")


def cross_dataset(study, resamples=2000, seed=129):
    """Every run on every other data set, with and without training's crop.

    `COLUMNS`: baseline is the best constant answer on the same faces, in_domain the value on the
    run's own test faces, found the share of faces that the detector found (else scored whole).
    """
    parts = [pd.DataFrame(columns=COLUMNS)]
    for name, faces in study.cross_dataset.items():
        run, _, dataset = name.partition("@")
        about = {"run": run, "label": study.label(run), "dataset": dataset.removesuffix("-cropped")}
        about["cropped"] = dataset.endswith("-cropped")
        about["found"] = float(faces["found"].mean()) if "found" in faces else np.nan
        table = _scored(faces, draw(faces, None, resamples, seed)).assign(**about)
        parts.append(table.join(_in_domain(study, run), on=KEYS)[COLUMNS])
    every = pd.concat(parts[1:] or parts, ignore_index=True)
    return every.sort_values(["dataset", "run", "cropped"], kind="stable", ignore_index=True)


def cross_dataset_readable(table):
    """Age error (years) and gender accuracy (%) of `cross_dataset` as text: `PAGE_COLUMNS`.

    The age interval is that on faces cropped as in training.
    """
    rows, headline = [], table["metric"] == table["task"].map(HEADLINE)
    held = (table["metric"] == "coverage") & table["cropped"].astype(bool)
    shown = table[(headline & table["task"].isin(["age", "gender"])) | held]
    for (dataset, _), here in shown.groupby(["dataset", "run"], sort=False):
        told = {"faces of": DATASET_LABELS.get(dataset, dataset), "network": here["label"].iloc[0]}
        for row in here.to_dict("records"):
            task, metric, ends = row["task"], row["metric"], (row["ci_low"], row["ci_high"])
            if metric == "coverage":
                told["80 % interval holds"] = written(row["value"], *ends, metric)
                continue
            told[f"{task} {CROPS[row['cropped']]}"] = written(row["value"], *ends, metric)
            told[f"baseline {task}"] = written(row["baseline"], metric=metric)
        rows.append(told)
    return pd.DataFrame(rows, columns=PAGE_COLUMNS).fillna("-")
