"""Loaders: what is found, what is kept, and why the rest is not."""

import datetime
import io
import os
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from utils.datasets import utkface, wiki, with_splits
from utils.datasets.__main__ import main
from utils.datasets.archives import find_source, unpack
from utils.datasets.fairface import load_fairface
from utils.datasets.utkface import load_utkface
from utils.datasets.utkface_csv import load_utkface_csv
from utils.datasets.wiki import age_at_photo, datenum_to_date, load_wiki, parse_name
from utils.files import DataError
from utils.vocabulary import ETHNICITIES, GENDERS


@pytest.fixture(autouse=True)
def work_dir(tmp_path_factory, monkeypatch):
    """Keep every cache of these tests in a folder of its own."""
    folder = tmp_path_factory.mktemp("work")
    monkeypatch.setenv("FACES_WORK_DIR", str(folder))
    return folder


def jpeg(colour=128, size=(20, 20)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (colour, 64, 32)).save(file, "JPEG")
    return file.getvalue()


def put(path, content: bytes | None = None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg() if content is None else content)
    return path


def reasons(faces) -> dict[str, str]:
    return dict(zip(faces.exclusions["image"], faces.exclusions["reason"], strict=True))


def counts(faces) -> dict[str, int]:
    return dict(zip(faces.steps["step"], faces.steps["faces"], strict=True))


# -- Archives ----------------------------------------------------------------------------------

UTK = ["UTKFace", "crop_part1"]
NAME = "26_1_2_20170116184024662.jpg.chip.jpg"


