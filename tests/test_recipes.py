"""Recipes on top of the usual one: soft targets, mixing, averaging, a second data set, teachers."""

from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from utils import datasets, study
from utils.datasets import joint, new_table, pack, prepare, with_splits
from utils.datasets.splits import leave_out
from utils.files import DataError
from utils.plan import RunConfig
from utils.training import soft
from utils.training.batches import Batches, Stacked
from utils.training.callbacks import AveragedWeights
from utils.training.losses import AgeDistributionLoss, losses_and_metrics, mae, targets
from utils.training.predicting import predictions_table
from utils.training.schedules import LayerDecayAdamW
from utils.vocabulary import OUTPUTS, TASKS


def table_of(ages=(4, 30, 99), ethnicity=("White", None, "Other")):
    names = [f"{k}.png" for k in range(len(ages))]
    genders = ["male", "female", "male"][: len(ages)]
    return new_table(names, source="mine", age=list(ages), gender=genders, ethnicity=ethnicity)


def said(n, seed=0):
    """Probabilities of a network that knows nothing."""
    draw = np.random.default_rng(seed).random
    raw = {task: draw((n, size), "float32") + 0.01 for task, size in OUTPUTS.items()}
    return {task: p / p.sum(axis=1, keepdims=True) for task, p in raw.items()}


# ---------------------------------------------------------------- targets


def test_soft_targets_of_the_usual_width_teach_what_labels_teach():
    table = table_of(ethnicity=["White", "Asian", "Other"])
    hard, distributions, p = targets(table, TASKS), soft.soft_targets(table, TASKS), said(3)
    age = AgeDistributionLoss()
    np.testing.assert_allclose(
        age.call(hard["age"], p["age"]), age.call(distributions["age"], p["age"]), rtol=1e-3
    )
    # A face of four has its Gaussian cut at birth: its mean is a little above four.
    np.testing.assert_allclose(
        mae(hard["age"], p["age"]), mae(distributions["age"], p["age"]), atol=0.1
    )
    for task in ("age_bin", "gender", "ethnicity"):
        one = keras.losses.sparse_categorical_crossentropy(hard[task], p[task])
        np.testing.assert_allclose(
            one, keras.losses.categorical_crossentropy(distributions[task], p[task]), rtol=1e-5
        )


def test_what_is_unknown_teaches_nothing():
    y = soft.soft_targets(table_of(ages=(4, np.nan, 99)), TASKS)
    for task in ("age", "age_bin", "ethnicity"):
        assert y[task].sum(axis=1) == pytest.approx([1, 0, 1])
    p = said(3)
    assert float(AgeDistributionLoss().call(y["age"], p["age"])[1]) == 0
    loss = losses_and_metrics(["ethnicity"], soft=True)["loss"]["ethnicity"]
    assert float(keras.losses.get(loss)(y["ethnicity"], p["ethnicity"])[1]) == 0


def test_a_growing_width_is_wide_for_the_old_alone():
    def width(p):
        years = np.arange(p.shape[1])
        return np.sqrt(p @ years**2 - (p @ years) ** 2)

    table = table_of(ages=(10, 50, 90))
    assert width(soft.soft_targets(table, ["age"])["age"]) == pytest.approx([2, 2, 2], abs=0.05)
    growing = soft.soft_targets(table, ["age"], "growing")["age"]
    assert width(growing) == pytest.approx([1.5, 3.5, 5.5], abs=0.2)


def test_teachers_speak_only_of_faces_that_they_did_not_see(work_dir):
    table = table_of(ethnicity=["White", "Asian", "Other"])
    for run, seen in {"a": [0], "b": [1, 2]}.items():
        sides = ["train" if k in seen else "excluded" for k in range(3)]
        folder = study.runs_dir() / run
        folder.mkdir(parents=True)
        told = predictions_table(table.assign(split=sides), said(3, seed=len(seen)))
        told.to_parquet(folder / "predictions.parquet")
    y = soft.soft_targets(table, TASKS)
    found = soft.taught(table, y, ["a", "b"])
    mine = [said(3, seed=2), said(3, seed=1), said(3, seed=1)]  # b speaks of the first face
    for task in TASKS:
        expected = [(y[task][k] + mine[k][task][k]) / 2 for k in range(3)]
        np.testing.assert_allclose(found[task], expected, atol=2e-3)  # ages in steps of 1/255
    with pytest.raises(ValueError, match="1 of 3 training faces were trained on by all"):
        soft.taught(table, y, ["a"])
    held_out = table.assign(split=["test", "train", "train"])
    assert (soft.taught(held_out, y, ["a"])["gender"][0] == y["gender"][0]).all()


# ---------------------------------------------------------------- batches


def mixed(epoch=0, shuffle=True):
    x = np.arange(8, dtype="uint8")[:, None] * np.ones(3, "uint8")
    batches = Batches(x, {"y": np.eye(8, dtype="float32")}, range(8), 8, 1, shuffle, mixup=0.4)
    batches.start_epoch(epoch)
    return batches[0]


