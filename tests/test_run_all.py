"""./run_all.sh and the run matrix, on toy notebooks that only pretend to train."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from conftest import script
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from utils import plan
from utils.files import write_json
from utils.paths import ROOT
from utils.report import study
from utils.report.show import not_run
from utils.study import Study

# ---------------------------------------------------------------- what is chosen, what is left out


def test_without_faces_smoke_runs_and_two_lines_say_so(tmp_path):
    name, lines = study.choose(tmp_path)
    assert name == "smoke" and len(lines) == 2
    assert str(tmp_path) in lines[0] and "UTKFace" in lines[0] and "fetch" in lines[1]


def test_with_faces_the_machine_decides(real_data):
    assert study.choose(real_data, gpu=False) == ("cpu", [])
    assert study.choose(real_data, gpu=True) == ("gpu", [])


def test_steps_without_data_are_left_out(monkeypatch):
    monkeypatch.setattr(study, "is_there", lambda name: name != "wiki")
    steps, left_out = study.planned(plan.load_profile("cpu"), {})
    assert [name[:2] for name in left_out] == ["01", "04"]
    assert all("wiki is not in" in reason for reason in left_out.values())
    assert len(steps) + 2 == len(plan.steps(plan.load_profile("cpu")))


def test_without_tensorflow_only_the_maps_are_left_out(monkeypatch):
    monkeypatch.setattr(study.importlib.util, "find_spec", lambda name: None)
    steps, left_out = study.planned(plan.load_profile("smoke"), {})
    assert (
        list(left_out) == ["05_gradcam_gallery"] and "TensorFlow" in left_out["05_gradcam_gallery"]
    )
    assert steps[-1].name.startswith("06")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"backbones": "resnet"}, "backbone 'resnet' is unknown; expected one of .*resnet50"),
        (
            {"backbones": "vgg19"},
            "'vgg19' is unknown in profile smoke; expected one of mob.*, alex",
        ),
        ({"seeds": "one"}, "--seeds: expected whole numbers such as 1,2, saw 'one'"),
        ({"eda": "mnist"}, "data set 'mnist' is unknown; expected one of .*utkface"),
        ({"only": "hats"}, "ablation 'hats' is unknown; expected one of .*trainings"),
    ],
)
def test_unknown_names_are_refused_before_anything_starts(config, message):
    profile = plan.load_profile("smoke")
    profile = profile.model_copy(update={"eda": [config.pop("eda", "synthetic")]})
    with pytest.raises(ValueError, match=message) as caught:
        study.planned(profile, config)
    assert "\n" not in str(caught.value)


def test_ablations_are_chosen_by_name_and_minutes_and_published_ones_stay(monkeypatch, tmp_path):
    monkeypatch.setattr(study, "is_there", lambda name: True)
    profile = plan.load_profile("ablations")
    steps, left_out = study.planned(profile, {"only": "image_mode,flip_tta"})
    # Of seven runs, four are in reports/study.
    assert {step.config.image_mode for step in steps} == {"grey", "colour48"}
    assert set(left_out.values()) == {"published in reports/study"} and len(left_out) == 4
    assert not study.planned(profile, {"only": "image_mode", "most_minutes": "6"})[0]
    monkeypatch.setattr(study, "PUBLISHED", tmp_path)
    assert study.planned(profile, {})[0] == plan.steps(profile)
    trainings = plan.steps(profile.model_copy(update={"ablations": []}))
    assert study.planned(profile, {"only": "trainings"})[0] == trainings != []


def test_a_page_without_its_run_is_no_finished_training(tmp_path, work_dir, monkeypatch):
    # After FACES_WORK_DIR had changed, pages counted as trainings, and the gallery found no run.
    def nothing_to_do(*arguments, **settings):
        return SimpleNamespace(returncode=0, stdout="")

    monkeypatch.setattr(study, "_snakemake", nothing_to_do)
    profile, folder = plan.load_profile("smoke"), tmp_path / "smoke"
    steps = plan.steps(profile)
    folder.mkdir()
    for step in steps:
        for ending in ("html", "ipynb"):
            (folder / f"{step.name}.{ending}").touch()
    config, rest = {"force": False}, {step.name for step in steps[1:]}
    assert study._pending(steps, config, folder) == rest
    assert study._run(profile, steps, config, folder) == 0
    kept = {step.name for step in steps if not step.config}
    assert {path.stem for path in folder.iterdir()} == kept
    monkeypatch.setattr(study, "finished", lambda config: folder)
    assert not study._pending(steps, config, folder)


def test_what_a_study_lacks_is_listed_with_its_reason(tmp_path):
    steps = [step for step in plan.steps(plan.load_profile("smoke")) if step.config]
    write_json(tmp_path / "study/not_run.json", {"alexnet": "no time"})
    write_json(tmp_path / f"logs/{steps[0].name}.failed.ipynb", {})
    (tmp_path / f"logs/{steps[0].name}.log").write_text("one\nValueError: two\n")
    table = not_run(Study(configs={"a": steps[1].config.model_dump()}), tmp_path / "study", "smoke")
    reasons = table.set_index("run")["reason"]
    assert set(reasons.index) == {step.config.run for step in steps} - {steps[1].config.run}
    assert reasons[steps[0].config.run] == "ValueError: two"
    assert reasons.filter(like="alexnet").tolist() == ["no time"]
    assert reasons.filter(like="scratch").iloc[0].startswith("no finished run was found")


# ---------------------------------------------------------------- the run matrix, on toy notebooks

_TRAIN = """
from utils.files import write_json
from utils.paths import runs_dir
from utils.plan import RunConfig
{guard}
names = set(RunConfig.model_fields)
given = {{k: v for k, v in globals().items() if k in names}} | options | {own}
config = RunConfig(**given)
folder = runs_dir() / config.run
row = {{"run": config.run, "task": "age", "metric": "mae", "split": "test", "value": 1.0}}
write_json(folder / "config.json", config.model_dump())
for name in ("cost.json", "environment.json"):
    write_json(folder / name, {{}})
