"""Run a whole study: the steps of a profile through Snakemake, then say where the report lies."""

import argparse
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

from utils import profiles
from utils.paths import ROOT, cache_dir, data_dir
from utils.report.index import write_index
from utils.report.step import Journal, duration

PAGES = ("05", "06")  # notebooks that read the runs of the others


def is_page(name: str) -> bool:
    """Whether a step reads finished runs, so that it can do with some missing."""
    return name.startswith(PAGES)


def _split(text) -> tuple[str, ...]:
    """``"a,b"`` as Snakemake's config gives it (also a lone number) to a tuple of str."""
    if isinstance(text, (list, tuple)):
        return tuple(str(one) for one in text)
    return tuple(part.strip() for part in str(text or "").split(",") if part.strip())


def _seeds(text) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in _split(text))
    except ValueError:
        raise ValueError(f"--seeds: expected whole numbers such as 1,2, saw {text!r}") from None


def steps_of(profile: profiles.Profile, config: dict) -> list[profiles.Step]:
    """The steps that can run: those of the profile whose data set is there."""
    steps = profiles.plan(profile, _split(config.get("backbones")), _seeds(config.get("seeds")))
    return profiles.without(steps, profiles.missing_datasets(profile))[0]


def ready(steps: dict, trained: list[str], folder: str) -> list[str]:
    """Names of the training steps that are finished in `folder`."""
    return [name for name in trained if Path(folder, f"{name}.ipynb").exists()]


def parameters_of(step: profiles.Step, steps: dict, finished: list[str]) -> dict:
    """Parameters of a step; the gallery gets only runs that are there."""
    if "runs" not in step.parameters:
        return step.parameters
    there = {steps[name].run for name in finished}
    runs = [run for run in step.parameters["runs"] if run in there]
    return {**step.parameters, "runs": runs}


def _environment() -> dict:
    """Environment of the steps: quiet, our package first, and no need of a writable home."""
    environment = dict(os.environ)
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    environment.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's python3 kernel
    environment.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    home = Path(environment.get("HOME") or "/nonexistent")
    places = {
        "XDG_CACHE_HOME": home / ".cache",
        "XDG_DATA_HOME": home / ".local" / "share",
        "JUPYTER_RUNTIME_DIR": None,
        "IPYTHONDIR": home / ".ipython",
        "MPLCONFIGDIR": None,
        "KERAS_HOME": home / ".keras",
    }
    for name, place in places.items():
        if name not in environment and not _writable(place or home):
            environment[name] = str(cache_dir() / "home" / name.lower())
            Path(environment[name]).mkdir(parents=True, exist_ok=True)
    return environment


def _writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _snakemake(target: str, config: dict, *options: str) -> list[str]:
    settings = [f"{key}={value}" for key, value in config.items() if value]
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), target]
    command += ["--cores", "all", "--keep-going", "--nolock", "--rerun-incomplete"]
    command += ["--scheduler", "greedy"]  # steps run one at a time: by priority, nothing to solve
    # Editing a comment in the Snakefile must not train everything again.
    command += ["--rerun-triggers", "mtime", "params"]
    quiet = [] if "--summary" in options else ["--quiet", "all"]
    return [*command, *quiet, *options, "--config", *settings]


def _to_run(config: dict, environment: dict, target: str) -> set[str]:
    """Names of the steps that Snakemake would run, from its summary."""
    command = _snakemake(target, config, "--summary")
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    if found.returncode:
        raise ValueError(f"the study cannot be planned: {found.stderr.strip()[-2000:]}")
    rows = [line.split("\t") for line in found.stdout.splitlines() if "\t" in line]
    return {
        Path(row[0]).stem
        for row in rows[1:]
        if row[0].endswith(".html") and "no update" not in row[-1]
    }


def _print_plan(steps: list[profiles.Step], pending: set[str]) -> None:
    for number, step in enumerate(steps, 1):
        state = "to do" if step.name in pending else "done "
        print(f"  {number:2d} {state}  {step.notebook}  ({step.label})")


