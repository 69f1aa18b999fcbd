"""From finished runs to explanations: the same faces, the same statistics, for every network."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from utils import models
from utils import runs as run_folders
from utils.backbones import BACKBONES, TASKS
from utils.datasets import prepare
from utils.explain import select
from utils.explain.cams import explain, feature_maps, gradcam_of_features
from utils.explain.gallery import Panel
from utils.explain.target import explain_target
from utils.files import read_json
from utils.paths import ROOT

STUDY = ROOT / "reports" / "study"
NO_RUN = (
    "no finished run to explain in {root}. Make one: ./run_all.sh smoke, or run "
    "notebooks/02_finetune_backbone.ipynb"
)


@dataclass
class View:
    """A finished run with its network, its test predictions and its pictures."""

    folder: Path
    split: str = "test"
    _targets: dict = field(default_factory=dict, repr=False)
    _features: dict = field(default_factory=dict, repr=False)

    @cached_property
    def config(self) -> dict:
        """Parameters of the run."""
        return read_json(self.folder / "config.json")

    @property
    def run(self) -> str:
        """Name of the run."""
        return self.folder.name

    @property
    def label(self) -> str:
        """Name of the network as figures show it."""
        return self.config.get("label", self.config["model"])

    @property
    def network_file(self) -> Path:
        """File of the trained network."""
        return self.folder / "model.keras"

    @cached_property
    def model(self):
        """The trained network in float32."""
        return run_folders.load_model(self.folder)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Predictions of the split, rows named by image."""
        table = pd.read_parquet(self.folder / "predictions.parquet")
        table = table[table["split"] == self.split]
        return table.set_index("image", drop=False).rename_axis(None)

    @cached_property
    def prepared(self):
        """Faces and pictures as the run saw them."""
        c = self.config
        return prepare(
            c["dataset"],
            c["input_size"],
            c["split"],
            c.get("split_seed", 129),
            c.get("limit", 0),
            progress=False,
            look=c.get("look", "colour"),
            **c.get("dataset_options", {}),
        )

    def target(self, task):
        """The task, prepared for explanation with the layer that the registry names."""
        if task not in self._targets:
            entry = BACKBONES.get(self.config["model"])
            layer = entry.last_conv if entry else None
            self._targets[task] = explain_target(self.model, task, layer)
        return self._targets[task]

    def features(self, task, names, chunk=256) -> np.ndarray:
        """Feature maps of the explained layer, kept for the next task: all share them."""
        target, key = self.target(task), tuple(names)
        if self._features.get("key") != (target.layer, key):
            parts = [
                feature_maps(target, self.images(names[i : i + chunk]))
                for i in range(0, len(names), chunk)
            ]
            self._features = {"key": (target.layer, key), "values": np.concatenate(parts)}
        return self._features["values"]

    def forget(self):
        """Let go of the network and all that was computed with it."""
        self._targets, self._features = {}, {}
        self.__dict__.pop("model", None)

    def images(self, names) -> np.ndarray:
        """Pictures of the named faces, uint8 [n, s, s, 3]."""
        rows = pd.Index(self.prepared.table["image"]).get_indexer(list(names))
        if (rows < 0).any():
            lost = np.asarray(names, dtype=object)[rows < 0]
            raise ValueError(
                f"{self.run}: {len(lost)} faces such as {lost[0]!r} are not in its data set; "
                "set FACES_DATA_DIR to the data that the run was trained on"
            )
        return np.asarray(self.prepared.images[rows])


