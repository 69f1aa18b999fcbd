"""What was measured about one task of one run, in one small file without any single face.

``<run>--<task>.npz`` in ``reports/study/explanations/``: mean maps, attention of each face by
region, faithfulness of each face, curves, randomisation. From it, and without faces, Keras or the
run itself, notebooks 05 and 06 draw every figure but the galleries.
"""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pandas as pd

from utils.files import write_aside

FOLDER = "explanations"
MEAN_FACES = "mean_faces"
MAP_SIDE = 48  # pixels of a stored mean map: CAMs are far coarser
FACE_SIDE = 96
LEAST = 30  # a mean face of fewer real people could show one of them


@dataclass
class Evidence:
    """Everything measured for one run and task.

    Attributes
    ----------
    about : dict
        run, model, label, task, dataset, layer, input_size, counts (faces in each mean map),
        field_of_view (centre and spread of what each cell sees: `utils.explain.placement`),
        right (share of the explained predictions that are right; ages: within 10 years) and
        settings (what makes a repetition needless).
    maps : dict
        Group -> mean Grad-CAM, float16 [s, s] in 0..1. Groups are ``all``, ``class:<predicted>``,
        ``gender:<true>``, ``ethnicity:<true>`` and ``age_bin:<true>``.
    table : DataFrame
        Rows for ``explanations.csv``.
    shares : DataFrame
        Attention of Grad-CAM, one row a face, one column a region.
    per_face : DataFrame
        Faithfulness of each face and method.
    curves : DataFrame
        Mean deletion and insertion curves.
    cascades : DataFrame
        Randomisation: method and the columns of `utils.explain.sanity.cascade`.
    """

    about: dict
    maps: dict
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    shares: pd.DataFrame = field(default_factory=pd.DataFrame)
    per_face: pd.DataFrame = field(default_factory=pd.DataFrame)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    cascades: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def run(self) -> str:
        """Name of the run."""
        return self.about["run"]

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.about["task"]

    @property
    def label(self) -> str:
        """Name of the network as figures show it."""
        return self.about["label"]

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.about["dataset"]


TABLES = tuple(f.name for f in fields(Evidence) if f.name not in ("about", "maps"))


def evidence_path(folder, run, task) -> Path:
    """File of one run and task in a folder of explanations."""
    return Path(folder) / f"{run}--{task}.npz"


def save_evidence(folder, evidence) -> Path:
    """Write the file, whole or not at all; equal evidence gives equal bytes."""
    arrays = {"about": np.array(json.dumps(evidence.about, sort_keys=True))}
    arrays |= {f"map/{group}": heat.astype(np.float16) for group, heat in evidence.maps.items()}
    for name in TABLES:
        for column, values in getattr(evidence, name).items():
            values = values.to_numpy()
            if values.dtype.kind == "f":
                # Half a per mille is ample for a share of attention or a confidence.
                values = values.astype(np.float64 if name == "table" else np.float16)
            elif values.dtype.kind in "iu":
                values = values.astype(np.int32)
            elif values.dtype.kind != "b":
                values = values.astype(str)
            arrays[f"{name}/{column}"] = values
    path = evidence_path(folder, evidence.run, evidence.task)
    with write_aside(path) as aside:
        np.savez_compressed(aside, **arrays)
    return path


def load_evidence(path) -> Evidence:
    """Read one file.

    Raises
    ------
    ValueError
        If it is not one, naming it.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            maps, tables = {}, {name: {} for name in TABLES}
            for key in stored.files:
                kind, _, rest = key.partition("/")
                if kind == "map":
                    maps[rest] = stored[key]
                elif rest:
                    values = stored[key]
                    half = values.dtype == np.float16
                    tables[kind][rest] = values.astype(np.float32) if half else values
    except Exception as error:  # a broken zip raises whatever its first bytes suggest
        raise ValueError(
            f"{path} holds no evidence ({error}); delete it and run python -m utils.explain again"
        ) from error
    return Evidence(about, maps, **{name: pd.DataFrame(t) for name, t in tables.items()})


def load_all(folder, runs=()) -> list[Evidence]:
    """All evidence in a folder of explanations, by run and task; `runs` selects."""
    found = [load_evidence(path) for path in sorted(Path(folder).glob("*--*.npz"))]
    return [one for one in found if not runs or one.run in runs]


def unique_labels(found) -> dict[str, str]:
    """Run -> name of its network, with protocol and size where two runs share a network."""
    labels = {one.run: one.label for one in found}
    often = list(labels.values())
    return {
        run: f"{label} ({' '.join(run.split('-')[2:4])})" if often.count(label) > 1 else label
        for run, label in labels.items()
    }


def mean_faces_path(folder, dataset) -> Path:
    """File of the mean faces of a data set in a folder of explanations."""
    return Path(folder) / f"{MEAN_FACES}-{dataset}.npz"


def save_mean_faces(path, faces) -> None:
    """Write mean faces: a dict from group to uint8 [s, s, 3]."""
    with write_aside(path) as aside:
        np.savez_compressed(aside, **faces)


def load_mean_faces(folder, dataset) -> dict:
    """Mean faces of a data set by group; grey where there is none for all."""
    path = mean_faces_path(folder, dataset)
    faces = {"all": np.full((FACE_SIDE, FACE_SIDE, 3), 160, np.uint8)}
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            faces |= {name: stored[name] for name in stored.files}
    return faces
