# The run matrix: which notebook, with which parameters, makes which files.
#
#   ./run_all.sh smoke                                     the usual way
#   snakemake --cores all --config profile=cpu             the same, by hand
#   snakemake --executor slurm --jobs 8 --config profile=gpu    on a cluster (with its plug-in)
#
# Config: profile; backbones and seeds (comma-separated, instead of those of the profile);
# force (train again); finished_only (make the report from what is there).
import json
import re
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
READY = study.ready(STEPS, TRAINED, OUT) if config.get("finished_only") else TRAINED


def parameters(wildcards):
    return json.dumps(study.parameters_of(STEPS[wildcards.step], STEPS, READY))


def needed(wildcards):
    if wildcards.step.startswith("06"):
        return f"{OUT}/study/results.csv"
    return expand("{out}/{step}.ipynb", out=OUT, step=READY) if study.is_page(wildcards.step) else []


rule all:
    input:
        expand("{out}/{step}.html", out=OUT, step=STEPS),


rule trained:
    input:
        expand("{out}/{step}.html", out=OUT, step=TRAINED),


# With finished_only: of those that failed, nothing is tried again.
rule pages:
    input:
        expand("{out}/{step}.html", out=OUT, step=[name for name in STEPS if name not in TRAINED]),


rule collect:
    input:
        expand("{out}/{step}.ipynb", out=OUT, step=READY),
    output:
        f"{OUT}/study/results.csv",
    shell:
        "{sys.executable:q} -m utils.report.collect {PROFILE.name} {OUT}/study"


rule notebook:
    wildcard_constraints:
        step="|".join(map(re.escape, STEPS)),
    input:
        notebook=lambda wildcards: f"{NOTEBOOKS}/{STEPS[wildcards.step].notebook}.ipynb",
        needed=needed,
    output:
        ipynb=f"{OUT}/{{step}}.ipynb",
        html=f"{OUT}/{{step}}.html",
    params:
        parameters=parameters,
        label=lambda wildcards: STEPS[wildcards.step].label,
    threads: workflow.cores
    shell:
        "{sys.executable:q} -m utils.report.step {input.notebook:q} {OUT} {wildcards.step}"
        " --label {params.label:q} --parameters {params.parameters:q} {FORCE}"
