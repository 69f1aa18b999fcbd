"""Are the synthetic faces deterministic, labelled truly, and true about their evidence?"""

import hashlib
import subprocess
import sys
import time

import imagehash
import numpy as np
import pytest
from PIL import Image
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from utils.datasets import synthetic
from utils.datasets.facetable import ETHNICITIES, GENDERS, DataError, age_bin
from utils.datasets.synthetic import (
    contact_sheet,
    draw_face,
    evidence_mask,
    head_mask,
    load_synthetic,
    true_labels,
)
from utils.paths import ROOT


def identifier(number: int, seed: int = 129) -> str:
    return f"synthetic/{seed}/{number:06d}.png"


def pixels(image: str, **changed) -> np.ndarray:
    return np.asarray(draw_face(image, **changed)).astype(int)


def test_a_face_is_200_pixels_rgb():
    face = draw_face(identifier(3))
    assert (face.size, face.mode) == ((200, 200), "RGB")


def test_faces_depend_on_nothing_but_the_identifier():
    names = [identifier(i) for i in range(6)] + [identifier(2, seed=7)]
    forward = {name: draw_face(name).tobytes() for name in names}
    synthetic._chances.cache_clear()
    backward = {name: draw_face(name).tobytes() for name in reversed(names)}
    assert forward == backward
    assert len(set(forward.values())) == len(names)


