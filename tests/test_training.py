"""Protocols, resume, cached against uncached training, backends."""

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import run_cells, train

from utils import study
from utils.backbones.networks import build_network, cut
from utils.datasets import archives, prepare
from utils.files import DataError, read_json, write_json
from utils.paths import ROOT
from utils.plan import RunConfig
from utils.training import features, machine
from utils.training.batches import Batches, count_faces
from utils.training.callbacks import EpochRecord
from utils.training.features import cached_features
from utils.training.losses import AgeDistributionLoss, losses_and_metrics, targets
from utils.training.predicting import (
    age_quantile,
    predict_average,
    prediction_columns,
    predictions_table,
    zoomed,
)
from utils.training.schedules import schedule_of, step_decay, warmup_cosine

SMALL = {
    "dataset": "synthetic",
    "dataset_options": {"n": 120},
    "weights": "none",
    "epochs": 1,
    "input_size": 64,
    "precision": "float32",
}
FILES = "config.json history.csv predictions.parquet metrics.json cost.json environment.json"
FILES = {*FILES.split(), "model.keras"}


def small(**options) -> RunConfig:
    return RunConfig(**(SMALL | options))


def weights_of(folder) -> list[np.ndarray]:
    return study.load_model(folder).get_weights()


def assert_same(arrays, others) -> None:
    assert [np.array_equal(a, b) for a, b in zip(arrays, others, strict=True)].count(False) == 0


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    os.environ["FACES_WORK_DIR"] = str(tmp_path_factory.mktemp("faces"))
    return prepare("synthetic", 64, n=120, progress=False)


# ---------------------------------------------------------------- what every run leaves


@pytest.mark.parametrize(
    ("protocol", "model", "asked", "tasks"),
    [
        ("linear_probe", "alexnet", None, ["age", "age_bin", "ethnicity", "gender"]),
        ("partial", "mobilenetv2", ["gender", "age"], ["age", "age_bin", "gender"]),
        ("finetune", "alexnet", ["ethnicity"], ["ethnicity"]),
        ("scratch", None, None, ["age_bin", "gender"]),
        ("regress", None, None, ["age"]),
    ],
)
def test_every_protocol_leaves_a_complete_run(protocol, model, asked, tasks, work_dir):
    options = {"model": model, "tasks": asked}
    given = {name: value for name, value in options.items() if value}
    folder = train(small(protocol=protocol, **given))
    assert folder.parent == work_dir / "runs"
    assert {path.name for path in folder.iterdir()} == FILES
    rows = pd.DataFrame(read_json(folder / "metrics.json")["rows"])
    assert sorted(rows["task"].unique()) == tasks
    assert set(rows["split"]) == {"train", "val", "test"}
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert len(predictions) == 120 and "group" in predictions
    for task in set(tasks) - {"age"}:
        p = predictions.filter(regex=f"^p_{task}_[^_]*$")
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-4)
    history = pd.read_csv(folder / "history.csv")
    assert len(history) == 1 and {"loss", "val_loss", "seconds"} <= set(history)
    # It loads without the notebook that wrote it, in float32.
    model = study.load_model(folder)
    assert model.get_layer("preprocess").compute_dtype == "float32"


def test_a_finished_run_is_read_and_not_trained_again(work_dir, monkeypatch):
    config = small(model="alexnet", protocol="linear_probe", tasks=["gender"])
    folder = train(config)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(EpochRecord, "on_epoch_begin", lambda *_: pytest.fail("trained again"))
    names = run_cells(config, until="test_scores =")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert_same(names["network"].get_weights(), weights_of(folder))
    with pytest.raises(ValueError, match="batch_size: 32 there, 7 wanted"):
        run_cells(small(model="alexnet", protocol="linear_probe", tasks=["gender"], batch_size=7))


def _bytes_of(folder) -> dict:
    """Content that must not depend on an interruption: no seconds, no dates."""
    history = pd.read_csv(folder / "history.csv").drop(columns="seconds").to_csv()
    weights = b"".join(array.tobytes() for array in weights_of(folder))
    kept = [(folder / name).read_bytes() for name in ("predictions.parquet", "metrics.json")]
    return [hashlib.sha256(x).hexdigest() for x in (history.encode(), weights, *kept)]


RECIPE = {"ema": 0.9, "mixup": 0.2, "augmentation": "cutout", "layer_decay": 0.1}


