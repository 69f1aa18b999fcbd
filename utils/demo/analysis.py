"""From a picture to what each network says about each face in it."""

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from utils import faces, models
from utils.backbones.registry import BACKBONES
from utils.datasets.facetable import ETHNICITIES, GENDERS
from utils.demo.pictures import Picture, Refused
from utils.training.predicting import age_quantile, predict_average

MAX_FACES = 20  # the largest ones are read
TASKS = ("age", "gender", "ethnicity")
_PROTOCOLS = ("finetune", "partial", "head")


@dataclass
class Model:
    """One network, loaded once.

    Attributes
    ----------
    name, label : str
        Identifier in the API and name on the page.
    network : keras.Model
    about : dict
        Its card or configuration.
    error : float or None
        Mean absolute error of the age on test faces, in years, where it was measured.
    """

    name: str
    label: str
    network: object
    about: dict
    error: float | None = None
    _targets: dict = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        """Side of the input in pixels."""
        return int(self.network.inputs[0].shape[1])

    @property
    def synthetic(self) -> bool:
        """Whether it has only seen drawn faces."""
        return self.about.get("dataset") == "synthetic"

    def predict(self, crops: list[Image.Image]) -> dict[str, np.ndarray]:
        """Probabilities by task, averaged over crop and mirror image, as the study's figures."""
        pixels = np.stack([np.asarray(crop) for crop in crops])
        return predict_average(self.network, pixels, np.arange(len(pixels)))

    def heat_maps(self, crops: list[Image.Image]) -> dict[str, np.ndarray]:
        """Grad-CAM [n, s, s] by task, 0..1: what makes the face older, or the predicted class."""
        from utils.explain.cams import batched_gradcam
        from utils.explain.target import explain_target

        entry = BACKBONES.get(self.about.get("model"))
        pixels = np.stack([np.asarray(crop) for crop in crops])
        maps = {}
        for task in TASKS:
            if task not in self._targets:
                layer = entry.last_conv if entry else None
                self._targets[task] = explain_target(self.network, task, layer)
            maps[task] = batched_gradcam(self._targets[task], pixels, task)
        return maps


def choose(found: dict[str, Path]) -> dict[str, Path]:
    """The best model of each backbone: most layers trained, then lowest error in validation.

    Networks trained on all of UTKFace and a split without near-copies across it come first.
    Models of drawn faces are used only if there are no others.

    Parameters
    ----------
    found : dict from name to folder
        As `utils.models.available` gives it.

    Returns
    -------
    dict from backbone to folder
        The backbone that the repository ships first, the others as the study orders them.
    """
    rows = [(_rank(path), models.describe(path), path) for path in found.values()]
    real = [row for row in rows if row[1].get("dataset") != "synthetic"]
    chosen: dict[str, Path] = {}
    for _, about, path in sorted(real or rows, key=lambda row: (row[0], str(row[2]))):
        chosen.setdefault(about["model"], path)
    shipped = {about["model"] for _, about, path in rows if models.is_shipped(path)}
    known = list(BACKBONES)

    def place(name: str) -> tuple:
        return name not in shipped, known.index(name) if name in known else len(known), name

    return {name: chosen[name] for name in sorted(chosen, key=place)}


def _rank(folder: Path) -> tuple:
    about = models.describe(folder)
    protocol = about.get("protocol")
    error = models.age_error(folder, "val")
    return (
        about.get("dataset") != "utkface",
        about.get("split") == "naive",
        bool(about.get("limit")),
        _PROTOCOLS.index(protocol) if protocol in _PROTOCOLS else len(_PROTOCOLS),
        99.0 if error is None else error,
    )


class Analyst:
    """Finds faces and asks the networks about them.

    Parameters
    ----------
    chosen : dict from name to folder, optional
        By default `choose(utils.models.available())`.
    """

    def __init__(self, chosen: dict[str, Path] | None = None):
        chosen = choose(models.available()) if chosen is None else chosen
        if not chosen:
            raise ValueError("there is no model; expected one in data/models or data/runs")
        self.models: dict[str, Model] = {}
        for name, folder in chosen.items():
            about = models.describe(folder)
            label = about.get("label") or name
            error = models.age_error(folder)
            self.models[name] = Model(name, label, models.load(folder.name), about, error)
        self.ready = False

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
            raise Refused(
                404,
                "unknown_model",
                f"There is no such model; there are: {', '.join(self.models)}.",
            )
        return self.models[name]

    def analyse(
        self,
        picture: Picture,
        name: str | None = None,
        whole: bool = False,
        details: bool = False,
    ) -> dict:
        """Everything about one picture as the API returns it; see ``openapi.yaml``.

        Parameters
        ----------
        picture : Picture
        name : str, optional
            Which model.
        whole : bool
            Take the whole picture for one face.
        details : bool
            Add age distributions, crops and heat-maps.
        """
        model = self.model(name)
        found, crops = self._crops(picture, model.size, whole)
        answer = {
            "model": model.name,
            "width": picture.size[0],
            "height": picture.size[1],
            "faces_found": len(found),
            "faces": [],
        }
        if crops:
            outputs = model.predict(crops)
            maps = self._maps(model, crops) if details else None
            for k, face in enumerate(found[: len(crops)]):
                row = _face_row(face, picture.scale, outputs, k, details)
                if details:
                    row |= _pictures(crops[k], maps, k)
                answer["faces"].append(row)
        return answer

    def _crops(self, picture: Picture, size: int, whole: bool):
        if whole:
            face = faces.Face((0.0, 0.0, *map(float, picture.image.size)), 1.0)
            return [face], [faces.whole_picture(picture.image, size)]
        found = faces.detect(picture.image)
        crops = [
            faces.crop_like_training(picture.image, face.box, face.landmarks, size)
            for face in found[:MAX_FACES]
        ]
        return found, crops

    @staticmethod
    def _maps(model: Model, crops) -> dict | None:
        try:
            return model.heat_maps(crops)
        except ValueError:  # a network that cannot be explained still predicts
            return None


def _face_row(face, scale: float, outputs: dict, k: int, details: bool) -> dict:
    p = outputs["age"][k : k + 1].astype(float)
    p = p / p.sum()
    low, high = (float(age_quantile(p, share)[0]) for share in (0.1, 0.9))
    age = {"mean": float(p[0] @ np.arange(p.shape[1])), "low": low, "high": high}
    row = {
        "box": [round(value * scale) for value in face.box],
        "confidence": round(face.confidence, 4),
        "age": {name: round(value, 1) for name, value in age.items()},
        "gender": _shares(GENDERS, outputs["gender"][k]),
        "ethnicity": _shares(ETHNICITIES, outputs["ethnicity"][k]),
    }
    if details:
        row["age"]["distribution"] = [round(float(value), 5) for value in p[0]]
    return row


def _shares(names, values) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}


def _pictures(crop: Image.Image, maps: dict | None, k: int) -> dict:
    heat = {
        task: _data_uri(_coloured(values[k]), "PNG")
        for task, values in (maps or {}).items()
        if values[k].any()
    }
    return {"crop": _data_uri(crop, "JPEG"), "heat_maps": heat}


def _coloured(heat: np.ndarray) -> Image.Image:
    """A map as colours whose opacity is the attention."""
    pixels = matplotlib.colormaps["inferno"](heat)
    pixels[..., 3] = heat
    return Image.fromarray(np.round(pixels * 255).astype(np.uint8), "RGBA")


def _data_uri(image: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
