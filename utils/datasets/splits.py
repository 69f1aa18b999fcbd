"""Which faces train, which choose, which test?"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from utils.datasets.facetable import DataError, age_bin
from utils.files import write_aside
from utils.paths import ROOT

TEST_SHARE = 0.2  # of all faces
VAL_SHARE = 0.1  # of the rest


def _position(key: str, seed: int) -> float:
    """A fixed pseudo-random number in [0, 1) for a name and a seed."""
    digest = hashlib.blake2b(f"{seed}|{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _strata(table: pd.DataFrame) -> pd.Series:
    age = pd.Series(age_bin(table["age"].fillna(0)), index=table.index).astype(str)
    age = age.where(table["age"].notna(), "-")
    gender, ethnicity = (table[name].fillna("-").astype(str) for name in ("gender", "ethnicity"))
    return age + "|" + gender + "|" + ethnicity


def same_faces(dataset: str) -> str:
    """The data set whose faces, under the same names, another one holds; else itself."""
    return {"utkface_csv": "utkface"}.get(dataset, dataset)


def published_split(dataset: str) -> pd.DataFrame | None:
    """The split that the study publishes for a data set, or None."""
    path = ROOT / "reports" / "study" / "splits" / f"{same_faces(dataset)}.csv"
    return pd.read_csv(path, dtype=str) if path.is_file() else None


def assign_splits(
    table: pd.DataFrame,
    seed: int = 129,
    kind: str = "group",
    published: pd.DataFrame | None = None,
) -> pd.Series:
    """Split faces into train (72 %), val (8 %) and test (20 %).

    Each group is given a position in [0, 1) by a hash of its name and the seed. Within each
    stratum (age bin x gender x ethnicity of the group's first face) the first fifth of the
    groups is the test part and the next 8 % the validation part. So row order has no influence,
    strata have their share, and added files move only the few faces at a boundary (under 3 % for
    5 % more files); with `published`, not even those.

    Parameters
    ----------
    table : DataFrame
        A FaceTable with its groups.
    seed : int
        Another seed gives another split.
    kind : {"group", "naive"}
        ``naive`` ignores the groups, so duplicates cross the split: only to measure leakage.
    published : DataFrame, optional
        ``image`` and ``split`` of an earlier split: those faces, and their groups, keep their
        side whatever files were added.

    Returns
    -------
    Series of str
        ``train``, ``val`` or ``test`` for each row.

    Examples
    --------
    >>> faces = pd.DataFrame({"image": [f"{i}" for i in range(1000)], "age": 30.0,
    ...                       "gender": "male", "ethnicity": "White"})
    >>> faces["group"] = faces["image"]
    >>> assign_splits(faces).value_counts().to_dict()
    {'train': 720, 'test': 200, 'val': 80}
    """
    if kind not in ("group", "naive"):
        raise ValueError(f"split kind {kind!r} is unknown; expected 'group' or 'naive'")
    unit = table["group"] if kind == "group" else table["image"]
    firsts = table.assign(unit=unit, stratum=_strata(table)).sort_values("image")
    firsts = firsts.groupby("unit", sort=True).agg(
        image=("image", "first"), stratum=("stratum", "first"), faces=("image", "size")
    )
    firsts["position"] = [_position(name, seed) for name in firsts.index]
    firsts = firsts.sort_values(["stratum", "position"])
    by_stratum = firsts.groupby("stratum", sort=False)["faces"]
    # The middle of each group within its stratum, as a share of the stratum's faces.
    share = (by_stratum.cumsum() - firsts["faces"] / 2) / by_stratum.transform("sum")
    limit = TEST_SHARE + (1 - TEST_SHARE) * VAL_SHARE
    split = pd.Series(
        np.select([share < TEST_SHARE, share < limit], ["test", "val"], "train"), firsts.index
    )
    if published is not None and kind == "group":
        split.update(_kept_sides(table, published))
    return unit.map(split).rename("split")


def _kept_sides(table: pd.DataFrame, published: pd.DataFrame) -> pd.Series:
    """Published side of each group that holds a published face."""
    sides = table[["group"]].assign(split=table["image"].map(published.set_index("image")["split"]))
    # A new file may join two published groups: test wins, so that nothing leaks into training.
    order = {"test": 0, "val": 1, "train": 2}
    sides = sides.dropna().sort_values("split", key=lambda column: column.map(order))
    return sides.groupby("group")["split"].first()


def check_no_leak(table: pd.DataFrame) -> None:
    """Raise if a group has faces in more than one split."""
    crossing = table.groupby("group")["split"].nunique()
    crossing = crossing[crossing > 1]
    if len(crossing):
        raise DataError(
            f"{len(crossing)} duplicate groups cross the split, the first is "
            f"{crossing.index[0]!r}; assign splits with kind='group'"
        )


def write_split(table: pd.DataFrame, path: Path) -> None:
    """Write split, group and labels as CSV, sorted by image, for others to compare on."""
    wanted = ["image", "split", "group", "age", "gender", "ethnicity"]
    rows = table[[name for name in wanted if name in table]].sort_values("image")
    with write_aside(path) as aside:
        rows.to_csv(aside, index=False, float_format="%.6g")