def _say_missing(profile: profiles.Profile, lost: list[profiles.Step]) -> None:
    missing = profiles.missing_datasets(profile)
    print(f"Left out: {len(lost)} steps, for {', '.join(missing)} is not in {data_dir()}.")
    print("data/README.md says where the data are, or: python -m utils.datasets fetch")


def _summary(profile: profiles.Profile, folder: Path, seconds: float) -> int:
    """Say what failed and where the report lies; the exit status."""
    failed = [entry for entry in Journal(folder).entries() if not entry["ok"]]
    print()
    for entry in failed:
        print(f"FAILED {entry['step']}: {entry['error']}\n  log: {entry['log']}")
    report = folder / "06_comparison_report.html"
    print(f"{'Finished with failures' if failed else 'Finished'} in {duration(seconds)}.")
    if report.exists():
        print(f"The report:     {report}")
    print(f"All the pages:  {write_index(folder.parent)}")
    return 1 if failed else 0


def _run(profile: profiles.Profile, steps: list[profiles.Step], config: dict, force: bool) -> int:
    """Train what is not trained, then make the report from what is there."""
    environment, start = _environment(), time.monotonic()
    folder = Path("reports") / profile.name
    pending = {step.name for step in steps}
    if not force:
        pending = _to_run(config, environment, "all")
    done = sum(step.name not in pending for step in steps)
    Journal(folder).start(len(steps), done)
    print(f"{profile.name}: {profile.purpose}")
    print(f"{len(steps)} steps, {done} already done; expected: {profile.runtime}.", flush=True)
    statuses = [0]
    for stage in ("trained", "gallery", "report") if pending else ():
        # What failed in one stage is not tried again by the next, which works with the rest.
        rest = config if stage == "trained" else config | {"finished_only": True}
        again = ("--forceall",) if force and stage == "trained" else ()
        command = _snakemake(stage, rest, *again)
        statuses.append(subprocess.run(command, env=environment).returncode)
    status = _summary(profile, folder, time.monotonic() - start)
    return status or int(any(statuses))


def _locked(folder: Path):
    """A lock that the system drops when the process ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / ".lock", "w")  # noqa: SIM115 held until the process ends
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ValueError(
            f"another run of this profile is at work in {folder}; wait for it"
        ) from None
    return file


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run_all.sh", description=__doc__.splitlines()[0])
    parser.add_argument("profile", nargs="?", help=", ".join(profiles.names()))
    parser.add_argument("--backbones", default="", help="comma-separated, e.g. resnet50,vgg19")
    parser.add_argument("--seeds", default="", help="comma-separated, e.g. 1,2,3")
    parser.add_argument("--dry-run", action="store_true", help="list the steps and stop")
    parser.add_argument("--force", action="store_true", help="do everything again")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """``python -m utils.report.study [PROFILE]``: what ``run_all.sh`` calls."""
    asked = _parser().parse_args(arguments)
    name = asked.profile
    if name is None:
        name, lines = profiles.choose()
        print("\n".join(lines), end="\n" if lines else "")
    config = {"profile": name, "backbones": asked.backbones, "seeds": asked.seeds}
    config["force"] = asked.force
    try:
        profile = profiles.load_profile(name)
        every = profiles.plan(profile, _split(asked.backbones), _seeds(asked.seeds))
        steps, lost = profiles.without(every, profiles.missing_datasets(profile))
        if lost:
            _say_missing(profile, lost)
        if not any(step.notebook.startswith("02") for step in steps):
            raise ValueError(f"profile {name} cannot run without {profile.comparison.dataset}")
        if asked.dry_run:
            pending = _to_run(config, _environment(), "all")
            _print_plan(steps, {step.name for step in steps} if asked.force else pending)
            return 0
        lock = _locked(Path("reports") / name)
        status = _run(profile, steps, config, asked.force)
        lock.close()
        return status
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
