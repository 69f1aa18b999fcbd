"""What a notebook needs on Colab: a line on the machine, Google Drive, and faces."""

import os
import subprocess
import sys
from importlib import import_module, metadata

from utils import paths
from utils.datasets import is_there
from utils.datasets.fetch import fetch


def machine() -> str:
    """Graphics card and versions in one line."""
    asked = "nvidia-smi --query-gpu=name,memory.total --format=csv,noheader"
    status, card = subprocess.getstatusoutput(asked)
    card = "no GPU (menu Runtime, Change runtime type)" if status else card
    names = ("tensorflow", "keras", "numpy", "pandas")
    return ", ".join([card, *(f"{name} {metadata.version(name)}" for name in names)])


def faces(name: str) -> str:
    """The data set that a notebook is to use: on Colab `name` if it can be had, else drawn faces.

    Drive is mounted if ``FACES_DATA_DIR`` or ``FACES_WORK_DIR`` leads there; what is not there is
    downloaded, if it can be. Elsewhere nothing is done, and a missing set is an error.
    """
    if "google.colab" not in sys.modules:
        return name
    if any(folder().is_relative_to(paths.DRIVE) for folder in (paths.data_dir, paths.work_dir)):
        import_module("google.colab.drive").mount(paths.DRIVE)
    if name in ("", "synthetic") or is_there(name):
        return name
    os.environ.pop("FACES_DATA_DIR", None)  # thousands of files take hours to reach Drive
    try:
        fetch(name.replace("_", "-"))
    except ValueError as error:
        print(f"{error}; drawn faces stand in for {name}, so nothing below is a result")
        return "synthetic"
    return name
