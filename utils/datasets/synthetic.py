"""Synthetic faces: drawn by our own code, with labels and regions of evidence by construction.

They exist so that the whole study runs anywhere, and because they are the only faces for which
the true region of evidence is known. No accuracy on them is a result of the study.

Everything follows from the image identifier: ``synthetic/<seed>/<number>.png``, or
``synthetic/<seed>/<number>_copy<k>.png`` for a planted near-duplicate. The chances of one face do
not depend on its labels, so a face can be drawn again with one label changed and all else equal.
"""

import hashlib
import re
from collections import namedtuple
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import yaml
from PIL import Image, ImageFilter

from utils.datasets.drawing import SIZE, draw, mix
from utils.datasets.table import FaceSet, new_table
from utils.files import DataError
from utils.vocabulary import ETHNICITIES, GENDERS, MAX_AGE, TASKS

TERMS = "Drawn by this project's own code; no real person is shown; same licence as the code."
_SOURCES = ("synthetic.py", "synthetic.yaml", "drawing.py")
_CODE = [Path(__file__).with_name(name).read_bytes() for name in _SOURCES]
_VERSION = hashlib.sha256(b"".join(_CODE)).hexdigest()[:12]  # changes with what draws
MADE_OF = yaml.safe_load(_CODE[1])  # proportions, colours, looks and chances; explained there
ADULT = 18  # years; from here on the proportions of the face stay as they are
# With which other labels a face is drawn to see where an attribute shows.
_OTHERS = {"age": (20, 40, 60, 80, 100), "gender": GENDERS, "ethnicity": ETHNICITIES}
_VISIBLE = 10  # grey levels by which a pixel must change to count as evidence

# True labels of one face: age in years, gender and ethnicity by name.
Labels = namedtuple("Labels", "age gender ethnicity")
_ID = re.compile(r"synthetic/(\d{1,9})/(\d{6})(?:_copy(\d{1,3}))?\.png")


def _parse(image_id: str) -> tuple[int, int, int]:
    match = _ID.fullmatch(str(image_id))
    if match is None:
        told = "expected 'synthetic/<seed>/<six digits>.png', such as 'synthetic/129/000123.png'"
        raise DataError(f"{image_id!r} names no synthetic face; {told}")
    return tuple(int(part or 0) for part in match.groups())


@lru_cache(maxsize=256)
def _chances(seed: int, number: int) -> SimpleNamespace:
    """All that is random about one face, independent of its labels."""
    rng = np.random.default_rng([seed, number, 129])
    uniform, normal = MADE_OF["uniform"], MADE_OF["normal"]
    # Ends of the bell are cut off: no face falls apart.
    bell = np.clip(rng.standard_normal(len(normal)), -2.2, 2.2)
    values = [*rng.random(len(uniform)).tolist(), *bell.tolist()]
    texture = int(rng.integers(2**32))
    return SimpleNamespace(texture=texture, **dict(zip(uniform + normal, values, strict=True)))


def _pick(share: float, shares) -> int:
    """Index of the class into which `share` in 0..1 falls."""
    return int(np.searchsorted(np.cumsum(shares)[:-1], share, side="right"))


def true_labels(image_id: str) -> Labels:
    """Labels by which a face is drawn, in UTKFace's proportions; planted errors change nothing."""
    c, shares = _chances(*_parse(image_id)[:2]), MADE_OF["shares"]
    years = np.interp(c.age, shares["age"]["faces"], shares["age"]["years"])
    ethnicity = ETHNICITIES[_pick(c.ethnicity, shares["ethnicity"])]
    age = int(np.clip(np.rint(years), 1, MAX_AGE))
    return Labels(age, GENDERS[int(c.gender >= shares["male"])], ethnicity)


def _rise(age: float, middle: float, years: float) -> float:
    # Logistic growth with age: 0.5 at `middle`.
    return float(1 / (1 + np.exp(-(age - middle) / years)))


