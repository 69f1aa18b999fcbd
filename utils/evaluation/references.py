"""What others report, what this study set out to reach, and what earlier studies claimed.

The values stand in ``references.yaml``, each with its protocol. A claim holds for a protocol: so
the network stands here as it was trained by its authors' protocol, with their random split, then
on those of its test faces that have no near-duplicate in training, and as this study trains it.
"""

from pathlib import Path

import pandas as pd
import yaml

from utils.evaluation.bootstrap import Resamples, groups_of, intervals
from utils.evaluation.columns import part
from utils.evaluation.random_split import leaked
from utils.evaluation.tables import BEST, best, run_table
from utils.vocabulary import HEADLINE, LOWER_IS_BETTER, OWN_NETWORKS, TASKS

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
    """Goals of one network against the best one of each task: columns `BEST`, goal and met."""
    wanted, rows = _KNOWN["goals"].get(dataset, {}), []
    for task in (task for task in TASKS if task in wanted):
        row = best(comparison, task)
        if row is not None:
            sign = -1 if HEADLINE[task] in LOWER_IS_BETTER else 1
            met = bool(sign * row["value"] >= sign * wanted[task])
            rows.append(row.to_dict() | {"goal": wanted[task], "met": met})
    return pd.DataFrame(rows, columns=[*BEST, "goal", "met"])


def claims(study, dataset, resamples=2000, seed=129):
    """Claimed against measured values of the earlier study's networks; empty without their runs."""
    runs, keys = run_table(study), ["task", "metric"]
    runs = runs[(runs["dataset"] == dataset) & runs["model"].isin(OWN_NETWORKS.values())]
    claimed = references(dataset).query("kind == 'claim'").set_index(keys)
    claimed = claimed.rename(columns={"value": "claim"})[["claim", "protocol"]]
    columns = "task metric claim protocol label epochs faces value ci_low ci_high n".split()
    splits, parts = study.splits.get(dataset), [pd.DataFrame(columns=columns)]
    for run in runs[runs["run"].isin(list(study.predictions))].itertuples():
        predictions = study.predictions[run.run]
        tested = {"all test faces": part(predictions, "test")}
        if run.split == "random" and splits is not None:
            alone = tested["all test faces"][~leaked(predictions, splits)]
            tested["test faces without a near-duplicate in training"] = alone
        for faces, table in tested.items():
            drawn = Resamples(groups_of(table, splits), resamples, seed)
            scored = intervals(table, drawn).join(claimed, on=keys, how="inner")
            epochs = study.configs[run.run].get("epochs")
            parts.append(scored.assign(label=run.label, epochs=epochs, faces=faces)[columns])
    found = pd.concat(parts[1:] or parts, ignore_index=True)
    return found.sort_values(["task", "epochs", "label"], kind="stable", ignore_index=True)
