"""What does averaging over the mirror image bring? The same network, asked once."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from utils import runs
from utils.ablations import study_of
from utils.files import write_aside, write_json
from utils.training.config import RunConfig
from utils.training.predicting import predict_average, predictions_table, without_surplus
from utils.training.run import INFERENCE_BATCH, begin, build, result_rows, train, trainable

KEPT = ("history.csv", "cost.json", "environment.json")  # of the training, which is not repeated


def predict_unmirrored(config: RunConfig, progress: bool = True, root: Path | None = None) -> Path:
    """A run folder with predictions from the pictures alone, validation and test faces.

    Parameters
    ----------
    config : RunConfig
        With ``mirror=False``. The run with True is trained first if it is missing.
    progress : bool
    root : Path, optional
        Folder of the data set.

    Returns
    -------
    Path
        The run folder, complete but without a model.
    """
    # Without other changes its averaged twin is a candidate of the comparison, which this is not.
    twin = replace(config, mirror=True)
    twin.study = study_of(twin.to_dict())
    averaged = train(twin, progress=progress, root=root)
    folder = runs.runs_dir() / config.run
    prepared = begin(config, folder, progress, root)
    network = build(config)
    network.set_weights(runs.load_model(averaged).get_weights())
    parts = trainable(config, network, prepared, progress)
    rows = np.flatnonzero(prepared.table["split"] != "train")
    bar = tqdm(total=len(rows), desc="predict", unit="face", disable=not progress, mininterval=5.0)
    model = parts.fitted if parts.variants else parts.network
    outputs = predict_average(
        model, parts.inputs, rows, INFERENCE_BATCH, parts.variants, bar, mirror=False
    )
    bar.close()
    table = predictions_table(prepared.table.iloc[rows], without_surplus(outputs))
    runs.write_predictions(table, folder / "predictions.parquet")
    for name in KEPT:
        with write_aside(folder / name) as aside:
            shutil.copyfile(averaged / name, aside)
    write_json(folder / "metrics.json", {"rows": result_rows(config, table)})
    return folder
