"""Measure explanations, one run and task at a time; what is finished is skipped.

Each leaves its rows in ``explanations.csv`` and one file of evidence beside it
(`utils.explain.evidence`), both whole or not at all.
"""

import functools
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from utils.datasets.progress import progress_bar
from utils.evaluation.columns import known, predicted, truth
from utils.explain import evidence as stored
from utils.explain import maps as heat
from utils.explain.cams import explain, field_of_view
from utils.explain.checks import cascade, evidence_masks, faithfulness, localisation, means_of
from utils.explain.evidence import SETTINGS, Evidence
from utils.explain.target import Scorer
from utils.explain.views import common_faces
from utils.files import locked, write_aside
from utils.paths import cache_dir
from utils.vocabulary import CLASSES, truth_column

LEAST_REAL = 30  # a mean face of fewer real people could show one of them


def _about(view, task, names, settings) -> dict:
    """What the evidence is about, and all that a repetition would depend on."""
    table = view.predictions.loc[list(names)]
    error = np.abs(predicted(table, task) - truth(table, task))[known(table, task)]
    kept = ("run", "model", "protocol", "dataset", "input_size")
    faces = hashlib.sha256("\n".join(map(str, names)).encode()).hexdigest()[:16]
    about = {"faces": faces, "network": view.network, "settings": settings}
    about |= {key: view.config.get(key) for key in kept}
    about |= {"label": view.label, "task": task, "layer": view.target(task).layer}
    right = float((error <= 10 * (task == "age")).mean()) if len(error) else 0.0
    return about | {"right": right}


def _groups(view, task, names) -> dict[str, np.ndarray]:
    """Rows of `names` in each group: all, predicted classes, true gender, ethnicity, age bin."""
    table = view.predictions.loc[list(names)]
    kinds = [(k, k, truth(table, k)) for k in CLASSES if truth_column(k) in table]
    if task in CLASSES:
        kinds.append(("class", task, predicted(table, task)))
    rows = {"all": np.arange(len(names))}
    for kind, labelled, labels in kinds:
        for i, name in enumerate(CLASSES[labelled]):
            rows[f"{kind}:{name}"] = np.flatnonzero(labels == i)
    return rows


def mean_faces(view, names) -> dict[str, np.ndarray]:
    """Mean faces, uint8, of all `n` and of groups with so many people that none is shown."""
    least = 1 if view.config["dataset"] == "synthetic" else LEAST_REAL
    faces, side, images = {"n": len(names)}, stored.FACE_SIDE, view.images(names)
    for group, members in _groups(view, "age", names).items():
        if len(members) >= least:
            picture = Image.fromarray(images[members].mean(axis=0).round().astype(np.uint8))
            faces[group] = np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))
    return faces


def look(view, task, names, settings, chunk=256) -> Evidence:
    """Mean maps and attention of Grad-CAM alone, without tests."""
    target = view.target(task)
    parts = [view.images(names[i : i + chunk]) for i in range(0, len(names), chunk)]
    # Half precision halves the memory and is ample for averages.
    maps = np.concatenate([explain(target, p, "gradcam").astype(np.float16) for p in parts])
    groups = _groups(view, task, names)
    groups = {k: m for k, m in groups.items() if k == "all" or len(m) >= settings["least"]}
    about = _about(view, task, names, settings) | {
        "counts": {group: len(members) for group, members in groups.items()},
        "groups": view.groups(names).tolist(),
        "field_of_view": field_of_view(target, parts[0][:8]).round(4).tolist(),
    }
    side = min(stored.MAP_SIDE, target.size)
    means = {k: heat.resize_maps(heat.mean_map(maps[m])[None], side)[0] for k, m in groups.items()}
    return Evidence(about, means)


@functools.lru_cache(maxsize=1)
def _scorer(view, bfloat16):
    return Scorer(view.model, bfloat16)


