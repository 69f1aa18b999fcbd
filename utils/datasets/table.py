"""What do we know about each face? One table for every source."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
from PIL import Image

from utils.datasets.pictures import open_rgb
from utils.files import DataError, locked, require, write_aside
from utils.vocabulary import ETHNICITIES, FACE_COLUMNS, GENDERS, SPLITS

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


def read_columns(path: Path, columns: list[str]) -> pd.DataFrame:
    """Some columns of a CSV as text, empty cells as ''."""
    try:
        table = pd.read_csv(path, dtype=str).fillna("")
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{path} cannot be read ({str(error)[:80]}); get it again") from None
    require(table, columns, path)
    return table[columns]


def cached_table(path: Path, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table in the parquet file `path`, made and written there if it is not, or is broken."""
    with locked(path):
        try:
            return pd.read_parquet(path, page_checksum_verification=True)
        except Exception:  # pyarrow has many ways to say that a file is damaged
            table = make()
        with write_aside(path) as aside:
            table.to_parquet(aside, write_page_checksum=True)
    return table


def check(table: pd.DataFrame) -> pd.DataFrame:
    """Return a FaceTable with its types, or raise one DataError that names column and value.

    One row a face: ``image`` (identifier, unique), ``age`` (years or NaN), ``gender`` (male,
    female or missing), ``ethnicity`` (one of five or missing), ``source``, ``group`` (faces that
    must not be separated) and ``split``. More columns are allowed.
    """
    require(table, FACE_COLUMNS, "the face table")
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


@dataclass
class FaceSet:
    """A face table with the means to open its images."""

    name: str
    table: pd.DataFrame  # the FaceTable, index 0..n-1
    read: Callable[[str], Image.Image] | None = None  # identifier to RGB; None: opens the file
    root: Path | None = None  # where the images lie; None if they are drawn or held in a table
    exclusions: pd.DataFrame = field(default_factory=list)  # or rows: image, reason
    steps: pd.DataFrame = field(default_factory=list)  # or rows: cleaning step, faces after it
    terms: str = ""  # one line on licence and use
    paths: dict[str, Path] | None = None  # file of each image; None: that name below `root`
    # Of pictures without a file: changes when they may look different. Where it is empty, their
    # content is compared whenever a cache is asked.
    version: str = ""
    grouped: bool = False  # whether `group` is known, so that no near-duplicates are looked for

    def __post_init__(self):
        """Check the table at the door."""
        self.exclusions = pd.DataFrame(self.exclusions, columns=["image", "reason"], dtype=object)
        self.steps = pd.DataFrame(self.steps, columns=["step", "faces"])
        if len(self.table) == 0:
            raise DataError(
                f"{self.name}: no usable face is left (excluded: {len(self.exclusions)}); "
                f"first reasons: {self.exclusions['reason'].head(3).tolist()}; "
                "see data/README.md for what the folder must hold"
            )
        self.table = check(self.table)
        if self.read is None:
            paths, root = self.paths, self.root
            self.read = lambda image: open_rgb(paths[image] if paths else Path(root) / image)

    def __len__(self) -> int:
        return len(self.table)

    def path(self, image: str) -> Path | None:
        """File of an image, or None if it has none."""
        if self.paths is not None:
            return self.paths.get(image)
        path = Path(self.root or "", image)
        return path if self.root is not None and path.is_file() else None

    def stamp(self, image: str) -> str:
        """What changes when the picture of an identifier changes.

        Size and times of its file; without a file `version`, or a digest of its content.
        """
        path = self.path(image)
        try:
            if path is not None:
                state = path.stat()  # the last one changes also where a copy keeps its time
                return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {self.version}"
            return self.version or hashlib.sha256(self.read(image).tobytes()).hexdigest()
        except (OSError, DataError) as error:
            return str(error)

    def key(self, *of) -> str:
        """Name of a cache of all pictures: changes with `of`, the names and each `stamp`."""
        digest = hashlib.sha256("\n".join(map(str, [*of, self.root])).encode())
        for image in self.table["image"]:
            digest.update(f"\n{image}\t{self.stamp(image)}".encode())
        return digest.hexdigest()[:16]

    def source_bytes(self, image: str) -> bytes:
        """Bytes of an image's file, to find identical ones; without a file, name and `stamp`."""
        path = self.path(image)
        if path is None:
            return f"{image} {self.stamp(image)}".encode()
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise DataError("file is missing") from None
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}") from None

    def subset(self, mask) -> "FaceSet":
        """Return the faces where `mask` is true."""
        return replace(self, table=self.table[np.asarray(mask)].reset_index(drop=True))

    def exclude(self, reasons: dict[str, str], step: str) -> "FaceSet":
        """Drop images, from identifier to reason; `step` names the cleaning step in ``steps``."""
        kept = self.table[~self.table["image"].isin(reasons.keys())].reset_index(drop=True)
        dropped = [*self.exclusions.itertuples(index=False, name=None), *reasons.items()]
        steps = [*self.steps.itertuples(index=False, name=None), (step, len(kept))]
        return replace(self, table=kept, exclusions=dropped, steps=steps)


def new_table(images, *, source: str, age=None, gender=None, ethnicity=None) -> pd.DataFrame:
    """A FaceTable in which every face is its own group, all in ``train`` until they are split."""
    table = pd.DataFrame({"image": list(images)}, dtype=object)
    table["age"] = np.nan if age is None else age
    return table.assign(
        gender=gender, ethnicity=ethnicity, source=source, group=table["image"], split="train"
    )
