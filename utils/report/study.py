"""Run a whole study: the steps of a profile through Snakemake, then say where the report lies."""

import argparse
import collections
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import psutil

from utils import plan
from utils.backbones.registry import BACKBONES
from utils.datasets import LOADERS, is_there
from utils.paths import ROOT, cache_dir, data_dir, work_dir
from utils.report.html import write_index
from utils.report.step import duration
from utils.study import Study, finished, read_config
from utils.vocabulary import OWN_NETWORKS

PAGES = ("05", "06")  # notebooks that read the runs of the others
PUBLISHED = ROOT / "reports" / "study"
_SIGNALS = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}  # Windows
_COMMAND = " ".join(["./run_all.sh", *sys.argv[1:]])


def choose(folder: Path | None = None, gpu: bool | None = None) -> tuple[str, list[str]]:
    """The profile for ``./run_all.sh`` without an argument, and lines on what was looked for."""
    if not is_there("utkface", folder):
        return "smoke", [
            f"No real faces: looked for UTKFace (folder, .zip or .tar) in {folder or data_dir()}; "
            "the small study on synthetic faces (smoke) runs instead.",
            "To get them: `python -m utils.datasets fetch utkface`, or put them there by hand, or "
            "set FACES_DATA_DIR; data/README.md says where they are and under what terms.",
        ]
    gpu = shutil.which("nvidia-smi") is not None if gpu is None else gpu
    return ("gpu" if gpu else "cpu"), []


def planned(profile: plan.Profile, config: dict) -> tuple[list[plan.Step], dict[str, str]]:
    """The steps that can and should run, and name -> reason of those that are left out.

    `config` may hold ``backbones``, ``seeds`` and ``only`` (ablations, or ``trainings``), comma-
    separated, and ``most_minutes``. A name that is unknown is a ValueError of one line.
    """
    # Snakemake's config gives a lone number as such.
    texts = (str(config.get(name) or "").split(",") for name in ("backbones", "seeds", "only"))
    backbones, seeds, only = (tuple(filter(None, map(str.strip, names))) for names in texts)
    if not all(seed.isdigit() for seed in seeds):
        raise ValueError(f"--seeds: expected whole numbers such as 1,2, saw {config['seeds']!r}")
    named = {one.name: one for one in profile.ablations}
    _known("ablation", only, [*named, "trainings"])
    if only:
        kept = {"ablations": [named[name] for name in only if name in named]}
        kept |= {} if "trainings" in only else {"trainings": []}
        profile = profile.model_copy(update=kept)
    steps = plan.steps(profile, backbones, tuple(map(int, seeds)))
    _check_backbones(profile, backbones, steps)
    # A study without a report of its own adds to the published one, and repeats none of its runs.
    folders = [] if profile.report else PUBLISHED.glob("runs/*/")
    published = Study(configs={folder.name: read_config(folder) for folder in folders})
    most, left_out = float(config.get("most_minutes") or "inf"), {}
    needed = {step.parameters["dataset"] for step in steps if "dataset" in step.parameters}
    _known("data set", needed, LOADERS)
    missing = {name for name in needed if not is_there(name)}
    for step in steps:
        if (dataset := step.parameters.get("dataset")) in missing:
            left_out[step.name] = f"{dataset} is not in {data_dir()}; see data/README.md"
        elif step.config and published.matching(step.config):
            left_out[step.name] = "published in reports/study"
        elif step.minutes > most:
            left_out[step.name] = f"takes {step.minutes:g} minutes"
        elif step.name.startswith("05") and not importlib.util.find_spec("tf_keras_vis"):
            left_out[step.name] = "class activation maps need tf-keras-vis and TensorFlow"
    return [step for step in steps if step.name not in left_out], left_out


def _check_backbones(profile: plan.Profile, asked, steps: list[plan.Step]) -> None:
    """Whether the backbones of a profile exist, and those that were asked for are in its steps."""
    trained = [one.config for one in steps if one.config]
    own = [one.model for one in trained if one.protocol not in OWN_NETWORKS]
    _known("backbone", [*asked, *own], BACKBONES)
    if set(asked) - {one.model for one in trained}:
        every = [one.model for one in plan.configs(profile) if one.protocol not in OWN_NETWORKS]
        _known("backbone", asked, dict.fromkeys(every), f" in profile {profile.name}")


