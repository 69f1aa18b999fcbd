"""UTKFace: labels in the file names ``[age]_[gender]_[race]_[time].jpg.chip.jpg``."""

import re
from pathlib import Path

from utils.datasets.archives import find_source, list_images
from utils.datasets.table import FaceSet, new_table
from utils.files import DataError
from utils.vocabulary import ETHNICITIES, GENDERS, MAX_AGE

TERMS = "UTKFace: non-commercial research only; copyright stays with the image owners"
NAMES = ("UTKFace", "utkface_aligned_cropped", "crop_part1")
_NAME = re.compile(r"^(\d+)_(\d+)_(\d+)_\d+")


def parse_name(name: str) -> tuple[int, str, str] | str:
    """Labels (age, gender, ethnicity) from a UTKFace file name, or the reason why there are none.

    >>> parse_name("26_1_2_20170116184024662.jpg.chip.jpg")
    (26, 'female', 'Asian')
    >>> parse_name("39_1_20170116174525125.jpg.chip.jpg")
    'name lacks a field: expected [age]_[gender]_[race]_[time]'
    """
    match = _NAME.match(name)
    if match is None:
        return "name lacks a field: expected [age]_[gender]_[race]_[time]"
    age, gender, race = (int(match[k]) for k in (1, 2, 3))
    ranges = {"age": (age, MAX_AGE), "gender": (gender, 1), "race": (race, len(ETHNICITIES) - 1)}
    for field, (value, largest) in ranges.items():
        if value > largest:
            return f"{field} {value} in the name: expected 0 to {largest}"
    return age, GENDERS[gender], ETHNICITIES[race]


def load_utkface(root: Path) -> FaceSet:
    """Load UTKFace, whole or in parts, from a folder, zip or tar below `root` or `root` itself.

    Images are identified by their file name; where parts share a name, the later ones by their
    path. Malformed names are in ``exclusions``.

    Source: Zhang, Song, Qi: Age Progression/Regression by Conditional Adversarial Autoencoder,
    CVPR 2017.
    """
    folder = find_source(root, NAMES, "UTKFace")
    files, dropped = list_images(folder)
    if not files:
        told = f"{folder} holds no .jpg or .png file; expected UTKFace's aligned and cropped faces"
        raise DataError(f"{told}; see data/README.md")
    paths, labels = {}, {}
    for place, path in files.items():
        name = place if path.name in paths else path.name
        paths[name], labels[name] = path, parse_name(path.name)
    good = [name for name, label in labels.items() if not isinstance(label, str)]
    dropped = [item for item in labels.items() if isinstance(item[1], str)] + dropped
    age, gender, ethnicity = ([labels[name][k] for name in good] for k in range(3))
    table = new_table(good, source="utkface", age=age, gender=gender, ethnicity=ethnicity)
    steps = [("image files", len(good) + len(dropped)), ("well-formed names", len(good))]
    return FaceSet(
        "utkface", table, root=folder, paths=paths, exclusions=dropped, steps=steps, terms=TERMS
    )
