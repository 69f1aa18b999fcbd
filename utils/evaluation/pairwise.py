"""Which of two models is better, and could it be chance?

Both are scored on the same faces, with the same resamples of duplicate groups (paired bootstrap).
McNemar's (1947) test looks at the faces on which one is right and the other wrong. p-values of
many pairs are corrected by Holm's (1979) method. All pairs are exploratory, but for the family
declared before it was looked at: backbones trained alike (`primary`). There chance enters by
another training and by other faces, so seeds are drawn first, then groups (two-level bootstrap).
"""

from itertools import combinations

import numpy as np
import pandas as pd
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from utils.evaluation.bootstrap import draw, gap, interval, over_seeds, scored
from utils.evaluation.columns import aligned, known, predicted, tasks_of, truth
from utils.evaluation.metrics import WITHIN_YEARS
from utils.files import DataError
from utils.vocabulary import HEADLINE, IN_YEARS, LOWER_IS_BETTER

ALPHA = 0.05
MARGINS = {"years": 0.15, "share": 0.01}  # differences that matter to nobody
PRIMARY = (
    "task metric a b value_a value_b seeds_a seeds_b difference ci_low ci_high p p_holm margin "
    "low_90 high_90 equivalent verdict n"
).split()


def common_faces(predictions, task):
    """The test faces with label and prediction in all tables (by run), in the same order."""
    tested = {run: table[table["split"] == "test"] for run, table in predictions.items()}
    tested = {run: faces for run, faces in tested.items() if task in tasks_of(faces)}
    tested = {run: faces[known(faces, task)] for run, faces in tested.items()}
    # A table with less than half of the faces of the largest would cost all others theirs.
    half = max(map(len, tested.values()), default=0) / 2
    tested = {run: faces for run, faces in tested.items() if len(faces) >= half}
    return dict(zip(tested, aligned(tested.values()), strict=True)) if tested else {}


def mcnemar(right_a, right_b):
    """Faces that only one of two (bool [n]) has right, and McNemar's two-sided p-value.

    Exact (binomial) for fewer than 25 such faces, else by the chi-squared test with Edwards' (1948)
    correction. Faces count as independent.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    if only_a == only_b:  # statsmodels' corrected statistic is 1 / n here, and p below 1
        return only_a, only_b, 1.0
    table = [[0, only_a], [only_b, 0]]
    found = contingency_tables.mcnemar(table, exact=only_a + only_b < 25, correction=True)
    return only_a, only_b, float(found.pvalue)


def holm(p):
    """Holm's step-down correction of p-values, in the order given."""
    return multipletests(np.asarray(p, float), method="holm")[1] if len(p) else p


def compare(predictions, task, groups=None, n=2000, seed=129, systems=None):
    """All pairs of models (predictions by run) on the headline metric and test faces they share.

    `systems` are the runs of each model, by the one that stands for it, if some have several seeds.
    One row a pair: a, b, values, difference (a minus b) with 95 % interval, p and p_holm of the
    paired bootstrap over seeds, if several, and `groups`; only_a, only_b, p_mcnemar,
    p_mcnemar_holm, of the runs a and b alone; n faces.
    """
    tables, metric, rows, found = common_faces(predictions, task), HEADLINE[task], [], {}
    systems = systems or {run: [run] for run in tables}
    systems = {run: [r for r in some if r in tables] for run, some in systems.items()}
    systems = {run: some for run, some in systems.items() if run in some}
    if len(systems) < 2:
        return pd.DataFrame()
    first = next(iter(tables.values()))
    if first.empty:
        raise DataError(f"{task}: {', '.join(tables)} share no test face")
    drawn = draw(first, groups, n, seed)
    for number, (run, some) in enumerate(systems.items()):
        values = [scored(tables[one], drawn, task, metric) for one in some]
        found[run] = over_seeds(values, (seed, number))
    most = WITHIN_YEARS if task == "age" else 0  # what still counts as right
    right = {r: np.abs(predicted(f, task) - truth(f, task)) <= most for r, f in tables.items()}
    for a, b in combinations(found, 2):
        row = {"a": a, "b": b, "task": task, "metric": metric}
        row |= {"value_a": found[a][0], "value_b": found[b][0], **gap(found[a], found[b])}
        row["only_a"], row["only_b"], row["p_mcnemar"] = mcnemar(right[a], right[b])
        rows.append(row | {"n": len(first)})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"]), p_mcnemar_holm=holm(table["p_mcnemar"]))


