"""Run folders and study folders: written, read, found, and refused when they are not the same."""

import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import yaml
from conftest import script

from utils import study
from utils.files import DataError, locked, read_json, write_json
from utils.paths import ROOT
from utils.plan import RunConfig
from utils.report.gather import gather
from utils.vocabulary import TASKS

CONFIG = RunConfig(dataset="utkface", precision="float32", batch_size=32, profile="cpu")


def make_run(folder, seed=129, value=5.0, **settings):
    config = CONFIG.model_dump() | {"seed": seed, "data_fingerprint": "d"} | settings
    write_json(folder / "config.json", config)
    write_json(folder / "cost.json", {"parameters": 7})
    write_json(folder / "environment.json", {"python": "3"})
    (folder / "history.csv").write_text("epoch,loss\n1,2.5\n")
    table = pd.DataFrame({"image": ["a"], "split": ["test"], "age": [30.0], "pred_age": [31.0]})
    study.write_predictions(table, folder / "predictions.parquet")
    row = dict.fromkeys(study.RESULT_COLUMNS, "x") | {"run": folder.name, "value": value, "n": 1}
    write_json(folder / "metrics.json", {"rows": [row]})
    return folder


@pytest.fixture
def runs(work_dir):
    return work_dir / "runs"


def test_a_run_is_complete_with_its_metrics_only(runs):
    folder = make_run(runs / "one")
    assert study.is_complete(folder)
    (folder / "metrics.json").unlink()
    assert not study.is_complete(folder) and study.find_runs() == []


def test_runs_are_found_by_their_configuration_whatever_their_name(runs):
    make_run(runs / "one", seed=1)
    two = make_run(runs / "two", seed=2)
    assert study.find_runs(dataset="utkface", seed=2) == [two]
    wanted = RunConfig(**CONFIG.model_dump() | {"seed": 2})
    assert study.finished(wanted) == study.folder_of(wanted) == two
    assert study.finished(RunConfig(**CONFIG.model_dump() | {"seed": 3})) is None


def test_networks_that_differ_in_rate_alone_have_labels_of_their_own():
    rates = {"usual": 0.0, "own": 0.0003, "other": 0.0}
    configs = {run: CONFIG.model_dump() | {"learning_rate": rate} for run, rate in rates.items()}
    configs["other"]["input_size"] = 64
    label = study.Study(configs=configs).label
    assert label("usual") == f"{label('own')}, usual rate"
    assert "rate" not in label("own") + label("other") and label("unknown") == "unknown"


# ---------------------------------------------------------------- re-used only if it is the same


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"precision": "mixed_bfloat16"}, "precision: 'float32' there, 'mixed_bfloat16' wanted"),
        ({"study": "ablation", "batch_size": 7}, "batch_size: .* there, 7 wanted"),
        ({"dataset_options": {"n": 9}}, "dataset_options: {} there, {'n': 9} wanted"),
    ],
)
def test_a_finished_run_answers_only_the_same_question(runs, changed, told):
    folder = study.begin(CONFIG, "d")
    make_run(folder)
    assert study.begin(CONFIG, "d") == folder
    with pytest.raises(ValueError, match=told) as caught:
        study.begin(RunConfig(**CONFIG.model_dump() | changed), "d")
    assert "\n" not in str(caught.value) and "set force to replace it" in str(caught.value)


def test_changed_labels_do_not_return_the_old_run(runs):
    make_run(study.begin(CONFIG, "d"))
    with pytest.raises(ValueError, match="its faces, labels or split were others"):
        study.begin(CONFIG, "labels changed")
    with pytest.raises(ValueError, match="its faces, labels or split were others"):
        study.begin(CONFIG, "d", joint_fingerprint="of another set to learn from")
    assert not (study.begin(CONFIG, "labels changed", force=True) / "metrics.json").exists()


def test_half_a_training_does_not_mix_two_codes(runs, monkeypatch):
    folder = study.begin(CONFIG, "d")
    monkeypatch.setattr(study, "code_digest", lambda: "other")
    with pytest.raises(ValueError, match="begun by another version of the code"):
        study.begin(CONFIG, "d")
    make_run(folder)
    assert study.begin(CONFIG, "d") == folder  # a finished one stands


def test_who_asked_and_free_values_do_not_matter(runs):
    make_run(study.begin(CONFIG, "d"))
    free = RunConfig(
        **CONFIG.model_dump() | {"profile": "gpu", "precision": "auto", "batch_size": 0}
    )
    assert study.finished(free) is not None


# ---------------------------------------------------------------- damaged files are named


