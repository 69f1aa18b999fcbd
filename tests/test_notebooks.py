"""Every notebook has the same skeleton, and all of them run, and learn, on drawn faces."""

import ast
import os
import re
import shutil
import statistics
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from papermill import inspect_notebook

from utils import plan
from utils.evaluation.metrics import baseline
from utils.files import read_json
from utils.paths import ROOT
from utils.vocabulary import HEADLINE, LOWER_IS_BETTER

FOLDER = ROOT / "notebooks"
NAMES = (
    *("01_dataset_eda", "02_finetune_backbone", "03_scratch_cnn"),
    *("04_wiki_age_regressor", "05_gradcam_gallery", "06_comparison_report"),
)
TRAININGS = NAMES[1:4]
LONGEST_CELL, LONGEST_SET_UP = 25, 7  # lines; of code
PARAMETER = re.compile(r"^[a-z_]+: (int|float|str|bool|list|dict)(\[.+\])? = \S.*  # \S.*$")


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def prose_of(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def test_badges_lead_to_this_project():
    texts = [path.read_text() for path in [ROOT / "README.md", *FOLDER.glob("*.ipynb")]]
    badge = r"colab.research.google.com/github/([\w.-]+/[\w.-]+)/blob/main/notebooks/(\w+)"
    places, names = zip(*re.findall(badge, "\n".join(texts)), strict=True)
    assert set(names) == set(NAMES) and len(names) == 2 * len(NAMES)
    cloned = re.findall(r"git clone [^\n]*https://github.com/([\w.-]+/[\w.-]+)", "\n".join(texts))
    assert len(cloned) == len(NAMES)  # by each notebook's second cell
    (place,) = {*places, *cloned}
    assert f"https://github.com/{place}" in (ROOT / "CITATION.cff").read_text()


def test_there_are_no_other_notebooks():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


def test_is_valid_for_the_python3_kernel_and_holds_no_output(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or not (cell.outputs or cell.execution_count)


def test_begins_with_title_purpose_badge_and_runtime(notebook):
    title, _, rest = notebook.cells[0].source.strip().partition("\n")
    assert re.match(r"^# \S.{3,80}$", title), title
    paragraphs = [part.strip() for part in rest.split("\n\n") if part.strip()]
    purpose = next(part for part in paragraphs if not part.startswith("[!"))
    assert len(re.findall(r"[.?!](?=\s|$)", purpose)) == 1, f"one sentence; saw {purpose!r}"
    assert "https://colab.research.google.com/github/" in rest
    assert re.search(r"expected runtime.*(second|minute|hour)", rest, re.I | re.S)
    assert sum(text.startswith("# ") for text in prose_of(notebook)) == 1


def test_parameters_come_first_typed_and_explained(name, notebook):
    tagged = [c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert tagged == code_of(notebook)[:1]
    for line in tagged[0].strip().splitlines():
        assert PARAMETER.match(line), f"expected `name: type = value  # help`, saw {line!r}"
    for one in inspect_notebook(str(FOLDER / f"{name}.ipynb")).values():
        assert one["inferred_type_name"] != "None" and one["help"], one["name"]


def test_the_set_up_is_one_short_cell_and_everywhere_the_same(notebook):
    cells = [text for text in code_of(notebook) if "google.colab" in text]
    first = nbformat.read(FOLDER / f"{NAMES[1]}.ipynb", as_version=4)
    assert cells == [text for text in code_of(first) if "google.colab" in text]
    assert code_of(notebook)[1] == cells[0]
    assert len([line for line in cells[0].splitlines() if line.strip()]) <= LONGEST_SET_UP


def test_cells_are_short_and_prose_leads_through_them(notebook):
    lengths = [len(text.strip().splitlines()) for text in code_of(notebook)]
    assert max(lengths) <= LONGEST_CELL and statistics.median(lengths) <= 8
    prose = prose_of(notebook)
    assert len(prose) >= len(lengths) / 2
    assert len(re.findall(r"^## ", "\n".join(prose), re.M)) >= 2


@pytest.mark.parametrize("name", TRAININGS)
def test_trainings_show_the_machine_learning(notebook):
    code = "\n".join(code_of(notebook))
    for step in (".compile(", ".fit(", "keras.Model(", "network.summary(", "BatchNormalization"):
        assert step in code, step
    assert "## Exercises" in "\n".join(prose_of(notebook))


@pytest.mark.parametrize("profile", plan.names())
def test_every_parameter_of_a_profile_is_known_to_its_notebook(profile):
    declared = {one: set(inspect_notebook(str(FOLDER / f"{one}.ipynb"))) for one in NAMES}
    for step in plan.steps(plan.load_profile(profile)):
        assert set(step.parameters) <= declared[step.notebook], step.name


def test_names_no_machine(name):
    text = (FOLDER / f"{name}.ipynb").read_text()
    assert not re.search(r"(?<![\w.])/(root|home|work)/", text)


# ---------------------------------------------------------------- they all run


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The whole smoke study, run as a user would, in a copy of the project."""
    folder = tmp_path_factory.mktemp("smoke")
    for name in ("utils", "notebooks", "profiles", "data/models"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FACES_", "TF_"))}
    environment |= {"FACES_WORK_DIR": str(folder / "work"), "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "utils.report.study", "smoke"]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-3000:]
    return folder


def beaten(run) -> dict[str, bool]:
    """For each task, whether a run is better than the baseline on test faces."""
    rows = pd.DataFrame(read_json(run / "metrics.json")["rows"])
    rows = rows[(rows["split"] == "test") & (rows["metric"] == rows["task"].map(HEADLINE))]
    never_looks = baseline(pd.read_parquet(run / "predictions.parquet"), ("test",))
    other = never_looks.set_index(["task", "metric"])["value"]
    found = {}
    for row in rows.itertuples():
        gain = row.value - other[row.task, row.metric]
        found[row.task] = gain < 0 if row.metric in LOWER_IS_BETTER else gain > 0
    return found


@pytest.mark.slow
def test_every_step_of_smoke_ends_and_every_run_beats_the_baseline(smoke):
    steps = plan.steps(plan.load_profile("smoke"))
    pages = {path.stem for path in (smoke / "reports/smoke").glob("*.html")}
    assert {step.name for step in steps} <= pages
    runs = [step.config.run for step in steps if step.config]
    found = {run: beaten(smoke / "work/runs" / run) for run in runs}
    assert all(all(won.values()) for won in found.values()), found


@pytest.mark.slow
def test_no_page_of_smoke_shows_a_red_box(smoke):
    for path in (smoke / "reports/smoke").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            said = [o.text for o in cell.get("outputs", []) if o.get("name") == "stderr"]
            assert not said, f"{path.name}: {said[0][:300]}"


@pytest.mark.parametrize("name", TRAININGS)
def test_defaults_are_a_step_of_smoke(name):
    """So what a newcomer sees who opens a notebook beats the baseline too (the test above)."""
    found = inspect_notebook(str(FOLDER / f"{name}.ipynb"))
    defaults = {key: ast.literal_eval(one["default"]) for key, one in found.items()}
    for key in ("precision", "batch_size", "profile", "show_faces", "force"):  # of the machine
        del defaults[key]
    steps = plan.steps(plan.load_profile("smoke"))
    assert any(defaults.items() <= step.parameters.items() for step in steps if step.config)


@pytest.mark.slow
def test_the_first_notebook_passes_nbval(tmp_path):
    """nbval runs the cells one by one, as a reader in JupyterLab does, and fails on any error."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FACES_", "TF_"))}
    environment |= {"FACES_WORK_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax"]
    command += [str(FOLDER / "01_dataset_eda.ipynb"), "-c", os.devnull]
    ended = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0 and " passed" in ended.stdout, ended.stdout[-3000:]
