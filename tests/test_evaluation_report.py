"""The report of a study folder: tables, sentences, missing runs, files that can be rebuilt."""

import json

import numpy as np
import pandas as pd
import pytest
from test_evaluation import fake_predictions

from utils.datasets.splits import write_split
from utils.evaluation import claims, goals, remaining, tables
from utils.evaluation.__main__ import main
from utils.evaluation.columns import probability_columns
from utils.evaluation.findings import findings
from utils.evaluation.report import Report, build, write
from utils.runs import Study, load_study

RUNS = {
    "utkface-resnet50-head-224-seed129": 6.0,
    "utkface-resnet50-head-224-seed130": 6.2,
    "utkface-resnet50-finetune-128-seed129": 3.0,
    "utkface-mobilenetv2-head-224-seed129": 7.0,
    "utkface-resnet50-head-224-seed129-naive": 5.0,
}


@pytest.fixture(scope="module")
def study_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    for name in ("predictions", "splits"):
        (folder / name).mkdir()
    rows = []
    for seed, (run, spread) in enumerate(RUNS.items()):
        faces = fake_predictions(600, seed, spread)
        faces[["image", "split", "group"]].to_csv(folder / "splits/utkface.csv", index=False)
        faces.drop(columns="group").to_parquet(folder / f"predictions/{run}.parquet")
        told = tables.parse_run(run)
        (folder / "runs" / run).mkdir(parents=True)
        config = {"run": run, **told}
        (folder / "runs" / run / "config.json").write_text(json.dumps(config))
        small = told["model"] == "mobilenetv2"
        cost = {"parameters": 2e6 if small else 2e7, "flops": 3e8 if small else 4e9,
                "train_seconds": 60.0, "images_per_second": 100.0}  # fmt: skip
        (folder / "runs" / run / "cost.json").write_text(json.dumps(cost))
        rows.append({"run": run, "dataset": "utkface", "model": told["model"],
                     "protocol": told["protocol"], "task": "age", "metric": "mae", "split": "test",
                     "value": 1.0, "n": 3, "seed": 129})  # fmt: skip
    peer = fake_predictions(600, 9, 5.0).drop(columns=["group", *probability_columns("ethnicity")])
    peer.to_parquet(folder / "predictions/peer_dlib.parquet")
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def report(study_dir):
    return build(load_study(study_dir), resamples=100)


def test_comparison_has_baseline_costs_and_seeds(report):
    table = report.tables["utkface_comparison"].set_index("label")
    assert table.loc["ResNet50, frozen, 224 px", "seeds"] == 2
    assert table.loc["ResNet50, all layers, 128 px", "parameters"] == 2e7
    assert table.loc["trivial guess", "age"] > table.loc["ResNet50, all layers, 128 px", "age"]
    assert "ResNet50, frozen, 224 px, naive split" not in table.index
    assert np.isnan(table.loc["dlib, off the shelf", "ethnicity"])
    text = report.tables["utkface_comparison_readable"].set_index("model")
    assert "[" in text.loc["ResNet50, all layers, 128 px", "age MAE (years)"]
    assert text.loc["dlib, off the shelf", "ethnicity accuracy (%)"] == "-"


def test_seeds_table_by_hand(report):
    scored, seeds = report.tables["metrics"], report.tables["seeds"]
    row = seeds.query("task == 'age' and metric == 'mae'").iloc[0]
    both = scored[scored["run"].isin(list(RUNS)[:2])].query("task == 'age' and metric == 'mae'")
    assert row["mean"] == pytest.approx(both["value"].mean())
    assert row["std"] == pytest.approx(both["value"].std())


def test_findings_are_five_sentences_with_the_numbers_of_the_table(report):
    sentences = report.findings["utkface"]
    assert len(sentences) == 5
    best = report.tables["utkface_comparison"]["age"].min()
    assert f"{best:.2f} years" in sentences[0] and "ResNet50, all layers" in sentences[0]
    assert "2 of 3 networks were trained once and input sizes differ" in sentences[0]
    assert "at one input size" in sentences[2]
    assert "MobileNetV2 with 2.0 million" in sentences[3]


def _row(model, protocol, size, age):
    return {"label": f"{model} {protocol} {size}", "model": model, "protocol": protocol,
            "input_size": size, "seeds": 1, "age": age, "age_low": age - 0.1, "age_high": age + 0.1,
            "parameters": 1e6 if model == "mobilenetv2" else 1e7, "run": f"{model}{protocol}{size}",
            **{f"{t}{e}": np.nan for t in ("age_bin", "gender", "ethnicity")
               for e in ("", "_low", "_high")}}  # fmt: skip


