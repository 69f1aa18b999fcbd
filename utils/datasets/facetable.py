"""What do we know about each face? One table for every source."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
from PIL import Image

GENDERS = ("male", "female")
ETHNICITIES = ("White", "Black", "Asian", "Indian", "Other")
AGE_BINS = ("0-24", "25-49", "50-74", "75-99", "100-124")
MAX_AGE = 116  # the oldest label in UTKFace
SPLITS = ("train", "val", "test")
COLUMNS = ["image", "age", "gender", "ethnicity", "source", "group", "split"]


class DataError(ValueError):
    """Data that cannot be used; the message says what was seen and what to do."""


_SCHEMA = pa.DataFrameSchema(
    {
        "image": pa.Column(str, unique=True),
        "age": pa.Column(float, pa.Check.in_range(0, 125), nullable=True),
        "gender": pa.Column(object, pa.Check.isin(GENDERS), nullable=True),
        "ethnicity": pa.Column(object, pa.Check.isin(ETHNICITIES), nullable=True),
        "source": pa.Column(str),
        "group": pa.Column(str),
        "split": pa.Column(str, pa.Check.isin(SPLITS)),
    },
    strict=False,
)


def check(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` with the FaceTable's types, or raise one clear error.

    Parameters
    ----------
    table : DataFrame
        One row a face with the columns ``image`` (identifier, unique), ``age`` (years or NaN),
        ``gender`` (male, female or missing), ``ethnicity`` (one of five or missing),
        ``source``, ``group`` (faces that must not be separated) and ``split``. More columns
        are allowed.

    Raises
    ------
    DataError
        If a column is missing, or a value is outside its set.
    """
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(
            f"the face table lacks the columns {missing}; it has {list(table.columns)}; "
            f"expected {COLUMNS}"
        )
    table = table.reset_index(drop=True).astype({"age": float})
    for name in ("gender", "ethnicity"):
        # Plain objects with None: the same in memory, in parquet and in tests.
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    try:
        return _SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        first = errors.failure_cases.iloc[0]
        raise DataError(
            f"face table: column {first['column']!r} holds {first['failure_case']!r} "
            f"(row {first['index']}), which fails {first['check']}; "
            f"{len(errors.failure_cases)} such values in all; correct the source or its loader"
        ) from None


def age_bin(age) -> np.ndarray:
    """Return the index 0..4 of the 25-year bin of each age in years.

    Examples
    --------
    >>> age_bin([0, 24, 25, 99, 116]).tolist()
    [0, 0, 1, 3, 4]
    """
    return np.clip(np.asarray(age, dtype=float) // 25, 0, len(AGE_BINS) - 1).astype(int)


def steps_table(steps: Iterable[tuple[str, int]]) -> pd.DataFrame:
    """Cleaning counts as a table with the columns ``step`` and ``faces``."""
    return pd.DataFrame(list(steps), columns=["step", "faces"])


def exclusions_table(rows: Iterable[tuple[str, str]] = ()) -> pd.DataFrame:
    """Dropped images as a table with the columns ``image`` and ``reason``."""
    return pd.DataFrame(list(rows), columns=["image", "reason"], dtype=object)


@dataclass
class FaceSet:
    """A face table with the means to open its images.

    Attributes
    ----------
    name : str
        Name of the data set, such as ``utkface``.
    table : DataFrame
        The FaceTable, index 0..n-1.
    read : callable
        Opens an image by its identifier and returns an RGB ``PIL.Image``.
    root : Path or None
        Where the images lie; None if they are drawn or held in a table.
    exclusions : DataFrame
        ``image`` and ``reason`` of every dropped row.
    steps : DataFrame
        ``step`` and ``faces``: how many faces were left after each cleaning step.
    source_bytes : callable or None
        Returns the original bytes of an image, to find identical files.
    terms : str
        One line on licence and use.
    """

    name: str
    table: pd.DataFrame
    read: Callable[[str], Image.Image]
    root: Path | None = None
    exclusions: pd.DataFrame = field(default_factory=exclusions_table)
    steps: pd.DataFrame = field(default_factory=lambda: steps_table([]))
    source_bytes: Callable[[str], bytes] | None = None
    terms: str = ""

    def __post_init__(self):
        """Check the table at the door."""
        if len(self.table) == 0:
            raise DataError(
                f"{self.name}: no usable face is left (excluded: {len(self.exclusions)}); "
                f"first reasons: {self.exclusions['reason'].head(3).tolist()}; "
                "see data/README.md for what the folder must hold"
            )
        self.table = check(self.table)

    def __len__(self) -> int:
        return len(self.table)

    def subset(self, mask) -> "FaceSet":
        """Return the faces where `mask` is true."""
        return replace(self, table=self.table[np.asarray(mask)].reset_index(drop=True))

    def exclude(self, reasons: dict[str, str], step: str) -> "FaceSet":
        """Drop images, keeping the reason of each.

        Parameters
        ----------
        reasons : dict
            From image identifier to reason.
        step : str
            Name of the cleaning step for the table of counts.
        """
        kept = self.table[~self.table["image"].isin(reasons.keys())].reset_index(drop=True)
        more = exclusions_table(reasons.items())
        count = steps_table([(step, len(kept))])
        return replace(
            self,
            table=kept,
            exclusions=pd.concat([self.exclusions, more], ignore_index=True),
            steps=pd.concat([self.steps, count], ignore_index=True),
        )


def new_table(images, *, source: str, age=None, gender=None, ethnicity=None) -> pd.DataFrame:
    """Build a FaceTable in which every face is its own group, all in ``train``.

    Groups and splits are assigned later, by ``duplicates`` and ``splits``.
    """
    table = pd.DataFrame({"image": list(images)}, dtype=object)
    table["age"] = np.nan if age is None else age
    table["gender"] = None if gender is None else gender
    table["ethnicity"] = None if ethnicity is None else ethnicity
    table["source"] = source
    table["group"] = table["image"]
    table["split"] = "train"
    return table
