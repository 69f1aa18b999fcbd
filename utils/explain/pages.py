"""Figures of the gallery notebook: each computes its own finding for the title."""

import numpy as np
import pandas as pd

from utils.datasets.facetable import ETHNICITIES, GENDERS
from utils.evaluation.columns import CLASSES, TASK_LABELS, predicted, truth
from utils.explain import gallery
from utils.explain.cams import CONTROLS, METHOD_LABELS, METHODS
from utils.explain.faithfulness import LOWER_IS_BETTER, against_control, verdicts
from utils.explain.maps import mean_face, mean_map
from utils.explain.regions import ALIGNED, attention_table
from utils.explain.sanity import verdict
from utils.explain.study import panel, truths


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


def focus(maps) -> tuple[str, float]:
    """Region with the most attention for its area, and how many times its share that is."""
    table = attention_table(maps)
    ratio = table["value"] / table["area"]
    if ratio.isna().all():
        return "nothing", 0.0
    return table["statistic"][ratio.idxmax()].removeprefix("attention_"), float(ratio.max())


def _where(view, maps) -> str:
    """End of a title: the region with the most attention, where the regions fit the faces."""
    if _dataset(view) not in ALIGNED:
        return ": where the attention lies on average"
    parts = [f"{label} {focus(heat)[0]}" for label, heat in maps.items()]
    return f", most attention for its area: {', '.join(parts)}"


def mean_maps(views, task, maps, names):
    """Mean Grad-CAM of each network on the mean face."""
    means = {view.label: mean_map(maps[view.run]) for view in views}
    title = TASK_LABELS[task].capitalize() + _where(views[0], {v.label: maps[v.run] for v in views})
    largest = max(views, key=lambda view: view.config["input_size"])
    return gallery.mean_map_figure(
        mean_face(largest.images(names)),
        means,
        title,
        _dataset(views[0]),
        "Mean Grad-CAM on the mean face",
        len(names),
    )


def groups_of(view, names, column) -> pd.Series:
    """Group of each named face, such as its gender; age bins in words."""
    table = view.predictions.loc[list(names)]
    if column == "age_bin":
        labels = truth(table, "age_bin")
        return pd.Series([CLASSES["age_bin"][i] if i >= 0 else None for i in labels])
    return table[column].reset_index(drop=True)


def mean_maps_by_group(view, task, maps, names, column):
    """Mean Grad-CAM of one network for each group, on the group's own mean face."""
    groups = groups_of(view, names, column)
    order = {"gender": GENDERS, "ethnicity": ETHNICITIES}.get(column, CLASSES["age_bin"])
    # A mean of fewer than five faces would show single people.
    found = [g for g in order if (groups == g).sum() >= 5]
    rows = {g: np.flatnonzero(groups == g) for g in found}
    if not found:
        return None
    labels = {g: f"{g} ({len(rows[g])})" for g in found}
    means = {labels[g]: mean_map(maps[rows[g]]) for g in found}
    faces = {labels[g]: mean_face(view.images(names[rows[g]])) for g in found}
    title = f"{view.label}, {TASK_LABELS[task]}" + _where(view, {g: maps[rows[g]] for g in found})
    return gallery.mean_map_figure(
        faces,
        means,
        title,
        _dataset(view),
        f"Mean Grad-CAM by {TASK_LABELS[column]}",
        sum(map(len, rows.values())),
        columns=5,
    )


def attention_page(views, task, maps):
    """Attention per region for all networks."""
    tables = {view.label: attention_table(maps[view.run]) for view in views}
    first = next(iter(tables.values()))
    # A network whose maps are all empty has no shares.
    known = [table["value"] for table in tables.values() if table["value"].notna().all()]
    name = TASK_LABELS[task].capitalize()
    if len(known) < 2:
        title = f"{name}: where Grad-CAM puts its attention"
    else:
        spread = np.ptp(known, axis=0)
        region = first["statistic"][int(spread.argmax())].removeprefix("attention_")
        title = f"{name}: networks differ most on the {region} ({spread.max() * 100:.0f} points)"
    return gallery.attention_figure(
        tables,
        title,
        _dataset(views[0]),
        "Grad-CAM, 95 % bootstrap intervals; grey: attention spread evenly",
        max(int(table["n"].max()) for table in tables.values()),
    )


def faithfulness_page(view, task, findings):
    """Deletion and insertion curves, and one sentence a method against the centred Gaussian."""
    compared = against_control(findings.per_face)
    areas = compared[compared["statistic"].isin(["deletion_auc", "insertion_auc"])]
    won = areas.groupby("method")["beats"].all()
    good = [METHOD_LABELS[name] for name in won.index[won] if name not in CONTROLS]
    title = f"{view.label}, {TASK_LABELS[task]}: " + (
        f"{', '.join(good)} beat the centred Gaussian"
        if good
        else "no method beats the centred Gaussian on both curves"
    )
    label = "expected age / greatest age" if task == "age" else "probability of the class"
    figure = gallery.curves_figure(
        findings.curves,
        title,
        _dataset(view),
        "Confidence as pixels go in order of attention",
        int(findings.curves["n"].max()),
        ylabel=label,
    )
    return figure, verdicts(compared, labels=METHOD_LABELS)


def sanity_page(view, task, findings):
    """Similarity as layers are randomised, and one sentence a method."""
    cascades = {METHOD_LABELS[name]: table for name, table in findings.cascades.items()}
    sentences = [verdict(table, name) for name, table in cascades.items()]
    failed = sum("fails" in text for text in sentences)
    title = f"{view.label}, {TASK_LABELS[task]}: {failed} of {len(cascades)} methods fail the check"
    figure = gallery.cascade_figure(
        cascades,
        title,
        _dataset(view),
        "Rank correlation with the trained network's maps, 95 % intervals",
        int(next(iter(cascades.values()))["n"].max()),
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
    rows = table[
        table["statistic"].isin(
            ["deletion_auc", "insertion_auc", "average_drop", "increase_in_confidence"]
        )
        & table["method"].isin(METHODS)
    ]
    if rows.empty:
        return "No faithfulness was measured."
    sign = np.where(rows["statistic"].isin(LOWER_IS_BETTER), 1.0, -1.0)
    ranks = (rows["value"] * sign).groupby([rows["run"], rows["task"], rows["statistic"]]).rank()
    mean = ranks.groupby(rows["method"]).mean().sort_values()
    parts = [f"{METHOD_LABELS[name]} {rank:.1f}" for name, rank in mean.items()]
    return f"Mean rank over networks, tasks and faithfulness statistics: {', '.join(parts)}."
