# The run matrix: which notebook, with which parameters, makes which files.
#
#   ./run_all.sh smoke                                     the usual way
#   snakemake --cores all --config profile=cpu             the same, by hand
#   snakemake --profile profiles/slurm --config profile=gpu     on a cluster: docs/cluster.md
#
# Config: profile; backbones and seeds (comma-separated, instead of those of the profile); only
# (ablations) and most_minutes; force (train again); finished_only (make the report from what is
# there). All paths are relative, so a folder's name may hold braces.
import json
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
from utils import plan
from utils.datasets import is_there
from utils.report import study

PROFILE = plan.load_profile(str(config.get("profile", "smoke")))
OUT = f"reports/{PROFILE.name}"
STEPS = {step.name: step for step in study.planned(PROFILE, config)[0]}
# Other faces under the same names must not leave old pages.
DATA = {step.parameters.get("dataset") for step in STEPS.values()} - {None}
DATA = {name: is_there(name) for name in DATA}
TRAINED = [name for name in STEPS if not name.startswith(study.PAGES)]
GALLERY = [name for name in STEPS if name.startswith("05")]
BESIDE = "--beside-others" if PROFILE.parallel > 1 else ""


def ready(names):
    """The steps that a later one may count on."""
    if not config.get("finished_only"):
        return names
    return [name for name in names if Path(OUT, f"{name}.ipynb").exists()]


def needed(name):
    """Files that a step reads, beside its notebook."""
    if name.startswith("06"):
        return [f"{OUT}/study/results.csv", *(f"{OUT}/{one}.ipynb" for one in ready(GALLERY))]
    return [f"{OUT}/{one}.ipynb" for one in ready(TRAINED)] if name in GALLERY else []


def parameters_of(step):
    """Parameters as JSON; the gallery gets only runs that are there."""
    there = [STEPS[name].config.run for name in ready(TRAINED) if STEPS[name].config]
    runs = [run for run in step.parameters.get("runs", []) if run in there]
    changed = {"runs": runs} if "runs" in step.parameters else {}
    changed |= {"force": True} if step.config and config.get("force") else {}
    return json.dumps(step.parameters | changed)


rule all:
    input:
        expand("{out}/{step}.html", out=OUT, step=STEPS),


# The stages of a study. With finished_only a later one makes do with what an earlier one left.
rule trained:
    input:
        expand("{out}/{step}.html", out=OUT, step=TRAINED),


rule gallery:
    input:
        expand("{out}/{step}.html", out=OUT, step=GALLERY),


rule report:
    input:
        expand("{out}/{step}.html", out=OUT, step=[name for name in STEPS if name[:2] == "06"]),


rule collect:
    input:
        expand("{out}/{step}.ipynb", out=OUT, step=ready(TRAINED)),
    output:
        f"{OUT}/study/results.csv",
    shell:
        "{sys.executable:q} -m utils.report.gather {PROFILE.name} {OUT}/study"


# A rule for each step, so that they run in the order of the plan.
for number, (name, step) in enumerate(STEPS.items(), 1):

    rule:
        name:
            name
        priority: len(STEPS) - number
        input:
            notebook=f"notebooks/{step.notebook}.ipynb",
            needed=needed(name),
        output:
            ipynb=f"{OUT}/{name}.ipynb",
            html=f"{OUT}/{name}.html",
        params:
            parameters=parameters_of(step),
            data=DATA.get(step.parameters.get("dataset"), ""),
            label=step.label,
        threads: max(1, workflow.cores // PROFILE.parallel)
        group:
            None if step.config else f"small_{name[:2]}"
        resources:
            # For a cluster: three times the minutes of two cores, more at every retry, and a GPU.
            runtime=lambda wildcards, attempt, minutes=step.minutes: attempt * int(60 + 3 * minutes),
            gpu=int(bool(step.config and step.config.precision == "mixed_bfloat16")),
            # Not in params: another number of steps must not train anything again.
            place=f"step {number} of {len(STEPS)}",
        shell:
            "{sys.executable:q} -m utils.report.step {input.notebook:q} {OUT} {rule} {BESIDE}"
            " --label {params.label:q} --parameters {params.parameters:q}"
            " --place {resources.place:q}"