def test_protocols_are_compared_at_one_input_size_and_ties_are_named():
    table = pd.DataFrame(
        [
            _row("resnet50", "finetune", 96, 4.0),
            _row("mobilenetv2", "finetune", 128, 4.1),
            _row("alexnet", "finetune", 224, 5.0),
            _row("alexnet", "head", 224, 5.5),
            _row("alexnet", "head", 96, 8.0),
            _row("trivial", "", 0, 15.0),
        ]
    )
    pairs = pd.DataFrame(
        {
            "a": ["resnet50finetune96", "alexnetfinetune224", "alexnethead96"],
            "b": ["mobilenetv2finetune128", "resnet50finetune96", "alexnethead224"],
            "task": "age",
            "p_holm": [0.4, 0.01, 0.3],
        }
    )
    first, _, protocols, cost, _ = findings(Study(), table, "utkface", pairs)
    assert "(not told apart from mobilenetv2 finetune 128)" in first
    assert "each network was trained once and input sizes differ" in first
    assert "changes the age error by -0.50 years (AlexNet)" in protocols
    assert "AlexNet -2.50 years from 96 to 224 px (no more than chance would give)" in protocols
    assert "0.10 years (no more than chance would give) behind" in cost


def test_times_measured_alone_push_others_out(study_dir):
    study = load_study(study_dir)
    run = "utkface-resnet50-finetune-128-seed129"
    study.costs[run] = study.costs[run] | {"idle": {"train_seconds": 30.0}}
    scored = tables.study_intervals(study, 50, 1)
    times = tables.comparison(study, scored, "utkface").set_index("run")["train_seconds"].dropna()
    assert times.to_dict() == {run: 30.0}


def test_findings_say_what_is_missing():
    columns = ["label", "model", "protocol", "input_size", "seeds", "parameters", "run"]
    columns += [f"{t}{e}" for t in ("age", "age_bin", "gender", "ethnicity")
                for e in ("", "_low", "_high")]  # fmt: skip
    table = pd.DataFrame([{"label": "trivial guess", "model": "trivial"}], columns=columns)
    sentences = findings(Study(), table, "utkface")
    assert len(sentences) == 5
    assert sentences[0] == "No finished run on UTKFace predicts age."
    assert all(sentence.endswith(".") for sentence in sentences)


def test_missing_runs_and_why():
    wanted = [*RUNS, "utkface-vgg19-head-224-seed129", {"run": "x", "reason": "no time"}]
    table = tables.missing_runs(wanted, RUNS, {"vgg19": "no weights", "vgg19-head": "killed"})
    assert table["run"].tolist() == ["utkface-vgg19-head-224-seed129", "x"]
    assert table["reason"].tolist() == ["killed", "no time"]
    assert tables.missing_runs(["a"], []).iloc[0]["reason"].startswith("no finished run")
    with pytest.raises(ValueError, match="'run'"):
        tables.missing_runs([{}], [])


def test_leakage_pairs_the_naive_run_with_its_twin(report):
    table = report.tables["utkface_leakage"]
    assert set(table["run"]) == {"utkface-resnet50-head-224-seed129-naive"}
    assert set(table["task"]) == {"age", "age_bin", "gender", "ethnicity"}


def test_a_study_on_the_naive_split_alone_is_reported(tmp_path):
    # Profile `paper` ended in an error: only runs on the group-aware split were compared.
    run = "utkface-resnet50-head-224-seed129-naive"
    faces = fake_predictions(400, 1, 5.0)
    (tmp_path / "predictions").mkdir()
    faces.to_parquet(tmp_path / f"predictions/{run}.parquet")
    made = build(load_study(tmp_path), resamples=50)
    assert len(made.tables["utkface_comparison"]) == 2
    assert "by ResNet50, frozen, 224 px, naive split" in made.findings["utkface"][0]


def test_the_trivial_guess_is_the_same_without_predictions_of_training_faces(tmp_path):
    run = "utkface-resnet50-head-224-seed129"
    faces = fake_predictions(400, 1, 5.0).assign(group=lambda t: t["image"])
    faces.loc[:199, "split"] = "train"
    faces.loc[200:249, "split"] = "val"
    whole, held = tmp_path / "whole", tmp_path / "held"
    for folder, kept in ((whole, faces), (held, faces[faces["split"] != "train"])):
        (folder / "predictions").mkdir(parents=True)
        kept.to_parquet(folder / f"predictions/{run}.parquet")
    write_split(faces, held / "splits" / "utkface.csv")
    rows = [tables.baseline_rows(load_study(one), "utkface") for one in (whole, held)]
    assert (rows[1]["fitted_on"] == "train").all()
    pd.testing.assert_frame_equal(*rows)


