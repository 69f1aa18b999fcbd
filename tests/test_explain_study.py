"""From run folders to figures and explanations.csv, on a tiny network and synthetic faces."""

import json
import time
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest

from utils.datasets.facetable import AGE_BINS, ETHNICITIES, GENDERS
from utils.explain import evidence, measure, pages, select, study
from utils.explain.cams import batched_gradcam
from utils.explain.names import CONTROLS, METHODS
from utils.explain.table import read_explanations

SIZE, FACES = 32, 60
TASKS = {"age": 117, "gender": 2, "ethnicity": 5, "age_bin": 5}


def _network(seed):
    keras.utils.set_random_seed(seed)
    start = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(start)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(x)
    # The registry's name, so that the run passes for a MobileNetV2.
    x = keras.layers.ReLU(6.0, name="out_relu")(keras.layers.Conv2D(8, 3, name="last")(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(
        start,
        {
            task: keras.layers.Dense(
                n, activation="softmax", name=task, bias_initializer="random_normal"
            )(x)
            for task, n in TASKS.items()
        },
    )


def _predictions(table, outputs):
    columns = {name: table[name] for name in ("image", "split", "age", "gender", "ethnicity")}
    columns["pred_age"] = outputs["age"] @ np.arange(117.0)
    columns["age_q10"], columns["age_q90"] = columns["pred_age"] - 9, columns["pred_age"] + 9
    for task, names in (
        ("age_bin", range(len(AGE_BINS))),
        ("gender", GENDERS),
        ("ethnicity", ETHNICITIES),
    ):
        columns |= {f"p_{task}_{name}": outputs[task][:, i] for i, name in enumerate(names)}
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    from utils.datasets import prepare

    root = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACES_WORK_DIR", str(root))
        faces = prepare("synthetic", SIZE, progress=False, n=FACES)
        for seed, model in enumerate(("mobilenetv2", "efficientnetv2b0")):
            folder = root / "runs" / f"synthetic-{model}-finetune-{SIZE}-seed129"
            folder.mkdir(parents=True)
            network = _network(seed)
            if model != "mobilenetv2":
                network = _renamed(network)
            outputs = network.predict(np.asarray(faces.images, "float32"), verbose=0)
            network.save(folder / "model.keras")
            table = _predictions(faces.table, outputs).assign(split="test")
            table.to_parquet(folder / "predictions.parquet", index=False)
            config = dict(
                model=model,
                label=model.title(),
                dataset="synthetic",
                seed=129,
                split="group",
                split_seed=129,
                input_size=SIZE,
                tasks=list(TASKS),
                protocol="finetune",
                dataset_options={"n": FACES},
            )
            (folder / "config.json").write_text(json.dumps(config))
            (folder / "metrics.json").write_text("{}")
        yield study.open_runs()


def _renamed(network):
    def rename(layer):
        config = layer.get_config()
        if config["name"] == "out_relu":
            config["name"] = "top_activation"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(network, clone_function=rename)
    copy.set_weights(network.get_weights())
    return copy


def test_runs_give_faces_tasks_and_layers(views):
    assert [view.config["model"] for view in views] == ["mobilenetv2", "efficientnetv2b0"]
    assert views[0].target("gender").layer == "out_relu"
    assert views[1].target("gender").layer == "top_activation"
    names = study.common_faces(views, 7)
    assert len(set(names)) == 7 and (study.common_faces(views, 7) == names).all()
    assert views[0].images(names).shape == (7, SIZE, SIZE, 3)
    assert study.common_tasks(views, ["gender", "age"]) == ["gender", "age"]
    with pytest.raises(ValueError, match=r"tasks \['height'\] are unknown"):
        study.common_tasks(views, ["height"])
    with pytest.raises(ValueError, match="expected a list of names"):
        study.common_tasks(views, "gender")
    with pytest.raises(ValueError, match="1 faces such as 'x.jpg' are not in its data set"):
        views[0].images(["x.jpg"])


SMALL = measure.Settings(n=12, faithful=5, sanity=3, slow=3, steps=3, stages=2, least=3)
FAST = replace(SMALL, methods=METHODS[:2])


def test_measure_fills_the_table(views):
    names = study.common_faces(views, 12)
    found = measure.measure(views[0], "gender", names, replace(SMALL, max_maps=2), progress=False)
    have = set(found.table["statistic"])
    assert {
        "deletion_auc",
        "insertion_auc",
        "average_drop",
        "increase_in_confidence",
        "randomization_similarity",
        "pointing_game",
        "energy_inside",
    } <= have
    # The regions are those of UTKFace's crop: drawn faces lie elsewhere.
    assert "attention_eyes" not in have
    assert {*METHODS, *CONTROLS} == set(found.table["method"])
    assert found.table[["value", "ci_low", "ci_high"]].notna().all(axis=None)
    assert (found.table["ci_low"] <= found.table["value"] + 1e-9).all()
    # Each row says on how many faces it rests.
    n = found.table[found.table["statistic"] == "deletion_auc"].set_index("method")["n"]
    assert n["gradcam"] == n["random"] == 5 and n["scorecam"] == n["smoothgrad"] == 3
    assert len(found.shares) == 12 and found.about["counts"]["all"] == 12
    assert all(np.isfinite(heat).all() and heat.shape == (32, 32) for heat in found.maps.values())
    assert {group.split(":")[0] for group in found.maps} >= {"all", "gender", "class"}
    for page in (pages.faithfulness_page, pages.sanity_page):
        figure, sentences = page(found)
        figure.canvas.draw()
        assert sentences and "synthetic" in figure.finding
    assert len(pages.summary_table(found.table))
    assert "Grad-CAM" in pages.best_method(found.table)


def test_measuring_goes_on_where_it_stopped(views, tmp_path, monkeypatch):
    out = tmp_path / "study" / "explanations.csv"
    first = measure.measure_runs(views[:1], ["gender", "age"], out, FAST, progress=False)
    before = out.read_bytes(), sorted(path.name for path in out.parent.glob("*/*"))
    assert len(before[1]) == 3 and set(read_explanations(out)["task"]) == {"age", "gender"}

    def never(*args, **kwargs):
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(measure, "measure", never)
        again = measure.measure_runs(views[:1], ["gender", "age"], out, FAST, progress=False)
        assert (out.read_bytes(), sorted(p.name for p in out.parent.glob("*/*"))) == before
        # A lost table comes back from the evidence; other settings, or a broken file, do not pass.
        out.unlink()
        measure.measure_runs(views[:1], ["gender", "age"], out, FAST, progress=False)
        assert out.read_bytes() == before[0]
        with pytest.raises(AssertionError, match="measured again"):
            measure.measure_runs(views[:1], ["gender"], out, replace(FAST, steps=2), progress=False)
        evidence.evidence_path(out.parent / "explanations", first[0].run, "gender").write_text("x")
        with pytest.raises(AssertionError, match="measured again"):
            measure.measure_runs(views[:1], ["gender"], out, FAST, progress=False)
    for one, two in zip(first, again, strict=True):
        assert one.about == two.about
        pd.testing.assert_frame_equal(one.table, two.table, check_dtype=False)
        np.testing.assert_allclose(one.per_face.iloc[:, 2:], two.per_face.iloc[:, 2:], atol=1e-3)
        assert one.maps.keys() == two.maps.keys()


def test_a_broken_evidence_file_is_named(tmp_path):
    path = tmp_path / "run--age.npz"
    path.write_bytes(b"PK half a zip")
    with pytest.raises(ValueError, match=r"run--age.npz holds no evidence.*delete it"):
        evidence.load_all(tmp_path)


def test_settings_say_what_is_wrong():
    with pytest.raises(ValueError, match="slow=0; expected 1 or more"):
        measure.Settings(slow=0)
    with pytest.raises(ValueError, match=r"methods \['lime'\] are unknown"):
        measure.Settings(methods=("lime",))


def test_command_line_names_a_missing_run(views, tmp_path, capsys):
    from utils.explain.__main__ import main

    out = ["--out", str(tmp_path / "explanations.csv")]
    assert main([*out]) == 2 and "no run named" in capsys.readouterr().err
    assert main(["nothing", *out]) == 2
    assert "no finished run or shipped model ['nothing']" in capsys.readouterr().err
    assert not (tmp_path / "explanations.csv").exists()


@pytest.mark.parametrize("task", ["age", "gender"])
def test_galleries(views, task):
    names = study.common_faces(views, 12)
    found = [measure.look(view, task, names, SMALL)[0] for view in views]
    faces = measure.mean_faces(views[0], task, names)
    wrong = names[select.choose_faces(views[0].predictions.loc[names], task, "confident_wrong", 2)]
    figures = [
        pages.faces_by_network(views, task, names[:2]),
        pages.by_method(views[0], task, names[:2], METHODS[:2]),
        pages.mean_maps(found, faces),
        pages.mean_maps_by_group(found[0], faces, "gender"),
        pages.attention_page(found),
    ]
    if len(wrong):
        figures.append(pages.truth_against_prediction(views[0], task, wrong))
    for figure in figures:
        figure.canvas.draw()
        assert "synthetic" in figure.finding and "n = " in figure.caption


def test_real_mean_faces_need_thirty(views, monkeypatch):
    """A mean of a few real people would show them."""
    names = study.common_faces(views, 40)
    monkeypatch.setitem(views[0].config, "dataset", "utkface")
    groups = measure.groups_of(views[0], "gender", names)
    faces = measure.mean_faces(views[0], "gender", names)
    assert set(faces) == {
        g for g, rows in groups.items() if len(rows) >= 30 and not g.startswith("class:")
    }
    assert "all" in faces and len(faces) < len(groups)


@pytest.mark.slow
def test_batched_gradcam_is_four_times_faster():
    """256 faces against tf-keras-vis, called once a face as its guide shows."""
    from tf_keras_vis.gradcam import Gradcam

    from utils.backbones import build_network, get
    from utils.explain.target import explain_target

    network = build_network("mobilenetv2", 96, ["gender"], weights="none")
    target = explain_target(network, "gender", get("mobilenetv2").last_conv, check_trained=False)
    faces = np.random.default_rng(0).integers(0, 256, (256, 96, 96, 3)).astype("float32")
    explainer = Gradcam(target.net)

    def theirs(n):
        for face in faces[:n]:
            explainer(
                lambda y: y[:, 0], face[None], target.layer, seek_penultimate_conv_layer=False
            )

    theirs(1)
    start = time.perf_counter()
    theirs(16)  # enough to know the pace
    slow = (time.perf_counter() - start) * 16
    start = time.perf_counter()
    batched_gradcam(target, faces, "gender", classes=0)  # compilation included
    assert slow / (time.perf_counter() - start) >= 4
