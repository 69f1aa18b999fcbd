"""From run folders to explanations.csv, sentences and figures, on a tiny network."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from test_explain import tiny_model

from utils.datasets import prepare
from utils.explain import evidence, figures, measure, summary, views
from utils.explain.__main__ import main
from utils.explain.checks import FAITHFULNESS, LOWER_IS_BETTER, means_of
from utils.explain.examples import measure_examples
from utils.explain.maps import CONTROLS
from utils.explain.maps import METHODS as NAMES
from utils.paths import ROOT
from utils.vocabulary import OUTPUTS, probability_columns

SIZE, FACES, METHODS = 32, 60, list(NAMES)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Views of two runs on drawn faces."""
    root = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACES_WORK_DIR", str(root))
        faces = prepare("synthetic", SIZE, progress=False, n=FACES)
        layers = {"mobilenetv2": "out_relu", "efficientnetv2b0": "top_activation"}
        for seed, (model, last) in enumerate(layers.items()):
            folder = root / "runs" / f"run-{model}"
            folder.mkdir(parents=True)
            network = tiny_model(SIZE, OUTPUTS, seed, layer=last)
            outputs = network.predict(np.asarray(faces.images, "float32"), verbose=0)
            network.save(folder / "model.keras")
            table = faces.table.assign(split="test", pred_age=outputs["age"] @ np.arange(117.0))
            for task in ("age_bin", "gender", "ethnicity"):
                table[probability_columns(task)] = outputs[task]
            table.to_parquet(folder / "predictions.parquet", index=False)
            config = {"model": model, "dataset": "synthetic", "seed": 129, "split": "group"}
            config |= {"protocol": "finetune", "input_size": SIZE, "tasks": list(OUTPUTS)}
            config |= {"dataset_options": {"n": FACES}}
            (folder / "config.json").write_text(json.dumps(config))
            (folder / "environment.json").write_text("{}")
            (folder / "metrics.json").write_text(json.dumps({"rows": []}))
        yield views.open_views()


def test_runs_give_faces_tasks_and_layers(opened):
    assert [view.config["model"] for view in opened] == ["mobilenetv2", "efficientnetv2b0"]
    assert opened[0].target("gender").layer == "out_relu"
    assert opened[1].target("gender").layer == "top_activation"
    names = views.common_faces(opened, 7)
    assert len(set(names)) == 7 and (views.common_faces(opened, 7) == names).all()
    assert opened[0].images(names).shape == (7, SIZE, SIZE, 3)
    assert len(opened[0].groups(names)) == 7
    assert len(views.common_faces([])) == 0
    with pytest.raises(ValueError, match="expected a list of names"):
        views.open_views("run")
    with pytest.raises(ValueError, match="1 faces such as 'x.jpg' are not in its data set"):
        opened[0].images(["x.jpg"])


def test_one_missing_run_does_not_hide_the_others(opened, capsys, tmp_path):
    found = views.open_views(["run-mobilenetv2", "nothing"])
    assert [view.run for view in found] == ["run-mobilenetv2"]
    assert "left out: model 'nothing' is not at hand" in capsys.readouterr().out
    with pytest.raises(ValueError, match="model 'nothing' is not at hand"):
        views.open_views(["nothing"])
    assert views.open_views(dataset="wiki") == []
    out = tmp_path / "explanations.csv"
    assert main(["nothing", "--out", str(out)]) == 2
    assert "model 'nothing' is not at hand" in capsys.readouterr().err and not out.exists()


def test_a_network_can_be_explained_on_drawn_faces(opened):
    (view,) = views.open_views(["run-mobilenetv2"], drawn=20)
    names = views.common_faces([view])
    assert view.run == "run-mobilenetv2@synthetic" and len(names) == 20
    columns = ["pred_age", *probability_columns("gender")]
    stored, judged = (one.predictions.loc[names, columns] for one in (opened[0], view))
    np.testing.assert_allclose(judged, stored, rtol=1e-4)


