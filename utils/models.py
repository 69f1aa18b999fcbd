"""Which trained networks are at hand? Those that the repository ships and finished runs.

A shipped model is a folder ``data/models/<name>`` with ``weights.h5`` (float16), ``model.json``
(how to build it, and where its figures come from) and ``README.md`` (its model card).
"""

from pathlib import Path

import numpy as np

from utils import runs
from utils.files import read_json, write_aside, write_json
from utils.paths import ROOT

SHIPPED = ROOT / "data" / "models"
NEEDED = ("age", "gender", "ethnicity")


def available(tasks=NEEDED) -> dict[str, Path]:
    """Folders of the models that have all the tasks, by name, shipped ones first.

    Parameters
    ----------
    tasks : sequence of str
        Outputs that a model must have.
    """
    found = {}
    for folder in sorted(SHIPPED.glob("*/")):
        if (folder / "weights.h5").is_file() and (folder / "model.json").is_file():
            found[folder.name] = folder
    for folder in runs.find_runs():
        if (folder / "model.keras").is_file():
            found[folder.name] = folder
    return {name: path for name, path in found.items() if set(tasks) <= _outputs(path)}


def _outputs(folder: Path) -> set[str]:
    """Tasks for which a model gives probabilities; an age as one value is none."""
    about = describe(folder)
    return set(about["tasks"]) - ({"age"} if about.get("age_loss") == "regression" else set())


def describe(folder: Path) -> dict:
    """Configuration of a model: ``model``, ``label``, ``tasks``, ``input_size``, ``dataset`` ..."""
    folder = Path(folder)
    return read_json(folder / ("model.json" if is_shipped(folder) else "config.json"))


def is_shipped(folder: Path) -> bool:
    """Whether a folder holds a shipped model rather than a run."""
    return (Path(folder) / "model.json").is_file()


def age_error(folder: Path, split: str = "test") -> float | None:
    """Mean absolute error of the age in years, as measured; None if it is not known.

    Parameters
    ----------
    folder : Path
        A shipped model or a run.
    split : {"train", "val", "test"}
    """
    folder = Path(folder)
    if is_shipped(folder):
        return describe(folder).get("age_mae", {}).get(split)
    if not (folder / "metrics.json").is_file():
        return None
    wanted = {"task": "age", "metric": "mae", "split": split}
    for row in read_json(folder / "metrics.json")["rows"]:
        if wanted.items() <= row.items():
            return float(row["value"])
    return None


def load(name: str):
    """Load a model by its name.

    Parameters
    ----------
    name : str
        A name of `available`: a shipped model or a run.

    Returns
    -------
    keras.Model
        Flat, float32, input pixels 0..255; outputs a dict from task to probabilities.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    folders = available(tasks=())
    if name not in folders:
        raise ValueError(
            f"model {name!r} is not at hand; there are {list(folders) or 'none'}; train one with "
            "notebooks/02_finetune_backbone.ipynb or ./run_all.sh"
        )
    folder = folders[name]
    if (folder / "model.keras").is_file():
        return runs.load_model(folder)
    return _load_shipped(folder)


def _load_shipped(folder: Path):
    import h5py

    from utils.backbones import build_network

    about = describe(folder)
    network = build_network(about["model"], about["input_size"], about["tasks"], weights="none")
    with h5py.File(folder / "weights.h5") as file:
        arrays = [file[f"{k:04d}"][...].astype("float32") for k in range(len(file))]
    try:
        network.set_weights(arrays)
    except ValueError as error:
        raise ValueError(
            f"{folder / 'weights.h5'} does not fit {about['model']} with tasks {about['tasks']}: "
            f"{str(error).splitlines()[0][:120]}"
        ) from None
    return network


def ship(run: str, name: str, root: Path = SHIPPED) -> Path:
    """Write a run's network as float16 weights, small enough for git.

    Batch-normalisation statistics stay float32: their variances overflow float16.

    Parameters
    ----------
    run : str
        Name of a complete run.
    name : str
        Name of the shipped model.
    """
    import h5py

    folder = runs.runs_dir() / run
    network, config = runs.load_model(folder), read_json(folder / "config.json")
    target = Path(root) / name
    with write_aside(target / "weights.h5") as aside, h5py.File(aside, "w") as file:
        for k, array in enumerate(network.get_weights()):
            kind = np.float16 if array.ndim > 1 else np.float32
            options = {"compression": "gzip", "shuffle": True} if array.ndim > 1 else {}
            file.create_dataset(f"{k:04d}", data=array.astype(kind), **options)
    kept = (
        "run",
        "model",
        "label",
        "tasks",
        "input_size",
        "dataset",
        "protocol",
        "seed",
        "split",
        "epochs",
        "n_train",
        "data_fingerprint",
    )
    errors = {split: age_error(folder, split) for split in ("val", "test")}
    about = {key: config[key] for key in kept} | {"age_mae": errors}
    write_json(target / "model.json", about)
    return target