def test_mixup_mixes_faces_and_targets_alike():
    x, y = mixed()
    np.testing.assert_allclose(y["y"] @ np.arange(8), x[:, 0], rtol=1e-5)
    assert y["y"].sum(axis=1) == pytest.approx(1)
    shares = set(np.round(y["y"][y["y"] > 0], 4).tolist()) - {1.0}  # a face may meet itself
    assert len(shares) == 2 and sum(shares) == pytest.approx(1)
    assert (mixed()[0] == x).all() and not (mixed(epoch=1)[0] == x).all()
    assert mixed(shuffle=False)[0].dtype == np.uint8  # faces that judge stay whole


def test_stacked_arrays_are_one_array():
    parts = [np.arange(6).reshape(3, 2), np.arange(10, 20).reshape(5, 2)]
    rows = np.array([7, 0, 3, 3, 2])
    assert (Stacked(*parts)[rows] == np.concatenate(parts)[rows]).all()


# ---------------------------------------------------------------- optimiser


def test_rates_fall_towards_the_input():
    start = keras.initializers.Constant(0.5)
    layers = [keras.layers.Dense(1, use_bias=False, kernel_initializer=start) for _ in range(3)]
    model = keras.Sequential([keras.Input((1,)), *layers])
    model.compile(LayerDecayAdamW(0.01, first=0.04, weight_decay=0.0), "mse")
    model.train_on_batch(np.ones((4, 1)), np.ones((4, 1)))
    moved = [abs(float(keras.ops.max(one.kernel)) - 0.5) for one in layers]
    assert moved == pytest.approx([0.0004, 0.002, 0.01], rel=0.01)
    again = LayerDecayAdamW.from_config(model.optimizer.get_config())
    assert again.first == 0.04


def test_averaged_weights_are_what_is_tested_and_kept():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9), "mse")
    raw, kept = [], []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: raw.append(model.get_weights()[0].item()),
        on_epoch_end=lambda *_, **__: kept.append(model.get_weights()[0].item()),
    )
    data = np.ones((1, 1)), np.full((1, 1), 3.0)
    model.fit(*data, epochs=3, callbacks=[AveragedWeights(0), watch], verbose=0)
    expected = raw[:1]  # the average begins with the first step
    for value in raw[1:]:
        expected.append(0.9 * expected[-1] + 0.1 * value)
    assert kept == pytest.approx(expected, rel=1e-4)
    assert model.get_weights()[0].item() == pytest.approx(expected[-1], rel=1e-4)


# ---------------------------------------------------------------- parts of the training faces


def test_folds_part_the_training_faces_and_keep_groups_whole():
    table = prepare("synthetic", 32, limit=0, n=300).table
    parts = [leave_out(table, f"{k}/3") for k in (1, 2, 3)]
    train = table["split"] == "train"
    held = [(part == "excluded") & train for part in parts]
    assert (sum(one.astype(int) for one in held)[train] == 1).all()
    assert all(one.sum() > train.sum() / 6 for one in held)
    assert all((part[~train] == table["split"][~train]).all() for part in parts)
    assert all(table["group"][one].isin(table["group"][train & ~one]).sum() == 0 for one in held)


PHASE = {"epochs": 2, "rate": 0.01, "factor": 0.5, "every": 1}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fold": "4/3"}, "fold='4/3': expected such as 1/3"),
        ({"fold": "third"}, "fold='third'"),
        ({"mixup": 0.2, "protocol": "partial"}, "mixup: not for protocol partial, cached features"),
        ({"augmentation": "cutout", "protocol": "linear_probe"}, "augmentation: not for protocol"),
        ({"zoom_tta": 0.05, "protocol": "linear_probe"}, "zoom_tta: not for protocol"),
        ({"ema": 0.9, "protocol": "regress"}, "ema: not for protocol regress"),
        ({"ema": 0.9, "phases": [PHASE]}, "ema: not for protocol finetune, .* or phases"),
        ({"joint": "wiki", "age_loss": "class"}, "need the usual heads and losses"),
        ({"ema": 1.0}, "ema=1.0"),
        ({"augmentation": "strong"}, "augmentation='strong'"),
    ],
)
def test_settings_that_cannot_be_are_said_in_one_line(options, told):
    with pytest.raises(ValueError, match=told) as caught:
        RunConfig(**options)
    assert "\n" not in str(caught.value)


def test_a_recipe_is_an_ablation_with_a_name_of_its_own():
    config = RunConfig(ema=0.998, fold="2/3", joint="wiki", epochs=20)
    assert config.study == "ablation" and RunConfig().study == ""
    assert config.run.endswith("seed129-ema0.998-with_wiki-without_2of3-20_epochs")
    assert config.label == (
        "MobileNetV2, full fine-tuning, 96 px, averaged weights, two data sets, less a fold"
    )


