"""FaceTable, pictures of every kind, near-duplicates and splits put together, the image store."""

import errno
import hashlib
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image, ImageOps

from utils import datasets
from utils.datasets import store
from utils.datasets.pictures import open_rgb
from utils.datasets.store import load_stored
from utils.datasets.table import check, new_table
from utils.datasets.utkface import load_utkface
from utils.files import DataError, release_pages, write_aside
from utils.paths import ROOT
from utils.vocabulary import ETHNICITIES, age_bin

CASES = Path(__file__).parent / "cases"


def _picture(seed=0, size=(64, 64), mode="RGB"):
    values = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture
def folder(tmp_path, work_dir):
    """A small UTKFace with one exact and one near duplicate."""
    root = tmp_path / "UTKFace"
    root.mkdir()
    for k in range(40):
        name = f"{20 + k % 5}_{k % 2}_0_2017011617402466{k}.jpg.chip.jpg"
        _picture(k).save(root / name, quality=95)
    shutil.copy(root / "20_0_0_20170116174024660.jpg.chip.jpg", root / "31_0_0_1.jpg.chip.jpg")
    _picture(1).save(root / "40_1_1_2.jpg.chip.jpg", quality=60)
    return root


def prepare(folder, size=32, **options):
    return datasets.prepare("utkface", size, root=folder.parent, progress=False, **options)


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize(
    ("column", "value"),
    [("gender", "m"), ("ethnicity", "Green"), ("age", 400.0), ("split", "dev"), ("image", "a")],
)
def test_a_value_outside_its_set_and_a_missing_column_are_named(column, value):
    table = new_table(["a", "b"], source="x", age=30.0, gender="male", ethnicity="White")
    with pytest.raises(DataError, match=rf"lacks the columns \['{column}'\]"):
        check(table.drop(columns=column))
    table.loc[1, column] = value
    with pytest.raises(DataError, match=column):
        check(table)


