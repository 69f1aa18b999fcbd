"""The run folder: everything that a training leaves, and how a study is put together from it.

``config.json`` all parameters, ``history.csv`` one row an epoch, ``predictions.parquet`` one row a
face, ``cost.json``, ``environment.json``, ``model.keras`` and, written last, ``metrics.json``:
a run is complete when that file exists.
"""

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from utils.files import read_json, write_aside
from utils.paths import ROOT, runs_dir

RESULT_COLUMNS = [
    "run",
    "dataset",
    "model",
    "protocol",
    "task",
    "metric",
    "split",
    "value",
    "n",
    "seed",
]


def code_fingerprint() -> str:
    """A digest of the code that decides what a run computes."""
    digest = hashlib.sha256()
    for room in ("datasets", "backbones", "training"):
        for path in sorted((ROOT / "utils" / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def is_complete(folder: Path) -> bool:
    """Whether a run has finished."""
    return (Path(folder) / "metrics.json").is_file()


def find_runs(root: Path | None = None, **wanted) -> list[Path]:
    """Folders of the complete runs whose configuration has the wanted values.

    Parameters
    ----------
    root : Path, optional
        Folder of run folders; by default ``data/runs``.
    **wanted
        Such as ``dataset="utkface", protocol="finetune"``.
    """
    root = Path(root) if root else runs_dir()
    found = []
    for folder in sorted(root.glob("*/")):
        if is_complete(folder):
            config = read_json(folder / "config.json")
            if all(config.get(key) == value for key, value in wanted.items()):
                found.append(folder)
    return found


def load_model(folder: Path):
    """Load the trained network of a run in float32, flat, ready for Grad-CAM.

    Raises
    ------
    FileNotFoundError
        If the run has no model.
    """
    import keras

    import utils.backbones.layers  # noqa: F401  registers the layers of saved models

    path = Path(folder) / "model.keras"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; run notebooks/02_finetune_backbone.ipynb to train it"
        )
    return keras.models.load_model(path, compile=False)


# What the name of a run does not tell.
SETTINGS = ("epochs", "batch_size", "learning_rate", "phases")


def same_settings(wanted: dict, config: dict) -> bool:
    """Whether a run was trained as wanted in what its name does not tell.

    Parameters
    ----------
    wanted : dict
        Parameters; those missing, empty or 0 are free.
    config : dict
        Of the run; what it does not say is no difference.

    Examples
    --------
    >>> same_settings({"epochs": 44}, {"epochs": 10, "seed": 129})
    False
    """
    known = [key for key in SETTINGS if wanted.get(key) and key in config]
    return all(config[key] == wanted[key] for key in known)


def write_predictions(table: pd.DataFrame, path: Path) -> None:
    """Write predictions as parquet, whole or not at all.

    Bytes of probabilities are stored by their place in the number, which saves a third.
    """
    numbers = [name for name in table if table[name].dtype.kind == "f"]
    with write_aside(path) as aside:
        table.to_parquet(
            aside,
            index=False,
            compression="zstd",
            compression_level=19,
            use_dictionary=[name for name in table if name not in numbers],
            use_byte_stream_split=numbers,
        )


def export(folders, study: Path, keep_train: bool = True) -> pd.DataFrame:
    """Copy what a report needs, and no face, from run folders into a study folder.

    Parameters
    ----------
    folders : iterable of Path
        Complete run folders; a run that the study holds already is replaced.
    study : Path
        Such as ``reports/study``.
    keep_train : bool
        False leaves the predictions of training faces behind: no figure shows them, and they are
        most of a file. The trivial guess then takes its labels from ``splits/``.

    Returns
    -------
    DataFrame
        All rows of ``results.csv``.
    """
    study = Path(study)
    path = study / "results.csv"
    known = [pd.read_csv(path)] if path.is_file() else []
    for folder in map(Path, folders):
        content = read_json(folder / "metrics.json")
        rows = pd.DataFrame(content["rows"])
        known = [old[old["run"] != folder.name] for old in known] + [rows]
        for name in ("config.json", "cost.json", "environment.json", "history.csv"):
            with write_aside(study / "runs" / folder.name / name) as aside:
                shutil.copyfile(folder / name, aside)
        source = folder / "predictions.parquet"
        target = study / "predictions" / f"{folder.name}.parquet"
        if keep_train:
            with write_aside(target) as aside:
                shutil.copyfile(source, aside)
        else:
            table = pd.read_parquet(source)
            write_predictions(table[table["split"] != "train"], target)
    results = pd.concat(known, ignore_index=True) if known else pd.DataFrame(columns=RESULT_COLUMNS)
    results = results.sort_values(["run", "task", "metric", "split"], ignore_index=True)
    with write_aside(path) as aside:
        results.to_csv(aside, index=False, float_format="%.6g")
    return results


@dataclass
class Study:
    """What a study folder holds; anything may be missing.

    Attributes
    ----------
    results : DataFrame
        Rows of ``results.csv``.
    predictions, histories : dict from run to DataFrame
    configs, costs : dict from run to dict
    splits : dict from data set to DataFrame with ``image``, ``split`` and ``group``
    elsewhere : dict from ``run@dataset`` or ``run@dataset-cropped`` to DataFrame
    """

    results: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=RESULT_COLUMNS))
    predictions: dict[str, pd.DataFrame] = field(default_factory=dict)
    histories: dict[str, pd.DataFrame] = field(default_factory=dict)
    configs: dict[str, dict] = field(default_factory=dict)
    costs: dict[str, dict] = field(default_factory=dict)
    splits: dict[str, pd.DataFrame] = field(default_factory=dict)
    elsewhere: dict[str, pd.DataFrame] = field(default_factory=dict)


def load_study(folder: Path) -> Study:
    """Read a study folder; what is missing is left out, not an error."""
    folder, study = Path(folder), Study()
    if (folder / "results.csv").is_file():
        study.results = pd.read_csv(folder / "results.csv")
    for path in sorted(folder.glob("predictions/*.parquet")):
        study.predictions[path.stem] = pd.read_parquet(path)
    for path in sorted(folder.glob("elsewhere/*.parquet")):
        study.elsewhere[path.stem] = pd.read_parquet(path)
    for run in sorted(folder.glob("runs/*/")):
        if (run / "history.csv").is_file():
            study.histories[run.name] = pd.read_csv(run / "history.csv")
        for name, target in (("config", study.configs), ("cost", study.costs)):
            if (run / f"{name}.json").is_file():
                target[run.name] = read_json(run / f"{name}.json")
    for path in sorted(folder.glob("splits/*.csv")):
        table = pd.read_csv(path, dtype=str)
        study.splits[path.stem] = table.astype({"age": float}) if "age" in table else table
    return study