def test_a_folder_without_a_configuration_is_begun_anew_unless_it_is_finished(runs, capsys):
    folder = make_run(runs / CONFIG.run)
    (folder / "config.json").unlink()
    with pytest.raises(DataError, match="config.json is missing; delete the folder"):
        study.begin(CONFIG, "d")
    (folder / "metrics.json").unlink()
    assert study.begin(CONFIG, "d") == folder and not (folder / "cost.json").exists()
    assert "has no config.json" in capsys.readouterr().out


FILES = "config.json history.csv predictions.parquet cost.json model.keras environment.json"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """A finished run with digests, to be copied."""
    folder = make_run(tmp_path_factory.mktemp("sealed") / CONFIG.run)
    (folder / "metrics.json").unlink()
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    table = pd.read_parquet(folder / "predictions.parquet")
    rows = pd.DataFrame({"task": ["age"], "metric": "mae", "split": "test", "value": 13.98})
    study.finish(folder, table, rows, {"parameters": 7}, {"python": "3"})
    return folder


@pytest.mark.parametrize("name", [*FILES.split(), "metrics.json"])
def test_a_finished_run_is_not_believed_unread(sealed, runs, tmp_path, name):
    folder = shutil.copytree(sealed, runs / CONFIG.run)
    assert study.begin(CONFIG, "d") == folder
    whole = (folder / name).read_bytes()
    digit = max(whole.rfind(str(number).encode()) for number in range(10))
    changed = whole[:digit] + str((whole[digit] - 47) % 10).encode() + whole[digit + 1 :]
    (folder / name).write_bytes(changed)
    for ask in (lambda: study.begin(CONFIG, "d"), lambda: study.export([folder], tmp_path)):
        with pytest.raises(ValueError, match=f"{name} is not as the run wrote it.*train again"):
            ask()
    if name not in ("metrics.json", "environment.json"):
        (folder / name).unlink()
        with pytest.raises(ValueError, match=f"{name} is missing"):
            study.begin(CONFIG, "d")
        if name == "model.keras":  # as brought back from a GPU machine
            study.export([folder], tmp_path)
    assert not (study.begin(CONFIG, "d", force=True) / "metrics.json").exists()


def test_a_changed_network_is_not_loaded(sealed, runs):
    folder = shutil.copytree(sealed, runs / CONFIG.run)
    with zipfile.ZipFile(folder / "model.keras", "a") as archive:
        archive.writestr("weights", "other")
    with pytest.raises(DataError, match="model.keras is not as the run wrote it"):
        study.load_model(folder)


@pytest.mark.parametrize("content", [b"[1]", b"3", b"\xff\xfe\x00", b"{"])
def test_a_damaged_configuration_is_named_and_hides_no_other_run(runs, content, capsys):
    (make_run(runs / "one") / "config.json").write_bytes(content)
    good = make_run(runs / "two")
    with pytest.raises(ValueError, match="one.config.json") as caught:
        study.read_config(runs / "one")
    assert "\n" not in str(caught.value)
    assert study.find_runs() == [good]
    told = capsys.readouterr()
    assert "left out" in told.err and not told.out


@pytest.mark.parametrize("content", ["[]", '{"row": 1}', "{"])
def test_damaged_metrics_are_named(runs, tmp_path, content):
    folder = make_run(runs / "one")
    (folder / "metrics.json").write_text(content)
    with pytest.raises(ValueError, match="metrics.json"):
        study.export([folder], tmp_path / "study")


def test_a_network_that_is_missing_or_cut_is_named(runs):
    folder = make_run(runs / "one")
    with pytest.raises(DataError, match="model.keras is missing; train the run again"):
        study.load_model(folder)
    with zipfile.ZipFile(folder / "whole.zip", "w") as archive:
        archive.writestr("config.json", "{}" * 500)
    (folder / "model.keras").write_bytes((folder / "whole.zip").read_bytes()[:300])
    with pytest.raises(DataError, match="model.keras cannot be read"):
        study.load_model(folder)


# ---------------------------------------------------------------- studies


def test_an_export_replaces_a_run_and_keeps_the_others(runs, tmp_path):
    folders = [make_run(runs / name) for name in ("one", "two")]
    study.export(folders, tmp_path / "study")
    make_run(runs / "one", value=4.0)
    results = study.export(folders[:1], tmp_path / "study")
    assert results["run"].tolist() == ["one", "two"]
    assert results["value"].astype(float).tolist() == [4.0, 5.0]
    held = study.load_study(tmp_path / "study")
    assert set(held.predictions) == set(held.configs) == set(held.histories) == {"one", "two"}
    assert held.matching(CONFIG) == ["one", "two"]


