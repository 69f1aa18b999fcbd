"""Score any folder of pictures: ``python -m utils.predict FOLDER --model NAME --out FILE``.

The output has the columns of every run's ``predictions.parquet``: CSV or parquet by its name.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from utils import models
from utils.datasets.cleaning import open_rgb
from utils.datasets.facetable import DataError
from utils.files import write_aside

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
BATCH = 32


def find_pictures(folder: Path) -> list[Path]:
    """Pictures below a folder, by their ending, in the order of their names."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name a folder that holds pictures")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    if not found:
        raise DataError(f"{folder} holds no picture; expected files ending in {', '.join(ENDINGS)}")
    return found


def _faces(path: Path, size: int, detect: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Suffix and pixels [size, size, 3] of each face of a picture."""
    picture = open_rgb(path, upright=True)
    if not detect:
        yield "", np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
        return
    from utils import faces

    found = faces.detect(picture)
    if not found:
        raise DataError("no face found")
    for number, face in enumerate(found, start=1):
        crop = faces.crop_like_training(picture, face.box, face.landmarks, size)
        yield (f"#{number}" if len(found) > 1 else ""), np.asarray(crop)


def _score(model, names: list[str], pixels: list[np.ndarray]) -> pd.DataFrame:
    from utils.training.predicting import predict_average, prediction_columns

    outputs = predict_average(model, np.stack(pixels), np.arange(len(pixels)), BATCH)
    columns = prediction_columns(outputs)
    unknown = dict.fromkeys(("age", "gender", "ethnicity"))
    truth = pd.DataFrame({"image": names, "split": "test"} | unknown)
    return pd.concat([truth.astype({"age": "float32"}), columns], axis=1)


def predict_folder(
    folder: Path | str, model: str, detect: bool = False, progress: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict for every picture below a folder.

    Parameters
    ----------
    folder : Path or str
    model : str
        A name of `utils.models.available`.
    detect : bool
        Find the faces and crop them as in training; else each picture is taken as a face crop.
        With several faces in a picture, ``#1``, ``#2`` ... is appended to its name.
    progress : bool
        Show a progress bar.

    Returns
    -------
    predictions : DataFrame
        One row a face, true labels missing.
    unreadable : DataFrame
        ``image`` and ``reason`` of the pictures that gave no face.

    Raises
    ------
    DataError
        If the folder holds no picture, or no picture gave a face.
    """
    folder = Path(folder)
    paths = find_pictures(folder)
    network = models.load(model)
    size, parts, names, pixels, bad = network.input_shape[1], [], [], [], []
    for path in tqdm(paths, desc="predict", unit="picture", disable=not progress):
        name = path.relative_to(folder).as_posix()
        try:
            for suffix, face in _faces(path, size, detect):
                names.append(name + suffix)
                pixels.append(face)
        except DataError as error:
            bad.append((name, str(error)))
        if len(names) >= BATCH:
            parts.append(_score(network, names, pixels))
            names, pixels = [], []
    if names:
        parts.append(_score(network, names, pixels))
    unreadable = pd.DataFrame(bad, columns=["image", "reason"])
    if not parts:
        raise DataError(
            f"none of the {len(paths)} pictures in {folder} gave a face; the first: "
            f"{bad[0][0]}: {bad[0][1]}"
        )
    return pd.concat(parts, ignore_index=True), unreadable


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write CSV or parquet by the ending of the name."""
    with write_aside(path) as aside:
        if path.suffix == ".csv":
            table.to_csv(aside, index=False, float_format="%.5g")
        else:
            table.to_parquet(aside, compression="zstd", index=False)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m utils.predict", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="", help="default: the first model at hand")
    parser.add_argument("--out", type=Path, required=True, help="file ending in .csv or .parquet")
    parser.add_argument("--detect", action="store_true", help="find and crop the faces first")
    asked = parser.parse_args(arguments)
    try:
        if asked.out.suffix not in (".csv", ".parquet"):
            raise ValueError(
                f"--out {asked.out} ends in {asked.out.suffix!r}; expected .csv or .parquet"
            )
        known = list(models.available(tasks=()))
        if not known:
            raise ValueError("no model is at hand; train one: ./run_all.sh smoke")
        table, bad = predict_folder(asked.folder, asked.model or known[0], asked.detect)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write_table(table, asked.out)
    for row in bad.itertuples():
        print(f"left out: {row.image}: {row.reason}", file=sys.stderr)
    print(f"{len(table)} faces in {asked.out}, {len(bad)} pictures left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
