"""Every table of a study, rebuilt from its committed files.

`build` computes, `utils.plots.study.draw` draws, `write` stores. A part that the runs do not allow
is left out and listed with the reason, never an error.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import yaml

from utils import plan
from utils.evaluation import ablations, calibration, noise, pairwise, random_split, tables
from utils.evaluation.bootstrap import draw
from utils.evaluation.columns import part, tasks_of
from utils.evaluation.cross_dataset import cross_dataset, cross_dataset_readable
from utils.evaluation.findings import findings
from utils.evaluation.references import claims, goals, references
from utils.evaluation.subgroups import fairness, gaps, subgroups
from utils.files import write_aside, write_json
from utils.vocabulary import TASKS

PAGES = yaml.safe_load(Path(__file__).with_name("pages.yaml").read_text(encoding="utf-8"))


@dataclass
class Report:
    """What `build` made: tables and figures by name, sentences, and what was left out."""

    tables: dict = field(default_factory=dict)
    figures: dict = field(default_factory=dict)
    findings: dict = field(default_factory=dict)
    left_out: list = field(default_factory=list)


def build(study, resamples=2000, seed=129, progress=None, profile="ablations"):
    """Compute all tables of a `Study`.

    `resamples` and `seed` are for all bootstrap intervals; `progress`, if given, is called with a
    line of text before each part; `profile` says which ablations there are, and which networks the
    ensemble averages.
    """
    say, drawn = progress or (lambda text: None), (resamples, seed)
    report, listed = Report(), plan.load_profile(profile)
    say("intervals of all metrics")
    scored = tables.study_intervals(study, *drawn)
    if scored.empty:
        report.left_out.append(("all", "the study holds no predictions with test faces"))
        return report
    made = {"metrics": scored, "references": references()}
    if len(study.results):
        keys = ["run", "task", "metric", "split"]
        kept = study.results.drop(columns=["ci_low", "ci_high"], errors="ignore")
        made["results"] = kept.merge(scored[[*keys, "ci_low", "ci_high"]], on=keys, how="left")
    every, study = study, tables.comparable(study)
    scored = scored[scored["run"].isin(list(study.predictions))]
    made["seeds"] = tables.seeds_table(scored)
    for dataset in dict.fromkeys(scored["dataset"]):
        say(f"{dataset}: comparison and pairs")
        of_set = _compared(study, scored, dataset, drawn)
        say(f"{dataset}: for whom, calibration, labels, near-duplicates")
        members = ablations.ensemble_members(of_set["comparison"], listed.ensemble)
        of_set |= _examined(study, of_set["comparison"], dataset, members, drawn)
        of_set |= _near_duplicates(study, of_set["comparison"], dataset, drawn)
        if dataset == listed.settings.get("dataset"):
            say("ablations")
            of_set |= _ablations(report, every, listed, members, drawn)
        report.findings[dataset] = findings(of_set, dataset)
        made |= {f"{dataset}_{name}": table for name, table in (of_set | _pages(of_set)).items()}
    say("other data sets")
    made["cross_dataset"] = cross_dataset(study, *drawn)
    made["cross_dataset_readable"] = cross_dataset_readable(made["cross_dataset"])
    report.left_out += [(name, "no run allows it") for name, table in made.items() if table.empty]
    report.tables = {name: table for name, table in made.items() if not table.empty}
    return report


def _pages(of_set):
    """Tables as text; of groups and fairness only those of the best network of a task."""
    chosen, pages = of_set["best"].set_index("task")["run"], {}
    for name in (name for name in PAGES if name in of_set):
        table = of_set[name]
        if name in ("gaps", "fairness") and len(table):
            table = table[table["run"] == table["task"].map(chosen)]
        pages[f"{name}_readable"] = tables.readable(table, PAGES[name])
    return pages


def _ablations(report, study, profile, members, drawn):
    """What each choice is worth: a table, its text and a sentence for each."""
    table, questions, missing = ablations.ablations(study, profile, members, *drawn)
    report.left_out += missing
    made = {"ablations": table, "ablations_readable": ablations.readable(table)}
    return made | {"ablation_sentences": ablations.sentences(table, questions)}


def _compared(study, scored, dataset, drawn):
    """Comparison, best networks, pairs, goals and claims of one data set."""
    table = tables.comparison(study, scored, dataset)
    runs = tables.run_table(study)
    runs = tables.systems(runs[runs["run"].isin(table["run"])])["run"]
    chosen = {run: study.predictions[run] for run in runs}
    splits = study.splits.get(dataset)
    pairs = {task: pairwise.compare(chosen, task, splits, *drawn) for task in TASKS}
    pairs = {task: found for task, found in pairs.items() if len(found)}
    letters = {task: pairwise.letters(found) for task, found in pairs.items()}
    rows = [row for row in (tables.best(table, task) for task in TASKS) if row is not None]
    made = {"comparison": table, "best": pd.DataFrame(rows).reindex(columns=tables.BEST)}
    made["comparison_readable"] = tables.comparison_readable(table, letters)
    made["pairs"] = pd.concat([pd.DataFrame(), *pairs.values()], ignore_index=True)
    made["off_the_shelf"] = tables.off_the_shelf(study, dataset)
    made["goals"] = goals(table, dataset)
    made["claims"] = claims(study, dataset, *drawn)
    return made


def _examined(study, comparison, dataset, members, drawn):
    """Subgroups, calibration and coverage of every system, and the labels."""
    made = {}
    for run, label in comparison[["run", "label"]].dropna().itertuples(index=False):
        predictions = study.predictions[run]
        faces = part(predictions, "test")
        resampled = draw(faces, study.splits.get(dataset), *drawn)
        found = {"subgroups": subgroups(faces, resampled)}
        found["gaps"] = gaps(found["subgroups"])
        found["fairness"] = fairness(faces)
        found["calibration"] = calibration.calibration(predictions)
        if "age" in tasks_of(faces):
            if {"age_q10", "age_q90"} <= set(faces):
                found["coverage"] = calibration.coverage(faces, resampled)
        for name, table in found.items():
            made.setdefault(name, []).append(table.assign(run=run, label=label))
    made = {name: pd.concat(parts, ignore_index=True) for name, parts in made.items()}
    labels = tables.labels_of(study, dataset)
    made["label_conflicts"] = noise.label_conflicts(labels)
    made["label_noise"] = noise.label_noise(labels, *drawn)
    if len(members) > 1:
        tested = [part(study.predictions[run], "test") for run in members]
        made["remaining"] = noise.remaining(tested, made["label_noise"])
    return made


def _near_duplicates(study, comparison, dataset, drawn):
    """Runs on the random split against their twins, and all runs on the clean test faces."""
    splits, made = study.splits.get(dataset), {}

    def add(name, run, effect, *arguments):
        rows = effect(*arguments, splits, *drawn)
        made.setdefault(name, []).append(rows.assign(run=run, label=study.label(run)))

    key = {r: (tables.system_of(told), told.get("seed")) for r, told in study.configs.items()}
    for run, told in study.configs.items():
        if (told.get("dataset"), told.get("split")) == (dataset, "random"):
            wanted = (tables.system_of(told | {"split": "group"}), told.get("seed"))
            for twin in [other for other, found in key.items() if found == wanted][:1]:
                both = study.predictions[twin], study.predictions[run]
                add("random_split", run, random_split.split_effect, *both)
            if splits is not None:
                effect = random_split.near_duplicates_effect
                add("near_duplicates", run, effect, study.predictions[run])
    for run in comparison["run"].dropna():
        if splits is not None and study.configs[run].get("split", "group") == "group":
            add("clean", run, random_split.clean_effect, study.predictions[run])
    return {name: pd.concat(parts, ignore_index=True) for name, parts in made.items()}


def write(report, folder):
    """Store a report below `folder`; returns the bytes of its tables and figures.

    ``tables/*.csv`` and ``figures/*.svg``, with captions, findings and what was left out as JSON,
    and ``results.csv`` with intervals.
    """
    folder, written = Path(folder), []
    for name, table in report.tables.items():
        written.append(folder / ("results.csv" if name == "results" else f"tables/{name}.csv"))
        with write_aside(written[-1]) as aside:
            table.to_csv(aside, index=False, float_format="%.6g", lineterminator="\n")
    captions = {}
    for name, figure in report.figures.items():
        written.append(folder / "figures" / f"{name}.svg")
        with write_aside(written[-1]) as aside:
            # No date in the file: the same study gives the same bytes.
            figure.savefig(aside, format="svg", metadata={"Date": None})
        captions[name] = {"title": figure.finding, "caption": figure.caption}
    write_json(folder / "figures" / "captions.json", captions)
    write_json(folder / "tables" / "findings.json", report.findings)
    write_json(folder / "tables" / "left_out.json", report.left_out)
    return sum(path.stat().st_size for path in written)
