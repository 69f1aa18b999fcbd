"""Synthetic faces: drawn by our own code, with labels and regions of evidence by construction.

They exist so that the whole study runs anywhere, and because they are the only faces for which
the true region of evidence is known. No accuracy on them is a result of the study.

Everything follows from the image identifier: ``synthetic/<seed>/<number>.png``, or
``synthetic/<seed>/<number>_copy<k>.png`` for a planted near-duplicate. The chances of one face do
not depend on its labels, so a face can be drawn again with one label changed and all else equal.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .facetable import (
    ETHNICITIES,
    GENDERS,
    MAX_AGE,
    DataError,
    FaceSet,
    new_table,
    steps_table,
)
from .synthetic_draw import CHILD_EVIDENCE, EVIDENCE, SIZE, Look, draw, mix, region_mask

TERMS = "Drawn by this project's own code; no real person is shown; same licence as the code."
TASKS = ("age", "age_bin", "gender", "ethnicity")
ADULT = 18  # years; from here on the proportions of the face stay as they are

# Shares of UTKFace: age up to which a share of its faces lies, gender, ethnicity.
_AGES = (0.5, 1.5, 4, 12, 18, 24, 26, 30, 35, 40, 49, 60, 70, 80, 90, 99, 116.5)
_SHARES = (0, 0.047, 0.091, 0.144, 0.19, 0.291, 0.415, 0.534, 0.637, 0.717, 0.79, 0.899)
_SHARES += (0.948, 0.977, 0.9963, 0.9987, 1)
_MALE = 0.523
_ETHNICITY_SHARES = (0.425, 0.191, 0.145, 0.168, 0.071)

# From light to dark.
_SKIN = ((255, 226, 204), (243, 204, 171), (226, 178, 136), (197, 141, 100), (149, 97, 66))
_SKIN += ((98, 62, 44), (66, 42, 32))
_TONE = {  # mean, spread; neighbours overlap
    "White": (0.14, 0.07),
    "Asian": (0.25, 0.06),
    "Other": (0.38, 0.09),
    "Indian": (0.53, 0.08),
    "Black": (0.81, 0.09),
}
_HAIR = ((28, 22, 22), (58, 38, 28), (92, 58, 36), (138, 92, 52), (206, 162, 92), (152, 70, 36))
_HAIR_SHARES = {  # black, dark brown, brown, light brown, blond, red
    "White": (0.05, 0.2, 0.25, 0.2, 0.2, 0.1),
    "Asian": (0.75, 0.22, 0.03, 0.0, 0.0, 0.0),
    "Other": (0.35, 0.4, 0.2, 0.05, 0.0, 0.0),
    "Indian": (0.65, 0.3, 0.05, 0.0, 0.0, 0.0),
    "Black": (0.8, 0.18, 0.02, 0.0, 0.0, 0.0),
}
_IRIS = ((62, 38, 24), (100, 64, 34), (116, 128, 70), (72, 118, 160), (118, 134, 146))
_EYE = {  # openness, upward tilt, share with a crease
    "White": (0.135, 0.02, 0.95),
    "Asian": (0.098, 0.15, 0.3),
    "Other": (0.13, 0.05, 0.9),
    "Indian": (0.14, 0.05, 0.95),
    "Black": (0.132, 0.04, 0.95),
}
_UNIFORM = (
    "age gender ethnicity beard beard_kind stubble bald bun fringe curly hair iris crease teeth "
    "lipstick lipstick_colour freckles glasses frame clothes clothes_light collar gain shaven"
).split()
_NORMAL = (
    "width chin jaw tone warm cold forehead crow_feet folds under_eyes grey length volume parting "
    "hair_light brow arch eye open tilt nose mouth lip smile blush yaw pitch roll scale left up "
    "light_x light_y contrast warmth noise child"
).split()


class Labels(NamedTuple):
    """True labels of one face: age in years, gender and ethnicity by name."""

    age: int
    gender: str
    ethnicity: str


_ID = re.compile(r"synthetic/(\d{1,9})/(\d{6})(?:_copy(\d{1,3}))?\.png")


def _parse(image_id: str) -> tuple[int, int, int]:
    match = _ID.fullmatch(str(image_id))
    if match is None:
        raise DataError(
            f"{image_id!r} names no synthetic face; expected 'synthetic/<seed>/<six digits>.png', "
            "such as 'synthetic/129/000123.png'"
        )
    seed, number, copy = match.groups()
    return int(seed), int(number), int(copy or 0)


@lru_cache(maxsize=256)
def _chances(seed: int, number: int) -> tuple[dict[str, float], dict[str, float], int]:
    """All that is random about one face, independent of its labels."""
    rng = np.random.default_rng([seed, number, 129])
    texture = int(rng.integers(2**32))
    # Ends of the bell are cut off: no face falls apart.
    normal = np.clip(rng.standard_normal(len(_NORMAL)), -2.4, 2.4)
    uniform = rng.random(len(_UNIFORM))
    return (
        dict(zip(_UNIFORM, uniform.tolist(), strict=True)),
        dict(zip(_NORMAL, normal.tolist(), strict=True)),
        texture,
    )


def _pick(share: float, shares) -> int:
    """Index of the class into which `share` in 0..1 falls."""
    edges = np.cumsum(shares)
    return int(min(np.searchsorted(edges, share * edges[-1], side="right"), len(edges) - 1))


def true_labels(image_id: str) -> Labels:
    """Labels by which a face is drawn; a planted wrong label does not change them.

    Parameters
    ----------
    image_id : str
        Such as ``synthetic/129/000123.png``.

    Returns
    -------
    Labels
        ``age`` 1..116 with the distribution of UTKFace, ``gender`` and ``ethnicity``.

    Raises
    ------
    DataError
        If the identifier is not of that form.

    Examples
    --------
    >>> true_labels("synthetic/129/000123.png") == true_labels("synthetic/129/000123_copy1.png")
    True
    """
    seed, number, _ = _parse(image_id)
    chance, _, _ = _chances(seed, number)
    age = int(np.clip(np.rint(np.interp(chance["age"], _SHARES, _AGES)), 1, MAX_AGE))
    gender = GENDERS[int(chance["gender"] >= _MALE)]
    return Labels(age, gender, ETHNICITIES[_pick(chance["ethnicity"], _ETHNICITY_SHARES)])


# ---------------------------------------------------------------- from labels to looks


def _rise(age: float, middle: float, years: float) -> float:
    """Logistic growth with age: 0.5 at `middle`."""
    return float(1 / (1 + np.exp(-(age - middle) / years)))


def _palette(position: float, colours) -> tuple[float, float, float]:
    """Colour at 0..1 along a list of colours."""
    position = float(np.clip(position, 0, 1)) * (len(colours) - 1)
    first = min(int(position), len(colours) - 2)
    return mix(colours[first], colours[first + 1], position - first)


def _colours(labels: Labels, u: dict, z: dict) -> dict:
    mean, spread = _TONE[labels.ethnicity]
    skin = _palette(mean + spread * z["tone"], _SKIN)
    yellow = 6 if labels.ethnicity == "Asian" else 0
    skin = (skin[0] + 3 * z["warm"], skin[1], skin[2] - yellow + 3 * z["cold"])
    hair = _HAIR[_pick(u["hair"], _HAIR_SHARES[labels.ethnicity])]
    hair = mix(hair, (255, 235, 200), max(0.0, 0.05 * z["hair_light"]))
    grey = _rise(labels.age + 7 * z["grey"], 58, 5)
    hair = mix(hair, (214, 212, 210), 0.92 * grey)
    pale = labels.ethnicity == "White"
    iris = _IRIS[int(u["iris"] * 5)] if pale else _IRIS[int(u["iris"] * 2)]
    lips = mix(skin, (178, 60, 66), 0.42)
    grown_female = labels.gender == "female" and labels.age >= 15
    if grown_female and u["lipstick"] < 0.75:
        lips = mix(lips, ((196, 30, 58), (214, 84, 104), (150, 40, 70))[_third(u)], 0.72)
    return {"skin": skin, "hair": hair, "iris": iris, "lips": lips}


def _third(u: dict) -> int:
    return int(u["lipstick_colour"] * 3)


def _age_signs(age: int, z: dict) -> dict:
    return {
        "child": max(0.0, 1 - age / ADULT) ** 0.8,
        "forehead": 0.95 * _rise(age + 6 * z["forehead"], 53, 7),
        "crow_feet": 0.9 * _rise(age + 6 * z["crow_feet"], 50, 7),
        "folds": 0.85 * _rise(age + 6 * z["folds"], 48, 8),
        "under_eyes": 0.75 * _rise(age + 6 * z["under_eyes"], 55, 8),
    }


def _hair(labels: Labels, u: dict, z: dict) -> dict:
    male = labels.gender == "male"
    length = (0.2 if male else 0.72) + (0.13 if male else 0.2) * z["length"]
    length = float(np.clip(length, 0.0 if male else 0.12, 1.0))
    if labels.age < 4:  # little hair yet
        length = max(0.05, length * labels.age / 5)
    grown = labels.age >= ADULT
    bald = male and grown and u["bald"] < 0.03 + 0.5 * _rise(labels.age, 55, 8)
    curly = u["curly"] < {"Black": 0.75, "Other": 0.2}.get(labels.ethnicity, 0.08)
    fringes = (0.4, 0.1, 0.4, 0.1) if male else (0.4, 0.25, 0.12, 0.23)
    return {
        "length": length,
        "volume": float(np.clip(0.07 + 0.03 * z["volume"] + 0.1 * curly, 0.02, 0.24))
        * (0.35 if length < 0.1 else 1.0),
        "fringe": _pick(u["fringe"], fringes),
        "parting": 0.3 * float(np.clip(z["parting"], -1.5, 1.5)),
        "curly": curly and length >= 0.1,
        "bald": bald,
        "bun": length > 0.55 and u["bun"] < 0.2,
    }


def _gender_signs(labels: Labels, u: dict, z: dict) -> dict:
    male, age = labels.gender == "male", labels.age
    grown = float(np.clip((age - 13) / 7, 0, 1))  # how far the signs have come
    beard = "none"
    if male and u["beard"] < 0.62 * grown:
        beard = ("full", "goatee", "moustache", "stubble")[_pick(u["beard_kind"], (4, 2, 2, 3))]
    brow = 0.075 + (0.028 if male else -0.022) * (0.35 + 0.65 * grown)
    return {
        "beard": beard,
        "brow": max(0.03, (brow + 0.012 * z["brow"]) * (0.6 + 0.4 * grown)),
        "arch": (0.05 if male else 0.085) + 0.015 * z["arch"],
        "lip": max(0.035, (0.06 if male else 0.082) + 0.01 * z["lip"]),
    }


def _features(labels: Labels, child: float, u: dict, z: dict) -> dict:
    opened, tilt, crease = _EYE[labels.ethnicity]
    return {
        "width": 0.99 + 0.04 * z["width"] + 0.07 * child,
        "chin": 1.27 + 0.045 * z["chin"] - 0.17 * child,
        "jaw": 0.86 + 0.07 * z["jaw"] * (1 - 0.6 * child),
        "eye": 0.205 + 0.012 * z["eye"] + 0.03 * child,
        "open": max(0.075, opened + 0.012 * z["open"] + 0.05 * child),
        "tilt": tilt + 0.04 * z["tilt"],
        "crease": 0.6 if u["crease"] < crease else 0.0,
        "nose": 0.185 + 0.018 * z["nose"] - 0.055 * child,
        "mouth": 0.36 + 0.03 * z["mouth"] - 0.07 * child,
        "smile": 0.055 + 0.028 * z["smile"],
        "teeth": u["teeth"] < 0.3,
        "blush": float(np.clip(0.09 + 0.03 * z["blush"] + 0.04 * child, 0, 0.18)),
        "freckles": max(0.0, 1 - 12 * u["freckles"]),
    }


def _nuisances(u: dict, z: dict) -> dict:
    hue = np.array([0.0, 1 / 3, 2 / 3]) + u["clothes"]
    clothes = 70 + 90 * u["clothes_light"] + 60 * np.cos(2 * np.pi * hue)
    frames = ((30, 28, 32), (96, 52, 30), (150, 30, 48), (40, 70, 120))
    return {
        "glasses": 0 if u["glasses"] > 0.2 else 1 + int(u["glasses"] > 0.1),
        "frame": frames[int(u["frame"] * len(frames))],
        "clothes": tuple(clothes.tolist()),
        "collar": int(u["collar"] > 0.5),
        "yaw": 0.09 * z["yaw"],
        "pitch": 0.04 * z["pitch"],
        "roll": 0.07 * z["roll"],
        "scale": 1 + 0.045 * z["scale"],
        "shift": (4.0 * z["left"], 3.0 * z["up"]),
        "light": (0.45 * z["light_x"], 0.25 * z["light_y"] - 0.2),
        "contrast": float(np.clip(0.34 + 0.09 * z["contrast"], 0.1, 0.6)),
        "gain": 0.84 + 0.28 * u["gain"],
        "warmth": 0.03 * z["warmth"],
        "noise": float(np.clip(4 + 1.6 * z["noise"], 1, 9)),
    }


def _change(labels: Labels, changed: dict) -> Labels:
    known = {"age": range(1, MAX_AGE + 1), "gender": GENDERS, "ethnicity": ETHNICITIES}
    for name, value in changed.items():
        if name not in known:
            raise ValueError(f"label {name!r} is unknown; expected one of {list(known)}")
        if value not in known[name]:
            raise ValueError(f"{name} {value!r} cannot be drawn; expected one of {known[name]}")
    return labels._replace(**changed)


def look(image_id: str, **changed) -> Look:
    """Look of a face, if wanted with some of its labels changed and all else equal.

    Parameters
    ----------
    image_id : str
        Such as ``synthetic/129/000123.png``.
    **changed
        ``age``, ``gender`` or ``ethnicity`` to draw instead of the true one.

    Returns
    -------
    Look
        What `synthetic_draw.draw` needs.
    """
    seed, number, _ = _parse(image_id)
    labels = _change(true_labels(image_id), changed)
    u, z, texture = _chances(seed, number)
    signs = _age_signs(labels.age, z)
    return Look(
        **signs,
        **_colours(labels, u, z),
        **_hair(labels, u, z),
        **_gender_signs(labels, u, z),
        **_features(labels, signs["child"], u, z),
        **_nuisances(u, z),
        texture=texture,
    )


# ---------------------------------------------------------------- pictures and masks


def draw_face(image_id: str, **changed) -> Image.Image:
    """Draw the face that an identifier names.

    Parameters
    ----------
    image_id : str
        Such as ``synthetic/129/000123.png``; the picture depends on nothing else.
    **changed
        ``age``, ``gender`` or ``ethnicity`` to draw instead of the true one, all else equal.

    Returns
    -------
    PIL.Image.Image
        RGB, 200 x 200.

    Raises
    ------
    DataError
        If the identifier names no synthetic face.

    Examples
    --------
    >>> draw_face("synthetic/129/000123.png").size
    (200, 200)
    """
    seed, number, copy = _parse(image_id)
    picture = draw(look(image_id, **changed))
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
    """Where a face carries an attribute.

    Age shows in wrinkles and in the hair (grey, bald), below 18 years in the whole face;
    gender in hair, brows, lips and beard, also where a beard or long hair is absent; ethnicity
    in skin, hair and eyes.

    Parameters
    ----------
    image_id : str
        Such as ``synthetic/129/000123.png``. Of a copy, the mask of the face it copies.
    task : str
        ``age``, ``age_bin`` (the same region), ``gender`` or ``ethnicity``.
    **changed
        Labels to draw instead of the true ones, as for `draw_face`.

    Returns
    -------
    numpy.ndarray
        Bool, [200, 200].

    Examples
    --------
    >>> mask = evidence_mask("synthetic/129/000123.png", "gender")
    >>> mask.shape, bool(mask.any())
    ((200, 200), True)
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r} is unknown; expected one of {TASKS}")
    task = "age" if task == "age_bin" else task
    face = look(image_id, **changed)
    names = EVIDENCE[task]
    if task == "age" and face.child > 0:
        names = names + CHILD_EVIDENCE
    mask = region_mask(face, names)
    if task == "gender":  # the other gender's hair: its absence is evidence too
        for gender in GENDERS:
            mask |= region_mask(look(image_id, **{**changed, "gender": gender}), ("hair",))
    return mask


