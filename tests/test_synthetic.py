"""Are the synthetic faces deterministic, labelled truly, and true about their evidence?"""

import subprocess
import sys
import time
from itertools import combinations, product

import imagehash
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression, Ridge
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
    code = "import sys; from utils.datasets.synthetic import draw_face;"
    code += f"sys.stdout.buffer.write(draw_face({names[1]!r}).tobytes())"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert run.stdout == forward[names[1]]


def test_labels_are_valid_spread_like_utkface_and_can_all_be_drawn():
    table = load_synthetic(n=5000).table
    assert load_synthetic(n=30).table.equals(table.head(30))  # fewer are the first of more
    assert table["age"].between(1, 116).all()
    bins = np.bincount(age_bin(table["age"]), minlength=5) / len(table)
    assert bins == pytest.approx([0.291, 0.499, 0.168, 0.041, 0.001], abs=0.04)
    assert set(table["gender"]) == set(GENDERS) and set(table["ethnicity"]) == set(ETHNICITIES)
    assert (table["gender"] == "male").mean() == pytest.approx(0.523, abs=0.03)
    for age, gender, ethnicity in product((0, 17, 18, 60, 116), GENDERS, ETHNICITIES):
        assert pixels(identifier(age), age=age, ethnicity=ethnicity, gender=gender).std() > 15


def test_speed_is_100_faces_a_second_on_a_free_core():
    """A quarter of it is let pass, for slow and shared machines; the best of three counts."""
    took = []
    for start in (0, 40, 80):
        begun = time.process_time()
        for i in range(start, start + 40):
            draw_face(identifier(i))
        took.append(time.process_time() - begun)
    assert 40 / min(took) > 100 / 4


@pytest.mark.parametrize("number", range(0, 24, 3))
def test_evidence_lies_on_the_head_and_differs_by_task(number):
    masks = {task: evidence_mask(identifier(number), task) for task in TASKS}
    for mask in masks.values():
        assert mask.shape == (200, 200) and mask.dtype == bool and 0.02 < mask.mean() < 0.8
        assert max(mask[:, :9].mean(), mask[:, -9:].mean()) < 0.3  # background on both sides
    assert np.array_equal(masks["age"], masks.pop("age_bin"))
    for first, second in combinations(masks.values(), 2):
        assert (first ^ second).mean() > 0.01


@pytest.mark.parametrize(
    ("task", "values"), [("age", (25, 55, 95)), ("gender", GENDERS), ("ethnicity", ETHNICITIES)]
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
    names = [identifier(i) for i in range(60)]
    names += [name.replace(".png", "_copy1.png") for name in names]
    bits = np.array([imagehash.dhash(draw_face(name), 16).hash.ravel() for name in names])
    distance = (bits[60:, None] != bits[None, :60]).sum(axis=2)
    own, other = np.diag(distance), distance[~np.eye(60, dtype=bool)]
    assert np.median(own) <= 10 and own.max() < other.min()


def test_planted_duplicates_and_wrong_labels_are_counted_and_grouped():
    faces = load_synthetic(n=200, duplicates=0.2, label_noise=0.25)
    copies = faces.table[faces.table["image"].str.contains("_copy")]
    assert (len(faces), len(copies)) == (200, 40)
    assert faces.steps["faces"].tolist() == [200, 40, 10]
    assert set(copies["image"].str.replace("_copy1", "")) <= set(faces.table["image"])
    labels = faces.table[["image", "age", "gender", "ethnicity"]].itertuples(index=False)
    told = [true_labels(image) == tuple(given) for image, *given in labels]
    wrong = faces.table["image"][~np.array(told)]
    assert len(wrong) == 10 and wrong.str.contains("_copy").all()
    table = with_splits(faces, progress=False).table
    mates = table.groupby(table["image"].str.replace("_copy1", ""))
    assert (mates["group"].nunique() == 1).all() and table["group"].nunique() == 160
    assert (mates["split"].nunique() == 1).all()


def test_a_linear_model_beats_the_baseline():
    """The attributes are visible, and not so plainly that nothing is left to learn."""
    table = load_synthetic(n=600, seed=5).table
    faces = [draw_face(name).resize((16, 16), Image.Resampling.BOX) for name in table["image"]]
    x = StandardScaler().fit_transform([np.asarray(face).ravel() for face in faces])
    age = table["age"].to_numpy()
    error = np.abs(Ridge(1000).fit(x[:400], age[:400]).predict(x[400:]) - age[400:]).mean()
    assert 2 < error < 0.75 * np.abs(np.median(age[:400]) - age[400:]).mean()
    for task in ("gender", "ethnicity"):
        y, model = table[task], LogisticRegression(C=0.003, max_iter=200)
        score = model.fit(x[:400], y[:400]).score(x[400:], y[400:])
        baseline = (y[400:] == y[:400].mode()[0]).mean()
        assert baseline + 0.15 < score < 0.995


def test_names_options_tasks_and_labels_that_cannot_be_are_one_clear_error():
    for name in ("synthetic/129/12.png", "synthetic/x/000012.png", "../face.png"):
        with pytest.raises(DataError, match="names no synthetic face; expected"):
            draw_face(name)
    for option, value in {"n": 0, "seed": -1, "duplicates": 0.9, "label_noise": 2}.items():
        with pytest.raises(ValueError, match=f"{option} is {value}; expected"):
            load_synthetic(**{option: value})
    with pytest.raises(ValueError, match="'mood' is unknown"):
        evidence_mask(identifier(0), "mood")
    with pytest.raises(ValueError, match="gender 'man'"):
        draw_face(identifier(0), gender="man")
