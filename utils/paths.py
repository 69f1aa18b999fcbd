"""Where does everything lie?

Three environment variables move the folders of the study:

``FACES_DATA_DIR``     raw data sets, read only      (default ``data/raw``)
``FACES_WEIGHTS_DIR``  ImageNet weights for machines without a network (default: none)
``FACES_WORK_DIR``     caches and run folders        (default ``data``)
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "data" / "models"  # the networks that come with the project
DRIVE = "/content/drive"  # where Colab mounts Google Drive


def _from_environment(name: str, default: Path | None) -> Path | None:
    value = os.environ.get(name, "").strip()
    return Path(value).expanduser().resolve() if value else default


def data_dir() -> Path:
    """Folder of the raw data sets."""
    return _from_environment("FACES_DATA_DIR", ROOT / "data" / "raw")


def weights_dir() -> Path | None:
    """Folder of ImageNet weights, or None: then Keras downloads them."""
    return _from_environment("FACES_WEIGHTS_DIR", None)


def work_dir() -> Path:
    """Folder that holds ``cache`` and ``runs``."""
    return _from_environment("FACES_WORK_DIR", ROOT / "data")


def cache_dir() -> Path:
    """Folder of what can be made again; never on Google Drive, where many files take hours."""
    place = work_dir()
    return Path("/content/faces-cache") if place.is_relative_to(DRIVE) else place / "cache"


def runs_dir() -> Path:
    """Folder of the run folders."""
    return work_dir() / "runs"


def splits_dir() -> Path:
    """Folder of the published splits."""
    return ROOT / "data" / "splits"
