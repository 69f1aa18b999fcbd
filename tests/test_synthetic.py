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
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from utils.datasets import synthetic, with_splits
from utils.datasets.synthetic import draw_face, evidence_mask, load_synthetic, true_labels
from utils.files import DataError
from utils.paths import ROOT
from utils.vocabulary import ETHNICITIES, GENDERS, TASKS, age_bin


def identifier(number: int, seed: int = 129) -> str:
    return f"synthetic/{seed}/{number:06d}.png"


def pixels(image: str, **changed) -> np.ndarray:
    return np.asarray(draw_face(image, **changed)).astype(int)


def test_faces_depend_on_nothing_but_the_identifier():
    names = [identifier(i) for i in range(6)] + [identifier(2, seed=7)]
    forward = {name: draw_face(name).tobytes() for name in names}
    synthetic._chances.cache_clear()
    backward = {name: draw_face(name).tobytes() for name in reversed(names)}
    assert forward == backward and len(set(forward.values())) == len(names)
    assert (draw_face(names[0]).size, draw_face(names[0]).mode) == ((200, 200), "RGB")
    code = (
        "import hashlib; from utils.datasets.synthetic import draw_face;"
        f"print(hashlib.sha256(draw_face({names[1]!r}).tobytes()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == hashlib.sha256(forward[names[1]]).hexdigest()


def test_labels_are_valid_and_spread_like_utkface():
    table = load_synthetic(n=5000).table
    assert load_synthetic(n=30).table.equals(table.head(30))  # fewer are the first of more
    assert table["age"].between(1, 116).all()
    bins = np.bincount(age_bin(table["age"]), minlength=5) / len(table)
    assert bins == pytest.approx([0.291, 0.499, 0.168, 0.041, 0.001], abs=0.04)
    assert set(table["gender"]) == set(GENDERS) and set(table["ethnicity"]) == set(ETHNICITIES)
    assert (table["gender"] == "male").mean() == pytest.approx(0.523, abs=0.03)


def test_every_label_can_be_drawn():
    for number, age in enumerate((0, 17, 18, 60, 116)):
        for ethnicity in ETHNICITIES:
            for gender in GENDERS:
                face = pixels(identifier(number), age=age, ethnicity=ethnicity, gender=gender)
                assert face.std() > 15


def test_speed_is_100_faces_a_second_on_a_free_core():
    """A quarter of it is let pass, for slow and shared machines; the best of three counts."""
    rates = []
    for start in (0, 40, 80):
        begun = time.process_time()
        for i in range(start, start + 40):
            draw_face(identifier(i))
        rates.append(40 / (time.process_time() - begun))
    assert max(rates) > 100 / 4, f"{max(rates):.0f} faces a second"


@pytest.mark.parametrize("number", range(0, 24, 3))
def test_evidence_lies_on_the_head_and_differs_by_task(number):
    image = identifier(number)
    masks = {task: evidence_mask(image, task) for task in TASKS}
    for mask in masks.values():
        assert mask.shape == (200, 200) and mask.dtype == bool
        assert 0.02 < mask.mean() < 0.8
        assert max(mask[:, :9].mean(), mask[:, -9:].mean()) < 0.3  # background on both sides
    assert np.array_equal(masks["age"], masks["age_bin"])
    for first, second in (("age", "gender"), ("age", "ethnicity"), ("gender", "ethnicity")):
        assert (masks[first] ^ masks[second]).mean() > 0.01


@pytest.mark.parametrize(
    ("task", "values"),
    [("age", (25, 55, 95)), ("gender", GENDERS), ("ethnicity", ETHNICITIES)],
)
def test_another_label_changes_pixels_within_the_mask_alone(task, values):
    """Also labels with which the mask was not made."""
    shares = []
    for image in map(identifier, range(12)):
        if task == "age" and true_labels(image).age < synthetic.ADULT:
            continue
        mask = evidence_mask(image, task)
        for value in values:
            change = np.abs(pixels(image) - pixels(image, **{task: value})).sum(axis=2)
            if change.sum() > 20_000:  # between 20 and 25 years little happens
                shares.append(change[mask].sum() / change.sum())
    assert len(shares) > 10 and np.median(shares) > 0.95 and np.min(shares) > 0.8


def test_a_mask_covers_the_parts_that_carry_the_label():
    image, grown = identifier(0), {"age": 60, "gender": "male", "ethnicity": "White"}
    age, gender, ethnicity = (
        evidence_mask(image, task, **grown) for task in TASKS if task != "age_bin"
    )
    hair = slice(20, 40), slice(90, 110)
    assert age[hair].mean() > 0.8 and ethnicity.mean() > gender.mean()
    assert evidence_mask(image, "age", age=6).mean() > age.mean()  # a child: the whole face


def test_copies_are_near_and_other_faces_are_far():
    hashes, copies = (
        np.array([
            imagehash.dhash(draw_face(identifier(i).replace(".png", ending)), 16).hash.ravel()
            for i in range(60)
        ])
        for ending in (".png", "_copy1.png")
    )  # fmt: skip
    distance = (copies[:, None] != hashes[None]).sum(axis=2)
    own, other = np.diag(distance), distance[~np.eye(60, dtype=bool)]
    assert np.median(own) <= 10 and own.max() < other.min()


def test_planted_duplicates_and_wrong_labels_are_counted_and_grouped():
    faces = load_synthetic(n=200, duplicates=0.2, label_noise=0.25)
    copies = faces.table[faces.table["image"].str.contains("_copy")]
    assert (len(faces), len(copies)) == (200, 40)
    assert faces.steps["faces"].tolist() == [200, 40, 10]
    assert set(copies["image"].str.replace("_copy1", "")) <= set(faces.table["image"])
    wrong = [
        tuple(true_labels(row.image)) != (row.age, row.gender, row.ethnicity)
        for row in faces.table.itertuples()
    ]
    assert sum(wrong) == 10 and all("_copy" in name for name in faces.table["image"][wrong])
    table = with_splits(faces, progress=False).table
    mates = table.groupby(table["image"].str.replace("_copy1", ""))
    assert (mates["group"].nunique() == 1).all() and table["group"].nunique() == 160
    assert (mates["split"].nunique() == 1).all()


@pytest.fixture(scope="module")
def small_faces():
    table = load_synthetic(n=600, seed=5).table
    faces = [draw_face(name).resize((16, 16), Image.Resampling.BOX) for name in table["image"]]
    return np.stack([np.asarray(face).ravel() for face in faces]), table


@pytest.mark.parametrize("task", ["gender", "ethnicity", "age"])
def test_a_linear_model_beats_the_baseline(small_faces, task):
    """The attributes are visible, and not so plainly that nothing is left to learn."""
    x, y = small_faces[0], small_faces[1][task].to_numpy()
    if task == "age":
        model = make_pipeline(StandardScaler(), Ridge(1000)).fit(x[:400], y[:400])
        error = np.abs(model.predict(x[400:]) - y[400:]).mean()
        assert 2 < error < 0.75 * np.abs(np.median(y[:400]) - y[400:]).mean()
        return
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=200))
    score = model.fit(x[:400], y[:400]).score(x[400:], y[400:])
    trivial = DummyClassifier().fit(x[:400], y[:400]).score(x[400:], y[400:])
    assert trivial + 0.15 < score < 0.995


@pytest.mark.parametrize("name", ["synthetic/129/12.png", "synthetic/x/000012.png", "../face.png"])
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
