"""Score trained networks on faces of other data sets: ``python -m utils.transfer MODEL ...``.

Each set is scored twice: its pictures as they are, and cut so that the face lies where it lay in
training (`utils.faces`). Predictions land in ``reports/study/elsewhere/``;
`utils.evaluation.elsewhere` makes tables and figures of them.
"""

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from utils import datasets, faces, models
from utils.datasets.duplicates import assign_groups
from utils.datasets.facetable import FaceSet
from utils.datasets.splits import published_split, same_faces
from utils.files import write_aside
from utils.paths import ROOT, cache_dir
from utils.runs import write_predictions

STUDY = ROOT / "reports" / "study"
LIMIT = 2000
DETECT_SIDE = 192  # smaller pictures are enlarged to this side for the detector
PAD = 0.25  # of the side, grey, on each side: faces that touch the edge are found too
BOX = ["x", "y", "width", "height"]
MARKS = [f"{axis}{k}" for k in range(5) for axis in "xy"]
BATCH = 64


def other_faces(dataset: str, limit: int = LIMIT, root: Path | None = None) -> FaceSet:
    """Test faces of a data set with their duplicate groups.

    Parameters
    ----------
    dataset : str
        Name of a loader.
    limit : int
        At most about that many, chosen by a hash of their group's name; 0 for all.

    Returns
    -------
    FaceSet
        The published test part; all faces of a set that has no published split.
    """
    found = datasets.load(dataset, root)
    published = published_split(dataset)
    if published is None:
        found = assign_groups(found)
    else:
        test = published[published["split"] == "test"].set_index("image")["group"]
        found = found.subset(found.table["image"].isin(test.index))
        groups = found.table["image"].map(test)
        found = replace(found, table=found.table.assign(group=groups))
    found = replace(found, table=found.table.assign(split="test"))
    return datasets.limited(found, limit)


def locate_face(picture: Image.Image) -> faces.Face | None:
    """The face nearest to the centre, by distance over size; box and landmarks in pixels."""
    scale = max(1.0, DETECT_SIDE / max(picture.size))
    width, height = (round(scale * side) for side in picture.size)
    pad = round(PAD * max(width, height))
    canvas = Image.new("RGB", (width + 2 * pad, height + 2 * pad), (127, 127, 127))
    canvas.paste(picture.resize((width, height), Image.Resampling.BICUBIC), (pad, pad))
    middle = np.array(canvas.size) / 2

    def distance(face):
        x, y, w, h = face.box
        return np.hypot(*(np.array([x + w / 2, y + h / 2]) - middle)) / np.sqrt(max(w * h, 1))

    face = min(faces.detect(canvas), key=distance, default=None)
    if face is None:
        return None
    x, y, w, h = face.box
    box = ((x - pad) / scale, (y - pad) / scale, w / scale, h / scale)
    return faces.Face(box, face.confidence, (face.landmarks - pad) / scale)


def locate(found: FaceSet, progress: bool = True) -> pd.DataFrame:
    """Box and landmarks of the face in each picture, from the cache or by detection now.

    Returns
    -------
    DataFrame
        Index image; columns x, y, width, height, x0, y0 ... x4, y4 in pixels, all missing where
        no face was found.
    """
    names = found.table["image"].tolist()
    text = "\n".join([f"{DETECT_SIDE} {PAD}", str(found.root), *names])
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = cache_dir() / f"boxes-{found.name}-{key}.parquet"
    if path.is_file():
        return pd.read_parquet(path)
    rows = []
    for name in tqdm(names, desc=f"find faces {found.name}", unit="face", disable=not progress):
        face = locate_face(found.read(name))
        rows.append([np.nan] * 14 if face is None else [*face.box, *face.landmarks.ravel()])
    table = pd.DataFrame(rows, columns=BOX + MARKS, index=pd.Index(names, name="image"))
    with write_aside(path) as aside:
        table.to_parquet(aside)
    return table


def cut(picture: Image.Image, place, size: int, frame: faces.Frame) -> Image.Image:
    """The face as training would have shown it; the whole picture where none was found."""
    if place is None or np.isnan(place[BOX[0]]):
        return picture.resize((size, size), Image.Resampling.BILINEAR)
    marks = place[MARKS].to_numpy(float).reshape(5, 2)
    return faces.crop_like_training(picture, place[BOX].to_numpy(float), marks, size, frame)


def score(network, found: FaceSet, places=None, frame=None, progress: bool = True) -> pd.DataFrame:
    """Predictions of a network on every face of a set.

    Parameters
    ----------
    network : keras.Model
    found : FaceSet
    places : DataFrame, optional
        From `locate`; without it pictures are taken as they are.
    frame : utils.faces.Frame, optional
        Where faces lay in training; needed with `places`.

    Returns
    -------
    DataFrame
        Columns of every run's predictions, plus group, `age_group` (FairFace) and, with `places`,
        `found`: where false, the whole picture was scored.
    """
    from utils.training.predicting import predict_average, prediction_columns

    table, size, parts = found.table, network.input_shape[1], []
    bar = tqdm(total=len(table), desc=f"score {found.name}", unit="face", disable=not progress)
    for start in range(0, len(table), BATCH):
        names = table["image"].iloc[start : start + BATCH]
        pixels = [
            np.asarray(cut(found.read(n), None if places is None else places.loc[n], size, frame))
            for n in names
        ]
        outputs = predict_average(network, np.stack(pixels), np.arange(len(pixels)), BATCH)
        parts.append(prediction_columns(outputs))
        bar.update(len(names))
    bar.close()
    kept = ["image", "split", "age", "gender", "ethnicity", "group", "age_group"]
    truth = table[[name for name in kept if name in table]].astype({"age": "float32"})
    if places is not None:
        truth = truth.assign(found=places.loc[table["image"], BOX[0]].notna().to_numpy())
    return pd.concat([truth, pd.concat(parts, ignore_index=True)], axis=1)


def transfer(model: str, dataset: str, study: Path = STUDY, limit: int = LIMIT, root=None):
    """Score one model on one data set, with and without training's crop, into a study.

    Returns
    -------
    list of Path
        The two files written.

    Raises
    ------
    ValueError
        If there is no such model, or the place of faces in its training set is not known.
    """
    network, about = models.load(model), models.describe(models.available(tasks=())[model])
    if same_faces(about["dataset"]) == same_faces(dataset):
        raise ValueError(f"{model} was trained on {dataset}: that is at home; name another set")
    frame = faces.FRAMES.get(about["dataset"])
    if frame is None:
        raise ValueError(
            f"{model} was trained on {about['dataset']}; the place of its faces is known for "
            f"{list(faces.FRAMES)} only; add it to FRAMES in utils/faces.py"
        )
    found, written = other_faces(dataset, limit, root), []
    for ending, places in (("", None), ("-cropped", locate(found))):
        path = Path(study) / "elsewhere" / f"{about.get('run', model)}@{dataset}{ending}.parquet"
        write_predictions(score(network, found, places, frame), path)
        written.append(path)
    return written


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m utils.transfer", description=__doc__)
    parser.add_argument("models", nargs="+", help="shipped models or finished runs")
    parser.add_argument("--on", nargs="+", default=["fairface", "wiki"], help="data sets")
    parser.add_argument("--limit", type=int, default=LIMIT, help="faces of each set, 0 for all")
    parser.add_argument("--study", type=Path, default=STUDY)
    asked = parser.parse_args(arguments)
    try:
        for model in asked.models:
            for dataset in asked.on:
                for path in transfer(model, dataset, asked.study, asked.limit):
                    print(path, flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
