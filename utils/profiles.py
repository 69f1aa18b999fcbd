"""What does a study run? Read a profile and list its steps.

A profile (``profiles/<name>.yaml``) holds every number of one study. `load_profile` checks it,
`plan` turns it into steps: one executed notebook each.

Parameters that the steps pass to the notebooks:

=======================  ========================================================================
01_dataset_eda           dataset, limit, seed, profile
02_finetune_backbone     dataset, backbone, protocol, tasks, input_size, epochs, batch_size, seed,
                         split, limit, weights, precision, profile
03_scratch_cnn           dataset, input_size, epochs, batch_size, seed, split, limit, precision,
                         profile
04_wiki_age_regressor    the same as 03
05_gradcam_gallery       runs (names of run folders), dataset, tasks, n, limit, seed, profile
06_comparison_report     study_dir, profile
=======================  ========================================================================

``options`` of a section adds further parameters, for example a learning rate.
"""

import argparse
import shutil
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml

from utils.paths import ROOT, data_dir

FOLDER = ROOT / "profiles"
BACKBONES = ("alexnet", "vgg19", "mobilenetv2", "resnet50", "convnext_tiny", "efficientnetv2b0")
DATASETS = ("utkface", "utkface_csv", "wiki", "fairface", "synthetic")
TASKS = ("age", "age_bin", "gender", "ethnicity")
PROTOCOLS = ("head", "partial", "finetune")
_SCRATCH = ("scratch_cnn", "wiki_cnn")
PRECISIONS = ("auto", "float32", "mixed_bfloat16")
# How the files of a data set begin, in lower case: enough to see whether it is there.
_FILES = {
    "utkface": ("utkface", "crop_part1"),
    "utkface_csv": ("age_gender", "utkface"),
    "wiki": ("wiki",),
    "fairface": ("fairface",),
}


@dataclass(frozen=True)
class Protocol:
    """One way of training, for all backbones of a comparison."""

    protocol: str
    input_size: int
    epochs: int
    batch_size: int = 0  # 0: that of the profile
    backbones: tuple[str, ...] = ()  # empty: all of the comparison
    overrides: dict = field(default_factory=dict)  # backbone -> {input_size: ..., ...}
    one_run_per_task: bool = False
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The backbones and the ways in which each is trained."""

    dataset: str
    backbones: tuple[str, ...]
    protocols: tuple[Protocol, ...]


@dataclass(frozen=True)
class Network:
    """A network of the second study: the classifier from scratch or the WIKI regressor."""

    dataset: str
    input_size: int
    epochs: int
    batch_size: int = 0
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Gallery:
    """Class activation maps of the runs of one protocol; `n` faces enter the mean maps."""

    protocol: str
    n: int
    tasks: tuple[str, ...] = ()  # empty: those of the profile


@dataclass(frozen=True)
class Profile:
    """Every number of one study; see ``profiles/`` for the meaning of each."""

    name: str
    purpose: str
    runtime: str
    weights: str
    split: str
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    batch_size: int  # 0: 64 on a GPU, 32 on a CPU
    limit: int  # 0: all faces
    precision: str
    eda: tuple[str, ...]
    comparison: Comparison
    scratch: Network | None = None
    regressor: Network | None = None
    gallery: Gallery | None = None
    parallel: int = 1  # steps at a time


@dataclass(frozen=True)
class Step:
    """One notebook to execute.

    Attributes
    ----------
    name : str
        File name of the executed notebook, without ending.
    notebook : str
        Notebook in ``notebooks/``, without ending.
    label : str
        What a reader sees, such as ``"resnet50, head, 224 px, seed 129"``.
    parameters : dict
        Passed to the notebook.
    run : str
        Name of the run folder that the step fills; empty if it fills none.
    """

    name: str
    notebook: str
    label: str
    parameters: dict
    run: str = ""


def names() -> list[str]:
    """Names of the profiles that exist."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "ablations")


