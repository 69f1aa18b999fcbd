"""FairFace: labels in ``fairface_label_train.csv`` and ``fairface_label_val.csv``."""

from pathlib import Path

import pandas as pd

from utils.datasets.archives import find_source, list_images
from utils.datasets.cleaning import open_rgb
from utils.datasets.facetable import DataError, FaceSet, exclusions_table, new_table, steps_table
from utils.paths import data_dir

TERMS = "FairFace: CC BY 4.0; name the authors (Karkkainen and Joo, WACV 2021)"
NAMES = (
    "FairFace",
    "FairFace540",
    "fairface-img-margin125-trainval",
    "fairface-img-margin025-trainval",
)
LABELS = ("fairface_label_train.csv", "fairface_label_val.csv")
COLUMNS = ["file", "age", "gender", "race"]
# Middle of the whole years in each group. The last group is open: taken as 70 to 79.
AGE_GROUPS = {
    "0-2": 1.0,
    "3-9": 6.0,
    "10-19": 14.5,
    "20-29": 24.5,
    "30-39": 34.5,
    "40-49": 44.5,
    "50-59": 54.5,
    "60-69": 64.5,
    "more than 70": 74.5,
}
RACES = {
    "White": "White", "Black": "Black", "East Asian": "Asian", "Southeast Asian": "Asian",
    "Indian": "Indian", "Middle Eastern": "Other", "Latino_Hispanic": "Other",
}  # fmt: skip
GENDERS = {"Male": "male", "Female": "female"}


def _read_labels(folder: Path, root: Path) -> pd.DataFrame:
    """All label files in the image folder, or beside it."""
    for place in (folder, root, folder.parent):
        paths = [place / name for name in LABELS if (place / name).is_file()]
        if paths:
            break
    else:
        raise DataError(f"{folder} lacks its labels; expected {' or '.join(LABELS)} in it")
    tables = []
    for path in paths:
        try:
            table = pd.read_csv(path, dtype=str)
        except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
            raise DataError(f"{path} cannot be read ({str(error)[:80]}); get it again") from None
        missing = [name for name in COLUMNS if name not in table.columns]
        if missing:
            raise DataError(
                f"{path} lacks the columns {missing}; it has {list(table.columns)[:10]}; "
                f"expected {COLUMNS}"
            )
        tables.append(table[COLUMNS])
    return pd.concat(tables, ignore_index=True)


def _reason(row, there: set[str]) -> str | None:
    """Why a row is unusable, or None."""
    if row.file not in there:
        return "file is missing"
    if row.age not in AGE_GROUPS:
        return f"age group {row.age!r} is unknown"
    if row.gender not in GENDERS:
        return f"gender {row.gender!r} is unknown"
    return None if row.race in RACES else f"race {row.race!r} is unknown"


def load_fairface(root: Path | None = None) -> FaceSet:
    """Load FairFace in its published layout.

    Ages come in nine groups: ``age`` is the middle of the group's whole years (1, 6, 14.5,
    24.5 ... 64.5; 74.5 for "more than 70"), so errors of a few years mean nothing and the
    group 20-29 straddles two of the study's age bins. Seven races become five: East and
    Southeast Asian are ``Asian``, Middle Eastern and Latino_Hispanic are ``Other``.

    Parameters
    ----------
    root : Path, optional
        Folder that holds ``FairFace`` or ``FairFace540`` (folder, zip or tar) with its label
        files; by default ``FACES_DATA_DIR`` or ``data/raw``.

    Returns
    -------
    FaceSet
        Image identifiers such as ``val/1.jpg``; the original labels are in the extra columns
        ``age_group`` and ``race7``.

    Raises
    ------
    DataError
        If no images or labels are found, or a label file lacks a column.

    References
    ----------
    Karkkainen, Joo: FairFace: Face Attribute Dataset for Balanced Race, Gender, and Age for Bias
    Measurement and Mitigation, WACV 2021.
    """
    root = Path(root) if root else data_dir()
    folder = find_source(root, NAMES, "FairFace")
    labels = _read_labels(folder, root).drop_duplicates("file")
    there = set(list_images(folder))
    reasons = [_reason(row, there) for row in labels.itertuples()]
    labels["reason"] = pd.Series(reasons, index=labels.index, dtype=object)
    good, bad = labels[labels["reason"].isna()], labels[labels["reason"].notna()]
    table = new_table(
        good["file"],
        source="fairface",
        age=good["age"].map(AGE_GROUPS).to_numpy(),
        gender=good["gender"].map(GENDERS).to_numpy(),
        ethnicity=good["race"].map(RACES).to_numpy(),
    )
    table["age_group"], table["race7"] = good["age"].to_numpy(), good["race"].to_numpy()
    return FaceSet(
        name="fairface",
        table=table,
        read=lambda image: open_rgb(folder / image),
        root=folder,
        exclusions=exclusions_table(bad[["file", "reason"]].itertuples(index=False)),
        steps=steps_table([("labelled faces", len(labels)), ("usable labels", len(good))]),
        source_bytes=lambda image: (folder / image).read_bytes(),
        terms=TERMS,
    )