@pytest.mark.parametrize(
    ("protocol", "options"), [("linear_probe", {}), ("finetune", {}), ("finetune", RECIPE)]
)
def test_a_killed_run_ends_in_the_same_bytes(protocol, options, work_dir, monkeypatch):
    config = small(model="alexnet", protocol=protocol, tasks=["gender"], epochs=3, **options)
    whole = train(config)
    expected = _bytes_of(whole)
    whole.rename(work_dir / "kept")
    finish = EpochRecord.on_epoch_end

    def killed(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt
        finish(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(EpochRecord, "on_epoch_end", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert not study.is_complete(whole) and len(pd.read_csv(whole / "history.csv")) == 2
    resumed = train(config)
    assert pd.read_csv(resumed / "history.csv")["epoch"].tolist() == [1, 2, 3]
    assert _bytes_of(resumed) == expected


def _record(folder) -> EpochRecord:
    """Of a tiny network, which learns one batch an epoch."""
    image = keras.Input((8, 8, 3), name="image")
    flat = keras.layers.Flatten()(image)
    start = keras.initializers.RandomNormal(seed=1)
    gender = keras.layers.Dense(2, "softmax", kernel_initializer=start, name="gender")(flat)
    network = keras.Model(image, {"gender": gender})
    network.compile(keras.optimizers.Adam(1e-2), **losses_and_metrics(["gender"]))
    x = np.random.default_rng(1).random((8, 8, 8, 3), "float32")
    record = EpochRecord(
        folder, network, network, Batches(x, {"gender": x[:, 0, 0, 0] > 0.5}, range(8), 8)
    )
    record.set_params({"epochs": 3})
    return record


@pytest.fixture(scope="module")
def half_trained(tmp_path_factory):
    """A folder after three epochs, the second of which was the best; weights after each."""
    record, weights = _record(tmp_path_factory.mktemp("half")), []
    for epoch, loss in enumerate([2.0, 1.0, 3.0]):
        record.on_epoch_begin(epoch)
        record.network.train_on_batch(*record.batches[0])
        record.on_epoch_end(epoch, {"loss": 1.0, "val_loss": loss})
        weights.append(record.network.get_weights())
    kept = [
        "checkpoint-0002.weights.h5",
        "checkpoint-0003.weights.h5",
        "history.csv",
        "resume.json",
    ]
    assert sorted(path.name for path in record.folder.iterdir()) == kept
    return record.folder, weights


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "lost"])
@pytest.mark.parametrize(
    ("name", "epochs"),
    [
        ("checkpoint-0003.weights.h5", 2),  # the last; the best one is whole
        ("checkpoint-0002.weights.h5", 0),  # the best, in whose weights the run is to end
        ("resume.json", 0),
        ("history.csv", 3),  # written again
    ],
)
def test_a_damaged_file_is_put_aside_and_training_goes_on(
    half_trained, tmp_path, capsys, name, epochs, damage
):
    folder = shutil.copytree(half_trained[0], tmp_path / "run")
    whole, middle = (folder / name).read_bytes(), (folder / name).stat().st_size // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    content = {"cut": whole[:middle], "empty": b"", "flipped": flipped}.get(damage)
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    record = _record(folder)
    assert record.resume() == epochs
    said = capsys.readouterr().out
    if name == "history.csv":
        assert not said and (folder / name).read_bytes() == whole
    elif damage != "lost":
        assert said.count("\n") == 1 and f"{name} is damaged: kept as {name}.damaged" in said
        assert (folder / f"{name}.damaged").read_bytes() == content
    if epochs:
        assert_same(record.network.get_weights(), half_trained[1][epochs - 1])
        assert len(pd.read_csv(folder / "history.csv")) == epochs
        record.use_best()
        assert_same(record.network.get_weights(), half_trained[1][1])
    record.clear()
    assert {path.name for path in folder.iterdir()} <= {"history.csv"}


@pytest.mark.parametrize("damage", [b"", b"[1]", b"{"])
def test_damaged_features_are_computed_again(tmp_path, damage):
    for name in ("done.json", "activations.npy"):
        array, _ = features._open(tmp_path, (4, 2))
        array[:] = 1
        digests = [features._digest(array, 0)]
        write_json(tmp_path / "done.json", {"shape": [4, 2], "digests": digests})
        assert features._open(tmp_path, (4, 2))[1] == digests
        array[1:3] = 7  # whose header is whole
        assert features._open(tmp_path, (4, 2))[1] == []
        array = features._open(tmp_path, (4, 2))[0]
        (tmp_path / name).write_bytes(damage)
        assert features._open(tmp_path, (4, 2))[1] == []


# ---------------------------------------------------------------- every option does something


@pytest.mark.parametrize("age_loss", ["class", "ordinal", "regression"])
def test_other_age_losses_and_wide_heads(age_loss, work_dir):
    width = 0 if age_loss == "regression" else 130
    tasks = ["age", "gender"]
    config = small(model="alexnet", protocol="linear_probe", age_loss=age_loss, tasks=tasks)
    config.head_width = width
    predictions = pd.read_parquet(train(config) / "predictions.parquet")
    assert predictions["pred_age"].between(0, 116).mean() > 0.9
    gender = predictions.filter(regex="^p_gender_")
    np.testing.assert_allclose(gender.sum(axis=1), 1, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "age_loss", "width"),
    [("mobilenetv2", "distribution", 0), ("alexnet", "ordinal", 0), ("alexnet", "class", 150)],
)
def test_the_notebook_builds_what_utils_build(model, age_loss, width, work_dir):
    config = small(model=model, protocol="linear_probe", age_loss=age_loss, seed=7)
    config.head_width = width
    own = run_cells(config, until="seam =")["network"]
    keras.backend.clear_session()
    ours = build_network(model, 64, weights="none", seed=7, age_head=age_loss, head_width=width)
    assert own.get_config() == ours.get_config()
    assert_same(own.get_weights(), ours.get_weights())


