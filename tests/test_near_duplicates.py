"""Near-duplicates: copies are found however they are cut, unlike faces are left apart."""

import os
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance, ImageOps

from utils.datasets import load, near_duplicates, new_table
from utils.datasets.copies import SIDE, candidates, flat, similarity, threshold
from utils.datasets.near_duplicates import assign_groups, duplicate_pairs, fingerprints
from utils.datasets.published import clean_split
from utils.datasets.table import FaceSet
from utils.paths import ROOT

UNLIKE = 40  # drawn faces
MISSED = ROOT.parent / "shared" / "cases" / "missed_copies.csv"


def cut(picture: Image.Image, left: int, top: int, side: int) -> Image.Image:
    box = (left, top, left + side, top + side)
    return picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)


COPIES = {
    "mirrored": ImageOps.mirror,
    "shifted": lambda picture: cut(picture, 0, 24, 176),
    "larger": lambda picture: cut(picture, 18, 18, 164),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.4),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.6),
    "paler": lambda picture: ImageEnhance.Contrast(picture).enhance(0.6),
    "turned": lambda picture: cut(picture.rotate(4, Image.Resampling.BILINEAR), 8, 8, 184),
    "narrower": lambda picture: picture.resize((200, 200), box=(10, 0, 190, 200)),
    "all at once": lambda picture: ImageOps.mirror(
        ImageEnhance.Brightness(cut(picture, 20, 4, 172)).enhance(1.3)
    ),
}


@cache
def drawn() -> dict[str, Image.Image]:
    """Drawings by one pen are too much alike; each gets spots of its own, as photographs have."""
    faces, rng, pictures = load("synthetic", n=UNLIKE), np.random.default_rng(2), {}
    for name in faces.table["image"]:
        spots = Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).resize((200, 200))
        pictures[name] = Image.blend(faces.read(name), spots, 0.35)
    return pictures


def face_set(pictures: dict[str, Image.Image], folder) -> FaceSet:
    """Faces that lie as files in `folder`."""
    folder.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        picture.save(folder / name)
    return FaceSet(name="tried", table=new_table(pictures, source="tried"), root=folder)


def small(*pictures: Image.Image) -> np.ndarray:
    size = (SIDE, SIDE)
    return np.stack([np.asarray(p.convert("L").resize(size, 5)) for p in pictures])


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_among_unlike_faces(kind):
    faces = list(drawn().values())
    grey = small(*faces, *map(COPIES[kind], faces[:6]))
    pairs, mirrored = candidates(grey)
    same = np.unique(pairs[similarity(grey, pairs, mirrored) >= threshold(grey)], axis=0)
    assert same.tolist() == [[k, UNLIKE + k] for k in range(6)]


def test_similarity_does_not_depend_on_which_picture_comes_first():
    face = drawn()["synthetic/129/000003.png"]
    grey = small(face, COPIES["all at once"](face), *list(drawn().values())[:4])
    pairs = np.array([[0, 1], [2, 3], [1, 4]])
    np.testing.assert_allclose(similarity(grey, pairs), similarity(grey, pairs[:, ::-1]), atol=0.02)


def planted(folder) -> FaceSet:
    """Six faces, of each a mirrored and a darker copy under a name of its own."""
    pictures = {}
    for k, face in enumerate(list(drawn().values())[:6]):
        pictures[f"{k}_face.png"] = face
        pictures[f"{k + 10}_mirrored.png"] = COPIES["mirrored"](face)
        pictures[f"{k + 20}_darker.png"] = COPIES["darker"](face)
    return face_set(pictures, folder)


def test_groups_take_the_smallest_name_whatever_the_order(work_dir, tmp_path):
    faces = planted(tmp_path / "faces")
    grouped = assign_groups(faces, progress=False).table.set_index("image")["group"]
    assert grouped["0_face.png"] == grouped["10_mirrored.png"] == grouped["20_darker.png"]
    assert grouped["0_face.png"] == "0_face.png" and grouped.nunique() == 6
    turned = replace(faces, table=faces.table.sample(frac=1, random_state=1))
    again = assign_groups(turned, progress=False).table.set_index("image")["group"]
    assert again[grouped.index].tolist() == grouped.tolist()


