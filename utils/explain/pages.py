"""Figures of the gallery notebook: each computes its own finding for the title."""

import numpy as np
import pandas as pd

from utils.datasets.facetable import MAX_AGE
from utils.evaluation.columns import TASK_LABELS, predicted, truth
from utils.explain import gallery
from utils.explain.evidence import unique_labels
from utils.explain.judge import against_control, verdict, verdicts
from utils.explain.names import CONTROLS, FAITHFULNESS, LOWER_IS_BETTER, METHOD_LABELS, METHODS
from utils.explain.regions import shares_table
from utils.explain.study import panel, truths

NO_FACES = (
    "Left out: this page shows no picture of a single real person. Run the notebook with "
    "`show_faces` on a machine that holds the faces."
)


def _dataset(view):
    return view.config["dataset"]


def faces_by_network(views, task, names, what="faces chosen at random"):
    """Gallery: faces by networks, Grad-CAM of the predicted class (ages: what looks older)."""
    largest = max(views, key=lambda view: view.config["input_size"])
    panels = [panel(view, task, names) for view in views]
    good = sum(sum(column.right) for column in panels)
    title = f"{TASK_LABELS[task].capitalize()}: {good} of {len(names) * len(views)} right, {what}"
    caption = "Grad-CAM of each network's prediction; a right age is within 10 years"
    return gallery.face_gallery(
        largest.images(names),
        truths(views[0], task, names),
        panels,
        title,
        _dataset(views[0]),
        caption,
        len(names),
    )


def by_method(view, task, names, methods=METHODS, seed=129):
    """Gallery: faces by methods for one network."""
    panels = [panel(view, task, names, m, label=METHOD_LABELS[m], seed=seed) for m in methods]
    likeness = np.mean(
        [
            np.corrcoef(a.maps.ravel(), b.maps.ravel())[0, 1]
            for i, a in enumerate(panels)
            for b in panels[i + 1 :]
            if a.maps.std() and b.maps.std()
        ]
        or [np.nan]
    )
    title = f"{view.label}, {TASK_LABELS[task]}: the methods' maps correlate {likeness:.2f}"
    return gallery.face_gallery(
        view.images(names),
        truths(view, task, names),
        panels,
        title,
        _dataset(view),
        "One network, several methods",
        len(names),
    )


def truth_against_prediction(view, task, names):
    """Gallery: evidence for the predicted class beside evidence for the true one.

    For ages: what makes the face look older beside what makes it look younger.
    """
    table = view.predictions.loc[list(names)]
    if task == "age":
        columns = {"looks older": 1, "looks younger": -1}
    else:
        columns = {
            "for the prediction": predicted(table, task),
            "for the truth": truth(table, task),
        }
    panels = [panel(view, task, names, classes=c, label=name) for name, c in columns.items()]
    title = f"{view.label}, {TASK_LABELS[task]}: what would it have needed to see?"
    return gallery.face_gallery(
        view.images(names),
        truths(view, task, names),
        panels,
        title,
        _dataset(view),
        "Most confident errors; Grad-CAM of both classes",
        len(names),
    )


def mean_maps(found, faces):
    """Mean Grad-CAM of each network on the mean face.

    Parameters
    ----------
    found : list of Evidence
        One a network, of one task.
    faces : dict
        From `utils.explain.evidence.load_mean_faces`.
    """
    names = unique_labels(found)
    title = f"{TASK_LABELS[found[0].task].capitalize()}: where Grad-CAM lies on average"
    return gallery.mean_map_figure(
        faces["all"],
        {names[one.run]: one.maps["all"].astype(np.float32) for one in found},
        title,
        found[0].dataset,
        "Mean Grad-CAM on the mean face",
        found[0].about["counts"]["all"],
    )


def mean_maps_by_group(evidence, faces, kind):
    """Mean Grad-CAM of one network for each group, on the group's own mean face.

    Parameters
    ----------
    kind : {"gender", "ethnicity", "age_bin", "class"}
        ``class``: by the predicted class.

    Returns
    -------
    Figure, or None where no group is large enough.
    """
    groups = [group for group in evidence.maps if group.startswith(f"{kind}:")]
    if not groups:
        return None
    counts = evidence.about["counts"]
    labels = {g: f"{g.split(':', 1)[1]} ({counts[g]})" for g in groups}
    # The mean face of a predicted class is that of the faces that truly have it.
    own = {g: g.replace("class:", f"{evidence.task}:") for g in groups}
    name = "predicted class" if kind == "class" else f"labelled {TASK_LABELS[kind]}"
    # No region is named: differences between groups are not tested.
    title = f"{evidence.label}, {TASK_LABELS[evidence.task]}: mean map by {name}"
    return gallery.mean_map_figure(
        {labels[g]: faces.get(own[g], faces["all"]) for g in groups},
        {labels[g]: evidence.maps[g].astype(np.float32) for g in groups},
        title,
        evidence.dataset,
        f"Mean Grad-CAM by {name}; differences between groups are not tested",
        sum(counts[g] for g in groups),
        columns=5,
    )