def load_profile(name: str | Path) -> Profile:
    """Read and check a profile.

    Parameters
    ----------
    name : str or Path
        Name of a file in ``profiles/``, or a path to a YAML file.

    Raises
    ------
    ValueError
        If the profile is unknown, or a key is missing, unknown or of the wrong type or value.

    Examples
    --------
    >>> load_profile("smoke").comparison.dataset
    'synthetic'
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.exists():
        raise ValueError(f"profile {str(name)!r} is unknown; expected one of {names()}")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(
            f"{path.name} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    profile = _build(Profile, content, path.name)
    _check(profile, path.name)
    return profile


_NESTED = {"comparison": Comparison, "scratch": Network, "regressor": Network, "gallery": Gallery}


def _build(kind, content, where: str):
    """A dataclass from a mapping, with one clear error for the first thing that is wrong."""
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected keys and values, saw {type(content).__name__}")
    known = {entry.name: entry for entry in fields(kind)}
    for key in content:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}; expected some of {list(known)}")
    values = {}
    for key, entry in known.items():
        required = entry.default is entry.default_factory  # both are MISSING
        if key not in content:
            if required:
                raise ValueError(f"{where}: the key {key!r} is missing")
            continue
        values[key] = _value(content[key], key, entry.type, f"{where}: {key}")
    return kind(**values)


def _value(seen, key: str, kind, where: str):
    if key in _NESTED:
        return None if seen is None else _build(_NESTED[key], seen, where)
    if key == "protocols":
        return tuple(_build(Protocol, one, where) for one in _list(seen, where))
    if getattr(kind, "__origin__", None) is tuple:
        inner = kind.__args__[0]
        return tuple(_scalar(one, inner, where) for one in _list(seen, where))
    return _scalar(seen, kind, where)


def _list(seen, where: str) -> list:
    if not isinstance(seen, list):
        raise ValueError(f"{where}: expected a list, saw {seen!r}")
    return seen


def _scalar(seen, kind: type, where: str):
    if not isinstance(seen, kind) or (kind is int and isinstance(seen, bool)):
        raise ValueError(f"{where}: expected {kind.__name__}, saw {seen!r}")
    return seen


def _one_of(seen: str, expected, where: str) -> None:
    if seen not in expected:
        raise ValueError(f"{where}: {seen!r} is unknown; expected one of {list(expected)}")


def _at_least(seen: int, least: int, where: str) -> None:
    if seen < least:
        raise ValueError(f"{where}: saw {seen}, expected at least {least}")


def _check(profile: Profile, where: str) -> None:
    _one_of(profile.weights, ("imagenet", "none"), f"{where}: weights")
    _one_of(profile.split, ("group", "naive"), f"{where}: split")
    _one_of(profile.precision, PRECISIONS, f"{where}: precision")
    _at_least(profile.batch_size, 0, f"{where}: batch_size")
    _at_least(profile.limit, 0, f"{where}: limit")
    _at_least(profile.parallel, 1, f"{where}: parallel")
    _at_least(len(profile.seeds), 1, f"{where}: number of seeds")
    for task in profile.tasks + (profile.gallery.tasks if profile.gallery else ()):
        _one_of(task, TASKS, f"{where}: tasks")
    for name in profile.eda:
        _one_of(name, DATASETS, f"{where}: eda")
    for section in (profile.scratch, profile.regressor):
        if section:
            _one_of(section.dataset, DATASETS, f"{where}: dataset")
            _at_least(section.epochs, 1, f"{where}: epochs")
            _at_least(section.input_size, 32, f"{where}: input_size")
    _check_comparison(profile.comparison, f"{where}: comparison")
    protocols = [one.protocol for one in profile.comparison.protocols]
    if profile.gallery:
        _one_of(profile.gallery.protocol, protocols, f"{where}: gallery: protocol")


def _check_comparison(comparison: Comparison, where: str) -> None:
    _one_of(comparison.dataset, DATASETS, f"{where}: dataset")
    for name in comparison.backbones:
        _one_of(name, BACKBONES, f"{where}: backbones")
    for one in comparison.protocols:
        here = f"{where}: protocol {one.protocol}"
        _one_of(one.protocol, PROTOCOLS, f"{where}: protocols")
        _at_least(one.epochs, 1, f"{here}: epochs")
        _at_least(one.input_size, 32, f"{here}: input_size")
        for name in (*one.backbones, *one.overrides):
            _one_of(name, BACKBONES, f"{here}: backbones")
        for name, changed in one.overrides.items():
            if not isinstance(changed, dict):
                raise ValueError(f"{here}: overrides: {name}: expected keys and values")
            for key, value in changed.items():
                _one_of(key, ("input_size", "epochs", "batch_size"), f"{here}: overrides: {name}")
                _scalar(value, int, f"{here}: overrides: {name}: {key}")


def plan(
    profile: Profile, backbones: tuple[str, ...] = (), seeds: tuple[int, ...] = ()
) -> list[Step]:
    """List the steps of a study, in order.

    Parameters
    ----------
    profile : Profile
    backbones : tuple of str
        Only these backbones; empty for those of the profile.
    seeds : tuple of int
        Instead of the seeds of the profile.

    Raises
    ------
    ValueError
        If a backbone is unknown.

    Examples
    --------
    >>> [step.name for step in plan(load_profile("smoke"), ("mobilenetv2",))][:2]
    ['01_dataset_eda-synthetic', '02_synthetic-mobilenetv2-head-64-seed129-random-n240']
    """
    for name in backbones:
        _one_of(name, BACKBONES, "--backbones")
    seeds = tuple(seeds) or profile.seeds
    trained = _backbone_steps(profile, tuple(backbones), seeds)
    steps = [_eda_step(profile, name, seeds[0]) for name in profile.eda] + trained
    for seed in seeds:
        steps += _network_steps(profile, seed)
    if profile.gallery and trained:
        steps.append(_gallery_step(profile, trained, seeds[0]))
    study = {"study_dir": f"reports/{profile.name}/study", "profile": profile.name}
    return [*steps, Step("06_comparison_report", "06_comparison_report", "the report", study)]


def _eda_step(profile: Profile, dataset: str, seed: int) -> Step:
    parameters = {"dataset": dataset, "limit": profile.limit, "seed": seed, "profile": profile.name}
    return Step(f"01_dataset_eda-{dataset}", "01_dataset_eda", f"a look at {dataset}", parameters)


def run_name(model: str, parameters: dict) -> str:
    """Name of the run folder of a training step.

    It is here and not in ``RunConfig``, which needs Keras: listing a study must not wait for it.
    """
    own_tasks = model in _SCRATCH
    parts = [parameters["dataset"], model, parameters["protocol"], str(parameters["input_size"])]
    parts.append(f"seed{parameters['seed']}")
    if parameters["split"] != "group":
        parts.append(parameters["split"])
    if not own_tasks and parameters["weights"] == "none":
        parts.append("random")
    if not own_tasks and set(parameters["tasks"]) != set(TASKS):
        parts.append("+".join(parameters["tasks"]))
    parts += _changes(parameters)
    if parameters["limit"]:
        parts.append(f"n{parameters['limit']}")
    return "-".join(parts)


def _changes(parameters: dict) -> list[str]:
    """What an ablation changes, as parts of a run's name."""
    look, age = parameters.get("look", "colour"), parameters.get("age_loss", "distribution")
    parts = [look] if look != "colour" else []
    parts += [age] if age != "distribution" else []
    parts += [f"wide{parameters['head_width']}"] if parameters.get("head_width") else []
    parts += ["continued"] if parameters.get("start_from") else []
    return parts + ([] if parameters.get("mirror", True) else ["nomirror"])