def make_archive(path, members: dict[str, bytes | None]):
    """A zip or tar of some files; None makes a link that leads out of it."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members.items():
                file.writestr(name, content or b"")
        return path
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content or b"")
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            file.addfile(info, io.BytesIO(content or b""))
    return path


@pytest.mark.parametrize("place", ["UTKFace", "utkface", "UTKFace/UTKFace", "crop_part1", "."])
def test_folder_is_found(tmp_path, place):
    put(tmp_path / place / NAME)
    assert find_source(tmp_path, UTK, "UTKFace") == (tmp_path / place).resolve()
    put(tmp_path / "UTKFace" / NAME)  # the first name wins
    assert find_source(tmp_path, UTK, "UTKFace").name.lower() == "utkface"


def test_nothing_found_says_what_to_do(tmp_path):
    for place, told in ((".", "looked for UTKFace, crop_part1 .*FACES_DATA_DIR"), ("x", "exist")):
        with pytest.raises(DataError, match=told):
            find_source(tmp_path / place, UTK, "UTKFace")
    put(tmp_path / "UTKFace" / "notes.txt", b"no face")
    with pytest.raises(DataError, match="holds no .jpg"):
        load_utkface(tmp_path)


def unpacked(work_dir) -> list:
    return [path for path in work_dir.glob("cache/unpacked/*") if ".lock" not in path.name]


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tgz"])
def test_archive_is_unpacked_once_and_without_links(tmp_path, work_dir, ending):
    members = {f"UTKFace/{NAME}": jpeg(), f"__MACOSX/UTKFace/._{NAME}": b"x"}
    members |= {"UTKFace/31_0_0_2017.jpg": None} if ending != ".zip" else {}
    archive = make_archive(tmp_path / f"UTKFace{ending}", members)
    faces = load_utkface(tmp_path)
    assert faces.table["image"].tolist() == [NAME] and faces.read(NAME).size == (20, 20)
    folder = unpack(archive)
    before = folder.stat().st_mtime_ns
    assert unpack(archive) == folder and folder.stat().st_mtime_ns == before
    assert unpacked(work_dir) == [folder]
    make_archive(archive, {**members, "UTKFace/30_0_0_20170116184024662.jpg": jpeg()})
    assert len(load_utkface(tmp_path)) == 2  # another archive under the same name


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("name", ["../evil.jpg", "a/../../evil.jpg", "/evil.jpg", "..\\evil.jpg"])
def test_unsafe_archive_is_refused(tmp_path, work_dir, ending, name):
    make_archive(tmp_path / f"UTKFace{ending}", {"UTKFace/a.jpg": jpeg(), name: b"x"})
    with pytest.raises(DataError, match="unsafe name"):
        find_source(tmp_path, UTK, "UTKFace")
    assert not list(tmp_path.rglob("evil*")) + list(work_dir.rglob("*.jpg"))


@pytest.mark.parametrize("ending", [".zip", ".tar.gz", ".tar"])
def test_damaged_archive_or_file_and_folder_of_one_name_leave_nothing(tmp_path, work_dir, ending):
    members = {f"UTKFace/{k}_0_0_1.jpg": np.random.default_rng(k).bytes(5000) for k in range(9)}
    archive = make_archive(tmp_path / f"UTKFace{ending}", members)
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        find_source(tmp_path, UTK, "UTKFace")
    for names in (("UTKFace/a", "UTKFace/a/b.jpg"), ("UTKFace/a/b.jpg", "UTKFace/a")):
        make_archive(archive, dict.fromkeys(names, b"x"))
        with pytest.raises(DataError, match="a file and a folder of one name"):
            find_source(tmp_path, UTK, "UTKFace")
    assert not unpacked(work_dir)


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_room_is_asked_for_what_an_archive_unpacks_to(tmp_path, work_dir, monkeypatch, ending):
    archive = make_archive(tmp_path / f"UTKFace{ending}", {f"UTKFace/{NAME}": bytes(50_000_000)})
    assert archive.stat().st_size < 100_000
    free = 200_000_000 + 10_000_000  # more than the archive, less than its content
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))
    with pytest.raises(DataError, match="unpacking UTKFace.*needs.*FACES_WORK_DIR"):
        find_source(tmp_path, UTK, "UTKFace")
    assert not list(work_dir.rglob("*.jpg"))


# -- UTKFace as files --------------------------------------------------------------------------


@given(st.integers(0, 116), st.integers(0, 1), st.integers(0, 4), st.text(max_size=40))
def test_well_formed_names_are_read_back_and_any_other_gives_a_reason(age, gender, race, text):
    name = f"{age}_{gender}_{race}_2017.jpg.chip.jpg"
    assert utkface.parse_name(name) == (age, GENDERS[gender], ETHNICITIES[race])
    parsed = utkface.parse_name(text)
    assert isinstance(parsed, str) or len(parsed) == 3


BAD_NAMES = {
    "26_1_7_2017.jpg": "race 7",
    "39_1_2017.jpg": "lacks a field",
    "117_0_0_2017.jpg": "age 117",
    "5_2_0_2017.jpg": "gender 2",
    "30_0_0_2017.heic": "save as JPEG",
}


def test_names_decide(tmp_path):
    for name in (NAME, *BAD_NAMES):
        put(tmp_path / "UTKFace" / name)
    faces = load_utkface(tmp_path)
    row = faces.table.iloc[0]
    assert (row["age"], row["gender"], row["ethnicity"]) == (26.0, "female", "Asian")
    assert len(faces) == 1 and len(faces.exclusions) == len(BAD_NAMES)
    assert all(part in reasons(faces)[name] for name, part in BAD_NAMES.items())


@pytest.mark.parametrize("place", ["UTKFace/", "", "UTKFace/crop_"])
def test_parts_that_share_names_lose_no_face(tmp_path, place):
    for k in (1, 2, 3):
        put(tmp_path / f"{place}part{k}" / NAME, jpeg(60 * k))
        put(tmp_path / f"{place}part{k}" / f"30_0_0_201{k}.png")
    faces = load_utkface(tmp_path)
    assert len(faces) == 6 and faces.table["image"].iloc[0] == NAME
    shades = {faces.read(image).getpixel((0, 0))[0] // 60 for image in faces.table["image"]}
    assert shades == {1, 2, 3}


def test_links_are_followed_once_and_what_is_no_face_is_none(tmp_path):
    folder = tmp_path / "UTKFace"
    put(folder / NAME)
    put(folder / ".ipynb_checkpoints" / "26_1_2_2017-checkpoint.jpg")
    put(folder / "31_0_0_2017.jpg" / "32_0_0_2017.jpg")  # a folder called like a face
    put(tmp_path / "other" / "33_0_0_2017.webp")
    (folder / "linked").symlink_to(tmp_path / "other")
    (folder / "again").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "round").symlink_to(folder)
    (folder / "34_0_0_2017.jpg").symlink_to(tmp_path / "gone.jpg")
    put(folder / "37_0_0_2017.jpg", jpeg(size=(90, 90))[:700])
    os.mkfifo(folder / "38_0_0_2017.jpg")  # to open it would wait for ever
    put(folder / "39_0_0_2017.CR3")
    (folder / os.fsdecode(b"35_0_0_\xe9.jpg")).write_bytes(jpeg())
    (folder / os.fsdecode(b"36_0_0_2017\xe9.jpg")).write_bytes(jpeg())
    faces = load_utkface(tmp_path)
    ages = sorted(faces.table["age"].astype(int))
    assert ages == [26, 32, 33, 34, 37]
    assert "not UTF-8" in reasons(faces)["36_0_0_2017\\xe9.jpg"]
    assert "pipe" in reasons(faces)["38_0_0_2017.jpg"]
    assert "save as JPEG" in reasons(faces)["39_0_0_2017.CR3"]
    table = with_splits(faces, progress=False)  # and the rest goes on
    assert len(table) == 3 and reasons(table)["34_0_0_2017.jpg"] == "file is missing"
    assert "broken picture" in reasons(table)["37_0_0_2017.jpg"]


# -- UTKFace as a table ------------------------------------------------------------------------


def csv_row(**changes) -> dict:
    pixels = " ".join(str(k % 256) for k in range(2304))
    row = {"age": 26, "ethnicity": 2, "gender": 1, "img_name": "a.jpg", "pixels": pixels}
    return row | changes


def write_csv(folder, rows, **options):
    path = folder / "age_gender.csv"
    pd.DataFrame(rows).to_csv(path, index=False, **options)
    return path


def test_csv_round_trip(tmp_path):
    write_csv(tmp_path, [csv_row(), csv_row(gender=0, age=1), csv_row(img_name="b.jpg")])
    faces = load_utkface_csv(tmp_path)
    assert faces.table["image"].tolist() == ["26_1_2_a.jpg", "1_0_2_a.jpg", "26_1_2_b.jpg"]
    assert faces.table["img_name"].tolist() == ["a.jpg", "a.jpg", "b.jpg"]
    assert faces.table["gender"].tolist() == ["female", "male", "female"]
    assert faces.table["ethnicity"].unique().tolist() == ["Asian"]
    picture = faces.read("26_1_2_b.jpg")
    assert picture.mode == "RGB" and picture.size == (48, 48)
    expected = (np.arange(2304) % 256).astype(np.uint8).reshape(48, 48)
    assert (np.asarray(picture) == expected[..., None]).all()


@pytest.mark.parametrize("between", [",", ", ", ";", "\t", " | "])
def test_csv_pixels_may_stand_between_other_signs(tmp_path, between):
    pixels = between.join(str(k % 256) for k in range(2304))
    write_csv(tmp_path, [csv_row(pixels=pixels), csv_row(img_name="b.jpg", pixels=f"[{pixels}]")])
    faces = load_utkface_csv(tmp_path)
    assert len(faces) == 2 and faces.read("26_1_2_b.jpg").getpixel((1, 0)) == (1, 1, 1)
    write_csv(tmp_path, [csv_row(pixels="7.0 " * 2304)], sep=";")  # as spreadsheets write
    faces = load_utkface_csv(tmp_path)
    assert faces.read("26_1_2_a.jpg").getpixel((0, 0))[0] == 7
    # The digest of a run's data is of the content: rights, times and names do not matter.
    (tmp_path / "age_gender.csv").chmod(0o600)
    assert load_utkface_csv(tmp_path).version == faces.version


def bad_pixels(last: str, count=2303) -> dict:
    return {"pixels": " ".join([*["7"] * count, last])}


BAD_ROWS = {
    "3 pixels, expected 2304": {"pixels": "1 2 3"},
    "0 pixels": {"pixels": ""},
    "whole number from 0 to 255": bad_pixels("x"),
    "no whole number": bad_pixels("256"),
    "a pixel is no whole": bad_pixels("-1"),
    "is no whole": bad_pixels("1.5"),
    "2305 pixels": bad_pixels("x", 2304),
    "age 140 is outside 0 to 116": {"age": 140},
    "age 2.5 is outside": {"age": 2.5},
    "age 'old' is no number": {"age": "old"},
    "age '' is no number": {"age": ""},
    "age nan is outside": {"age": "nan"},
    "gender 2 is outside 0 to 1": {"gender": 2},
    "ethnicity 7 is outside 0 to 4": {"ethnicity": 7},
    "img_name is empty": {"img_name": ""},
    "occurs twice": {},
}


def test_csv_bad_rows_are_listed(tmp_path):
    rows = [csv_row(), *(csv_row(**changes) for changes in BAD_ROWS.values())]
    write_csv(tmp_path, rows)
    for _ in range(2):  # built, then from the cache
        faces = load_utkface_csv(tmp_path)
        assert counts(faces) == {"rows in the table": len(rows), "usable rows": 1}
        told = zip(BAD_ROWS, reasons(faces).items(), strict=True)
        for line, (part, (name, reason)) in enumerate(told, start=3):
            assert part in reason and name.startswith(f"line {line}:")


def test_csv_that_cannot_be_used_and_rows_of_another_length(tmp_path):
    path = write_csv(tmp_path, [csv_row()])
    with open(path, "a") as file:
        file.write("26,2\n26,2,1,c.jpg," + "7 " * 2304 + ",more\n")
    faces = load_utkface_csv(tmp_path)
    assert len(faces) == 2 and len(faces.exclusions) == 1
    for content, told in (
        (b"", "lacks the columns"),
        (b"age,pixels\n3,1 2\n", "lacks the columns .*ethnicity.*img_name"),
        (b"\xff\xfe\x00\x81" * 50, "no readable CSV"),
        (path.read_bytes().replace(b"26,", b"500,"), "no usable face"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=told):
            load_utkface_csv(tmp_path)


def test_csv_zip_changed_file_and_half_written_cache(tmp_path, work_dir):
    path = write_csv(tmp_path, [csv_row()])
    with zipfile.ZipFile(tmp_path / "age_gender.csv.zip", "w") as file:
        file.write(path, "age_gender.csv")
    assert len(load_utkface_csv(tmp_path)) == 1
    write_csv(tmp_path, [csv_row(), csv_row(img_name="b.jpg")])
    for damage in (lambda content: content[: len(content) // 2], lambda content: b""):
        assert load_utkface_csv(tmp_path).read("26_1_2_b.jpg").size == (48, 48)
        for store in work_dir.glob("cache/utkface_csv-*.parquet"):
            store.write_bytes(damage(store.read_bytes()))
    assert len(load_utkface_csv(tmp_path)) == 2
    path.unlink()
    assert len(load_utkface_csv(tmp_path)) == 1


# -- WIKI --------------------------------------------------------------------------------------


def datenum(date: datetime.date) -> int:
    """MATLAB's datenum: day 1 is 1 January of the year 0."""
    return date.toordinal() + 366


