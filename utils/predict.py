"""Score pictures with a trained network: a folder of any, or data sets that it never saw.

``python -m utils.predict FOLDER --model NAME --out FILE [--detect]`` writes one row a face with the
columns of every run's ``predictions.parquet``, as CSV or parquet by the name. ``--engine onnx`` is
several times faster, with the same numbers to 0.001; it needs the extra ``web``.
``--zoom-tta 0.05`` scores each face smaller and larger too: three times the work, better ages.
``python -m utils.predict --datasets fairface wiki --model NAME`` scores each set twice into
``reports/study/cross_dataset/``: its pictures as they are, and cut so that the face lies where it
lay in training.
"""

import argparse
import functools
import hashlib
import itertools
import shutil
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from utils import datasets, faces, models
from utils.datasets.archives import list_images
from utils.datasets.near_duplicates import assign_groups
from utils.datasets.pictures import ENDINGS, in_mode, open_rgb, resized
from utils.datasets.progress import progress_bar
from utils.datasets.table import cached_table
from utils.export import OnnxNetwork
from utils.files import DataError, check_writable, write_aside
from utils.paths import ROOT
from utils.study import published_split, same_faces, write_predictions
from utils.training.predicting import predict_average, prediction_columns, without_surplus

STUDY = ROOT / "reports" / "study"
BATCH = 32
PART = 16 * BATCH  # pictures of a folder that a stop may cost
LIMIT = 2000  # faces of a data set


class Scorer:
    """A network, by its name in `utils.models.available`, and faces as its training showed them.

    `views` are other settings of its test than those of the run, such as ``zoom_tta=0.05``.
    """

    def __init__(self, name: str, engine: str = "keras", **views):
        folder = models.folder_of(name)
        self.about = {"run": name} | models.describe(folder) | views
        self.network = OnnxNetwork(name) if engine == "onnx" else models.load(name)
        self.size = int(self.about["input_size"])  # pixels a side

    def crop(self, picture: Image.Image, face: faces.Face | None = None) -> Image.Image:
        """A face as training would have shown it; without a face, the picture's central square."""
        grey48 = self.about["dataset"] == "utkface_csv"
        mode = "grey48" if grey48 else self.about.get("image_mode", "colour")
        side = 48 if "48" in mode else self.size
        if face is None:
            chip = ImageOps.fit(picture, (side, side), Image.Resampling.BILINEAR)
        else:
            frame = faces.frame_of(self.about["dataset"])
            chip = faces.crop_like_training(picture, face.box, face.landmarks, side, frame)
        return resized(in_mode(chip, mode), self.size)

    def outputs(self, crops: Iterable[Image.Image]) -> dict[str, np.ndarray]:
        """Outputs by task, without surplus ones, averaged over the views of its test."""
        pixels = np.stack([np.asarray(crop) for crop in crops])
        views = {k: v for k, v in self.about.items() if k in ("flip_tta", "zoom_tta")}
        said = predict_average(self.network, pixels, np.arange(len(pixels)), BATCH, **views)
        return without_surplus(said)


def scored(scorer: Scorer, names: Iterable[str], read, find, bad) -> Iterator[pd.DataFrame]:
    """Predictions of the faces in some pictures, a batch at a time.

    `read` opens a name (a DataError is the reason why it cannot be used), `find` gives a picture's
    faces (None, or no `find`: the whole picture), `bad` takes name and reason of those without one.
    """
    found = _crops(scorer, names, read, find, bad)
    while batch := list(itertools.islice(found, BATCH)):
        rows, crops = zip(*batch, strict=True)
        yield pd.concat([pd.DataFrame(rows), prediction_columns(scorer.outputs(crops))], axis=1)


def _crops(scorer, names, read, find, bad):
    def opened(name):
        picture = read(name)
        return picture if find else scorer.crop(picture)

    for name, future in _ahead(opened, names):
        try:
            picture = future.result()
            found = find(picture) if find else [None]
            if not found:
                raise DataError("no face found")
        except DataError as error:
            bad.append((name, str(error)))
            continue
        for number, face in enumerate(found, start=1):
            label = f"{name}#{number}" if len(found) > 1 else name
            crop = scorer.crop(picture, face) if find else picture
            yield {"image": label, "found": face is not None}, crop