def _common(profile: Profile, section, seed: int, changed: dict | None = None) -> dict:
    """Parameters that every training notebook takes."""
    values = {
        "input_size": section.input_size,
        "epochs": section.epochs,
        "batch_size": section.batch_size or profile.batch_size,
        **(changed or {}),
    }
    return values | {
        "seed": seed,
        "split": profile.split,
        "limit": profile.limit,
        "precision": profile.precision,
        "profile": profile.name,
        **section.options,
    }


def _backbone_steps(profile: Profile, only: tuple[str, ...], seeds: tuple[int, ...]) -> list[Step]:
    steps = []
    for seed in seeds:
        for protocol in profile.comparison.protocols:
            for name in only or protocol.backbones or profile.comparison.backbones:
                if only and protocol.backbones and name not in protocol.backbones:
                    continue
                task_sets = (
                    [[task] for task in profile.tasks]
                    if protocol.one_run_per_task
                    else [list(profile.tasks)]
                )
                steps += [_backbone_step(profile, protocol, name, t, seed) for t in task_sets]
    return steps


def _backbone_step(
    profile: Profile, protocol: Protocol, backbone: str, tasks: list[str], seed: int
) -> Step:
    common = _common(profile, protocol, seed, protocol.overrides.get(backbone))
    parameters = {
        "dataset": profile.comparison.dataset,
        "backbone": backbone,
        "protocol": protocol.protocol,
        "tasks": tasks,
        "weights": profile.weights,
        **common,
    }
    run = run_name(backbone, parameters)
    label = f"{backbone}, {protocol.protocol}, {common['input_size']} px, seed {seed}"
    label += f", {tasks[0]} only" if len(tasks) == 1 else ""
    return Step(f"02_{run}", "02_finetune_backbone", label, parameters, run)


