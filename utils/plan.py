"""What is trained, with which parameters: one checked configuration a run, one file a study.

`RunConfig` holds every choice of one training. A profile (``profiles/<name>.yaml``) holds every
number of one study; `steps` turns it into executed notebooks: 01 for each data set, 02, 03 or 04
for each training, then 05 and 06. Needs no Keras: listing a study must not wait for it.
"""

from pathlib import Path
from typing import Literal

import pydantic
import yaml

from utils.paths import ROOT, SHIPPED
from utils.vocabulary import OWN_NETWORKS, OWN_TASKS, TASKS, run_label

FOLDER = ROOT / "profiles"
CACHED = ("linear_probe", "partial")  # protocols whose frozen part is computed once
NOTEBOOKS = {"scratch": "03_scratch_cnn", "regress": "04_wiki_age_regressor"}
_FIXED = ("model", "protocol", "tasks", "weights")  # by the networks of notebooks 03 and 04
# Parameters of their own in a training notebook; all others travel in `options`.
_DECLARED = (
    *("dataset", *_FIXED, "input_size", "epochs", "batch_size", "learning_rate", "seed"),
    *("split", "limit", "precision", "profile"),
)
# What a run's name says, where it is unusual.
_NAME_PARTS = {
    "split": ("group", "{}_split"),
    "split_seed": (129, "split{}"),
    "weights": ("imagenet", "{}_weights"),
    "tasks": (list(TASKS), "{}"),
    "image_mode": ("colour", "{}"),
    "age_loss": ("distribution", "{}"),
    "head_width": (0, "wide{}"),
    "learning_rate": (0.0, "rate{:g}"),
    "augment": (True, "plain"),
    "cache_features": (True, "uncached"),
    "flip_tta": (True, "no_flip"),
    "zoom_tta": (0.0, "zoom{:g}"),
    "augmentation": ("usual", "{}"),
    "mixup": (0.0, "mixup{:g}"),
    "ema": (0.0, "ema{:g}"),
    "layer_decay": (1.0, "decay{:g}"),
    "age_width": ("constant", "{}_width"),
    "joint": ("", "with_{}"),
    "fold": ("", "without_{}"),
    "teachers": ([], "distilled"),
    "start_from": ("", "continued"),
    "epochs": (10, "{}_epochs"),
    "limit": (0, "n{}"),
}