def test_a_start_from_the_shipped_network(work_dir):
    names = run_cells(small(weights="shipped", protocol="linear_probe"), until="seam =")
    given = names["models"].shipped_backbone_weights("mobilenetv2")
    assert_same(names["network"].get_weights()[: len(given)], given)
    with pytest.raises(ValueError, match="shipped"):
        run_cells(small(weights="shipped", model="alexnet"), until="seam =")


def test_without_cache_the_frozen_part_stays_as_it_is(work_dir):
    config = small(protocol="partial", tasks=["gender"], cache_features=False)
    before = run_cells(config, until="augment = Augment")["network"].get_weights()
    names = run_cells(config, until="test_scores =")
    frozen = len(names["lower"].weights)
    after = names["network"].get_weights()
    same = [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert all(same[:frozen]) and not all(same[frozen:])
    assert names["augment"] in names["fitted"].layers  # and pictures are augmented in full


def test_phases_and_precision_and_no_augmentation(work_dir):
    phases = [{"epochs": 2, "rate": 1e-3, "factor": 0.5, "every": 1}]
    config = small(model="alexnet", phases=phases, augment=False, tasks=["gender"])
    config.precision = "mixed_bfloat16"
    names = run_cells(config, until="test_scores =")
    assert names["augment"] not in names["fitted"].layers
    rates = names["history"]["learning_rate"].tolist()
    np.testing.assert_allclose(rates, [5e-4, 5e-4], rtol=1e-5)  # at the end of each epoch
    assert names["network"].get_layer("conv1").compute_dtype == "bfloat16"
    model = study.load_model(names["folder"])
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_a_training_goes_on_from_another_run_at_another_size(work_dir):
    first = train(small(tasks=["gender"], weights="shipped"))
    again = {"tasks": ["gender"], "input_size": 48, "start_from": first.name}
    second = train(small(**again, learning_rate=1e-9))
    pairs = zip(weights_of(first), weights_of(second), strict=True)
    near = [np.allclose(a, b, atol=1e-6) for a, b in pairs]
    assert np.mean(near) > 0.6  # all but the running means of normalisation
    before, after = (read_json(one / "cost.json")["train_seconds"] for one in (first, second))
    assert after > before
    with pytest.raises(ValueError, match="no finished run of that name"):
        run_cells(small(**again | {"start_from": "nothing", "seed": 5}))
    with pytest.raises(ValueError, match="other weights"):
        run_cells(small(**again | {"input_size": 64, "model": "alexnet"}))
    # Only scored, in other views: nothing is trained, the history is that of the first.
    views = {"flip_tta": False, "zoom_tta": 0.1}
    scored = train(small(tasks=["gender"], start_from=first.name, epochs=0, **views))
    assert_same(weights_of(first), weights_of(scored))
    assert (scored / "history.csv").read_bytes() == (first / "history.csv").read_bytes()
    p = [pd.read_parquet(one / "predictions.parquet") for one in (first, scored)]
    assert not np.allclose(p[0]["p_gender_male"], p[1]["p_gender_male"])
    assert {path.name for path in scored.iterdir()} == FILES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset_options": {"n": 4}}, "too few faces"),
        ({"learning_rate": 1e30}, "training diverged.*lower learning_rate"),
        ({"model": "vgg"}, "backbone 'vgg' is unknown; expected one of.*vgg19"),
    ],
)
def test_what_cannot_be_trained_says_so_at_once(options, message, work_dir):
    with pytest.raises(ValueError, match=message):
        train(small(**{"protocol": "linear_probe", "model": "alexnet"} | options))


