"""What others report, what this study set out to reach, and what earlier studies claimed.

The values stand in ``references.yaml``, each with its protocol. A claim holds for a protocol: so
the network stands here as it was trained by its authors' protocol, with their random split, then
on those of its test faces that have no near-duplicate in training, and as this study trains it.
"""

from pathlib import Path

import pandas as pd
import yaml

from utils.evaluation.bootstrap import intervals
from utils.evaluation.columns import part
from utils.evaluation.random_split import leaked
from utils.evaluation.tables import BEST, best_row, networks
from utils.vocabulary import HEADLINE, IN_YEARS, LOWER_IS_BETTER, OWN_NETWORKS

_KNOWN = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def references(dataset=None, drawn=False):
    """Claimed and published values, of a data set alone if asked; as in ``references.yaml``.

    `kind` is `claim` (of a study that this one re-does), `published` or `unverified`; `drawn` those
    that figures show: others crowd them, come without a split, or are for other faces.
    """
    table = pd.DataFrame(_KNOWN["references"])
    table = table.assign(drawn=table["drawn"].eq(True))
    table = table if dataset is None else table[table["dataset"] == dataset]
    return table[table["drawn"] | (not drawn)].reset_index(drop=True)


def goals(comparison, dataset):
    """Goals of one network, by the best one of each task, and of the ensemble.

    Columns `of` (who is to reach it), `BEST`, goal, met, and the same in words.
    """
    rows, mean = [], comparison[comparison["protocol"] == "ensemble"]
    kinds = {"goals": ("one network", networks(comparison))}
    kinds["ensemble_goals"] = ("mean of networks", mean)
    for kind, (of, table) in kinds.items():
        for task, goal in _KNOWN[kind].get(dataset, {}).items():
            row = best_row(table, task)
            if row is not None:
                sign = -1 if HEADLINE[task] in LOWER_IS_BETTER else 1
                missing, years = sign * (goal - row["value"]), HEADLINE[task] in IN_YEARS
                told = f"{missing:.3f} years" if years else f"{100 * missing:.1f} points"
                met = {"told": f"no, by {told}" if missing > 0 else "yes"}
                rows.append({**row, "of": of, "goal": goal, "met": bool(missing <= 0), **met})
    return pd.DataFrame(rows, columns=["of", *BEST, "goal", "met", "told"])


def claims(study, dataset, resamples=2000, seed=129):
    """Claimed against measured values of the earlier study's networks; empty without their runs."""
    keys = ["task", "metric"]
    claimed = references(dataset).query("kind == 'claim'").set_index(keys)
    claimed = claimed.rename(columns={"value": "claim"})[["claim", "protocol"]]
    columns = "task metric claim protocol label epochs faces value ci_low ci_high n".split()
    splits, parts = study.splits.get(dataset), [pd.DataFrame(columns=columns)]
    for run, told in sorted(study.configs.items()):
        ours = told.get("dataset") == dataset and told.get("model") in OWN_NETWORKS.values()
        if not ours or run not in study.predictions:
            continue
        tested = {"all test faces": part(study.predictions[run], "test")}
        if told.get("split") == "random" and splits is not None:
            alone = tested["all test faces"][~leaked(study.predictions[run], splits)]
            tested["test faces without a near-duplicate in training"] = alone
        about = {"label": study.label(run), "epochs": told.get("epochs")}
        for faces, table in tested.items():
            scored = intervals(table, splits, n=resamples, seed=seed)
            scored = scored.join(claimed, on=keys, how="inner").assign(faces=faces, **about)
            parts.append(scored[columns])
    found = pd.concat(parts[1:] or parts, ignore_index=True)
    return found.sort_values(["task", "epochs", "label"], kind="stable", ignore_index=True)
