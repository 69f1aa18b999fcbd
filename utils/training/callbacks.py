"""What a training leaves after every epoch, so that a killed one goes on from there."""

import os
import shutil
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from utils import study
from utils.backbones.networks import float32_copy
from utils.datasets.progress import progress_bar
from utils.files import digest_of, read_json, write_aside, write_json
from utils.paths import runs_dir

_MARK = "resume.json"


class EpochRecord(keras.callbacks.Callback):
    """Show progress; write history and a checkpoint with optimiser state after each epoch.

    A training that is killed at any time goes on after its last whole epoch, and ends in the same
    weights as one that was not; checkpoints of the last and the best epoch are kept. (Keras' own
    ModelCheckpoint and BackupAndRestore write in place: a kill while they do leaves half a file.
    Nor do they keep the state of dropout.)

    `network` is the whole network, `fitted` what `fit` sees of it, `batches` its training data.
    """

    def __init__(self, folder: Path, network: keras.Model, fitted: keras.Model, batches):
        super().__init__()
        self.bar = None
        self.folder, self.network, self.fitted, self.batches = folder, network, fitted, batches
        self.rows, self.files = [], {}  # the history; digests of the checkpoints
        if study.is_complete(folder):
            table = pd.read_csv(folder / "history.csv", float_precision="round_trip")
            self.rows = table.to_dict("records")
        elif (folder / _MARK).is_file():
            self._read()

    def _read(self) -> None:
        """Take the epochs that are on disk whole; what is damaged is put aside with a line."""
        try:
            mark = read_json(self.folder / _MARK)
            whole = mark.pop("digest") == digest_of(mark)
        except (ValueError, KeyError, AttributeError, TypeError):
            whole = False
        if not whole:
            print(f"{_put_aside(self.folder / _MARK)}; training begins again")
            return
        rows, known = mark["rows"], mark["files"]
        paths = {self.folder / name: digest for name, digest in known.items()}
        lost = [p for p, digest in paths.items() if not p.is_file() or digest_of(p) != digest]
        # Without the best weights the run would end in others.
        if self.checkpoint(_best(rows)) not in lost:
            self.rows = rows[: _best(rows)] if lost else rows
            self.files = {path.name: known[path.name] for path in paths if path not in lost}
        for path in lost:
            print(f"{_put_aside(path)}; training goes on after epoch {len(self.rows)}")

    def checkpoint(self, epochs: int) -> Path:
        """Weights and optimiser state after that many epochs."""
        return self.folder / f"checkpoint-{epochs:04d}.weights.h5"

    def resume(self) -> int:
        """Load the last checkpoint into what is fitted; return the number of finished epochs."""
        if self.rows and not study.is_complete(self.folder):
            self._write_history()
            self.fitted.optimizer.build(self.fitted.trainable_variables)
            self.fitted.load_weights(self.checkpoint(len(self.rows)))
        return len(self.rows)

    def _write_history(self) -> None:
        with write_aside(self.folder / "history.csv") as aside:
            pd.DataFrame(self.rows).to_csv(aside, index=False)

    def on_epoch_begin(self, epoch, logs=None):
        """Set what chance decides in this epoch: the order of faces, dropout, augmentation."""
        if self.bar is None:
            total, done = (n * len(self.batches) for n in (self.params["epochs"], epoch))
            name = self.network.name
            self.bar = progress_bar(total=total, initial=done, unit="step", desc=name)
        self.batches.start_epoch(epoch)
        for variable in self.fitted.variables:
            if variable.path.endswith("seed_generator_state"):
                seed = int(keras.ops.convert_to_numpy(variable)[0])
                variable.assign(np.array([seed, epoch << 20], "uint32"))
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Move the bar."""
        self.bar.update(1)

    def on_epoch_end(self, epoch, logs=None):
        """Write everything; last the mark that says which epochs and files are whole."""
        row = {"epoch": epoch + 1, **_named(logs, list(self.network.output))}
        row["learning_rate"] = float(self.fitted.optimizer.learning_rate)
        if not np.isfinite(row["val_loss"]):
            raise ValueError(
                f"training diverged: validation loss {row['val_loss']} in epoch {epoch + 1}; "
                f"lower learning_rate (now {row['learning_rate']:g}) or set precision to float32"
            )
        row["seconds"] = round(time.perf_counter() - self.started, 2)
        self.rows.append(row)
        last, best = self.checkpoint(epoch + 1), self.checkpoint(_best(self.rows))
        with write_aside(last) as aside:
            self.fitted.save_weights(aside)
        self.files = {best.name: self.files.get(best.name), last.name: digest_of(last)}
        self._write_history()
        mark = {"rows": self.rows, "files": self.files}
        write_json(self.folder / _MARK, mark | {"digest": digest_of(mark)})
        for path in set(self.folder.glob("checkpoint-*.weights.h5")) - {last, best}:
            path.unlink()  # only now are older ones not needed
        self.bar.set_postfix_str(f"val_loss {row['val_loss']:.3f}", refresh=False)

    def on_train_end(self, logs=None):
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()

    def use_best(self) -> None:
        """Put the best weights into the network; a finished run's are in it already."""
        if self.rows and not study.is_complete(self.folder):
            self.fitted.load_weights(self.checkpoint(_best(self.rows)))

    def save(self) -> None:
        """Write the whole network in float32: the run's ``model.keras``."""
        with write_aside(self.folder / "model.keras") as aside:
            float32_copy(self.network).save(aside)

    def seconds(self) -> float:
        """Spent on training, with the run that this one went on from."""
        older = study.read_config(self.folder)["start_from"]
        before = read_json(runs_dir() / older / "cost.json")["train_seconds"] if older else 0.0
        return before + sum(row["seconds"] for row in self.rows)

    def clear(self) -> None:
        """Remove what served only to go on: the best weights are in ``model.keras``."""
        for path in (*self.folder.glob("*.weights.h5*"), *self.folder.glob(f"{_MARK}*")):
            path.unlink()