def letters(pairs, runs):
    """Letters of some runs of `compare`, ``a`` the best; who share one do not differ (Piepho 2004).

    Holm's correction is over the pairs of these runs.
    """
    pairs = pairs[pairs["a"].isin(runs) & pairs["b"].isin(runs)]
    if pairs.empty:
        return {}
    pairs = pairs.assign(p_holm=holm(pairs["p"]))
    values = pairs.set_index("a")["value_a"].to_dict() | pairs.set_index("b")["value_b"].to_dict()
    lower = pairs["metric"].iloc[0] in LOWER_IS_BETTER
    order = sorted(values, key=values.get, reverse=not lower)
    sets = {frozenset(order)}
    for row in pairs[pairs["p_holm"] < ALPHA].itertuples():
        split = {s - {run} for s in sets if {row.a, row.b} <= s for run in (row.a, row.b)}
        every = split | {s for s in sets if not {row.a, row.b} <= s}
        sets = {s for s in every if not any(s < other for other in every)}
    ranked = sorted(sets, key=lambda s: sorted(map(order.index, s)))
    return {run: "".join(chr(97 + k) for k, s in enumerate(ranked) if run in s) for run in order}


def within_chance(pairs, run, task):
    """Runs whose difference to `run` in `compare` is within chance, by the rule of `letters`."""
    if pairs.empty:
        return []
    rows = pairs[(pairs["task"] == task) & (pairs["p_holm"] >= ALPHA)]
    return [*rows.loc[rows["a"] == run, "b"], *rows.loc[rows["b"] == run, "a"]]


def family(study, wanted):
    """Runs by backbone whose configuration has all `wanted` values: {model: [run, ...]}."""
    found, wanted = {}, (wanted | {"split": "group"}).items()
    for run, config in sorted(study.configs.items()):
        fits = all(config.get(name) == value for name, value in wanted)
        if fits and config.get("study") != "ablation" and run in study.predictions:
            found.setdefault(config["model"], []).append(run)
    return found


def _verdict(row):
    """What may be said of a pair: a difference needs seeds too, no difference needs a margin."""
    if min(row["seeds_a"], row["seeds_b"]) < 2:
        return "not established (trained once)"
    if row["p_holm"] < ALPHA:
        return "differ" + ", by less than the margin" * row["equivalent"]
    return "equivalent" if row["equivalent"] else "not established"


def primary(study, wanted, splits=None, n=2000, seed=129):
    """All pairs of the family on each task, `PRIMARY`; empty with fewer than two backbones.

    `difference` is a minus b, with its 95 % interval; p by its bootstrap standard error, corrected
    by Holm over the whole family. `equivalent`: both one-sided tests at 5 % against the margin
    (0.15 years, 1 point), which is the 90 % interval inside it.
    """
    runs, rows = family(study, wanted), []
    held = {run: study.predictions[run] for some in runs.values() for run in some}
    for task, metric in HEADLINE.items():
        tables, found = common_faces(held, task), {}
        for number, (model, some) in enumerate(runs.items()):
            own = [tables[run] for run in some if run in tables]
            values = [scored(f, draw(f, splits, n, seed), task, metric) for f in own]
            if values:
                found[model] = len(values), *over_seeds(values, (seed, number))
        margin = MARGINS["years" if metric in IN_YEARS else "share"]
        for a, b in combinations(found, 2):
            (seeds_a, *of_a), (seeds_b, *of_b) = found[a], found[b]
            low, high = interval(of_a[1] - of_b[1], 0.90)
            row = {"task": task, "metric": metric, "a": a, "b": b, "margin": margin}
            row |= {"seeds_a": seeds_a, "seeds_b": seeds_b, "value_a": of_a[0], "value_b": of_b[0]}
            row |= {"low_90": low, "high_90": high, "equivalent": -margin < low and high < margin}
            rows.append(row | gap(of_a, of_b) | {"n": len(next(iter(tables.values())))})
    table = pd.DataFrame(rows).reindex(columns=PRIMARY)
    table["p_holm"] = holm(table["p"])
    table["verdict"] = [_verdict(row) for row in table.to_dict("records")]
    return table
