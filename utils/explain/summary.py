"""One page on the explanations: who looks where, which method to trust, in sentences and figures.

Computed from ``explanations.csv`` and the evidence beside it alone: no face, no Keras.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from utils.evaluation.columns import TASK_LABELS
from utils.explain import summary_figures as figures
from utils.explain.evidence import FOLDER, load_all, load_mean_faces, unique_labels
from utils.explain.judge import FAILS_ABOVE, against_control
from utils.explain.names import FAITHFULNESS, METHOD_LABELS, METHODS
from utils.explain.regions import attention_differences
from utils.explain.summary_figures import CONTROL, attention_of, tasks_of
from utils.explain.table import read_explanations


@dataclass
class Summary:
    """Sentences, figures and tables by name; all empty where nothing was measured."""

    sentences: list = field(default_factory=list)
    figures: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)


def summarise_study(folder) -> Summary:
    """Make the page from a study folder.

    Parameters
    ----------
    folder : Path
        Such as ``reports/study``, with ``explanations.csv``.
    """
    folder, summary = Path(folder), Summary()
    table = read_explanations(folder / "explanations.csv")
    if table.empty:
        return summary
    drawn = table["run"].str.startswith("synthetic")
    found = [one for one in load_all(folder / FOLDER) if one.run in set(table["run"])]
    real, names = table[~drawn], _labels(found, table)
    if len(real):
        evidence = [one for one in found if one.dataset != "synthetic"]
        gains = gains_table(evidence)
        summary.tables |= {"methods": methods_table(real, gains), "gains": gains}
        summary.sentences += where(real, names) + sharpness(evidence) + differences(evidence)
        summary.sentences += [faithful(gains), randomised(real)]
        _figures(summary, folder, real, gains, evidence, names)
    if drawn.any():
        summary.sentences.append(true_evidence(table[drawn]))
        summary.figures["true_evidence"] = figures.true_evidence_figure(table[drawn])
    if len(real):
        summary.sentences.insert(0, trusted(summary.tables["methods"]))
    summary.sentences = [text for text in summary.sentences if text]
    return summary


def _figures(summary, folder, table, gains, evidence, names):
    dataset = evidence[0].dataset if evidence else str(table["run"].iloc[0]).split("-")[0]
    if table["statistic"].str.startswith("attention_").any():
        summary.figures["attention"] = figures.attention_figure(table, dataset, names)
    if evidence:
        faces = load_mean_faces(folder / FOLDER, dataset)
        summary.figures["mean_maps"] = figures.mean_maps_figure(evidence, faces["all"], names)
    if len(gains):
        summary.figures["methods"] = figures.methods_figure(table, gains, dataset, names)


def _labels(evidence, table) -> dict[str, str]:
    """Run -> name of its network; without evidence the model's key."""
    keys = dict(zip(table["run"], table["model"], strict=True))
    real = [one for one in evidence if one.dataset != "synthetic"]
    return keys | unique_labels(real)


def _percent(row) -> str:
    return f"{row['value']:.0%} [{row['ci_low']:.0%}, {row['ci_high']:.0%}]"


def where(table, names) -> list[str]:
    """One sentence a network: the region with most attention for its area, task by task."""
    rows, sentences = attention_of(table), []
    for run, own in rows.groupby("run", sort=False):
        parts = []
        for task in tasks_of(own["task"]):
            parts.append(f"{TASK_LABELS[task]} {_regions(own[own['task'] == task])}")
        out = own[own["region"].isin(["hair", "background"])].groupby("task")["value"].sum()
        low, high = (f"{value:.0%}" for value in (out.min(), out.max()))
        outside = low if low == high else f"{low} to {high}"
        sentences.append(
            f"Grad-CAM of {names[run]} lies, for the region's area, mostly on: {'; '.join(parts)}. "
            f"{outside} falls outside the face ({int(own['n'].max()):,} faces)."
        )
    return sentences


