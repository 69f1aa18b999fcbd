"""Run folders and study folders."""

import subprocess
import sys

import pandas as pd
import pytest

from utils import runs
from utils.files import locked, read_json, write_json
from utils.paths import ROOT


def make_run(root, name, seed=129, value=5.0):
    folder = root / name
    write_json(folder / "config.json", {"run": name, "dataset": "utkface", "seed": seed})
    write_json(folder / "cost.json", {"parameters": 7})
    write_json(folder / "environment.json", {"python": "3"})
    (folder / "history.csv").write_text("epoch,loss\n1,2.5\n")
    table = pd.DataFrame({"image": ["a"], "split": ["test"], "age": [30.0], "pred_age": [31.0]})
    runs.write_predictions(table, folder / "predictions.parquet")
    row = dict.fromkeys(runs.RESULT_COLUMNS, "x") | {"run": name, "value": value, "n": 1}
    write_json(folder / "metrics.json", {"rows": [row]})
    return folder


def test_a_run_is_complete_with_its_metrics_only(tmp_path):
    folder = make_run(tmp_path, "one")
    assert runs.is_complete(folder)
    (folder / "metrics.json").unlink()
    assert not runs.is_complete(folder) and runs.find_runs(tmp_path) == []


def test_runs_are_found_by_their_configuration(tmp_path):
    make_run(tmp_path, "one", seed=1)
    two = make_run(tmp_path, "two", seed=2)
    assert runs.find_runs(tmp_path, dataset="utkface", seed=2) == [two]


def test_an_export_replaces_a_run_and_keeps_the_others(tmp_path):
    folders = [make_run(tmp_path / "runs", name) for name in ("one", "two")]
    runs.export(folders, tmp_path / "study")
    make_run(tmp_path / "runs", "one", value=4.0)
    results = runs.export(folders[:1], tmp_path / "study")
    assert results["run"].tolist() == ["one", "two"]
    assert results["value"].astype(float).tolist() == [4.0, 5.0]
    study = runs.load_study(tmp_path / "study")
    assert set(study.predictions) == set(study.configs) == set(study.histories) == {"one", "two"}


def test_an_export_can_leave_training_faces_behind(tmp_path):
    folder = make_run(tmp_path / "runs", "one")
    test = pd.read_parquet(folder / "predictions.parquet")
    both = pd.concat([test, test.assign(image="b", split="train")])
    runs.write_predictions(both, folder / "predictions.parquet")
    for keep, expected in ((True, ["a", "b"]), (False, ["a"])):
        runs.export([folder], tmp_path / "study", keep_train=keep)
        read = runs.load_study(tmp_path / "study").predictions["one"]
        assert read["image"].tolist() == expected


def test_a_study_with_everything_missing_is_empty(tmp_path):
    study = runs.load_study(tmp_path)
    assert study.results.empty and not study.predictions


def test_a_run_without_model_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="notebooks/02_finetune_backbone"):
        runs.load_model(make_run(tmp_path, "one"))


def test_broken_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ValueError, match="x.json is not valid JSON"):
        read_json(tmp_path / "x.json")


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
