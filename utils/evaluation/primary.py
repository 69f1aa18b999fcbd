"""Which backbone? The one family of comparisons that was declared before it was looked at.

Backbones trained alike (a profile's ``primary``), all pairs, each task. Chance enters twice: by
another training, and by other test faces. So seeds are drawn first, then groups of near-duplicates,
the same groups for all networks (two-level bootstrap). All else is exploratory.
"""

from itertools import combinations

import numpy as np
import pandas as pd

from utils.evaluation.bootstrap import draw, gap, interval, scored
from utils.evaluation.pairwise import ALPHA, common_faces, holm
from utils.vocabulary import HEADLINE, IN_YEARS, TASKS

MARGINS = {"years": 0.15, "share": 0.01}  # differences that matter to nobody
COLUMNS = (
    "task metric a b value_a value_b seeds_a seeds_b difference ci_low ci_high p p_holm margin "
    "equivalent verdict n"
).split()


def family(study, wanted):
    """Runs by backbone whose configuration has all `wanted` values: {model: [run, ...]}."""
    found = {}
    for run, config in sorted(study.configs.items()):
        fits = all(config.get(name) == value for name, value in wanted.items())
        if fits and config.get("split") == "group" and config.get("study") != "ablation":
            found.setdefault(config["model"], []).append(run)
    return found


def _over_seeds(values, rng):
    """Mean of a metric over seeds, and its resampled values: seeds drawn, then averaged.

    `values` are (value, resampled values [n]), one a seed.
    """
    spread = np.stack([resampled for _, resampled in values])
    n = spread.shape[1]
    drawn = rng.integers(0, len(values), (len(values), n))
    return float(np.mean([value for value, _ in values])), spread[drawn, np.arange(n)].mean(axis=0)


def _verdict(row):
    """What may be said of a pair: a difference needs seeds too, no difference needs a margin."""
    if min(row["seeds_a"], row["seeds_b"]) < 2:
        return "not established (trained once)"
    if row["p_holm"] < ALPHA:
        return "differ" + ", by less than the margin" * row["equivalent"]
    return "equivalent" if row["equivalent"] else "not established"


def primary(study, wanted, splits=None, n=2000, seed=129):
    """All pairs of the family on each task, `COLUMNS`; empty with fewer than two backbones.

    `difference` is a minus b, with its 95 % interval; p by its bootstrap standard error, corrected
    by Holm over the whole family. `equivalent`: both one-sided tests at 5 % against the margin
    (0.15 years, 1 point), which is the 90 % interval inside it.
    """
    runs, rows = family(study, wanted), []
    models = {run: model for model, held in runs.items() for run in held}
    for task in TASKS:
        tables = {run: study.predictions[run] for run in models if run in study.predictions}
        tables, metric = common_faces(tables, task), HEADLINE[task]
        if len({models[run] for run in tables}) < 2:
            continue
        drawn = draw(next(iter(tables.values())), splits, n, seed)
        every = {run: scored(faces, drawn, task, metric) for run, faces in tables.items()}
        found = {}
        for number, (model, held) in enumerate(runs.items()):
            own = [every[run] for run in held if run in every]
            found |= {model: (len(own), *_over_seeds(own, _rng(seed, number)))} if own else {}
        margin = MARGINS["years" if metric in IN_YEARS else "share"]
        for a, b in combinations(found, 2):
            row = {"task": task, "metric": metric, "a": a, "b": b, "margin": margin}
            row |= {"seeds_a": found[a][0], "seeds_b": found[b][0]}
            row |= {
                "value_a": found[a][1],
                "value_b": found[b][1],
                **gap(found[a][1:], found[b][1:]),
            }
            low, high = interval(found[a][2] - found[b][2], 0.90)
            row |= {"equivalent": -margin < low and high < margin}
            rows.append(row | {"n": len(next(iter(tables.values())))})
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    table["p_holm"] = holm(table["p"])
    table["verdict"] = [_verdict(row) for row in table.to_dict("records")]
    return table


def _rng(seed, number):
    return np.random.default_rng([seed, number])
