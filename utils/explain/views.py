"""From trained networks to what is explained: the same faces for every network."""

from collections import Counter
from functools import cached_property

import keras
import numpy as np
import pandas as pd

from utils import models
from utils.backbones.registry import BACKBONES
from utils.datasets import prepare
from utils.explain.target import explain_target
from utils.files import digest_of
from utils.paths import ROOT
from utils.study import check_files, find_runs
from utils.vocabulary import MAX_AGE, MODEL_LABELS, probability_columns

PREDICTIONS = ROOT / "reports" / "study" / "predictions"


class View:
    """A finished run or shipped network (its folder) with the test faces that it judged.

    `drawn`: explain it on that many drawn faces instead, as only their true evidence is known.
    """

    def __init__(self, folder, drawn=0):
        config = {"run": folder.name, "split": "group", **models.describe(folder)}
        if drawn:
            config |= {"run": f"{config['run']}@synthetic", "dataset": "synthetic", "limit": 0}
            config |= {"dataset_options": {"n": drawn}, "image_mode": "colour"}
        self.folder, self.drawn, self.config, self._targets = folder, drawn, config, {}
        self.run, self.label = config["run"], MODEL_LABELS.get(config["model"], config["model"])

    @cached_property
    def network(self) -> str:
        """Digest of the trained network's file: evidence of another one is not this one's."""
        return digest_of(models.network_file(self.folder))[:16]

    @cached_property
    def model(self):
        """The trained network."""
        return models.load(self.folder.name)

    def target(self, task):
        """A task, prepared for explanation at the layer that the registry names."""
        if task not in self._targets:
            entry, name = BACKBONES.get(self.config["model"]), task
            if task == "age" and self.config.get("age_loss") == "regression":
                name = "age_value"
            self._targets[task] = explain_target(self.model, name, entry and entry.last_conv)
        return self._targets[task]

    def forget(self):
        """Let go of the network and all that was computed with it."""
        self._targets = {}
        self.__dict__.pop("model", None)

    @cached_property
    def prepared(self):
        """Faces and pictures as the run saw them."""
        told = ("dataset", "input_size", "split")
        options = {"image_mode": self.config.get("image_mode", "colour"), "progress": False}
        options |= {"seed": self.config.get("split_seed", 129)}
        options |= {"limit": self.config.get("limit", 0)} | self.config.get("dataset_options", {})
        found = prepare(*(self.config[name] for name in told), **options)
        if not self.drawn and self.config.get("data_fingerprint", found.digest) != found.digest:
            print(f"{self.run}: its faces, labels or split were others when it was trained")
        return found

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Predictions of the test faces (drawn faces: of all), rows named by image."""
        path = self.folder / "predictions.parquet"
        if not path.is_file():  # a shipped network has the published predictions of its run
            path = PREDICTIONS / f"{self.run}.parquet"
        elif not self.drawn:
            check_files(self.folder, path.name)
        table = self._judge() if self.drawn else pd.read_parquet(path)
        return table[table["split"] == "test"].set_index("image", drop=False).rename_axis(None)

    def _judge(self):
        table, images = self.prepared.table.assign(split="test"), self.prepared.images
        for task in self.config["tasks"]:
            target = self.target(task)
            if task == "age":
                table["pred_age"] = target.confidence(images) * MAX_AGE
            else:
                shares = np.asarray(keras.ops.softmax(target.logits(images)))
                table[probability_columns(task)] = shares
        return table

    def _rows(self, names):
        rows = pd.Index(self.prepared.table["image"]).get_indexer(list(names))
        if (rows < 0).any():
            lost = np.asarray(names, dtype=object)[rows < 0]
            raise ValueError(
                f"{self.run}: {len(lost)} faces such as {lost[0]!r} are not in its data set; "
                "set FACES_DATA_DIR to the data that the run was trained on"
            )
        return rows

    def images(self, names) -> np.ndarray:
        """Pictures of the named faces, uint8 [n, s, s, 3]."""
        return np.asarray(self.prepared.images[self._rows(names)])

    def groups(self, names) -> np.ndarray:
        """Duplicate group of each named face, as numbers."""
        return pd.factorize(self.prepared.table["group"].to_numpy()[self._rows(names)])[0]


def open_views(names=(), dataset="", drawn=0) -> list[View]:
    """Networks to explain, in the registry's order, all with faces of one data set.

    `names` are finished runs or shipped networks; one that is missing is left out with a line, but
    it is a ValueError if none is there. Without names: one finished run of every backbone, all by
    the protocol and seed that most of them have. Empty `dataset`: that of the first run.
    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"runs={names!r}; expected a list of names")
    views, faults = [], []
    for name in names:
        try:
            views.append(View(models.folder_of(name), drawn))
        except ValueError as error:
            faults.append(str(error))
    if faults and not views:
        raise ValueError(faults[0])
    for fault in faults:
        print(f"left out: {fault}")
    if not names:
        views = [View(f, drawn) for f in find_runs() if (f / "model.keras").is_file()]
        views = [v for v in views if v.config["model"] in BACKBONES]
        views = [v for v in views if v.config.get("study") != "ablation"]
    wanted = dataset or (views[0].config["dataset"] if views else "")
    views = [view for view in views if view.config["dataset"] == wanted]
    views = views if names else _one_a_network(views)
    order = [*BACKBONES, *(view.config["model"] for view in views)]
    return sorted(views, key=lambda view: (order.index(view.config["model"]), view.run))


def _one_a_network(views):
    every = {(v.config["protocol"], v.config["seed"], v.config["model"]) for v in views}
    most = Counter(key[:2] for key in sorted(every)).most_common(1)
    fit = [v for v in views if (v.config["protocol"], v.config["seed"]) in dict(most)]
    return list({v.config["model"]: v for v in fit}.values())


def common_faces(views, n=0, seed=129) -> np.ndarray:
    """Names of test faces that every run predicted, in random order; `n` of them, 0 for all."""
    shared = set.intersection(*(set(view.predictions.index) for view in views)) if views else set()
    if views and not shared:
        raise ValueError(
            f"the runs {', '.join(v.run for v in views)} share no test face; "
            "explain runs with the same data set and split"
        )
    names = np.array(sorted(shared), dtype=object)
    return names[np.random.default_rng(seed).permutation(len(names))[: n or None]]
