"""Targets that are not one label: wide, mixed, unknown, or what other networks say."""

import numpy as np
import pandas as pd

from utils import study
from utils.training.losses import COLUMNS
from utils.vocabulary import CLASSES, OUTPUTS, age_bin, probability_columns

WIDTHS = {"constant": (2.0, 0.0), "growing": (1.0, 0.05)}  # years at birth, and more a year of age
TRUST = 0.5  # weight of the teachers, beside the label


def soft_targets(table: pd.DataFrame, outputs, width: str = "constant") -> dict[str, np.ndarray]:
    """Probabilities float32 [n, classes] by output; a row of zeros, which teaches nothing, where
    a label is missing. Ages become a Gaussian: of two years, or growing with the age (`WIDTHS`).
    """
    found = {}
    for task in outputs:
        labels = table[COLUMNS.get(task, task)]
        known = labels.notna().to_numpy()[:, None]
        if task == "age":
            first, more = WIDTHS[width]
            age = labels.fillna(0).to_numpy(float)[:, None]
            off = (np.arange(OUTPUTS[task]) - age) / (first + more * age)
            target = np.exp(-(off**2) / 2)
            target /= target.sum(axis=1, keepdims=True)
        else:
            names = list(CLASSES[task])
            binned = task == "age_bin"
            row = age_bin(labels.fillna(0)) if binned else labels.map(names.index, "ignore")
            target = np.eye(len(names))[pd.Series(row).fillna(0).astype(int)]
        found[task] = (target * known).astype("float32")
    return found


def taught(table: pd.DataFrame, targets: dict[str, np.ndarray], runs) -> dict[str, np.ndarray]:
    """Targets moved half way to what runs say of the faces that they were not trained on.

    A run says it of a face whose side of the split there is not ``train`` (`RunConfig.fold`). A
    ValueError tells of training faces that no run can speak of.
    """
    told = [pd.read_parquet(study.runs_dir() / run / "predictions.parquet") for run in runs]
    told = pd.concat([one[one["split"] != "train"] for one in told], ignore_index=True)
    images, rows = table["image"], table["split"] == "train"
    if missing := int((rows & ~images.isin(told["image"])).sum()):
        raise ValueError(
            f"teachers: {missing} of {rows.sum()} training faces were trained on by all of "
            f"{list(runs)}; expected runs whose fold leaves each face out once"
        )
    rows, found = rows.to_numpy(), dict(targets)
    for task, target in targets.items():
        if task == "age":
            said = np.stack(told["age_distribution"]).astype(float)
        else:
            said = told[probability_columns(task)].to_numpy(float)
        said = pd.DataFrame(said / said.sum(axis=1, keepdims=True)).groupby(told["image"]).mean()
        found[task] = target.copy()
        mean = said.loc[images[rows]].to_numpy("float32")
        found[task][rows] = (1 - TRUST) * target[rows] + TRUST * mean
    return found
