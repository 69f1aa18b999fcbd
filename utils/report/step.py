"""Execute one notebook of a study: progress in the terminal, everything else in a log.

``python -m utils.report.step`` is what the Snakefile calls. The executed notebook and its article
appear together when both are whole; a failed step leaves its log and, beside it,
``<name>.failed.ipynb``: the notebook as far as it came.
"""

import argparse
import datetime
import json
import logging
import os
import re
import shutil
import sys
import time
from pathlib import Path

import nbformat
import papermill
from nbconvert.filters import strip_ansi

from utils.report.html import write_article

_CELL = re.compile(r"^(?:Executing|Ending) Cell (\d+)")
_HEARTBEAT = 60  # seconds between lines where there is no terminal


def duration(seconds: float) -> str:
    """Seconds as people read them: ``duration(67)`` is ``0:01:07``."""
    return str(datetime.timedelta(seconds=round(seconds)))


class Progress(logging.Handler):
    """Write what the notebook prints to a log; show cells done and the last line.

    Steps that run side by side would draw over each other's line: they print one now and then.
    """

    def __init__(self, log, cells: int, beside: bool):
        super().__init__()
        self.log, self.cells, self.cell = log, cells, 0
        self.live = sys.stdout.isatty() and not beside
        self.started = self.shown = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Take one message of papermill; show that the step is alive, and what it said last."""
        text = strip_ansi(record.getMessage())
        if found := _CELL.match(text):
            self.cell = int(found[1])
            return
        lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
        if not lines:
            return
        self.log.write("".join(line + "\n" for line in lines))
        self.log.flush()
        now = time.monotonic()
        text = f"  cell {self.cell} of {self.cells}, {duration(now - self.started)}: {lines[-1]}"
        if self.live:
            print("\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1], end="", flush=True)
        elif now - self.shown >= _HEARTBEAT:
            self.shown = now
            say(text[:120])


def say(line: str) -> None:
    """Print a line in one piece: steps that run side by side share the terminal."""
    print(("\r\x1b[K" if sys.stdout.isatty() else "") + line + "\n", end="", flush=True)


def run_step(notebook: Path, folder: Path, name: str, parameters: dict, asked) -> None:
    """Execute a notebook and write ``<name>.ipynb`` and ``<name>.html``, both or none."""
    partial = folder / "logs" / f"{name}.failed.ipynb"
    logger = logging.getLogger("papermill")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    with open(folder / "logs" / f"{name}.log", "w", encoding="utf-8") as log:
        os.dup2(log.fileno(), 2)  # what the kernel process itself says goes there too
        cells = len(nbformat.read(notebook, as_version=4).cells) + 1
        logger.addHandler(Progress(log, cells, asked.beside_others))
        quiet = {"progress_bar": False, "log_output": True, "kernel_name": "python3"}
        try:
            papermill.execute_notebook(str(notebook), str(partial), parameters, **quiet)
            write_article(partial, folder / f"{name}.html", subtitle=asked.label)
        except Exception as error:
            log.write(strip_ansi(f"{type(error).__name__}: {error}").strip() + "\n")
            raise
        os.replace(partial, folder / f"{name}.ipynb")


def main(arguments: list[str] | None = None) -> int:
    """Command line: notebook, folder, name, place and label, and a JSON text of parameters."""
    parser = argparse.ArgumentParser(prog="python -m utils.report.step")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("--place", default="step", help="such as: step 3 of 14")
    parser.add_argument("--label", default="")
    parser.add_argument("--parameters", default="{}", help="JSON")
    parser.add_argument("--beside-others", action="store_true", help="other steps run meanwhile")
    asked = parser.parse_args(arguments)
    (asked.folder / "logs").mkdir(parents=True, exist_ok=True)
    start, log = time.monotonic(), asked.folder / "logs" / f"{asked.name}.log"
    say(f"{asked.place}: {asked.notebook.stem} ({asked.label})")
    try:
        run_step(asked.notebook, asked.folder, asked.name, json.loads(asked.parameters), asked)
    except Exception:  # any failure of a step is reported, and others go on
        last = log.read_text("utf-8").splitlines()[-12:]
        say("\n    ".join([f"  {asked.place} FAILED; log: {log}", *last]))
        return 1
    say(f"  {asked.place} done in {duration(time.monotonic() - start)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