def _network_steps(profile: Profile, seed: int) -> list[Step]:
    rows = [
        (profile.scratch, "03_scratch_cnn", "scratch_cnn", "scratch", "CNN from scratch"),
        (profile.regressor, "04_wiki_age_regressor", "wiki_cnn", "regress", "age regressor"),
    ]
    steps = []
    for section, notebook, model, protocol, label in rows:
        if section is None:
            continue
        parameters = {"dataset": section.dataset, **_common(profile, section, seed)}
        run = run_name(model, {**parameters, "protocol": protocol})
        label = f"{label}, {section.dataset}, {section.input_size} px, seed {seed}"
        steps.append(Step(f"{notebook[:2]}_{run}", notebook, label, parameters, run))
    return steps


def _gallery_step(profile: Profile, trained: list[Step], seed: int) -> Step:
    gallery = profile.gallery
    runs = [
        step.run
        for step in trained
        if step.parameters["protocol"] == gallery.protocol and step.parameters["seed"] == seed
    ]
    parameters = {
        "runs": runs,
        "dataset": profile.comparison.dataset,
        "tasks": list(gallery.tasks or profile.tasks),
        "n": gallery.n,
        "limit": profile.limit,
        "seed": seed,
        "profile": profile.name,
    }
    return Step("05_gradcam_gallery", "05_gradcam_gallery", "class activation maps", parameters)


def missing_datasets(profile: Profile, folder: Path | None = None) -> list[str]:
    """Data sets that the profile needs and `folder` (default: the data folder) does not hold."""
    sections = [profile.comparison, profile.scratch, profile.regressor]
    needed = [*profile.eda, *(section.dataset for section in sections if section)]
    folder = folder or data_dir()
    there = [path.name.lower() for path in folder.iterdir()] if folder.is_dir() else []
    return [
        name
        for name in dict.fromkeys(needed)
        if name in _FILES and not any(file.startswith(_FILES[name]) for file in there)
    ]


def without(steps: list[Step], missing: list[str]) -> tuple[list[Step], list[Step]]:
    """Split steps into those that can run and those whose data set is missing."""
    lost = [step for step in steps if step.parameters.get("dataset") in missing]
    return [step for step in steps if step not in lost], lost


def choose(folder: Path | None = None, gpu: bool | None = None) -> tuple[str, list[str]]:
    """The profile for ``./run_all.sh`` without an argument.

    Returns
    -------
    name : str
        ``cpu`` or ``gpu`` if the real faces are there, else ``smoke``.
    lines : list of str
        What was looked for and how to get it; empty if it is there.
    """
    folder = folder or data_dir()
    if "utkface" in missing_datasets(load_profile("cpu"), folder):
        return "smoke", [
            f"No real faces: looked for UTKFace (folder, .zip or .tar) in {folder}; the small "
            "study on synthetic faces (smoke) runs instead.",
            "To get them: `python -m utils.datasets fetch utkface`, or put them there by hand, or "
            "set FACES_DATA_DIR; data/README.md says where they are and under what terms.",
        ]
    gpu = shutil.which("nvidia-smi") is not None if gpu is None else gpu
    return ("gpu" if gpu else "cpu"), []


def main(arguments: list[str] | None = None) -> int:
    """``python -m utils.profiles choose|show NAME``: for run_all.sh and for the curious."""
    about = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m utils.profiles", description=about)
    parser.add_argument("verb", choices=["choose", "show"])
    parser.add_argument("name", nargs="?", default="smoke")
    asked = parser.parse_args(arguments)
    if asked.verb == "choose":
        name, lines = choose()
        print("\n".join(lines), file=sys.stderr, end="\n" if lines else "")
        print(name)
        return 0
    for step in plan(load_profile(asked.name)):
        print(f"{step.name:60s} {step.label}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
