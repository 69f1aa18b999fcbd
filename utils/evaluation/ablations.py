"""What is each choice worth? Differences to a reference that differs in one thing.

Works from predictions alone. Which runs belong together stands in ``profiles/ablations.yaml``.
Choices are judged on validation faces; the same difference on test faces stands beside it.
Variant and reference are scored on the same faces with the same resamples of duplicate groups
(paired cluster bootstrap). Where the split is what differs, their faces differ, and the two are
resampled apart.
"""

import re

import numpy as np
import pandas as pd

from utils.ablations import Ablation, Variant
from utils.evaluation.bootstrap import Resamples, groups_of, interval, metric_resamples
from utils.evaluation.columns import (
    CLASSES,
    HEADLINE,
    TASK_LABELS,
    TASKS,
    known,
    part,
    probability_columns,
    tasks_of,
)
from utils.evaluation.metrics import evaluate, metrics_from, statistics
from utils.evaluation.pairwise import bootstrap_p, holm
from utils.evaluation.tables import comparable, run_table, systems

SPLITS = ("val", "test")
ENSEMBLE = "ensemble"
CHANCE = " (may be chance)"
FACES = {"val": "validation", "test": "test"}
COLUMNS = [
    "ablation",
    "variant",
    "task",
    "metric",
    "split",
    "value",
    "ci_low",
    "ci_high",
    "reference",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "p_holm",
    "paired",
    "seed_sd",
    "n",
    "run",
    "reference_run",
]


class Scores:
    """Headline values of runs with their resamples; each set of faces is resampled once.

    Parameters
    ----------
    predictions : dict of str to DataFrame
    splits : DataFrame, optional
        Columns image and group.
    resamples, seed : int
    """

    def __init__(self, predictions, splits=None, resamples=2000, seed=129):
        self.predictions, self.splits = predictions, splits
        self.resamples, self.seed = resamples, seed
        self._drawn, self._known = {}, {}

    def of(self, run, split):
        """Images of the faces and, by task, (value, resampled values, n); None without faces."""
        if (run, split) not in self._known:
            table = self.predictions.get(run)
            there = table is not None and (table["split"] == split).any()
            self._known[run, split] = self._score(table, split) if there else None
        return self._known[run, split]

    def _score(self, table, split):
        faces = part(table, split).sort_values("image", ignore_index=True)
        images = tuple(faces["image"])
        if images not in self._drawn:
            groups = groups_of(faces, self.splits)
            self._drawn[images] = Resamples(groups, self.resamples, self.seed)
        spread = metric_resamples(faces, self._drawn[images])
        found = {}
        for task in tasks_of(faces):
            value = metrics_from(task, statistics(faces, task).sum(axis=0))[HEADLINE[task]]
            n = int(known(faces, task).sum())
            found[task] = (float(value), spread[task, HEADLINE[task]], n)
        return images, found

    def seed_sd(self, run, split, task):
        """Standard deviation of a headline value over the seeds of a run; NaN with one seed."""
        same = re.sub(r"-seed\d+", "", run)
        runs = [name for name in self.predictions if re.sub(r"-seed\d+", "", name) == same]
        found = [self.of(name, split) for name in runs]
        values = [one[1][task][0] for one in found if one and task in one[1]]
        return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def compared(scores, ablation):
    """Rows of one ablation: every variant that was run, the reference first.

    Parameters
    ----------
    scores : Scores
    ablation : utils.ablations.Ablation

    Returns
    -------
    list of dict
        Keys of `COLUMNS` but p_holm; empty where the reference or all other variants are missing.
    """
    first, *others = ablation.variants
    there = [one for one in others if scores.of(one.run, "val") or scores.of(one.run, "test")]
    rows = []
    for split in SPLITS:
        base = scores.of(first.run, split)
        for variant in (first, *there) if base and there else ():
            found = scores.of(variant.run, split)
            for task in TASKS if found else ():
                if task in found[1] and task in base[1] and task in variant.tasks:
                    row = _row(found, base, task, variant is first)
                    row |= {"ablation": ablation.name, "variant": variant.label, "split": split}
                    row |= {"run": variant.run, "reference_run": first.run}
                    row["seed_sd"] = scores.seed_sd(first.run, split, task)
                    rows.append(row)
    return rows


def _row(found, base, task, is_reference):
    (images, own), (others, theirs) = found, base
    value, spread, n = own[task]
    ends = interval(spread)
    row = {"task": task, "metric": HEADLINE[task], "value": value, "n": n}
    row |= {"ci_low": ends[0], "ci_high": ends[1], "reference": theirs[task][0]}
    if is_reference:
        return row
    paired = images == others
    # On other faces a resample must not meet its own number: both were drawn with one seed.
    gaps = spread - (theirs[task][1] if paired else np.roll(theirs[task][1], 1))
    gap, ends = value - theirs[task][0], interval(gaps)
    row |= {"difference": gap, "difference_low": ends[0], "difference_high": ends[1]}
    return row | {"p": bootstrap_p(gap, gaps), "paired": paired}


