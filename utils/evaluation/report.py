"""Every table of a study, rebuilt from its committed files.

`build` computes, `utils.plots.study.draw` draws, `write` stores. A part that the runs do not allow
is left out and listed with the reason, never an error.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import yaml

from utils import plan
from utils.evaluation import ablations, calibration, conformal, pairwise, tables
from utils.evaluation.bootstrap import draw
from utils.evaluation.columns import AGE_INTERVAL, part, tasks_of
from utils.evaluation.cross_dataset import cross_dataset, cross_dataset_readable
from utils.evaluation.findings import advice, findings
from utils.evaluation.noise import label_conflicts, label_noise, suspects
from utils.evaluation.protocols import CORAL, coral, others_protocols
from utils.evaluation.random_split import clean_effect, near_duplicates_effect, split_effect
from utils.evaluation.references import claims, goals, references
from utils.evaluation.subgroups import AXES, fairness, gaps, subgroups
from utils.files import write_aside, write_json
from utils.vocabulary import TASKS

PAGES = yaml.safe_load(Path(__file__).with_name("pages.yaml").read_text(encoding="utf-8"))


@dataclass
class Report:
    """What `build` made: tables and figures by name, sentences, and what was left out."""

    folder: Path = Path()  # pages link to its tables, if they are stored there
    tables: dict = field(default_factory=dict)
    figures: dict = field(default_factory=dict)
    findings: dict = field(default_factory=dict)
    advice: dict = field(default_factory=dict)  # which network to use, by data set
    left_out: list = field(default_factory=list)


def build(study, resamples=2000, seed=129, progress=None, profile="ablations"):
    """Compute all tables of a `Study`; `resamples` and `seed` are for all bootstrap intervals.

    `progress`, if given, is called with a line of text before each part; `profile` says which
    ablations there are, and which networks the ensemble averages.
    """
    say, drawn = progress or str, (resamples, seed)
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
    say("seeds, other data sets")
    made |= _across(every, scored, drawn)
    for dataset in dict.fromkeys(scored["dataset"]):
        say(f"{dataset}: comparison and pairs")
        table, members = _systems(study, every, scored, dataset, listed, drawn)
        of_set = _compared(study, table, listed.primary | {"dataset": dataset}, drawn)
        say(f"{dataset}: for whom, calibration, labels, near-duplicates")
        of_set |= _examined(study, of_set["comparison"], dataset, members, drawn)
        of_set |= _near_duplicates(study, of_set["comparison"], dataset, drawn)
        if dataset == listed.settings.get("dataset"):
            say("ablations")
            told, missing = ablations.ablations(every, listed, members, *drawn)
            of_set["ablations"], report.left_out = told, report.left_out + missing
            of_set["ablations_readable"] = ablations.readable(told)
        report.findings[dataset] = findings(of_set, dataset, _abroad(every, made, dataset))
        report.advice[dataset] = advice(of_set["comparison"], of_set["pairs"])
        made |= {f"{dataset}_{name}": table for name, table in (of_set | _pages(of_set)).items()}
    report.left_out += [(name, "no run allows it") for name, table in made.items() if table.empty]
    report.tables = {name: table for name, table in made.items() if not table.empty}
    return report


def _across(study, scored, drawn):
    """Repeats of one system with other seeds, and networks on the data sets of others."""
    seeds, elsewhere = tables.seeds_table(scored), cross_dataset(study, *drawn)
    of_set = {f"{d}_seeds_readable": tables.seeds_readable(t) for d, t in seeds.groupby("dataset")}
    page = cross_dataset_readable(elsewhere)
    return {"seeds": seeds, "cross_dataset": elsewhere, "cross_dataset_readable": page} | of_set


def _abroad(study, made, dataset):
    """Rows on other data sets of all runs trained on one."""
    runs = [run for run, told in study.configs.items() if told["dataset"] == dataset]
    return made["cross_dataset"][made["cross_dataset"]["run"].isin(runs)]


def _systems(study, every, scored, dataset, listed, drawn):
    """The comparison of a data set with its two ensembles, and the members of the first."""
    table = tables.comparison(study, scored, dataset, *drawn)
    members = ablations.ensemble_members(table, listed.ensemble)
    for runs in (members, ablations.wide_members(every, listed.wide_ensemble, dataset)):
        table = ablations.with_ensemble(table, every, runs, dataset, *drawn)
    return table, members


def _pages(of_set):
    """Tables as text; those with a row for each network only of the best one of a task."""
    chosen, pages = of_set["best"].set_index("task")["run"], {}
    for name in (name for name in PAGES if name in of_set):
        table = of_set[name]
        if name == "clean" and len(table):  # the largest changes
            table = table.loc[table["difference"].abs().groupby(table["task"]).idxmax()]
        elif name in ("gaps", "fairness", "sets", "others") and len(table):
            own = table["run"] == table["task"].map(chosen)
            table = table[own | (table["protocol"] == CORAL)] if name == "others" else table[own]
            table = table[table["by"].isin(AXES)] if "by" in table else table
            table = table[table["metric"] != "bias"] if name == "gaps" else table
        pages[f"{name}_readable"] = tables.readable(table, PAGES[name])
    shown = tables.networks(of_set["comparison"])["label"]
    shown = shown[shown.isin(of_set["main_readable"]["model"])].head(4)
    pages["calibration_readable"] = tables.calibration_readable(of_set["calibration"], shown)
    return pages | {"groups_readable": tables.groups_readable(of_set["subgroups"], shown)}


def _compared(study, table, family, drawn):
    """Best networks, pairs (also the declared), goals and claims beside the comparison `table`."""
    dataset = family["dataset"]
    runs = tables.run_table(study).query("run in @study.predictions").groupby("system")["run"]
    systems = {run: list(runs.get_group(run)) for run in sorted(table["run"].dropna())}
    held = {run: study.predictions[run] for some in systems.values() for run in some}
    splits = study.splits.get(dataset)
    pairs = [pairwise.compare(held, task, splits, *drawn, systems) for task in TASKS]
    declared = [run for runs in pairwise.family(study, family).values() for run in runs]
    primary = pairwise.primary(study, family, splits, *drawn)

    def readable(rows):
        found = {one["task"][0]: pairwise.letters(one, rows["run"]) for one in pairs if len(one)}
        return tables.comparison_readable(rows, found)

    return {
        "comparison": table,
        "best": pd.DataFrame(tables.best_rows(table)).reindex(columns=tables.BEST),
        "comparison_readable": readable(table),
        "main_readable": readable(tables.main_rows(table, declared)),
        "primary": primary,
        "primary_readable": tables.primary_readable(primary),
        "pairs": pd.concat(pairs, ignore_index=True),
        "off_the_shelf": tables.off_the_shelf(study, dataset),
        "goals": goals(table, dataset),
        "claims": claims(study, dataset, *drawn),
    }


def _examined(study, comparison, dataset, members, drawn):
    """Subgroups, calibration and coverage of every system, and the labels."""
    found = []
    for run in comparison["run"].dropna():
        predictions = study.predictions[run]
        faces = part(predictions, "test")
        resampled = draw(faces, study.splits.get(dataset), *drawn)
        by_group = subgroups(faces, resampled)
        found += [("subgroups", run, by_group), ("gaps", run, gaps(by_group))]
        found.append(("fairness", run, fairness(faces)))
        found.append(("calibration", run, calibration.calibration(predictions)))
        found.append(("others", run, others_protocols(predictions, resampled)))
        if "age" in tasks_of(faces) and set(AGE_INTERVAL) <= set(faces):
            found.append(("coverage", run, conformal.coverage(predictions, resampled)))
        if (predictions["split"] == "val").any():
            found.append(("sets", run, conformal.sets(predictions, resampled)))
            if run in members:
                adjusted = calibration.logit_adjusted(predictions, resampled)
                found.append(("logit_adjustment", run, adjusted))
    for run, told in study.configs.items():
        if (told["dataset"], told.get("split")) == (dataset, "coral"):
            faces = part(study.predictions[run], "test")
            resampled = draw(faces, study.splits.get(dataset), *drawn)
            found.append(("others", run, coral(faces, resampled)))
    made, labels = _joined(study, found), tables.labels_of(study, dataset)
    made["label_conflicts"] = label_conflicts(labels)
    made["label_noise"] = label_noise(labels, *drawn)
    if len(members) > 1:
        held = [study.predictions[run] for run in members]
        made["label_suspects"] = suspects([one[one["split"] != "train"] for one in held])
    return made


def _near_duplicates(study, comparison, dataset, drawn):
    """Runs on the random split against their twins, and older runs on the clean test faces.

    Older ones have more training faces than the split: those that copy an evaluation face, too.
    """
    held, splits, found = study.predictions, study.splits.get(dataset), []
    every = reversed(study.configs.items())  # of several twins the first counts
    key = {(tables.system_of(told), told.get("seed")): run for run, told in every}
    for run, told in study.configs.items():
        if (told.get("dataset"), told.get("split")) == (dataset, "random"):
            twin = key.get((tables.system_of(told | {"split": "group"}), told.get("seed")))
            if twin:
                rows = split_effect(held[twin], held[run], splits, *drawn)
                found.append(("random_split", run, rows))
            if splits is not None:
                rows = near_duplicates_effect(held[run], splits, *drawn)
                found.append(("near_duplicates", run, rows))
    for run in comparison["run"].dropna() if "split" in getattr(splits, "columns", ()) else ():
        told, trained = study.configs[run], (splits["split"] == "train").sum()
        if told.get("split", "group") == "group" and (told.get("n_train") or 0) > trained:
            found.append(("clean", run, clean_effect(held[run], splits, *drawn)))
    made = _joined(study, found)
    return made | {name: t.assign(p_holm=pairwise.holm(t["p"])) for name, t in made.items()}


def _joined(study, found):
    """One table a name from (name, run, rows), with the run and its label."""
    made = {}
    for name, run, rows in found:
        made.setdefault(name, []).append(rows.assign(run=run, label=study.label(run)))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in made.items()}


def write(report, folder):
    """Store tables (CSV), figures (SVG) and texts (JSON) below `folder`; returns the bytes."""
    folder, size = Path(folder), 0
    for name, table in report.tables.items():
        path = folder / ("results.csv" if name == "results" else f"tables/{name}.csv")
        with write_aside(path) as aside:
            table.to_csv(aside, index=False, float_format="%.6g", lineterminator="\n")
            size += aside.stat().st_size
    for name, figure in report.figures.items():
        with write_aside(folder / "figures" / f"{name}.svg") as aside:
            # No date in the file: the same study gives the same bytes.
            figure.savefig(aside, format="svg", metadata={"Date": None})
            size += aside.stat().st_size
    write_json(folder / "tables" / "findings.json", report.findings)
    return size