class AveragedWeights(keras.callbacks.SwapEMAWeights):
    """Validate and keep the moving average of the weights, also after `resumed` epochs.

    Stands before `EpochRecord`, whose checkpoints then hold the average in the network, and the
    weights that training goes on from in the optimiser.
    """

    def __init__(self, resumed: int):
        super().__init__(swap_on_epoch=True)
        self._ema_weights_in_model = resumed > 0


def _best(rows: list[dict]) -> int:
    """Number of the epoch with the lowest validation loss."""
    return min(rows, key=lambda row: row["val_loss"])["epoch"]


def _put_aside(path: Path) -> str:
    if path.is_file():
        os.replace(path, path.with_name(f"{path.name}.damaged"))
        return f"{path} is damaged: kept as {path.name}.damaged"
    return f"{path} is missing"


def _named(logs: dict, outputs) -> dict:
    """Log columns ``<task>_<metric>``, which Keras leaves bare when there is one output."""
    task, named = outputs[0].removesuffix("_value"), {}
    for key, value in logs.items():
        prefix, name = ("val_", key[4:]) if key.startswith("val_") else ("", key)
        bare = len(outputs) == 1 and name in ("mae", "accuracy")
        name = f"{task}_{name}" if bare else name.replace("age_value_", "age_")
        named[prefix + name] = float(value)
    return named


def continue_from(network: keras.Model, run: str, folder: Path) -> None:
    """Give a new network the weights of a finished run; a ValueError says why that cannot be.

    In `folder`, of the run that begins, the history of the older one stands until it has its own.
    """
    older, history = runs_dir() / run, folder / "history.csv"
    if not study.is_complete(older):
        raise ValueError(
            f"start_from={run!r}: no finished run of that name in {older.parent}; "
            "train it first (published runs come without their network)"
        )
    study.check_files(older)
    given = study.load_model(older).get_weights()
    try:
        network.set_weights(given)
    except ValueError as error:
        raise ValueError(
            f"start_from={run!r}: its network has other weights than {network.name}; expected the "
            "same backbone and heads, and a backbone whose weights fit every input size"
        ) from error
    if not history.is_file():
        with write_aside(history) as aside:
            shutil.copyfile(older / "history.csv", aside)
