"""Measure explanations of finished runs, one run and task at a time; what is finished is skipped.

Each leaves its rows in ``explanations.csv`` and one file of evidence beside it
(`utils.explain.evidence`), both whole or not at all.
"""

import fcntl
import hashlib
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from utils.datasets.facetable import AGE_BINS
from utils.evaluation.columns import CLASSES, known, predicted, truth
from utils.explain import evidence as stored
from utils.explain import select
from utils.explain.cams import explain
from utils.explain.evidence import Evidence
from utils.explain.faithfulness import faithfulness, summarise
from utils.explain.judge import randomization_similarity
from utils.explain.localisation import evidence_masks, localisation
from utils.explain.maps import mean_face, mean_map, resize_maps
from utils.explain.names import CONTROLS, METHODS, SLOW
from utils.explain.placement import field_of_view
from utils.explain.regions import ALIGNED, attention_shares, attention_table
from utils.explain.sanity import cascade
from utils.explain.study import common_faces, gradcam_maps
from utils.explain.table import read_explanations, statistics_rows, write_explanations
from utils.paths import cache_dir

GROUPS = ("gender", "ethnicity", "age_bin")


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes
    ----------
    n : int
        Faces in the mean maps and in Grad-CAM's attention.
    faithful : int
        Faces for faithfulness, the first of the `n`.
    sanity : int
        Faces for parameter randomisation.
    slow : int
        Score-CAM and SmoothGrad take many passes a face: they get this many of the faithful
        faces, a third of the sanity faces and two stages of randomisation (the output layer,
        then all).
    steps, stages : int
        Of the deletion and insertion curves, and of the randomisation.
    smooth_samples, max_maps : int
        Noisy copies of SmoothGrad, feature maps of Score-CAM.
    least : int
        Smallest group with a mean map of its own.
    """

    n: int = 1000
    faithful: int = 100
    sanity: int = 24
    slow: int = 40
    steps: int = 5
    stages: int = 5
    smooth_samples: int = 8
    max_maps: int = 32
    least: int = 5
    methods: tuple = METHODS
    seed: int = 129

    def __post_init__(self):
        """Check the numbers."""
        for name in ("n", "faithful", "sanity", "slow", "steps", "smooth_samples", "max_maps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; expected 1 or more")
        unknown = set(self.methods) - set(METHODS)
        if unknown:
            raise ValueError(f"methods {sorted(unknown)} are unknown; expected some of {METHODS}")

    def options(self, method) -> dict:
        """Options of a method."""
        return {
            "scorecam": {"max_maps": self.max_maps},
            "smoothgrad": {"smooth_samples": self.smooth_samples},
        }.get(method, {})


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def about_run(view, task, names, settings) -> dict:
    """What the evidence is about, and all that a repetition would depend on."""
    table = view.predictions.loc[list(names)]
    usable = known(table, task)
    return {
        "run": view.run,
        "model": view.config["model"],
        "label": view.label,
        "task": task,
        "dataset": view.config["dataset"],
        "layer": view.target(task).layer,
        "input_size": int(view.config["input_size"]),
        "right": float(select.right(table, task, years=10)[usable].mean()) if usable.any() else 0.0,
        "faces": _digest("\n".join(map(str, names)).encode()),
        "settings": asdict(settings) | {"methods": list(settings.methods)},
        "network": _digest(view.network_file.read_bytes()),
    }


def groups_of(view, task, names) -> dict[str, np.ndarray]:
    """Rows of `names` in each group: all, predicted classes, true gender, ethnicity, age bin."""
    table = view.predictions.loc[list(names)]
    rows = {"all": np.arange(len(names))}
    kinds = [(kind, CLASSES[kind], truth(table, kind)) for kind in GROUPS if kind in table]
    if "age" in table:
        kinds.append(("age_bin", AGE_BINS, truth(table, "age_bin")))
    if task in CLASSES:
        kinds.append(("class", CLASSES[task], predicted(table, task)))
    for kind, classes, labels in kinds:
        for i, name in enumerate(classes):
            rows[f"{kind}:{name}"] = np.flatnonzero(labels == i)
    return rows


def mean_maps(heat, rows, least) -> dict[str, np.ndarray]:
    """Mean map of every group with enough faces, float16 [s, s]."""
    side = min(stored.MAP_SIDE, heat.shape[1])
    means = {
        group: mean_map(heat[members])
        for group, members in rows.items()
        if group == "all" or len(members) >= least
    }
    return {k: resize_maps(m[None], side)[0].astype(np.float16) for k, m in means.items()}


def mean_faces(view, task, names) -> dict[str, np.ndarray]:
    """Mean faces of the groups with at least `LEAST` faces (drawn faces: any)."""
    from PIL import Image

    least = 1 if view.config["dataset"] == "synthetic" else stored.LEAST
    images, side = view.images(names), stored.FACE_SIDE
    faces = {}
    for group, members in groups_of(view, task, names).items():
        if len(members) >= least and not group.startswith("class:"):
            picture = Image.fromarray(mean_face(images[members]))
            faces[group] = np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))
    return faces


def _maps(target, images, task, classes, settings, bar) -> dict:
    """Maps of all methods and controls; slow methods explain the first faces only."""
    maps = {}
    for method in (*settings.methods, *CONTROLS):
        few = settings.slow if method in SLOW else len(images)
        maps[method] = explain(
            target,
            images[:few],
            task,
            method,
            classes=classes[:few],
            seed=settings.seed,
            **settings.options(method),
        )
        bar.update()
    return maps


def _cascades(target, images, task, settings, bar) -> pd.DataFrame:
    tables = []
    for method in settings.methods:
        slow = method in SLOW
        faces = images[: max(settings.sanity // (3 if slow else 1), 2)]
        stages = min(settings.stages, 2) if slow else settings.stages
        table = cascade(
            target,
            faces,
            task,
            method=method,
            stages=stages,
            seed=settings.seed,
            **settings.options(method),
        )
        tables.append(table.assign(method=method))
        bar.update()
    return pd.concat(tables, ignore_index=True)


def look(view, task, names, settings) -> tuple[Evidence, np.ndarray]:
    """Mean maps and attention of Grad-CAM alone, without tests; and the maps [n, s, s]."""
    heat, rows = gradcam_maps(view, task, names), groups_of(view, task, names)
    means, shares = mean_maps(heat, rows, settings.least), attention_shares(heat)
    about = about_run(view, task, names, settings)
    about["counts"] = {group: len(rows[group]) for group in means}
    about["attention"] = {
        group: shares.iloc[rows[group]].mean().round(5).to_dict() for group in means
    }
    view_of = field_of_view(view.target(task), view.images(names[:8]))
    about["field_of_view"] = view_of.round(4).tolist()
    return Evidence(about, means, shares=shares), heat


def measure(view, task, names, settings=Settings(), progress=True) -> Evidence:  # noqa: B008 frozen
    """Measure all statistics of one run and task.

    Parameters
    ----------
    view : utils.explain.study.View
    names : sequence of str
        Faces: all enter the mean maps and the attention of Grad-CAM, the first ones the rest.
    settings : Settings

    Returns
    -------
    Evidence
    """
    bar = tqdm(
        total=3 * len(settings.methods) + 2 * len(CONTROLS) + 1,
        desc=f"{view.label}, {task}",
        unit="part",
        disable=not progress,
        mininterval=5.0,
    )
    target, few = view.target(task), names[: settings.faithful]
    found, heat = look(view, task, names, settings)
    bar.update()
    images = view.images(few)
    classes = target.classes(target.logits(images))
    maps = _maps(target, images, task, classes, settings, bar)
    per_face, curves = faithfulness(
        target,
        images,
        maps,
        task,
        classes=classes,
        steps=settings.steps,
        seed=settings.seed,
        progress=bar.update,
    )
    cascades = _cascades(target, images[: settings.sanity], task, settings, bar)
    bar.close()
    table = _rows(view, task, few, heat, maps, per_face, cascades, target.size, settings)
    return replace(found, table=table, per_face=per_face, curves=curves, cascades=cascades)


def _rows(view, task, few, heat, maps, per_face, cascades, size, settings) -> pd.DataFrame:
    """Rows of ``explanations.csv``; each with the number of faces that it rests on."""
    seed, dataset = settings.seed, view.config["dataset"]
    tables = [summarise(per_face, seed)]
    if dataset in ALIGNED:
        tables += [
            attention_table(heat if m == "gradcam" else maps[m], seed).assign(method=m)
            for m in settings.methods
        ]
    for method, table in cascades.groupby("method", sort=False):
        row = randomization_similarity(table)
        name = "randomization_similarity"
        tables.append(pd.DataFrame([{"method": method, "statistic": name, **row}]))
    if dataset == "synthetic":
        tables.append(localisation(maps, evidence_masks(few, task, size), seed))
    table = pd.concat(tables, ignore_index=True)
    return statistics_rows(table, view.run, view.config["model"], task)


@contextmanager
def _alone():
    """Let one process at a time read, extend and write the table."""
    path = cache_dir() / "explanations.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # dropped when the file closes, however that happens
        yield


def finished(view, task, names, settings, folder) -> Evidence | None:
    """The evidence of an equal earlier measurement, if there is one."""
    path = stored.evidence_path(folder, view.run, task)
    if not path.is_file():
        return None
    try:
        found = stored.load_evidence(path)
    except ValueError:
        return None
    same = {
        k: v for k, v in found.about.items() if k not in ("counts", "attention", "field_of_view")
    }
    return found if same == about_run(view, task, names, settings) else None


def _measured(view, task, names, settings, out, force, progress) -> Evidence:
    """Evidence of one run and task, from an earlier measurement if that is equal."""
    folder = out.parent / stored.FOLDER
    found = None if force else finished(view, task, names, settings, folder)
    fresh = found is None
    if fresh:
        found = measure(view, task, names, settings, progress)
        stored.save_evidence(folder, found)
    with _alone():
        rows = read_explanations(out)
        here = (rows["run"] == view.run) & (rows["task"] == task)
        if fresh or here.sum() != len(found.table):
            write_explanations(out, found.table)
    return found


def measure_runs(
    views,
    tasks,
    out,
    settings=Settings(),  # noqa: B008 frozen
    force=False,
    progress=True,
    trial=False,
    faces=None,
) -> list[Evidence]:
    """Measure several runs and tasks; those measured before with equal settings are skipped.

    Parameters
    ----------
    views : list of View
    tasks : sequence of str
        Those that a run lacks are left out for it.
    out : Path
        ``explanations.csv``; the evidence goes to the folder ``explanations`` beside it.
    trial : bool
        Test the maps of the first run and task only; the others get their mean maps.
    faces : sequence of str, optional
        Names of the faces; by default each run's own test faces, which are the same for equal
        splits.

    Returns
    -------
    list of Evidence
        In the order of views and tasks.
    """
    out, results = Path(out), []
    for view in views:
        names = common_faces([view], settings.n, settings.seed) if faces is None else faces
        for task in [task for task in tasks if task in view.config["tasks"]]:
            if trial and results:
                results.append(look(view, task, names, settings)[0])
            else:
                results.append(_measured(view, task, names, settings, out, force, progress))
            path = stored.mean_faces_path(out.parent / stored.FOLDER, results[-1].dataset)
            if not path.is_file():
                stored.save_mean_faces(path, mean_faces(view, task, names))
        view.forget()
    return results