def test_the_recipe_for_a_data_set_of_ones_own_works(tmp_path, monkeypatch, work_dir):
    """As data/README.md has it."""
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    recipe = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    for k in range(30):
        (tmp_path / "mine").mkdir(exist_ok=True)
        _picture(k).save(tmp_path / "mine" / f"{k}.png")
    rows = {"file": [f"{k}.png" for k in range(30)], "age": 30, "gender": "male"}
    pd.DataFrame(rows).to_csv(tmp_path / "mine" / "labels.csv", index=False)
    monkeypatch.setenv("FACES_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(datasets, "LOADERS", dict(datasets.LOADERS))
    exec(recipe, {})
    assert datasets.is_there("mine") and not datasets.is_there("mine", tmp_path / "mine")
    assert datasets.prepare("mine", 32, progress=False).images.shape == (30, 32, 32, 3)


def test_one_opinion_on_what_is_there_by_content(folder, tmp_path, monkeypatch):
    def there(place):
        return [name for name in datasets.LOADERS if datasets.is_there(name, place)]

    assert there(folder.parent) == there(folder) == ["utkface", "synthetic"]  # also the set itself
    shutil.make_archive(str(tmp_path / "packed" / "UTKFace"), "zip", folder)
    assert there(tmp_path / "packed") == ["utkface", "synthetic"]
    assert there(tmp_path / "packed" / "UTKFace.zip") == ["utkface", "synthetic"]
    with pytest.raises(ValueError, match="'nosuch' is unknown.*utkface"):
        datasets.load("nosuch")
    monkeypatch.setenv("FACES_DATA_DIR", str(folder))
    assert datasets.is_there("utkface") and len(datasets.load("utkface")) == 42
    notes = tmp_path / "notes"
    (notes / "UTKFace").mkdir(parents=True)
    for name in ("UTKFace_landmarks.txt", "wiki_notes.md", "wiki.zip.txt", "fairface.csv"):
        (notes / name).write_text("no face")
    assert there(notes) == there(tmp_path / "nowhere") == ["synthetic"]


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "LA", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("face.tif" if mode == "CMYK" else "face.png")
    _picture(3).convert("L" if mode == "LA" else "RGB").convert(mode).save(path)
    picture = open_rgb(path)
    assert picture.mode == "RGB" and picture.size == (64, 64)


@pytest.mark.parametrize(
    ("top", "kind"), [(65535, np.uint16), (1, np.float32), (255, np.float32), (65535, np.int32)]
)
def test_grey_of_many_values_is_scaled_and_no_other_number_is_grey(tmp_path, top, kind):
    ramp = np.linspace(0, top, 64 * 64).reshape(64, 64).astype(kind)
    Image.fromarray(ramp).save(tmp_path / "face.tif")
    values = np.asarray(open_rgb(tmp_path / "face.tif"))
    assert values.min() == 0 and values.max() == 255
    assert abs(float(values.mean()) - 127.5) < 1.5
    for value in (np.nan, -3.0, 1e9):
        Image.fromarray(np.array([[0.5, value]], np.float32)).save(tmp_path / "face.tif")
        with pytest.raises(DataError, match="pixels run from .*; expected 0 to 1"):
            open_rgb(tmp_path / "face.tif")


@pytest.mark.parametrize(
    ("name", "turned"),
    [
        ("h_orient_string.jpg", True),
        ("d_rational_neg_in_unsigned.jpg", True),
        ("n_png_bad_exif.png", False),
    ],
)
def test_odd_exif_is_read_once_and_stops_nothing(name, turned):
    stored, upright = open_rgb(CASES / "exif" / name), open_rgb(CASES / "exif" / name, upright=True)
    expected = stored.transpose(Image.Transpose.ROTATE_270) if turned else stored
    assert np.array_equal(np.asarray(upright), np.asarray(expected))


@pytest.mark.parametrize("orientation", [*range(10), "3", b"\x06", float("nan"), (8, 1)])
def test_any_orientation_gives_a_picture(tmp_path, orientation, monkeypatch):
    _picture(2, (40, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "getexif", lambda _: {0x0112: orientation})
    seen = open_rgb(tmp_path / "a.png", upright=True)
    assert seen.size == ((20, 40) if orientation in (5, 6, 7, 8, b"\x06", (8, 1)) else (40, 20))
    if isinstance(orientation, int) and 0 < orientation < 9:
        monkeypatch.undo()
        exif = Image.Exif()
        exif[0x0112] = orientation
        _picture(2, (40, 20)).save(tmp_path / "b.png", exif=exif)
        with Image.open(tmp_path / "b.png") as picture:
            assert np.array_equal(np.asarray(ImageOps.exif_transpose(picture)), np.asarray(seen))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a picture"),
        (b"hello, I am text", "not a picture"),
        (b"Image type: X 50 image\r\n" + b"\0" * 2000, "not a picture"),  # Pillow would read: IM
        (None, "broken picture"),
    ],
)
def test_files_that_are_no_picture_are_listed_and_the_rest_stays_on_disk(folder, content, reason):
    name = "55_0_0_3.jpg.chip.jpg"
    half = (folder / "40_1_1_2.jpg.chip.jpg").read_bytes()[:700]
    (folder / name).write_bytes(half if content is None else content)
    prepared = prepare(folder)
    assert len(prepared.faces) == len(prepared.images) == 42
    assert reason in prepared.faces.exclusions.set_index("image")["reason"][name]
    faces, images, _ = load_stored(load_utkface(folder.parent), 32, progress=False)
    assert len(faces) == 42 and reason in faces.exclusions["reason"].iloc[-1]
    assert isinstance(images, np.memmap) and isinstance(prepared.images, np.memmap)
    row = faces.table.index[faces.table["image"] == "40_1_1_2.jpg.chip.jpg"][0]
    seen = open_rgb(folder / "40_1_1_2.jpg.chip.jpg").resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(images[row], np.asarray(seen))  # behind the gap


# ---------------------------------------------------------------- groups, splits, limits


def test_a_limit_takes_whole_groups_in_any_order_and_decodes_no_other_face(folder, monkeypatch):
    faces = datasets.load("utkface", folder.parent)
    grouped = faces.table.assign(group=[f"g{k // 3}" for k in range(len(faces))])
    for limit, expected in ((7, 6), (8, 9), (1, 3), (20, 21)):
        chosen = datasets.limited(datasets.replace(faces, table=grouped), limit).table
        assert len(chosen) == expected and (chosen.groupby("group").size() == 3).all()
        mixed = datasets.replace(faces, table=grouped.sample(frac=1, random_state=3))
        assert set(datasets.limited(mixed, limit).table["image"]) == set(chosen["image"])
    decoded, decode = [], store._decode
    monkeypatch.setattr(
        store, "_decode", lambda f, i, *rest: decoded.append(i) or decode(f, i, *rest)
    )
    prepared = prepare(folder, limit=30)
    assert sorted(decoded) == sorted(prepared.table["image"]) and len(decoded) in (29, 30, 31)