def _known(kind: str, names, known, place: str = "") -> None:
    for name in (name for name in names if name not in known):
        raise ValueError(f"{kind} {name!r} is unknown{place}; expected one of {', '.join(known)}")


def _snakemake(target: str, config: dict, *options: str, **settings):
    """Run Snakemake on a target, in the project's folder."""
    command = [sys.executable, "-m", "snakemake", "-s", "Snakefile", target, "--cores", "all"]
    command += ["--keep-going", "--nolock", "--rerun-incomplete"]
    command += ["--scheduler", "greedy"]  # by priority: there is nothing to solve
    # Editing a comment in the Snakefile must not train everything again.
    command += ["--rerun-triggers", "mtime", "params", *options, "--config"]
    command += [f"{key}={value}" for key, value in config.items() if value]
    return subprocess.run(command, **settings)


def _lost(steps: list[plan.Step], folder: Path) -> list[str]:
    """Trainings that have a page and no run any more: another work folder, or an emptied one."""
    pages = {page.stem for page in folder.glob("*.html")}
    return [s.name for s in steps if s.config and s.name in pages and not finished(s.config)]


def _pending(steps: list[plan.Step], config: dict, folder: Path) -> set[str]:
    """Names of the steps to do: by Snakemake's summary; what was trained elsewhere counts not."""
    if config["force"]:
        return {step.name for step in steps}
    found = _snakemake("all", config, "--summary", capture_output=True, text=True)
    if found.returncode:
        raise ValueError(f"the study cannot be planned: {found.stderr.strip()[-2000:]}")
    changed = [line.split("\t")[0] for line in found.stdout.splitlines() if "no update" not in line]
    names = {Path(name).stem for name in changed if name.endswith(".html")}
    lost = _lost(steps, folder)
    readers = [step.name for step in steps if step.name.startswith(PAGES)] if lost else []
    return names.union(lost, readers)


def _print_plan(steps: list[plan.Step], pending: set[str]) -> None:
    """What is done, what is to do, and the minutes that it takes."""
    minutes = 0.0
    for number, step in enumerate(steps, 1):
        state = "to do" if step.name in pending else "done "
        trained = step.config and finished(step.config)
        left = step.minutes if step.name in pending and not trained else 0
        note = ", trained" if trained else f", {left:g} min" if left else ""
        print(f"  {number:2d} {state}  {step.notebook}  ({step.label}{note})")
        minutes += left
    if minutes:
        print(f"About {duration(60 * minutes)} of training to do.")


def _run(profile: plan.Profile, steps: list[plan.Step], config: dict, folder: Path) -> int:
    """Train what is not trained, make the report from what is there, say what failed."""
    start = time.monotonic()
    pending = _pending(steps, config, folder)
    for name in _lost(steps, folder):
        for ending in ("html", "ipynb"):
            (folder / f"{name}.{ending}").unlink(missing_ok=True)
    print(f"{profile.name}: {profile.purpose}")
    done = len(steps) - len(pending)
    print(f"{len(steps)} steps, {done} already done; expected: {profile.runtime}.", flush=True)
    stages = ("trained", "gallery", "report") if profile.report else ("trained",)
    statuses = [0]
    for stage in stages if pending else ():
        # What failed in one stage is not tried again by the next, which works with the rest.
        rest = config if stage == "trained" else config | {"finished_only": True}
        again = ("--forceall",) if config["force"] and stage == "trained" else ()
        statuses.append(_snakemake(stage, rest, "--quiet", "all", *again).returncode)
    logs = [folder / "logs" / f"{step.name}.log" for step in steps]
    failed = [log for log in logs if log.with_suffix(".failed.ipynb").exists()]
    print()
    for log in failed:
        last = ["ended without a word", *log.read_text("utf-8").splitlines()][-1]
        print(f"FAILED {log.stem}: {last}\n  log: {log}")
    spent = duration(time.monotonic() - start)
    print(f"{'Finished with failures' if failed or any(statuses) else 'Finished'} in {spent}.")
    if (folder / "06_comparison_report.html").exists():
        print(f"The report:     {folder / '06_comparison_report.html'}")
    if not profile.report:
        print("To add its runs to the published study: python reports/study/publish.py")
    print(f"All the pages:  {write_index(folder.parent)}")
    return int(bool(failed) or any(statuses))


