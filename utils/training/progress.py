"""What a training leaves after every epoch, so that a killed run goes on from there."""

import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from utils.files import write_aside


def _named(logs: dict, outputs) -> dict:
    """Log columns ``<task>_<metric>``, which Keras leaves bare when there is one output."""
    if len(outputs) > 1:
        return {key.replace("age_value_", "age_"): value for key, value in logs.items()}
    task, named = outputs[0].removesuffix("_value"), {}
    for key, value in logs.items():
        prefix, name = ("val_", key[4:]) if key.startswith("val_") else ("", key)
        bare = name in ("mae", "accuracy")
        named[f"{prefix}{task}_{name}" if bare else key] = value
    return named


class EpochRecord(keras.callbacks.Callback):
    """Write history, best weights and a checkpoint with optimiser state after each epoch.

    Parameters
    ----------
    folder : Path
        The run folder.
    batches : Batches
        Training data; its order is set at the start of each epoch.
    outputs : list of str
        Names of the model's outputs.
    epochs : int
        For the progress bar.
    """

    def __init__(self, folder: Path, batches, outputs, epochs: int, progress: bool = True):
        super().__init__()
        self.folder, self.batches, self.outputs, self.epochs = folder, batches, outputs, epochs
        self.rows = self._read()
        self.bar = tqdm(
            total=epochs * len(batches),
            disable=not progress,
            unit="step",
            initial=len(self.rows) * len(batches),
            desc=folder.name,
            mininterval=5.0,
        )

    def _read(self) -> list[dict]:
        path = self.folder / "history.csv"
        rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
        return rows if rows and self.checkpoint(len(rows)).is_file() else []

    def checkpoint(self, epochs: int) -> Path:
        """Weights and optimiser state after that many epochs."""
        return self.folder / f"checkpoint-{epochs:04d}.weights.h5"

    @property
    def best(self) -> Path:
        """Weights of the epoch with the lowest validation loss."""
        return self.folder / "best.weights.h5"

    def resume(self) -> int:
        """Load the checkpoint into the compiled model; return the number of finished epochs."""
        if self.rows:
            self.model.optimizer.build(self.model.trainable_variables)
            self.model.load_weights(self.checkpoint(len(self.rows)))
        return len(self.rows)

    def on_epoch_begin(self, epoch, logs=None):
        """Set the order of this epoch's faces."""
        self.batches.start_epoch(epoch)
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Move the bar."""
        self.bar.update(1)

    def on_epoch_end(self, epoch, logs=None):
        """Write everything, the history last: it says how many epochs the checkpoint has seen."""
        row = {"epoch": epoch + 1, **_named(logs, self.outputs)}
        row["learning_rate"] = float(self.model.optimizer.learning_rate)
        if not np.isfinite(row["val_loss"]):
            raise ValueError(
                f"training diverged: validation loss {row['val_loss']} in epoch {epoch + 1}; "
                f"lower learning_rate (now {row['learning_rate']:g}) or set precision to float32"
            )
        row["seconds"] = round(time.perf_counter() - self.started, 2)
        lowest = min((old["val_loss"] for old in self.rows), default=float("inf"))
        if row["val_loss"] < lowest:
            self._save(self.best)
        self._save(self.checkpoint(epoch + 1))
        self.rows.append(row)
        with write_aside(self.folder / "history.csv") as aside:
            pd.DataFrame(self.rows).to_csv(aside, index=False)
        self.checkpoint(epoch).unlink(missing_ok=True)  # only now is the older one not needed
        self.bar.set_postfix_str(f"val_loss {row['val_loss']:.3f}")

    def on_train_end(self, logs=None):
        """Close the bar."""
        self.bar.close()

    def _save(self, path: Path) -> None:
        with write_aside(path) as aside:
            self.model.save_weights(aside)
