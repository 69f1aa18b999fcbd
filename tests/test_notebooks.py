"""Every notebook has the same skeleton, and all of them run on synthetic faces."""

import os
import re
import resource
import shutil
import statistics
import subprocess
import sys

import nbformat
import pytest
from papermill import inspect_notebook
from test_report_html import assert_self_contained

from utils import profiles
from utils.paths import ROOT

FOLDER = ROOT / "notebooks"
NAMES = (
    "01_dataset_eda",
    "02_finetune_backbone",
    "03_scratch_cnn",
    "04_wiki_age_regressor",
    "05_gradcam_gallery",
    "06_comparison_report",
)
LONGEST_CELL = 25  # lines
PARAMETER = re.compile(r"^[a-z_]+: (int|float|str|bool|list|dict)(\[.+\])? = \S.*  # \S.*$")


def read(name: str):
    path = FOLDER / f"{name}.ipynb"
    if not path.exists():
        pytest.fail(f"notebooks/{name}.ipynb is missing")
    return nbformat.read(path, as_version=4)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    return read(name)


def tagged(notebook, *tags):
    return [c for c in notebook.cells if set(tags) & set(c.metadata.get("tags", []))]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_no_other_notebooks():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} <= set(NAMES)


def test_is_valid_and_uses_the_python3_kernel(notebook):
    nbformat.validate(notebook)
    kernel = notebook.metadata["kernelspec"]
    assert kernel["name"] == "python3" and kernel["language"] == "python"


def test_holds_no_output(notebook):
    for cell in code_cells(notebook):
        assert not cell.outputs and cell.execution_count is None


def test_begins_with_title_purpose_and_runtime(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    title, _, rest = first.source.strip().partition("\n")
    assert re.match(r"^# \S.{3,80}$", title), title
    paragraphs = [part.strip() for part in rest.split("\n\n") if part.strip()]
    purpose = next(part for part in paragraphs if not part.startswith(("[!", "<", "!")))
    ends = re.findall(r"[.?!](?=\s|$)", purpose.replace("e.g.", "").replace("vs.", ""))
    assert len(ends) == 1, f"the purpose is one sentence; saw {purpose!r}"
    head = "\n".join(c.source for c in notebook.cells[:3] if c.cell_type == "markdown")
    assert re.search(r"expected runtime", head, re.I)
    assert re.search(r"expected runtime.*(second|minute|hour)", head, re.I | re.S)
    assert sum(c.source.startswith("# ") for c in notebook.cells if c.cell_type == "markdown") == 1


def test_opens_in_colab(notebook):
    head = "\n".join(c.source for c in notebook.cells[:3] if c.cell_type == "markdown")
    assert "https://colab.research.google.com/github/" in head
    early = "\n".join(cell.source for cell in code_cells(notebook)[:3])
    assert "google.colab" in early, "a set-up cell fetches the project on Colab"


def test_first_code_cell_holds_typed_and_explained_parameters(notebook):
    cells = tagged(notebook, "parameters")
    assert len(cells) == 1 and cells[0] is code_cells(notebook)[0]
    lines = cells[0].source.strip().splitlines()
    for line in lines:
        assert PARAMETER.match(line), f"expected `name: type = value  # help`, saw {line!r}"


def test_papermill_reads_the_parameters(name):
    read(name)
    found = inspect_notebook(str(FOLDER / f"{name}.ipynb"))
    assert found
    for one in found.values():
        assert one["inferred_type_name"] != "None" and one["help"], one["name"]


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu", "paper"])
def test_every_parameter_of_a_profile_is_known_to_its_notebook(name, profile):
    read(name)
    declared = set(inspect_notebook(str(FOLDER / f"{name}.ipynb")))
    for step in profiles.plan(profiles.load_profile(profile)):
        if step.notebook == name:
            assert set(step.parameters) <= declared, step.name


def test_cells_are_short(notebook):
    lengths = [len(cell.source.strip().splitlines()) for cell in code_cells(notebook)]
    assert max(lengths) <= LONGEST_CELL and statistics.median(lengths) <= 8


def test_has_a_cell_whose_output_is_checked(notebook):
    marked = [c for c in code_cells(notebook) if "# NBVAL_CHECK_OUTPUT" in c.source]
    assert marked or tagged(notebook, "nbval-check-output")


def test_prose_leads_through_the_notebook(notebook):
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    assert len(prose) >= len(code_cells(notebook)) / 3
    assert sum(cell.source.startswith("## ") for cell in prose) >= 2


def test_names_no_machine(name):
    read(name)
    text = (FOLDER / f"{name}.ipynb").read_text()
    assert not re.search(r"(?<![\w.])/(root|home|work)/", text)


# ---------------------------------------------------------------- they all run


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The whole smoke study, run as a user would, in a folder of its own."""
    for name in NAMES:
        read(name)
    folder = tmp_path_factory.mktemp("smoke")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FACES_")}
    environment |= {"FACES_WORK_DIR": str(folder / "work"), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-m", "utils.report.study", "smoke"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    return folder, environment, ended


@pytest.mark.slow
def test_smoke_runs_from_nothing_to_the_report(smoke):
    folder, _, ended = smoke
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-3000:]
    steps = profiles.plan(profiles.load_profile("smoke"))
    pages = sorted(path.stem for path in (folder / "reports/smoke").glob("*.html"))
    assert pages == sorted(step.name for step in steps)
    for step in steps:
        assert not step.run or (folder / "work/runs" / step.run / "metrics.json").exists(), step.run


@pytest.mark.slow
def test_pages_load_nothing_and_stay_small(smoke):
    folder, _, _ = smoke
    for path in sorted(folder.glob("reports/**/*.html")):
        assert_self_contained(path.read_text())
        assert path.stat().st_size < 10_000_000, path.name


@pytest.mark.slow
def test_no_process_took_more_than_four_gigabytes(smoke):
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert kilobytes < 4_000_000


@pytest.mark.slow
def test_marked_cells_say_the_same_twice(smoke, name):
    """nbval runs the executed copy again; cells marked for it must give the same output."""
    folder, environment, ended = smoke
    assert ended.returncode == 0, "the smoke study failed"
    executed = sorted((folder / "reports/smoke").glob(f"{name[:2]}_*.ipynb"))[0]
    # nbval runs a notebook in its own folder; papermill ran it in that of the study
    copy = folder / f"nbval_{executed.name}"
    shutil.copy(executed, copy)
    checked = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=600", "-q"]
        + ["-p", "no:cacheprovider", "--rootdir", str(folder), copy.name],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout[-6000:]
