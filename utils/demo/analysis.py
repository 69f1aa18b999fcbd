"""From a picture to what each network says about each face in it."""

import base64
import contextlib
import functools
import io
import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from utils import faces, models
from utils.backbones.registry import BACKBONES
from utils.demo.pictures import Refused
from utils.evaluation.columns import sized_interval
from utils.explain.cams import batched_gradcam
from utils.explain.target import explain_target
from utils.files import DataError
from utils.predict import Scorer
from utils.training.predicting import age_quantile
from utils.vocabulary import CLASSES

MAX_FACES = 20  # the largest ones are read
_PROTOCOLS = ("finetune", "partial", "linear_probe")
_GREY = Image.new("RGB", (64, 64), (127, 127, 127))
_explained = functools.cache(explain_target)  # a target keeps what it compiled


class Model(Scorer):
    """One network, loaded once, with its name in the API and its label on the page."""

    def __init__(self, name: str, folder: Path):
        super().__init__(folder.name)
        entry = BACKBONES.get(self.about["model"])
        self.name, self.layer = name, entry and entry.last_conv
        self.label = entry.label if entry else self.about.get("label") or name
        self.error = models.age_error(folder)  # years, or None
        faces.frame_of(self.about["dataset"])
        if not all(np.isfinite(said).all() for said in self.outputs([self.crop(_GREY)]).values()):
            raise DataError(f"the network in {folder} does not answer in numbers: train it again")

    def heat_maps(self, crops: list[Image.Image]) -> dict[str, np.ndarray]:
        """Grad-CAM [n, s, s] by task, 0..1: what makes the face older, or the predicted class."""
        pixels, maps = np.stack([np.asarray(crop) for crop in crops]), {}
        with contextlib.suppress(ValueError):  # what cannot be explained still predicts
            for task in models.NEEDED:
                maps[task] = batched_gradcam(_explained(self.network, task, self.layer), pixels)
        return maps


def choose(found: dict[str, Path]) -> dict[str, Path]:
    """The best model of each backbone: the shipped backbone first, the others as the study's.

    Models of drawn faces are used only if there are no others.
    """
    about = {path: models.describe(path) for path in found.values()}
    real = [path for path in about if about[path]["dataset"] != "synthetic"]
    ranked = sorted(real or about, key=_rank, reverse=True)
    best = {about[path]["model"]: path for path in ranked}
    shipped = {about[path]["model"] for path in about if models.is_shipped(path)}
    names = [*BACKBONES, *sorted(best.keys() - BACKBONES.keys())]
    names.sort(key=lambda name: name not in shipped)
    return {name: best[name] for name in names if name in best}


def _rank(folder: Path) -> tuple:
    """Trained on all of UTKFace, copies not split, most layers trained, lowest error first."""
    about, error = models.describe(folder), models.age_error(folder, "val")
    protocol = about.get("protocol")
    return (
        about["dataset"] != "utkface",
        about.get("split") == "random",
        bool(about.get("limit")),
        (*_PROTOCOLS, protocol).index(protocol),
        about.get("epochs") == 0,  # another run's network, in other views
        99.0 if error is None else error,
        str(folder),
    )


class Analyst:
    """Finds faces and asks the networks about them: by default the best of `models.available()`.

    One that cannot be used is left out with a line, and the next best of its backbone is taken.
    """

    def __init__(self, found: dict[str, Path] | None = None):
        left = dict(models.available() if found is None else found)
        self.models: dict[str, Model] = {}
        self.ready = False
        while todo := [one for one in choose(left).items() if one[0] not in self.models]:
            name, folder = todo[0]
            try:
                self.models[name] = Model(name, folder)
            except Exception as error:  # a network may be broken in any way
                print(f"left out: {folder.name}: {error}", file=sys.stderr)
                left = {n: f for n, f in left.items() if f != folder}
        if not self.models:
            raise ValueError("there is no model that can be used; train one: ./run_all.sh smoke")
        self.synthetic = all(m.about["dataset"] == "synthetic" for m in self.models.values())
        study = [entry for entry in BACKBONES.values() if entry.default]
        self.missing = [entry.label for entry in study if entry.name not in self.models]

    def warm_up(self) -> None:
        """Compile everything, so that the first visitor does not wait for it."""
        faces.detect(Image.new("RGB", (640, 640)))
        for model in self.models.values():
            self.analyse((_GREY, _GREY.size), model, whole=True, details=True)
        self.ready = True

    def model(self, name: str | None) -> Model:
        """A model by its name, by default the first."""
        name = name or next(iter(self.models))
        if name not in self.models:
            there = ", ".join(self.models)
            raise Refused(404, "unknown_model", f"There is no such model; there are: {there}.")
        return self.models[name]

    def analyse(self, decoded: tuple, model: Model, whole: bool, details: bool) -> dict:
        """Everything about what `decode` gave, as the API returns it; see ``openapi.yaml``."""
        image, (width, height) = decoded
        scales = np.tile([width / image.width, height / image.height], 2)
        found = [faces.Face((0, 0, *image.size), 1.0)] if whole else faces.detect(image)
        crops = [model.crop(image, None if whole else face) for face in found[:MAX_FACES]]
        outputs = model.outputs(crops) if crops else {}
        maps = model.heat_maps(crops) if crops and details else {}
        rows = []
        for k, crop in enumerate(crops):
            box = np.rint(found[k].box * scales).astype(int).tolist()
            place = {"box": box, "confidence": round(found[k].confidence, 4)}
            said = {task: values[k].astype(float) for task, values in outputs.items()}
            rows.append(place | _labels(said, details, model.about.get("age_interval")))
            if details:
                heat = {task: heat[k] for task, heat in maps.items() if heat[k].any()}
                rows[k] |= _pictures(crop, heat)
        answer = {"model": model.name, "width": width, "height": height}
        return answer | {"faces_found": len(found), "faces": rows}


def _labels(said: dict[str, np.ndarray], details: bool, sizes: dict | None) -> dict:
    p = said["age"] / said["age"].sum()
    mean, ends = p @ np.arange(len(p)), [age_quantile(p[None], share)[0] for share in (0.1, 0.9)]
    low, high = sized_interval(mean, *ends, sizes) if sizes else ends
    age = {"mean": mean, "low": low, "high": high}
    age = {name: round(float(value), 1) for name, value in age.items()}
    age |= {"distribution": p.round(5).tolist()} if details else {}
    shares = {t: dict(zip(CLASSES[t], said[t].round(4), strict=True)) for t in models.NEEDED[1:]}
    return {"age": age} | shares


def _pictures(crop: Image.Image, maps: dict[str, np.ndarray]) -> dict:
    """The crop and its maps, as colours whose opacity is the attention."""
    colours = matplotlib.colormaps["inferno"]
    drawn = {task: colours(heat, alpha=heat, bytes=True) for task, heat in maps.items()}
    heat = {task: _data_uri(Image.fromarray(pixels), "PNG") for task, pixels in drawn.items()}
    return {"crop": _data_uri(crop, "JPEG"), "heat_maps": heat}


def _data_uri(image: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.save(file, kind, quality=90)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
