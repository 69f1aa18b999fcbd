"""Claims and published figures to draw as reference lines, each with its protocol.

A line is no verdict: splits, input and pretraining differ, and the protocol says how.
"""

import pandas as pd

_COLUMNS = ["dataset", "task", "metric", "value", "source", "protocol", "kind"]
_ROWS = [
    (
        "utkface",
        "age_bin",
        "accuracy",
        0.8279,
        "earlier scratch CNN (claim)",
        "random split with near-copies across it, 198 px, validation = test",
        "claim",
    ),
    (
        "utkface",
        "gender",
        "accuracy",
        0.9502,
        "earlier scratch CNN (claim)",
        "random split with near-copies across it, 198 px, validation = test",
        "claim",
    ),
    (
        "wiki",
        "age",
        "mae",
        6.55,
        "earlier WIKI regressor (claim)",
        "validation split, faces with score >= 1.75, 180 px",
        "claim",
    ),
    (
        "utkface",
        "age",
        "mae",
        4.77,
        "ResNet-50 from ImageNet (reproduction)",
        "Paplham and Franc 2024 protocol, 5 folds, full age range",
        "published",
    ),
    (
        "utkface",
        "age",
        "mae",
        4.38,
        "ResNet-50, face pretraining (Paplham and Franc 2024)",
        "5 folds 60/20/20, 256 px aligned, full age range",
        "published",
    ),
    (
        "utkface",
        "ethnicity",
        "accuracy",
        0.812,
        "scratch CNN, 5 classes (published)",
        "own split",
        "published",
    ),
    (
        "utkface",
        "gender",
        "accuracy",
        0.939,
        "MobileNetV3-Small from ImageNet (published)",
        "own split",
        "published",
    ),
]


def references(dataset=None, task=None):
    """Reference values.

    Returns
    -------
    DataFrame
        Columns dataset, task, metric, value, source, protocol, kind (`claim` or `published`).
        Errors in years over the full age range, shares in 0..1.

    >>> references("wiki")["value"].tolist()
    [6.55]
    """
    table = pd.DataFrame(_ROWS, columns=_COLUMNS)
    if dataset is not None:
        table = table[table["dataset"] == dataset]
    if task is not None:
        table = table[table["task"] == task]
    return table.reset_index(drop=True)
