"""Which faces train, which choose, which test?"""

import hashlib

import numpy as np
import pandas as pd

from utils.files import DataError
from utils.vocabulary import age_bin

PUBLISHED_SEED = 129  # for which the published split of a data set, in data/splits, answers
TEST_SHARE = 0.2  # of all faces
VAL_SHARE = 0.1  # of the rest


def _strata(table: pd.DataFrame) -> pd.Series:
    age = pd.Series(age_bin(table["age"].fillna(0)), table.index).astype(str)
    gender, ethnicity = (table[name].fillna("-").astype(str) for name in ("gender", "ethnicity"))
    return age.where(table["age"].notna(), "-") + "|" + gender + "|" + ethnicity


def _sides(units: pd.DataFrame, seed: int) -> pd.Series:
    """Side of each group by its place within its stratum: a hash of seed and name."""
    keys = (f"{seed}|{name}".encode() for name in units.index)
    units = units.assign(position=[hashlib.blake2b(key, digest_size=8).digest() for key in keys])
    units = units.sort_values(["stratum", "position"])
    by_stratum = units.groupby("stratum", sort=False)["faces"]
    # The middle of each group within its stratum, as a share of the stratum's faces.
    share = (by_stratum.cumsum() - units["faces"] / 2) / by_stratum.transform("sum")
    limit = TEST_SHARE + (1 - TEST_SHARE) * VAL_SHARE
    sides = np.select([share < TEST_SHARE, share < limit], ["test", "val"], "train")
    return pd.Series(sides, units.index)


def assign_splits(
    table: pd.DataFrame, seed: int = 129, kind: str = "group", published: pd.DataFrame | None = None
) -> pd.Series:
    """Split faces of a FaceTable into train (72 %), val (8 %) and test (20 %), Series of str.

    Each group is given a position in [0, 1) by a hash of its name and the seed. Within each
    stratum (age bin x gender x ethnicity of the group's first face) the first fifth of the
    groups is the test part and the next 8 % the validation part. So row order has no influence,
    strata have their share, and added files move only the few faces at a boundary (under 3 % for
    5 % more files). Faces that are `published` (image and split) keep their side whatever files
    were added, new ones take that of their group, and what would bring a val or test face into
    training is ``excluded``. The `kind` ``random`` ignores the groups: only to measure leakage.
    """
    if kind not in ("group", "random"):
        raise ValueError(f"split kind {kind!r} is unknown; expected 'group' or 'random'")
    unit = table["group"] if kind == "group" else table["image"]
    firsts = table.assign(unit=unit, stratum=_strata(table)).sort_values("image")
    firsts = firsts.groupby("unit", sort=True).agg(
        stratum=("stratum", "first"), faces=("image", "size")
    )
    split = unit.map(_sides(firsts, seed)).rename("split")
    return split if published is None or kind == "random" else _kept(table, split, published)


def _kept(table: pd.DataFrame, split: pd.Series, published: pd.DataFrame) -> pd.Series:
    """Published sides, where there are any; no training face in the group of a val or test face."""
    own = table["image"].map(published.set_index("image")["split"])
    # A new file may join two published groups: test wins, so that nothing leaks into training.
    order = {"test": 0, "val": 1, "train": 2}
    sides = table[["group"]].assign(split=own.where(own.isin(order))).dropna()
    sides = sides.sort_values("split", key=lambda column: column.map(order), kind="stable")
    of_group = table["group"].map(sides.groupby("group")["split"].first()).fillna(split)
    kept = own.fillna(of_group)
    return kept.mask((kept == "train") & (of_group != "train"), "excluded").rename("split")


def leave_out(table: pd.DataFrame, fold: str) -> pd.Series:
    """The split without a fold of its training part: ``2/3`` excludes the second third of it.

    Near-duplicates stay together. What a network says of faces that it did not learn can teach
    another one (`utils.training.soft.taught`).
    """
    part, parts = map(int, fold.split("/"))
    places = [hashlib.blake2b(f"fold|{group}".encode()).digest()[0] for group in table["group"]]
    held = np.array(places) * parts // 256 == part - 1
    return table["split"].mask(held & (table["split"] == "train"), "excluded")


def check_no_leak(table: pd.DataFrame) -> None:
    """Raise if a group has faces in train and in val or test."""
    used = table[table["split"] != "excluded"]
    sides = (used["split"] == "train").groupby(used["group"]).nunique()
    crossing = sides.index[sides > 1]
    if len(crossing):
        told = f"{len(crossing)} duplicate groups cross the split, the first is {crossing[0]!r}"
        raise DataError(f"{told}; assign splits with kind='group'")


def check_sizes(table: pd.DataFrame, name: str) -> None:
    """Raise if a part is empty: said before a training, not after it."""
    sizes = table["split"].value_counts().reindex(["train", "val", "test"], fill_value=0)
    if (sizes == 0).any():
        told = ", ".join(f"{count} {part}" for part, count in sizes.items())
        raise DataError(
            f"{name}: too few faces to split ({len(table)} make {told}); each age bin x gender x "
            "ethnicity needs three to have one of test: add faces, or raise limit"
        )