def ensemble_members(study, plan, dataset):
    """Of each network of the plan the run with the smallest age error on validation faces.

    Returns
    -------
    dict of str to str
        Run -> label, best first; only runs on the group-aware split with every task, and of each
        system its lowest seed.
    """
    runs = run_table(study)
    runs = runs[(runs["dataset"] == dataset) & (runs["split"] == "group")]
    rows = []
    for row in systems(runs[runs["model"].isin(plan.ensemble)]).to_dict("records"):
        table = study.predictions.get(row["run"])
        if table is None or not (table["split"] == "val").any():
            continue
        if set(tasks_of(part(table, "val"))) == set(TASKS):
            scored = evaluate(table, ("val",))
            row["mae"] = scored.loc[scored["metric"] == "mae", "value"].iloc[0]
            rows.append(row)
    rows = sorted(rows, key=lambda row: row["mae"])
    best = {row["model"]: row for row in reversed(rows)}  # the last one put in is the best
    chosen = sorted(best.values(), key=lambda row: row["mae"])
    return {row["run"]: row["label"] for row in chosen}


def ensemble_predictions(tables):
    """Mean of several predictions of the same faces.

    Parameters
    ----------
    tables : list of DataFrame
        Each with val and test faces, `pred_age` and the probabilities of every task.

    Returns
    -------
    DataFrame
        Validation and test faces that all tables hold.
    """
    columns = ["pred_age", *(name for task in CLASSES for name in probability_columns(task))]
    parts = [t[t["split"].isin(SPLITS)].drop_duplicates("image").set_index("image") for t in tables]
    shared = sorted(set.intersection(*(set(one.index) for one in parts)))
    parts = [one.loc[shared] for one in parts]
    truth = parts[0][["split", "age", "gender", "ethnicity"]]
    mean = np.mean([one[columns].to_numpy(float) for one in parts], axis=0)
    return truth.join(pd.DataFrame(mean, index=shared, columns=columns)).reset_index(names="image")


def _ensemble(study, plan, dataset):
    """The ensemble as an ablation of its best member, and its predictions; None without two."""
    members = ensemble_members(comparable(study), plan, dataset)
    if len(members) < 2:
        return None
    best = next(iter(members))
    names = "; ".join(members.values())
    question = f"The mean of {len(members)} networks ({names})"
    variants = (
        Variant(members[best], name=best),
        Variant("mean of the networks", name=ENSEMBLE),
    )
    return Ablation(ENSEMBLE, question, variants), [study.predictions[run] for run in members]