def _regions(rows) -> str:
    """The region with most attention for its area, and those whose intervals reach it."""
    best = rows.loc[rows["ratio"].idxmax()]
    reach = rows["ci_high"] / rows["area"] >= best["ci_low"] / best["area"]
    kept = rows[reach].sort_values("ratio", ascending=False)
    return " or ".join(
        f"{row['region']} ({_percent(row)} of the attention, {row['ratio']:.1f} times its area)"
        for row in kept.to_dict("records")
    )


def sharpness(evidence) -> list[str]:
    """How far one cell of each network's map sees: what is nearer than that is not told apart."""
    names, parts = unique_labels(evidence), {}
    for one in evidence:
        field = np.array(one.about.get("field_of_view", []), float)
        if len(field) and np.isfinite(field).any():
            spread, cells = np.nanmean(field[:, 1]), len(field)
            parts[names[one.run]] = f"{names[one.run]} {spread:.0%} ({cells} x {cells} cells)"
    if not parts:
        return []
    return [
        "Maps are blunt: a cell sees, as one standard deviation either way in shares of the side, "
        f"{', '.join(parts.values())}; the eyes and the tip of the nose are 23% apart."
    ]


def differences(evidence) -> list[str]:
    """Which regions differ between networks beyond chance, on the same faces."""
    sentences, names = [], unique_labels(evidence)
    tasks = tasks_of(one.task for one in evidence)
    for task in tasks:
        same = [one for one in evidence if one.task == task]
        same = [one for one in same if one.about["faces"] == same[0].about["faces"]]
        if len(same) < 2:
            continue
        table = attention_differences({names[one.run]: one.shares for one in same}, len(tasks))
        kept = table[table["differs"]]
        text = f"For {TASK_LABELS[task]}, {len(kept)} of {len(table)} differences between networks"
        if len(kept):
            top = kept.loc[kept["value"].abs().idxmax()]
            ends = f"[{top['ci_low'] * 100:.0f}, {top['ci_high'] * 100:.0f}]"
            text += (
                f" are beyond chance; the largest is the {top['region']}, {top['first']} against "
                f"{top['second']}: {top['value'] * 100:+.0f} points {ends}"
            )
        else:
            text += " are beyond chance"
        sentences.append(text + ".")
    return sentences


