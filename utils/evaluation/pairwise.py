"""Which of two models is better, and could it be chance?

Both models are scored on the same faces, so the difference is bootstrapped over duplicate groups
with the same resamples for both (paired bootstrap). McNemar's test looks at the faces on which
one is right and the other wrong (McNemar 1947). With many pairs, p-values are corrected by
Holm's (1979) method.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from utils.evaluation.bootstrap import draw, gap, scored
from utils.evaluation.columns import aligned, known, predicted, tasks_of, truth
from utils.evaluation.metrics import WITHIN_YEARS
from utils.files import DataError
from utils.vocabulary import HEADLINE, LOWER_IS_BETTER

ALPHA = 0.05


def common_faces(predictions, task):
    """The test faces with label and prediction in all tables (by run), in the same order.

    Tables that hold less than half of the faces of the largest are left out.
    """
    tested = {run: table[table["split"] == "test"] for run, table in predictions.items()}
    tested = {run: faces for run, faces in tested.items() if task in tasks_of(faces)}
    tested = {run: faces[known(faces, task)] for run, faces in tested.items()}
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


def compare(predictions, task, groups=None, n=2000, seed=129):
    """All pairs of models (predictions by run) on the headline metric and test faces they share.

    One row a pair: a, b, values, difference (a minus b) with 95 % interval, p and p_holm of the
    paired bootstrap over `groups`; only_a, only_b, p_mcnemar, p_mcnemar_holm; n faces.
    """
    tables, metric, rows = common_faces(predictions, task), HEADLINE[task], []
    if len(tables) < 2:
        return pd.DataFrame()
    first = next(iter(tables.values()))
    if first.empty:
        raise DataError(f"{task}: {', '.join(tables)} share no test face")
    drawn = draw(first, groups, n, seed)
    found = {run: scored(faces, drawn, task, metric) for run, faces in tables.items()}
    most = WITHIN_YEARS if task == "age" else 0  # what still counts as right
    off = {run: np.abs(predicted(f, task) - truth(f, task)) for run, f in tables.items()}
    for a, b in combinations(tables, 2):
        row = {"a": a, "b": b, "task": task, "metric": metric}
        row |= {"value_a": found[a][0], "value_b": found[b][0], **gap(found[a], found[b])}
        row["only_a"], row["only_b"], row["p_mcnemar"] = mcnemar(off[a] <= most, off[b] <= most)
        rows.append(row | {"n": len(first)})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"]), p_mcnemar_holm=holm(table["p_mcnemar"]))


def letters(pairs):
    """Letters of each run of `compare`: two that share one differ within chance (Piepho 2004).

    Decided by `p_holm` of the paired bootstrap; ``a`` goes to the best run.
    """
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
    if pairs is None or pairs.empty:
        return []
    rows = pairs[(pairs["task"] == task) & (pairs["p_holm"] >= ALPHA)]
    return [*rows.loc[rows["a"] == run, "b"], *rows.loc[rows["b"] == run, "a"]]