# ---------------------------------------------------------------- the store


def test_cache_is_built_once_and_a_broken_one_again(folder, monkeypatch):
    faces = load_utkface(folder.parent)
    first = load_stored(faces, 48, progress=False).images
    with monkeypatch.context() as patch:
        patch.setattr(store, "_build", lambda *_: pytest.fail("decoded again"))
        assert (first == load_stored(faces, 48, progress=False).images).all()
    first = np.array(first)  # not the file, which is to be damaged
    cache = next(store.cache_dir().glob("images-utkface-48-*"))
    for name, size in (("images.npy", 500), ("images.npy", 0), ("content.csv", 900)):
        (cache / name).write_bytes((cache / name).read_bytes()[:size])
        again = load_stored(faces, 48, progress=False).images
        assert again.shape == (42, 48, 48, 3) and (again == first).all()
    np.load(cache / "images.npy", mmap_mode="r+")[3, 5:9] ^= 255
    assert (load_stored(faces, 48, progress=False).images == first).all()


def test_a_cached_table_with_flipped_bytes_is_made_again(tmp_path):
    path, table = tmp_path / "a.parquet", pd.DataFrame({"a": np.arange(5000)})
    datasets.table.cached_table(path, lambda: table)
    content = bytearray(path.read_bytes())
    content[2000:2004] = bytes(255 - byte for byte in content[2000:2004])
    path.write_bytes(content)
    assert datasets.table.cached_table(path, lambda: table).equals(table)


def test_a_picture_overwritten_under_its_name_is_another_picture(folder):
    before = prepare(folder)
    name = before.table["image"].iloc[3]
    state, content = (folder / name).stat(), (folder / name).read_bytes()
    _picture(77).save(folder / name, quality=95)
    after = prepare(folder)
    assert not np.array_equal(before.images[3], after.images[3])
    assert before.digest != after.digest and before.pictures != after.pictures
    (folder / name).write_bytes(content)
    os.utime(folder / name, ns=(state.st_atime_ns, state.st_mtime_ns + 5))
    again = prepare(folder)  # the old content is the old data, whenever it was written
    assert (again.digest, again.pictures) == (before.digest, before.pictures)
    # As large and as old as before, as a copy that keeps its time may be.
    stamp = datasets.load("utkface", folder.parent).stamp(name)
    state = (folder / name).stat()
    os.utime(folder / name, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert datasets.load("utkface", folder.parent).stamp(name) != stamp


def test_files_that_are_all_no_pictures_are_no_data(folder):
    for path in folder.glob("*.jpg"):
        path.write_text("no picture")
    with pytest.raises(DataError, match="none of its .* pictures can be read, such as"):
        datasets.load("utkface", folder.parent)
    assert not datasets.is_there("utkface", folder.parent)


def test_what_is_there_changes_with_a_file(folder):
    before = datasets.is_there("utkface", folder.parent)
    assert before and datasets.is_there("utkface", folder.parent) == before
    _picture(5).save(folder / "50_0_0_9.jpg")
    assert datasets.is_there("utkface", folder.parent) not in ("", before)


def test_a_damaged_picture_provokes_no_warnings():
    entries = b"".join(struct.pack("<HHII", 0x9000 + k, 2, 60_000, 8) for k in range(500))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 500) + entries + bytes(4)
    code = "import sys; from utils.datasets.pictures import open_rgb as o; "
    code += "o(sys.stdin.buffer.read(), upright=True)"
    file = io.BytesIO()
    _picture(5).save(file, "JPEG", exif=exif)
    given = {"input": file.getvalue(), "capture_output": True, "cwd": ROOT}
    ended = subprocess.run([sys.executable, "-W", "default", "-c", code], **given)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr[-300:]


def test_pixels_without_a_file_are_compared_by_content(work_dir):
    shades = {f"{k}.png": 6 * k for k in range(30)}
    table = new_table(shades, source="mine", age=30.0)
    faces = datasets.FaceSet(
        "mine", table, read=lambda image: Image.new("RGB", (32, 32), (shades[image],) * 3)
    )
    assert load_stored(faces, 32, progress=False).images[3].mean() == 18
    shades["3.png"] = 200
    assert load_stored(faces, 32, progress=False).images[3].mean() == 200


