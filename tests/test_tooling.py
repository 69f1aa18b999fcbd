"""Profiles, the run matrix, run_all.sh and the lists of dependencies."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from utils import profiles
from utils.paths import ROOT
from utils.report import study
from utils.report.step import Journal, check_parameters

NAMES = ("smoke", "cpu", "gpu", "paper")


# ---------------------------------------------------------------- profiles


def _edited(tmp_path, **changes):
    content = yaml.safe_load((profiles.FOLDER / "smoke.yaml").read_text())
    for key, value in changes.items():
        content[key] = value
        if value is None:
            del content[key]
    path = tmp_path / "edited.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_profiles_are_valid_and_steps_unique(name):
    profile = profiles.load_profile(name)
    assert profile.name == name
    steps = [step.name for step in profiles.plan(profile)]
    assert len(steps) == len(set(steps))
    assert steps[-1] == "06_comparison_report"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "imagnet"}, "'imagnet' is unknown; expected one of"),
        ({"seeds": "129"}, "seeds: expected a list, saw '129'"),
        ({"seeds": ["129"]}, "seeds: expected int, saw '129'"),
        ({"limit": True}, "limit: expected int, saw True"),
        ({"limit": -1}, "limit: saw -1, expected at least 0"),
        ({"epochs": 3}, "unknown key 'epochs'"),
        ({"tasks": None}, "the key 'tasks' is missing"),
        ({"tasks": ["height"]}, "'height' is unknown"),
        ({"scratch": {"dataset": "mnist", "input_size": 64, "epochs": 1}}, "'mnist' is unknown"),
        ({"gallery": {"protocol": "partial", "n": 3}}, "gallery: protocol"),
        ({"comparison": [1]}, "comparison: expected keys and values"),
    ],
)
def test_a_wrong_profile_gets_one_clear_error(tmp_path, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        profiles.load_profile(_edited(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_unknown_profile_and_backbone_name_the_known_ones():
    with pytest.raises(ValueError, match="'tpu' is unknown; expected one of .*smoke"):
        profiles.load_profile("tpu")
    with pytest.raises(ValueError, match="'resnet' is unknown; expected one of .*resnet50"):
        profiles.plan(profiles.load_profile("smoke"), ("resnet",))


def test_broken_yaml_is_named(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("name: [smoke\n")
    with pytest.raises(ValueError, match="broken.yaml is not valid YAML"):
        profiles.load_profile(path)


def test_overrides_reach_the_backbone():
    steps = profiles.plan(profiles.load_profile("cpu"))
    sizes = {
        step.parameters["backbone"]: step.parameters["input_size"]
        for step in steps
        if step.parameters.get("protocol") == "finetune"
    }
    assert sizes == {"alexnet": 224, "vgg19": 96, "mobilenetv2": 128, "resnet50": 96}


def test_paper_has_a_run_for_each_network_and_task():
    steps = profiles.plan(profiles.load_profile("paper"))
    runs = [step.parameters for step in steps if step.notebook.startswith("02")]
    assert len(runs) == 12
    assert {run["split"] for run in runs} == {"naive"}
    phases = next(s.parameters["phases"] for s in steps if s.notebook.startswith("03"))
    assert sum(phase["epochs"] for phase in phases) == 44


def test_seeds_and_backbones_replace_those_of_the_profile():
    steps = profiles.plan(profiles.load_profile("cpu"), ("resnet50",), (1, 2))
    runs = [step.run for step in steps if step.notebook.startswith("02")]
    assert runs == [
        f"utkface-resnet50-{way}-seed{seed}"
        for seed in (1, 2)
        for way in ("head-224", "partial-96", "finetune-96")
    ]


@pytest.mark.parametrize("name", NAMES)
def test_run_names_are_those_of_the_training_code(name):
    config = pytest.importorskip("utils.training.config")
    known = set(config.RunConfig.__dataclass_fields__)
    ways = {"03_scratch_cnn": "scratch", "04_wiki_age_regressor": "regress"}
    for step in profiles.plan(profiles.load_profile(name)):
        if step.run:
            values = {key: value for key, value in step.parameters.items() if key in known}
            values.setdefault("protocol", ways.get(step.notebook))
            if "backbone" in step.parameters:
                values["model"] = step.parameters["backbone"]
            assert config.RunConfig(**values).run == step.run


def test_backbones_data_sets_and_tasks_are_those_of_the_package():
    registry = pytest.importorskip("utils.backbones.registry")
    networks = pytest.importorskip("utils.backbones.networks")
    datasets = pytest.importorskip("utils.datasets")
    assert set(profiles.BACKBONES) == set(registry.BACKBONES)
    assert set(profiles.DATASETS) == set(datasets.LOADERS)
    assert set(profiles.TASKS) == set(networks.TASKS)


# ---------------------------------------------------------------- choice of the profile


def test_without_faces_smoke_runs_and_two_lines_say_so(tmp_path):
    name, lines = profiles.choose(tmp_path)
    assert name == "smoke" and len(lines) == 2
    assert str(tmp_path) in lines[0] and "UTKFace" in lines[0]
    assert "fetch" in lines[1]


@pytest.mark.parametrize("entry", ["UTKFace/", "utkface.zip", "UTKFace.tar.gz"])
def test_with_faces_the_machine_decides(tmp_path, entry):
    path = tmp_path / entry
    path.mkdir() if entry.endswith("/") else path.touch()
    assert profiles.choose(tmp_path, gpu=False) == ("cpu", [])
    assert profiles.choose(tmp_path, gpu=True) == ("gpu", [])
    assert profiles.missing_datasets(profiles.load_profile("cpu"), tmp_path) == ["wiki"]


def test_steps_without_data_are_left_out():
    steps = profiles.plan(profiles.load_profile("cpu"))
    kept, lost = profiles.without(steps, ["wiki"])
    assert [step.notebook[:2] for step in lost] == ["01", "04"]
    assert len(kept) + len(lost) == len(steps)


# ---------------------------------------------------------------- the run matrix, on toy notebooks

_RUN = """
import json
from pathlib import Path
from utils.paths import runs_dir
from utils import profiles
{guard}
folder = runs_dir() / {run}
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.json").write_text(json.dumps({{"profile": profile, "seed": seed}}))
for name in ("cost.json", "environment.json"):
    (folder / name).write_text("{{}}")