def test_the_machine_is_described(monkeypatch):
    found = machine.describe_machine()
    assert found["cpu"] not in ("", "x86_64") or not machine.CPUINFO
    assert found["device"] in ("cpu", "gpu") and found["versions"]["keras"] == keras.__version__
    assert machine.peak_memory_mb() > 50
    settled = machine.settle(RunConfig())
    assert settled.batch_size in (32, 64) and settled.precision != "auto"
    monkeypatch.setattr(machine, "CPUINFO", "flags: avx512_bf16")
    monkeypatch.setattr(machine, "has_gpu", lambda: False)
    assert machine.settle(RunConfig(model="vgg19")).precision == "mixed_bfloat16"
    assert machine.settle(RunConfig(model="mobilenetv2")).precision == "float32"


# ---------------------------------------------------------------- cached features


def _losses(model, inputs, faces, epochs=2):
    y = targets(faces.table, ["age", "gender"])
    batches = Batches(inputs, y, faces.rows("train"), 32, seed=5, variants=True)
    model.compile(keras.optimizers.SGD(1e-3), **losses_and_metrics(["age", "gender"]))
    log = []
    for epoch in range(epochs):
        batches.start_epoch(epoch)
        for k in range(len(batches)):
            log.append(float(model.train_on_batch(*batches[k])[0]))
    return log


def test_without_augmentation_no_mirror_image_is_drawn():
    pairs, y = np.stack([np.zeros((9, 4)), np.ones((9, 4))], axis=1), {"gender": np.zeros(9)}
    drawn = [Batches(pairs, y, range(9), 9, variants=True, mirror=m)[0][0] for m in (True, False)]
    assert drawn[0].any() and not drawn[1].any()


# Batch normalisation above the seam enlarges the rounding of features to float16.
@pytest.mark.parametrize(("boundary", "rtol"), [("features", 1e-3), ("block_12_add", 1e-2)])
def test_cached_and_uncached_training_have_the_same_losses(faces, boundary, rtol):
    pairs = np.stack([faces.images, faces.images[:, :, ::-1]], axis=1)
    cached, plain = (
        build_network("mobilenetv2", 64, ["age", "gender"], weights="none", dropout=0.0, seed=7)
        for _ in range(2)
    )
    lower, upper = cut(cached, boundary)
    first = _losses(upper, cached_features(lower, faces.images, "test", progress=False), faces)
    below, above = cut(plain, boundary)
    below.trainable = False
    image = keras.Input((64, 64, 3))
    second = _losses(keras.Model(image, above(below(image, training=False))), pairs, faces)
    np.testing.assert_allclose(first, second, rtol=rtol)
    assert first[0] != pytest.approx(first[-1])


def test_an_interrupted_extraction_goes_on(faces, monkeypatch):
    lower, _ = cut(build_network("alexnet", 64, ["gender"], weights="none"), "features")
    monkeypatch.setattr(features, "CHUNK", 32)
    whole = np.array(cached_features(lower, faces.images, "whole", progress=False))
    write = features.write_json

    def killed(path, content):
        write(path, content)
        if len(content["digests"]) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(features, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            cached_features(lower, faces.images, "killed", progress=False)
    calls = []
    predict = lower.predict_on_batch
    monkeypatch.setattr(lower, "predict_on_batch", lambda x: calls.append(len(x)) or predict(x))
    resumed = cached_features(lower, faces.images, "killed", progress=False)
    np.testing.assert_allclose(resumed, whole, atol=1e-2)
    assert sum(calls) == 2 * (120 - 64)


def test_features_are_keyed_by_pictures_weights_and_precision(work_dir):
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    found = {}
    for policy in ("float32", "mixed_bfloat16"):
        keras.mixed_precision.set_global_policy(policy)
        lower, _ = cut(build_network("alexnet", 64, ["gender"], weights="none"), "features")
        keras.mixed_precision.set_global_policy("float32")
        found[policy] = np.array(cached_features(lower, images, "same faces", progress=False))
    assert len(list((work_dir / "cache").glob("activations-*"))) == 2
    plain, reduced = found["float32"], found["mixed_bfloat16"]
    assert not np.array_equal(plain, reduced)
    np.testing.assert_allclose(plain, reduced, atol=0.1 * np.abs(plain).max())
    alone = cached_features(lower, images, "same faces", progress=False, flip=False)
    np.testing.assert_array_equal(alone, reduced[:, 0])
    other = cached_features(lower, 255 - images, "other faces", progress=False)
    assert not np.array_equal(other, reduced)


def test_a_full_disk_is_said_before_features_are_written(tmp_path, monkeypatch):
    usage = archives.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="cache of features needs .* GB .*FACES_WORK_DIR"):
        features._open(tmp_path / "activations-x", (100, 2, 64))


