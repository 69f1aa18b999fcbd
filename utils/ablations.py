"""Which single changes does the study measure? Reads ``profiles/ablations.yaml``.

Needs no Keras: the report asks here which runs belong together, `utils.training.ablations` trains
them.
"""

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from utils.profiles import FOLDER, TASKS, run_name

FILE = FOLDER / "ablations.yaml"
# What a run has unless it says otherwise, as far as its name depends on it.
DEFAULTS = {"weights": "imagenet", "split": "group", "tasks": list(TASKS), "limit": 0}
# What these settings are in a candidate of the comparison; another value makes an ablation.
PLAIN = {
    "age_loss": "distribution",
    "look": "colour",
    "mirror": True,
    "head_width": 0,
    "start_from": "",
}


def study_of(settings: dict) -> str:
    """``ablation``, or nothing for a run that the comparison shows too."""
    odd = settings.get("weights") == "none" or set(settings.get("tasks", TASKS)) != set(TASKS)
    changed = any(settings.get(name, plain) != plain for name, plain in PLAIN.items())
    return "ablation" if odd or changed else ""


@dataclass(frozen=True)
class Variant:
    """One run of an ablation.

    Attributes
    ----------
    label : str
        What a reader sees.
    settings : dict
        Parameters of `utils.training.RunConfig`, complete but for its defaults.
    minutes : float
        Expected on one core.
    name : str
        Of predictions that no run made, such as those of an ensemble.
    """

    label: str
    settings: dict = field(default_factory=dict)
    minutes: float = 0.0
    name: str = ""

    @property
    def run(self) -> str:
        """Name of the run folder."""
        return self.name or run_name(self.settings["model"], DEFAULTS | self.settings)

    @property
    def position(self) -> tuple[bool, float]:
        """What runs are sorted by: those that need another one come after it."""
        return "start_from" in self.settings, self.minutes

    @property
    def tasks(self) -> list[str]:
        """Tasks that the run was trained for."""
        return list(self.settings.get("tasks", TASKS))

    @property
    def study(self) -> str:
        """``ablation``, or nothing for a run that the comparison shows too."""
        return study_of(self.settings)


@dataclass(frozen=True)
class Ablation:
    """Variants that differ in one thing; the first is the reference."""

    name: str
    question: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Plan:
    """All ablations, further runs for other parts of the report, and the ensemble's networks."""

    dataset: str
    ablations: tuple[Ablation, ...]
    repeats: tuple[Variant, ...] = ()
    ensemble: tuple[str, ...] = ()

    def runs(self, only: tuple[str, ...] = ()) -> dict[str, Variant]:
        """Every run once, by name, cheapest first; those that go on from another one last.

        Parameters
        ----------
        only : tuple of str
            Names of ablations, or ``repeats``; empty for all.

        Raises
        ------
        ValueError
            If there is no such ablation.
        """
        named = {one.name: one.variants for one in self.ablations} | {"repeats": self.repeats}
        for name in only:
            if name not in named:
                raise ValueError(f"ablation {name!r} is unknown; expected some of {list(named)}")
        found: dict[str, Variant] = {}
        for name in only or named:
            for variant in named[name]:
                found.setdefault(variant.run, variant)
        return dict(sorted(found.items(), key=lambda item: item[1].position))


def load_plan(path: Path = FILE) -> Plan:
    """Read the ablations.

    Raises
    ------
    ValueError
        If a key is missing or unknown, two ablations share a name, or one has no second variant.

    Examples
    --------
    >>> [variant.label for variant in load_plan().ablations[1].variants]
    ['ImageNet', 'random']
    """
    content = yaml.safe_load(Path(path).read_text())
    where, known = Path(path).name, ("name", "purpose", "runtime", "common", "minutes")
    _keys(content, ("common", "ablations"), (*known, "repeats", "ensemble"), where)
    common, minutes = content["common"], content.get("minutes", 0)
    ablations = []
    for one in content["ablations"]:
        _keys(one, ("name", "question", "variants"), ("settings",), where)
        shared = common | one.get("settings", {})
        here = f"{where}: {one['name']}"
        variants = tuple(_variant(v, shared, minutes, here) for v in one["variants"])
        if len(variants) < 2 or len({v.run for v in variants}) < len(variants):
            raise ValueError(f"{here}: expected at least two variants, each a run of its own")
        ablations.append(Ablation(one["name"], one["question"], variants))
    names = [one.name for one in ablations]
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: two ablations share a name; saw {names}")
    repeats = tuple(_variant(v, common, minutes, where) for v in content.get("repeats", []))
    return Plan(common["dataset"], tuple(ablations), repeats, tuple(content.get("ensemble", ())))


def _variant(content, common: dict, minutes: float, where: str) -> Variant:
    _keys(content, ("label", "settings"), ("minutes",), where)
    settings = {**common, **content["settings"]}
    return Variant(content["label"], settings, float(content.get("minutes", minutes)))


def _keys(content, needed, allowed, where: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected keys and values, saw {content!r}")
    for key in content:
        if key not in (*needed, *allowed):
            raise ValueError(f"{where}: unknown key {key!r}; expected {[*needed, *allowed]}")
    for key in needed:
        if key not in content:
            raise ValueError(f"{where}: the key {key!r} is missing in {content}")
