"""UTKFace as Kaggle's ``age_gender.csv``: 48x48 grey pixels in one table."""

import csv
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from utils.datasets.archives import find_source, fingerprint
from utils.datasets.facetable import (
    ETHNICITIES,
    GENDERS,
    MAX_AGE,
    DataError,
    FaceSet,
    exclusions_table,
    new_table,
    steps_table,
)
from utils.files import write_aside
from utils.paths import cache_dir, data_dir

TERMS = "UTKFace (Kaggle table): non-commercial research only; copyright stays with the owners"
NAMES = ("age_gender.csv", "age_gender", "utkface_csv")
COLUMNS = ["age", "ethnicity", "gender", "img_name", "pixels"]
SIDE = 48
_RANGES = {"age": MAX_AGE, "gender": len(GENDERS) - 1, "ethnicity": len(ETHNICITIES) - 1}


def parse_row(row: dict[str, str]) -> tuple[str, int, int, int, bytes]:
    """Check and convert one row of the table.

    Parameters
    ----------
    row : dict
        The five columns as text.

    Returns
    -------
    image, age, gender, ethnicity, pixels
        The identifier is UTKFace's file name ``[age]_[gender]_[ethnicity]_[img_name]``:
        ``img_name`` alone is not unique. Pixels are 2,304 bytes, row by row.

    Raises
    ------
    DataError
        With the reason why the row is unusable.

    Examples
    --------
    >>> row = {"age": "26", "gender": "1", "ethnicity": "2", "img_name": "2017.jpg"}
    >>> parse_row(row | {"pixels": "7 " * 2304})[:4]
    ('26_1_2_2017.jpg', 26, 1, 2)
    >>> parse_row(row | {"pixels": "1 2 3"})
    Traceback (most recent call last):
    utils.datasets.facetable.DataError: 3 pixels, expected 2304 (48x48)
    """
    labels = {name: _label(row, name) for name in _RANGES}
    name = (row["img_name"] or "").strip()
    if not name:
        raise DataError("img_name is empty")
    pixels = _pixels(row["pixels"] or "")
    age, gender, ethnicity = labels["age"], labels["gender"], labels["ethnicity"]
    return f"{age}_{gender}_{ethnicity}_{name}", age, gender, ethnicity, pixels


