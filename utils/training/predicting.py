"""From a network's outputs to the columns that every run leaves."""

import numpy as np
import pandas as pd
from keras import ops

from utils.datasets.progress import progress_bar
from utils.vocabulary import AGE_BINS, CLASSES, OUTPUTS, age_bin, probability_columns


def predict_average(
    model, inputs, rows, batch_size=64, variants=False, flip_tta=True, progress=False, zoom_tta=0.0
) -> dict[str, np.ndarray]:
    """Average the outputs over each picture and its mirror image (flip TTA, if wanted).

    With `zoom_tta`, such as 0.05, also over pictures smaller and larger by that share.

    `model` is a whole network and `inputs` are images [n, size, size, 3]; or, with `variants`, its
    upper part and cached features [n, 2, ...] of picture and mirror image. Without both, features
    [n, ...] will do. Returns a dict from output names to float32 arrays [rows, outputs].
    """
    parts: dict[str, list] = {}
    bar = progress_bar(total=len(rows), desc="predict", unit="face", show=progress)
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        batch = np.asarray(inputs[chosen])
        seen = [batch[:, 0] if variants else batch]
        if zoom_tta:
            seen += [zoomed(batch, factor) for factor in (1 - zoom_tta, 1 + zoom_tta)]
        if flip_tta:
            seen += [batch[:, 1]] if variants else [one[:, :, ::-1] for one in seen]
        said = [model.predict_on_batch(np.ascontiguousarray(x)) for x in seen]
        for name in said[0]:
            parts.setdefault(name, []).append(np.mean([one[name] for one in said], axis=0))
        bar.update(len(chosen))
    bar.close()
    return {name: np.concatenate(values).astype("float32") for name, values in parts.items()}


def zoomed(pictures, factor: float) -> np.ndarray:
    """Square pictures [n, s, s, 3], 0..255, zoomed about their centre, as float32.

    Below 1 they shrink, and their edges repeat outwards.
    """
    scale = 1 / factor
    move = (1 - scale) * (pictures.shape[1] - 1) / 2
    transforms = np.tile(np.float32([scale, 0, move, 0, scale, move, 0, 0]), (len(pictures), 1))
    ways = {"fill_mode": "nearest", "data_format": "channels_last"}
    pictures = ops.image.affine_transform(np.float32(pictures), transforms, **ways)
    return ops.convert_to_numpy(pictures)


def without_surplus(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Drop the outputs beyond a task's classes, which a wide head has."""
    cut = {task: p[:, : OUTPUTS.get(task, p.shape[1])] for task, p in outputs.items()}
    return {
        task: p / p.sum(axis=1, keepdims=True) if p.shape[1] < outputs[task].shape[1] else p
        for task, p in cut.items()
    }


def age_quantile(probabilities: np.ndarray, share: float) -> np.ndarray:
    """Age below which a share of each distribution [n, years] lies, interpolated within the year.

    Year k covers the ages k - 0.5 to k + 0.5.

    >>> age_quantile(np.array([[0, 0.5, 0.5]]), 0.5).tolist()
    [1.5]
    """
    total = np.cumsum(probabilities, axis=1)
    total = total / total[:, -1:]
    year = np.argmax(total >= share - 1e-9, axis=1)
    rows = np.arange(len(total))
    before = np.where(year > 0, total[rows, np.maximum(year - 1, 0)], 0.0)
    inside = (share - before) / np.maximum(total[rows, year] - before, 1e-12)
    return np.maximum(year - 0.5 + np.clip(inside, 0, 1), 0.0)


def prediction_columns(outputs: dict[str, np.ndarray]) -> pd.DataFrame:
    """Columns of ``predictions.parquet`` from the outputs of a network, surplus ones dropped.

    Age bins come from their own head if there is one, else from the age distribution.
    """
    columns, outputs = {}, without_surplus(outputs)
    if "age" in outputs:
        p = outputs["age"] / outputs["age"].sum(axis=1, keepdims=True)
        years = np.arange(p.shape[1])
        columns["pred_age"] = p @ years
        columns["age_q10"], columns["age_q90"] = age_quantile(p, 0.1), age_quantile(p, 0.9)
        if "age_bin" not in outputs:
            members = age_bin(years)
            bins = [p[:, members == k].sum(axis=1) for k in range(len(AGE_BINS))]
            outputs = outputs | {"age_bin": np.stack(bins, axis=1)}
    if "age_value" in outputs:
        columns["pred_age"] = outputs["age_value"][:, 0]
    for task in (task for task in CLASSES if task in outputs):
        columns |= dict(zip(probability_columns(task), outputs[task].T, strict=True))
    return pd.DataFrame(columns).astype("float32")


def predictions_table(table: pd.DataFrame, outputs: dict[str, np.ndarray]) -> pd.DataFrame:
    """True labels beside the predictions, one row a face.

    ``age_distribution`` holds the whole of it, for those who compute what we did not: the
    probability of each year 0..116, relative to the largest in steps of 1/255 (uint8).
    """
    kept = ["image", "split", "group", "age", "gender", "ethnicity"]
    truth = table[[name for name in kept if name in table]].reset_index(drop=True)
    columns = [truth.astype({"age": "float32"}), prediction_columns(outputs)]
    if "age" in outputs:
        p = without_surplus(outputs)["age"]
        steps = np.rint(255 * p / p.max(axis=1, keepdims=True)).astype("uint8")
        columns.append(pd.Series(list(steps), name="age_distribution"))
    return pd.concat(columns, axis=1)