(folder / "history.csv").write_text("epoch\\n1\\n")
(folder / "predictions.parquet").write_bytes(b"")
(folder / "metrics.json").write_text(json.dumps({{"rows": [{{"run": folder.name,
    "task": "age", "metric": "mae", "split": "test", "value": 1.0}}]}}))
print("trained", folder.name)
"""
_BREAK = 'if backbone == "vgg19": raise ValueError("vgg19 is broken on purpose")'


def _toy(number: str, parameters: dict, code: str):
    given = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    return new_notebook(
        cells=[
            new_markdown_cell(f"# Toy {number}\n\nA notebook that only pretends."),
            new_code_cell(given, metadata={"tags": ["parameters"]}),
            new_code_cell(code),
        ],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )


def _toy_code(step: profiles.Step, broken: bool) -> str:
    if step.notebook.startswith("06"):
        return "print(open(study_dir + '/results.csv').read())"
    if not step.run:
        return "print(profile)"
    model, way = {"03": ("scratch_cnn", "scratch"), "04": ("wiki_cnn", "regress")}.get(
        step.notebook[:2], (None, None)
    )
    given = f"{{**globals(), 'protocol': {way!r} or protocol}}"
    name = f"profiles.run_name({model!r} or backbone, {given})"
    return _RUN.format(guard=_BREAK if broken and model is None else "", run=name)


def _toy_study(folder: Path, broken: bool = False) -> dict:
    """Copy the tools to `folder`, with toy notebooks; the environment to run them in."""
    for name in ("utils", "profiles"):
        shutil.copytree(
            ROOT / name,
            folder / name,
            ignore=shutil.ignore_patterns("__pycache__"),
            dirs_exist_ok=True,
        )
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "notebooks").mkdir(exist_ok=True)
    for step in profiles.plan(profiles.load_profile("smoke")):
        notebook = _toy(step.notebook, step.parameters, _toy_code(step, broken))
        nbformat.write(notebook, folder / "notebooks" / f"{step.notebook}.ipynb")
    keep = {k: v for k, v in os.environ.items() if not k.startswith("FACES_")}
    return keep | {"FACES_WORK_DIR": str(folder / "work"), "PYTHONPATH": str(folder)}


def _study(folder: Path, environment: dict, *arguments: str):
    command = [sys.executable, "-m", "utils.report.study", "smoke", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A toy study of one backbone, run once."""
    folder = tmp_path_factory.mktemp("study")
    environment = _toy_study(folder)
    first = _study(folder, environment, "--backbones", "mobilenetv2")
    return folder, environment, first


