"""What earlier studies claimed for their own networks, beside what those networks reach here.

A claim holds for a protocol. So the same network stands here as it was trained by its authors'
protocol, with their random split, then on those of its test faces that have no copy among its
training faces, and as this study trains it.
"""

import pandas as pd

from utils.evaluation.bootstrap import Resamples, groups_of, intervals
from utils.evaluation.columns import TASK_LABELS, part
from utils.evaluation.leakage import leaked
from utils.evaluation.references import references
from utils.evaluation.tables import run_table, with_ends

NETWORKS = ("scratch_cnn", "wiki_cnn")  # the earlier study's, trained from random weights
COLUMNS = [
    "task",
    "metric",
    "claim",
    "protocol",
    "label",
    "epochs",
    "faces",
    "value",
    "ci_low",
    "ci_high",
    "n",
]


def claims(study, dataset, resamples=2000, seed=129):
    """Claimed against measured values.

    Parameters
    ----------
    study : utils.runs.Study
    dataset : str
    resamples, seed : int

    Returns
    -------
    DataFrame
        `COLUMNS`; `protocol` is the claim's, `faces` says which test faces, `epochs` is missing
        where no config says it. Empty without claims or without runs of their networks.
    """
    runs = run_table(study)
    runs = runs[(runs["dataset"] == dataset) & runs["model"].isin(NETWORKS)]
    claimed = references(dataset)
    claimed = claimed[claimed["kind"] == "claim"].set_index(["task", "metric"])
    claimed = claimed.rename(columns={"value": "claim"})[["claim", "protocol"]]
    splits, rows = study.splits.get(dataset), []
    for run in runs[runs["run"].isin(list(study.predictions))].itertuples():
        for faces, tested in _test_faces(study.predictions[run.run], run.split, splits).items():
            drawn = Resamples(groups_of(tested, splits), resamples, seed)
            scored = intervals(tested, drawn, "test").set_index(["task", "metric"])
            scored = scored.join(claimed, how="inner").reset_index()
            epochs = study.configs.get(run.run, {}).get("epochs")
            rows.append(scored.assign(label=run.label, epochs=epochs, faces=faces))
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    order = ["task", "epochs", "label"]
    found = pd.concat(rows, ignore_index=True)[COLUMNS]
    return found.sort_values(order, kind="stable", ignore_index=True)


def _test_faces(predictions, split, splits):
    """Test faces of a run, and on a naive split those without a copy in training too."""
    faces = {"all test faces": part(predictions, "test")}
    if split == "naive" and splits is not None:
        alone = ~leaked(predictions, splits)
        faces["test faces without a copy in training"] = faces["all test faces"][alone]
    return faces


def readable(table):
    """The table as text for a page: age in years, accuracies in percent."""
    ends = table[["value", "ci_low", "ci_high", "task"]].itertuples(index=False)
    claimed = zip(table["claim"], table["task"], strict=True)
    return pd.DataFrame(
        {
            "task": table["task"].map(TASK_LABELS),
            "claimed": [with_ends(value, None, None, task) for value, task in claimed],
            "claimed for": table["protocol"],
            "reached": [with_ends(*row) for row in ends],
            "network": table["label"],
            "epochs": table["epochs"],
            "reached on": table["faces"],
            "n": table["n"],
        }
    )
