"""Run folders and study folders: write, read, and look up by what their files say.

A run folder holds ``config.json`` (all parameters), ``history.csv`` (one row an epoch),
``predictions.parquet`` (one row a face), ``cost.json``, ``model.keras``, ``environment.json`` (with
the digests of all files) and, written last, ``metrics.json``: a run is complete when that file
exists. A study folder holds what a report needs of many runs, and no face.
"""

import hashlib
import shutil
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from utils.files import (
    DataError,
    digest_of,
    hold_lock,
    locked,
    read_json,
    unreadable,
    write_aside,
    write_json,
)
from utils.paths import ROOT, runs_dir, splits_dir
from utils.plan import RunConfig, differences
from utils.vocabulary import run_label

RESULT_COLUMNS = "run dataset model protocol task metric split value n seed ci_low ci_high".split()
_DIGESTED = "config.json history.csv predictions.parquet cost.json model.keras".split()
_LOOKED_UP = ("dataset", "model", "seed")  # before all others are compared


def code_digest() -> str:
    """A digest of the code that decides what a run computes."""
    digest = hashlib.sha256()
    for room in ("datasets", "backbones", "training"):
        for path in sorted((ROOT / "utils" / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def is_complete(folder: Path) -> bool:
    """Whether a run has finished."""
    return (Path(folder) / "metrics.json").is_file()


def _read(path: Path, *needed: str) -> dict:
    """Content of a JSON file of a run; ValueError, naming it, if it is missing or damaged."""
    again = f"; delete the folder {path.parent.name} and train again"
    if not path.is_file():
        raise DataError(f"{path} is missing{again}")
    content = read_json(path)
    if not isinstance(content, dict) or not set(needed) <= set(content):
        parts = f"keys and values with {', '.join(needed)}" if needed else "keys and values"
        raise DataError(f"{path}: expected {parts}, saw {str(content)[:40]!r}{again}")
    return content


def check_files(folder: Path, *names: str) -> None:
    """ValueError that names a file (of `names`, if given) that is not as a finished run wrote it.

    Runs from before there were digests pass.
    """
    machine = _read(Path(folder) / "environment.json")
    known = dict(machine.pop("files", None) or {})
    for name in sorted(set(names or known) & known.keys()):
        path = Path(folder) / name
        own = machine if name == "environment.json" else path
        if not path.is_file() or digest_of(own) != known[name]:
            state = "is not as the run wrote it" if path.is_file() else "is missing"
            way = f"restore it, or delete the folder {path.parent.name} and train again"
            raise DataError(f"{path} {state}; {way}")


def read_config(folder: Path) -> dict:
    """Configuration of a run; a ValueError names a file that is missing or damaged."""
    return _read(Path(folder) / "config.json")


def find_runs(root: Path | None = None, **wanted) -> list[Path]:
    """Complete runs in `root` (default ``data/runs``) whose configuration has the wanted values.

    Such as ``find_runs(dataset="utkface", protocol="finetune")``.
    """
    found = []
    for folder in filter(is_complete, sorted(Path(root or runs_dir()).glob("*/"))):
        try:
            config = read_config(folder)
        except ValueError as error:  # one broken run does not hide the others
            print(f"left out: {error}", file=sys.stderr)
            continue
        if all(config.get(key) == value for key, value in wanted.items()):
            found.append(folder)
    return found


def finished(config: RunConfig) -> Path | None:
    """Folder of a finished run with these settings, whatever its name; else None."""
    for folder in find_runs(**{name: getattr(config, name) for name in _LOOKED_UP}):
        if not differences(config, read_config(folder)):
            return folder
    return None


def folder_of(config: RunConfig) -> Path:
    """Folder of the run with these settings: an existing one, whatever its name, or a new one."""
    named = runs_dir() / config.run
    return named if (named / "config.json").is_file() else finished(config) or named


def begin(config: RunConfig, data_digest: str, force: bool = False, **facts) -> Path:
    """Open the run folder of a configuration: new, to go on with, or finished.

    The folder stays locked until the process ends: a second process that asks for the same run
    waits, and then finds it finished. `config` has its batch size and precision settled
    (`utils.training.machine.settle`); `data_digest` is that of `utils.datasets.Prepared`; `force`
    starts anew; `facts` such as ``n_train`` go into ``config.json``, among them that digest of
    another set to learn from (``joint_fingerprint``). A ValueError says in what a run of that name
    differs: settings, data, or the code that began it.
    """
    folder = folder_of(config)
    hold_lock(folder)
    if force:
        shutil.rmtree(folder, ignore_errors=True)
    if is_complete(folder):
        check_files(folder)
    elif folder.is_dir() and not (folder / "config.json").is_file():
        print(f"{folder.name} has no config.json, so nobody knows its settings: begun anew")
        shutil.rmtree(folder)
    digests = {"data_fingerprint": data_digest, "code_fingerprint": code_digest()}
    if is_complete(folder) or (folder / "config.json").is_file():
        _check_same(config, folder, facts | digests)
        return folder
    content = {"run": folder.name, "label": config.label} | config.model_dump()
    write_json(folder / "config.json", content | facts | digests)
    return folder


def _check_same(config: RunConfig, folder: Path, digests: dict) -> None:
    """One line that says what differs, if a folder does not hold what is wanted."""
    stored = read_config(folder)
    other = differences(config, stored)
    told = [f"{name}: {old!r} there, {new!r} wanted" for name, (new, old) in other.items()]
    faces = ("data_fingerprint", "joint_fingerprint")
    if any(stored.get(name) != digests.get(name) for name in faces):
        told.append("its faces, labels or split were others")
    # Finished runs stand, whatever came later; half a training must not mix two codes.
    if not is_complete(folder) and stored.get("code_fingerprint") != digests["code_fingerprint"]:
        told.append("it was begun by another version of the code")
    if told:
        raise ValueError(
            f"run {folder.name} exists and is not the same ({'; '.join(told)}); set force to "
            "replace it, or FACES_WORK_DIR to keep both"
        )


def finish(folder: Path, predictions: pd.DataFrame, rows, cost: dict, machine: dict) -> None:
    """Write what a training leaves beside its network, with digests; ``metrics.json`` last.

    `rows` are those of `utils.evaluation.metrics.evaluate`.
    """
    config = read_config(folder)
    write_predictions(predictions, folder / "predictions.parquet")
    write_json(folder / "cost.json", cost)
    kept = ("dataset", "model", "protocol", "seed")
    fixed = {"run": folder.name} | {name: config[name] for name in kept}
    with write_aside(folder / "metrics.json") as aside:
        write_json(aside, {"rows": [fixed | row for row in rows.to_dict("records")]})
        digests = {name: digest_of(folder / name) for name in _DIGESTED}
        digests |= {"metrics.json": digest_of(aside), "environment.json": digest_of(machine)}
        write_json(folder / "environment.json", machine | {"files": digests})


def load_model(folder: Path):
    """Load the trained network of a run in float32, flat, ready for Grad-CAM.

    A file that is missing or damaged is a ValueError that names it.
    """
    import keras  # here, so that listing a study needs no Keras

    path = Path(folder) / "model.keras"
    if not zipfile.is_zipfile(path):  # Keras would call a damaged one "not found"
        state = "cannot be read (it is damaged)" if path.is_file() else "is missing"
        raise DataError(f"{path} {state}; train the run again")
    check_files(folder, "model.keras")
    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise unreadable(path, error, "train the run again") from None


def read_table(path: Path) -> pd.DataFrame:
    """A table of a run or a study, CSV or parquet; a DataError names a file that is damaged."""
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if not path.read_bytes().endswith(b"\n"):
            raise ValueError("it is cut short")
        return pd.read_csv(path)
    except Exception as error:  # the parsers raise many kinds
        raise unreadable(path, error, "restore it, or delete it and make it again") from None


def write_predictions(table: pd.DataFrame, path: Path) -> None:
    """Write predictions as parquet, whole or not at all.

    Bytes of probabilities are stored by their place in the number, which saves a third.
    """
    numbers = [name for name in table if table[name].dtype.kind == "f"]
    ways = {"use_dictionary": [name for name in table if name not in numbers]}
    ways |= {"use_byte_stream_split": numbers, "compression": "zstd", "compression_level": 19}
    with write_aside(path) as aside:
        table.to_parquet(aside, index=False, **ways)


def export(folders, study: Path, keep_train: bool = True) -> pd.DataFrame:
    """Copy what a report needs, and no face, from complete run folders into a study folder.

    A run that the study holds already is replaced. Without `keep_train` the predictions of training
    faces stay behind: no figure shows them, and they are most of a file; the baseline then takes
    its labels from ``data/splits``. Returns all rows of ``results.csv``.
    """
    study = Path(study)
    path = study / "results.csv"
    with locked(path):  # two exports at once lose no row
        known = [read_table(path)] if path.is_file() else []
        for folder in map(Path, folders):
            held = {*_DIGESTED, "environment.json", "metrics.json"}
            if not (folder / "model.keras").is_file():  # stayed on the machine that trained it
                held.remove("model.keras")
            check_files(folder, *held)
            rows = _read(folder / "metrics.json", "rows")["rows"]
            known = [old[old["run"] != folder.name] for old in known] + [pd.DataFrame(rows)]
            for name in ("config.json", "cost.json", "environment.json", "history.csv"):
                with write_aside(study / "runs" / folder.name / name) as aside:
                    shutil.copyfile(folder / name, aside)
            table = read_table(folder / "predictions.parquet")
            kept = table if keep_train else table[table["split"].isin(["val", "test"])]
            write_predictions(kept, study / "predictions" / f"{folder.name}.parquet")
        known = known or [pd.DataFrame(columns=RESULT_COLUMNS)]
        results = pd.concat(known, ignore_index=True)
        results = results.sort_values(["run", "task", "metric", "split"], ignore_index=True)
        with write_aside(path) as aside:
            results.to_csv(aside, index=False, float_format="%.6g")
    return results


@dataclass
class Study:
    """What a study folder holds, by run, data set, or ``run@dataset`` and ``run@dataset-cropped``.

    Anything may be missing.
    """

    results: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=RESULT_COLUMNS))
    predictions: dict[str, pd.DataFrame] = field(default_factory=dict)
    histories: dict[str, pd.DataFrame] = field(default_factory=dict)
    configs: dict[str, dict] = field(default_factory=dict)
    costs: dict[str, dict] = field(default_factory=dict)
    splits: dict[str, pd.DataFrame] = field(default_factory=dict)
    cross_dataset: dict[str, pd.DataFrame] = field(default_factory=dict)

    def label(self, run: str) -> str:
        """Name of a run for readers; the usual rate is named where others have one of their own."""
        if run not in self.configs:
            return run
        config, said = self.configs[run], run_label(self.configs[run])
        twins = [one for one in self.configs.values() if run_label(one) == said]
        own = any(one.get("learning_rate") for one in twins) and not config.get("learning_rate")
        return f"{said}, usual rate" if own else said

    def matching(self, config: RunConfig) -> list[str]:
        """Names of the runs with the settings of `config`."""
        wanted = {name: getattr(config, name) for name in _LOOKED_UP}.items()
        near = {run: told for run, told in self.configs.items() if wanted <= told.items()}
        return [run for run, told in near.items() if not differences(config, told)]


