"""One training run from configuration to run folder."""

import resource
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from utils import runs
from utils.backbones import BACKBONES, build_network, count_flops, cut, scratch_classifier
from utils.backbones.layers import Augment
from utils.backbones.networks import AGE_HEADS, FEATURES
from utils.backbones.scratch import wiki_regressor
from utils.datasets import Prepared, prepare
from utils.evaluation.metrics import evaluate
from utils.files import locked, read_json, write_aside, write_json
from utils.training.activations import cached_activations
from utils.training.batches import Batches
from utils.training.config import RunConfig, describe_machine, precision_policy
from utils.training.losses import losses_and_metrics, targets
from utils.training.predicting import predict_average, predictions_table, without_surplus
from utils.training.progress import EpochRecord
from utils.training.schedules import StepDecay, adamw, warmup_cosine

HEAD_RATE = 1e-3
HEAD_EPOCH_BATCH = 128  # cached features are small; batches of 32 would only cost time
INFERENCE_BATCH = 64


@dataclass
class Trainable:
    """What is fitted, on what.

    Attributes
    ----------
    network : keras.Model
        The whole flat network, which is saved and explained.
    fitted : keras.Model
        The part that `fit` sees; it shares its layers with `network`.
    inputs : array
        Images, or cached activations [n, 2, ...].
    variants : bool
        Whether `inputs` holds picture and mirror image.
    """

    network: keras.Model
    fitted: keras.Model
    inputs: np.ndarray
    variants: bool


def build(config: RunConfig) -> keras.Model:
    """The network that a configuration asks for."""
    if config.protocol == "scratch":
        return scratch_classifier(config.input_size, config.seed)
    if config.protocol == "regress":
        return wiki_regressor(config.input_size, config.seed)
    age = config.age_loss if config.age_loss in AGE_HEADS else "distribution"
    return build_network(
        config.model,
        config.input_size,
        config.tasks,
        config.weights,
        seed=config.seed,
        age_head=age,
        head_width=config.head_width,
    )


def take_weights(network: keras.Model, run: str) -> None:
    """Give a new network the weights of a finished run of the same network.

    Raises
    ------
    ValueError
        If there is no such run, or its network has other weights.
    """
    folder = runs.runs_dir() / run
    if not runs.is_complete(folder):
        raise ValueError(
            f"start_from={run!r}: no finished run of that name in {folder.parent}; "
            "train it first (published runs come without their network)"
        )
    given = runs.load_model(folder).get_weights()
    shapes = [[w.shape for w in one] for one in (given, network.get_weights())]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"start_from={run!r}: its network has other weights than {network.name}; expected the "
            "same backbone and heads, and a backbone whose weights fit every input size"
        )
    network.set_weights(given)


def _augmented(network: keras.Model, config: RunConfig) -> keras.Model:
    """The network behind random changes of its input; used only to train."""
    images = keras.Input(network.input_shape[1:], name="image")
    wide = config.protocol == "regress"
    strength = {"rotation": 25.0, "zoom": 0.5, "light": 0.3, "shift": 0.0} if wide else {}
    changed = Augment(seed=config.seed, name="augment", **strength)(images)
    return keras.Model(images, network(changed), name=f"{network.name}_augmented")


def trainable_parts(config: RunConfig, network: keras.Model):
    """What is frozen below the protocol's boundary (None: nothing), and what is fitted."""
    seam = {"head": FEATURES, "partial": getattr(BACKBONES.get(config.model), "freeze_from", None)}
    if config.protocol in seam:
        return cut(network, seam[config.protocol])
    if config.augment and config.protocol != "scratch":
        return None, _augmented(network, config)
    return None, network


def trainable(
    config: RunConfig, network: keras.Model, prepared: Prepared, progress: bool = True
) -> Trainable:
    """Cut the network at the protocol's boundary and compute what is frozen below it."""
    lower, fitted = trainable_parts(config, network)
    if lower is None:
        return Trainable(network, fitted, prepared.images, False)
    inputs = cached_activations(lower, prepared.images, prepared.pictures, progress=progress)
    return Trainable(network, fitted, inputs, True)