def head_mask(image_id: str) -> np.ndarray:
    """Head with neck and hair, also the hair the other gender would wear; bool [200, 200]."""
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    for gender in GENDERS:
        face = look(image_id, gender=gender)
        mask |= region_mask(face, ("skin", "hair", "scalp", "beard"))
    return mask


# ---------------------------------------------------------------- the data set


def load_synthetic(
    root: Path | None = None,
    n: int = 600,
    seed: int = 129,
    duplicates: float = 0.0,
    label_noise: float = 0.0,
) -> FaceSet:
    """Return `n` synthetic faces; a picture is drawn when it is read.

    Parameters
    ----------
    root : Path, optional
        Ignored; there are no files. Here so that all loaders are called alike.
    n : int
        Number of faces, 1..999999. Fewer faces are the first of more.
    seed : int
        0..999999999. Other seeds give other faces.
    duplicates : float
        Share 0..0.5 of the `n` faces that are near-duplicates of another one.
    label_noise : float
        Share 0..1 of these near-duplicates with one label wrong, for studies of conflicts.

    Returns
    -------
    FaceSet
        Its ``steps`` count the faces, the planted copies and the planted wrong labels.

    Raises
    ------
    ValueError
        If an argument lies outside its range.

    Examples
    --------
    >>> faces = load_synthetic(n=20, duplicates=0.1)
    >>> len(faces), faces.table["image"].iloc[0], faces.read("synthetic/129/000000.png").mode
    (20, 'synthetic/129/000000.png', 'RGB')
    """
    _check_range("n", n, 1, 999_999)
    _check_range("seed", seed, 0, 999_999_999)
    _check_range("duplicates", duplicates, 0, 0.5)
    _check_range("label_noise", label_noise, 0, 1)
    copies = int(round(n * duplicates))
    images = [f"synthetic/{seed}/{i:06d}.png" for i in range(n - copies)]
    rng = np.random.default_rng([seed, n, copies])
    chosen = rng.permutation(len(images))[:copies]
    images += [images[i].replace(".png", "_copy1.png") for i in sorted(chosen)]
    labels = [true_labels(image) for image in images]
    wrong = rng.permutation(copies)[: int(round(copies * label_noise))] + n - copies
    for row in sorted(wrong.tolist()):
        labels[row] = _wrong(labels[row], rng)
    age, gender, ethnicity = (list(column) for column in zip(*labels, strict=True))
    counts = [("drawn", n), ("planted near-duplicates", copies)]
    return FaceSet(
        name="synthetic",
        table=new_table(images, source="synthetic", age=age, gender=gender, ethnicity=ethnicity),
        read=draw_face,
        steps=steps_table([*counts, ("planted wrong labels", len(wrong))]),
        terms=TERMS,
    )


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; expected {low} to {high}")


