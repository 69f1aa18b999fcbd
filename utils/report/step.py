"""Execute one notebook of a study: progress in the terminal, everything else in a log.

``python -m utils.report.step`` is what the Snakefile calls. The executed notebook and its article
appear together when both are whole; a failed step leaves its log and the notebook as far as it
came.
"""

import argparse
import json
import logging
import os
import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from utils.files import read_json, write_aside

_CELL = re.compile(r"^(Executing|Ending) Cell (\d+)")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_HEARTBEAT = 60  # seconds between lines where there is no terminal


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(7.6), duration(67), duration(3720)
    ('8 s', '1 min 07 s', '1 h 02 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def _say(line: str) -> None:
    """Print a line in one piece: steps that run side by side share the terminal."""
    print(line + "\n", end="", flush=True)


class Journal:
    """What has happened in this session: one JSON line for each finished or failed step."""

    def __init__(self, folder: Path):
        self.path = Path(folder) / "logs" / "session.jsonl"

    def start(self, total: int, done: int) -> None:
        """Begin a session of `total` steps, `done` of them finished by an earlier one."""
        with write_aside(self.path) as aside:
            aside.write_text(json.dumps({"total": total, "done": done}) + "\n")

    def add(self, **entry) -> None:
        """Note one step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a") as file:
            file.write(json.dumps(entry) + "\n")

    def entries(self) -> list[dict]:
        """The steps that ended so far."""
        return [entry for entry in self._lines() if "step" in entry]

    def begin(self, step: str) -> str:
        """Note that a step starts; returns ``"step 3 of 14"``."""
        self.add(begun=step)
        head = next((entry for entry in self._lines() if "total" in entry), None)
        if head is None:
            return "step"
        begun = [entry["begun"] for entry in self._lines() if "begun" in entry]
        number = min(head["done"] + begun.index(step) + 1, head["total"])
        return f"step {number} of {head['total']}"

    def _lines(self) -> list[dict]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines() if line.strip()]


class Progress(logging.Handler):
    """Write what the notebook prints to a log; show cells done and the last line in a bar.

    Steps that run side by side would draw over each other's bars: they print a line now and then.
    """

    def __init__(self, log, cells: int, terminal, name: str = "", beside: bool = False):
        super().__init__()
        self.log = log
        self.name = name
        self.last = time.monotonic()
        self.started = self.last
        self.terminal = terminal.isatty() and not beside
        self.bar = tqdm(
            total=cells,
            file=terminal,
            disable=not self.terminal,
            leave=False,
            dynamic_ncols=True,
            bar_format="  {percentage:3.0f}% {bar:20} {elapsed} {postfix}",
        )
        self.cell = 0
        self.cells = cells

    def emit(self, record: logging.LogRecord) -> None:
        """Take one message of papermill."""
        text = _ESCAPES.sub("", record.getMessage())
        found = _CELL.match(text)
        if found:
            self.cell = int(found[2])
            self.bar.update(self.cell - (found[1] == "Executing") - self.bar.n)
            return
        lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
        self.log.write("".join(line + "\n" for line in lines))
        self.log.flush()
        if lines and record.levelno <= logging.WARNING:
            self.bar.set_postfix_str(lines[-1][:100])
            self._heartbeat(lines[-1])

    def _heartbeat(self, line: str) -> None:
        now = time.monotonic()
        if self.terminal or now - self.last < _HEARTBEAT:
            return
        self.last = now
        _say(
            f"  {self.name}: cell {self.cell} of {self.cells}, {duration(now - self.started)}: "
            f"{line[:100]}"
        )


def declared_parameters(notebook: Path) -> list[str]:
    """Names of the parameters that a notebook declares."""
    from papermill import inspect_notebook

    return list(inspect_notebook(str(notebook)))


def check_parameters(notebook: Path, parameters: dict) -> None:
    """Raise ValueError if the notebook does not declare a parameter."""
    declared = declared_parameters(notebook)
    unknown = [name for name in parameters if name not in declared]
    if unknown:
        raise ValueError(
            f"{notebook.name} has no parameter {', '.join(unknown)}; it has: "
            f"{', '.join(declared) or 'none'}; mend the profile or the notebook"
        )


def execute(
    notebook: Path, output: Path, parameters: dict, log_path: Path, beside: bool = False
) -> None:
    """Run a notebook with parameters; progress goes to the terminal, prints to the log.

    Parameters
    ----------
    notebook, output : Path
        What to run, and where to save the executed copy (also of a failed run).
    parameters : dict
        Values for the cell tagged ``parameters``.
    log_path : Path
        Everything that the notebook prints.
    beside : bool
        Whether other steps run at the same time.

    Raises
    ------
    papermill.exceptions.PapermillExecutionError
        If a cell fails.
    """
    import nbformat
    import papermill

    cells = len(nbformat.read(notebook, as_version=4).cells) + 1
    logger = logging.getLogger("papermill")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with open(log_path, "w") as log, _stderr_to(log) as terminal:
        progress = Progress(log, cells, terminal, output.name.split(".")[0], beside)
        logger.addHandler(progress)
        try:
            papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters=parameters,
                kernel_name="python3",
                progress_bar=False,
                log_output=True,
            )
        finally:
            logger.removeHandler(progress)
            progress.bar.close()


@contextmanager
def _stderr_to(log):
    """Send what the kernel process itself says to the log; yields the old stderr."""
    with os.fdopen(os.dup(2), "w") as terminal:
        os.dup2(log.fileno(), 2)
        try:
            yield terminal
        finally:
            os.dup2(terminal.fileno(), 2)


def _short(error: Exception) -> list[str]:
    """The lines of an error that help: name, message and the last lines of the traceback."""
    name, value = getattr(error, "ename", ""), getattr(error, "evalue", "")
    if not name:
        return [f"{type(error).__name__}: {error}"]
    trace = [_ESCAPES.sub("", line) for line in getattr(error, "traceback", [])]
    tail = "\n".join(trace).splitlines()[-12:]
    return [*tail, f"in cell {error.exec_count}: {name}: {value}"]


def run_step(
    notebook: Path, folder: Path, name: str, label: str, parameters: dict, beside: bool = False
) -> bool:
    """Execute a step and write ``<name>.ipynb`` and ``<name>.html``; True if it went well."""
    from utils.report.html import write_article

    journal = Journal(folder)
    log_path = folder / "logs" / f"{name}.log"
    partial = folder / "logs" / f"{name}.failed.ipynb"
    partial.parent.mkdir(parents=True, exist_ok=True)
    place = journal.begin(name)
    _say(f"{place}: {notebook.stem} ({label})")
    start = time.monotonic()
    try:
        check_parameters(notebook, parameters)
        execute(notebook, partial, parameters, log_path, beside)
        write_article(partial, folder / f"{name}.html", subtitle=label)
        os.replace(partial, folder / f"{name}.ipynb")
    except Exception as error:  # any failure of a step is reported, and others go on
        lines = _short(error)
        with open(log_path, "a") as log:
            log.write("\n".join(lines) + "\n")
        _say(f"  {place} FAILED:\n    " + "\n    ".join(lines) + f"\n  log: {log_path}")
        seconds = time.monotonic() - start
        journal.add(step=name, ok=False, seconds=seconds, log=str(log_path), error=lines[-1])
        return False
    seconds = time.monotonic() - start
    journal.add(step=name, ok=True, seconds=seconds, log=str(log_path))
    _say(f"  {place} done in {duration(seconds)}")
    return True


def main(arguments: list[str] | None = None) -> int:
    """Command line: notebook, folder, name, label and a JSON file or text of parameters."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.step")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("--label", default="")
    parser.add_argument("--parameters", default="{}", help="JSON, or the path of a JSON file")
    parser.add_argument("--force", action="store_true", help="train again")
    parser.add_argument("--beside-others", action="store_true", help="other steps run meanwhile")
    asked = parser.parse_args(arguments)
    text = asked.parameters
    parameters = read_json(text) if text.endswith(".json") else json.loads(text)
    if asked.force and "force" in declared_parameters(asked.notebook):
        parameters["force"] = True
    ok = run_step(
        asked.notebook, asked.folder, asked.name, asked.label, parameters, asked.beside_others
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
