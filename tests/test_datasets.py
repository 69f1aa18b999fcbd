"""FaceTable, UTKFace names, odd pictures, duplicates, image cache."""

import errno
import io
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from utils import datasets
from utils.datasets import duplicates, imagecache
from utils.datasets.cleaning import open_rgb
from utils.datasets.facetable import (
    AGE_BINS,
    ETHNICITIES,
    GENDERS,
    DataError,
    age_bin,
    check,
    new_table,
)
from utils.datasets.imagecache import load_images
from utils.datasets.utkface import load_utkface, parse_name


def _picture(seed=0, size=(64, 64), mode="RGB"):
    values = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture
def folder(tmp_path, work_dir):
    """A small UTKFace with one exact and one near duplicate, and every kind of bad file."""
    root = tmp_path / "UTKFace"
    root.mkdir()
    for k in range(12):
        name = f"{20 + k}_{k % 2}_{k % 5}_2017011617402466{k}.jpg.chip.jpg"
        _picture(k).save(root / name, quality=95)
    shutil.copy(root / "20_0_0_20170116174024660.jpg.chip.jpg", root / "31_0_0_1.jpg.chip.jpg")
    _picture(1).save(root / "40_1_1_2.jpg.chip.jpg", quality=60)
    return root


@given(st.integers(0, 116), st.integers(0, 1), st.integers(0, 4), st.integers(1, 10**17))
def test_well_formed_names_are_read_back(age, gender, race, time):
    name = f"{age}_{gender}_{race}_{time}.jpg.chip.jpg"
    assert parse_name(name) == (age, GENDERS[gender], ETHNICITIES[race])


@given(st.text(max_size=40))
def test_any_name_gives_labels_or_a_reason(name):
    parsed = parse_name(name)
    assert isinstance(parsed, str) or len(parsed) == 3


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("61_1_20170109142408075.jpg.chip.jpg", "lacks a field"),
        ("20_0_7_1.jpg", "race 7"),
        ("20_3_1_1.jpg", "gender 3"),
        ("150_0_1_1.jpg", "age 150"),
    ],
)
def test_bad_names_are_excluded_with_their_reason(folder, name, reason):
    _picture(99).save(folder / name)
    faces = load_utkface(folder.parent)
    assert len(faces) == 14
    assert faces.exclusions["image"].tolist() == [name]
    assert reason in faces.exclusions["reason"].iloc[0]


def test_a_folder_without_faces_says_what_is_expected(tmp_path):
    (tmp_path / "UTKFace").mkdir()
    (tmp_path / "UTKFace" / "notes.txt").write_text("no face")
    with pytest.raises(DataError, match="no .jpg|no face|holds no"):
        load_utkface(tmp_path)


def test_missing_data_names_folder_and_variable(tmp_path):
    with pytest.raises(DataError, match="FACES_DATA_DIR"):
        load_utkface(tmp_path / "nowhere")


def test_unknown_data_set_lists_the_known():
    with pytest.raises(ValueError, match="'nosuch' is unknown.*utkface"):
        datasets.load("nosuch")


def test_a_loader_of_ones_own_is_one_entry(monkeypatch, work_dir):
    def load_mine(root=None):
        table = new_table(["a", "b"], source="mine", age=[20.0, 30.0], gender="male")
        return datasets.FaceSet("mine", table, read=lambda image: _picture(ord(image)))

    monkeypatch.setitem(datasets.LOADERS, "mine", load_mine)
    prepared = datasets.prepare("mine", 32, progress=False)
    assert prepared.images.shape == (2, 32, 32, 3)


def test_age_bins_are_those_of_the_study():
    assert age_bin([0, 24, 25, 49, 50, 74, 75, 99, 100, 116]).tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
    ]
    assert len(AGE_BINS) == 5


def test_a_table_without_a_column_is_refused():
    table = new_table(["a"], source="x").drop(columns="gender")
    with pytest.raises(DataError, match=r"lacks the columns \['gender'\]"):
        check(table)


@pytest.mark.parametrize(
    ("column", "value"), [("gender", "m"), ("ethnicity", "Green"), ("age", 400.0), ("split", "dev")]
)
def test_a_value_outside_its_set_is_named(column, value):
    table = new_table(["a", "b"], source="x", age=30.0, gender="male", ethnicity="White")
    table.loc[1, column] = value
    with pytest.raises(DataError, match=column):
        check(table)


def test_an_image_twice_is_refused():
    with pytest.raises(DataError, match="image"):
        check(new_table(["a", "a"], source="x"))


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "LA", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("face.tif" if mode == "CMYK" else "face.png")
    _picture(3).convert("L" if mode == "LA" else "RGB").convert(mode).save(path)
    picture = open_rgb(path)
    assert picture.mode == "RGB" and picture.size == (64, 64)


def test_sixteen_bit_grey_is_scaled_not_cut(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "face.png")
    values = np.asarray(open_rgb(tmp_path / "face.png"))
    assert values.min() == 0 and values.max() == 255
    assert abs(float(values.mean()) - 127.5) < 1.5


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    _picture(5).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a picture"),
        (b"hello, I am text", "not a picture"),
        (_jpeg()[: len(_jpeg()) // 2], "broken picture"),
    ],
)
def test_files_that_are_no_picture_are_listed(folder, content, reason):
    name = "55_0_0_3.jpg.chip.jpg"
    (folder / name).write_bytes(content)
    prepared = datasets.prepare("utkface", 32, root=folder.parent, progress=False)
    assert len(prepared.faces) == len(prepared.images) == 14
    excluded = prepared.faces.exclusions.set_index("image")["reason"]
    assert reason in excluded[name]