def ablations(study, plan, resamples=2000, seed=129):
    """All ablations of a study.

    Parameters
    ----------
    study : utils.runs.Study
        With the runs of ablations.
    plan : utils.ablations.Plan
    resamples, seed : int

    Returns
    -------
    table : DataFrame
        `COLUMNS`: one row a variant, task and split. `difference` is variant minus reference, in
        years or as a share; `p_holm` corrects over all differences of one task and split.
        `seed_sd` is the standard deviation of the reference over its seeds.
    questions : dict of str to str
        By name of the ablations in the table.
    missing : list of (str, str)
        Ablations that cannot be shown, or lack variants, and why.
    """
    every, predictions = list(plan.ablations), dict(study.predictions)
    mean = _ensemble(study, plan, plan.dataset) if plan.ensemble else None
    if mean:
        every.append(mean[0])
        predictions[ENSEMBLE] = ensemble_predictions(mean[1])
    scores = Scores(predictions, study.splits.get(plan.dataset), resamples, seed)
    rows = [row for one in every for row in compared(scores, one)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    for _, group in table[table["p"].notna()].groupby(["task", "split"]):
        table.loc[group.index, "p_holm"] = holm(group["p"].astype(float))
    shown = set(table["ablation"])
    questions = {one.name: one.question for one in every if one.name in shown}
    missing = [
        (f"{plan.dataset}_ablation_{one.name}", f"not run: {', '.join(lacking)}")
        for one in plan.ablations
        if (lacking := [v.run for v in one.variants if v.run not in predictions])
    ]
    return table, questions, missing


def readable(table):
    """The table as text for a page: value (difference), starred where beyond chance (Holm, 5 %).

    Returns
    -------
    DataFrame
        Columns ablation, variant, faces and one for each task; the reference has no difference.
    """
    keys = ["ablation", "variant", "split"]
    rows = []
    for (name, variant, split), part_ in table.groupby(keys, sort=False):
        row = {"ablation": name.replace("_", " "), "variant": variant, "faces": FACES[split]}
        cells = {one.task: _cell(one) for one in part_.itertuples()}
        for task in TASKS:
            title = "age, years" if task == "age" else f"{TASK_LABELS[task]}, %"
            row[title] = cells.get(task, "-")
        rows.append(row)
    return pd.DataFrame(rows)


def _cell(row):
    scale, digits = (1, 2) if row.task == "age" else (100, 1)
    text = f"{scale * row.value:.{digits}f}"
    if pd.isna(row.difference):
        return text
    star = "*" if row.p_holm < 0.05 else ""
    return f"{text} ({scale * row.difference:+.{digits}f}){star}".replace("-", "\u2212")


def sentences(table, questions):
    """One sentence an ablation, computed from the table.

    Returns
    -------
    DataFrame
        Columns ablation, sentence.
    """
    rows = [
        (name, _sentence(table[table["ablation"] == name], question))
        for name, question in questions.items()
    ]
    return pd.DataFrame(rows, columns=["ablation", "sentence"])


def changed(value, task):
    """A difference with its sign and unit.

    >>> changed(0.125, "age"), changed(-0.0213, "gender")
    ('+0.12 years', '\u22122.1 points')
    """
    text = f"{value:+.2f} years" if task == "age" else f"{100 * value:+.1f} points"
    return text.replace("-", "\u2212")


def _sentence(rows, question):
    split = "val" if (rows["split"] == "val").any() else "test"
    here = rows[rows["split"] == split]
    reference = here[here["run"] == here["reference_run"]]
    gaps = here[here["difference"].notna()]
    name = reference["variant"].iloc[0] if len(reference) else "the reference"
    parts = [_change(one, label) for label, one in gaps.groupby("variant", sort=False)]
    text = f"{question}: against \u2018{name}\u2019, {'; '.join(parts)} "
    text += f"({int(here['n'].max()):,} {FACES[split]} faces)"
    return text + _agreement(rows, gaps) + _seeds(gaps) + "."


def _change(gaps, label):
    """What a variant changes: the age error with its interval, and the range of accuracies."""
    parts = []
    for row in gaps[gaps["task"] == "age"].itertuples():
        ends = f"[{row.difference_low:+.2f}, {row.difference_high:+.2f}]".replace("-", "\u2212")
        text = f"the age error by {changed(row.difference, 'age')} {ends}"
        parts.append(text + ("" if row.p_holm < 0.05 else CHANCE))
    shares = gaps[gaps["task"] != "age"].sort_values("difference")
    if len(shares) == 1:
        row = shares.iloc[0]
        low, high = (f"{100 * row[f'difference_{end}']:+.1f}" for end in ("low", "high"))
        ends = f"[{low}, {high}]".replace("-", "\u2212")
        text = f"the accuracy of {TASK_LABELS[row['task']]} by "
        text += f"{changed(row['difference'], row['task'])} {ends}"
        parts.append(text + ("" if row["p_holm"] < 0.05 else CHANCE))
    elif len(shares):
        low, high = shares.iloc[0], shares.iloc[-1]
        text = f"accuracies by {changed(low['difference'], low['task'])} "
        text += f"({TASK_LABELS[low['task']]}) to {changed(high['difference'], high['task'])} "
        text += f"({TASK_LABELS[high['task']]})"
        clear = [TASK_LABELS[row.task] for row in shares.itertuples() if row.p_holm < 0.05]
        some = f", beyond chance only in {' and '.join(clear)}" if clear else CHANCE
        parts.append(text + (some if len(clear) < len(shares) else ""))
    return f"\u2018{label}\u2019 changes {' and '.join(parts)}"


def _agreement(rows, gaps):
    """Whether test faces confirm the signs of what is beyond chance on validation faces."""
    test = rows[(rows["split"] == "test") & rows["difference"].notna()]
    clear = gaps[(gaps["split"] == "val") & (gaps["p_holm"] < 0.05)]
    both = clear.merge(test, on=["variant", "task"], suffixes=("", "_test"))
    if both.empty:
        return ""
    same = int((np.sign(both["difference"]) == np.sign(both["difference_test"])).sum())
    return f"; test faces confirm the sign of {same} of {len(both)} differences beyond chance"


def _seeds(gaps):
    spread = gaps.dropna(subset=["seed_sd"]).groupby("task")["seed_sd"].first()
    if spread.empty:
        return ""
    shares = spread.drop("age", errors="ignore")
    parts = [f"{spread['age']:.2f} years"] if "age" in spread else []
    parts += [f"up to {100 * shares.max():.1f} points"] if len(shares) else []
    return f"; the reference's standard deviation over seeds is {' and '.join(parts)}"