@given(st.dates(max_value=datetime.date(2020, 12, 31)), st.integers(1900, 2020))
def test_dates_are_read_and_ages_are_completed_years_in_mid_year(birth, year):
    day = np.datetime64(birth, "D")
    assert datenum_to_date(datenum(birth)) == day
    assert parse_name(f"07/{year * 9}_{birth.isoformat()}_{year}.jpg") == (day, year)
    assert age_at_photo(day, year) == year - birth.year - ((birth.month, birth.day) > (7, 1))


@pytest.mark.parametrize(
    ("day", "read"),
    [("1960-02-00", "1960-01-31"), ("1960-00-00", "1959-12-31"), ("1963-02-006", "1963-02-06")],
)
def test_unknown_day_and_month_count_as_in_matlab(day, read):
    assert parse_name(f"00/1_{day}_2011.jpg") == (np.datetime64(read), 2011)
    assert parse_name("00/1_1960-13-01_2011.jpg") is None


BORN, LONG_AGO = datenum(datetime.date(1970, 3, 5)), datenum(datetime.date(1850, 1, 1))
MAT_ROWS = [  # name, dob, year, gender, score, second score, reason of exclusion
    ("00/good_m.jpg", BORN, 2000, 1.0, 2.5, np.nan, None),
    ("01/good_f.jpg", BORN, 2001, 0.0, 1.75, np.nan, None),
    ("00/no_face.jpg", BORN, 2000, 1.0, -np.inf, np.nan, "no face"),
    ("00/nan_score.jpg", BORN, 2000, 1.0, np.nan, np.nan, "no face"),
    ("00/two.jpg", BORN, 2000, 1.0, 4.0, 2.0, "second face"),
    ("00/low.jpg", BORN, 2000, 1.0, 1.2, np.nan, "below 1.75"),
    ("00/unborn.jpg", BORN, 1960, 1.0, 4.0, np.nan, "0 < age"),
    ("00/age0.jpg", BORN, 1970, 1.0, 4.0, np.nan, "0 < age"),
    ("00/old.jpg", LONG_AGO, 2000, 1.0, 4.0, np.nan, "0 < age"),
    ("00/bad_date.jpg", 5, 2000, 1.0, 4.0, np.nan, "unreadable"),
    ("00/no_gender.jpg", BORN, 2000, np.nan, 4.0, np.nan, "gender"),
    ("00/gone.jpg", BORN, 2000, 1.0, 4.0, np.nan, "missing"),
]


