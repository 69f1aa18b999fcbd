"""UTKFace: labels in the file names ``[age]_[gender]_[race]_[time].jpg.chip.jpg``."""

import re
from pathlib import Path

from utils.datasets.archives import find_source
from utils.datasets.cleaning import open_rgb
from utils.datasets.facetable import (
    ETHNICITIES,
    GENDERS,
    DataError,
    FaceSet,
    exclusions_table,
    new_table,
    steps_table,
)
from utils.paths import data_dir

TERMS = "UTKFace: non-commercial research only; copyright stays with the image owners"
NAMES = ("UTKFace", "utkface", "utkface_aligned_cropped", "crop_part1")
_NAME = re.compile(r"^(\d+)_(\d+)_(\d+)_\d+")
_ENDINGS = (".jpg", ".jpeg", ".png")


def parse_name(name: str) -> tuple[int, str, str] | str:
    """Read the labels from a UTKFace file name.

    Parameters
    ----------
    name : str
        File name without folder.

    Returns
    -------
    (age, gender, ethnicity), or a str with the reason why the name is unusable.

    Examples
    --------
    >>> parse_name("26_1_2_20170116184024662.jpg.chip.jpg")
    (26, 'female', 'Asian')
    >>> parse_name("39_1_20170116174525125.jpg.chip.jpg")
    'name lacks a field: expected [age]_[gender]_[race]_[time]'
    >>> parse_name("26_1_7_20170116184024662.jpg.chip.jpg")
    'race 7 in the name: expected 0 to 4'
    """
    match = _NAME.match(name)
    if match is None:
        return "name lacks a field: expected [age]_[gender]_[race]_[time]"
    age, gender, race = (int(match[k]) for k in (1, 2, 3))
    if not 0 <= age <= 116:
        return f"age {age} in the name: expected 0 to 116"
    if gender >= len(GENDERS):
        return f"gender {gender} in the name: expected 0 or 1"
    if race >= len(ETHNICITIES):
        return f"race {race} in the name: expected 0 to 4"
    return age, GENDERS[gender], ETHNICITIES[race]


def load_utkface(root: Path | None = None) -> FaceSet:
    """Load UTKFace from a folder, zip or tar.

    Parameters
    ----------
    root : Path, optional
        Folder that holds ``UTKFace`` (folder, zip or tar) or the images themselves; by default
        ``FACES_DATA_DIR`` or ``data/raw``.

    Returns
    -------
    FaceSet
        Rows in the order of the file names. Files with malformed names are in ``exclusions``.

    Raises
    ------
    DataError
        If no source or no face is found.

    References
    ----------
    Zhang, Song, Qi: Age Progression/Regression by Conditional Adversarial Autoencoder,
    CVPR 2017.
    """
    folder = find_source(Path(root) if root else data_dir(), NAMES, "UTKFace")
    paths = {p.name: p for p in sorted(folder.rglob("*")) if p.suffix.lower() in _ENDINGS}
    if not paths:
        raise DataError(
            f"{folder} holds no .jpg or .png file; expected UTKFace's aligned and cropped faces; "
            "see data/README.md"
        )
    labels = {name: parse_name(name) for name in paths}
    good = [name for name, label in labels.items() if not isinstance(label, str)]
    dropped = [(name, label) for name, label in labels.items() if isinstance(label, str)]
    columns = list(zip(*(labels[name] for name in good), strict=True)) or [[], [], []]
    age, gender, ethnicity = (list(column) for column in columns)
    return FaceSet(
        name="utkface",
        table=new_table(good, source="utkface", age=age, gender=gender, ethnicity=ethnicity),
        read=lambda image: open_rgb(paths[image]),
        root=folder,
        exclusions=exclusions_table(dropped),
        steps=steps_table([("image files", len(paths)), ("well-formed names", len(good))]),
        source_bytes=lambda image: paths[image].read_bytes(),
        terms=TERMS,
    )