class ShippedView(View):
    """A network that the repository ships, with the predictions of the study's run."""

    @cached_property
    def config(self) -> dict:
        """How the network was trained, from its ``model.json``."""
        return models.describe(self.folder)

    @property
    def run(self) -> str:
        """Name of the run that it comes from."""
        return self.config["run"]

    @property
    def network_file(self) -> Path:
        """File of its weights."""
        return self.folder / "weights.h5"

    @cached_property
    def model(self):
        """The network in float32, from float16 weights."""
        return models.load(self.folder.name)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Published predictions of the split, rows named by image."""
        table = pd.read_parquet(STUDY / "predictions" / f"{self.run}.parquet")
        table = table[table["split"] == self.split]
        return table.set_index("image", drop=False).rename_axis(None)


def open_named(names) -> list[View]:
    """Views of finished runs or shipped models, in the order of their names.

    Raises
    ------
    ValueError
        If there is no such run or model.
    """
    views = []
    for name in names:
        shipped = models.SHIPPED / name
        if (shipped / "weights.h5").is_file():
            views.append(ShippedView(shipped))
        else:
            views += open_runs([name])
    have = {view.run for view in views} | {view.folder.name for view in views}
    missing = [name for name in names if name not in have]
    if missing:
        raise ValueError(
            f"no finished run or shipped model {missing}; there are "
            f"{list(models.available(tasks=())) or 'none'}; train one with notebook 02"
        )
    return views


def open_runs(names=(), dataset="", root=None, **wanted) -> list[View]:
    """Finished runs of the registry's networks on one data set, in the registry's order.

    Parameters
    ----------
    names : sequence of str
        Names of run folders; empty for all that fit.
    dataset : str
        Only runs on this data set; empty for the data set of the first run found.
    **wanted
        Further values in a run's configuration, such as ``protocol="finetune"``.

    Returns
    -------
    list of View
        Empty if there is none; `NO_RUN` says how to make one.
    """
    _check_list("runs", names)
    wanted = wanted | ({"dataset": dataset} if dataset else {})
    views = [View(folder) for folder in run_folders.find_runs(root, **wanted)]
    views = [view for view in views if (view.folder / "model.keras").is_file()]
    if names:
        views = [view for view in views if view.run in names]
    else:
        views = [view for view in views if view.config["model"] in BACKBONES]
        views = [view for view in views if view.config.get("study") != "ablation"]
    order = {name: i for i, name in enumerate(BACKBONES)}
    views.sort(key=lambda view: (order.get(view.config["model"], 99), view.run))
    same = [view for view in views if view.config["dataset"] == views[0].config["dataset"]]
    if names or not same:
        return same
    # One run a network, all by one protocol and seed: the one most networks have.
    every = {(v.config["protocol"], v.config["seed"], v.config["model"]) for v in same}
    kind = Counter(key[:2] for key in sorted(every)).most_common(1)[0][0]
    fit = [v for v in same if (v.config["protocol"], v.config["seed"]) == kind]
    return list({v.config["model"]: v for v in fit}.values())


def _check_list(name, value):
    if isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"parameter {name}={value!r}; expected a list of names")


def common_faces(views, n=0, seed=129) -> np.ndarray:
    """Names of test faces that every run predicted, in random order; `n` of them, 0 for all."""
    if not views:
        return np.array([], dtype=object)
    shared = set(views[0].predictions.index)
    for view in views[1:]:
        shared &= set(view.predictions.index)
    names = np.array(sorted(shared), dtype=object)
    if not len(names):
        raise ValueError(
            f"the runs {', '.join(v.run for v in views)} share no test face; "
            "explain runs with the same data set and split"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    return names[order[: n or None]]


def common_tasks(views, wanted) -> list[str]:
    """Those of the wanted tasks that every run has."""
    _check_list("tasks", wanted)
    unknown = [task for task in wanted if task not in TASKS]
    if unknown:
        raise ValueError(f"tasks {unknown} are unknown; expected some of {list(TASKS)}")
    return [t for t in wanted if views and all(t in v.config["tasks"] for v in views)]


def panel(view, task, names, method="gradcam", classes=None, label="", seed=129) -> Panel:
    """A gallery column: maps, predictions and probabilities of one run for the named faces."""
    table = view.predictions.loc[list(names)]
    maps = explain(view.target(task), view.images(names), task, method, classes=classes, seed=seed)
    places = range(len(table))
    texts = [select.prediction_text(table, task, i) for i in places]
    right = select.right(table, task, years=10)
    return Panel(label or view.label, maps, texts, right)


def truths(view, task, names) -> list[str]:
    """True labels of the named faces in words."""
    table = view.predictions.loc[list(names)]
    return [select.truth_text(table, task, i) for i in range(len(table))]


def gradcam_maps(view, task, names, chunk=256) -> np.ndarray:
    """Grad-CAM maps of many faces, float16 [n, s, s]: half the memory, ample for averages."""
    target, features = view.target(task), view.features(task, names, chunk)
    parts = [
        gradcam_of_features(target, features[i : i + chunk]).astype(np.float16)
        for i in range(0, len(names), chunk)
    ]
    return np.concatenate(parts)
