"""From a picture to what each network says about each face in it."""

import base64
import contextlib
import io
import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from utils import faces, models
from utils.backbones.registry import BACKBONES
from utils.demo.pictures import Picture, Refused
from utils.explain.cams import batched_gradcam
from utils.explain.target import explain_target
from utils.files import DataError
from utils.predict import Scorer
from utils.training.predicting import age_quantile
from utils.vocabulary import CLASSES

MAX_FACES = 20  # the largest ones are read
TASKS = ("age", "gender", "ethnicity")
_PROTOCOLS = ("finetune", "partial", "linear_probe")


class Model(Scorer):
    """One network, loaded once, with its name in the API and its label on the page."""

    def __init__(self, name: str, folder: Path):
        super().__init__(folder.name)
        entry = BACKBONES.get(self.about["model"])
        self.name, self.layer = name, entry and entry.last_conv
        self.label = entry.label if entry else self.about.get("label") or name
        self.error = models.age_error(folder)  # years, or None
        self.synthetic = self.about["dataset"] == "synthetic"
        faces.frame_of(self.about["dataset"])
        said = self.outputs([Image.new("RGB", (self.size, self.size), (127, 127, 127))])
        if not all(np.isfinite(values).all() for values in said.values()):
            raise DataError(f"the network in {folder} does not answer in numbers: train it again")
        self._targets: dict = {}

    def heat_maps(self, crops: list[Image.Image]) -> dict[str, np.ndarray]:
        """Grad-CAM [n, s, s] by task, 0..1: what makes the face older, or the predicted class."""
        pixels, maps = np.stack([np.asarray(crop) for crop in crops]), {}
        with contextlib.suppress(ValueError):  # what cannot be explained still predicts
            for task in TASKS:
                if task not in self._targets:
                    self._targets[task] = explain_target(self.network, task, self.layer)
                maps[task] = batched_gradcam(self._targets[task], pixels, task)
        return maps


def choose(found: dict[str, Path]) -> dict[str, Path]:
    """The best model of each backbone: most layers trained, then lowest error in validation.

    Networks trained on all of UTKFace and a split without near-duplicates across it come first.
    Models of drawn faces are used only if there are no others. The backbone that the repository
    ships comes first, the others as the study orders them.
    """
    rows = [(_rank(path), models.describe(path), path) for path in found.values()]
    real = [row for row in rows if row[1]["dataset"] != "synthetic"]
    chosen: dict[str, Path] = {}
    for _, about, path in sorted(real or rows, key=lambda row: (row[0], str(row[2]))):
        chosen.setdefault(about["model"], path)
    shipped = {about["model"] for _, about, path in rows if models.is_shipped(path)}
    known = {name: place for place, name in enumerate(BACKBONES)}
    order = sorted(chosen, key=lambda name: (name not in shipped, known.get(name, 99), name))
    return {name: chosen[name] for name in order}


def _rank(folder: Path) -> tuple:
    about, error = models.describe(folder), models.age_error(folder, "val")
    protocol = about.get("protocol")
    return (
        about["dataset"] != "utkface",
        about.get("split") == "random",
        bool(about.get("limit")),
        _PROTOCOLS.index(protocol) if protocol in _PROTOCOLS else len(_PROTOCOLS),
        99.0 if error is None else error,
    )


class Analyst:
    """Finds faces and asks the networks about them: by default the best of `models.available()`.

    One that cannot be used is left out with a line, and the next best of its backbone is taken.
    """

    def __init__(self, found: dict[str, Path] | None = None):
        left = dict(models.available() if found is None else found)
        self.models: dict[str, Model] = {}
        self.ready = False
        while todo := {n: f for n, f in choose(left).items() if n not in self.models}:
            name, folder = next(iter(todo.items()))
            try:
                self.models[name] = Model(name, folder)
            except ValueError as error:
                print(f"left out: {error}", file=sys.stderr)
                left = {n: f for n, f in left.items() if f != folder}
        if not self.models:
            raise ValueError("there is no model that can be used; train one: ./run_all.sh smoke")

    @property
    def synthetic(self) -> bool:
        """Whether the networks know only drawn faces."""
        return all(model.synthetic for model in self.models.values())

    @property
    def missing(self) -> list[str]:
        """Labels of the study's backbones of which there is no trained network."""
        return [b.label for b in BACKBONES.values() if b.default and b.name not in self.models]

    def warm_up(self) -> None:
        """Compile everything, so that the first visitor does not wait for it."""
        faces.detect(Image.new("RGB", (640, 640)))
        blank = Picture(Image.new("RGB", (64, 64), (127, 127, 127)), (64, 64))
        for name in self.models:
            self.analyse(blank, name, whole=True, details=True)
        self.ready = True

    def model(self, name: str | None) -> Model:
        """A model by its name, by default the first."""
        name = name or next(iter(self.models))
        if name not in self.models:
            there = ", ".join(self.models)
            raise Refused(404, "unknown_model", f"There is no such model; there are: {there}.")
        return self.models[name]

    def analyse(
        self, picture: Picture, name: str | None = None, whole: bool = False, details: bool = False
    ) -> dict:
        """Everything about one picture as the API returns it; see ``openapi.yaml``.

        `name` is that of a model, `whole` takes the whole picture for one face, `details` adds age
        distributions, crops and heat-maps.
        """
        model, image = self.model(name), picture.image
        if whole:
            found = [faces.Face((0.0, 0.0, *map(float, image.size)), 1.0)]
            crops = [model.crop(image)]
        else:
            found = faces.detect(image)
            crops = [model.crop(image, face) for face in found[:MAX_FACES]]
        rows = []
        if crops:
            outputs = model.outputs(crops)
            maps = model.heat_maps(crops) if details else {}
            for k, (face, crop) in enumerate(zip(found, crops, strict=False)):
                rows.append(_face_row(face, picture, outputs, k, details))
                if details:
                    rows[k] |= _pictures(crop, maps, k)
        width, height = picture.size
        size = {"width": width, "height": height}
        return {"model": model.name} | size | {"faces_found": len(found), "faces": rows}


def _face_row(face, picture: Picture, outputs: dict, k: int, details: bool) -> dict:
    p = outputs["age"][k].astype(float)
    p /= p.sum()
    low, high = (float(age_quantile(p[None], share)[0]) for share in (0.1, 0.9))
    age = {"mean": float(p @ np.arange(len(p))), "low": low, "high": high}
    age = {name: round(value, 1) for name, value in age.items()}
    shares = {
        task: dict(zip(CLASSES[task], outputs[task][k].astype(float).round(4), strict=True))
        for task in ("gender", "ethnicity")
    }
    age |= {"distribution": p.round(5).tolist()} if details else {}
    box, confidence = picture.box(face.box), round(face.confidence, 4)
    return {"box": box, "confidence": confidence, "age": age, **shares}


def _pictures(crop: Image.Image, maps: dict, k: int) -> dict:
    heat = {
        task: _data_uri(_coloured(maps[task][k]), "PNG") for task in maps if maps[task][k].any()
    }
    return {"crop": _data_uri(crop, "JPEG"), "heat_maps": heat}


def _coloured(heat: np.ndarray) -> Image.Image:
    """A map as colours whose opacity is the attention."""
    pixels = matplotlib.colormaps["inferno"](heat)
    pixels[..., 3] = heat
    return Image.fromarray(np.round(pixels * 255).astype(np.uint8))


def _data_uri(image: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