def step_size(config: RunConfig) -> int:
    """Faces in a training step."""
    return max(config.batch_size, HEAD_EPOCH_BATCH if config.protocol == "head" else 0)


def optimizer_of(config: RunConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimiser with its schedule of learning rates."""
    if config.phases:
        return keras.optimizers.Adam(StepDecay(steps_per_epoch, config.phases))
    rate = config.learning_rate or HEAD_RATE
    if config.protocol == "finetune" and not config.learning_rate:
        # The registry's rate is for batches of 64; smaller ones take smaller steps.
        rate = BACKBONES[config.model].learning_rate * min(1.0, (config.batch_size / 64) ** 0.5)
    return adamw(warmup_cosine(rate, steps_per_epoch * config.epochs))


def fit(
    config: RunConfig, parts: Trainable, prepared: Prepared, folder: Path, progress: bool = True
) -> pd.DataFrame:
    """Train, or go on with a training that was interrupted; leave the best weights in place.

    Returns
    -------
    DataFrame
        The history, one row an epoch.
    """
    outputs = list(parts.network.output)
    y = targets(prepared.table, outputs)
    train, val = (
        Batches(
            parts.inputs,
            y,
            prepared.rows(split),
            step_size(config),
            config.seed,
            split == "train",
            parts.variants,
        )
        for split in ("train", "val")
    )
    for split, batches in (("train", train), ("val", val)):
        if len(batches.rows) == 0:
            raise ValueError(
                f"the {split} split holds no face; {len(prepared.table)} faces are "
                "too few, take at least 100"
            )
    losses = losses_and_metrics(outputs, config.age_loss)
    parts.fitted.compile(optimizer_of(config, len(train)), **losses)
    record = EpochRecord(folder, train, outputs, config.epochs, progress)
    record.set_model(parts.fitted)
    done = record.resume()
    if done < config.epochs:
        parts.fitted.fit(
            train,
            validation_data=val,
            epochs=config.epochs,
            initial_epoch=done,
            callbacks=[record],
            shuffle=False,  # Batches draws the order itself, the same one after a resume
            verbose=0,
        )
    parts.fitted.load_weights(record.best)
    return pd.DataFrame(record.rows)


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


def _seconds_before(config: RunConfig) -> float:
    """Training seconds of the run that this one went on from."""
    if not config.start_from:
        return 0.0
    return read_json(runs.runs_dir() / config.start_from / "cost.json")["train_seconds"]


def _predict(parts: Trainable, prepared: Prepared, progress: bool) -> tuple[pd.DataFrame, float]:
    """Predictions of all faces, and images a second of the whole network."""
    rows = np.arange(len(prepared.table))
    bar = tqdm(total=len(rows), desc="predict", unit="face", disable=not progress, mininterval=5.0)
    model = parts.fitted if parts.variants else parts.network
    outputs = predict_average(model, parts.inputs, rows, INFERENCE_BATCH, parts.variants, bar)
    bar.close()
    table = predictions_table(prepared.table, without_surplus(outputs))
    return table, _throughput(parts.network, prepared.images)


def _throughput(network: keras.Model, images: np.ndarray, repeats: int = 5) -> float:
    batch = np.asarray(images[:INFERENCE_BATCH])
    network.predict_on_batch(batch)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        network.predict_on_batch(batch)
        seconds.append(time.perf_counter() - started)
    return round(len(batch) / float(np.median(seconds)), 1)


def result_rows(config: RunConfig, predictions: pd.DataFrame) -> list[dict]:
    rows = evaluate(predictions, splits=("train", "val", "test"))
    fixed = {
        "run": config.run,
        "dataset": config.dataset,
        "model": config.model,
        "protocol": config.protocol,
        "seed": config.seed,
    }
    return [fixed | row for row in rows.to_dict("records")]


def _save_float32(network: keras.Model, config: RunConfig, folder: Path) -> None:
    """Save a float32 copy: Grad-CAM and CPUs want no bfloat16 layers."""
    copy = network
    if precision_policy(config) != "float32":
        keras.mixed_precision.set_global_policy("float32")
        plain = RunConfig(**{k: v for k, v in config.to_dict().items() if k != "run"})
        plain.weights = "none"
        copy = build(plain)
        copy.set_weights(network.get_weights())
    with write_aside(folder / "model.keras") as aside:
        copy.save(aside)


def _check_same(config: RunConfig, folder: Path) -> None:
    """Refuse to resume, or to return, a run of the same name with other settings."""
    if not (folder / "config.json").is_file():
        return
    stored = read_json(folder / "config.json")
    # Profile and study only say who asked; the stored precision is what `auto` came to.
    silent = ("profile", "study", "precision")
    wanted = {k: v for k, v in config.to_dict().items() if k not in silent}
    seen = RunConfig().to_dict() | stored  # older runs lack the newer parameters
    other = {k: seen[k] for k, v in wanted.items() if seen[k] != v}
    if other:
        asked = {k: wanted[k] for k in other}
        raise ValueError(
            f"{folder.name} exists with {other}, asked for is {asked}; use force to "
            "replace it, or set FACES_WORK_DIR to keep both"
        )


def begin(
    config: RunConfig, folder: Path, progress: bool = True, root: Path | None = None
) -> Prepared:
    """Set precision and seed, prepare the faces and write ``config.json``."""
    keras.mixed_precision.set_global_policy(precision_policy(config))
    keras.utils.set_random_seed(config.seed)
    prepared = prepare(
        config.dataset,
        config.input_size,
        config.split,
        config.split_seed,
        config.limit,
        root,
        progress,
        config.look,
        **config.dataset_options,
    )
    counts = prepared.table["split"].value_counts()
    write_json(
        folder / "config.json",
        config.to_dict()
        | {
            "precision": precision_policy(config),
            "data_fingerprint": prepared.fingerprint,
            "code_fingerprint": runs.code_fingerprint(),
            "label": getattr(BACKBONES.get(config.model), "label", config.model),
            **{f"n_{split}": int(counts.get(split, 0)) for split in ("train", "val", "test")},
        },
    )
    return prepared


def train(
    config: RunConfig, force: bool = False, progress: bool = True, root: Path | None = None
) -> Path:
    """Run one configuration; a finished run is returned as it is, an interrupted one goes on.

    Parameters
    ----------
    config : RunConfig
    force : bool
        Start anew even if the run exists.
    progress : bool
        Show progress bars.
    root : Path, optional
        Folder of the data set.

    Returns
    -------
    Path
        The run folder, complete.

    Raises
    ------
    ValueError
        If a run of that name exists with other settings.
    """
    folder = runs.runs_dir() / config.run
    with locked(folder):  # a second process that asks for this run waits, and finds it finished
        if force:
            shutil.rmtree(folder, ignore_errors=True)
        _check_same(config, folder)
        if runs.is_complete(folder):
            return folder
        if not config.mirror:
            from utils.training.unmirrored import predict_unmirrored

            return predict_unmirrored(config, progress, root)
        folder.mkdir(parents=True, exist_ok=True)
        return _train(config, folder, progress, root)


def _train(config: RunConfig, folder: Path, progress: bool, root: Path | None) -> Path:
    prepared = begin(config, folder, progress, root)
    network = build(config)
    if config.start_from:
        take_weights(network, config.start_from)
    started = time.perf_counter()
    parts = trainable(config, network, prepared, progress)
    feature_seconds = time.perf_counter() - started
    history = fit(config, parts, prepared, folder, progress)
    predictions, rate = _predict(parts, prepared, progress)
    runs.write_predictions(predictions, folder / "predictions.parquet")
    seconds = float(history["seconds"].sum()) + _seconds_before(config)
    write_json(
        folder / "cost.json",
        {
            "parameters": network.count_params(),
            "flops": count_flops(network),
            "train_seconds": round(seconds, 1),
            "feature_seconds": round(feature_seconds, 1),
            "images_per_second": rate,
            "peak_memory_mb": _peak_memory_mb(),
            **describe_machine(),
        },
    )
    write_json(folder / "environment.json", describe_machine())
    _save_float32(network, config, folder)
    write_json(folder / "metrics.json", {"rows": result_rows(config, predictions)})
    for path in folder.glob("*.weights.h5"):
        path.unlink()  # the best weights are in model.keras, the others served only to go on
    return folder