def _hold(place: Path) -> filelock.FileLock:
    """Lock a study's place until this process ends; ValueError with who holds it if another does.

    Beside the lock stands who holds it, and since when.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    lock, holder = filelock.FileLock(place), place.with_name(f"{place.name}-holder")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        who = holder.read_text("utf-8") if holder.exists() else "another process"
        raise ValueError(f"{who} is at work in {place.parent}; wait for it, or end it") from None
    since = f"since {time.strftime('%Y-%m-%d %H:%M')}"
    holder.write_text(f"process {os.getpid()} ({_COMMAND}, {since})", encoding="utf-8")
    return lock


def _stop(number: int, frame) -> None:
    """On a signal: end everything that this process started, and say how to go on."""
    _end_children(psutil.Process())  # here, while Snakemake still knows its own
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(f"\nStopped; finished epochs and steps stay. To go on: {_COMMAND}", file=sys.stderr)
    os._exit(128 + number)  # at once: taking the libraries down takes seconds


def _end_children(process: psutil.Process) -> None:
    """End all that a process started, each halted first, so that no new child escapes."""
    for child in process.children():
        with contextlib.suppress(psutil.Error):
            child.suspend()
            _end_children(child)
            child.kill()


def _quiet_environment() -> None:
    """What the steps inherit: this environment's kernel, and no need of a writable home."""
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    if not os.access(Path.home(), os.W_OK):
        os.environ["HOME"] = str(cache_dir() / "home")
        Path.home().mkdir(parents=True, exist_ok=True)


def _study(asked: argparse.Namespace) -> int:
    name, lines = (asked.profile, []) if asked.profile else choose()
    print("\n".join(lines), file=sys.stderr, end="\n" if lines else "")
    profile = plan.load_profile(name)
    config = vars(asked) | {"profile": name}
    steps, left_out = planned(profile, config)
    for reason, lost in collections.Counter(left_out.values()).items():
        print(f"Left out: {lost} steps ({reason})")
    if profile.report and not any(step.config for step in steps):
        raise ValueError(f"profile {name} has nothing to train without its data")
    folder = Path("reports") / profile.name
    if asked.dry_run:
        _print_plan(steps, _pending(steps, config, folder))
        print("".join(f"   - {reason}: {name}\n" for name, reason in left_out.items()), end="")
        return 0
    with _hold(folder / ".lock"), _hold(work_dir() / f".lock-study-{profile.name}"):
        return _run(profile, steps, config, folder)


def main(arguments: list[str] | None = None) -> int:
    """``./run_all.sh PROFILE``; returns the exit status."""
    parser = argparse.ArgumentParser(prog="./run_all.sh", description=__doc__)
    parser.add_argument("profile", nargs="?", help=", ".join(plan.names()))
    texts = {"backbones": "such as resnet50,vgg19", "seeds": "such as 1,2,3"}
    texts |= {"only": "ablations, such as age,tasks", "most-minutes": "leave longer trainings out"}
    for name, told in texts.items():
        parser.add_argument(f"--{name}", default="", help=told)
    parser.add_argument("--data", type=Path, help="folder or archive, instead of FACES_DATA_DIR")
    parser.add_argument("--dry-run", action="store_true", help="list the steps and stop")
    parser.add_argument("--force", action="store_true", help="do everything again")
    asked = parser.parse_args(arguments)
    if asked.data:
        os.environ["FACES_DATA_DIR"] = str(asked.data.resolve())
    os.chdir(ROOT)
    _quiet_environment()
    for number in _SIGNALS:
        signal.signal(number, _stop)
    try:
        return _study(asked)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