def load_study(folder: Path) -> Study:
    """Read a study folder; what is missing is left out, not an error."""
    folder, study = Path(folder), Study()
    if (folder / "results.csv").is_file():
        study.results = pd.read_csv(folder / "results.csv")
    for held in ("predictions", "cross_dataset"):
        for path in sorted(folder.glob(f"{held}/*.parquet")):
            getattr(study, held)[path.stem] = read_table(path)
    for run in sorted(folder.glob("runs/*/")):
        if (run / "history.csv").is_file():
            study.histories[run.name] = read_table(run / "history.csv")
        if (run / "config.json").is_file():
            study.configs[run.name] = read_config(run)
        if (run / "cost.json").is_file():
            study.costs[run.name] = read_json(run / "cost.json")
    for name in {config.get("dataset", "") for config in study.configs.values()} - {""}:
        table = published_split(name)
        if table is not None:
            study.splits[name] = table.astype({"age": float}) if "age" in table else table
    return study


def same_faces(dataset: str) -> str:
    """The data set whose faces, under the same names, another one holds; else itself."""
    return {"utkface_csv": "utkface"}.get(dataset, dataset)


def published_split(dataset: str, kind: str = "") -> pd.DataFrame | None:
    """The split that the project publishes for a data set (``data/splits``), or None.

    With `kind` a file list of others, such as ``coral``; a DataError if there is none.
    """
    path = splits_dir() / (same_faces(dataset) + f"-{kind}" * bool(kind) + ".csv")
    if kind and not path.is_file():
        raise DataError(f"split {kind!r} is unknown for {dataset}: there is no {path}")
    return pd.read_csv(path, dtype=str) if path.is_file() else None