(folder / "history.csv").write_text("epoch\\n1\\n")
import pandas as pd
pd.DataFrame({{"image": ["a"], "split": ["test"]}}).to_parquet(folder / "predictions.parquet")
write_json(folder / "metrics.json", {{"rows": [row]}})
print("trained", folder.name)
"""
BROKEN = 'if backbone == "alexnet": raise ValueError("alexnet is broken on purpose")'
SLOW = "import time; runs_dir().mkdir(parents=True, exist_ok=True); time.sleep(600)"
_OWN = dict(zip(("03", "04"), ('{"protocol": "scratch"}', '{"protocol": "regress"}'), strict=True))
_OWN["02"] = '{"model": backbone}'


def _toy(step: plan.Step, guard: str):
    number = step.notebook[:2]
    code = "print(profile)"
    if number == "06":
        code = "print(open(study_dir + '/results.csv').read())"
    elif step.config:
        code = _TRAIN.format(guard=guard if number == "02" else "", own=_OWN[number])
    parameters = step.parameters | ({"force": False} if step.config else {})
    given = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(
        cells=[
            new_markdown_cell(f"# Toy {number}\n\nA notebook that only pretends."),
            new_code_cell(given, metadata={"tags": ["parameters"]}),
            new_code_cell(code),
        ],
        metadata={"kernelspec": kernel},
    )


def _toy_study(folder: Path, guard: str = "") -> dict:
    """Copy the tools to `folder`, with toy notebooks; the environment to run them in."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("utils", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore, dirs_exist_ok=True)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "notebooks").mkdir(exist_ok=True)
    for step in plan.steps(plan.load_profile("smoke")):
        path = folder / "notebooks" / f"{step.notebook}.ipynb"
        nbformat.write(_toy(step, guard), path)
    keep = {k: v for k, v in os.environ.items() if not k.startswith("FACES_")}
    return keep | {"FACES_WORK_DIR": str(folder / "work")}


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "utils.report.study", "smoke", *arguments]