def test_groups_in_the_predictions_are_used_where_there_is_no_split_file(tmp_path):
    # Reports of run_all.sh drew single faces and knew no label noise.
    run = "utkface-resnet50-head-224-seed129"
    faces = fake_predictions(400, 1, 5.0).assign(group=lambda t: t.index // 2)
    faces["group"] = faces["group"].astype(str)
    (tmp_path / "predictions").mkdir()
    faces.to_parquet(tmp_path / f"predictions/{run}.parquet")
    study = load_study(tmp_path)
    assert tables.labels_of(study, "utkface")["group"].nunique() == 200
    assert "utkface_label_conflicts" in build(study, resamples=50).tables


def test_command_writes_every_table_and_figure(study_dir, tmp_path, capsys):
    assert main([str(study_dir), "--out", str(tmp_path), "--resamples", "50"]) == 0
    results = pd.read_csv(tmp_path / "results.csv")
    assert results[["ci_low", "ci_high"]].notna().all(axis=None)
    captions = json.loads((tmp_path / "figures" / "captions.json").read_text())
    assert "n = " in captions["utkface_age_bars"]["caption"]
    assert {path.stem for path in (tmp_path / "figures").glob("*.svg")} == set(captions)
    assert "done" in capsys.readouterr().out


def test_the_same_report_gives_the_same_bytes(report, study_dir, tmp_path):
    again = build(load_study(study_dir), resamples=100)
    for name, made in (("one", report), ("two", again)):
        figures = {"bars": made.figures["utkface_age_bars"]}
        write(Report(made.tables, figures, made.findings), tmp_path / name)
    for path in (tmp_path / "one").rglob("*.*"):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == twin.read_bytes(), path.name


def test_command_refuses_a_missing_folder_and_survives_an_empty_one(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "none")])
    assert "expected a study" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 0
    assert "no predictions" in capsys.readouterr().out


def test_claims_stand_beside_the_same_network_on_both_protocols():
    names = [f"utkface-scratch_cnn-scratch-198-seed129{end}" for end in ("", "-naive")]
    tables_ = [fake_predictions(400, seed, 5.0) for seed in (1, 2)]
    groups = tables_[0]["image"].where(tables_[0].index > 9, "copies")
    splits = pd.DataFrame({"image": tables_[0]["image"], "group": groups})
    tables_[1] = tables_[1].assign(split=["train"] + ["test"] * 399)
    configs = {names[0]: {"epochs": 10}, names[1]: {"epochs": 44}}
    study = Study(
        predictions=dict(zip(names, tables_, strict=True)),
        configs=configs,
        splits={"utkface": splits},
    )
    found = claims.claims(study, "utkface", resamples=50)
    assert set(zip(found["task"], found["claim"], strict=True)) == {
        ("age_bin", 0.8279),
        ("gender", 0.9502),
    }
    gender = found[found["task"] == "gender"]
    assert gender["epochs"].tolist() == [10, 44, 44]
    assert gender["n"].tolist() == [210, 399, 390]  # nine of the ten copies are test faces
    assert gender["ci_low"].lt(gender["value"]).all()
    # Ten against 44 epochs is no effect of the split.
    assert "utkface_leakage" not in build(study, resamples=50).tables
    study.configs.clear()
    assert "utkface_leakage" in build(study, resamples=50).tables


def test_goals_stand_beside_the_best_network_of_each_task():
    table = pd.DataFrame([_row("resnet50", "finetune", 96, 4.4), _row("peer_x", "", 0, 3.0)])
    table.loc[0, ["gender", "gender_low", "gender_high"]] = 0.96, 0.95, 0.97
    found = goals.goals(table, "utkface").set_index("task")
    assert found["met"].to_dict() == {"age": False, "gender": True}
    assert found.loc["age", "value"] == 4.4  # a peer is no network of the study
    text = goals.readable(found.reset_index())
    assert text.loc[1, "reached"] == "96.0 [95.0, 97.0]" and text.loc[1, "met"] == "yes"
    assert goals.readable(goals.goals(table, "synthetic")).empty


def test_what_is_left_of_the_error():
    faces = fake_predictions(200, 1, 5.0).assign(split="test", gender="male", age=30.0)
    right, wrong = [0.9, 0.1], [0.2, 0.8]
    columns = ["p_gender_male", "p_gender_female"]
    first = faces.assign(pred_age=31.0)
    first[columns] = [wrong] * 20 + [right] * 180
    second = first.copy()
    second[columns] = [wrong] * 5 + [right] * 195
    first.loc[:9, "pred_age"], second.loc[:9, "pred_age"] = 45.0, [45.0] * 4 + [15.0] * 6
    bounds = pd.DataFrame(
        [("age", "mae", 0.85, 0.8, 0.9), ("gender", "accuracy", 0.95, 0.94, 0.96)],
        columns=["task", "metric", "ceiling", "ci_low", "ci_high"],
    )
    found = remaining.remaining([first, second], bounds).set_index("task")
    assert found.loc["gender", "error"] == pytest.approx(0.1)
    assert found.loc["gender", "noise_share"] == pytest.approx(0.5)
    assert found.loc["gender", "noise_low"] == pytest.approx(0.04)
    assert found.loc["gender", ["wrong", "n"]].tolist() == [20, 200]
    assert found.loc["gender", "same_answer"] == pytest.approx(0.25)
    assert found.loc["age", "error"] == pytest.approx(1.7)
    assert found.loc["age", "same_answer"] == pytest.approx(0.4)  # six err to the other side
    text = remaining.readable(found.reset_index())
    assert text.loc[1, "label noise"] == "5.0 % [4.0, 6.0]"
    assert text.loc[0, "share of the error"] == "-"  # absolute errors do not add
    assert (remaining.remaining([first, second[:100]], bounds)["n"] == 100).all()
