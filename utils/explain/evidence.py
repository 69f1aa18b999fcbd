"""What was measured, in files without any single face.

``explanations.csv`` holds the statistics of all runs. ``explanations/<run>--<task>.npz`` beside it
holds mean maps, faithfulness of each face, curves and randomisation: notebooks 05 and 06 draw every
figure but the galleries from it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from utils.explain.maps import METHODS
from utils.files import DataError, require, write_aside
from utils.vocabulary import run_label

FOLDER, EXAMPLES = "explanations", "examples.npz"
MAP_SIDE, FACE_SIDE = 48, 96  # pixels of stored mean maps and mean faces
COLUMNS = ["run", "model", "task", "method", "statistic", "value", "ci_low", "ci_high", "n"]
TABLES = ("table", "per_face", "curves", "cascades")
NUMBERS = yaml.safe_load(Path(__file__).with_name("settings.yaml").read_text(encoding="utf-8"))
SETTINGS = {name: usual for name, (usual, _) in NUMBERS.items()} | {"methods": list(METHODS)}


@dataclass
class Evidence:
    """Everything measured for one run and task.

    `about` holds run, model, label, protocol, input_size, task, dataset, layer, counts (faces in
    each mean map), field_of_view (`utils.explain.cams`), groups (duplicate group of each face, as
    numbers), right (share of right predictions; ages: within 10 years) and settings. `maps` are
    mean Grad-CAM, float16 [s, s] in 0..1, of ``all`` faces, and by ``class:<predicted>``,
    ``gender:<true>``, ``ethnicity:<true>`` and ``age_bin:<true>``.
    """

    about: dict
    maps: dict
    table: pd.DataFrame = field(default_factory=pd.DataFrame)  # rows for explanations.csv
    per_face: pd.DataFrame = field(default_factory=pd.DataFrame)  # with curves: `faithfulness`
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    cascades: pd.DataFrame = field(default_factory=pd.DataFrame)  # `cascade` by method


def evidence_path(folder, run, task) -> Path:
    """File of one run and task in a folder of explanations."""
    return Path(folder) / f"{run}--{task}.npz"


def save_evidence(folder, found: Evidence) -> Path:
    """Write the file, whole or not at all; equal evidence gives equal bytes."""
    arrays = {"about": np.array(json.dumps(found.about, sort_keys=True))}
    arrays |= {f"map/{group}": heat.astype(np.float16) for group, heat in found.maps.items()}
    for name in TABLES:
        for column, values in getattr(found, name).items():
            # Half a per mille is ample for a confidence.
            kinds = {"f": "float64" if name == "table" else "float16", "i": "int32", "b": bool}
            kind = kinds.get(values.to_numpy().dtype.kind, str)
            arrays[f"{name}/{column}"] = values.to_numpy().astype(kind)
    path = evidence_path(folder, found.about["run"], found.about["task"])
    with write_aside(path) as aside:
        np.savez_compressed(aside, **arrays)
    return path


def load_evidence(path) -> Evidence:
    """Read one file; a broken one is named in a DataError."""
    held = {name: {} for name in ("map", *TABLES)}
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            for key in stored.files:
                kind, _, name = key.partition("/")
                if kind not in held:  # such as attention by region, in older files
                    continue
                half = kind != "map" and stored[key].dtype == np.float16
                held[kind][name] = stored[key].astype(np.float32) if half else stored[key]
    except Exception as error:  # a broken zip raises whatever its first bytes suggest
        raise DataError(
            f"{path} holds no evidence ({error}); delete it and run python -m utils.explain again"
        ) from error
    return Evidence(about, held.pop("map"), **{k: pd.DataFrame(t) for k, t in held.items()})


def load_all(folder) -> list[Evidence]:
    """All evidence in a folder of explanations, by run and task."""
    return [load_evidence(path) for path in sorted(Path(folder).glob("*--*.npz"))]


def labels(found) -> dict[str, str]:
    """Run -> name of its network; with all that sets it apart where two runs share a network."""
    short = {one.about["run"]: one.about["label"] for one in found}
    full = {one.about["run"]: run_label(one.about | {"tasks": None}) for one in found}
    often = list(short.values())
    return {run: full[run] if often.count(name) > 1 else name for run, name in short.items()}


def mean_faces_path(folder, dataset) -> Path:
    """File of the mean faces of a data set in a folder of explanations."""
    return Path(folder) / f"mean_faces-{dataset}.npz"


def load_mean_faces(folder, dataset) -> dict:
    """Mean faces of `n` faces by group, uint8 [s, s, 3]; grey where there is none for all."""
    path = mean_faces_path(folder, dataset)
    faces = {"all": np.full((FACE_SIDE, FACE_SIDE, 3), 160, np.uint8), "n": 0}
    return faces | (dict(np.load(path, allow_pickle=False)) if path.is_file() else {})


def read_explanations(path) -> pd.DataFrame:
    """Read ``explanations.csv``; an absent file gives an empty table."""
    table = pd.read_csv(path) if Path(path).exists() else pd.DataFrame(columns=COLUMNS)
    require(table, COLUMNS, path)
    return table[COLUMNS]


def write_explanations(path, table) -> None:
    """Add rows to the table, in place of those of the same run and task that are there."""
    old, key = read_explanations(path), ["run", "task", "method", "statistic"]
    fresh = pd.MultiIndex.from_frame(table[key[:2]])
    kept = old[~pd.MultiIndex.from_frame(old[key[:2]]).isin(fresh)]
    both = pd.concat([kept, table[COLUMNS]]) if len(kept) else table[COLUMNS]
    with write_aside(path) as aside:
        both.sort_values(key).to_csv(aside, index=False, float_format="%.5g")