def attention_page(found):
    """Attention per region for all networks: evidence of one task."""
    names = unique_labels(found)
    tables = {names[one.run]: shares_table(one.shares) for one in found}
    first = next(iter(tables.values()))
    # A network whose maps are all empty has no shares.
    known = [table["value"] for table in tables.values() if table["value"].notna().all()]
    name = TASK_LABELS[found[0].task].capitalize()
    if len(known) < 2:
        title = f"{name}: where Grad-CAM puts its attention"
    else:
        spread = np.ptp(known, axis=0)
        region = first["statistic"][int(spread.argmax())].removeprefix("attention_")
        title = f"{name}: networks differ most on the {region} ({spread.max() * 100:.0f} points)"
    return gallery.attention_figure(
        tables,
        title,
        found[0].dataset,
        "Grad-CAM, 95 % bootstrap intervals; grey: attention spread evenly",
        max(int(table["n"].max()) for table in tables.values()),
    )


def _faces_text(counts) -> str:
    """Numbers of faces of the methods in words, such as ``100 or 40``."""
    return " or ".join(f"{n:,}" for n in sorted(set(map(int, counts)), reverse=True))


def faithfulness_page(evidence):
    """Deletion and insertion curves, and one sentence a method against the centred Gaussian."""
    compared = against_control(evidence.per_face)
    areas = compared[compared["statistic"].isin(["deletion_auc", "insertion_auc"])]
    won = areas.groupby("method")["beats"].all()
    good = [METHOD_LABELS[name] for name in won.index[won] if name not in CONTROLS]
    title = f"{evidence.label}, {TASK_LABELS[evidence.task]}: " + (
        f"{', '.join(good)} beat{'s' * (len(good) == 1)} the centred Gaussian"
        if good
        else "no method beats the centred Gaussian on both curves"
    )
    age = evidence.task == "age"
    figure = gallery.curves_figure(
        evidence.curves,
        title,
        evidence.dataset,
        f"Confidence as pixels go in order of attention; {_faces_text(evidence.curves['n'])} faces",
        ylabel="expected age / greatest age" if age else "probability of the class",
    )
    sentences = verdicts(compared, labels=METHOD_LABELS)
    return figure, sentences + _blank_face(evidence) if age else sentences


def _blank_face(evidence) -> list[str]:
    """For ages: what an empty picture passes for, which deletion drives every face to."""
    rows = evidence.curves[evidence.curves["mode"] == "deletion"]
    first, last = (rows.loc[rows["share"] == share, "value"].mean() for share in (0, 1))
    if not last > first:
        return []
    return [
        f"An empty picture passes for {last * MAX_AGE:.0f} years, older than the faces "
        f"({first * MAX_AGE:.0f}): deletion adds age instead of taking its signs away, so the "
        "curves of ages say little."
    ]


def sanity_page(evidence):
    """Similarity as layers are randomised, and one sentence a method."""
    groups = evidence.cascades.groupby("method", sort=False)
    cascades = {METHOD_LABELS[name]: table for name, table in groups}
    sentences = [verdict(table, name) for name, table in cascades.items()]
    failed = sum("fails" in text for text in sentences)
    title = f"{evidence.label}, {TASK_LABELS[evidence.task]}: {failed} of {len(cascades)} "
    figure = gallery.cascade_figure(
        cascades,
        title + "methods fail the check",
        evidence.dataset,
        "Rank correlation with the trained network's maps, 95 % intervals; "
        f"{_faces_text(evidence.cascades['n'])} faces",
    )
    return figure, sentences


def summary_table(table) -> pd.DataFrame:
    """One row a network and method: means over tasks of every statistic but attention."""
    rows = table[~table["statistic"].str.startswith("attention_")]
    wide = rows.pivot_table(index=["model", "method"], columns="statistic", values="value")
    order = [name for name in (*METHODS, *CONTROLS) if name in wide.index.get_level_values(1)]
    return wide.reindex(order, level="method").round(3)


def best_method(table) -> str:
    """One sentence: which method ranks first over networks, tasks and faithfulness statistics."""
    rows = table[table["statistic"].isin(FAITHFULNESS) & table["method"].isin(METHODS)]
    if rows.empty:
        return "No faithfulness was measured."
    sign = np.where(rows["statistic"].isin(LOWER_IS_BETTER), 1.0, -1.0)
    ranks = (rows["value"] * sign).groupby([rows["run"], rows["task"], rows["statistic"]]).rank()
    mean = ranks.groupby(rows["method"]).mean().sort_values()
    parts = [f"{METHOD_LABELS[name]} {rank:.1f}" for name, rank in mean.items()]
    return (
        f"Mean rank over networks, tasks and faithfulness statistics: {', '.join(parts)}; a rank "
        "alone earns no trust, the comparison with the controls and the randomisation check do."
    )
