"""FairFace: labels in ``fairface_label_train.csv`` and ``fairface_label_val.csv``."""

from pathlib import Path

import pandas as pd

from utils.datasets.archives import beside, find_source, list_images, match_names
from utils.datasets.table import FaceSet, new_table, read_columns
from utils.files import DataError

TERMS = "FairFace: CC BY 4.0; name the authors (Karkkainen and Joo, WACV 2021)"
_KAGGLE = ("fairface-img-margin125-trainval", "fairface-img-margin025-trainval")
NAMES = ("FairFace", "FairFace540", *_KAGGLE)
LABELS = ("fairface_label_train.csv", "fairface_label_val.csv")
COLUMNS = ["file", "age", "gender", "race"]
# Middle of the whole years in each group. The last group is open: taken as 70 to 79.
AGE_GROUPS = {"0-2": 1.0, "3-9": 6.0, "10-19": 14.5, "more than 70": 74.5}
AGE_GROUPS |= {f"{first}-{first + 9}": first + 4.5 for first in range(20, 70, 10)}
RACES = {
    "White": "White", "Black": "Black", "East Asian": "Asian", "Southeast Asian": "Asian",
    "Indian": "Indian", "Middle Eastern": "Other", "Latino_Hispanic": "Other",
}  # fmt: skip
GENDERS = {"Male": "male", "Female": "female"}


def _reasons(rows: pd.DataFrame, paths: dict[str, Path]) -> pd.Series:
    """Why each row is unusable, or None."""
    reasons = pd.Series(None, rows.index, dtype=object)
    for column, known in (("race", RACES), ("gender", GENDERS), ("age", AGE_GROUPS)):
        wrong = f"{column} " + rows[column].map(repr) + " is unknown"
        reasons = reasons.where(rows[column].isin(known.keys()), wrong)
    reasons = reasons.where(rows["file"].isin(paths.keys()), "file is missing")
    return reasons.mask(rows.duplicated("file"), "listed twice")


def load_fairface(root: Path) -> FaceSet:
    """Load FairFace from ``FairFace`` or ``FairFace540`` (folder, zip or tar) below `root`.

    ``age`` is the middle of nine groups (`AGE_GROUPS`), so errors of a few years mean nothing and
    20-29 straddles two of the study's age bins. Seven races become five (`RACES`); the original
    labels are in ``age_group`` and ``race7``. Pictures without a label are in ``exclusions``.

    Source: Karkkainen, Joo: FairFace: Face Attribute Dataset for Balanced Race, Gender, and Age
    for Bias Measurement and Mitigation, WACV 2021.
    """
    folder = find_source(root, NAMES, "FairFace")
    labels = beside([folder, Path(root), folder.parent], LABELS)
    if not labels:
        raise DataError(f"{folder} lacks its labels; expected {' or '.join(LABELS)} in it")
    rows = pd.concat([read_columns(path, COLUMNS) for path in labels], ignore_index=True)
    files, dropped = list_images(folder)
    paths = match_names(rows["file"], files)
    rows["reason"] = _reasons(rows, paths)
    good, bad = rows[rows["reason"].isna()].reset_index(drop=True), rows[rows["reason"].notna()]
    dropped += bad[["file", "reason"]].itertuples(index=False, name=None)
    labelled = set(paths.values())
    dropped += [(name, "no label") for name, path in files.items() if path not in labelled]
    labels = {"age": good["age"].map(AGE_GROUPS), "gender": good["gender"].map(GENDERS)}
    table = new_table(good["file"], source="fairface", ethnicity=good["race"].map(RACES), **labels)
    table = table.assign(age_group=good["age"], race7=good["race"])
    steps = [("labelled faces", len(rows)), ("usable labels", len(good))]
    return FaceSet(
        "fairface", table, root=folder, paths=paths, exclusions=dropped, steps=steps, terms=TERMS
    )