# ---------------------------------------------------------------- batches, losses, schedules


def test_batches_depend_on_seed_and_epoch_alone():
    x, y = np.arange(100)[:, None], {"gender": np.arange(100)}
    one, two = (Batches(x, y, np.arange(10, 90), 32, seed=3) for _ in range(2))
    one.start_epoch(1)
    two.start_epoch(0)
    two.start_epoch(1)
    np.testing.assert_array_equal(one[0][0], two[0][0])
    seen = np.concatenate([one[k][0][:, 0] for k in range(len(one))])
    assert sorted(seen) == list(range(10, 90))
    two.start_epoch(2)
    assert (one[0][0] != two[0][0]).any()


def test_keras_does_not_shuffle_the_batches_again(work_dir, monkeypatch):
    # It did, and a resumed run saw another order than one that was not interrupted.
    asked, get = [], Batches.__getitem__

    def noted(self, index):
        if self.shuffle:
            asked.append(index)
        return get(self, index)

    monkeypatch.setattr(Batches, "__getitem__", noted)
    train(small(model="alexnet", batch_size=8))
    order = list(dict.fromkeys(asked))
    assert len(order) > 5 and order == sorted(order)


def test_age_loss_by_hand():
    p = np.zeros((1, 117), "float32")
    p[0, 30] = 1.0
    loss = AgeDistributionLoss(sigma=0, weight=0.2)
    assert float(loss(np.array([30.0]), p)) == pytest.approx(0, abs=1e-5)
    assert float(loss(np.array([40.0]), p)) == pytest.approx(-np.log(1e-8) + 0.2 * 10, rel=1e-4)


def test_a_missing_label_is_said(faces):
    table = faces.table.copy()
    table.loc[3, "ethnicity"] = None
    with pytest.raises(ValueError, match="1 of 120 faces have no ethnicity label"):
        targets(table, ["ethnicity"])
    assert count_faces(faces) == {f"n_{s}": len(faces.rows(s)) for s in ("train", "val", "test")}


def test_step_decay_of_the_second_study():
    phase = {"epochs": 22, "factor": 0.5}
    schedule = step_decay(
        10, [phase | {"rate": 8e-3, "every": 5}, phase | {"rate": 2e-3, "every": 7}]
    )
    rates = {0: 8e-3, 4: 8e-3, 5: 4e-3, 21: 5e-4, 22: 2e-3, 29: 1e-3, 43: 2.5e-4, 99: 2.5e-4}
    found = {epoch: float(schedule(10 * epoch)) for epoch in rates}
    assert found == pytest.approx(rates, rel=1e-5)
    assert float(schedule(49)) == pytest.approx(0.008) and float(schedule(50)) < 0.005
    one = step_decay(10, [phase | {"epochs": 1, "rate": 8e-3, "every": 5}])
    assert float(one(3)) == float(one(99)) == pytest.approx(0.008)


def test_cosine_warms_up_and_ends_low():
    schedule = warmup_cosine(1e-3, 1000)
    assert float(schedule(100)) == pytest.approx(1e-3, rel=0.02)
    assert float(schedule(0)) < 1e-4 and float(schedule(1000)) < 2e-5
    peaks = {
        protocol: float(schedule_of(RunConfig(protocol=protocol, batch_size=16, epochs=100), 1)(10))
        for protocol in ("finetune", "partial")
    }
    assert peaks == pytest.approx({"finetune": 5e-4, "partial": 1e-3}, rel=0.02)


# ---------------------------------------------------------------- predictions


