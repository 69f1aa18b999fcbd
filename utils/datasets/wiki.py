"""WIKI faces: the Wikipedia part of IMDB-WIKI, with or without ``wiki.mat``."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from utils.datasets.archives import beside, find_source, list_images, match_names
from utils.datasets.table import FaceSet, new_table, read_columns
from utils.files import DataError, require

TERMS = "IMDB-WIKI: academic research only; copyright stays with the image owners"
NAMES = ("wiki_crop", "wiki")
MAX_YEARS = 100
_FIELDS = {  # of wiki.mat, and what they are called here
    "full_path": "image", "dob": "birth", "photo_taken": "year", "gender": "gender",
    "face_score": "score", "second_face_score": "second",
}  # fmt: skip
# Some published names write the day with three digits: 1963-02-006.
_NAME = re.compile(r"^(?:.*/)?[^/]*?_(\d{4})-(\d{1,3})-(\d{1,3})_(\d{4})\.\w+$")
_DATENUM_1970 = 719529  # MATLAB's number of 1970-01-01; day 1 is 1 January of the year 0
_GENDER = {0.0: "female", 1.0: "male"}


def datenum_to_date(datenum) -> np.ndarray:
    """MATLAB serial dates as days, datetime64[D]; NaT if not finite or outside years 1 to 9999.

    >>> datenum_to_date([719529, 1, float("nan")]).astype(str).tolist()
    ['1970-01-01', 'NaT', 'NaT']
    """
    days = np.asarray(datenum, dtype=float)
    valid = np.isfinite(days) & (days >= 367) & (days < 3652426)  # 0001-01-01 to 9999-12-31
    whole = np.floor(np.where(valid, days, 0)).astype(np.int64) - _DATENUM_1970
    return np.where(valid, whole.astype("datetime64[D]"), np.datetime64("NaT", "D"))


def age_at_photo(birth, year) -> np.ndarray:
    """Completed years on 1 July of the year in which the photo was taken; NaN for unknown.

    Only the year of the photo is known: its middle is assumed, as the set's authors propose.

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
    """Read birth date and photo year from ``[id]_[birth date]_[year].jpg``; None if malformed.

    A month or day of 00 means unknown and counts as MATLAB counts it: month 0 as January,
    day 0 as the day before the first.

    >>> parse_name("07/10110600_1985-09-17_2012.jpg")
    (np.datetime64('1985-09-17'), 2012)
    """
    match = _NAME.match(path)
    if match is None:
        return None
    year, month, day, taken = (int(value) for value in match.groups())
    if year == 0 or month > 12 or day > 31:
        return None
    first = np.datetime64(f"{year:04}-{max(month, 1):02}-01", "D")
    return first + (day - 1), taken


def read_mat(path: Path) -> pd.DataFrame:
    """Read ``wiki.mat`` as a table; a DataError says what is wrong with it.

    `gender` is 0 for female, 1 for male; `score` -inf for no face; `second` NaN for no second one.
    """
    try:
        struct = loadmat(path, squeeze_me=True).get("wiki")
    except Exception as error:  # scipy raises many kinds for a broken or a newer file
        told = f"{path} is no readable MATLAB file ({str(error)[:80]}); get it again"
        raise DataError(told) from None
    fields = getattr(getattr(struct, "dtype", None), "names", None) or ()
    require(fields, _FIELDS, f"{path} (its struct 'wiki')")
    try:
        columns = {ours: np.atleast_1d(struct[name].item()) for name, ours in _FIELDS.items()}
        table = pd.DataFrame(columns).astype(dict.fromkeys(list(columns)[1:], float))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: a field is not numeric, or of another length ({error})") from None
    return table.assign(image=table["image"].map(str), birth=datenum_to_date(table["birth"]))


