"""From run folders to figures and explanations.csv, on a tiny network and synthetic faces."""

import json
import time

import keras
import numpy as np
import pandas as pd
import pytest

from utils.datasets.facetable import AGE_BINS, ETHNICITIES, GENDERS
from utils.explain import pages, select, study
from utils.explain.cams import METHODS, batched_gradcam
from utils.explain.table import read_explanations, write_explanations

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


def test_measure_fills_the_table(views, tmp_path):
    names = study.common_faces(views, 12)
    found = study.measure(
        views[0],
        "gender",
        names,
        n_faithful=5,
        n_sanity=3,
        steps=3,
        methods=METHODS[:2],
        progress=False,
    )
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
    assert {"gradcam", "gradcam_pp", "random", "center_gaussian"} == set(found.table["method"])
    assert found.table[["value", "ci_low", "ci_high"]].notna().all(axis=None)
    assert (found.table["ci_low"] <= found.table["value"] + 1e-9).all()
    assert found.maps.shape == (12, SIZE, SIZE)
    write_explanations(tmp_path / "explanations.csv", found.table)
    assert len(read_explanations(tmp_path / "explanations.csv")) == len(found.table)
    for page in (pages.faithfulness_page, pages.sanity_page):
        figure, sentences = page(views[0], "gender", found)
        figure.canvas.draw()
        assert sentences and "synthetic" in figure.finding
    assert len(pages.summary_table(found.table))
    assert "Grad-CAM" in pages.best_method(found.table)


@pytest.mark.parametrize("task", ["age", "gender"])
def test_galleries(views, task):
    names = study.common_faces(views, 12)
    maps = {view.run: study.gradcam_maps(view, task, names) for view in views}
    wrong = names[select.choose_faces(views[0].predictions.loc[names], task, "confident_wrong", 2)]
    figures = [
        pages.faces_by_network(views, task, names[:2]),
        pages.by_method(views[0], task, names[:2], METHODS[:2]),
        pages.mean_maps(views, task, maps, names),
        pages.mean_maps_by_group(views[0], task, maps[views[0].run], names, "gender"),
        pages.attention_page(views, task, maps),
    ]
    if len(wrong):
        figures.append(pages.truth_against_prediction(views[0], task, wrong))
    for figure in figures:
        figure.canvas.draw()
        assert "synthetic" in figure.finding and "n = " in figure.caption


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
