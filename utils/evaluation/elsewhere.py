"""How much of a result stays on other faces, and how much of the loss is the crop alone?

Works from the files of `utils.transfer`: ``elsewhere/<run>@<dataset>[-cropped].parquet``.
"""

import numpy as np
import pandas as pd

from utils.evaluation.baselines import trivial_predictions
from utils.evaluation.bootstrap import Resamples, groups_of, interval, intervals
from utils.evaluation.columns import part
from utils.evaluation.metrics import evaluate
from utils.evaluation.tables import parse_run, run_label, run_table

# FairFace's groups by their first year; ages are rounded to whole years first.
AGE_GROUPS = {
    "0-2": 0,
    "3-9": 3,
    "10-19": 10,
    "20-29": 20,
    "30-39": 30,
    "40-49": 40,
    "50-59": 50,
    "60-69": 60,
    "more than 70": 70,
}
COLUMNS = [
    "run",
    "label",
    "dataset",
    "cropped",
    "task",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "baseline",
    "in_domain",
    "found",
]


def parse_name(name):
    """Run, data set and whether the faces were cut as in training.

    >>> parse_name("utkface-vgg19-head-224-seed129@wiki-cropped")
    ('utkface-vgg19-head-224-seed129', 'wiki', True)
    """
    run, _, rest = name.partition("@")
    return run, rest.removesuffix("-cropped"), rest.endswith("-cropped")


def age_group(years):
    """Name of FairFace's age group of each age in years.

    >>> age_group([2.4, 2.6, 88.0]).tolist()
    ['0-2', '3-9', 'more than 70']
    """
    starts = list(AGE_GROUPS.values())
    whole = np.floor(np.maximum(np.asarray(years, float), 0) + 0.5)
    return np.array(list(AGE_GROUPS), object)[np.searchsorted(starts, whole, side="right") - 1]


def _group_row(faces, drawn):
    """Share of faces in the right age group, with its interval; the baseline is the largest."""
    right = (age_group(faces["pred_age"]) == faces["age_group"].to_numpy())[:, None].astype(float)
    ends = interval(drawn.sums(right)[:, 0] / drawn.sums(np.ones_like(right))[:, 0])
    return {
        "task": "age_group",
        "metric": "accuracy",
        "value": float(right.mean()),
        "n": len(faces),
        "ci_low": float(ends[0]),
        "ci_high": float(ends[1]),
        "baseline": float(faces["age_group"].value_counts(normalize=True).max()),
    }


def _scored(faces, drawn):
    """All metrics of one file, each beside the best constant answer on the same faces."""
    table = intervals(faces, drawn)
    # There may be no training part: the constant is fitted on these faces, so it is a hard one.
    fitted = trivial_predictions(faces.assign(split="train"))
    guess = evaluate(fitted, ("train",)).set_index(["task", "metric"])["value"]
    table = table.join(guess.rename("baseline"), on=["task", "metric"])
    if "age_group" in faces:
        # Ages are the middles of groups, and 20-29 straddles two bins: bins mean nothing there.
        table = table[~(table["task"] == "age_bin") & ~(table["metric"] == "cs5")]
        table = pd.concat([table, pd.DataFrame([_group_row(faces, drawn)])], ignore_index=True)
    return table


def _at_home(study, run):
    """Test values of the run on its own data set."""
    predictions = study.predictions.get(run)
    if predictions is None:
        return pd.Series(dtype=float)
    values = evaluate(predictions, ("test",)).set_index(["task", "metric"])["value"]
    test = part(predictions, "test")
    if "pred_age" in test:
        right = age_group(test["pred_age"]) == age_group(test["age"])
        values["age_group", "accuracy"] = float(right[test["age"].notna()].mean())
    return values


def elsewhere(study, resamples=2000, seed=129):
    """Every run on every other data set, with and without training's crop.

    Parameters
    ----------
    study : utils.runs.Study
    resamples, seed : int
        Of the bootstrap over duplicate groups.

    Returns
    -------
    DataFrame
        Columns run, label, dataset, cropped, task, metric, value, ci_low, ci_high, n, baseline
        (best constant answer on the same faces), in_domain (the run's own test faces), found
        (share of faces that the detector found; the rest was scored whole).
    """
    runs = run_table(study)
    labels, parts = dict(zip(runs["run"], runs["label"], strict=True)), []
    for name in sorted(study.elsewhere, key=lambda name: (parse_name(name)[1], *parse_name(name))):
        faces, (run, dataset, cropped) = study.elsewhere[name], parse_name(name)
        drawn = Resamples(groups_of(faces), resamples, seed)
        table = _scored(faces, drawn).join(
            _at_home(study, run).rename("in_domain"), on=["task", "metric"]
        )
        label = labels.get(run) or run_label(parse_run(run))
        found = float(faces["found"].mean()) if "found" in faces else np.nan
        about = {"run": run, "label": label, "dataset": dataset, "cropped": cropped, "found": found}
        parts.append(table.assign(**about))
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def readable(table):
    """`elsewhere` as text for a page: headline metrics, one row a run, data set and crop."""
    rows = table[table["metric"].isin(["mae", "accuracy"])]
    shown = []
    keys = ["dataset", "label", "cropped"]
    for (dataset, label, cropped), of_one in rows.groupby(keys, sort=False):
        row = {"faces of": dataset, "model": label}
        row["crop"] = "as in training" if cropped else "as it is"
        row["faces"] = f"{of_one['n'].max():,}"
        for one in of_one.itertuples():
            title = f"{one.task.replace('_', ' ')} {'MAE' if one.metric == 'mae' else '%'}"
            row[title] = _cell(one)
        shown.append(row)
    return pd.DataFrame(shown).fillna("-")


def _cell(one):
    scale, digits = (1, 2) if one.metric == "mae" else (100, 1)

    def text(value):
        return "-" if pd.isna(value) else f"{scale * value:.{digits}f}"

    span = f"[{text(one.ci_low)}, {text(one.ci_high)}]"
    return f"{text(one.value)} {span}; at home {text(one.in_domain)}; guess {text(one.baseline)}"