def test_a_study_runs_and_says_where_the_report_is(finished):
    folder, _, first = finished
    assert first.returncode == 0, first.stdout + first.stderr
    # Two steps run side by side: either may be the first, each on a line of its own.
    assert re.search(r"^step [12] of 7: 01_dataset_eda", first.stdout, re.M)
    assert "step 7 of 7: 06_comparison_report" in first.stdout
    assert "reports/smoke/06_comparison_report.html" in first.stdout
    assert "mobilenetv2-finetune" in (folder / "reports/smoke/study/results.csv").read_text()
    index = (folder / "reports/index.html").read_text()
    pages = sorted(path.name for path in (folder / "reports/smoke").glob("*.html"))
    assert len(pages) == 7 and all(f'href="smoke/{page}"' in index for page in pages)


def test_a_second_run_does_nothing(finished):
    folder, environment, _ = finished
    again = _study(folder, environment, "--backbones", "mobilenetv2")
    assert again.returncode == 0
    assert "7 steps, 7 already done" in again.stdout and "step 1 of" not in again.stdout


def test_dry_run_lists_what_is_to_do(finished):
    folder, environment, _ = finished
    listed = _study(folder, environment, "--backbones", "mobilenetv2,resnet50", "--dry-run")
    assert listed.returncode == 0
    lines = listed.stdout.splitlines()
    assert [line.split()[1] for line in lines if "mobilenetv2, head" in line] == ["done"]
    assert [line.split()[1] for line in lines if "resnet50, head" in line] == ["to"]
    assert not list((folder / "reports/smoke").glob("*resnet50*"))


def test_one_failure_does_not_stop_the_others(tmp_path):
    environment = _toy_study(tmp_path, broken=True)
    ended = _study(tmp_path, environment, "--backbones", "vgg19,mobilenetv2")
    assert ended.returncode == 1
    assert "vgg19 is broken on purpose" in ended.stdout
    summary = ended.stdout[ended.stdout.index("\n\n") :]
    log = re.search(r"FAILED 02_synthetic-vgg19-head.*\n  log: (\S+)", summary)[1]
    assert "vgg19 is broken on purpose" in (tmp_path / log).read_text()
    assert (tmp_path / "reports/smoke/06_comparison_report.html").exists()
    assert "mobilenetv2" in (tmp_path / "reports/smoke/study/results.csv").read_text()
    # Mended, only the failed step and what reads it run again.
    _toy_study(tmp_path)
    for path in (tmp_path / "notebooks").glob("*.ipynb"):
        if not path.name.startswith("02"):
            os.utime(path, (1, 1))
    mended = _study(tmp_path, environment, "--backbones", "vgg19,mobilenetv2")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "vgg19" in (tmp_path / "reports/smoke/study/results.csv").read_text()


def test_unknown_backbone_on_the_command_line(tmp_path):
    environment = _toy_study(tmp_path)
    ended = _study(tmp_path, environment, "--backbones", "resnet")
    assert ended.returncode == 2
    assert ended.stderr.strip().startswith("error: --backbones: 'resnet' is unknown")
    ended = _study(tmp_path, environment, "--seeds", "one")
    assert "expected whole numbers such as 1,2, saw 'one'" in ended.stderr


def test_a_parameter_that_the_notebook_lacks_is_an_error(tmp_path):
    path = tmp_path / "toy.ipynb"
    nbformat.write(_toy("00", {"epochs": 1}, ""), path)
    with pytest.raises(ValueError, match="toy.ipynb has no parameter seed; it has: epochs"):
        check_parameters(path, {"epochs": 2, "seed": 3})


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setenv("FACES_WORK_DIR", str(tmp_path))
    monkeypatch.setattr(study, "_writable", lambda folder: False)
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "IPYTHONDIR"):
        monkeypatch.delenv(name, raising=False)
    environment = study._environment()
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "IPYTHONDIR"):
        assert environment[name].startswith(str(tmp_path)) and Path(environment[name]).is_dir()


def test_journal_counts_steps(tmp_path):
    journal = Journal(tmp_path)
    assert journal.begin("a") == "step"
    journal.start(total=5, done=2)
    assert journal.begin("a") == "step 3 of 5"
    journal.add(step="a", ok=False)
    assert journal.begin("b") == "step 4 of 5" and len(journal.entries()) == 1


def test_steps_side_by_side_have_numbers_of_their_own(tmp_path):
    journal = Journal(tmp_path)
    journal.start(total=3, done=0)
    assert [journal.begin("a"), journal.begin("b")] == ["step 1 of 3", "step 2 of 3"]


# ---------------------------------------------------------------- run_all.sh