class Checked(pydantic.BaseModel):
    """A pydantic model whose first fault becomes a ValueError of one line."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    def __init__(self, **values):
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise ValueError(_one_line(error, type(self))) from None


def _one_line(error: pydantic.ValidationError, kind: type) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = ", ".join(kind.model_fields)
        return f"unknown parameter {place!r} ({first['input']!r}); expected some of {known}"
    if first["type"] == "missing":
        return f"the parameter {place!r} is missing"
    text = first["msg"].removeprefix("Value error, ")
    return f"{place}={first['input']!r}: {text}" if place else text


class RunConfig(Checked):
    """Parameters of one training run; a wrong one is a ValueError of one line.

    >>> RunConfig(epochs="ten")
    Traceback (most recent call last):
    ValueError: epochs='ten': Input should be a valid integer
    """

    dataset: str = "synthetic"  # name of a loader
    model: str = "mobilenetv2"  # a backbone; `scratch` and `regress` set their own network
    # What is trained: heads on a frozen backbone, its last layers too, everything, or one of the
    # second study's networks.
    protocol: Literal["linear_probe", "partial", "finetune", "scratch", "regress"] = "finetune"
    tasks: list[Literal["age", "age_bin", "gender", "ethnicity"]] = pydantic.Field(
        list(TASKS), min_length=1
    )  # one head each; fixed for `scratch` and `regress`
    input_size: int = pydantic.Field(96, ge=32)  # pixels a side
    epochs: int = pydantic.Field(10, ge=0)  # over the training faces; 0 only with `start_from`
    batch_size: int = pydantic.Field(0, ge=0)  # 0: 64 on a GPU, 32 on a CPU
    learning_rate: float = pydantic.Field(0.0, ge=0)  # peak; 0: that of protocol and backbone
    seed: int = 129  # of weights, order and dropout; the split has a seed of its own
    # random: near-duplicates cross, to measure leakage; coral: that study's file list.
    split: Literal["group", "random", "coral"] = "group"
    split_seed: int = 129
    limit: int = pydantic.Field(0, ge=0)  # about so many faces; 0: all
    # Start of the backbone; shipped: the network in ``data/models``, trained on faces.
    weights: Literal["imagenet", "shipped", "none"] = "imagenet"
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    augment: bool = True  # random flip, shift, zoom, rotation and light
    # In `linear_probe` and `partial`: compute the frozen part once, for each face and, where it
    # is used, its mirror image. Fast, but of the augmentation only the flip is left.
    cache_features: bool = True
    augmentation: Literal["usual", "cutout", "randaugment"] = "usual"  # on top of `augment`
    mixup: float = pydantic.Field(0.0, ge=0)  # of two faces; parameter of the Beta distribution
    ema: float = pydantic.Field(0.0, ge=0, lt=1)  # momentum of the moving average of the weights
    layer_decay: float = pydantic.Field(1.0, gt=0, le=1)  # first layer's rate, of the heads'
    age_width: Literal["constant", "growing"] = "constant"  # of the target: `training.soft`
    joint: str = ""  # data set whose training faces are learned from too (`datasets.joint`)
    # 2/3: the second third of the training faces is left out.
    fold: str = pydantic.Field("", pattern=r"^(\d+/\d+)?$")
    teachers: list[str] = []  # half the target: what those runs say that did not see the face
    phases: list[dict[str, pydantic.PositiveInt | pydantic.PositiveFloat]] = []  # step decay
    dataset_options: dict = {}  # for the loader
    age_loss: Literal["distribution", "class", "ordinal", "regression"] = "distribution"
    # What is left of each picture: without its colour, or shrunk to 48 pixels first.
    image_mode: Literal["colour", "grey", "colour48", "grey48"] = "colour"
    flip_tta: bool = True  # average each prediction over picture and mirror image
    zoom_tta: float = pydantic.Field(0.0, ge=0, lt=1)  # ... and both smaller and larger by this
    head_width: int = pydantic.Field(0, ge=0)  # outputs a softmax at least; 0: one a class
    start_from: str = ""  # run folder whose network, of any input size, the training goes on from
    profile: str = ""  # who asked for the run
    study: Literal["", "ablation"] = ""  # ablation: left out of the main comparison

    @pydantic.model_validator(mode="after")
    def _settle(self):
        if own := self.protocol in OWN_NETWORKS:
            if self.age_loss != "distribution" or self.head_width:
                raise ValueError(
                    f"age_loss={self.age_loss!r}, head_width={self.head_width}: protocol "
                    f"{self.protocol} has fixed heads; choose a backbone's protocol"
                )
            self.model, self.weights = OWN_NETWORKS[self.protocol], "none"
            self.tasks = list(OWN_TASKS[self.protocol])
        # There is no such folder where only the code was copied.
        if self.weights == "shipped" and SHIPPED.is_dir() and not (SHIPPED / self.model).is_dir():
            told = "expected 'imagenet' (a download, or FACES_WEIGHTS_DIR) or 'none'"
            raise ValueError(f"weights='shipped': there are none of {self.model}; {told}")
        self.tasks = [task for task in TASKS if task in self.tasks]  # one order for all runs
        keys = {"epochs", "rate", "factor", "every"}
        for phase in self.phases:
            if set(phase) != keys or not isinstance(phase["epochs"], int):
                raise ValueError(f"phase {phase} of phases: expected numbers {sorted(keys)}")
        if self.phases:
            self.epochs = sum(phase["epochs"] for phase in self.phases)
        if not self.epochs and not self.start_from:
            raise ValueError("epochs=0: expected at least 1, or a run in start_from to score")
        self._check_recipe()
        if self._unusual(name for name in PLAIN if not own or name != "start_from"):
            self.study = "ablation"
        return self

    def _unusual(self, names) -> list[str]:
        fields = type(self).model_fields
        return [name for name in names if getattr(self, name) != fields[name].default]

    def _check_recipe(self) -> None:
        """What a training would pass over in silence is an error."""
        part, _, parts = self.fold.partition("/")
        if self.fold and not 1 <= int(part) <= int(parts):
            raise ValueError(f"fold={self.fold!r}: expected such as 1/3, 2/3 or 3/3")
        own = self.protocol in OWN_NETWORKS
        idle = self._unusual(_RECIPE) if own else []
        if self.cached:
            idle = self._unusual(n for n in ("zoom_tta", *_RECIPE) if n not in ("ema", "fold"))
        if self.phases and not own:
            idle += self._unusual(("ema", "layer_decay"))
        if idle:
            raise ValueError(
                f"{', '.join(idle)}: not for protocol {self.protocol}, cached features or phases; "
                "expected pictures through a whole backbone (protocol finetune), without phases"
            )
        if self.soft and (self.age_loss != "distribution" or self.head_width):
            raise ValueError("mixup, age_width, joint and teachers need the usual heads and losses")

    @property
    def cached(self) -> bool:
        """Whether training reads cached features instead of pictures."""
        return self.protocol in CACHED and self.cache_features

    @property
    def soft(self) -> bool:
        """Whether targets are distributions (`utils.training.soft`), not single labels."""
        return bool(self.mixup or self.age_width != "constant" or self.joint or self.teachers)

    @property
    def label(self) -> str:
        """Name for readers."""
        return run_label(self.model_dump())

    @property
    def run(self) -> str:
        """Name of the run folder: for people; programs look runs up by ``config.json``."""
        parts = [self.dataset, self.model, self.protocol, str(self.input_size), f"seed{self.seed}"]
        for name, (usual, text) in _NAME_PARTS.items():
            value = getattr(self, name)
            value = value.replace("/", "of") if name == "fold" else value
            if value != usual and not (self.protocol in OWN_NETWORKS and name in _FIXED):
                parts.append(text.format("+".join(value) if isinstance(value, list) else value))
        return "-".join(parts)


# A run of the main comparison has their defaults; another value makes an ablation.
_RECIPE = "augmentation mixup ema layer_decay age_width joint fold teachers".split()
PLAIN = "age_loss image_mode flip_tta zoom_tta augment head_width start_from".split() + _RECIPE
SILENT = ("profile", "study")  # say who asked, not what is computed


def differences(wanted: RunConfig, stored: dict) -> dict[str, tuple]:
    """Settings in which a stored run (its ``config.json``) is not what is wanted: (wanted, stored).

    Empty if the run answers. Wanted values that stand for a default (``auto``, a batch size or a
    rate of 0) are free.
    """
    fields = RunConfig.model_fields
    seen = RunConfig(**{k: v for k, v in stored.items() if k in fields})
    free = {"precision": "auto", "batch_size": 0, "learning_rate": 0.0}
    return {
        name: (getattr(wanted, name), getattr(seen, name))
        for name in fields
        if name not in SILENT
        and getattr(wanted, name) != getattr(seen, name)
        and not (name in free and getattr(wanted, name) == free[name])
    }


class Training(Checked):
    """Some trainings that differ in backbone, seed or task alone."""

    settings: dict  # of `RunConfig`, on top of those of the profile
    backbones: list[str] = []  # one training each; empty: the one in `settings`
    overrides: dict[str, dict] = {}  # settings of one backbone
    seeds: list[int] = []  # instead of the profile's
    one_run_per_task: bool = False
    minutes: float = 0.0  # expected on two cores; 0: unknown


class Variant(Checked):
    """One run of an ablation: what a reader sees, and what it changes."""

    label: str
    settings: dict = {}
    minutes: float = 0.0


class Ablation(Checked):
    """Variants that differ in one thing; the first is the reference."""

    name: str
    question: str
    settings: dict = {}
    variants: list[Variant] = pydantic.Field(min_length=2)


class Gallery(Checked):
    """Class activation maps of the runs of one protocol; `n` faces enter the mean maps."""

    protocol: Literal["linear_probe", "partial", "finetune"]
    n: int = pydantic.Field(ge=1)


class Profile(Checked):
    """Every number of one study; ``profiles/smoke.yaml`` explains each."""

    name: str
    purpose: str
    runtime: str
    settings: dict = {}  # of `RunConfig`, for all trainings of the profile
    seeds: list[int] = pydantic.Field([129], min_length=1)
    parallel: int = pydantic.Field(1, ge=1)  # steps at a time
    eda: list[str] = []  # data sets for notebook 01
    trainings: list[Training] = []
    gallery: Gallery | None = None
    ablations: list[Ablation] = []
    ensemble: list[str] = []  # backbones whose mean prediction is a row of the report
    wide_ensemble: dict[str, list] = {}  # values of settings of all runs of a second such row
    primary: dict = {}  # settings of the runs whose pairs are the declared family of comparisons
    report: bool = True  # whether the study ends in galleries and a report of its own

    @pydantic.model_validator(mode="after")
    def _check(self):
        names = [one.name for one in self.ablations]
        if len(set(names)) < len(names):
            raise ValueError(f"two ablations share a name; saw {names}")
        for one in self.ablations:
            if len({config.run for _, config in variants(self, one)}) < len(one.variants):
                raise ValueError(f"ablation {one.name}: expected a run of its own a variant")
        trained = {config.protocol for config in configs(self)}  # a wrong setting is found now
        if self.gallery and self.gallery.protocol not in trained:
            raise ValueError(f"gallery: no training has protocol {self.gallery.protocol!r}")
        return self


class Step(Checked):
    """One notebook to execute."""

    name: str  # file name of the executed notebook, without ending
    notebook: str  # in ``notebooks/``, without ending
    label: str  # what a reader sees
    parameters: dict
    config: RunConfig | None = None  # of a training step
    minutes: float = 0.0  # that a training takes, roughly; 0: unknown


def names() -> list[str]:
    """Names of the profiles that exist."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_profile(name: str | Path) -> Profile:
    """Read and check a profile: a name in ``profiles/``, or a path to a YAML file.

    A ValueError says which key is missing, unknown or of the wrong type or value.

    Examples
    --------
    >>> load_profile("smoke").settings["dataset"]
    'synthetic'
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.exists():
        raise ValueError(f"profile {str(name)!r} is unknown; expected one of {names()}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name}: expected keys and values, saw {type(content).__name__}")
    try:
        return Profile(**content)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def configs(profile: Profile, only: tuple[str, ...] = (), seeds: tuple[int, ...] = ()):
    """`RunConfig` of all trainings of a profile, ablations included, each once.

    `only` are backbones instead of the listed ones (networks from scratch stay), `seeds` those
    instead of the profile's (an ablation takes the first). In the order of the profile, cheaper
    ones first where it says what they take; those that need other runs come last.
    """
    return [config for config, _ in _planned(profile, only, seeds)]


def _planned(profile, only, seeds) -> list[tuple[RunConfig, float]]:
    """The configurations with the minutes that each takes."""
    found: dict[str, tuple[RunConfig, float]] = {}
    for training in profile.trainings:
        for seed in seeds or training.seeds or profile.seeds:
            for config in _of_training(profile, training, seed, only):
                found.setdefault(config.run, (config, training.minutes))
    if seeds:
        profile = profile.model_copy(update={"seeds": list(seeds)})
    for ablation in profile.ablations:
        made = variants(profile, ablation)
        for variant, (_, config) in zip(ablation.variants, made, strict=True):
            if not only or config.model in only:
                found.setdefault(config.run, (config, variant.minutes))

    def order(one):  # what needs other runs is last
        return bool(one[0].start_from), bool(one[0].teachers), one[1]

    return sorted(found.values(), key=order)


def _of_training(profile: Profile, training: Training, seed: int, only=()) -> list[RunConfig]:
    made = []
    for backbone in (only or training.backbones) if training.backbones else [None]:
        settings = profile.settings | training.settings
        settings |= {"model": backbone} if backbone else {}
        settings |= training.overrides.get(backbone, {})
        settings |= {"seed": seed, "profile": profile.name}
        tasks = settings.get("tasks", list(TASKS))
        sets = [[task] for task in tasks] if training.one_run_per_task else [tasks]
        made += [RunConfig(**settings | {"tasks": some}) for some in sets]
    return [one for one in made if not only or one.model in only or one.protocol in OWN_NETWORKS]


def variants(profile: Profile, ablation: Ablation) -> list[tuple[str, RunConfig]]:
    """Label and configuration of each variant of an ablation, the reference first."""
    shared = profile.settings | ablation.settings
    shared |= {"profile": profile.name, "seed": shared.get("seed", profile.seeds[0])}
    made = []
    for variant in ablation.variants:
        settings = shared | variant.settings
        odd = settings.get("weights") == "none" or set(settings.get("tasks", TASKS)) < set(TASKS)
        odd |= settings.get("epochs") != profile.settings.get("epochs")
        if odd:  # no candidate of the main comparison
            settings["study"] = "ablation"
        made.append((variant.label, RunConfig(**settings)))
    return made


def steps(profile: Profile, only: tuple[str, ...] = (), seeds: tuple[int, ...] = ()) -> list[Step]:
    """The notebooks of a study, in order; `only` and `seeds` as in `configs`.

    Examples
    --------
    >>> [step.notebook for step in steps(load_profile("smoke"), ("mobilenetv2",))][:2]
    ['01_dataset_eda', '02_finetune_backbone']
    """
    limit, seed = profile.settings.get("limit", 0), (*seeds, *profile.seeds)[0]
    shared = {"limit": limit, "seed": seed, "profile": profile.name}
    made = [
        _step("01_dataset_eda", f"a look at {name}", {"dataset": name, **shared}, f"-{name}")
        for name in profile.eda
    ]
    planned = _planned(profile, only, seeds)
    made += [_training_step(config, minutes) for config, minutes in planned]
    gallery = profile.gallery
    shown = (gallery.protocol, seed) if gallery else None
    if explained := [c for c, _ in planned if (c.protocol, c.seed) == shown]:
        own = {"runs": [config.run for config in explained], "dataset": explained[0].dataset}
        own["tasks"] = profile.settings.get("tasks", list(TASKS))
        own["n"] = gallery.n
        made.append(_step("05_gradcam_gallery", "class activation maps", own | shared))
    if profile.report:
        own = {"study_dir": f"reports/{profile.name}/study", "profile": profile.name}
        made.append(_step("06_comparison_report", "the report", own))
    return made


def _step(notebook: str, label: str, parameters: dict, name: str = "") -> Step:
    return Step(name=notebook + name, notebook=notebook, label=label, parameters=parameters)


def _training_step(config: RunConfig, minutes: float) -> Step:
    """A training as parameters of its notebook; what is usual is left to the notebook."""
    notebook = NOTEBOOKS.get(config.protocol, "02_finetune_backbone")
    left_out = _FIXED if config.protocol in OWN_NETWORKS else ()
    values = {k: v for k, v in config.model_dump().items() if k not in left_out}
    parameters = {name: values[name] for name in _DECLARED if name in values}
    if "model" in parameters:
        parameters["backbone"] = parameters.pop("model")
    fields = RunConfig.model_fields
    unusual = {name: value for name, value in values.items() if value != fields[name].default}
    parameters["options"] = {k: v for k, v in unusual.items() if k not in _DECLARED}
    told = {"label": f"{config.label}, seed {config.seed}", "config": config, "minutes": minutes}
    name = f"{notebook[:2]}_{config.run}"
    return Step(name=name, notebook=notebook, parameters=parameters, **told)