def cells(values) -> np.ndarray:
    """A MATLAB cell array of one row."""
    out = np.empty((1, len(values)), dtype=object)
    out[0, :] = values
    return out


def write_mat(folder, rows):
    """Write ``wiki.mat`` as the authors publish it: a struct with row vectors and cells."""
    names, birth, year, gender, score, second, _ = zip(*rows, strict=True)
    struct = {
        "dob": np.array([birth], dtype=np.int32),
        "photo_taken": np.array([year], dtype=np.uint16),
        "full_path": cells(names),
        "gender": np.array([gender], dtype=float),
        "name": cells([f"Person {k}" for k in range(len(rows))]),
        "face_location": cells([np.array([[1.0, 2.0, 30.0, 40.0]]) for _ in rows]),
        "face_score": np.array([score], dtype=float),
        "second_face_score": np.array([second], dtype=float),
    }
    savemat(folder / "wiki.mat", {"wiki": struct})


@pytest.mark.parametrize("inside", [True, False])
def test_wiki_mat_cleaning(tmp_path, inside):
    folder = tmp_path / "wiki_crop"
    for name in ("00/extra.jpg", *(row[0] for row in MAT_ROWS[:-1])):
        put(folder / name)
    place = folder if inside else tmp_path
    write_mat(place, MAT_ROWS)
    faces = load_wiki(tmp_path)
    good = ["00/good_m.jpg", "01/good_f.jpg"]
    assert faces.table["image"].tolist() == good
    assert faces.table["age"].tolist() == [30.0, 31.0]
    assert faces.table["gender"].tolist() == ["male", "female"]
    assert faces.table["ethnicity"].isna().all()
    found = reasons(faces)
    for name, *_, reason in MAT_ROWS:
        assert (name not in found) if reason is None else (reason in found[name])
    assert found["00/extra.jpg"] == "not listed in wiki.mat"
    steps = "rows (wiki.mat), listed once, file is there, a face is found, no second face, "
    steps += "birth and photo year known, 0 < age <= 100, face score >= 1.75, gender known"
    left = [12, 12, 11, 9, 8, 7, 4, 3, 2]
    assert counts(faces) == dict(zip(steps.split(", "), left, strict=True))
    assert [len(load_wiki(tmp_path, min_score=score)) for score in (1.0, 2.0)] == [3, 1]
    # Upper and lower case are the same.
    (folder / "00" / "good_m.jpg").rename(folder / "00" / "GOOD_m.JPG")
    (place / "wiki.mat").rename(place / "WIKI.MAT")
    folder.rename(tmp_path / "Wiki_Crop")
    again = load_wiki(tmp_path)
    assert again.table["image"].tolist() == good and reasons(again) == found
    assert again.read("00/good_m.jpg").size == (20, 20)
    (tmp_path / "Wiki_Crop" / "WIKI.MAT").unlink(missing_ok=True)
    write_mat(tmp_path / "Wiki_Crop", MAT_ROWS[:1])  # MATLAB writes one row as plain values
    assert load_wiki(tmp_path).table["image"].tolist() == good[:1]