def _run_all(*arguments: str, **environment: str):
    values = {**os.environ, "VIRTUAL_ENV": sys.prefix, **environment}
    values["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{values['PATH']}"
    return subprocess.run(
        [str(ROOT / "run_all.sh"), *arguments], env=values, capture_output=True, text=True
    )


def test_help_names_every_verb_and_option():
    shown = _run_all("--help")
    assert shown.returncode == 0
    for word in (*NAMES, "test", "demo", "bench", "--backbones", "--seeds", "--dry-run", "--force"):
        assert word in shown.stdout


def test_unknown_verb_is_an_error():
    ended = _run_all("smok")
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
        [str(tmp_path / "run_all.sh"), "smoke"], env=values, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "Python 3.11 or newer is needed; python3 here is Python 3.8.1" in ended.stderr


def test_scripts_are_valid_bash_and_executable():
    for name in ("run_all.sh", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK)
        assert subprocess.run(["bash", "-n", str(ROOT / name)]).returncode == 0
    assert "./run_all.sh test" in (ROOT / ".ci/run").read_text()


# ---------------------------------------------------------------- dependencies


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_yml_says_what_pyproject_says():
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    project = _project()
    plain = [entry for entry in content["dependencies"] if isinstance(entry, str)]
    pip = next(entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict))
    assert content["name"] == project["name"]
    assert plain == ["python" + project["requires-python"], "pip"]
    assert pip == ["-e .[test]"]


def test_every_dependency_has_a_bound_and_a_reason():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    start = lines.index("dependencies = [")
    end = lines.index("]", start)
    for line in lines[start + 1 : end]:
        assert re.match(r'    "[\w-]+>=[\d.]+",\s+# \w', line), line


def _pinned() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [
        line.split(";")[0].strip().split("==") for line in lines if re.match(r"[\w.-]+==", line)
    ]
    return {name.lower(): version for name, version in pins}


def test_the_lock_file_holds_every_dependency_and_no_host():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text and "--index" not in text and "file:" not in text
    pinned, project = _pinned(), _project()
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    for line in wanted + project["optional-dependencies"]["demo"]:
        name, _, bound = line.partition(">=")
        if name.startswith(project["name"]):
            continue
        assert name.lower() in pinned, f"{name}: run the command at the head of requirements.lock"
        assert _version(pinned[name.lower()]) >= _version(bound), line


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def test_every_import_is_a_declared_dependency():
    project = _project()
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    lines = project["dependencies"] + extras
    declared = {re.split(r"[>=\[]", line)[0].lower().replace("-", "_") for line in lines}
    other = {
        "pil": "pillow",
        "sklearn": "scikit_learn",
        "yaml": "pyyaml",
        "bs4": "beautifulsoup4",
        "tf_keras_vis": "tf_keras_vis",
        "ipython": "ipykernel",
        "jinja2": "nbconvert",
        "pygments": "nbconvert",
        "mpl_toolkits": "matplotlib",
        "h5py": "keras",
        "torch": "keras",
    }
    for path in (ROOT / "utils").rglob("*.py"):
        for name in _imports(path) - set(sys.stdlib_module_names) - {"utils"}:
            wanted = other.get(name.lower(), name.lower())
            assert wanted in declared, f"{path.relative_to(ROOT)} imports {name}"


def test_pre_commit_runs_ruff_and_nbstripout():
    content = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"] for repo in content["repos"] for hook in repo["hooks"]}
    assert {"ruff-check", "ruff-format", "nbstripout"} <= hooks


def test_no_file_of_the_tools_names_a_machine():
    for name in ("run_all.sh", "Snakefile", "pyproject.toml", "environment.yml", ".ci/run"):
        assert not re.search(r"(?<![\w.])/(root|home|work)/", (ROOT / name).read_text()), name


def test_plan_is_json(tmp_path):
    for step in profiles.plan(profiles.load_profile("paper")):
        json.dumps(step.parameters)


def test_one_core_gets_two_tensorflow_threads():
    # With one, a training hung between two epochs: the waiting thread kept the working one out.
    script = "import os, utils; print(os.environ['TF_NUM_INTEROP_THREADS'])"
    found = {k: v for k, v in os.environ.items() if k != "TF_NUM_INTEROP_THREADS"}
    for given, wanted in (({}, max(2, os.cpu_count())), ({"TF_NUM_INTEROP_THREADS": "3"}, 3)):
        ended = subprocess.run(
            [sys.executable, "-c", script], env=found | given, cwd=ROOT, capture_output=True
        )
        assert int(ended.stdout) == wanted