def test_another_process_draws_the_same_face():
    code = (
        "import hashlib; from utils.datasets.synthetic import draw_face;"
        f"print(hashlib.sha256(draw_face({identifier(11)!r}).tobytes()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == hashlib.sha256(draw_face(identifier(11)).tobytes()).hexdigest()


def test_fewer_faces_are_the_first_of_more():
    few, many = load_synthetic(n=30).table, load_synthetic(n=80).table
    assert few.equals(many.head(30))


def test_labels_are_valid_and_spread_like_utkface():
    table = load_synthetic(n=5000).table
    assert table["age"].between(1, 116).all()
    bins = np.bincount(age_bin(table["age"]), minlength=5) / len(table)
    assert bins == pytest.approx([0.291, 0.499, 0.168, 0.041, 0.001], abs=0.03)
    assert set(table["gender"]) == set(GENDERS)
    assert set(table["ethnicity"]) == set(ETHNICITIES)
    assert (table["gender"] == "male").mean() == pytest.approx(0.523, abs=0.03)
    assert (table["group"] == table["image"]).all()


def test_every_label_can_be_drawn():
    for number, age in enumerate((1, 17, 18, 60, 116)):
        for ethnicity in ETHNICITIES:
            for gender in GENDERS:
                face = pixels(identifier(number), age=age, ethnicity=ethnicity, gender=gender)
                assert face.std() > 15


def test_speed_is_100_faces_a_second_on_a_free_core():
    """At least 100 a second of processor time; a quarter of it is let pass.

    The slack is for slow machines and for two processes that share one core's threads. The best
    of three batches counts.
    """
    draw_face(identifier(0))
    rates = []
    for start in (0, 40, 80):
        begun = time.process_time()
        for i in range(start, start + 40):
            draw_face(identifier(i))
        rates.append(40 / (time.process_time() - begun))
    assert max(rates) > 100 / 4, f"{max(rates):.0f} faces a second"


@pytest.mark.parametrize("number", range(0, 24, 2))
def test_masks_lie_on_the_head_and_differ_by_task(number):
    image = identifier(number)
    masks = {task: evidence_mask(image, task) for task in synthetic.TASKS}
    head = head_mask(image)
    for mask in masks.values():
        assert mask.shape == (200, 200) and mask.dtype == bool
        assert 0.02 < mask.mean() < 0.8
        assert (mask & head).sum() / mask.sum() > 0.97
    assert np.array_equal(masks["age"], masks["age_bin"])
    for first, second in (("age", "gender"), ("age", "ethnicity"), ("gender", "ethnicity")):
        assert (masks[first] ^ masks[second]).mean() > 0.01


@pytest.mark.parametrize(
    ("task", "values"),
    [("age", (20, 60, 95)), ("gender", GENDERS), ("ethnicity", ETHNICITIES)],
)
def test_an_attribute_changes_pixels_within_its_mask(task, values):
    """With one label changed, the two pictures differ within the masks of the two."""
    shares = []
    for number in range(20):
        image = identifier(number)
        labels = true_labels(image)
        if task == "age" and labels.age < synthetic.ADULT:
            continue
        for value in values:
            if value == getattr(labels, task):
                continue
            change = np.abs(pixels(image) - pixels(image, **{task: value})).sum(axis=2)
            if not change.any():  # between 20 and 25 years little happens
                continue
            mask = evidence_mask(image, task) | evidence_mask(image, task, **{task: value})
            shares.append(change[mask].sum() / change.sum())
    assert len(shares) > 15
    assert np.median(shares) > 0.97
    assert np.min(shares) > 0.9


def test_a_child_shows_its_age_in_the_whole_face():
    child = next(identifier(i) for i in range(50) if true_labels(identifier(i)).age < 8)
    change = np.abs(pixels(child) - pixels(child, age=30)).sum(axis=2)
    assert change[evidence_mask(child, "age")].sum() / change.sum() > 0.8


def test_copies_are_near_and_other_faces_are_far():
    hashes, copies = (
        np.array(
            [
                imagehash.dhash(draw_face(name), hash_size=16).hash.ravel()
                for name in (identifier(i).replace(".png", ending) for i in range(60))
            ]
        )
        for ending in (".png", "_copy1.png")
    )
    distance = (copies[:, None] != hashes[None]).sum(axis=2)
    own = np.diag(distance)
    other = distance[~np.eye(60, dtype=bool)]
    assert np.median(own) <= 10
    assert own.max() < other.min()
    assert (
        pixels(identifier(0).replace(".png", "_copy1.png")).tobytes()
        != pixels(identifier(0)).tobytes()
    )


def test_planted_duplicates_and_wrong_labels_are_counted():
    faces = load_synthetic(n=200, duplicates=0.2, label_noise=0.25)
    copies = faces.table[faces.table["image"].str.contains("_copy")]
    assert (len(faces), len(copies)) == (200, 40)
    assert faces.steps["faces"].tolist() == [200, 40, 10]
    originals = copies["image"].str.replace("_copy1", "")
    assert set(originals) <= set(faces.table["image"])
    wrong = [
        tuple(true_labels(row.image)) != (row.age, row.gender, row.ethnicity)
        for row in faces.table.itertuples()
    ]
    assert sum(wrong) == 10
    assert all("_copy" in name for name in faces.table["image"][wrong])


@pytest.fixture(scope="module")
def small_faces():
    table = load_synthetic(n=600, seed=5).table
    faces = [draw_face(name).resize((16, 16), Image.Resampling.BOX) for name in table["image"]]
    return np.stack([np.asarray(face).ravel() for face in faces]), table


@pytest.mark.parametrize("task", ["gender", "ethnicity"])
def test_a_linear_classifier_beats_the_trivial_baseline(small_faces, task):
    """The attributes are visible, and not so plainly that nothing is left to learn."""
    x, table = small_faces
    y = table[task].to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=200))
    score = model.fit(x[:400], y[:400]).score(x[400:], y[400:])
    trivial = DummyClassifier().fit(x[:400], y[:400]).score(x[400:], y[400:])
    print(f"{task}: {score:.3f}, trivial {trivial:.3f}")
    assert trivial + 0.15 < score < 0.995


@pytest.mark.parametrize(
    "name", ["synthetic/129/12.png", "129/000012.png", "synthetic/x/000012.png", "../face.png", ""]
)
def test_a_wrong_identifier_is_one_clear_error(name):
    with pytest.raises(DataError, match="names no synthetic face; expected"):
        draw_face(name)


@pytest.mark.parametrize(
    "options", [{"n": 0}, {"seed": -1}, {"duplicates": 0.9}, {"label_noise": 2}]
)
def test_options_outside_their_range_are_named(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is .*; expected"):
        load_synthetic(**options)


def test_an_unknown_task_or_label_is_named():
    with pytest.raises(ValueError, match="'mood' is unknown"):
        evidence_mask(identifier(0), "mood")
    with pytest.raises(ValueError, match="gender 'man'"):
        draw_face(identifier(0), gender="man")


def test_contact_sheet_holds_all_faces():
    sheet = contact_sheet(5, columns=3, tile=60)
    assert sheet.mode == "RGB"
    assert sheet.width == 10 + 3 * 70
    assert np.asarray(sheet).std() > 20