def _tests(view, task, images, groups, settings, progress):
    """Maps of all methods and controls on some faces, and how randomisation changes them.

    Returns the maps, what `faithfulness` returns, and both tables of `cascade` for all methods.
    """
    scorer, seed = _scorer(view, bool(settings["bfloat16"])), settings["seed"]
    target, maps, stages, changes = replace(view.target(task), scorer=scorer), {}, [], []
    options = {"classes": target.classes(target.logits(images)), "seed": seed}
    options |= {"max_maps": settings["max_maps"], "samples": settings["smooth_samples"]}
    methods, label = (*settings["methods"], *heat.CONTROLS), f"{view.label}, {task}"
    for method in progress_bar(methods, desc=label, show=progress):
        slow, few = method in heat.SLOW, settings["sanity"]
        tested = settings["slow" if slow else "faithful"]
        own = options | {"classes": options["classes"][: max(few, tested)]}
        maps[method] = explain(target, images[: max(few, tested)], method, **own)
        if method not in heat.CONTROLS:
            own = options | {"classes": options["classes"][:few], "original": maps[method][:few]}
            own |= {"groups": groups[:few], "stages": 2 if slow else settings["stages"]}
            table, faces = cascade(target, images[:few], method, **own)
            stages.append(table.assign(method=method))
            changes.append(faces.assign(method=method, face=range(len(faces))))
        maps[method] = maps[method][:tested]
    scores = faithfulness(target, images, maps, options["classes"], settings["steps"], seed)
    return maps, *scores, *(pd.concat(t, ignore_index=True) for t in (stages, changes))


def measure(view, task, names, settings, progress=True) -> Evidence:
    """Measure all statistics of one run and task with settings as `SETTINGS`.

    All named faces enter the mean maps and the attention of Grad-CAM, the first ones the rest.
    """
    found, seed = look(view, task, names, settings), settings["seed"]
    groups = np.array(found.about["groups"])
    few = names[: max(settings[name] for name in ("faithful", "slow", "sanity"))]
    maps, found.per_face, found.curves, found.cascades, changes = _tests(
        view, task, view.images(few), groups, settings, progress
    )
    tables = [means_of(faces, groups, seed) for faces in (found.per_face, changes)]
    if found.about["dataset"] == "synthetic":
        masks = evidence_masks(few, task, view.target(task).size)
        tables.append(localisation(maps, masks, groups, seed))
    table = pd.concat(tables, ignore_index=True).dropna(subset="value")
    table = table.assign(**{name: found.about[name] for name in ("run", "model", "task")})
    found.table = table[stored.COLUMNS].reset_index(drop=True)
    return found


def _stored(folder, about) -> Evidence | None:
    """Evidence of an equal earlier measurement."""
    try:
        found = stored.load_evidence(stored.evidence_path(folder, about["run"], about["task"]))
    except ValueError:  # missing or broken
        return None
    return found if about.items() <= found.about.items() else None


def measure_runs(views, tasks, out, settings=None, force=False, progress=True, names=None):
    """Measure the tasks that each of the views has; what was measured before is skipped.

    `out` is ``explanations.csv``; the evidence goes to the folder ``explanations`` beside it.
    `settings` change `SETTINGS`. The faces are those of the `names`, by default each run's own
    test faces, which are the same for equal splits.
    """
    settings, folder, results = SETTINGS | (settings or {}), Path(out).parent / stored.FOLDER, []
    for view in views:
        faces = names if names is not None else common_faces([view], settings["n"])
        dataset = view.config["dataset"]
        path, fresh = stored.mean_faces_path(folder, dataset), False
        for task in [task for task in tasks if task in view.config["tasks"]]:
            about = _about(view, task, faces, settings)
            found = None if force else _stored(folder, about)
            if found is None:
                found, fresh = measure(view, task, faces, settings, progress), True
                stored.save_evidence(folder, found)
            with locked(cache_dir() / stored.FOLDER):
                stored.write_explanations(out, found.table)
            results.append(found)
        before = stored.load_mean_faces(folder, dataset)["n"]
        if fresh and len(faces) >= before or not before:  # fewer faces never replace more
            with write_aside(path) as aside:
                np.savez_compressed(aside, **mean_faces(view, faces))
        view.forget()
    return results
