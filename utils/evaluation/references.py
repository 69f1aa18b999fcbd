"""Claims and published figures to set beside our own, each with its protocol.

A value is no verdict: splits, input and pretraining differ, and the protocol says how. A few are
drawn as lines; the others stand in the table only, because they crowd a figure, come without a
split or code, or are for another range of ages or another set of faces.
"""

import pandas as pd

_COLUMNS = ["dataset", "task", "metric", "value", "source", "protocol", "kind", "drawn"]
_RANDOM = "random split with near-copies across it, 198 px, validation = test"
_FOLDS = "5 folds 60/20/20, 256 px aligned, full age range"
_CROSS = "ImageNet, trained on UTKFace by the 5-fold protocol, tested on this set"
_AUDIT = "audit on the 10,954 validation faces, trained on other sets"
_OWN = "trained on FairFace, own report, faces labelled White"
_CLAIM = "no split or code published"
_PAPLHAM = "Paplham and Franc 2024"
_ROWS = [
    ("utkface", "age_bin", "accuracy", 0.8279, "earlier scratch CNN (claim)", _RANDOM, "claim", 1),
    ("utkface", "gender", "accuracy", 0.9502, "earlier scratch CNN (claim)", _RANDOM, "claim", 1),
    (
        "wiki", "age", "mae", 6.55, "earlier WIKI regressor (claim)",
        "validation split, faces with score >= 1.75, 180 px", "claim", 1,
    ),
    (
        "utkface", "age", "mae", 5.33, "ResNet-50 from random weights (reproduction)",
        f"{_PAPLHAM} protocol, {_FOLDS}; +-0.16", "published", 0,
    ),
    (
        "utkface", "age", "mae", 4.77, "ResNet-50 from ImageNet (reproduction)",
        f"{_PAPLHAM} protocol, {_FOLDS}; +-0.12", "published", 1,
    ),
    (
        "utkface", "age", "mae", 4.37, "ResNet-50 from IMDB faces (reproduction)",
        f"{_PAPLHAM} protocol, {_FOLDS}; +-0.03", "published", 0,
    ),
    (
        "utkface", "age", "mae", 4.38, f"ResNet-50, face pretraining ({_PAPLHAM})",
        f"{_FOLDS}, cross-entropy", "published", 1,
    ),
    (
        "utkface", "age", "mae", 4.72, f"ResNet-50, face pretraining, regression ({_PAPLHAM})",
        _FOLDS, "published", 0,
    ),
    (
        "utkface", "age", "mae", 3.87, f"FaRL backbone, face pretraining ({_PAPLHAM})",
        _FOLDS, "published", 1,
    ),
    (
        "utkface", "age", "mae", 4.73, "MobileNetV3-Small from ImageNet (published)",
        "own split", "published", 0,
    ),
    (
        "utkface", "age", "mae", 5.25, "face-api, its own report",
        "20 % of UTKFace held out by a split of its own; 8 sets in training", "published", 0,
    ),
    ("utkface", "age", "mae", 3.82, "'reference model' 2025 (claim)", _CLAIM, "unverified", 0),
    ("utkface", "age", "mae", 2.95, "multi-task CNN (claim)", _CLAIM, "unverified", 0),
    (
        "utkface ages 21-60", "age", "mae", 4.23, "MiVOLO volo_d1, face only (published)",
        "ages 21 to 60 only: not comparable with the full range", "published", 0,
    ),
    (
        "utkface ages 21-60", "gender", "accuracy", 0.9769, "MiVOLO volo_d1, face only (published)",
        "ages 21 to 60 only: not comparable with the full range", "published", 0,
    ),
    (
        "utkface", "gender", "accuracy", 0.939, "MobileNetV3-Small from ImageNet (published)",
        "own split", "published", 1,
    ),
    ("utkface", "gender", "accuracy", 0.894, "yu4u, 30 epochs", "own split", "published", 0),
    (
        "utkface", "gender", "accuracy", 0.93, "face-api, its own report",
        "20 % of UTKFace held out by a split of its own; 8 sets in training", "published", 0,
    ),
    (
        "utkface", "gender", "accuracy", 0.935, "'reference model' 2025 (claim)",
        _CLAIM, "unverified", 0,
    ),
    ("utkface", "gender", "accuracy", 0.983, "multi-task CNN (claim)", _CLAIM, "unverified", 0),
    (
        "utkface", "ethnicity", "accuracy", 0.812, "scratch CNN, 5 classes (published)",
        "own split", "published", 1,
    ),
    (
        "utkface", "ethnicity", "accuracy", 0.803, "mid-face CNN, 5 classes (published)",
        "own split", "published", 0,
    ),
    ("utkface", "ethnicity", "accuracy", 0.931, "multi-task CNN (claim)", _CLAIM, "unverified", 0),
    ("morph", "age", "mae", 6.74, f"ResNet-50 ({_PAPLHAM})", _CROSS, "published", 0),
    ("agedb", "age", "mae", 9.00, f"ResNet-50 ({_PAPLHAM})", _CROSS, "published", 0),
    ("afad", "age", "mae", 6.89, f"ResNet-50 ({_PAPLHAM})", _CROSS, "published", 0),
    ("fairface", "gender", "accuracy", 0.721, "deepface", _AUDIT, "published", 0),
    ("fairface", "ethnicity", "accuracy", 0.595, "deepface", _AUDIT, "published", 0),
    ("fairface", "gender", "accuracy", 0.942, "FairFace model", _OWN, "published", 0),
    ("fairface", "age_group", "accuracy", 0.597, "FairFace model", _OWN, "published", 0),
]  # fmt: skip


def references(dataset=None, task=None, drawn=False):
    """Reference values.

    Parameters
    ----------
    dataset, task : str, optional
        Only those of a data set, of a task.
    drawn : bool
        Only those that figures draw.

    Returns
    -------
    DataFrame
        Columns dataset, task, metric, value, source, protocol, kind (`claim` of a study that this
        one re-does, `published`, `unverified`), drawn. Errors in years over the full age range
        unless the data set says otherwise, shares in 0..1.

    >>> references("wiki")["value"].tolist()
    [6.55]
    """
    table = pd.DataFrame(_ROWS, columns=_COLUMNS).astype({"drawn": bool})
    if dataset is not None:
        table = table[table["dataset"] == dataset]
    if task is not None:
        table = table[table["task"] == task]
    if drawn:
        table = table[table["drawn"]]
    return table.reset_index(drop=True)