SMALL = {"n": 12, "faithful": 5, "sanity": 4, "slow": 3, "steps": 3, "stages": 2, "least": 3}
FAST = SMALL | {"methods": METHODS[:2]}


def test_measure_fills_the_table(opened):
    names = views.common_faces(opened, 12)
    settings = measure.SETTINGS | SMALL | {"max_maps": 2}
    found = measure.measure(opened[0], "gender", names, settings, progress=False)
    have = set(found.table["statistic"])
    assert {*FAITHFULNESS, "randomization_similarity", "pointing_game", "energy_inside"} <= have
    assert {"deletion_auc_blurred", "blank_alike", "vanished", "emprt"} <= have
    assert {*METHODS, *CONTROLS} == set(found.table["method"])
    assert found.table[["value", "ci_low", "ci_high"]].notna().all(axis=None)
    # Each row says on how many faces it rests.
    n = found.table[found.table["statistic"] == "deletion_auc"].set_index("method")["n"]
    assert n["gradcam"] == n["random"] == 5 and n["scorecam"] == n["random_pixels"] == 3
    left = found.table[found.table["statistic"] == "vanished"]
    assert (left["n"] == 4).all() and set(left["method"]) == set(METHODS)
    assert len(found.about["groups"]) == found.about["counts"]["all"] == 12
    assert all(np.isfinite(heat).all() and heat.shape == (32, 32) for heat in found.maps.values())
    assert {group.split(":")[0] for group in found.maps} >= {"all", "gender", "class"}
    page = summary.summarise([found, measure.look(opened[1], "gender", names, settings)], "none")
    assert set(page.figures) == {"mean_maps", "methods", "true_evidence"}
    for figure in page.figures.values():
        figure.canvas.draw()
        assert "synthetic" in figure.finding and "n = " in figure.caption


def test_two_drawn_faces_are_kept_with_maps_of_every_network(opened, tmp_path):
    path = measure_examples(opened[:2], tmp_path, "gender")
    held = dict(np.load(path, allow_pickle=False))
    assert held["maps"].shape[:3] == (2, 3, len(METHODS)) and held["masks"].any(axis=(1, 2)).all()
    assert (held["right"].sum(axis=0)[0] >= held["right"].sum(axis=0)[1]).all()
    assert (held["maps"][:, 0] != held["maps"][:, 2]).any()  # random weights give other maps
    for case in range(3):
        figure = figures.examples(held, case)
        assert len(figure.axes) == 2 * 5 and "synthetic" in figure.finding
    assert "of 8 maps survive" in figure.finding


def test_measuring_goes_on_where_it_stopped(opened, tmp_path, monkeypatch):
    out = tmp_path / "study" / "explanations.csv"

    def again(tasks=("gender", "age"), settings=FAST):
        return measure.measure_runs(opened[:1], tasks, out, settings, progress=False)

    def never(*args, **kwargs):
        raise AssertionError("measured again")

    def files():
        return out.read_bytes(), sorted(path.name for path in out.parent.glob("*/*"))

    first = again()
    before = files()
    assert len(before[1]) == 3 and set(pd.read_csv(out)["task"]) == {"age", "gender"}
    monkeypatch.setattr(measure, "measure", never)
    for one, two in zip(first, again(), strict=True):
        assert one.about == two.about and one.maps.keys() == two.maps.keys()
        pd.testing.assert_frame_equal(one.table, two.table, check_dtype=False)
        np.testing.assert_allclose(one.per_face.iloc[:, 2:], two.per_face.iloc[:, 2:], atol=1e-3)
    assert files() == before
    # A lost table comes back from the evidence; other settings, or a broken file, do not pass.
    out.unlink()
    again()
    assert files() == before
    with pytest.raises(AssertionError, match="measured again"):
        again(settings=FAST | {"steps": 2})
    with monkeypatch.context() as patch, pytest.raises(AssertionError, match="measured again"):
        patch.setitem(opened[0].__dict__, "network", "another")
        again()
    # A face that is measured anew is in the mean face, too.
    (mean,) = out.parent.glob("*/mean_faces-*.npz")
    n = int(np.load(mean)["n"])
    np.savez_compressed(mean, n=n - 1)  # of other faces
    monkeypatch.setattr(measure, "measure", lambda *_: first[0])
    again(("gender",), FAST | {"steps": 2})
    assert np.load(mean)["n"] == n
    np.savez_compressed(mean, n=n + 1)  # of more faces: stays
    again(("gender",), FAST | {"steps": 2})
    assert np.load(mean)["n"] == n + 1
    monkeypatch.setattr(measure, "measure", never)
    run = first[0].about["run"]
    evidence.evidence_path(out.parent / "explanations", run, "gender").write_text("x")
    with pytest.raises(AssertionError, match="measured again"):
        again()


