# The run matrix: which notebook, with which parameters, makes which files.
#
#   ./run_all.sh smoke                                     the usual way
#   snakemake --cores all --config profile=cpu             the same, by hand
#   snakemake --executor slurm --jobs 8 --config profile=gpu    on a cluster (with its plug-in)
#
# Config: profile; backbones and seeds (comma-separated, instead of those of the profile);
# force (train again); finished_only (make the report from what is there).
import json
import sys

sys.path.insert(0, workflow.basedir)
from utils import profiles
from utils.report import study

NOTEBOOKS = f"{workflow.basedir}/notebooks"
PROFILE = profiles.load_profile(str(config.get("profile", "smoke")))
OUT = f"reports/{PROFILE.name}"
STEPS = {step.name: step for step in study.steps_of(PROFILE, config)}
TRAINED = [name for name in STEPS if not study.is_page(name)]
FORCE = "--force" if config.get("force") else ""
BESIDE = "--beside-others" if PROFILE.parallel > 1 else ""
READY = study.ready(STEPS, TRAINED, OUT) if config.get("finished_only") else TRAINED


GALLERY = [name for name in STEPS if name.startswith("05")]
READ = study.ready(STEPS, GALLERY, OUT) if config.get("finished_only") else GALLERY


def needed(name):
    """Files that a step reads, beside its notebook."""
    if name.startswith("06"):
        return [f"{OUT}/study/results.csv", *(f"{OUT}/{one}.ipynb" for one in READ)]
    return [f"{OUT}/{one}.ipynb" for one in READY] if name in GALLERY else []


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
        f"{OUT}/06_comparison_report.html",


rule collect:
    input:
        expand("{out}/{step}.ipynb", out=OUT, step=READY),
    output:
        f"{OUT}/study/results.csv",
    shell:
        "{sys.executable:q} -m utils.report.collect {PROFILE.name} {OUT}/study"


# A rule for each step, so that they run in the order of the plan.
for number, (name, step) in enumerate(STEPS.items()):

    rule:
        name:
            name
        priority: len(STEPS) - number
        input:
            notebook=f"{NOTEBOOKS}/{step.notebook}.ipynb",
            needed=needed(name),
        output:
            ipynb=f"{OUT}/{name}.ipynb",
            html=f"{OUT}/{name}.html",
        params:
            parameters=json.dumps(study.parameters_of(step, STEPS, READY)),
            label=step.label,
            name=name,
        threads: max(1, workflow.cores // PROFILE.parallel)
        shell:
            "{sys.executable:q} -m utils.report.step {input.notebook:q} {OUT} {params.name}"
            " --label {params.label:q} --parameters {params.parameters:q} {FORCE} {BESIDE}"