def test_a_list_of_files_decides_alone(monkeypatch, tmp_path):
    faces = datasets.load("synthetic", n=60)
    monkeypatch.setattr(study, "splits_dir", lambda: tmp_path)
    names = faces.table["image"]
    listed = pd.DataFrame(
        {"image": names[:30], "split": ["train"] * 20 + ["val"] * 5 + ["test"] * 5}
    )
    listed.to_csv(tmp_path / "synthetic-coral.csv", index=False)
    found = with_splits(faces, "coral", progress=False).table
    assert found.set_index("image")["split"].to_dict() == dict(listed.to_numpy())
    with pytest.raises(DataError, match="split 'others' is unknown for synthetic"):
        with_splits(faces, "others", progress=False)


def test_published_groups_answer_where_all_faces_are_published(monkeypatch, tmp_path):
    faces = replace(datasets.load("synthetic", n=60), grouped=False)
    monkeypatch.setattr(study, "splits_dir", lambda: tmp_path)
    monkeypatch.setattr(datasets, "assign_groups", lambda *_, **__: pytest.fail("searched"))
    names = faces.table["image"]
    known = pd.DataFrame({"image": names, "split": "train", "group": names})
    known.loc[1, "group"] = names[0]
    known.to_csv(tmp_path / "synthetic.csv", index=False)
    for seed in (129, 7):
        found = with_splits(faces, seed=seed, progress=False).table
        assert found["group"].tolist() == known["group"].tolist()
    known[1:].to_csv(tmp_path / "synthetic.csv", index=False)
    with pytest.raises(pytest.fail.Exception, match="searched"):  # one is new
        with_splits(faces, progress=False)


# ---------------------------------------------------------------- a second data set


@pytest.fixture
def two_sets(tmp_path):
    """Files of drawn faces; `theirs` 0 to 3 are changed copies of `ours` 0 to 3."""
    drawn, sets = datasets.load("synthetic", n=80), {}
    names = drawn.table["image"].tolist()
    for kind, chosen in {"ours": names[:20], "theirs": [*names[:4], *names[20:60]]}.items():
        (tmp_path / kind).mkdir()
        for k, name in enumerate(chosen):
            picture = drawn.read(name).resize((200, 200))
            if kind == "theirs" and k < 4:
                picture = ImageEnhance.Brightness(picture).enhance(1.2).crop((6, 6, 196, 196))
            picture.resize((200, 200)).save(tmp_path / kind / f"{kind}{k}.png")
        files = [f"{kind}{k}.png" for k in range(len(chosen))]
        table = new_table(files, source=kind, age=30.0, gender="male")
        sets[kind] = datasets.FaceSet(kind, table, root=tmp_path / kind)
    return sets


def test_copies_of_faces_that_judge_are_not_learned(two_sets, work_dir, monkeypatch, capsys):
    ours, theirs = two_sets["ours"], two_sets["theirs"]
    copies = {f"theirs{k}.png" for k in range(4)}
    assert joint.copied(ours, theirs, progress=False) == copies
    theirs.table["split"] = ["train"] * 40 + ["test"] * 4
    ours.table["split"] = ["test", "val"] * 10
    held = datasets.Prepared(theirs, np.zeros((44, 8, 8, 3)), "", "")
    monkeypatch.setattr(joint, "prepare", lambda name, size: held)
    _, table = joint.training_part("theirs", datasets.Prepared(ours, np.zeros(0), "", ""), 8)
    assert set(table.loc[table["split"] == "train", "image"]) == {
        f"theirs{k}.png" for k in range(4, 40)
    }
    assert "40 training faces, 4 of them copies" in capsys.readouterr().out


def test_a_set_is_packed_as_another_one_is_cut(tmp_path):
    folder = tmp_path / "wiki_crop" / "00"
    folder.mkdir(parents=True)
    for k in range(3):
        Image.new("RGB", (64, 64), (80 * k,) * 3).save(folder / f"{k}_1980-01-02_2010.jpg")
    (tmp_path / "wiki_meta.csv").write_text(
        "full_path,gender\n" + "".join(f"00/{k}_1980-01-02_2010.jpg,{k % 2}\n" for k in range(3))
    )
    faces = datasets.load("wiki", tmp_path)

    def cut(picture):  # finds no face in the black one
        return picture.crop((0, 0, 32, 32)) if np.asarray(picture).mean() > 10 else None

    path, left_out = pack.pack(faces, 48, tmp_path / "small", cut, progress=False)
    again = datasets.load("wiki", path)
    assert left_out == 1 and len(again) == 2
    assert again.table["gender"].tolist() == ["female", "male"][::-1]
    assert again.read(again.table["image"][0]).size == (48, 48)
    with pytest.raises(DataError, match="saw synthetic; expected one of"):
        pack.pack(datasets.load("synthetic", n=40), 48, tmp_path / "drawn")