NAMES = ["00/1_1980-03-01_2010.jpg", "00/2_1980-09-01_2010.jpg", "01/3_2010-09-01_2010.jpg"]
NAMES += ["01/broken.jpg"]


ZEROS = {name: np.zeros((1, 3)) for name in wiki._FIELDS} | {"full_path": cells(["a", "b", "c"])}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({k: v for k, v in ZEROS.items() if k not in ("dob", "face_score")}, "dob', 'face_score"),
        (np.arange(3), "lacks the columns"),
        (ZEROS | {"full_path": cells(["a", "b"])}, "of another length"),
        (ZEROS | {"dob": cells(["x", "y", "z"])}, "not numeric"),
        (b"no matlab at all", "no readable MATLAB file"),
    ],
)
def test_wiki_mat_that_cannot_be_used(tmp_path, content, told):
    path = put(tmp_path / "wiki_crop" / NAMES[0]).parent.parent / "wiki.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        savemat(path, {"wiki": content})
    with pytest.raises(DataError, match=told):
        load_wiki(tmp_path)


def test_wiki_by_names_alone_with_bad_metadata_and_without_images(tmp_path):
    for name in NAMES:
        put(tmp_path / "wiki_crop" / name)
    faces = load_wiki(tmp_path)
    assert faces.table["image"].tolist() == NAMES[:2]
    assert faces.table["age"].tolist() == [30.0, 29.0]
    assert faces.table["gender"].isna().all() and "gender known" not in counts(faces)
    assert "0 < age" in reasons(faces)[NAMES[2]] and "unreadable" in reasons(faces)[NAMES[3]]
    for content, told in (("path,sex\na,1\n", "lacks the columns"), ("", "cannot be read")):
        (tmp_path / "wiki_meta.csv").write_text(content)
        with pytest.raises(DataError, match=told):
            load_wiki(tmp_path)
    for name in NAMES:
        (tmp_path / "wiki_crop" / name).unlink()
    with pytest.raises(DataError, match="holds no"):
        load_wiki(tmp_path)