def test_identical_and_near_pictures_share_a_group_and_a_side(folder):
    faces = datasets.with_splits(load_utkface(folder.parent), progress=False)
    group = faces.table.set_index("image")["group"]
    assert group["31_0_0_1.jpg.chip.jpg"] == "20_0_0_20170116174024660.jpg.chip.jpg"
    assert group["40_1_1_2.jpg.chip.jpg"] == group["21_1_1_20170116174024661.jpg.chip.jpg"]
    assert group.nunique() == 12
    assert (faces.table.groupby("group")["split"].nunique() == 1).all()


def test_near_pairs_equal_a_plain_loop():
    hashes = np.random.default_rng(1).integers(0, 4, (60, 2), np.uint8)
    bits = np.unpackbits(hashes, axis=1)
    plain = [[i, j] for i in range(60) for j in range(i + 1, 60) if (bits[i] != bits[j]).sum() <= 2]
    assert sorted(duplicates.near_pairs(hashes, 2).tolist()) == plain


def test_cache_is_built_once_and_a_broken_one_again(folder, monkeypatch):
    faces = load_utkface(folder.parent)
    _, first = load_images(faces, 48, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(imagecache, "_build", lambda *_: pytest.fail("decoded again"))
        _, second = load_images(faces, 48, progress=False)
    assert (first == second).all()
    path = next(datasets.duplicates.cache_dir().glob("images-utkface-48-*")) / "images.npy"
    path.write_bytes(path.read_bytes()[:500])
    _, third = load_images(faces, 48, progress=False)
    assert third.shape == (14, 48, 48, 3) and third.any()


def test_a_kill_while_decoding_leaves_no_cache(folder, monkeypatch):
    faces = load_utkface(folder.parent)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(imagecache, "_decode", killed)
    with pytest.raises(KeyboardInterrupt):
        load_images(faces, 40, progress=False)
    assert not list(imagecache.cache_dir().glob("images-*"))
    assert not list(imagecache.cache_dir().glob(".aside-*"))


def test_a_full_disk_is_said_before_decoding(folder, monkeypatch):
    faces = load_utkface(folder.parent)
    usage = shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(imagecache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="needs .* GB .*FACES_WORK_DIR"):
        load_images(faces, 64, progress=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="madvise is Linux's")
def test_pages_of_a_map_are_given_back(tmp_path):
    import psutil

    from utils.files import release_pages

    np.save(tmp_path / "a.npy", np.ones((64, 1 << 20), np.uint8))
    array = np.load(tmp_path / "a.npy", mmap_mode="r+")
    process = psutil.Process()
    before = process.memory_info().rss
    array[3] = 7
    assert array[:].sum() == (63 + 7) << 20
    read = process.memory_info().rss
    release_pages(array[:, :10])
    assert read - before > 60e6
    assert process.memory_info().rss - before < 10e6
    assert array[3, -1] == 7  # what was written stays
    release_pages(np.ones(3))  # in memory: nothing to do


def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path):
    from utils.files import write_aside

    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(OSError), write_aside(path) as aside:
        aside.write_text("half")
        raise OSError(errno.ENOSPC, "no space left on device")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_limit_takes_the_same_faces_in_any_order(folder):
    faces = load_utkface(folder.parent)
    chosen = datasets.with_splits(faces, limit=6, progress=False).table["image"]
    shuffled = faces.subset(np.ones(len(faces), bool))
    shuffled.table = faces.table.sample(frac=1, random_state=3).reset_index(drop=True)
    again = datasets.with_splits(shuffled, limit=6, progress=False).table["image"]
    assert len(chosen) == 6 and set(chosen) == set(again)


def test_the_real_set_has_the_published_counts(real_data):
    faces = load_utkface(real_data)
    assert faces.steps["faces"].tolist()[:2] == [23_708, 23_705]
    assert len(faces.exclusions) == 3
    counts = pd.Series(age_bin(faces.table["age"])).value_counts().sort_index()
    assert counts.tolist() == [6_903, 11_815, 3_988, 967, 32]
    # The second study reports 11,818: it counts the three malformed names in 25-49, though two of
    # them begin with 61.
    bad = [int(name.split("_")[0]) for name in faces.exclusions["image"]]
    assert sorted(bad) == [39, 61, 61]
    assert faces.table["gender"].value_counts().to_dict() == {"male": 12_391, "female": 11_314}
    races = faces.table["ethnicity"].value_counts()[list(ETHNICITIES)]
    assert races.tolist() == [10_078, 4_526, 3_434, 3_975, 1_692]


def test_the_real_set_has_375_groups_of_identical_files(real_data):
    import hashlib
    from collections import Counter

    digests = Counter(
        hashlib.sha256(path.read_bytes()).digest() for path in (real_data / "UTKFace").glob("*.jpg")
    )
    sizes = [n for n in digests.values() if n > 1]
    assert (len(sizes), sum(sizes)) == (375, 765)


def test_two_steps_at_once_build_one_cache_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FACES_WORK_DIR", str(tmp_path))
    built, build = [], imagecache._build

    def slow(*arguments):
        built.append(1)
        time.sleep(0.3)
        build(*arguments)

    monkeypatch.setattr(imagecache, "_build", slow)
    faces = datasets.load("synthetic", n=20)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: load_images(faces, 32, progress=False), "ab"))
    assert built == [1] and (both[0][1] == both[1][1]).all()