def test_flip_tta_is_the_mean_over_picture_and_mirror_image(faces):
    network = build_network("alexnet", 64, ["gender"], weights="none")
    both, alone = (
        predict_average(network, faces.images, np.arange(8), flip_tta=flip)["gender"]
        for flip in (True, False)
    )
    mirrored = network.predict(faces.images[:8, :, ::-1], verbose=0)["gender"]
    np.testing.assert_allclose(both, (alone + mirrored) / 2, atol=1e-5)


def test_zoom_tta_is_the_mean_over_smaller_and_larger_pictures_too(faces):
    larger = zoomed(faces.images[:2], 2.0)
    assert larger.dtype == "float32"
    middle = np.asarray(faces.images[:2, 16:48, 16:48], float)
    shrunk = larger.reshape(2, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert np.abs(shrunk - middle).mean() < 5  # the middle half, twice as large
    assert (zoomed(faces.images[:2], 0.5)[:, 0] == zoomed(faces.images[:2], 0.5)[:, 8]).all()
    np.testing.assert_allclose(zoomed(faces.images[:2], 1.0), faces.images[:2], atol=1e-3)

    network = build_network("alexnet", 64, ["gender"], weights="none")
    said = predict_average(network, faces.images, np.arange(8), zoom_tta=0.05)["gender"]
    views = [faces.images[:8], *(zoomed(faces.images[:8], factor) for factor in (0.95, 1.05))]
    views += [view[:, :, ::-1] for view in views]
    expected = np.mean([network.predict(np.array(v), verbose=0)["gender"] for v in views], axis=0)
    np.testing.assert_allclose(said, expected, atol=1e-5)


def test_columns_of_predictions_by_hand(faces):
    # Surplus outputs of a wide head are dropped.
    wide = np.full((2, 1000), 1e-3)
    columns = prediction_columns({"age": wide, "gender": wide})
    assert columns["pred_age"].tolist() == pytest.approx([58, 58])  # 499.5 with all outputs
    np.testing.assert_allclose(columns.filter(like="p_gender").sum(axis=1), 1)
    flat = np.full((1, 100), 0.01)
    assert age_quantile(flat, 0.1)[0] == pytest.approx(9.5)
    assert age_quantile(flat, 0.9)[0] == pytest.approx(89.5)
    # Bins come from the distribution if they have no head.
    p = np.eye(117, dtype="float32")[[24, 25]]
    columns = predictions_table(faces.table.head(2), {"age": p})
    assert columns[["p_age_bin_0", "p_age_bin_1"]].to_numpy().tolist() == [[1, 0], [0, 1]]
    assert columns["pred_age"].tolist() == [24, 25]
    assert np.stack(columns["age_distribution"])[:, 24:26].tolist() == [[255, 0], [0, 255]]


# ---------------------------------------------------------------- another backend


def python(code: str, environment: dict) -> subprocess.CompletedProcess:
    call = [sys.executable, "-c", code]
    return subprocess.run(call, env=environment, capture_output=True, text=True, timeout=600)


def test_jax_trains_without_tensorflow(tmp_path):
    pytest.importorskip("jax", reason="jax is not installed (pip install '.[test]')")
    code = textwrap.dedent("""
        import sys
        sys.modules["tensorflow"] = None  # an import of it fails
        from conftest import train
        from utils.plan import RunConfig
        for protocol in ("linear_probe", "finetune"):
            folder = train(RunConfig(
                dataset="synthetic", dataset_options={"n": 100}, model="alexnet",
                protocol=protocol, weights="none", epochs=2, input_size=64))
        print(folder)
    """)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    own = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "FACES_WORK_DIR": str(tmp_path)}
    done = python(code, os.environ | own | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "runs" / done.stdout.strip().splitlines()[-1].rsplit("/")[-1]
    assert read_json(folder / "environment.json")["backend"] == "jax"
    # A model trained on JAX opens here, on TensorFlow.
    model = study.load_model(folder)
    assert model(np.zeros((1, 64, 64, 3), np.float32))["gender"].shape == (1, 2)


def test_tensorflow_does_not_greet():
    # Two lines about oneDNN and CUDA, in red, were the first thing that a newcomer saw.
    own = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    own |= {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(ROOT)}
    code = "import utils, importlib.util; importlib.util.find_spec('tensorflow'); import keras"
    done = python(code + "; keras.layers.Dense(1)(keras.ops.ones((1, 1)))", own)
    assert done.returncode == 0 and done.stderr == ""
