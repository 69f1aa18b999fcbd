"""A maintainer's campaign: every kind of file that a study writes, damaged in every way.

``pytest -m faults`` takes some minutes and is not part of the usual tests. Each case ends in the
bytes of an undisturbed run, or in one line that names the file; what the line says then leads to
those bytes.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from conftest import train
from test_training import _bytes_of

from utils import datasets, study
from utils.backbones.registry import BACKBONES, Backbone
from utils.files import digest_of
from utils.paths import ROOT, cache_dir, work_dir
from utils.plan import RunConfig
from utils.training.callbacks import EpochRecord

pytestmark = pytest.mark.faults


class Tiny(Backbone):
    """One convolution."""

    def build(self, images):
        """From an image tensor to a feature map."""
        return keras.layers.Conv2D(4, 3, strides=4, activation="relu", name="conv")(images)


TINY = Tiny("tiny", "Tiny", "", "tf", "conv", "conv")
CONFIG = RunConfig(
    dataset="utkface",
    model="tiny",
    protocol="linear_probe",
    tasks=["gender"],
    weights="none",
    epochs=3,
    input_size=32,
    precision="float32",
    batch_size=32,
)


START = """
import test_faults as tests
tests.BACKBONES["tiny"] = tests.TINY
print(*tests.work())
"""


def work(force: bool = False) -> list[str]:
    """Train and export; digests of all that must not depend on a disturbance."""
    folder, exported = train(CONFIG, force), work_dir() / "study"
    study.export([folder], exported)
    study.load_study(exported)
    tables = [exported / "results.csv", exported / f"predictions/{folder.name}.parquet"]
    return _bytes_of(folder) + [digest_of(path) for path in tables]


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """The network, known to these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", TINY)
        yield


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """Drawn faces as files; a work folder stopped in epoch 3, a finished one; its digests."""
    root, names = tmp_path_factory.mktemp("disk"), iter(range(1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACES_DATA_DIR", str(root / "data"))
        patch.setenv("FACES_WORK_DIR", str(root / "half"))
        (root / "data/UTKFace").mkdir(parents=True)
        drawn = datasets.load("synthetic", n=60)
        for face in drawn.table.itertuples():
            name = f"{face.age:.0f}_{int(face.gender == 'female')}_0_{next(names)}.png"
            drawn.read(face.image).save(root / "data/UTKFace" / name)
        finish = EpochRecord.on_epoch_end

        def killed(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt
            finish(self, epoch, logs)

        with pytest.MonkeyPatch.context() as stop, pytest.raises(KeyboardInterrupt):
            stop.setattr(EpochRecord, "on_epoch_end", killed)
            train(CONFIG)
        shutil.copytree(root / "half", root / "whole")
        patch.setenv("FACES_WORK_DIR", str(root / "whole"))
        yield root, work()


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    start = max(0, len(content) // 2 - 2048)
    content[start : start + 4096] = bytes(255 - byte for byte in content[start : start + 4096])
    path.write_bytes(content)


DAMAGES = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "flipped": _flip,
    "removed": Path.unlink,
    "closed": lambda path: path.chmod(0),
}
CACHES = "fingerprints-*.parquet duplicates-*.parquet images-*/images.npy images-*/content.csv"
CACHES += " activations-*/activations.npy activations-*/done.json"
HALF = "config.json history.csv resume.json checkpoint-0001.* checkpoint-0002.*"
WHOLE = "config.json history.csv predictions.parquet metrics.json cost.json environment.json"
STUDY = "results.csv predictions/*.parquet runs/*/config.json runs/*/history.csv runs/*/cost.json"
FILES = [("half", f"cache/{name}") for name in CACHES.split()]
FILES += [("half", f"runs/*/{name}") for name in HALF.split()]
FILES += [("whole", f"runs/*/{name}") for name in [*WHOLE.split(), "model.keras"]]
FILES += [("whole", f"study/{name}") for name in STUDY.split()]


def _ends_well(name: str, expected: list[str]) -> None:
    """The same bytes, or one line that names the file and a way on that leads to them."""
    try:
        found = work()
    except ValueError as error:
        told = str(error)
        assert name in told and "\n" not in told and len(told) < 400, told
        for path in work_dir().rglob("*"):
            path.chmod(0o700)  # as the line says
        if "study" in told.partition(name)[0]:
            shutil.rmtree(work_dir() / "study")
        found = work(force="runs" in told)
    assert found == expected


@pytest.fixture
def copy(disk, tmp_path, monkeypatch):
    """A copy of a work folder, by its state, in use."""

    def copied(state: str) -> Path:
        monkeypatch.setenv("FACES_WORK_DIR", str(tmp_path / "work"))
        return shutil.copytree(disk[0] / state, tmp_path / "work")

    return copied


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("state", "pattern"), FILES, ids=[pattern for _, pattern in FILES])
def test_a_damaged_file(disk, copy, state, pattern, damage):
    paths = list(copy(state).glob(pattern))
    if not paths and "checkpoint" in pattern:
        pytest.skip("not kept: another epoch was the best")
    (path,) = paths
    DAMAGES[damage](path)
    if damage == "closed" and os.access(path, os.R_OK):
        pytest.skip("this user may read everything: run as another, or by setpriv without DAC")
    _ends_well(path.name, disk[1])


WRITTEN = (
    "fingerprints-*.parquet duplicates-*.parquet images-*-32-* done.json config.json resume.json"
)
WRITTEN += (
    " history.csv checkpoint-0002.* predictions.parquet cost.json model.keras environment.json"
)
WRITTEN += " metrics.json results.csv"


@pytest.mark.parametrize("pattern", WRITTEN.split())
def test_a_disk_that_is_full(disk, tmp_path, monkeypatch, pattern):
    monkeypatch.setenv("FACES_WORK_DIR", str(tmp_path / "work"))
    replace, told = os.replace, pattern.partition("*")[0]

    def full(source, target):
        if Path(target).match(pattern):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(ValueError, match=told) as caught:
        patch.setattr(os, "replace", full)
        work()
    assert "No space left" in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.rglob(".aside-*"))
    assert work() == disk[1]


@pytest.mark.parametrize("most", [1 << 10, 1 << 13, 1 << 15])
def test_files_that_may_not_grow(disk, tmp_path, monkeypatch, most):
    resource = pytest.importorskip("resource")
    monkeypatch.setenv("FACES_WORK_DIR", str(tmp_path / "work"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        with pytest.raises(ValueError, match="cannot be written|needs .* GB") as caught:
            work()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert work() == disk[1]


@pytest.mark.parametrize("state", ["empty", "half", "whole"])
def test_two_processes_at_once(disk, copy, tmp_path, state):
    work_folder = tmp_path / "work" if state == "empty" else copy(state)
    values = os.environ | {"FACES_WORK_DIR": str(work_folder), "PYTHONPATH": f"{ROOT}:{ROOT}/tests"}
    values |= {"FACES_DATA_DIR": str(disk[0] / "data")}
    command = [sys.executable, "-c", START]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": values}
    both = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]
    ended = [one.communicate(timeout=600) for one in both]
    assert [out.split()[-len(disk[1]) :] for out, _ in ended] == [disk[1]] * 2, ended
    assert not list(cache_dir().rglob(".aside-*"))
