"""What the labels allow: disagreement inside duplicate groups, labels in doubt, heaping of ages.

Of two files that show the same picture with different labels, one is wrong, and no model can agree
with both. For label errors that strike the duplicates alike and independently follows:

* classes: P(labels differ) <= 2 P(a label is wrong), so accuracy <= 1 - P(differ) / 2;
* years: |a - b| <= |a - t| + |b - t|, so mean absolute error >= mean |a - b| / 2;
* within 5 years: |a - b| > 10 means that one is off by more than 5, so cs5 <= 1 - P(.) / 2.

They are an indication, no law: duplicates may be labelled worse than other pictures.
"""

from itertools import product

import numpy as np
import pandas as pd

from utils.evaluation.bootstrap import Resamples, interval
from utils.evaluation.columns import aligned, known, predicted, probabilities, tasks_of, truth
from utils.vocabulary import CLASSES, HEADLINE, METRICS, TASKS, truth_column

KINDS = ("identical files", "near-duplicates")
FAR = 10  # years; of labels that differ by more, one is off by more than 5


def _twins(table, tasks):
    """Of each task the faces with a known label that share their group with another such face."""
    for task in (task for task in tasks if truth_column(task) in table):
        rows = table[table[truth_column(task)].notna()]
        twins = rows[rows.groupby("group")["group"].transform("size") > 1].reset_index(drop=True)
        if len(twins):
            yield task, twins


def suspects(tables, least=0.9, years=20):
    """Faces whose label every network contradicts with confidence, for those who clean the set.

    `tables` are predictions of networks of different kinds. Contradicted is a class to which none
    gives more than 1 - `least` while all give `least` to the same other one, or an age that all
    miss by `years` or more to the same side. Columns image, split, task, label, answer (class, or
    mean of the ages) and confidence (the smallest; none for age).
    """
    rows, tables = [], aligned(tables)
    for task in (task for task in tasks_of(tables[0]) if task != "age_bin"):
        label, use = truth(tables[0], task), known(tables[0], task)
        if task == "age":
            off = np.array([predicted(table, task) for table in tables]) - label
            found = use & (np.abs(off).min(axis=0) >= years) & (np.ptp(np.sign(off), axis=0) == 0)
            said, sure = (label + off.mean(axis=0)).round(1), np.full(len(label), np.nan)
        else:
            p = np.array([probabilities(table, task) for table in tables]).min(axis=0)
            found = use & (p.max(axis=1) >= least) & (p.argmax(axis=1) != label)
            said, sure = np.array(CLASSES[task])[p.argmax(axis=1)], p.max(axis=1).round(3)
        kept = tables[0].loc[found, ["image", "split", task]].rename(columns={task: "label"})
        rows.append(kept.assign(task=task, answer=said[found], confidence=sure[found]).astype(str))
    return pd.concat(rows, ignore_index=True)


def label_conflicts(table):
    """Duplicate groups with more than one label: task, groups, conflicts, conflict_share."""
    rows = []
    for task, twins in _twins(table, ("age", "gender", "ethnicity")):
        differs = twins.groupby("group")[task].nunique() > 1
        rows.append((task, len(differs), int(differs.sum()), float(differs.mean())))
    return pd.DataFrame(rows, columns=["task", "groups", "conflicts", "conflict_share"])


def label_noise(table, resamples=2000, seed=129):
    """Best value that any model can be expected to reach against these labels.

    The groups of `table` must be duplicates of one picture, not other pictures of one person.
    Identical files (`same_file`) and merely near ones are told apart in `kind`. Columns task,
    metric, kind, bound (lower for mae, upper for cs5, accuracy), ci_low, ci_high, groups.
    """
    rows = []
    for (task, twins), kind in product(_twins(table, TASKS), KINDS):
        pairs = _label_pairs(twins, task, kind)
        if not pairs:
            continue
        drawn = Resamples(np.arange(len(pairs)), resamples, seed).sums(pairs)
        gap, differs = np.vstack([np.sum(pairs, axis=0), drawn]).T / len(pairs)  # all, then drawn
        for metric in METRICS[task] if task == "age" else (HEADLINE[task],):
            bound = gap / 2 if metric == "mae" else 1 - differs / 2
            rows.append((task, metric, kind, float(bound[0]), *interval(bound[1:]), len(pairs)))
    return pd.DataFrame(rows, columns="task metric kind bound ci_low ci_high groups".split())


def _label_pairs(twins, task, kind):
    """Of each group with such pairs: their mean difference, and how often it counts."""
    file = twins["same_file"] if "same_file" in twins else twins["image"]
    told = pd.DataFrame({"label": truth(twins, task).astype(float), "file": file})
    pairs = []
    for _, rows in told.groupby(twins["group"]):
        labels, files = rows["label"].to_numpy(), rows["file"].to_numpy()
        a, b = np.triu_indices(len(rows), 1)
        wanted = (files[a] == files[b]) == (kind == "identical files")
        gap = np.abs(labels[a] - labels[b])[wanted]
        if len(gap):
            pairs.append((gap.mean(), np.mean(gap > (FAR if task == "age" else 0))))
    return pairs


def heaping_index(ages):
    """Whipple's index: how far ages from 23 to 62 prefer to end in 0 or 5, 100 to 500.

    NaN without ages in the range. Source: United Nations, Demographic Yearbook 1955.
    """
    ages = np.asarray(list(ages), float)
    ages = np.floor(ages[(ages >= 23) & (ages < 63)])
    return float(500 * np.mean(ages % 5 == 0)) if len(ages) else float("nan")