def test_copies_share_a_group_and_a_side_and_what_digests_tell_apart(folder):
    plain, grey = prepare(folder), prepare(folder, image_mode="grey")
    other = prepare(folder, seed=130)
    group = plain.table.set_index("image")["group"]
    assert group["31_0_0_1.jpg.chip.jpg"] == "20_0_0_20170116174024660.jpg.chip.jpg"
    assert group["40_1_1_2.jpg.chip.jpg"] == group["21_1_0_20170116174024661.jpg.chip.jpg"]
    assert group.nunique() == 40
    assert (plain.table.groupby("group")["split"].nunique() == 1).all()
    assert len({plain.digest, grey.digest, other.digest}) == 3
    assert plain.pictures == other.pictures != grey.pictures
    assert len(prepare(folder, image_mode="colour48").images) == 42
    with pytest.raises(ValueError, match="image mode 'sepia' is unknown"):
        prepare(folder, image_mode="sepia")
    assert (grey.images[..., 0] == grey.images[..., 1]).all()
    rows = np.concatenate([plain.rows(part) for part in ("train", "val", "test")])
    assert sorted(rows) == list(range(42))


def test_a_kill_or_a_full_disk_leaves_no_cache(folder, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    usage = shutil.disk_usage(folder)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_decode", killed)
        with pytest.raises(KeyboardInterrupt):
            load_stored(load_utkface(folder.parent), 40, progress=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="needs .* GB .*FACES_WORK_DIR"):
        load_stored(load_utkface(folder.parent), 40, progress=False)
    for left in ("images-*", ".aside-*"):
        assert not list(store.cache_dir().glob(left))


def test_two_steps_at_once_build_one_cache_once(work_dir, monkeypatch):
    built, build = [], store._build

    def slow(*arguments):
        built.append(1)
        time.sleep(0.3)
        build(*arguments)

    monkeypatch.setattr(store, "_build", slow)
    faces = datasets.load("synthetic", n=20)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: load_stored(faces, 32, progress=False).images, "ab"))
    assert built == [1] and (both[0] == both[1]).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="madvise is Linux's")
def test_pages_of_a_map_are_given_back(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((64, 1 << 20), np.uint8))
    array = np.load(tmp_path / "a.npy", mmap_mode="r+")
    process = psutil.Process()
    before = process.memory_info().rss
    array[3] = 7
    assert array[:].sum() == (63 + 7) << 20
    read = process.memory_info().rss
    release_pages(array[:, :10])
    assert read - before > 60e6 and process.memory_info().rss - before < 10e6
    assert array[3, -1] == 7  # what was written stays
    release_pages(np.ones(3))  # in memory: nothing to do


def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(DataError, match="table.csv cannot be written"), write_aside(path) as aside:
        aside.write_text("half")
        raise OSError(errno.ENOSPC, "no space left on device")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_bar_that_nobody_watches_writes_at_most_one_line_in_ten_seconds():
    code = (
        "import time; from utils.datasets.progress import progress_bar\n"
        "for _ in progress_bar(range(30), desc='hash'): time.sleep(0.01)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert run.stderr == run.stdout == b""


# ---------------------------------------------------------------- the real set, where it is


def test_the_real_set_has_the_published_counts(real_data):
    faces = load_utkface(real_data)
    assert faces.steps["faces"].tolist()[:2] == [23_708, 23_705]
    counts = pd.Series(age_bin(faces.table["age"])).value_counts().sort_index()
    assert counts.tolist() == [6_903, 11_815, 3_988, 967, 32]
    # The second study reports 11,818: it counts the three malformed names in 25-49, though two of
    # them begin with 61.
    bad = [int(name.split("_")[0]) for name in faces.exclusions["image"]]
    assert sorted(bad) == [39, 61, 61]
    assert faces.table["gender"].value_counts().to_dict() == {"male": 12_391, "female": 11_314}
    races = faces.table["ethnicity"].value_counts()[list(ETHNICITIES)]
    assert races.tolist() == [10_078, 4_526, 3_434, 3_975, 1_692]
    files = (real_data / "UTKFace").glob("*.jpg")
    digests = pd.Series([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    sizes = digests.value_counts().loc[lambda size: size > 1]
    assert (len(sizes), sizes.sum()) == (375, 765)
