"""What a training leaves after every epoch, so that a killed one goes on from there."""

import shutil
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from utils import study
from utils.backbones.networks import float32_copy
from utils.datasets.progress import progress_bar
from utils.files import read_json, write_aside
from utils.paths import runs_dir


class EpochRecord(keras.callbacks.Callback):
    """Show progress; write history, best weights and a checkpoint with optimiser state each epoch.

    A training that is killed at any time goes on after its last whole epoch, and ends in the same
    weights as one that was not. (Keras' own ModelCheckpoint and BackupAndRestore write in place:
    a kill while they do leaves half a file. Nor do they keep the state of dropout.)

    `network` is the whole network, `fitted` what `fit` sees of it, `batches` its training data.
    """

    def __init__(self, folder: Path, network: keras.Model, fitted: keras.Model, batches):
        super().__init__()
        self.bar = None
        self.folder, self.network, self.fitted, self.batches = folder, network, fitted, batches
        path = folder / "history.csv"
        table = pd.read_csv(path, float_precision="round_trip") if path.is_file() else None
        rows = [] if table is None else table.to_dict("records")
        whole = study.is_complete(folder) or self.checkpoint(len(rows)).is_file()
        self.rows = rows if whole else []
        self.best = folder / "best.weights.h5"  # of the epoch with the lowest validation loss

    def checkpoint(self, epochs: int) -> Path:
        """Weights and optimiser state after that many epochs."""
        return self.folder / f"checkpoint-{epochs:04d}.weights.h5"

    def _save(self, path: Path) -> None:
        with write_aside(path) as aside:
            self.fitted.save_weights(aside)

    def resume(self) -> int:
        """Load the last checkpoint into what is fitted; return the number of finished epochs."""
        if self.rows and not study.is_complete(self.folder):
            self.fitted.optimizer.build(self.fitted.trainable_variables)
            self.fitted.load_weights(self.checkpoint(len(self.rows)))
        return len(self.rows)

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
        """Write everything, the history last: it says how many epochs the checkpoint has seen."""
        row = {"epoch": epoch + 1, **_named(logs, list(self.network.output))}
        row["learning_rate"] = float(self.fitted.optimizer.learning_rate)
        if not np.isfinite(row["val_loss"]):
            raise ValueError(
                f"training diverged: validation loss {row['val_loss']} in epoch {epoch + 1}; "
                f"lower learning_rate (now {row['learning_rate']:g}) or set precision to float32"
            )
        row["seconds"] = round(time.perf_counter() - self.started, 2)
        if row["val_loss"] < min((old["val_loss"] for old in self.rows), default=float("inf")):
            self._save(self.best)
        self._save(self.checkpoint(epoch + 1))
        self.rows.append(row)
        with write_aside(self.folder / "history.csv") as aside:
            pd.DataFrame(self.rows).to_csv(aside, index=False)
        self.checkpoint(epoch).unlink(missing_ok=True)  # only now is the older one not needed
        self.bar.set_postfix_str(f"val_loss {row['val_loss']:.3f}", refresh=False)

    def on_train_end(self, logs=None):
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()

    def use_best(self) -> None:
        """Put the best weights into the network; a finished run's are in it already."""
        if self.best.is_file() and not study.is_complete(self.folder):
            self.fitted.load_weights(self.best)

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
        for path in self.folder.glob("*.weights.h5"):
            path.unlink()


def _named(logs: dict, outputs) -> dict:
    """Log columns ``<task>_<metric>``, which Keras leaves bare when there is one output."""
    task, named = outputs[0].removesuffix("_value"), {}
    for key, value in logs.items():
        prefix, name = ("val_", key[4:]) if key.startswith("val_") else ("", key)
        bare = len(outputs) == 1 and name in ("mae", "accuracy")
        named[prefix + (f"{task}_{name}" if bare else name.replace("age_value_", "age_"))] = value
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
