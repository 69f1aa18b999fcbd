"""Rows that can be set beside those of others: their faces, their question, our networks.

Each row says in `protocol` which faces count, and whether the network was trained for them.
"""

import pandas as pd

from utils.evaluation.bootstrap import interval, intervals, scored
from utils.evaluation.columns import part, tasks_of
from utils.vocabulary import HEADLINE

AGES = (21, 60)  # of MiVOLO's and CORAL's test faces
ADULT = 18
CORAL = "CORAL's files, ages 21 to 60, trained on them; 6.2 % have a near-duplicate in training"


def others_protocols(predictions, resamples):
    """One row a question on the test faces: protocol, task, metric, value with interval, n.

    Faces aged 21 to 60, as others score UTKFace; and how many minors are taken for adults, that is
    have a predicted age of 18 or more. `resamples` are of the test faces.
    """
    faces, rows = part(predictions, "test"), []
    age, within = faces["age"], faces["age"].between(*AGES).to_numpy()
    for task in (task for task in tasks_of(faces) if task != "age_bin"):
        value, spread = scored(faces, resamples, task, HEADLINE[task], within)
        low, high = interval(spread)
        row = {"protocol": f"test faces aged {AGES[0]} to {AGES[1]}, not trained for them"}
        row |= {"task": task, "metric": HEADLINE[task], "value": value, "ci_low": low}
        rows.append(row | {"ci_high": high, "n": int(within.sum())})
    if "age" in tasks_of(faces):
        for low, words in ((0, "younger than 18"), (13, "aged 13 to 17")):
            minors = age.between(low, ADULT, inclusive="left").to_numpy()
            if minors.any():
                told = resamples.mean(faces["pred_age"].to_numpy(float) >= ADULT, minors)
                row = {"protocol": f"faces {words}, taken for adults", "task": "age"}
                rows.append(row | {"metric": "share"} | told)
    return pd.DataFrame(rows)


def coral(predictions, resamples):
    """Rows of a network that was trained and tested on CORAL's published list of files.

    Source: Cao, Mirjalili and Raschka, Rank consistent ordinal regression, 2020.
    """
    rows = intervals(predictions, resamples)
    rows = rows[rows["metric"] == rows["task"].map(HEADLINE)]
    return rows[rows["task"] != "age_bin"].assign(protocol=CORAL)