@pytest.mark.parametrize("place", ["wiki_crop", "."])
def test_wiki_with_metadata_csv(tmp_path, place):
    for name in NAMES:
        put(tmp_path / "wiki_crop" / name)
    rows = f"full_path,gender\n{NAMES[0]},0\n{NAMES[1]},\n{NAMES[2]},1\n"
    (tmp_path / place / "wiki_meta.csv").write_text(rows)
    faces = load_wiki(tmp_path)
    assert faces.table["image"].tolist() == NAMES[:1]
    assert faces.table["gender"].tolist() == ["female"]
    assert reasons(faces)[NAMES[1]] == "gender is unknown"
    assert reasons(faces)[NAMES[3]] == "not listed in wiki_meta.csv"


# -- FairFace ----------------------------------------------------------------------------------

FAIR_ROWS = [  # file, age, gender, race; the study's age and ethnicity, or what is unknown
    ("train/1.jpg", "30-39", "Female", "Black", 34.5, "Black"),
    ("train/2.jpg", "30-39", "Male", "Indian", 34.5, "Indian"),
    ("val/1.jpg", "50-59", "Male", "East Asian", 54.5, "Asian"),
    ("val/2.jpg", "0-2", "Female", "Latino_Hispanic", 1.0, "Other"),
    ("val/3.jpg", "more than 70", "Female", "Southeast Asian", 74.5, "Asian"),
    ("val/4.jpg", "3-9", "Male", "White", 6.0, "White"),
    ("val/5.jpg", "20-29", "Male", "Middle Eastern", 24.5, "Other"),
    ("val/6.jpg", "20-29", "Male", "Martian", None, "race 'Martian' is unknown"),
    ("val/7.jpg", "7", "Male", "White", None, "age '7' is unknown"),
    ("val/8.jpg", "0-2", "x", "White", None, "gender 'x' is unknown"),
    ("val/9.jpg", "0-2", "Male", "White", None, "file is missing"),
]