def _study(folder: Path, environment: dict, *arguments: str):
    command = _command("--backbones", *arguments)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A toy study of one backbone, run once, in a folder whose name no tool may take apart."""
    folder = tmp_path_factory.mktemp('a {study} of [ä] at 100% isn\'t "odd"')
    environment = _toy_study(folder)
    return folder, environment, _study(folder, environment, "mobilenetv2")


def test_a_study_runs_and_says_where_the_report_is(finished):
    folder, _, first = finished
    assert first.returncode == 0, first.stdout + first.stderr
    assert re.search(r"^step 1 of 7: 01_dataset_eda", first.stdout, re.M)
    assert "step 7 of 7: 06_comparison_report" in first.stdout
    assert "reports/smoke/06_comparison_report.html" in first.stdout
    assert "mobilenetv2-finetune" in (folder / "reports/smoke/study/results.csv").read_text()
    index = (folder / "reports/index.html").read_text()
    pages = sorted(path.name for path in (folder / "reports/smoke").glob("*.html"))
    assert len(pages) == 7 and all(f'href="smoke/{page}"' in index for page in pages)
    assert not list((folder / "reports/smoke/logs").glob("*.failed.ipynb"))


def test_a_second_run_does_nothing_and_a_dry_run_lists_what_is_to_do(finished):
    folder, environment, _ = finished
    again = _study(folder, environment, "mobilenetv2")
    assert again.returncode == 0
    assert "7 steps, 7 already done" in again.stdout and "step 1 of" not in again.stdout
    listed = _study(folder, environment, "mobilenetv2,alexnet", "--dry-run")
    assert listed.returncode == 0
    assert re.search(r"done +02_finetune_backbone  \(MobileNetV2, full", listed.stdout)
    assert re.search(r"to do +02_finetune_backbone  \(AlexNet, full", listed.stdout)
    assert not list((folder / "reports/smoke").glob("*alexnet*"))
    # Other faces under the same names: no old page stands.
    with open(folder / "utils/datasets/drawing.py", "a") as drawing:
        drawing.write("# draws otherwise\n")
    listed = _study(folder, environment, "mobilenetv2", "--dry-run")
    assert re.search(r"to do +02_finetune_backbone  \(MobileNetV2, full", listed.stdout)


def test_one_failure_does_not_stop_the_others(tmp_path):
    environment = _toy_study(tmp_path, BROKEN)
    ended = _study(tmp_path, environment, "alexnet,mobilenetv2")
    assert ended.returncode == 1
    summary = ended.stdout[ended.stdout.index("\n\n") :]
    told = r"FAILED 02_synthetic-alexnet-finetune.*ValueError: alexnet is broken on purpose\n"
    log = re.search(told + r"  log: (\S+)", summary)[1]
    assert "alexnet is broken on purpose" in (tmp_path / log).read_text()
    assert (tmp_path / "reports/smoke/06_comparison_report.html").exists()
    assert "mobilenetv2" in (tmp_path / "reports/smoke/study/results.csv").read_text()
    # Mended, only the failed step and what reads it run again.
    _toy_study(tmp_path)
    for path in (tmp_path / "notebooks").glob("*.ipynb"):
        if not path.name.startswith("02"):
            os.utime(path, (1, 1))
    mended = _study(tmp_path, environment, "alexnet,mobilenetv2")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "alexnet" in (tmp_path / "reports/smoke/study/results.csv").read_text()


def test_one_signal_ends_all_and_a_second_command_says_who_is_at_work(tmp_path):
    environment = _toy_study(tmp_path, SLOW)
    command = _command("--backbones", "mobilenetv2")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as first:
        until = time.monotonic() + 300
        while not (tmp_path / "work/runs").exists() and time.monotonic() < until:
            time.sleep(0.2)
        below = psutil.Process(first.pid).children(recursive=True)
        assert len(below) >= 3  # Snakemake, the step, the kernel
        second = _study(tmp_path, environment, "mobilenetv2")
        assert second.returncode == 2
        assert f"process {first.pid} (./run_all.sh smoke --back" in second.stderr
        assert re.search(r", since \d{4}-.* is at work in reports.smoke; wait", second.stderr)
        with pytest.raises(ValueError, match=f"process {first.pid} .*at work in .*work"):
            study._hold(tmp_path / "work/.lock-study-smoke")  # as another checkout would
        started = time.monotonic()
        first.send_signal(signal.SIGTERM)
        told = first.communicate(timeout=30)[1]
    assert first.returncode == 143 and time.monotonic() - started < 10
    assert told.count("\n") == 2 and "Traceback" not in told
    assert "To go on: ./run_all.sh smoke --backbones mobilenetv2" in told
    gone, alive = psutil.wait_procs(below, timeout=5)
    assert not alive, alive


# ---------------------------------------------------------------- run_all.sh and publishing


def test_the_picture_of_the_mean_maps_is_small_and_only_where_there_are_maps(tmp_path):
    publish = script("reports/study/publish.py")
    assert publish.write_mean_maps(tmp_path) is None and not (tmp_path / "figures").exists()
    for name in ("explanations.csv", "explanations"):
        (tmp_path / name).symlink_to(ROOT / "reports/study" / name)
    path = publish.write_mean_maps(tmp_path)
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.mode == "P" and picture.width > 700
    assert path.stat().st_size <= publish.MOST_BYTES == 150_000


def _run_all(*arguments: str):
    values = {**os.environ, "VIRTUAL_ENV": sys.prefix}
    values["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{values['PATH']}"
    return subprocess.run(
        [str(ROOT / "run_all.sh"), *arguments], env=values, capture_output=True, text=True
    )


def test_help_names_every_verb_and_option_and_an_unknown_verb_is_an_error():
    shown, ended = _run_all("--help"), _run_all("smok")
    options = "--backbones --seeds --only --most-minutes --dry-run --force test demo bench lint"
    assert shown.returncode == 0
    assert not [word for word in (*plan.names(), *options.split()) if word not in shown.stdout]
    assert ended.returncode == 2 and "unknown command or profile 'smok'" in ended.stderr


def test_an_old_python_is_refused_with_the_way_out(tmp_path):
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.8.1"\nexit 1\n')
    old.chmod(0o755)
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (tmp_path / name).symlink_to(old)
    shutil.copy(ROOT / "run_all.sh", tmp_path)
    values = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    ended = subprocess.run(
        [str(tmp_path / "run_all.sh")], env=values, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "Python 3.11 or newer is needed; python3 here is Python 3.8.1" in ended.stderr


def test_a_machine_with_another_backend_and_its_packages_installs_nothing(tmp_path):
    # Without a network, and without TensorFlow, there is nothing that pip could do.
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text(
        '#!/bin/sh\necho "$*" >>calls\n[ "$2" = pip ] && exit 1\n'
        '[ -e lacking ] && [ "${2#import keras}" != "$2" ] && exit 1\nexit 0\n'
    )
    python.chmod(0o755)
    for name in ("run_all.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "profiles").mkdir()
    for name in ("smoke", "mine"):  # a reader's own profile is as good as ours
        (tmp_path / f"profiles/{name}.yaml").touch()
    values = {"PATH": f"{python.parent}:/usr/bin:/bin", "VIRTUAL_ENV": str(tmp_path)}
    command = [str(tmp_path / "run_all.sh"), "smoke"]

    def run(backend: str):
        own = values | {"KERAS_BACKEND": backend}
        return subprocess.run(command, env=own, capture_output=True, text=True)

    assert run("jax").returncode == 0
    calls = (tmp_path / "calls").read_text()
    assert "utils.report.study smoke" in calls and "pip" not in calls
    command[1] = "mine"
    assert run("jax").returncode == 0
    assert "utils.report.study mine" in (tmp_path / "calls").read_text()
    command[1] = "lint"  # needs more than a study
    assert run("jax").returncode == 2 and "pip" in (tmp_path / "calls").read_text()
    command[1] = "smoke"
    assert run("tensorflow").returncode == 2
    (tmp_path / "lacking").touch()
    ended = run("jax")
    assert ended.returncode == 2 and "without a network see docs/gpu.md" in ended.stderr


_QUICK = re.compile(r"tests/test_{([\w,]+)}.py")  # what runs on the lowest versions


def test_scripts_are_valid_bash_and_executable():
    for name in ("run_all.sh", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK)
        assert subprocess.run(["bash", "-n", str(ROOT / name)]).returncode == 0
    ci = (ROOT / ".ci/run").read_text()
    assert "./run_all.sh test" in ci and "--resolution lowest-direct" in ci
    assert "for platform in linux macos windows; do" in ci and "uv pip compile" in ci
    assert all(
        (ROOT / f"tests/test_{name}.py").is_file() for name in _QUICK.search(ci)[1].split(",")
    )


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setenv("FACES_WORK_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(study.os, "access", lambda *arguments: False)
    study._quiet_environment()
    assert Path.home().is_dir() and Path.home().is_relative_to(tmp_path / "cache")
