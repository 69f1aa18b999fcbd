"""Which trained networks are at hand? Those that the repository ships and finished runs.

A shipped model is a folder ``data/models/<name>`` with ``weights.h5`` (float16), ``model.json``
(how to build it, and where its figures come from) and ``README.md`` (its model card).
"""

import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np

from utils import study
from utils.backbones import layers  # noqa: F401  saved networks hold these layers
from utils.backbones.networks import FEATURES, build_network, cut
from utils.files import DataError, digest_of, read_json, unreadable
from utils.paths import SHIPPED, runs_dir

NEEDED = ("age", "gender", "ethnicity")


def available(tasks=NEEDED) -> dict[str, Path]:
    """Folders of the models that have all the tasks, by name, shipped ones first.

    A broken model is left out with one line.
    """
    found = {}
    runs = [folder for folder in study.find_runs() if network_file(folder).exists()]
    for folder in [*filter(is_shipped, sorted(SHIPPED.glob("*"))), *runs]:
        try:
            _check_file(folder)
            about, _ = describe(folder), age_error(folder)
        except Exception as error:  # a file may be damaged in any way
            print(f"left out: {folder.name}: {error}", file=sys.stderr)
            continue
        as_value = {"age"} if about.get("age_loss") == "regression" else set()  # no distribution
        if set(tasks) <= set(about["tasks"]) - as_value:
            found[folder.name] = folder
    return found


def describe(folder: Path) -> dict:
    """Configuration of a model: ``model``, ``tasks``, ``input_size`` ..."""
    shipped = is_shipped(folder)
    about = read_json(folder / "model.json") if shipped else study.read_config(folder)
    kinds = {"model": str, "tasks": list, "input_size": int, "dataset": str}
    missing = [name for name, kind in kinds.items() if not isinstance(about.get(name), kind)]
    if missing:
        raise DataError(f"the configuration in {folder} lacks {missing}; take the folder away")
    return about


def is_shipped(folder: Path) -> bool:
    """Whether a folder holds a shipped model rather than a run."""
    return (Path(folder) / "model.json").is_file()


def age_error(folder: Path, split: str = "test") -> float | None:
    """Mean absolute error of the age in years on a split, as measured; None if not known."""
    if is_shipped(folder):
        return describe(folder).get("age_mae", {}).get(split)
    wanted = {"task": "age", "metric": "mae", "split": split}
    rows = read_json(Path(folder) / "metrics.json")["rows"]
    return next((float(row["value"]) for row in rows if wanted.items() <= row.items()), None)


def folder_of(name: str) -> Path:
    """Folder of a shipped model or a finished run; a ValueError that lists them if it is none."""
    for folder in (SHIPPED / name, runs_dir() / name):
        if is_shipped(folder) or study.is_complete(folder) and network_file(folder).exists():
            return folder
    others = f"there are {list(available(())) or 'none'}"
    way = "train one with notebooks/02_finetune_backbone.ipynb or ./run_all.sh smoke"
    raise ValueError(f"model {name!r} is not at hand; {others}; {way}")


def load(name: str):
    """Load a shipped model or a run: flat, float32, input pixels 0..255, a dict of outputs.

    A ValueError says in one line if there is no such model, or if its file is damaged or does not
    fit its configuration.
    """
    folder = folder_of(name)
    _check_file(folder)
    if not is_shipped(folder):
        return study.load_model(folder)
    about, path = describe(folder), network_file(folder)
    network = build_network(about["model"], about["input_size"], about["tasks"], weights="none")
    try:
        with h5py.File(path) as file:
            arrays = [file[f"{k:04d}"][...].astype("float32") for k in range(len(file))]
        network.set_weights(arrays)
    except (ValueError, OSError, KeyError) as error:
        fits = f"expected {about['model']} with tasks {about['tasks']}"
        raise unreadable(path, error, fits) from None
    return network


def network_file(folder: Path) -> Path:
    """The file that holds a model's weights."""
    return folder / ("weights.h5" if is_shipped(folder) else "model.keras")


def _check_file(folder: Path) -> None:
    path = network_file(folder)  # Keras would call a damaged file "not found"
    good = zipfile.is_zipfile(path)
    if is_shipped(folder):
        good = path.is_file() and digest_of(path) == read_json(folder / "model.json").get("sha256")
    if not good:
        raise DataError(f"{path} is damaged; restore it, or train the run again with notebook 02")


def shipped_backbone_weights(model: str) -> list[np.ndarray]:
    """Weights of a backbone, without heads, from the shipped network that was trained on faces.

    In the order of ``get_weights()`` of the bare backbone, in float32, for any input size.
    """
    return cut(load(model), FEATURES)[0].get_weights()