def _wrong(labels: Labels, rng: np.random.Generator) -> Labels:
    """Change one label, chosen at random, to a wrong one."""
    field = Labels._fields[rng.integers(3)]
    if field == "gender":
        return labels._replace(gender=GENDERS[1 - GENDERS.index(labels.gender)])
    if field == "ethnicity":
        others = [name for name in ETHNICITIES if name != labels.ethnicity]
        return labels._replace(ethnicity=others[rng.integers(len(others))])
    step = int(rng.integers(15, 40))
    return labels._replace(age=labels.age - step if labels.age > 50 else labels.age + step)


# ---------------------------------------------------------------- to look at


def contact_sheet(n: int = 40, seed: int = 129, columns: int = 8, tile: int = 120) -> Image.Image:
    """Draw `n` faces with their labels on one sheet, titled 'synthetic'.

    Parameters
    ----------
    n, seed : int
        The first `n` faces of this seed.
    columns, tile : int
        Faces in a row, and their side in pixels.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    _check_range("n", n, 1, 999_999)
    gap, caption, title = 10, 18, 46
    rows = -(-n // columns)
    size = (gap + columns * (tile + gap), title + rows * (tile + caption + gap))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    heading = f"Synthetic faces, seed {seed}: drawn by code, no real person"
    pen.text((gap, 12), heading, fill=(30, 30, 30), font=ImageFont.load_default(20))
    small = ImageFont.load_default(11)
    for i in range(n):
        image = f"synthetic/{seed}/{i:06d}.png"
        x, y = gap + (i % columns) * (tile + gap), title + (i // columns) * (tile + caption + gap)
        sheet.paste(draw_face(image).resize((tile, tile), Image.Resampling.LANCZOS), (x, y))
        age, gender, ethnicity = true_labels(image)
        text = f"{age} y, {gender}, {ethnicity}"
        pen.text((x, y + tile + 2), text, fill=(70, 70, 70), font=small)
    return sheet
