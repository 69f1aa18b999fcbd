"""The notebooks' first cells on Colab, whose module, network and Drive are played here."""

import os
import sys
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from test_notebooks import FOLDER, code_of

from utils import colab, paths
from utils.datasets.synthetic import draw_face

FACE = "26_1_2_20170116.jpg.chip.jpg"
TOOLS = {  # what the cell calls, and a card
    "git": 'ln -s "$PROJECT" facial-demographics',
    "pip": "case $1 in show) test -e installed;; *) touch installed;; esac",
    "nvidia-smi": "echo Tesla T4, 15360 MiB",
}
PLAYED = """
import sys, types
sys.modules["google.colab"] = types.ModuleType("google.colab")
sys.modules["kagglehub"] = None  # not to be had
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder with stand-ins for git, pip and nvidia-smi that note each call in ``calls``."""
    for name, does in TOOLS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        note = f'echo {name} "$@" >> calls' if name != "nvidia-smi" else ""
        path.write_text(f"#!/bin/sh\n{note}\n{does}\n")
        path.chmod(0o755)
    places = (tmp_path / "bin", os.path.dirname(sys.executable), os.environ["PATH"])
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, places)))
    monkeypatch.setenv("PROJECT", str(paths.ROOT))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "facial-demographics"))
    monkeypatch.setenv("FACES_DATA_DIR", str(tmp_path / "none"))
    return tmp_path


def test_the_first_cells_get_the_project_once_and_name_the_card(machine):
    given = code_of(nbformat.read(FOLDER / "02_finetune_backbone.ipynb", as_version=4))
    cells = [PLAYED, given[1], given[1], 'dataset = "utkface"', given[2], "print(dataset)"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}

    def run() -> tuple[list, list]:
        """Outputs of each cell in a new kernel, and the calls of git and pip."""
        notebook = new_notebook(cells=[new_code_cell(text) for text in cells], metadata=kernel)
        NotebookClient(notebook, resources={"metadata": {"path": str(machine)}}).execute()
        calls = (machine / "calls").read_text().splitlines()
        (machine / "calls").unlink()
        said = ["".join(one["text"] for one in cell.outputs) for cell in notebook.cells]
        return said, calls

    (_, first, second, _, data, used), calls = run()
    assert [" ".join(call.split()[:2]) for call in calls] == [
        "git clone",
        "pip show",
        "pip install",
    ]
    assert first.startswith("Tesla T4, 15360 MiB, tensorflow 2.") and first.count("\n") == 1
    assert ", keras 3." in first and second == ""
    assert "drawn faces stand in for utkface" in data and used == "synthetic\n"
    _, calls = run()  # the kernel was restarted
    assert calls == ["pip show -qq facial-demographics"]


def test_without_a_card_the_line_says_where_to_get_one(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert colab.machine().startswith("no GPU (menu Runtime, Change runtime type), tensorflow ")


@pytest.fixture
def played(tmp_path, monkeypatch):
    """Colab's module with an unmounted Drive, and a Kaggle that has UTKFace; asked: what for."""
    drive, kaggle = tmp_path / "drive", tmp_path / "kaggle"
    asked, modules = [], {name: ModuleType(name) for name in ("google.colab", "kagglehub")}

    def faces_in(folder):
        folder.mkdir(parents=True)
        draw_face("synthetic/5/000000.png").save(folder / FACE)

    def download(handle, force_download=False):
        asked.append(handle)
        faces_in(kaggle / "UTKFace")
        return str(kaggle)

    def mount(place):
        asked.append(place)
        faces_in(drive / "MyDrive/faces/UTKFace")

    modules["kagglehub"].dataset_download = download
    modules["google.colab.drive"] = SimpleNamespace(mount=mount)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(paths, "DRIVE", str(drive))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("FACES_DATA_DIR", str(tmp_path / "none"))
    return SimpleNamespace(drive=drive, asked=asked, modules=modules, kaggle=kaggle)


def test_faces_on_drive_are_used_and_runs_go_there(played, monkeypatch):
    monkeypatch.setenv("FACES_DATA_DIR", str(played.drive / "MyDrive/faces"))
    monkeypatch.setenv("FACES_WORK_DIR", str(played.drive / "MyDrive/work"))
    assert colab.faces("utkface") == "utkface" and played.asked == [str(played.drive)]
    assert paths.runs_dir() == played.drive / "MyDrive/work/runs"
    assert not paths.cache_dir().is_relative_to(played.drive)  # unpacked faces would take hours


def test_runs_on_drive_mount_it_also_for_drawn_faces(played, monkeypatch):
    monkeypatch.setenv("FACES_WORK_DIR", str(played.drive / "MyDrive/work"))
    assert colab.faces("synthetic") == "synthetic" and played.asked == [str(played.drive)]


def test_else_kaggle_delivers_once(played, tmp_path, capsys):
    assert colab.faces("utkface") == colab.faces("utkface") == "utkface"
    assert played.asked == ["jangedoo/utkface-new"]
    assert (tmp_path / "data/raw/UTKFace" / FACE).is_file()
    assert "non-commercial" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["utkface", "fairface"])
def test_else_drawn_faces_and_one_sentence(played, monkeypatch, capsys, name):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert colab.faces(name) == "synthetic"
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"drawn faces stand in for {name}, so nothing below is a result" in last


def test_elsewhere_nothing_is_got_and_nothing_replaced(played, monkeypatch):
    monkeypatch.delitem(sys.modules, "google.colab")
    assert colab.faces("utkface") == "utkface" and not played.asked