def test_fairface(tmp_path):
    folder = tmp_path / "FairFace540"
    for part in ("train", "val"):
        rows = [row[:4] for row in FAIR_ROWS if row[0].startswith(part)]
        for file, *_ in rows:
            put(folder / file)
        table = pd.DataFrame(rows, columns=["file", "age", "gender", "race"])
        table.assign(service_test=True).to_csv(folder / f"fairface_label_{part}.csv", index=False)
    (folder / "val" / "9.jpg").unlink()
    faces = load_fairface(tmp_path)
    table = faces.table.set_index("image")
    good = [row for row in FAIR_ROWS if row[4]]
    seen = table[["age_group", "gender", "race7", "age", "ethnicity"]].itertuples(name=None)
    assert list(seen) == [(row[0], row[1], row[2].lower(), *row[3:]) for row in good]
    bad = {row[0]: row[5] for row in FAIR_ROWS if row not in good}
    assert reasons(faces) == bad
    put(folder / "val" / "77.jpg")
    (folder / "val" / "1.jpg").rename(folder / "val" / "1.JPG")
    again = load_fairface(tmp_path)  # every picture is counted; upper and lower case are the same
    assert reasons(again) == bad | {"val/77.jpg": "no label"}
    assert again.table["image"].tolist() == list(table.index)
    assert again.read("val/1.jpg").size == (20, 20)


def test_fairface_bad_labels(tmp_path):
    path = put(tmp_path / "FairFace" / "val" / "1.jpg").parent.parent / "fairface_label_val.csv"
    with pytest.raises(DataError, match="lacks its labels"):
        load_fairface(tmp_path)
    path.write_text("file,age\nval/1.jpg,0-2\n")
    with pytest.raises(DataError, match="lacks the columns"):
        load_fairface(tmp_path)


# -- The real sets, where they are -------------------------------------------------------------


def test_real_wiki_and_fairface(real_data):
    faces = load_wiki(real_data)
    assert len(faces) == 34_200 and len(faces.exclusions) == 0
    assert faces.table["gender"].value_counts().to_dict() == {"male": 25_744, "female": 8_456}
    assert faces.table["age"].between(1, 100).all()
    assert faces.read(faces.table["image"].iloc[0]).size == (64, 64)
    faces = load_fairface(real_data)
    assert len(faces) == 540 and len(faces.exclusions) == 0
    assert (faces.table.groupby(["age_group", "gender"]).size() == 30).all()


def test_real_utkface_as_a_table(real_data, tmp_path):
    """Make Kaggle's table from some of the files: labels and names must agree with the files."""
    files = load_utkface(real_data)
    some = files.table.iloc[:: len(files) // 60]
    rows = []
    for name in some["image"]:
        labels = dict(zip(("age", "gender", "ethnicity", "img_name"), name.split("_"), strict=True))
        grey = np.asarray(files.read(name).convert("L").resize((48, 48)))
        rows.append(csv_row(**labels, pixels=" ".join(map(str, grey.ravel()))))
    write_csv(tmp_path, rows)
    table = load_utkface_csv(tmp_path).table
    same = ["image", "age", "gender", "ethnicity"]
    pd.testing.assert_frame_equal(table[same], some[same].reset_index(drop=True))


def test_utkface_is_packed_small_and_loads_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACES_WORK_DIR", str(tmp_path / "work"))
    folder = tmp_path / "UTKFace"
    folder.mkdir()
    for number, age in enumerate((3, 30, 60)):
        picture = Image.effect_noise((200, 200), 40 + 40 * number).convert("RGB")
        picture.save(folder / f"{age}_1_2_2017010{number}.jpg.chip.jpg")
    monkeypatch.setenv("FACES_DATA_DIR", str(tmp_path))
    assert main(["pack", "--size", "64", "--to", str(tmp_path / "small.zip")]) == 0
    assert "--data" in capsys.readouterr().out
    whole, small = load_utkface(folder), load_utkface(tmp_path / "small.zip")
    labels = ["image", "age", "gender", "ethnicity"]
    assert whole.table[labels].equals(small.table[labels])
    picture = small.read(small.table["image"][0])
    assert picture.size == (64, 64)
    near = whole.read(whole.table["image"][0]).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(near, float) - np.asarray(picture, float)).mean() < 12
    assert not list(tmp_path.glob("*.part*"))