def test_blank_pictures_are_not_joined(work_dir, tmp_path):
    rng = np.random.default_rng(0)
    pictures = {}
    for k in range(8):  # pages of one colour, with a scanner's noise
        page = rng.normal(40 + 25 * k, 1, (200, 200, 3)).clip(0, 255).astype(np.uint8)
        pictures[f"page{k}.png"] = Image.fromarray(page)
    pictures["plain.png"] = pictures["plain_again.png"] = Image.new("RGB", (200, 200), "grey")
    faces = face_set(pictures, tmp_path / "pages")
    groups = assign_groups(faces, progress=False).table.groupby("group").size()
    assert groups["plain.png"] == 2  # one file twice
    assert len(groups) == 9
    assert flat(small(*pictures.values())).all()


def test_a_file_overwritten_under_its_name_is_noticed(work_dir, tmp_path):
    faces = planted(tmp_path / "faces")
    before, digests = assign_groups(faces, progress=False), fingerprints(faces, progress=False)
    other = list(drawn().values())[30]
    other.save(tmp_path / "faces" / "10_mirrored.png")
    after = fingerprints(faces, progress=False)
    assert (after["digest"] != digests["digest"]).sum() == 1
    groups = assign_groups(faces, progress=False).table
    assert (groups["group"] != before.table["group"]).sum() == 1


def test_what_was_found_is_kept(work_dir, tmp_path, monkeypatch):
    faces = planted(tmp_path / "faces")
    first = duplicate_pairs(faces, progress=False)
    monkeypatch.setattr(near_duplicates, "_find_pairs", None)
    pd.testing.assert_frame_equal(first, duplicate_pairs(faces, progress=False))


def test_an_unreadable_picture_is_left_out_with_its_reason(work_dir, tmp_path):
    faces = planted(tmp_path / "faces")
    (tmp_path / "faces" / "3_face.png").write_bytes(b"no picture")
    grouped = assign_groups(faces, progress=False)
    assert grouped.exclusions["image"].tolist() == ["3_face.png"]
    assert grouped.table["group"].nunique() == 6


def test_training_faces_that_copy_test_or_val_leave_training():
    split = pd.DataFrame(
        {"image": list("abcdefgh"), "split": "test train val train train val test excluded".split()}
    )
    pairs = pd.DataFrame(
        [("a", "b", 0.9), ("c", "d", 0.9), ("f", "g", 0.9), ("b", "h", 0.9)],
        columns=["image_a", "image_b", "correlation"],
    )
    table = clean_split(split, pairs).set_index("image")
    assert table["split"].tolist() == "test excluded val excluded train val test excluded".split()
    assert table.index[table["copy_in_train"]].tolist() == ["a", "c"]
    assert table["group"].tolist() == list("aaccef") + ["f", "a"]
    assert table["reason"].tolist() == [
        "",
        "near-duplicate of test face a",
        "",
        "near-duplicate of val face c",
        "",
        "near-duplicate of test face g; stays, as published",
        "",
        "near-duplicate of test face a",
    ]
    again = clean_split(table.reset_index(), pairs).set_index("image")
    pd.testing.assert_frame_equal(table, again)


@pytest.mark.skipif(not MISSED.is_file(), reason=f"{MISSED.name} is not beside this checkout")
def test_copies_in_utkface_are_found(work_dir, real_data):
    """Pairs that an earlier rule missed; random pairs are left apart."""
    missed = pd.read_csv(MISSED)
    rng = np.random.default_rng(129)
    names = np.array(sorted(os.listdir(real_data / "UTKFace")))
    others = rng.choice(names, 400, replace=False)
    used = sorted({*missed["image_a"], *missed["image_b"], *others})
    table = new_table(used, source="utkface")
    prints = fingerprints(FaceSet("utkface", table, root=real_data / "UTKFace"), progress=False)
    grey, row = near_duplicates.thumbnails(prints), pd.Index(prints["image"])
    pairs = np.stack([row.get_indexer(missed[side]) for side in ("image_a", "image_b")], axis=1)
    least = 0.95 * len(pairs)
    near = {tuple(pair) for pair in candidates(grey)[0].tolist()}
    assert sum(tuple(sorted(pair)) in near for pair in pairs.tolist()) >= least
    assert (similarity(grey, pairs) >= threshold(grey)).sum() >= least
    unlike = row.get_indexer(others).reshape(200, 2)
    assert (similarity(grey, unlike) >= threshold(grey)).sum() <= 2