def gains_table(evidence) -> pd.DataFrame:
    """Advantage of each method over the centred Gaussian on the same faces.

    Returns
    -------
    DataFrame
        Columns run, model, task and those of `utils.explain.judge.against_control`.
    """
    tables = [
        against_control(one.per_face, CONTROL).assign(
            run=one.run, model=one.about["model"], task=one.task
        )
        for one in evidence
        if len(one.per_face) and CONTROL in set(one.per_face["method"])
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def methods_table(table, gains) -> pd.DataFrame:
    """One row a method: how often it beats the Gaussian, how often randomisation changes it.

    Returns
    -------
    DataFrame
        Columns method; for each faithfulness statistic the cases won, as a count; cases; fails
        (cases whose map hardly changes under randomisation); similarity (mean); checked.
    """
    rows = []
    for method in [m for m in METHODS if m in set(table["method"])]:
        row = {"method": method}
        own = gains[gains["method"] == method] if len(gains) else gains
        for name in FAITHFULNESS:
            part = own[own["statistic"] == name] if len(own) else own
            row[name] = int(part["beats"].sum()) if len(part) else 0
        row["cases"] = len(own) // len(FAITHFULNESS)
        last = table[
            (table["method"] == method) & (table["statistic"] == "randomization_similarity")
        ]
        row |= {
            "fails": int((last["ci_high"] >= FAILS_ABOVE).sum()),
            "similarity": float(last["value"].mean()),
            "checked": len(last),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def faithful(gains) -> str:
    """Which methods beat the centred Gaussian, and which do not."""
    if gains.empty:
        return ""
    both = gains[gains["statistic"].isin(["deletion_auc", "insertion_auc"])]
    won = both.groupby(["method", "run", "task"])["beats"].all().groupby("method")
    counts = won.agg(["sum", "size"])
    parts = []
    for method in [m for m in METHODS if m in counts.index]:
        good, cases = counts.loc[method]
        name = METHOD_LABELS[method]
        verb = "beats" if good else "does not beat"
        parts.append(f"{name} {verb} the centred Gaussian on both curves ({good} of {cases} cases)")
    faces = " or ".join(str(n) for n in sorted(set(gains["n"]), reverse=True)[:3])
    return (
        f"Deletion and insertion: {'; '.join(parts)} (a case is a network and task; {faces} faces)."
    )


def randomised(table) -> str:
    """Which maps change when the network's weights are randomised."""
    rows = table[table["statistic"] == "randomization_similarity"]
    parts = []
    for method in [m for m in METHODS if m in set(rows["method"])]:
        own = rows[rows["method"] == method]
        failed = int((own["ci_high"] >= FAILS_ABOVE).sum())
        n = "-".join(f"{v:.0f}" for v in sorted({own["n"].min(), own["n"].max()}))
        # Nothing but zeros on every face: no map is left at all.
        gone = int((own[["value", "ci_low", "ci_high"]] == 0).all(axis=1).sum())
        verdict = f"fails in {failed} of" if failed else "passes in all of"
        parts.append(
            f"{METHOD_LABELS[method]} {verdict} {len(own)} cases "
            f"(mean rank correlation {own['value'].mean():.2f}, {n} faces"
            + f"; in {gone} no map is left at all)" * bool(gone)
            + ")" * (not gone)
        )
    if not parts:
        return ""
    return (
        f"With every layer randomised: {'; '.join(parts)}. A map fails if the upper end of its "
        f"interval reaches {FAILS_ABOVE}."
    )


def true_evidence(table) -> str:
    """Which method finds the true evidence on drawn faces."""
    rows = table[table["statistic"].isin(["pointing_game", "energy_inside"])]
    if rows.empty:
        return ""
    mean = rows.groupby(["statistic", "method"])["value"].mean()
    parts = []
    for name, text in (("energy_inside", "attention inside"), ("pointing_game", "peak inside")):
        own = mean[name].drop(["random", CONTROL], errors="ignore")
        best = own.idxmax()
        control = mean[name].get(CONTROL, np.nan)
        lost = [METHOD_LABELS[m] for m in METHODS if m in own and not own[m] > control]
        part = f"{text} {own[best]:.0%} by {METHOD_LABELS[best]}, {control:.0%} by the Gaussian"
        if len(lost) == len(own):
            part += ", which no method beats"
        elif lost:
            part += f", which does better than or as well as {', '.join(lost)}"
        parts.append(part)
    runs, n = rows["run"].nunique(), int(rows["n"].max())
    networks = "one network" if runs == 1 else f"{runs} networks"
    return (
        f"On drawn faces, where the true evidence is known ({networks}, up to {n} faces a task): "
        f"{'; '.join(parts)}."
    )


def trusted(methods) -> str:
    """Which method to trust: fewest failed checks, then most wins over the Gaussian."""
    methods = methods[methods["cases"] > 0]
    if methods.empty:
        return ""
    wins = methods[list(FAITHFULNESS)].sum(axis=1)
    order = methods.assign(wins=wins).sort_values(["fails", "wins"], ascending=[True, False])
    best = order.iloc[0]
    total = int(best["cases"]) * len(FAITHFULNESS)
    share = f"{int(best['wins'])} of {total} comparisons with the centred Gaussian"
    checks = (
        f"{int(best['checked'] - best['fails'])} of {int(best['checked'])} randomisation checks"
    )
    name = METHOD_LABELS[best["method"]]
    if best["wins"] * 2 <= total:
        return (
            f"**No method is to be trusted on single faces**: the best, {name}, wins {share} "
            f"and passes {checks}."
        )
    return f"**To be trusted most: {name}**; it wins {share} and passes {checks}."
