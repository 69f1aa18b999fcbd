"""Scoring folders, shipping models."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from utils import models, runs
from utils.datasets.synthetic import draw_face
from utils.files import read_json, write_json
from utils.predict import main, predict_folder
from utils.report import model_card
from utils.training import RunConfig, train


@pytest.fixture(scope="module")
def run(_own_work_folder):
    config = RunConfig(
        dataset="synthetic",
        dataset_options={"n": 100},
        model="mobilenetv2",
        protocol="head",
        weights="none",
        epochs=1,
        input_size=64,
        seed=3,
    )
    return train(config, progress=False).name


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for k in range(3):
        draw_face(f"synthetic/7/{k:06d}.png").save(tmp_path / "in" / f"{k}.png")
    Image.new("L", (90, 120), 128).save(tmp_path / "in" / "deep" / "grey.jpg")
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    return tmp_path / "in"


def test_every_picture_is_scored_or_listed(run, folder):
    table, bad = predict_folder(folder, run, progress=False)
    assert table["image"].tolist() == ["0.png", "1.png", "2.png", "deep/grey.jpg"]
    assert bad.to_dict("records") == [{"image": "text.jpg", "reason": "not a picture"}]
    assert table["pred_age"].between(0, 116).all()
    assert (table["age_q10"] <= table["age_q90"]).all()
    p = table.filter(like="p_ethnicity_")
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_the_command_writes_by_the_name(run, folder, tmp_path, ending, capsys):
    out = tmp_path / f"scores{ending}"
    assert main([str(folder), "--model", run, "--out", str(out)]) == 0
    table = pd.read_csv(out) if ending == ".csv" else pd.read_parquet(out)
    assert len(table) == 4
    assert "left out: text.jpg: not a picture" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{empty}", "--out", "x.csv"], "holds no picture"),
        (["{empty}/no", "--out", "x.csv"], "is not a folder"),
        (["{empty}", "--out", "x.xlsx"], "expected .csv or .parquet"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, arguments, message, capsys):
    arguments = [text.replace("{empty}", str(tmp_path)) for text in arguments]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_unknown_model_lists_those_at_hand(run, folder):
    with pytest.raises(ValueError, match=f"'best' is not at hand.*{run}"):
        predict_folder(folder, "best", progress=False)


def test_a_shipped_model_predicts_as_the_run_did(run, tmp_path, monkeypatch):
    target = models.ship(run, "small", root=tmp_path)
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    assert (target / "weights.h5").stat().st_size < 6_000_000
    images = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3)).astype("float32")
    first, second = (models.load(name).predict(images, verbose=0) for name in (run, "small"))
    for task in first:
        np.testing.assert_allclose(first[task], second[task], atol=0.02)


def test_a_model_card_holds_the_figures_of_the_run(run, tmp_path, capsys):
    assert model_card.main([run, "small", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "small" / "README.md").read_text()
    scores = pd.DataFrame(read_json(runs.runs_dir() / run / "metrics.json")["rows"])
    row = scores.query("task == 'age' and metric == 'mae' and split == 'test'").iloc[0]
    assert f"| age | mean absolute error (years) | {row['value']:.2f} [" in text
    assert "female" in text and "| White" in text and "non-commercial" in text
    assert model_card.main(["no-such-run"]) == 2
    assert "no finished run no-such-run" in capsys.readouterr().err


def test_weights_that_do_not_fit_are_named(run, tmp_path, monkeypatch):
    target = models.ship(run, "small", root=tmp_path)
    about = models.describe(target)
    write_json(target / "model.json", about | {"model": "alexnet"})
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    with pytest.raises(ValueError, match="does not fit alexnet"):
        models.load("small")


def test_photographs_are_turned_as_their_camera_says(tmp_path):
    from utils.datasets.cleaning import open_rgb

    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert open_rgb(tmp_path / "a.jpg").size == (40, 20)
    assert open_rgb(tmp_path / "a.jpg", upright=True).size == (20, 40)
