"""UTKFace as Kaggle's ``age_gender.csv``: 48x48 grey pixels in one table."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from utils.datasets.archives import find_source
from utils.datasets.progress import progress_bar
from utils.datasets.table import FaceSet, cached_table, new_table
from utils.files import DataError, digest_of, require
from utils.paths import cache_dir
from utils.vocabulary import ETHNICITIES, GENDERS, MAX_AGE

TERMS = "UTKFace (Kaggle table): non-commercial research only; copyright stays with the owners"
NAMES = ("age_gender.csv", "age_gender", "utkface_csv")
COLUMNS = ["age", "ethnicity", "gender", "img_name", "pixels"]
SIDE = 48
_RANGES = {"age": MAX_AGE, "gender": len(GENDERS) - 1, "ethnicity": len(ETHNICITIES) - 1}
_BETWEEN = str.maketrans(dict.fromkeys(",;|\t[]()", " "))  # what may stand between pixels
_READER = "4"  # of this module; another number reads the table again


def parse_row(row: dict[str, str]) -> tuple[str, int, str, str, bytes]:
    """Identifier, age, gender, ethnicity and pixels of a row; a DataError if it is unusable.

    The identifier is UTKFace's file name ``[age]_[gender]_[ethnicity]_[img_name]``: ``img_name``
    alone is not unique. Pixels are 2304 bytes, row by row.

    >>> row = {"age": "26", "gender": "1", "ethnicity": "2", "img_name": "2017.jpg"}
    >>> parse_row(row | {"pixels": "7 " * 2304})[:4]
    ('26_1_2_2017.jpg', 26, 'female', 'Asian')
    """
    age, gender, ethnicity = (_label(row, name) for name in _RANGES)
    name = (row["img_name"] or "").strip()
    if not name:
        raise DataError("img_name is empty")
    words = (row["pixels"] or "").translate(_BETWEEN).split()
    if len(words) != SIDE * SIDE:
        raise DataError(f"{len(words)} pixels, expected {SIDE * SIDE} ({SIDE}x{SIDE})")
    try:
        pixels = np.array(words, dtype=float)
    except ValueError:
        pixels = np.full(1, np.nan)
    if not ((pixels >= 0) & (pixels <= 255) & (pixels % 1 == 0)).all():  # false for NaN
        raise DataError("a pixel is no whole number from 0 to 255")
    image = f"{age}_{gender}_{ethnicity}_{name}"
    return image, age, GENDERS[gender], ETHNICITIES[ethnicity], pixels.astype(np.uint8).tobytes()


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
            first = file.readline()
            file.seek(0)
            between = ";" if first.count(";") > first.count(",") else ","  # as spreadsheets write
            reader = csv.DictReader(file, restkey="more", delimiter=between)
            header = reader.fieldnames = [x.strip().lower() for x in reader.fieldnames or []]
            require(header, COLUMNS, path)
            yield from reader
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable CSV ({error}); get it again") from None


def _read(path: Path) -> pd.DataFrame:
    """All rows: identifier, labels and pixels (2304 bytes), or the reason why they are unusable."""
    read, known = [], set()
    rows = progress_bar(_rows(path), desc=f"read {path.name}", unit="row")
    for line, row in enumerate(rows, start=2):
        try:
            face = parse_row(row)
            if face[0] in known:
                raise DataError("the row occurs twice (same labels and img_name)")
            known.add(face[0])
            read.append([*face, ""])
        except DataError as error:
            read.append([f"line {line}: {row['img_name']}", np.nan, "", "", b"", str(error)])
    return pd.DataFrame(read, columns=["image", *_RANGES, "pixels", "reason"])


def load_utkface_csv(root: Path) -> FaceSet:
    """Load Kaggle's ``age_gender.csv``, plain or zipped: the form that the first study used.

    Images are identified by UTKFace's file names, so both forms share splits; ``img_name`` is an
    extra column. Unusable rows are in ``exclusions`` with their line number.
    """
    found = find_source(root, NAMES, "UTKFace as a table (age_gender.csv)")
    below = sorted(found.rglob("[!.]*")) if found.is_dir() else [found]
    inside = [path for path in below if path.suffix.lower() == ".csv" and path.is_file()]
    if not inside:
        raise DataError(f"{found} holds no .csv file; expected age_gender.csv")
    version = f"{digest_of(inside[0])[:12]}-{_READER}"
    rows = cached_table(cache_dir() / f"utkface_csv-{version}.parquet", lambda: _read(inside[0]))
    good, bad = rows[rows["reason"] == ""].reset_index(drop=True), rows[rows["reason"] != ""]
    labels = good[list(_RANGES)].to_dict("series")
    table = new_table(good["image"], source="utkface_csv", **labels)
    table["img_name"] = [image.split("_", 3)[3] for image in good["image"]]
    pixels = dict(zip(good["image"], good["pixels"], strict=True))
    told = {"steps": [("rows in the table", len(rows)), ("usable rows", len(good))]}
    told |= {"exclusions": bad[["image", "reason"]].to_numpy(), "terms": TERMS}

    def read(image: str) -> Image.Image:
        return Image.frombytes("L", (SIDE, SIDE), pixels[image]).convert("RGB")

    place = inside[0].parent
    return FaceSet("utkface_csv", table, read, root=place, paths={}, version=version, **told)