def test_real_mean_faces_need_thirty(opened, monkeypatch):
    """A mean of a few real people would show them."""
    names = views.common_faces(opened, 40)
    everyone = measure.mean_faces(opened[0], names)
    monkeypatch.setitem(opened[0].config, "dataset", "utkface")
    faces = measure.mean_faces(opened[0], names)
    groups = measure._groups(opened[0], "age", names)
    assert set(faces) == {"n", *(group for group, rows in groups.items() if len(rows) >= 30)}
    assert "all" in faces and len(faces) < len(everyone)


# ---------------------------------------------------------------- stored measurements


def _evidence(run, model, good=(), stays=(), cells=7, seed=0):
    """Methods in `good` are far better than the Gaussian; those in `stays` survive any weights."""
    rng, n = np.random.default_rng(seed), 40
    per_face = []
    for method in (*METHODS, *CONTROLS):
        row = {"method": method, "face": np.arange(n)}
        for name in FAITHFULNESS:
            better = -0.3 if name in LOWER_IS_BETTER else 0.3
            row[name] = 0.5 + rng.normal(0, 0.02, n) + better * (method in good)
        per_face.append(pd.DataFrame(row))
    per_face = pd.concat(per_face, ignore_index=True)
    value = [0.9 if method in stays else 0.1 for method in METHODS]
    last = pd.DataFrame({"method": METHODS, "value": value, "n": 8})
    last = last.assign(ci_low=last["value"] - 0.1, ci_high=last["value"] + 0.1)
    last["statistic"] = "randomization_similarity"
    tables = [means_of(per_face), last]
    about = {"run": run, "model": model, "label": model.title(), "task": "gender"}
    about |= {"dataset": "utkface", "counts": {"all": n}, "field_of_view": [[0.5, 0.1]] * cells}
    table = pd.concat(tables, ignore_index=True).assign(run=run, model=model, task="gender")
    maps = {"all": rng.random((8, 8)).astype(np.float16)}
    return evidence.Evidence(about, maps, table[evidence.COLUMNS], per_face)


@pytest.fixture
def study(tmp_path):
    for one in (
        _evidence("run-a", "alexnet", METHODS[:1]),
        _evidence("run-b", "resnet50", (), METHODS[3:], cells=3, seed=1),
    ):
        evidence.save_evidence(tmp_path / evidence.FOLDER, one)
        evidence.write_explanations(tmp_path / "explanations.csv", one.table)
    return tmp_path


def test_the_verdict_stands_above_the_mean_maps(study):
    page = summary.summarise_study(study)
    # Four of eight comparisons are no majority.
    assert page.sentences[0].startswith("**No method was shown to be right on single faces**")
    assert list(page.figures) == ["mean_maps", "methods"]
    assert page.figures["mean_maps"].finding == "No method was shown to be right on single faces"
    for figure in page.figures.values():
        figure.canvas.draw()
        assert figure.finding and "UTKFace" in figure.caption
    methods = page.tables["methods"].set_index("method")
    assert methods["both_curves"].to_dict() == {"gradcam": 1} | dict.fromkeys([*METHODS][1:], 0)
    assert methods.loc["smoothgrad", ["fails", "similarity"]].tolist() == [1, 0.5]
    better = page.tables["methods"].assign(**dict.fromkeys(FAITHFULNESS, 2), fails=[1, 0, 1, 1])
    assert summary.trusted(better).startswith("**To be trusted most: Grad-CAM++**")
    assert "Resnet50 10% (3 x 3 cells)" in page.sentences[1]