def _colours_and_hair(labels: Labels, c) -> dict:
    look, colours = MADE_OF["looks"][labels.ethnicity], MADE_OF["colours"]
    male, age, skins = labels.gender == "male", labels.age, colours["skin"]
    place = float(np.clip(look["tone"] + look["spread"] * c.tone, 0, 1)) * (len(skins) - 1)
    first = min(int(place), len(skins) - 2)
    red, green, blue = mix(skins[first], skins[first + 1], place - first)
    skin = (red + 3 * c.warm, green, blue - (8 if labels.ethnicity == "Asian" else 0))
    painted = not male and age >= 15 and c.lipstick < 0.8
    length = float(np.clip(0.18 + 0.1 * c.length if male else 0.78 + 0.16 * c.length, 0.06, 1))
    grey = 0.92 * _rise(age + 4 * c.grey, 56, 6)
    return {
        "skin": skin,
        "hair": mix(colours["hair"][_pick(c.hair, look["hair"])], (214, 212, 210), grey),
        "iris": colours["iris"][int(c.iris * (5 if labels.ethnicity == "White" else 2))],
        "lips": mix(skin, (190, 40, 62), 0.8 if painted else 0.35),
        "length": length if age >= 4 else max(0.05, length * age / 5),  # little hair yet
        "fringe": c.fringe,
        "curly": c.curly < look["curly"] and age >= 2,
        "bald": male and age >= ADULT and c.bald < 0.03 + 0.5 * _rise(age, 55, 8),
        "beard": male and c.beard < 0.62 * np.clip((age - 13) / 7, 0, 1),
    }


def _features(labels: Labels, child: float, c) -> dict:
    """What age, gender and ethnicity do to the face itself."""
    look = MADE_OF["looks"][labels.ethnicity]
    male, age = labels.gender == "male", labels.age
    grown = float(np.clip((age - 13) / 7, 0, 1))
    worn = float(np.clip((age - ADULT) / 62, 0, 1.4))  # creeps on through grown life
    brow = 0.075 + (0.03 if male else -0.024) * (0.35 + 0.65 * grown)
    return {
        "forehead": 0.95 * _rise(age + 4 * c.wrinkles, 50, 7),
        "crow_feet": 0.9 * _rise(age + 4 * c.wrinkles, 44, 7),
        "folds": min(1.0, worn * (1.1 + 0.12 * c.folds)),
        "brow": max(0.03, (brow + 0.01 * c.brow) * (0.6 + 0.4 * grown)),
        "arch": (0.05 if male else 0.085) + 0.015 * c.arch,
        "lip": max(0.03, ((0.06 if male else 0.084) + 0.008 * c.lip) * (1.1 - 0.35 * worn)),
        "jaw": (0.83 if male else 0.93) + 0.05 * c.jaw,
        "open": max(0.07, (look["open"] + 0.01 * c.open) * (1.05 - 0.2 * worn) + 0.05 * child),
        "tilt": look["tilt"] + 0.03 * c.tilt,
    }


def _look(image_id: str, changed: dict) -> SimpleNamespace:
    """Everything visible of one face, if wanted with some of its labels changed."""
    known = {"age": range(MAX_AGE + 1), "gender": GENDERS, "ethnicity": ETHNICITIES}
    for name, value in changed.items():
        if value not in known.get(name, ()):
            raise ValueError(f"{name} {value!r} cannot be drawn; expected one of {known}")
    labels, c = true_labels(image_id)._replace(**changed), _chances(*_parse(image_id)[:2])
    child, scales = max(0.0, 1 - labels.age / ADULT) ** 0.8, MADE_OF["scales"]
    parts = {k: a + b * getattr(c, k) + more * child for k, (a, b, more) in scales.items()}
    parts |= _colours_and_hair(labels, c) | _features(labels, child, c)
    hue = 2 * np.pi * (np.array([0.0, 1 / 3, 2 / 3]) + c.clothes)
    parts["clothes"] = (115 + 60 * np.cos(hue)).tolist()
    return SimpleNamespace(texture=c.texture, child=child, **parts)


def draw_face(image_id: str, **changed) -> Image.Image:
    """Draw the face that an identifier names, RGB [200, 200]; it depends on nothing else.

    `changed` are ``age`` (0..116), ``gender`` or ``ethnicity`` to draw instead of the true one.
    """
    seed, number, copy = _parse(image_id)
    picture = draw(_look(image_id, changed))
    return _disturb(picture, [seed, number, copy]) if copy else picture


