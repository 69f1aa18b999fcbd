"""Every table and figure of a study, rebuilt from its committed files.

`build` computes, `write` stores: `tables/*.csv`, `figures/*.svg`, the captions and `findings.txt`.
A part that the runs do not allow is left out and listed with the reason, never an error.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from utils.ablations import load_plan
from utils.datasets.facetable import DataError
from utils.evaluation import (
    ablations,
    calibration,
    claims,
    goals,
    leakage,
    noise,
    pairwise,
    remaining,
    subgroups,
    tables,
)
from utils.evaluation.bootstrap import Resamples, groups_of
from utils.evaluation.columns import CLASSES, HEADLINE, TASKS, part, tasks_of
from utils.evaluation.elsewhere import elsewhere
from utils.evaluation.elsewhere import readable as elsewhere_readable
from utils.evaluation.findings import findings, winner
from utils.evaluation.references import references
from utils.files import write_aside, write_json
from utils.plots import ablations as ablation_plots
from utils.plots import elsewhere as elsewhere_plots
from utils.plots import results as run_plots
from utils.plots import study as study_plots
from utils.runs import same_settings


@dataclass
class Report:
    """What `build` made: tables and figures by name, sentences, and what was left out."""

    tables: dict = field(default_factory=dict)
    figures: dict = field(default_factory=dict)
    findings: dict = field(default_factory=dict)
    left_out: list = field(default_factory=list)

    def draw(self, name, function, *arguments, **options):
        """Draw one figure; where the data do not allow it, note why."""
        try:
            self.figures[name] = function(*arguments, **options)
        except DataError as error:
            self.left_out.append((name, str(error)))


def build(study, resamples=2000, seed=129, progress=None):
    """Compute all tables and figures.

    Parameters
    ----------
    study : utils.runs.Study
    resamples, seed : int
        For all bootstrap intervals.
    progress : callable, optional
        Called with a line of text before each part.

    Returns
    -------
    Report
    """
    say = progress or (lambda text: None)
    report = Report()
    say("intervals of all metrics")
    scored = tables.study_intervals(study, resamples, seed)
    if scored.empty:
        report.left_out.append(("all", "the study holds no predictions with test faces"))
        return report
    report.tables["metrics"] = scored
    report.tables["references"] = references()
    if len(study.results):
        report.tables["results"] = tables.with_intervals(study.results, scored)
    say("ablations")
    _ablations(report, study, resamples, seed)
    study = tables.comparable(study)
    scored = scored[scored["run"].isin(list(study.predictions))]
    report.tables["seeds"] = tables.seeds_table(scored)
    for dataset in dict.fromkeys(scored["dataset"]):
        say(f"{dataset}: comparison and pairs")
        _compared(report, study, scored, dataset, resamples, seed)
        say(f"{dataset}: for whom, calibration, labels")
        _examined(report, study, dataset, resamples, seed)
        _leaks(report, study, dataset, resamples, seed)
        reached = goals.goals(report.tables[f"{dataset}_comparison"], dataset)
        report.tables[f"{dataset}_goals"] = reached
        report.tables[f"{dataset}_goals_readable"] = goals.readable(reached)
        claimed = claims.claims(study, dataset, resamples, seed)
        report.tables[f"{dataset}_claims"] = claimed
        report.tables[f"{dataset}_claims_readable"] = claims.readable(claimed)
    say("elsewhere")
    _elsewhere(report, study, resamples, seed)
    for name in [name for name, table in report.tables.items() if not len(table)]:
        report.left_out.append((name, "no run allows this table"))
        del report.tables[name]
    return report


def _ablations(report, study, resamples, seed):
    """What each choice is worth: a table, a figure and a sentence for each."""
    plan = load_plan()
    table, questions, missing = ablations.ablations(study, plan, resamples, seed)
    name = f"{plan.dataset}_ablation"
    report.tables[f"{name}s"] = table
    report.tables[f"{name}_sentences"] = ablations.sentences(table, questions)
    for one, question in questions.items():
        rows = table[table["ablation"] == one]
        report.draw(f"{name}_{one}", ablation_plots.ablation, rows, question, plan.dataset)
    if (tables.run_table(study)["dataset"] == plan.dataset).any():
        report.left_out += missing


def _compared(report, study, scored, dataset, resamples, seed):
    """Comparison table, findings, bars, Pareto plots, pairs and seeds of one data set."""
    table = tables.comparison(study, scored, dataset)
    report.tables[f"{dataset}_comparison"] = table
    report.tables[f"{dataset}_comparison_readable"] = tables.readable(table)
    report.tables[f"{dataset}_peers"] = tables.peers(study, dataset)
    here = tables.on_main_split(scored, dataset, "split_kind")
    runs = tables.run_table(study)
    chosen = tables.systems(runs[runs["run"].isin(here["run"])])
    names = dict(zip(chosen["run"], chosen["label"], strict=True))
    chosen = {run: study.predictions[run] for run in chosen["run"] if run in study.predictions}
    every = []
    for task in TASKS:
        rows = here[here["task"] == task]
        if rows.empty:
            continue
        n, guess = int(rows["n"].max()), table.loc[table["model"] == "trivial", task].iloc[0]
        report.draw(f"{dataset}_{task}_bars", study_plots.summary, table, dataset, task, n)
        if (report.tables["seeds"]["dataset"] == dataset).any():
            report.draw(f"{dataset}_{task}_seeds", study_plots.seeds, here, task, dataset)
        pairs = pairwise.compare(
            chosen, task, groups=study.splits.get(dataset), n=resamples, seed=seed
        )
        best = winner(table[table["model"] != "trivial"], task)
        report.draw(
            f"{dataset}_{task}_pareto",
            study_plots.pareto,
            table,
            task,
            dataset,
            n=n,
            baseline=guess,
            level=pairwise.undecided(pairs, best["run"], task) if best is not None else (),
        )
        if len(pairs):
            every.append(pairs)
            matrix = pairwise.beats(pairs)
            report.tables[f"{dataset}_{task}_who_beats_whom"] = matrix.reset_index(names="run")
            report.draw(
                f"{dataset}_{task}_who_beats_whom",
                study_plots.who_beats_whom,
                matrix,
                task,
                dataset,
                int(pairs["n"].iloc[0]),
                names,
            )
    pairs = pd.concat(every) if every else pd.DataFrame()
    report.tables[f"{dataset}_pairs"] = pairs
    report.findings[dataset] = findings(study, table, dataset, pairs)
    _curves(report, study, dataset, names, table)


def _curves(report, study, dataset, names, table):
    """Learning curves side by side, one figure for each protocol and task."""
    runs = tables.run_table(study).set_index("run")
    guess = table[table["model"] == "trivial"].iloc[0]
    for protocol in dict.fromkeys(runs.loc[list(names), "protocol"]):
        chosen = [run for run in names if runs["protocol"][run] == protocol]
        held = {run: study.histories[run] for run in chosen if run in study.histories}
        for task in TASKS:
            quantity = "age_mae" if task == "age" else f"{task}_accuracy"
            held_task = {k: h for k, h in held.items() if f"val_{quantity}" in h}
            if held_task:
                line = float(guess[task]) if pd.notna(guess[task]) else None
                report.draw(
                    f"{dataset}_{task}_curves_{protocol}",
                    run_plots.learning_curves,
                    held_task,
                    quantity,
                    dataset,
                    names,
                    line,
                )


def _examined(report, study, dataset, resamples, seed):
    """Subgroups, calibration, coverage, heaping of every system; figures for the best of a task."""
    table = report.tables[f"{dataset}_comparison"]
    splits, made, drawn = study.splits.get(dataset), {}, {}
    systems = table[table["run"].notna() & table["run"].isin(list(study.predictions))]
    for row in systems.to_dict("records"):
        run = row["run"]
        faces = part(study.predictions[run], "test")
        groups = tuple(groups_of(faces, splits))
        drawn.setdefault(groups, Resamples(groups, resamples, seed))
        for name, result in _of_run(study.predictions[run], faces, drawn[groups]).items():
            result = result.assign(run=run, label=row["label"])
            made.setdefault(name, []).append(result)
    for name, parts in made.items():
        report.tables[f"{dataset}_{name}"] = pd.concat(parts, ignore_index=True)
    labels = tables.labels_of(study, dataset)
    report.tables[f"{dataset}_label_conflicts"] = noise.label_conflicts(labels)
    report.tables[f"{dataset}_ceilings"] = noise.ceilings(labels, resamples, seed)
    ours = tables.networks(table)
    gaps = []
    for task in TASKS:
        best = winner(ours, task)
        if best is not None and best["run"] in study.predictions:
            _best_figures(report, study, dataset, task, best)
            found = report.tables[f"{dataset}_gaps"]
            gaps.append(found[(found["run"] == best["run"]) & (found["task"] == task)])
            fair = report.tables.get(f"{dataset}_fairness", pd.DataFrame())
            if task == "gender" and len(fair):
                report.tables[f"{dataset}_fairness_of_best"] = _fairness_text(fair, best["run"])
    report.tables[f"{dataset}_gaps_of_best"] = pd.concat(gaps) if gaps else pd.DataFrame()
    _ceiling_figure(report, study, dataset, ours)
    members = list(ablations.ensemble_members(study, load_plan(), dataset))
    if len(members) > 1:
        tested = [part(study.predictions[run], "test") for run in members]
        found = remaining.remaining(tested, report.tables[f"{dataset}_ceilings"])
        report.tables[f"{dataset}_remaining"] = found
        report.tables[f"{dataset}_remaining_readable"] = remaining.readable(found)


def _fairness_text(table, run):
    """Fairness of one run as text for a page."""
    rows = table[table["run"] == run]
    return pd.DataFrame(
        {
            "measure": rows["measure"].str.replace("_", " "),
            "between": rows["by"].str.replace("_", " "),
            "difference": rows["value"].map("{:.3f}".format),
            "n": rows["n"],
            "network": rows["label"],
        }
    )


def _of_run(predictions, faces, drawn):
    found = tasks_of(faces)
    made = {"subgroups": subgroups.subgroups(faces, drawn)}
    made["gaps"] = subgroups.gaps(made["subgroups"])
    made["fairness"] = subgroups.fairness(faces)
    made["calibration"] = calibration.calibration(predictions)
    if {"age_q10", "age_q90"} <= set(faces) and "age" in found:
        made["coverage"] = calibration.coverage(faces, drawn)
    if "age" in found:
        made["digits"] = noise.error_by_digit(faces, drawn)
    return made


def _best_figures(report, study, dataset, task, best):
    """Figures of the best system of a task."""
    run, label = best["run"], best["label"]
    predictions, name = study.predictions[run], f"{dataset}_{task}"

    def rows(kind):
        table = report.tables.get(f"{dataset}_{kind}", pd.DataFrame({"run": []}))
        return table[table["run"] == run]

    found = rows("subgroups")
    report.draw(f"{name}_subgroups", study_plots.subgroup_bars, found, task, dataset, label)
    faces = part(predictions, "test")
    if set(subgroups.attributes(faces)) == set(subgroups.AXES):
        report.draw(
            f"{name}_cells",
            study_plots.subgroup_cells,
            *subgroups.by_cell(faces, task),
            task,
            dataset,
            label,
        )
    if task in CLASSES:
        report.draw(
            f"{name}_confusion", run_plots.confusion, predictions, task, dataset, "test", label
        )
        fitted = rows("calibration").set_index("task")["temperature"].get(task, np.nan)
        report.draw(
            f"{name}_reliability",
            study_plots.reliability_diagram,
            predictions,
            task,
            dataset,
            fitted,
            label,
        )
        return
    report.draw(f"{name}_bias", study_plots.subgroup_bars, found, task, dataset, label, "bias")
    report.draw(
        f"{name}_true_predicted", run_plots.true_vs_predicted, predictions, dataset, "test", label
    )
    report.draw(f"{name}_error_by_age", run_plots.error_by_age, {label: predictions}, dataset)
    if len(rows("coverage")):
        report.draw(f"{name}_coverage", study_plots.coverage, rows("coverage"), dataset, label)
    report.draw(f"{name}_digits", study_plots.error_by_digit, rows("digits"), dataset, label)


def _ceiling_figure(report, study, dataset, ours):
    """The best value of each task beside its bound."""
    scored, rows = report.tables["metrics"], []
    for task in TASKS:
        best = winner(ours, task)
        if best is not None:
            found = scored[(scored["run"] == best["run"]) & (scored["task"] == task)]
            found = found[found["metric"].isin([HEADLINE[task], "cs5"])]
            rows.append(found[["task", "metric", "value", "label"]])
    bounds = report.tables[f"{dataset}_ceilings"]
    if rows and len(bounds):
        report.draw(f"{dataset}_ceilings", study_plots.ceilings, bounds, pd.concat(rows), dataset)


def _leaks(report, study, dataset, resamples, seed):
    """Naive against group-aware split, for each protocol run on both."""
    runs = tables.run_table(study)
    runs = runs[(runs["dataset"] == dataset) & runs["run"].isin(list(study.predictions))]
    splits = study.splits.get(dataset)
    effects, copies = [], []
    for naive in runs[runs["split"] == "naive"].to_dict("records"):
        twin = runs["run"] == naive["run"].replace("-naive", "")
        configs = [study.configs.get(run, {}) for run in (naive["run"], *runs.loc[twin, "run"])]
        if twin.any() and same_settings(*configs):
            effect = leakage.split_effect(
                study.predictions[runs.loc[twin, "run"].iloc[0]],
                study.predictions[naive["run"]],
                splits,
                resamples,
                seed,
            )
            effects.append(effect.assign(run=naive["run"], label=naive["label"]))
        if splits is not None:
            effect = leakage.copies_effect(study.predictions[naive["run"]], splits, resamples, seed)
            copies.append(effect.assign(run=naive["run"], label=naive["label"]))
    for name, parts, columns in (
        ("leakage", effects, ("naive", "group")),
        ("copies", copies, ("with_copy", "without")),
    ):
        if parts:
            table = pd.concat(parts, ignore_index=True)
            report.tables[f"{dataset}_{name}"] = table
            for run, rows in table.groupby("run", sort=False):
                label = rows["label"].iloc[0].removesuffix(", naive split")
                title = f"{dataset}_{name}_{run.removeprefix(dataset + '-')}"
                report.draw(title, study_plots.leakage, rows, dataset, columns, label)


def _elsewhere(report, study, resamples, seed):
    """Runs on other data sets than their own."""
    table = elsewhere(study, resamples, seed)
    report.tables["elsewhere"] = table
    report.tables["elsewhere_readable"] = elsewhere_readable(table)
    for dataset in dict.fromkeys(table["dataset"]):
        report.draw(f"elsewhere_{dataset}", elsewhere_plots.elsewhere, table, dataset)


def write(report, folder):
    """Store a report below `folder`: tables/, figures/, findings.txt; results.csv with intervals.

    Returns
    -------
    int
        Bytes written.
    """
    folder, written = Path(folder), []
    for name, table in report.tables.items():
        path = folder / ("results.csv" if name == "results" else f"tables/{name}.csv")
        with write_aside(path) as aside:
            table.to_csv(aside, index=False, float_format="%.6g", lineterminator="\n")
        written.append(path)
    for name, figure in report.figures.items():
        path = folder / "figures" / f"{name}.svg"
        with write_aside(path) as aside:
            # No date in the file: the same study gives the same bytes.
            figure.savefig(aside, format="svg", metadata={"Date": None})
        written.append(path)
    captions = {
        name: {"title": figure.finding, "caption": figure.caption}
        for name, figure in report.figures.items()
    }
    write_json(folder / "figures" / "captions.json", captions)
    write_json(folder / "tables" / "findings.json", report.findings)
    write_json(folder / "tables" / "left_out.json", report.left_out)
    return sum(path.stat().st_size for path in written)
