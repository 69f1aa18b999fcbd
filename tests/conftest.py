"""Fixtures: real data and weights where they are at hand, a work folder that is thrown away."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
from hypothesis import settings

from utils import plan, study
from utils.paths import ROOT
from utils.vocabulary import OWN_NETWORKS

settings.register_profile("shared_machine", deadline=None)  # a busy machine is no failure
settings.load_profile("shared_machine")


def _first_folder(variable: str, fallback: Path, needs: str) -> Path | None:
    for folder in (os.environ.get(variable), fallback):
        if folder and any(Path(folder).glob(needs)):
            return Path(folder)
    return None


DATA = _first_folder("FACES_DATA_DIR", ROOT.parent / "shared" / "data", "UTKFace/*.jpg")
WEIGHTS = _first_folder("FACES_WEIGHTS_DIR", ROOT.parent / "shared" / "weights", "*.weights.h5")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder that holds UTKFace, wiki_crop and FairFace540."""
    if DATA is None:
        pytest.skip("the real faces are not here: set FACES_DATA_DIR to a folder with UTKFace/")
    return DATA


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """Folder with ImageNet weights."""
    if WEIGHTS is None:
        pytest.skip("ImageNet weights are not here: set FACES_WEIGHTS_DIR")
    return WEIGHTS


@pytest.fixture(scope="session", autouse=True)
def _own_work_folder(tmp_path_factory):
    """No test writes to, or reads from, the caches and runs of the study."""
    before = os.environ.get("FACES_WORK_DIR")
    os.environ["FACES_WORK_DIR"] = str(tmp_path_factory.mktemp("work"))
    yield
    os.environ.pop("FACES_WORK_DIR")
    if before is not None:
        os.environ["FACES_WORK_DIR"] = before


@pytest.fixture
def work_dir(tmp_path, monkeypatch) -> Path:
    """A work folder of this test alone."""
    monkeypatch.setenv("FACES_WORK_DIR", str(tmp_path / "work"))
    return tmp_path / "work"


def script(name: str):
    """A script that stands beside what it makes, as a module."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------- trainings, by the notebooks


def cells_of(number: str) -> list[str]:
    """Code cells of a notebook, without parameters and set-up magics."""
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    found = ["".join(cell["source"]) for cell in cells]
    return [text for text in found if "google.colab" not in text]


def run_cells(config: plan.RunConfig, until: str = "", force: bool = False) -> dict:
    """Execute the cells of a training's notebook in this process, without drawing.

    Parameters
    ----------
    until : str
        Stop before the first cell that holds this text.
    """
    import keras

    names = {"show": lambda *a, **k: None, "draw": lambda *a, **k: None, "display": print}
    cells = cells_of(plan.NOTEBOOKS.get(config.protocol, "02")[:2])
    keras.backend.clear_session()
    exec(cells[0], names)  # the parameters' defaults
    values = config.model_dump()
    values["backbone"] = values.pop("model")
    fixed = ("backbone", "protocol", "tasks", "weights")
    rest = {name: value for name, value in values.items() if name not in names}
    if config.protocol in OWN_NETWORKS:
        rest = {name: value for name, value in rest.items() if name not in fixed}
    names |= {name: value for name, value in values.items() if name in names}
    names |= {"options": rest, "force": force}
    try:
        for cell in cells[1:]:
            if until and until in cell:
                break
            exec(compile(cell, "<cell>", "exec"), names)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    return names


def train(config: plan.RunConfig, force: bool = False) -> Path:
    """Train a configuration as its notebook does, and return the run folder."""
    folder = run_cells(config, until="test_scores =", force=force)["folder"]
    assert study.is_complete(folder)
    return folder
