"""Scoring folders and data sets, shipping models, and what is odd about both."""

import os
import shutil
import subprocess
import sys
from unittest import mock

import demo_kit as kit
import numpy as np
import pandas as pd
import pytest
from conftest import script
from PIL import Image

from utils import datasets, faces, models, predict, study
from utils.datasets.pictures import open_rgb
from utils.datasets.synthetic import draw_face
from utils.files import DataError, write_json
from utils.paths import ROOT
from utils.predict import main

CASES = ROOT / "tests" / "cases"
TURNED = 6  # EXIF: turn by 90 degrees clockwise to see it upright


@pytest.fixture(scope="module")
def run(_own_work_folder):
    return kit.write_run("utkface-vgg19-finetune-48-seed3").name


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for k, ending in enumerate(("png", "gif", "tga", "jfif", "jp2", "avif")):
        draw_face(f"synthetic/7/{k:06d}.png").save(tmp_path / "in" / f"{k}.{ending}")
    Image.new("L", (90, 120), 128).save(tmp_path / "in" / "deep" / "grey.JPG")
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    (tmp_path / "in" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    return tmp_path / "in"


def scores(folder, run, **options):
    bad: list = []
    parts = list(predict.score_folder(folder, run, bad=bad, **options))
    return pd.concat(parts, ignore_index=True), dict(bad)


def test_every_picture_is_scored_or_listed(run, folder):
    table, bad = scores(folder, run)
    names = ["0.png", "1.gif", "2.tga", "3.jfif", "4.jp2", "5.avif", "deep/grey.JPG"]
    assert table["image"].tolist() == names
    assert set(bad) == {"text.jpg", "photo.heic"} and bad["text.jpg"] == "not a picture"
    assert "save as JPEG" in bad["photo.heic"]
    assert table["pred_age"].between(0, 116).all() and table["age"].isna().all()
    assert (table["age_q10"] <= table["age_q90"]).all()
    np.testing.assert_allclose(table.filter(like="p_ethnicity_").sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_the_command_writes_by_the_name(run, folder, tmp_path, ending, capsys):
    shutil.copy(folder / "0.png", folder / "=cmd|calc.png")
    out = tmp_path / f"scores{ending}"
    assert main([str(folder), "--model", run, "--out", str(out)]) == 0
    table = pd.read_csv(out) if ending == ".csv" else pd.read_parquet(out)
    assert len(table) == 8 and list(table)[:2] == ["image", "split"]
    inert = "'=cmd|calc.png" if ending == ".csv" else "=cmd|calc.png"
    assert inert in set(table["image"])
    assert "left out: text.jpg: not a picture" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{empty}", "--out", "{empty}/x.csv"], "holds no picture"),
        (["{empty}/no", "--out", "{empty}/x.csv"], "is not a folder"),
        (["{empty}", "--out", "x.xlsx"], "expected the name of a .csv or .parquet"),
        (["{empty}", "--out", "{empty}/file/x.csv"], "cannot be written"),
        (["{empty}", "--out", "{empty}/x.csv", "--model", "best"], "holds no picture"),
        (["--datasets", "wiki", "--model", "best"], "'best' is not at hand; there are ['mobilenet"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(models, "load", None)  # found out before a network is loaded
    (tmp_path / "file").write_text("")
    assert main([text.replace("{empty}", str(tmp_path)) for text in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_where_no_picture_gives_a_face_each_is_listed(run, tmp_path, capsys):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("no picture")
    assert main([str(tmp_path), "--model", run, "--out", str(tmp_path / "x.csv")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line[:15] for line in lines[:2]] == ["left out: a.jpg", "left out: b.jpg"]
    assert "none of 2 pictures" in lines[2]


def test_a_set_or_a_place_that_is_not_there_is_told_before_any_face_is_scored(
    run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(predict, "set_scores", None)
    (tmp_path / "file").write_text("")
    for sets, study_dir, told in (
        (["synthetic", "mnist"], tmp_path, "'mnist' is unknown"),
        (["synthetic"], tmp_path / "file", "cannot be written"),
    ):
        command = ["--datasets", *sets, "--model", run, "--study", str(study_dir)]
        assert main(command) == 2 and told in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_folder_goes_on_where_it_was_stopped(run, folder, tmp_path, capsys, monkeypatch, ending):
    monkeypatch.setattr(predict, "BATCH", 2)
    monkeypatch.setattr(predict, "PART", 2)
    whole, out = tmp_path / f"whole{ending}", tmp_path / "out" / f"x{ending}"
    assert main([str(folder), "--model", run, "--out", str(whole)]) == 0
    table = pd.read_parquet(whole) if ending == ".parquet" else pd.DataFrame()
    assert (table.filter(regex="^age|^p_|pred").dtypes == "float32").all()
    told, stops, seen = capsys.readouterr(), ["5.avif"], []

    def read(path, upright):
        if path.name in stops:
            raise KeyboardInterrupt
        seen.append(path.name)
        return open_rgb(path, upright)

    monkeypatch.setattr(predict, "open_rgb", read)
    command = [str(folder), "--model", run, "--out", str(out)]
    assert main(command) == 130
    assert "the same command goes on" in capsys.readouterr().err and not out.exists()
    (out.parent / f".parts-{out.name}" / "older").mkdir()
    stops.clear()
    seen.clear()
    assert main(command) == 0
    assert sorted(seen) == ["4.jp2", "5.avif", "grey.JPG", "text.jpg"]
    assert out.read_bytes() == whole.read_bytes() and os.listdir(out.parent) == [out.name]
    assert capsys.readouterr().err == told.err
    # Another picture under an old name: nothing of the parts counts.
    stops.append("5.avif")
    assert main(command) == 130
    draw_face("synthetic/7/000009.png").save(folder / "0.png")
    stops.clear()
    assert main(command) == 0 and out.read_bytes() != whole.read_bytes()
    # Nor do those of other views.
    stops.append("5.avif")
    assert main(command) == 130
    stops.clear()
    seen.clear()
    assert main([*command, "--zoom-tta", "0.05"]) == 0 and {"0.png", "5.avif"} <= set(seen)


def test_decoding_is_a_few_batches_ahead_of_the_network_and_keeps_the_order(monkeypatch):
    monkeypatch.setattr(predict, "BATCH", 2)
    given = []
    ahead = predict._ahead(str.upper, (given.append(name) or name for name in "abcdefghijkl"))
    assert [next(ahead)[1].result() for _ in range(3)] == ["A", "B", "C"] and len(given) == 9
    assert [name for name, _ in ahead] == list("defghijkl")


def test_onnxruntime_says_the_same(run, folder, tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the web extra is not installed")
    outs = {engine: tmp_path / f"{engine}.parquet" for engine in ("keras", "onnx")}
    for engine, out in outs.items():
        views = ["--engine", engine, "--zoom-tta", "0.05"]
        assert main([str(folder), "--model", run, "--out", str(out), *views]) == 0
    one, other = (pd.read_parquet(out).drop(columns=["age", "image"]) for out in outs.values())
    for name in one.columns[one.dtypes == "float32"]:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-3, atol=1e-3, err_msg=name)
    assert len(one.columns[one.dtypes == "float32"]) == 15
    monkeypatch.setattr(models, "load", None)  # the file is at hand now
    predict.Scorer(run, "onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    command = [str(folder), "--model", run, "--engine", "onnx", "--out", str(tmp_path / "x.csv")]
    capsys.readouterr()
    assert main(command) == 2 and "onnxruntime" in (said := capsys.readouterr().err)
    assert "--engine onnx need: pip install -e '.[web]'" in said and said.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main(["--datasets", "wiki", "--model", run, "--engine", "onnx"])


def test_a_folder_may_be_scored_from_smaller_and_larger_pictures_too(run, folder, tmp_path, capsys):
    out = tmp_path / "x.parquet"
    found = []
    for more in ([], ["--zoom-tta", "0.05"], ["--zoom-tta", "0"]):
        assert main([str(folder), "--model", run, "--out", str(out), *more]) == 0
        found.append(pd.read_parquet(out)["pred_age"])
    assert not np.allclose(found[0], found[1]) and np.array_equal(found[0], found[2])
    for wrong in (["--zoom-tta", "1"], ["--zoom-tta", "-0.1"]):
        with pytest.raises(SystemExit, match="2"):
            main([str(folder), "--model", run, "--out", str(out), *wrong])
        assert "expected a share below 1, such as 0.05" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["--datasets", "wiki", "--model", run, "--zoom-tta", "0.05"])


def test_a_folder_is_scored_by_one_model(run, folder, tmp_path, capsys):
    out = tmp_path / "x.csv"
    with pytest.raises(SystemExit, match="2"):
        main([str(folder), "--model", run, "other", "--out", str(out)])
    assert "one --model; or --datasets" in capsys.readouterr().err and not out.exists()


def test_a_name_that_is_not_utf_8_is_listed_and_the_rest_goes_on(run, folder, tmp_path, capsys):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    try:
        draw_face("synthetic/7/000001.png").save(folder / name)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 names only")
    assert main([str(folder), "--model", run, "--out", str(tmp_path / "x.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "x.csv")) == 7
    assert "left out: caf\\xe9.png: file name is not UTF-8" in capsys.readouterr().err


# ------------------------------------------------------------------ as training saw faces


def test_surplus_outputs_are_removed(folder, work_dir):
    """A head of 1000 outputs gave ages of 499 years and genders that summed to 0.002."""
    name = kit.write_run("wide", width=1000, head_width=1000).name
    table, _ = scores(folder, name)
    assert table["pred_age"].between(0, 116).all()
    for task in ("gender", "ethnicity", "age_bin"):
        np.testing.assert_allclose(table.filter(like=f"p_{task}_").sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("dataset", ["wiki", "fairface", "utkface"])
def test_faces_are_cut_as_the_networks_training_set_shows_them(dataset, work_dir, monkeypatch):
    """A picture whose landmarks lie on the set's places comes back as it is."""
    small = np.random.default_rng(2).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    picture = Image.fromarray(small).resize((200, 200), Image.Resampling.BICUBIC)
    frame = faces.FRAMES[dataset]
    side = 200 / frame.margin
    box = (100 - side / 2, 100 - side / 2 - frame.drop * side, side, side)
    face = faces.Face(box, 1.0, np.array(frame.template) * 200)
    scorer = predict.Scorer(kit.write_run("some", dataset=dataset).name)
    same, whole = (np.asarray(scorer.crop(picture, f), float) for f in (face, None))
    assert np.abs(same - whole).mean() < 3
    scorer.about["dataset"] = "wiki" if dataset == "utkface" else "utkface"
    assert np.abs(np.asarray(scorer.crop(picture, face), float) - whole).mean() > 10
    scorer.about["dataset"] = "celeba"
    with pytest.raises(DataError, match="faces.yaml"):
        scorer.crop(picture, face)


def test_pictures_that_are_not_square_are_cut_and_not_squashed(run, tmp_path):
    picture = Image.new("RGB", (300, 100), "blue")
    picture.paste(draw_face("synthetic/7/000001.png").resize((100, 100)), (100, 0))
    picture.save(tmp_path / "wide.png")
    picture.crop((100, 0, 200, 100)).save(tmp_path / "square.png")
    table = scores(tmp_path, run)[0].drop(columns="image").dropna(axis=1)
    np.testing.assert_allclose(table["pred_age"].iloc[0], table["pred_age"].iloc[1], atol=0.2)


def test_a_grey_networks_pictures_are_grey_and_it_may_go_without_the_mirror(work_dir, monkeypatch):
    name = kit.write_run("grey", image_mode="grey48", flip_tta=False, zoom_tta=0.05).name
    scorer = predict.Scorer(name)
    crop = np.asarray(scorer.crop(draw_face("synthetic/7/000001.png")))
    assert (crop[..., 0] == crop[..., 2]).all()
    watched = mock.Mock(wraps=predict.predict_average)
    monkeypatch.setattr(predict, "predict_average", watched)
    scorer.outputs([Image.fromarray(crop)])
    assert watched.call_args.kwargs == {"flip_tta": False, "zoom_tta": 0.05}
    predict.Scorer(name, zoom_tta=0.0).outputs([Image.fromarray(crop)])
    assert watched.call_args.kwargs == {"flip_tta": False, "zoom_tta": 0.0}


def test_photographs_are_turned_as_their_camera_says(run, tmp_path):
    upright, exif = draw_face("synthetic/7/000001.png"), Image.Exif()
    exif[0x0112] = TURNED
    upright.save(tmp_path / "a.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "c.png", exif=kit.exif(b"6"))
    upright.save(tmp_path / "d.png", exif=kit.exif(b"odd"))  # no number: taken as upright
    ages = scores(tmp_path, run)[0]["pred_age"]
    assert len(ages) == 4 and ages.round(3).nunique() == 1
    table, bad = scores(CASES / "exif", run)  # odd fields stop nothing
    assert len(table) == len(list((CASES / "exif").iterdir())) and not bad


def test_real_faces_are_read_as_their_labels_say(real_data, tmp_path):
    names = sorted((real_data / "UTKFace").glob("*_*_*_*.jpg"))[::500][:20]
    for path in names:
        shutil.copy(path, tmp_path)
    table, bad = scores(tmp_path, "mobilenetv2")
    ages = table["image"].str.split("_").str[0].astype(float)
    assert not bad and (table["pred_age"] - ages).abs().mean() < 8


# ------------------------------------------------------------------ models


def test_a_shipped_model_predicts_as_the_run_did(tmp_path, monkeypatch, work_dir):
    from utils.backbones.networks import build_network

    folder = kit.write_run("tiny", "mobilenetv2", dataset="synthetic", input_size=64)
    build_network("mobilenetv2", 64, models.NEEDED, weights="none").save(folder / "model.keras")
    target = script("data/models/ship.py").ship("tiny", "small", root=tmp_path)
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    assert (target / "weights.h5").stat().st_size < 6_000_000
    images = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3)).astype("float32")
    first, second = (models.load(name).predict(images, verbose=0) for name in ("tiny", "small"))
    for task in first:
        np.testing.assert_allclose(first[task], second[task], atol=0.02)
    write_json(target / "model.json", models.describe(target) | {"model": "alexnet"})
    with pytest.raises(ValueError, match="cannot be read .*expected alexnet"):
        models.load("small")


def test_a_backbone_can_start_from_the_shipped_network():
    from utils.backbones import networks

    arrays = models.shipped_backbone_weights("mobilenetv2")
    network = networks.build_network("mobilenetv2", 64, ["gender"], weights="none")
    lower = networks.cut(network, networks.FEATURES)[0]
    assert [w.shape for w in lower.get_weights()] == [w.shape for w in arrays]
    with pytest.raises(ValueError, match="'vgg19' is not at hand"):
        models.shipped_backbone_weights("vgg19")


ODD = [("metrics.json", text) for text in ("", "[]", "{}", '{"rows": [1]}', '{"rows": null}')]
ODD += [("config.json", text) for text in ('{"model": []}', '{"tasks": null}', '{"dataset": {}}')]


def test_a_broken_model_does_not_hide_the_others(work_dir, capsys):
    good, cut, bare, odd = (kit.write_run(name) for name in ("good", "cut", "bare", "odd"))
    (cut / "model.keras").write_bytes((cut / "model.keras").read_bytes()[:5000])
    (bare / "config.json").unlink()
    (odd / "config.json").write_text("[1]")
    runs = {n: f for n, f in models.available().items() if f.parent == good.parent}
    assert list(runs) == ["good"]
    for number, (name, content) in enumerate(ODD):
        (kit.write_run(f"odd{number}") / name).write_text(content)
    models.available()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6 + len(ODD) and all(line.startswith("left out: ") for line in lines)
    for load, given in ((models.load, "cut"), (study.load_model, cut)):
        with pytest.raises(DataError, match="damaged") as error:  # Keras calls it "not found"
            load(given)
        assert "not found" not in str(error.value).lower()


def test_any_run_can_be_loaded_wherever_models_is_imported(work_dir):
    """Keras could not locate the class Preprocess if nobody had imported it."""
    from utils.backbones.networks import build_network

    folder = kit.write_run("real", "mobilenetv2")
    build_network("mobilenetv2", 48, ["age"], weights="none").save(folder / "model.keras")
    code = f"from utils import models, study; study.load_model({str(folder)!r})"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]


# ------------------------------------------------------------------ data sets


def test_scoring_keeps_rows_in_order_and_marks_faces_not_found(run):
    found = datasets.load("synthetic", n=5)
    names = iter(found.table["image"])
    marks = np.array(faces.FRAMES["utkface"].template) * 80
    face = faces.Face((60.0, 60.0, 80.0, 80.0), 1.0, marks)
    find = {"plain": lambda picture: [None]}
    find["cut"] = lambda picture: [face if next(names).endswith("1.png") else None]
    scorer = predict.Scorer(run)
    plain, cut = (predict.set_scores(scorer, found, find[n], []) for n in ("plain", "cut"))
    assert cut["image"].tolist() == found.table["image"].tolist()
    assert cut["found"].tolist() == [False, True, False, False, False]
    assert ((cut["pred_age"] == plain["pred_age"]) != cut["found"]).all()
    assert {"group", "p_age_bin_4", "p_gender_female", "age_q90"} <= set(plain)


def test_a_cut_picture_of_a_set_is_listed_and_the_rest_scored(run, folder):
    (folder / "0.png").write_bytes((folder / "0.png").read_bytes()[:2000])
    table = datasets.new_table(["0.png", "1.gif"], source="wiki", age=30.0)
    found, bad = datasets.FaceSet("wiki", table, root=folder), []
    scored = predict.set_scores(predict.Scorer(run), found, None, bad)
    assert bad[0][0] == "0.png" and scored["image"].tolist() == ["1.gif"]


def test_the_test_part_is_limited_by_names(monkeypatch):
    found = datasets.load("synthetic", n=40)
    split = pd.DataFrame({"image": found.table["image"], "group": "g" + found.table["image"]})
    split["split"] = ["test" if k % 2 else "train" for k in range(40)]
    monkeypatch.setattr(predict, "published_split", lambda name: split)
    ten, all_ = predict.other_faces(found, 10), predict.other_faces(found, 0)
    assert len(ten) == 10 and len(all_) == 20
    assert set(ten.table["image"]) < set(split.loc[split["split"] == "test", "image"])
    assert (ten.table["split"] == "test").all() and ten.table["group"].str.startswith("g").all()


def test_a_set_is_scored_twice_into_a_study(run, work_dir, tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(faces, "locate", lambda picture: calls.append(1))
    monkeypatch.setattr(predict, "other_faces", lambda *_: datasets.load("synthetic", n=3))
    names = [kit.write_run(name).name for name in ("one", "two")]
    command = ["--datasets", "synthetic", "--study", str(tmp_path), "--model"]
    assert main([*command, *names]) == 0
    written = sorted(path.name for path in (tmp_path / "cross_dataset").iterdir())
    assert written == [f"{n}@synthetic{e}.parquet" for n in names for e in ("-cropped", "")]
    assert len(calls) == 3  # once for both models
    assert "found" in pd.read_parquet(tmp_path / "cross_dataset" / written[0])
    home = kit.write_run("home", dataset="synthetic").name
    assert main([*command, home]) == 2 and "has not seen" in capsys.readouterr().err
