"""WIKI faces: the Wikipedia part of IMDB-WIKI, with or without ``wiki.mat``."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from utils.datasets.archives import find_source, list_images
from utils.datasets.cleaning import open_rgb
from utils.datasets.facetable import DataError, FaceSet, exclusions_table, new_table, steps_table
from utils.paths import data_dir

TERMS = "IMDB-WIKI: academic research only; copyright stays with the image owners"
NAMES = ("wiki_crop", "wiki")
MAX_YEARS = 100
_FIELDS = ("dob", "photo_taken", "full_path", "gender", "face_score", "second_face_score")
# Some published names write the day with three digits: 1963-02-006.
_NAME = re.compile(r"^(?:.*/)?[^/]*?_(\d{4})-(\d{1,3})-(\d{1,3})_(\d{4})\.\w+$")
_DATENUM_1970 = 719529  # MATLAB's number of 1970-01-01; day 1 is 1 January of the year 0
_GENDER = {0.0: "female", 1.0: "male"}


def datenum_to_date(datenum) -> np.ndarray:
    """Convert MATLAB serial dates to calendar dates.

    MATLAB counts days from 1 January of the year 0 (day 1), so the number is Python's ordinal
    plus 366. The time of day is cut off.

    Parameters
    ----------
    datenum : array_like
        Serial dates in days.

    Returns
    -------
    datetime64[D] array
        NaT where the number is not finite or outside the years 1 to 9999.

    Examples
    --------
    >>> datenum_to_date([719529, 1, float("nan")]).astype(str).tolist()
    ['1970-01-01', 'NaT', 'NaT']
    """
    days = np.asarray(datenum, dtype=float)
    valid = np.isfinite(days) & (days >= 367) & (days < 3652426)  # 0001-01-01 to 9999-12-31
    whole = np.floor(np.where(valid, days, 0)).astype(np.int64) - _DATENUM_1970
    return np.where(valid, whole.astype("datetime64[D]"), np.datetime64("NaT", "D"))


def age_at_photo(birth, year) -> np.ndarray:
    """Completed years on 1 July of the year in which the photo was taken.

    Only the year of the photo is known: the middle of it is assumed, as the authors of the set
    propose.

    Parameters
    ----------
    birth : datetime64[D] array_like
        Dates of birth; NaT for unknown.
    year : array_like
        Years of the photos; NaN for unknown.

    Returns
    -------
    float array
        Years, not checked for sense; NaN for unknown.

    Examples
    --------
    >>> age_at_photo(np.array(["1980-07-01", "1980-07-02", "NaT"], "datetime64[D]"), 2010).tolist()
    [30.0, 29.0, nan]
    """
    birth = np.asarray(birth, dtype="datetime64[D]")
    known = ~np.isnat(birth)
    birth_year = birth.astype("datetime64[Y]")
    july = birth_year.astype("datetime64[M]") + 6
    age = np.asarray(year, dtype=float) - (birth_year.astype(np.int64) + 1970) - (birth > july)
    return np.where(known, age, np.nan)


def parse_name(path: str) -> tuple[np.datetime64, int] | None:
    """Read birth date and photo year from ``[id]_[birth date]_[year].jpg``.

    A month or day of 00 means unknown and counts as MATLAB counts it: month 0 as January,
    day 0 as the day before the first. Returns None if the name is malformed.

    Examples
    --------
    >>> parse_name("07/10110600_1985-09-17_2012.jpg")
    (np.datetime64('1985-09-17'), 2012)
    >>> parse_name("07/face.jpg") is None
    True
    """
    match = _NAME.match(path)
    if match is None:
        return None
    year, month, day, taken = (int(value) for value in match.groups())
    if year == 0 or month > 12 or day > 31:
        return None
    first = np.datetime64(f"{year:04}-{max(month, 1):02}-01", "D")
    return first + (day - 1), taken


def _field(struct: np.ndarray, name: str) -> np.ndarray:
    return np.atleast_1d(struct[name].item()).ravel()


def read_mat(path: Path) -> pd.DataFrame:
    """Read ``wiki.mat`` as a table.

    Returns
    -------
    DataFrame
        ``image`` (path below ``wiki_crop``), ``birth``, ``year``, ``gender`` (0 female, 1 male,
        NaN), ``score`` (-inf: no face) and ``second`` (NaN: no second face).

    Raises
    ------
    DataError
        If the file is unreadable or lacks a field.
    """
    expected = f"expected a struct 'wiki' with the fields {', '.join(_FIELDS)}"
    try:
        content = loadmat(path, squeeze_me=True)
    except Exception as error:  # scipy raises many kinds for a broken or a newer file
        raise DataError(
            f"{path} is no readable MATLAB file ({str(error)[:80]}); {expected}; get it again"
        ) from None
    struct = content.get("wiki")
    fields = getattr(getattr(struct, "dtype", None), "names", None) or ()
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise DataError(f"{path} lacks the fields {missing}; it has {list(fields)}; {expected}")
    columns = {name: _field(struct, name) for name in _FIELDS}
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) != 1:
        raise DataError(f"{path}: its fields differ in length ({sizes}); get it again")
    names = [str(name) for name in columns.pop("full_path")]
    try:
        numbers = {name: column.astype(float) for name, column in columns.items()}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: a field is not numeric ({error}); {expected}") from None
    return pd.DataFrame(
        {
            "image": names,
            "birth": datenum_to_date(numbers["dob"]),
            "year": numbers["photo_taken"],
            "gender": numbers["gender"],
            "score": numbers["face_score"],
            "second": numbers["second_face_score"],
        }
    )


def _read_csv(path: Path) -> pd.DataFrame:
    """Names and genders from a table with the columns ``full_path`` and ``gender``."""
    try:
        table = pd.read_csv(path, dtype={"full_path": str})
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read ({str(error)[:80]}); get it again") from None
    missing = [name for name in ("full_path", "gender") if name not in table.columns]
    if missing:
        raise DataError(
            f"{path} lacks the columns {missing}; it has {list(table.columns)[:10]}; "
            "expected full_path,gender (0 female, 1 male)"
        )
    rows = _from_names(table["full_path"].fillna(""))
    rows["gender"] = pd.to_numeric(table["gender"], errors="coerce").to_numpy()
    return rows


def _from_names(names: Iterable[str]) -> pd.DataFrame:
    names = list(names)
    parsed = [parse_name(name) or (np.datetime64("NaT", "D"), np.nan) for name in names]
    return pd.DataFrame(
        {
            "image": names,
            "birth": np.array([birth for birth, _ in parsed], dtype="datetime64[D]"),
            "year": np.array([year for _, year in parsed], dtype=float),
        }
    )


def _read_rows(folder: Path, root: Path, images: list[str]) -> tuple[pd.DataFrame, str]:
    """Metadata from the best source there is, and its name."""
    for place in (folder, root, folder.parent):
        if (place / "wiki.mat").is_file():
            return read_mat(place / "wiki.mat"), "wiki.mat"
        if (place / "wiki_meta.csv").is_file():
            return _read_csv(place / "wiki_meta.csv"), "wiki_meta.csv"
    return _from_names(images), "file names"


def _checks(rows: pd.DataFrame, images: set[str], min_score: float):
    """Each cleaning step: its name, the reason for those that fail, and which rows pass."""
    age = rows["age"]
    yield "listed once", "listed twice", ~rows.duplicated("image")
    yield "file is there", "file is missing", rows["image"].isin(images)
    if "score" in rows:
        # NaN compares as false: an unknown score counts as no face.
        yield "a face is found", "no face was detected", rows["score"] > -np.inf
        yield "no second face", "a second face was detected", rows["second"].isna()
    yield "birth and photo year known", "birth date or photo year is unreadable", age.notna()
    yield (
        f"0 < age <= {MAX_YEARS}",
        f"age is outside 0 < age <= {MAX_YEARS}",
        (age > 0) & (age <= MAX_YEARS),
    )
    if "score" in rows:
        yield (
            f"face score >= {min_score:g}",
            f"face score is below {min_score:g}",
            rows["score"] >= min_score,
        )
    if "gender" in rows:
        yield "gender known", "gender is unknown", rows["gender"].isin(_GENDER)


def _clean(rows: pd.DataFrame, images: list[str], min_score: float, source: str):
    """Apply the steps in order; return the rows left, the exclusions and the counts."""
    there = set(images)
    unlisted = sorted(there - set(rows["image"]))
    dropped = [(image, f"not listed in {source}") for image in unlisted]
    steps = [(f"rows ({source})", len(rows))]
    left = pd.Series(True, index=rows.index)
    for step, reason, passes in _checks(rows, there, min_score):
        dropped += [(image, reason) for image in rows.loc[left & ~passes, "image"]]
        left &= passes
        steps.append((step, int(left.sum())))
    return rows[left], exclusions_table(dropped), steps_table(steps)


def load_wiki(root: Path | None = None, min_score: float = 1.75) -> FaceSet:
    """Load and clean the WIKI faces.

    Labels come from ``wiki.mat`` in or beside ``wiki_crop``; else from ``wiki_meta.csv``
    (``full_path,gender``) and the file names; else from the file names alone, without gender.
    Kept are rows with a face, no second face, 0 < age <= 100, a face score of at least
    `min_score` and a known gender. Without ``wiki.mat`` the scores are unknown and not checked.

    Parameters
    ----------
    root : Path, optional
        Folder that holds ``wiki_crop`` (folder, zip or tar); by default ``FACES_DATA_DIR`` or
        ``data/raw``.
    min_score : float
        Smallest detection score; 1.75 and 3.0 are the second study's choices.

    Returns
    -------
    FaceSet
        Image identifiers such as ``07/10110600_1985-09-17_2012.jpg``; ethnicity is missing.

    Raises
    ------
    DataError
        If no source or no image is found, or the metadata lack a field.

    References
    ----------
    Rothe, Timofte, Van Gool: Deep Expectation of Real and Apparent Age from a Single Image
    without Facial Landmarks, IJCV 2018.
    """
    root = Path(root) if root else data_dir()
    folder = find_source(root, NAMES, "WIKI")
    images = list_images(folder)
    if not images:
        raise DataError(f"{folder} holds no .jpg file; expected folders 00 to 99 with WIKI's faces")
    rows, source = _read_rows(folder, root, images)
    rows["age"] = age_at_photo(rows["birth"].to_numpy(), rows["year"])
    rows, exclusions, steps = _clean(rows, images, min_score, source)
    gender = rows["gender"].map(_GENDER).to_numpy() if "gender" in rows else None
    return FaceSet(
        name="wiki",
        table=new_table(rows["image"], source="wiki", age=rows["age"].to_numpy(), gender=gender),
        read=lambda image: open_rgb(folder / image),
        root=folder,
        exclusions=exclusions,
        steps=steps,
        source_bytes=lambda image: (folder / image).read_bytes(),
        terms=TERMS,
    )