def _from_names(names: list[str]) -> pd.DataFrame:
    parsed = [parse_name(name) or (np.datetime64("NaT", "D"), np.nan) for name in names]
    birth = np.array([birth for birth, _ in parsed], dtype="datetime64[D]")
    year = np.array([year for _, year in parsed], dtype=float)
    return pd.DataFrame({"image": names, "birth": birth, "year": year})


def _read_rows(places: list[Path], images: list[str]) -> tuple[pd.DataFrame, str]:
    """Metadata from the best source there is, and its name."""
    found = beside(places, ["wiki.mat", "wiki_meta.csv"])
    if not found:
        return _from_names(images), "file names"
    if found[0].suffix.lower() == ".mat":
        return read_mat(found[0]), "wiki.mat"
    table = read_columns(found[0], ["full_path", "gender"])
    gender = pd.to_numeric(table["gender"], errors="coerce").to_numpy()
    return _from_names(table["full_path"].tolist()).assign(gender=gender), "wiki_meta.csv"


def _checks(rows: pd.DataFrame, paths: dict[str, Path], min_score: float):
    """Each cleaning step: its name, the reason for those that fail, and which rows pass."""
    age = rows["age"]
    scored, in_range = "score" in rows, f"0 < age <= {MAX_YEARS}"
    yield "listed once", "listed twice", ~rows.duplicated("image")
    yield "file is there", "file is missing", rows["image"].isin(paths.keys())
    if scored:  # NaN compares as false: an unknown score counts as no face
        yield "a face is found", "no face was detected", rows["score"] > -np.inf
        yield "no second face", "a second face was detected", rows["second"].isna()
    yield "birth and photo year known", "birth date or photo year is unreadable", age.notna()
    yield in_range, f"age is outside {in_range}", (age > 0) & (age <= MAX_YEARS)
    if scored:
        enough = rows["score"] >= min_score
        yield f"face score >= {min_score:g}", f"face score is below {min_score:g}", enough
    if "gender" in rows:
        yield "gender known", "gender is unknown", rows["gender"].isin(_GENDER)


def load_wiki(root: Path, min_score: float = 1.75) -> FaceSet:
    """Load and clean the WIKI faces from ``wiki_crop`` (folder, zip or tar) below `root`.

    Labels come from ``wiki.mat`` in or beside it; else from ``wiki_meta.csv`` (its ``full_path``
    and ``gender``) and the file names; else from the names alone, without gender. Kept are rows
    with a face, no second face, 0 < age <= 100, a score of at least `min_score` (1.75 and 3.0 are
    the second study's choices; only ``wiki.mat`` has scores) and a known gender. Ethnicity is
    missing.

    Source: Rothe, Timofte, Van Gool: Deep Expectation of Real and Apparent Age from a Single
    Image without Facial Landmarks, IJCV 2018.
    """
    folder = find_source(root, NAMES, "WIKI")
    files, dropped = list_images(folder)
    if not files:
        raise DataError(f"{folder} holds no .jpg file; expected folders 00 to 99 with WIKI's faces")
    rows, source = _read_rows([folder, Path(root), folder.parent], list(files))
    rows["age"] = age_at_photo(rows["birth"].to_numpy(), rows["year"])
    paths = match_names(rows["image"], files)
    listed = set(paths.values())
    dropped += [(name, f"not listed in {source}") for name in files if files[name] not in listed]
    steps, left = [(f"rows ({source})", len(rows))], pd.Series(True, rows.index)
    for step, reason, passes in _checks(rows, paths, min_score):
        dropped += [(image, reason) for image in rows.loc[left & ~passes, "image"]]
        left &= passes
        steps.append((step, int(left.sum())))
    rows = rows[left]
    gender = rows["gender"].map(_GENDER).to_numpy() if "gender" in rows else None
    table = new_table(rows["image"], source="wiki", age=rows["age"].to_numpy(), gender=gender)
    return FaceSet(
        "wiki", table, root=folder, paths=paths, exclusions=dropped, steps=steps, terms=TERMS
    )
