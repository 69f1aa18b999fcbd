"""Protocols, resume, cached against uncached training, backends."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pandas as pd
import pytest

from utils import runs
from utils.backbones import build_network, cut
from utils.datasets import prepare
from utils.files import read_json
from utils.paths import ROOT
from utils.training import RunConfig, cost, train
from utils.training import run as training_run
from utils.training.activations import cached_activations
from utils.training.batches import Batches
from utils.training.losses import AgeDistributionLoss, losses_and_metrics, targets
from utils.training.predicting import age_quantile, predictions_table
from utils.training.progress import EpochRecord
from utils.training.schedules import StepDecay, warmup_cosine

SMALL = {
    "dataset": "synthetic",
    "limit": 0,
    "dataset_options": {"n": 120},
    "weights": "none",
    "epochs": 1,
    "input_size": 64,
    "precision": "float32",
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    os.environ["FACES_WORK_DIR"] = str(tmp_path_factory.mktemp("faces"))
    return prepare("synthetic", 64, n=120, progress=False)


@pytest.mark.parametrize(
    ("options", "tasks"),
    [
        ({"model": "alexnet", "protocol": "head"}, ["age", "age_bin", "ethnicity", "gender"]),
        (
            {"model": "mobilenetv2", "protocol": "partial", "tasks": ["gender", "age"]},
            ["age", "age_bin", "gender"],
        ),
        ({"model": "alexnet", "protocol": "finetune", "tasks": ["ethnicity"]}, ["ethnicity"]),
        ({"protocol": "scratch"}, ["age_bin", "gender"]),
        ({"protocol": "regress"}, ["age"]),
    ],
    ids=["head", "partial", "finetune", "scratch", "regress"],
)
def test_every_protocol_leaves_a_complete_run(options, tasks, work_dir):
    folder = train(RunConfig(**(SMALL | options)), progress=False)
    assert runs.is_complete(folder) and folder.parent == work_dir / "runs"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.json",
        "history.csv",
        "predictions.parquet",
        "metrics.json",
        "cost.json",
        "environment.json",
        "model.keras",
    }
    rows = pd.DataFrame(read_json(folder / "metrics.json")["rows"])
    assert sorted(rows["task"].unique()) == tasks
    assert set(rows["split"]) == {"train", "val", "test"}
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert len(predictions) == 120
    for task in set(tasks) - {"age"}:
        p = predictions.filter(regex=f"^p_{task}_[^_]*$")
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-4)
    history = pd.read_csv(folder / "history.csv")
    assert len(history) == 1 and {"loss", "val_loss", "seconds"} <= set(history)
    model = runs.load_model(folder)
    assert model.get_layer("preprocess").compute_dtype == "float32"


@pytest.mark.parametrize("protocol", ["head", "finetune"])
def test_the_cost_of_a_run_is_measured_alone(protocol, work_dir, capsys):
    options = {"protocol": protocol, "model": "alexnet"}
    folder = train(RunConfig(**(SMALL | options)), progress=False)
    before = read_json(folder / "cost.json")
    assert cost.main([folder.name, "--repeats", "1"]) == 0
    after = read_json(folder / "cost.json")
    assert before.items() <= after.items()
    assert all(after["idle"][k] > 0 for k in ("latency_ms", "images_per_second", "train_seconds"))
    assert cost.main(["no-such-run"]) == 2 and "no finished run" in capsys.readouterr().err


def test_a_finished_run_is_not_trained_again(work_dir, monkeypatch):
    config = RunConfig(**(SMALL | {"model": "alexnet", "protocol": "head", "tasks": ["gender"]}))
    folder = train(config, progress=False)
    monkeypatch.setattr(training_run, "fit", lambda *_: pytest.fail("trained again"))
    assert train(config, progress=False) == folder
    config.epochs = 7
    with pytest.raises(ValueError, match="exists with {'epochs': 1}, asked for is {'epochs': 7}"):
        train(config, progress=False)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(work_dir, monkeypatch):
    options = SMALL | {"model": "alexnet", "protocol": "finetune", "tasks": ["gender"], "epochs": 3}
    whole = pd.read_csv(train(RunConfig(**options), progress=False) / "history.csv")
    runs.runs_dir().rename(work_dir / "kept")
    finish = EpochRecord.on_epoch_end

    def killed(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt
        finish(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(EpochRecord, "on_epoch_end", killed)
        with pytest.raises(KeyboardInterrupt):
            train(RunConfig(**options), progress=False)
    folder = runs.runs_dir() / RunConfig(**options).run
    assert not runs.is_complete(folder)
    assert len(pd.read_csv(folder / "history.csv")) == 2
    resumed = pd.read_csv(train(RunConfig(**options), progress=False) / "history.csv")
    assert resumed["epoch"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(resumed["learning_rate"], whole["learning_rate"], rtol=1e-5)
    np.testing.assert_allclose(resumed["loss"][:2], whole["loss"][:2], rtol=1e-3)
    # Dropout and augmentation draw anew after the restart, so the third epoch is only close.
    np.testing.assert_allclose(resumed["loss"], whole["loss"], rtol=0.3)


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


# Batch normalisation above the seam enlarges the rounding of activations to float16.
@pytest.mark.parametrize(("boundary", "rtol"), [("features", 1e-3), ("block_12_add", 5e-3)])
def test_cached_and_uncached_training_have_the_same_losses(faces, boundary, rtol):
    pairs = np.stack([faces.images, faces.images[:, :, ::-1]], axis=1)
    cached, plain = (
        build_network("mobilenetv2", 64, ["age", "gender"], weights="none", dropout=0.0, seed=7)
        for _ in range(2)
    )
    lower, upper = cut(cached, boundary)
    first = _losses(upper, cached_activations(lower, faces.images, "test", progress=False), faces)
    below, above = cut(plain, boundary)
    below.trainable = False
    image = keras.Input((64, 64, 3))
    second = _losses(keras.Model(image, above(below(image, training=False))), pairs, faces)
    np.testing.assert_allclose(first, second, rtol=rtol)
    assert first[0] != pytest.approx(first[-1])


def test_an_interrupted_extraction_goes_on(faces, monkeypatch):
    from utils.training import activations

    network = build_network("alexnet", 64, ["gender"], weights="none")
    lower, _ = cut(network, "features")
    monkeypatch.setattr(activations, "CHUNK", 32)
    whole = np.array(cached_activations(lower, faces.images, "whole", progress=False))
    write = activations.write_json

    def killed(path, content):
        write(path, content)
        if content["done"] == 64:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(activations, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            cached_activations(lower, faces.images, "killed", progress=False)
    calls = []
    predict = lower.predict_on_batch
    monkeypatch.setattr(lower, "predict_on_batch", lambda x: calls.append(len(x)) or predict(x))
    resumed = cached_activations(lower, faces.images, "killed", progress=False)
    np.testing.assert_allclose(resumed, whole, atol=1e-2)
    assert sum(calls) == 2 * (120 - 64)


def test_evaluation_mode_agrees_with_training_mode_after_a_short_fine_tune(faces):
    # With Keras' momentum of .999 the two differ by a factor; see utils.backbones.networks.
    network = build_network("mobilenetv2", 64, ["gender"], weights="none", dropout=0.0)
    y = targets(faces.table, ["gender"])
    batches = Batches(faces.images, y, faces.rows("train"), 40, seed=1)
    network.compile(keras.optimizers.SGD(1e-3), **losses_and_metrics(["gender"]))
    for epoch in range(12):
        batches.start_epoch(epoch)
        for k in range(2):
            network.train_on_batch(*batches[k])
    x, target = batches[0]
    entropy = keras.losses.SparseCategoricalCrossentropy()
    in_training, in_evaluation = (
        float(entropy(target["gender"], network(x, training=mode)["gender"]))
        for mode in (True, False)
    )
    assert in_evaluation == pytest.approx(in_training, rel=0.35)


def test_batches_depend_on_seed_and_epoch_alone():
    x = np.arange(100)[:, None]
    y = {"gender": np.arange(100)}
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
    options = {"protocol": "finetune", "model": "alexnet", "batch_size": 8}
    train(RunConfig(**(SMALL | options)), progress=False)
    order = list(dict.fromkeys(asked))
    assert len(order) > 5 and order == sorted(order)


def test_age_loss_by_hand():
    p = np.zeros((1, 117), "float32")
    p[0, 30] = 1.0
    loss = AgeDistributionLoss(sigma=0, weight=0.2)
    assert float(loss(np.array([30.0]), p)) == pytest.approx(0, abs=1e-5)
    assert float(loss(np.array([40.0]), p)) == pytest.approx(-np.log(1e-8) + 0.2 * 10, rel=1e-4)


def test_quantiles_of_a_flat_distribution():
    p = np.full((1, 100), 0.01)
    assert age_quantile(p, 0.1)[0] == pytest.approx(9.5)
    assert age_quantile(p, 0.9)[0] == pytest.approx(89.5)


def test_bins_come_from_the_distribution_if_they_have_no_head():
    table = prepare("synthetic", 32, n=100, progress=False).table.head(2)
    p = np.zeros((2, 117), "float32")
    p[0, 24], p[1, 25] = 1, 1
    columns = predictions_table(table, {"age": p})
    assert columns["p_age_bin_0"].tolist() == [1, 0]
    assert columns["p_age_bin_1"].tolist() == [0, 1]
    assert columns["pred_age"].tolist() == [24, 25]


def test_step_decay_of_the_seed():
    phases = [
        {"epochs": 22, "rate": 0.008, "factor": 0.5, "every": 5},
        {"epochs": 22, "rate": 0.002, "factor": 0.5, "every": 7},
    ]
    schedule = StepDecay(10, phases)
    rates = [float(schedule(10 * epoch)) for epoch in (0, 4, 5, 21, 22, 29, 43, 99)]
    np.testing.assert_allclose(
        rates, [0.008, 0.008, 0.004, 0.0005, 0.002, 0.001, 0.00025, 0.00025], rtol=1e-5
    )


def test_cosine_warms_up_and_ends_low():
    schedule = warmup_cosine(1e-3, 1000)
    assert float(schedule(100)) == pytest.approx(1e-3, rel=0.02)
    assert float(schedule(0)) < 1e-4 and float(schedule(1000)) < 2e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": "ten"}, "epochs='ten' is a str; expected int"),
        ({"epochs": 0}, "at least 1 epoch"),
        ({"augment": 1}, "augment=1 is a int; expected bool"),
        ({"protocol": "full"}, "protocol 'full' is unknown"),
        ({"model": "vgg"}, "backbone 'vgg' is unknown"),
        ({"tasks": ["smile"]}, r"\['smile'\] are unknown"),
        ({"precision": "int8"}, "precision 'int8' is unknown"),
        ({"batch_size": -1}, "batch_size=-1.*at least 0"),
        ({"limit": -5}, "limit=-5.*at least 0"),
        ({"split": "grup"}, "split 'grup' is unknown"),
        ({"phases": [{"epoch": 5}]}, "expected a dict with"),
    ],
)
def test_bad_parameters_get_one_clear_error(options, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**options)


def test_a_missing_label_is_said(faces):
    table = faces.table.copy()
    table.loc[3, "ethnicity"] = None
    with pytest.raises(ValueError, match="1 of 120 faces have no ethnicity label"):
        targets(table, ["ethnicity"])


def test_jax_trains_without_tensorflow(tmp_path):
    pytest.importorskip("jax", reason="jax is not installed (pip install '.[test]')")
    code = textwrap.dedent("""
        import sys

        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("tensorflow", "torch"):
                    raise ImportError(f"{name} is blocked")

        sys.meta_path.insert(0, Blocked())
        from utils.training import RunConfig, train
        for protocol in ("head", "finetune"):
            folder = train(RunConfig(
                dataset="synthetic", dataset_options={"n": 100}, model="alexnet",
                protocol=protocol, weights="none", epochs=1, input_size=64), progress=False)
        assert "tensorflow" not in sys.modules
        print(folder)
    """)
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "FACES_WORK_DIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "runs" / "synthetic-alexnet-finetune-64-seed129-random"
    assert read_json(folder / "environment.json")["backend"] == "jax"
    # A model trained on JAX opens here, on TensorFlow.
    model = runs.load_model(folder)
    assert model(np.zeros((1, 64, 64, 3), np.float32))["gender"].shape == (1, 2)


def test_activations_of_two_precisions_do_not_share_a_cache(work_dir):
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    found = {}
    for policy in ("float32", "mixed_bfloat16"):
        keras.mixed_precision.set_global_policy(policy)
        lower, _ = cut(build_network("alexnet", 64, ["gender"], weights="none"), "features")
        keras.mixed_precision.set_global_policy("float32")
        found[policy] = np.array(cached_activations(lower, images, "same faces", progress=False))
    assert len(list((work_dir / "cache").glob("activations-*"))) == 2
    plain, reduced = found["float32"], found["mixed_bfloat16"]
    assert not np.array_equal(plain, reduced)
    np.testing.assert_allclose(plain, reduced, atol=0.1 * np.abs(plain).max())
    alone = cached_activations(lower, images, "same faces", progress=False, mirror=False)
    assert alone.shape == (3, *reduced.shape[2:])
    np.testing.assert_array_equal(alone, reduced[:, 0])


def test_a_training_that_diverges_says_so_at_once(work_dir):
    options = {"protocol": "head", "model": "alexnet", "learning_rate": 1e30}
    with pytest.raises(ValueError, match="training diverged.*lower learning_rate"):
        train(RunConfig(**(SMALL | options)), progress=False)


def test_a_run_with_other_settings_is_not_taken_for_a_planned_one(work_dir):
    from utils.report.collect import finished_runs

    options = {"protocol": "head", "model": "alexnet", "profile": "cpu"}
    folder = train(RunConfig(**(SMALL | options)), progress=False)
    assert finished_runs("gpu", {folder.name: {"epochs": 1}}) == [folder]
    assert finished_runs("gpu", {folder.name: {"epochs": 15}}) == []
    assert "group" in pd.read_parquet(folder / "predictions.parquet")


def test_a_training_goes_on_from_another_run_at_another_size(work_dir, monkeypatch):
    options = SMALL | {"model": "mobilenetv2", "protocol": "finetune", "tasks": ["gender"]}
    first = train(RunConfig(**options), progress=False)
    again = options | {"input_size": 48, "start_from": first.name, "learning_rate": 1e-9}
    second = train(RunConfig(**again), progress=False)
    assert second.name == "synthetic-mobilenetv2-finetune-48-seed129-random-gender-continued"
    pairs = zip(*(runs.load_model(one).get_weights() for one in (first, second)), strict=True)
    trained = [np.allclose(a, b, atol=1e-6) for a, b in pairs]
    assert np.mean(trained) > 0.6  # all but the running means of normalisation
    before, after = (read_json(one / "cost.json")["train_seconds"] for one in (first, second))
    assert after > before
    monkeypatch.setattr(cost, "_median_seconds", lambda work, repeats: 1.0)
    alone = [cost.measure(one, 1)["train_seconds"] for one in (first, second)]
    assert alone[1] == 2 * alone[0]  # as many steps of its own, after those of the first
    with pytest.raises(ValueError, match="no finished run of that name"):
        train(RunConfig(**again | {"start_from": "nothing", "seed": 5}), progress=False)
    with pytest.raises(ValueError, match="other weights"):
        train(RunConfig(**again | {"model": "alexnet", "input_size": 64}), progress=False)


def test_a_full_disk_is_said_before_activations_are_written(tmp_path, monkeypatch):
    from utils.datasets import imagecache
    from utils.datasets.facetable import DataError
    from utils.training import activations

    usage = imagecache.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(imagecache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="cache of activations needs .* GB .*FACES_WORK_DIR"):
        activations._open(tmp_path / "activations-x", (100, 2, 64))