def _ahead(work, names: Iterable[str]) -> Iterator[tuple[str, Future]]:
    """Names with what `work` makes of them: threads are a few batches ahead of the network."""
    with ThreadPoolExecutor() as pool:
        waiting: deque = deque()
        for name in names:
            waiting.append((name, pool.submit(work, name)))
            if len(waiting) > 3 * BATCH:
                yield waiting.popleft()
        yield from waiting


def score_folder(folder: Path, model: str, bad: list, detect=False, keep=None, **how):
    """Yield predictions for every picture of a folder, in parts; `bad` takes others and why.

    With `detect` the faces are found and cropped as in training, and ``#1``, ``#2`` ... is appended
    to the name of a picture with several; else each picture is taken as a face crop. Parts stay in
    the folder `keep`: after a stop the same call goes on from there. `how` goes to the `Scorer`.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name a folder that holds pictures")
    paths, left_out = list_images(folder)
    bad += left_out
    if not (paths or bad):
        raise DataError(f"{folder} holds no picture; expected files ending in {', '.join(ENDINGS)}")
    files = [*paths.values(), models.network_file(models.folder_of(model))]
    found = [(str(path), path.lstat()) for path in files]
    stats = [(name, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for name, one in found]
    job = hashlib.sha256(repr([PART, detect, how, stats]).encode()).hexdigest()[:16]
    scorer, bar = Scorer(model, **how), iter(progress_bar(paths, desc="predict", unit="picture"))
    for number in range(-(-len(paths) // PART)):
        make = functools.partial(_score_part, scorer, paths, itertools.islice(bar, PART), detect)
        part = cached_table(keep / job / f"{number:06d}.parquet", make) if keep else make()
        deque(make.args[2], maxlen=0)  # a part that was there moves the bar on, too
        lost = part["error"].notna()
        bad += part.loc[lost, ["image", "error"]].itertuples(index=False, name=None)
        if not lost.all():
            yield part[~lost].drop(columns="error")
    every = len(paths) + len(left_out)
    if len(bad) == every:
        _list(bad)
        raise DataError(f"none of {every} pictures gave a face; each is listed above")


def _score_part(scorer: Scorer, paths: dict, names: Iterable[str], detect: bool) -> pd.DataFrame:
    """Predictions of some pictures, and ``error`` of those without a face."""
    find, bad = (faces.detect if detect else None), []
    rows = list(scored(scorer, names, lambda name: open_rgb(paths[name], upright=True), find, bad))
    lost = [pd.DataFrame(bad, columns=["image", "error"])] if bad else []
    table = pd.concat(rows + lost, ignore_index=True)
    unknown = {"split": "test", "age": np.float32("nan"), "gender": None, "ethnicity": None}
    table = pd.concat([table.pop("image").to_frame().assign(**unknown), table], axis=1)
    return table.assign(error=table.get("error")).drop(columns="found", errors="ignore")


def _write_folder(folder: Path, model: str, out: Path, detect: bool, **how) -> None:
    """Score a folder into one file, with its parts beside it until it is whole."""
    if out.suffix not in (".csv", ".parquet") or out.is_dir():
        raise DataError(f"--out {out}: expected the name of a .csv or .parquet file")
    bad, keep = [], out.with_name(f".parts-{out.name}")
    check_writable(keep)
    try:
        table = pd.concat(score_folder(folder, model, bad, detect, keep, **how), ignore_index=True)
    finally:
        with suppress(OSError):  # parts stay
            keep.rmdir()
    with write_aside(out) as aside:
        if out.suffix == ".csv":
            # A spreadsheet runs a cell that begins so as a formula.
            table["image"] = table["image"].str.replace(r"^(?=[=+@\t\r-])", "'", regex=True)
            table.to_csv(aside, index=False, float_format="%.5g")
        else:
            table.to_parquet(aside, index=False, compression="zstd")
    shutil.rmtree(keep)
    _list(bad)
    print(f"{len(table)} faces in {out}, {len(bad)} pictures left out")


def other_faces(found: datasets.FaceSet, limit: int = LIMIT) -> datasets.FaceSet:
    """Test faces of a data set with their groups of near-duplicates.

    All faces of a set without a published split; of either, `limit` at most (0: all).
    """
    published = published_split(found.name)
    if published is None:
        found = assign_groups(found)
    else:
        test = published[published["split"] == "test"].set_index("image")["group"]
        found = found.subset(found.table["image"].isin(test.index))
        found.table["group"] = found.table["image"].map(test)
    found.table["split"] = "test"
    return datasets.limited(found, limit)


def set_scores(scorer: Scorer, found: datasets.FaceSet, find, bad: list) -> pd.DataFrame:
    """Predictions for a set, with group, `age_group` (FairFace) and `found` (false: whole)."""
    table = found.table.set_index("image", drop=False)
    bar = progress_bar(table["image"], desc=f"score {found.name}", unit="face")
    parts = list(scored(scorer, bar, found.read, find, bad))
    if not parts:
        raise DataError(f"no picture of {found.name} can be read; the first: {': '.join(bad[0])}")
    rows = pd.concat(parts, ignore_index=True)
    kept = ["image", "split", "age", "gender", "ethnicity", "group", "age_group"]
    truth = table.filter(kept).loc[rows["image"]].reset_index(drop=True)
    return pd.concat([truth.astype({"age": "float32"}), rows.drop(columns="image")], axis=1)


def cross_dataset(
    names: list[str], found: datasets.FaceSet, study: Path, limit: int
) -> Iterator[tuple[Path, list]]:
    """Score models on a data set that they never saw, with and without training's crop.

    Yields each file written, and names and reasons of the pictures left out.
    """
    for name in names:
        trained_on = models.describe(models.folder_of(name))["dataset"]
        faces.frame_of(trained_on)  # what cannot work is told before anything is read
        if same_faces(trained_on) == same_faces(found.name):
            raise DataError(f"{name} was trained on {found.name}; name a set that it has not seen")
    check_writable(study / "cross_dataset")
    found, known = other_faces(found, limit), {}

    def locate(picture):
        key = hash(picture.tobytes())
        if key not in known:  # once for all models
            known[key] = [faces.locate(picture)]
        return known[key]

    for scorer in map(Scorer, names):
        for ending, find in (("", None), ("-cropped", locate)):
            bad: list = []
            table = set_scores(scorer, found, find, bad)
            path = study / "cross_dataset" / f"{scorer.about['run']}@{found.name}{ending}.parquet"
            write_predictions(table if ending else table.drop(columns="found"), path)
            yield path, bad


def _list(bad: list) -> None:
    for name, reason in bad:
        print(f"left out: {name}: {reason}", file=sys.stderr)


def share(text: str) -> float:
    """A share of 0 or more and below 1, for `argparse`."""
    if not 0 <= float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a share below 1, such as 0.05")
    return float(text)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m utils.predict", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="folder that holds pictures")
    parser.add_argument("--datasets", nargs="+", default=[], help="data sets instead of a folder")
    parser.add_argument("--model", nargs="+", default=[], help="default: the first model at hand")
    parser.add_argument("--out", type=Path, help="file ending in .csv or .parquet")
    parser.add_argument("--detect", action="store_true", help="find and crop the faces first")
    parser.add_argument("--engine", choices=("keras", "onnx"), default="keras")
    parser.add_argument("--zoom-tta", type=share, default=argparse.SUPPRESS, metavar="SHARE")
    parser.add_argument("--limit", type=int, default=LIMIT, help="faces of each set, 0 for all")
    parser.add_argument("--study", type=Path, default=STUDY)
    asked = parser.parse_args(arguments)
    how = {k: v for k, v in vars(asked).items() if k in ("engine", "zoom_tta")}
    odd = how != {"engine": "keras"} if asked.datasets else len(asked.model) > 1  # as in its run
    if odd or bool(asked.folder) == bool(asked.datasets) or bool(asked.folder) != bool(asked.out):
        parser.error("expected FOLDER, --out, one --model; or --datasets, no --engine, --zoom-tta")
    try:
        names = asked.model or list(models.available(tasks=()))[:1]
        if not names:
            raise DataError("no model is at hand; train one: ./run_all.sh smoke")
        if asked.folder:
            _write_folder(asked.folder, names[0], asked.out, asked.detect, **how)
        else:  # what is missing is told before anything is scored
            for name in names:
                models.folder_of(name)
        for found in [datasets.load(name) for name in asked.datasets]:
            for path, bad in cross_dataset(names, found, asked.study, asked.limit):
                _list(bad)
                print(path, flush=True)
    except (ImportError, ValueError, OSError) as error:
        lacks = "; install what --detect and --engine onnx need: pip install -e '.[web]'"
        print(f"error: {error}{lacks * isinstance(error, ImportError)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; for a folder, the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
