"""One page on the explanations: who looks where, which method to trust, in sentences and figures.

Computed from ``explanations.csv`` and the evidence beside it alone: no face, no Keras.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from utils.explain import figures
from utils.explain.checks import FAILS_ABOVE, FAITHFULNESS, against_control
from utils.explain.evidence import FOLDER, labels, load_all, load_mean_faces, read_explanations
from utils.explain.maps import EYES_TO_NOSE, LEAST_CELLS, METHOD_LABELS, METHODS


@dataclass
class Summary:
    """Sentences, figures and tables by name; all empty where nothing was measured."""

    sentences: list = field(default_factory=list)
    figures: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)


def summarise_study(folder) -> Summary:
    """Make the page from a study folder, such as ``reports/study``."""
    folder = Path(folder)
    runs = set(read_explanations(folder / "explanations.csv")["run"])
    found = [one for one in load_all(folder / FOLDER) if one.about["run"] in runs]
    return summarise(found, folder / FOLDER)


def summarise(found, folder) -> Summary:
    """Make the page from a list of Evidence; `folder` holds the mean faces."""
    page = Summary()
    drawn = [one for one in found if one.about["dataset"] == "synthetic"]
    shown = [one for one in found if one.about["dataset"] != "synthetic"] or drawn
    if tested := [one for one in shown if len(one.per_face)]:
        _tested(page, tested)
    if shown:
        face = load_mean_faces(folder, shown[0].about["dataset"])["all"]
        told = [text.split("**")[1] for text in page.sentences if text.startswith("**")]
        page.figures = {"mean_maps": figures.mean_maps(shown, face, *told)} | page.figures
    fine = [one for one in drawn if len(one.about["field_of_view"]) >= LEAST_CELLS]
    inside = rows_of(fine, "energy_inside")
    if len(inside):
        page.figures["true_evidence"] = figures.true_evidence(inside, fine)
    return page


def _tested(page, found) -> None:
    """Add what the tests of the maps say."""
    last, gains = rows_of(found, "randomization_similarity"), gains_table(found)
    table = methods_table(found, last, gains)
    page.tables["methods"] = table
    if len(found) > 1:  # one case is no verdict
        page.sentences.append(trusted(table))
    page.sentences += sharpness(found)
    page.figures["methods"] = figures.methods(last, gains, found)


def rows_of(found, statistic) -> pd.DataFrame:
    """Rows of a statistic in some Evidence, of all methods."""
    none = pd.DataFrame(columns=["run", "task", "statistic"])
    table = pd.concat([one.table for one in found if len(one.table)] or [none], ignore_index=True)
    return table[table["statistic"] == statistic]


def sharpness(found) -> list[str]:
    """How far one cell of each network's map sees: finer detail does not show."""
    names, parts = labels(found), {}
    for one in found:
        name, seen = names[one.about["run"]], np.array(one.about["field_of_view"], float)
        if np.isfinite(seen).any():
            parts[name] = f"{name} {np.nanmean(seen[:, 1]):.0%} ({len(seen)} x {len(seen)} cells)"
    text = (
        "Maps are blunt: a cell sees, as one standard deviation either way in shares of the side, "
        f"{', '.join(parts.values())}; eyes and tip of the nose are {EYES_TO_NOSE:.0%} apart."
    )
    return [text] if parts else []


def gains_table(found) -> pd.DataFrame:
    """`against_control` of each Evidence, with run, model and task."""
    # Files of old have no groups.
    tables = [against_control(one.per_face, groups=one.about.get("groups")) for one in found]
    told = [{key: one.about[key] for key in ("run", "model", "task")} for one in found]
    return pd.concat([t.assign(**k) for t, k in zip(tables, told, strict=True)], ignore_index=True)


def methods_table(found, last, gains) -> pd.DataFrame:
    """One row a method: how often it beats the Gaussian, how often randomisation changes it.

    Columns method; for each faithfulness statistic the cases won; both_curves (won on deletion
    and insertion); cases; compared (comparisons made); fails (maps that hardly change), similarity
    (mean) and checked; vanished and emprt (means, see `utils.explain.checks`).
    """
    won = gains.pivot(index=["method", "run", "task"], columns="statistic", values="beats")
    won = won[list(FAITHFULNESS)].assign(both_curves=won["deletion_auc"] & won["insertion_auc"])
    won = won.assign(cases=1).groupby("method").sum().astype(int).rename_axis(None, axis=1)
    won["compared"] = (gains["n"] > 0).groupby(gains["method"]).sum()  # no age gets surer
    checks = last.assign(fails=last["ci_high"] >= FAILS_ABOVE).groupby("method")
    checks = checks.agg(fails=("fails", "sum"), similarity=("value", "mean"), checked=("n", "size"))
    table = won.join(checks).fillna({"fails": 0, "checked": 0})
    for name in ("vanished", "emprt"):
        table[name] = rows_of(found, name).groupby("method")["value"].mean()
    table = table.astype({"fails": int, "checked": int}).rename_axis("method")
    return table.reindex([m for m in METHODS if m in table.index]).reset_index()


def trusted(methods) -> str:
    """Which method to trust: fewest failed checks, then most wins over the Gaussian."""
    wins = methods[list(FAITHFULNESS)].sum(axis=1)
    order = methods.assign(wins=wins).sort_values(["fails", "wins"], ascending=[True, False])
    best, checked = order.iloc[0], int(order.iloc[0]["checked"])
    total, name = int(best["compared"]), METHOD_LABELS[best["method"]]
    told = (
        f"{int(best['wins'])} of {total} comparisons with the centred Gaussian and passes "
        f"{checked - int(best['fails'])} of {checked} randomisation checks."
    )
    if best["wins"] * 2 <= total:
        return f"**No method was shown to be right on single faces**: the best, {name}, wins {told}"
    return f"**To be trusted most: {name}**; it wins {told}"