def test_two_exports_at_once_lose_no_row(runs, tmp_path, monkeypatch):
    folders, write = [make_run(runs / name) for name in "abcd"], study.write_predictions

    def slowly(*given):
        time.sleep(0.05)
        write(*given)

    monkeypatch.setattr(study, "write_predictions", slowly)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda folder: study.export([folder], tmp_path / "study"), folders))
    assert study.load_study(tmp_path / "study").results["run"].tolist() == list("abcd")


def test_an_export_can_leave_training_faces_behind(runs, tmp_path):
    folder = make_run(runs / "one")
    test = pd.read_parquet(folder / "predictions.parquet")
    sides = {"b": "train", "c": "excluded"}
    every = [test, *(test.assign(image=name, split=side) for name, side in sides.items())]
    study.write_predictions(pd.concat(every), folder / "predictions.parquet")
    for keep, expected in ((True, ["a", "b", "c"]), (False, ["a"])):
        study.export([folder], tmp_path / "study", keep_train=keep)
        read = study.load_study(tmp_path / "study").predictions["one"]
        assert read["image"].tolist() == expected


def test_a_profile_gathers_its_finished_runs(runs, tmp_path):
    planned = {"protocol": "linear_probe", "model": "vgg19", "input_size": 224, "batch_size": 64}
    make_run(runs / "planned", **planned, profile="gpu")  # settings of cpu, trained for gpu
    make_run(runs / "named", seed=7)  # names cpu, though cpu plans no such seed
    make_run(runs / "other", seed=8, profile="gpu")
    gather("cpu", tmp_path / "study")
    assert set(study.load_study(tmp_path / "study").configs) == {"planned", "named"}
    with pytest.raises(ValueError, match="no finished run of profile smoke"):
        gather("smoke", tmp_path / "other")


def test_a_study_with_everything_missing_is_empty(tmp_path):
    held = study.load_study(tmp_path)
    assert held.results.empty and not held.predictions


def test_a_second_process_waits_for_the_first(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from utils.files import locked\n"
        "with locked(sys.argv[1]):\n"
        "    print('in', flush=True); time.sleep(1); Path(sys.argv[1] + '.done').touch()\n"
    )
    folder = tmp_path / "run"
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as first:
        assert first.stdout.readline().strip() == "in"
        with locked(folder):
            assert (tmp_path / "run.done").exists()


def test_a_model_card_holds_the_figures_of_the_run(runs, tmp_path, monkeypatch, capsys):
    ship_script = script("data/models/ship.py")
    run = read_json(ROOT / "data/models/mobilenetv2/model.json")["run"]
    shutil.copytree(ROOT / "reports/study/runs" / run, runs / run)
    predictions = ROOT / f"reports/study/predictions/{run}.parquet"
    shutil.copy(predictions, runs / run / "predictions.parquet")
    write_json(runs / run / "metrics.json", {"rows": []})

    def ship(run, name, root):
        (root / name).mkdir()
        (root / name / "weights.h5").write_bytes(b"x" * 1_200_000)
        write_json(root / name / "model.json", {"run": run})
        return root / name

    monkeypatch.setattr(ship_script, "ship", ship)
    assert ship_script.main([run, "--out", str(tmp_path)]) == 0
    text = (tmp_path / "mobilenetv2" / "README.md").read_text()
    assert "(float16, 1.2 MB)" in text and "16,900 faces" in text and "{%" not in text
    head, card = text.removeprefix("---\n").split("\n---\n")
    (index,) = yaml.safe_load(head)["model-index"]
    assert [one["task"]["name"] for one in index["results"]] == list(TASKS)
    assert card.startswith("# Model card")
    faces = pd.read_parquet(predictions).query("split == 'test'")
    error = (faces["pred_age"] - faces["age"]).abs().mean()
    assert f"| age | mean absolute error (years) | {error:.2f} [" in text
    assert "| female | 2,266 |" in text and "| 100-124 (small) | 6 |" in text
    # The shipped network's age intervals are sized as the published predictions say today.
    shipped = ROOT / "data/models/mobilenetv2"
    sizes = read_json(shipped / "model.json")["age_interval"]
    assert read_json(tmp_path / "mobilenetv2/model.json")["age_interval"] == sizes
    assert 0.78 < sizes["held"]["test"] < 0.82
    card = (shipped / "README.md").read_text()
    for first, end in (("---", "## How good"), ("| true label", "(`utils.faces")):
        told = text[text.index(first) : text.index(end)].replace("1.2 MB", "5.0 MB")
        assert told in card  # baselines come from training faces, which are not published
    assert "conformal" in told
    assert ship_script.main([run, "--out", str(tmp_path), "--intervals"]) == 0
    assert ship_script.main(["no-such-run"]) == 2
    assert "no finished run no-such-run" in capsys.readouterr().err