def _pixels(text: str) -> bytes:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy only warns of text that it cannot read
            values = np.fromstring(text, dtype=np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        values = np.full(len(text.split()), -1)
    if len(values) != SIDE * SIDE:
        raise DataError(f"{len(values)} pixels, expected {SIDE * SIDE} ({SIDE}x{SIDE})")
    if values.min() < 0 or values.max() > 255:
        raise DataError("a pixel is no whole number from 0 to 255")
    return values.astype(np.uint8).tobytes()


def _label(row: dict[str, str], name: str) -> int:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        raise DataError(f"{name} {row[name]!r} is no number") from None
    if not (value.is_integer() and 0 <= value <= _RANGES[name]):
        raise DataError(f"{name} {row[name]} is outside 0 to {_RANGES[name]}")
    return int(value)


def _rows(path: Path):
    """Rows of the CSV as dicts, one at a time: the file is larger than its pixels."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="more")
            header = reader.fieldnames or []
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise DataError(
                    f"{path} lacks the columns {missing}; it has {header[:10]}; expected {COLUMNS}"
                )
            yield from reader
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable CSV ({error}); get it again") from None


def _build(path: Path, folder: Path) -> None:
    """Write pixels, labels and exclusions of the whole table into the cache."""
    kept, dropped, seen = [], [], set()
    bar = tqdm(
        total=path.stat().st_size,
        desc=f"read {path.name}",
        unit="B",
        unit_scale=True,
        mininterval=1.0,
    )
    with write_aside(folder) as aside, bar:
        aside.mkdir()
        with open(aside / "pixels.bin", "wb") as file:
            for line, row in enumerate(_rows(path), start=2):
                bar.update(len(row["pixels"] or "") + len(row["img_name"] or "") + 10)
                try:
                    *labels, pixels = parse_row(row)
                    if labels[0] in seen:
                        raise DataError("the row occurs twice (same labels and img_name)")
                except DataError as error:
                    dropped.append((f"line {line}: {row['img_name']}", str(error)))
                    continue
                seen.add(labels[0])
                kept.append((*labels, row["img_name"].strip()))
                file.write(pixels)
        columns = ["image", "age", "gender", "ethnicity", "img_name"]
        pd.DataFrame(kept, columns=columns).to_csv(aside / "labels.csv", index=False)
        exclusions_table(dropped).to_csv(aside / "exclusions.csv", index=False)


def _cached(path: Path) -> tuple[Path, pd.DataFrame]:
    """The cache of the table, built if it is not there or not whole, and its labels."""
    folder = cache_dir() / f"utkface_csv-{fingerprint(path)}"
    try:
        labels = pd.read_csv(folder / "labels.csv", dtype={"image": str, "img_name": str})
        whole = (folder / "pixels.bin").stat().st_size == len(labels) * SIDE * SIDE
    except (OSError, ValueError):
        whole = False
    if not whole:
        try:
            _build(path, folder)
        except OSError as error:
            raise DataError(
                f"{path} cannot be read into {folder.parent} ({error.strerror or error}); "
                "free some space, or set FACES_WORK_DIR to another disk"
            ) from None
        labels = pd.read_csv(folder / "labels.csv", dtype={"image": str, "img_name": str})
    return folder, labels


def _find_csv(root: Path) -> Path:
    found = find_source(root, NAMES, "UTKFace as a table (age_gender.csv)")
    inside = sorted(found.rglob("*.csv")) if found.is_dir() else [found]
    if not inside:
        raise DataError(f"{found} holds no .csv file; expected age_gender.csv")
    return inside[0]


def load_utkface_csv(root: Path | None = None) -> FaceSet:
    """Load Kaggle's ``age_gender.csv``, the form of UTKFace that the first study used.

    The text is read once, row by row, into an array of bytes in the cache.

    Parameters
    ----------
    root : Path, optional
        The CSV, or the folder that holds it (plain or zipped); by default ``FACES_DATA_DIR`` or
        ``data/raw``.

    Returns
    -------
    FaceSet
        Image identifiers are UTKFace's file names, so both forms share splits; ``img_name`` is
        kept as an extra column. Unusable rows are in ``exclusions`` with their line number.

    Raises
    ------
    DataError
        If the table is not found, lacks a column or holds no usable row.
    """
    path = _find_csv(Path(root) if root else data_dir())
    folder, labels = _cached(path)
    dropped = pd.read_csv(folder / "exclusions.csv", dtype=str)
    exclusions = exclusions_table(zip(dropped["image"], dropped["reason"], strict=True))
    table = new_table(
        labels["image"],
        source="utkface_csv",
        age=labels["age"].to_numpy(),
        gender=[GENDERS[code] for code in labels["gender"]],
        ethnicity=[ETHNICITIES[code] for code in labels["ethnicity"]],
    )
    table["img_name"] = labels["img_name"]
    row_of = dict(zip(labels["image"], range(len(labels)), strict=True))
    # An empty file cannot be mapped; FaceSet then says that no face is left.
    pixels = (
        np.memmap(folder / "pixels.bin", np.uint8, "r").reshape(-1, SIDE, SIDE)
        if len(labels)
        else None
    )
    return FaceSet(
        name="utkface_csv",
        table=table,
        read=lambda image: Image.fromarray(np.asarray(pixels[row_of[image]])).convert("RGB"),
        root=folder,
        exclusions=exclusions,
        steps=steps_table(
            [("rows in the table", len(labels) + len(dropped)), ("usable rows", len(labels))]
        ),
        source_bytes=lambda image: pixels[row_of[image]].tobytes(),
        terms=TERMS,
    )