def test_true_evidence_is_compared_with_the_gaussian(study):
    values = zip((*METHODS, *CONTROLS), (0.5, 0.2, 0.4, 0.3, 0.1, 0.1, 0.25), strict=True)
    rows = [
        {"method": m, "value": v, "ci_low": v - 0.1, "ci_high": v + 0.1, "n": 50} for m, v in values
    ]
    one = _evidence("run-c", "alexnet")
    one.about["dataset"] = "synthetic"
    one.table = pd.DataFrame(rows).assign(run="run-c", model="alexnet", task="gender")
    one.table = one.table.assign(statistic="energy_inside")
    evidence.save_evidence(study / evidence.FOLDER, one)
    evidence.write_explanations(study / "explanations.csv", one.table)
    text = summary.summarise_study(study).figures["true_evidence"].finding
    assert "Grad-CAM puts 50%" in text and "Gaussian 25%" in text and "Drawn faces" in text


def test_stored_measurements_of_the_study_can_still_be_read(tmp_path):
    page = summary.summarise_study(ROOT / "reports" / "study")
    assert set(page.figures) == {"mean_maps", "methods", "true_evidence"}
    assert len(page.tables["methods"]) == 4 and (page.tables["methods"]["cases"] == 16).all()
    page = summary.summarise_study(tmp_path)
    assert not page.sentences and not page.figures


def test_evidence_files_repeat_byte_by_byte(tmp_path):
    one = _evidence("run-a", "alexnet")
    first = evidence.save_evidence(tmp_path, one).read_bytes()
    (again,) = evidence.load_all(tmp_path)
    assert evidence.save_evidence(tmp_path / "b", again).read_bytes() == first
    assert again.about == one.about and len(again.per_face) == len(one.per_face)
    pd.testing.assert_frame_equal(again.table, one.table, check_dtype=False)


def test_the_table_keeps_other_runs_and_a_broken_file_is_named(tmp_path):
    path, one = tmp_path / "study" / "explanations.csv", _evidence("run-a", "alexnet")
    evidence.write_explanations(path, one.table)
    evidence.write_explanations(path, one.table.assign(run="run-b"))
    evidence.write_explanations(path, one.table.assign(value=0.5))
    table = evidence.read_explanations(path)
    assert list(table) == evidence.COLUMNS and len(table) == 2 * len(one.table)
    assert (table.loc[table["run"] == "run-a", "value"] == 0.5).all()
    assert len(list(path.parent.iterdir())) == 1
    table.drop(columns="n").to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"lacks the columns \['n'\]"):
        evidence.read_explanations(path)
    (tmp_path / "run--age.npz").write_bytes(b"PK half a zip")
    with pytest.raises(ValueError, match=r"run--age.npz holds no evidence.*delete it"):
        evidence.load_all(tmp_path)


def test_two_runs_of_one_network_have_different_labels():
    found = [_evidence(run, "vgg19") for run in ("run-a", "run-b")]
    for one, size in zip(found, (96, 224), strict=True):
        one.about |= {"input_size": size, "protocol": "finetune"}
    names = evidence.labels(found)
    assert names["run-a"] == "VGG-19, full fine-tuning, 96 px" != names["run-b"]
    assert evidence.labels(found[:1]) == {"run-a": "Vgg19"}


def test_the_page_needs_no_tensorflow(study):
    code = (
        "import sys; from utils.explain.summary import summarise_study as s;"
        f"assert s({str(study)!r}).sentences; assert 'tensorflow' not in sys.modules, 'loaded'"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_every_bar_is_that_of_the_project():
    """`tqdm.auto` puts a red box about IProgress into a notebook."""
    texts = {path.name: path.read_text() for path in (ROOT / "utils").rglob("*.py")}
    assert [name for name, text in texts.items() if "import tqdm" in text] == ["progress.py"]