def _disturb(picture: Image.Image, key: list[int]) -> Image.Image:
    """Shift by up to a quarter pixel, change the brightness by up to 3 %, add noise."""
    rng = np.random.default_rng(key)
    pixels = np.asarray(picture, np.float32)
    before = np.maximum(np.arange(SIZE) - 1, 0)
    for axis, share in enumerate(rng.uniform(0.05, 0.25, 2)):
        pixels = (1 - share) * pixels + share * np.take(pixels, before, axis=axis)
    pixels *= rng.choice([-1, 1]) * rng.uniform(0.01, 0.03) + 1
    pixels += 2 * rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def evidence_mask(image_id: str, task: str, **changed) -> np.ndarray:
    """Where a face carries an attribute, bool [200, 200]: what changes when only its label does.

    So age shows in wrinkles, lips and hair, below 18 years in the whole face; gender in hair,
    brows, lips, jaw and beard, also where a beard or long hair is absent; ethnicity in skin, hair
    and eyes. A near-duplicate has the mask of the face it copies.

    `changed` are labels to draw instead of the true ones, as for `draw_face`; ``age_bin`` shows
    where ``age`` does.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r} is unknown; expected one of {TASKS}")
    label = "age" if task == "age_bin" else task
    own = true_labels(image_id)._replace(**changed)
    young = (2, 8, 14) if label == "age" and own.age < ADULT else ()  # shows in the whole face
    face = np.asarray(draw(_look(image_id, changed)), np.int16)
    mask = np.zeros((SIZE, SIZE), bool)
    for other in (*_OTHERS[label], *young):
        if other != getattr(own, label):
            drawn = np.asarray(draw(_look(image_id, {**changed, label: other})), np.int16)
            mask |= np.abs(drawn - face).max(axis=2) > _VISIBLE
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(5))) > 0


def load_synthetic(
    root: Path | None = None,
    n: int = 600,
    seed: int = 129,
    duplicates: float = 0.0,
    label_noise: float = 0.0,
) -> FaceSet:
    """Return `n` synthetic faces (fewer are the first of more); a picture is drawn when read.

    `duplicates` is the share 0..0.5 of them that are near-duplicates of another one, `label_noise`
    the share 0..1 of these with one label wrong; ``steps`` counts both. `root` is ignored: there
    are no files, but all loaders are called alike.
    """
    ranges = {"n": (n, 1, 999_999), "seed": (seed, 0, 999_999_999)}
    ranges |= {"duplicates": (duplicates, 0, 0.5), "label_noise": (label_noise, 0, 1)}
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; expected {low} to {high}")
    images, labels, counts = _plant(n, seed, duplicates, label_noise)
    age, gender, ethnicity = (list(column) for column in zip(*labels, strict=True))
    table = new_table(images, source="synthetic", age=age, gender=gender, ethnicity=ethnicity)
    # By construction: the search for near-duplicates takes drawings by one pen for one another.
    table["group"] = table["image"].str.replace(r"_copy\d+", "", regex=True)
    made = {"read": draw_face, "version": _VERSION, "terms": TERMS}
    return FaceSet(name="synthetic", table=table, grouped=True, steps=counts, **made)


def _plant(n: int, seed: int, duplicates: float, label_noise: float):
    """Identifiers, labels and counts, with near-duplicates and wrong labels among them."""
    copies = int(round(n * duplicates))
    images = [f"synthetic/{seed}/{i:06d}.png" for i in range(n - copies)]
    rng = np.random.default_rng([seed, n, copies])
    chosen = rng.permutation(len(images))[:copies]
    images += [images[i].replace(".png", "_copy1.png") for i in sorted(chosen)]
    labels = [true_labels(image) for image in images]
    wrong = rng.permutation(copies)[: int(round(copies * label_noise))] + n - copies
    for row in sorted(wrong.tolist()):
        labels[row] = _wrong(labels[row], rng)
    planted = [("planted near-duplicates", copies), ("planted wrong labels", len(wrong))]
    return images, labels, [("drawn", n), *planted]


def _wrong(labels: Labels, rng: np.random.Generator) -> Labels:
    """Change one label, chosen at random, to a wrong one."""
    field = Labels._fields[rng.integers(3)]
    if field == "age":
        step = int(rng.integers(15, 40))
        return labels._replace(age=labels.age - step if labels.age > 50 else labels.age + step)
    names = [name for name in _OTHERS[field] if name != getattr(labels, field)]
    return labels._replace(**{field: names[rng.integers(len(names))]})
