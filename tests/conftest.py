"""Fixtures: real data and weights where they are at hand, a work folder that is thrown away."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from utils.paths import ROOT

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
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
