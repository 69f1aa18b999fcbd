"""Files that are whole or absent: write aside, then rename."""

import hashlib
import json
import mmap
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock


class DataError(ValueError):
    """Data that cannot be used; the message says what was seen and what to do."""


def require(table, columns, what="the table of predictions") -> None:
    """Raise a DataError that names those of `columns` which a table, or a list of names, lacks."""
    if missing := [name for name in columns if name not in table]:
        told = f"{what} lacks the columns {missing}; it has {list(table)[:10]}"
        raise DataError(f"{told}; expected {list(columns)}: write it again with all of them")


def unreadable(path: Path, error: Exception, way: str) -> DataError:
    """The error of a file that cannot be read, in one line, with the way on."""
    return DataError(f"{path} cannot be read ({_first_line(error)}); {way}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def no_room(told: str, variable: str = "FACES_WORK_DIR") -> DataError:
    """The error of a disk that is full or closed, with what to do."""
    return DataError(f"{told}; free some space, or set {variable} to another disk")


@contextmanager
def write_aside(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path, with the same ending, that becomes `path` if the block succeeds.

    Works for files and for folders, and makes missing parents. A reader never sees a half-written
    `path`, also after a kill or on a full disk, of which a DataError tells.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with write_aside(folder / "note.txt") as aside:
    ...     _ = aside.write_text("whole")
    >>> (folder / "note.txt").read_text(), len(list(folder.iterdir()))
    ('whole', 1)
    """
    path = Path(path)
    # The ending stays last: writers such as Keras choose the format by it.
    aside = path.with_name(f".aside-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        if path.is_dir() and aside.is_dir():
            shutil.rmtree(path)
        os.replace(aside, path)
    except OSError as error:
        seen = str(error.filename or aside)
        if not (seen.startswith(str(aside)) or path.is_relative_to(seen)):
            raise  # of a file that was to be read
        told = f"{path} cannot be written ({error.strerror or _first_line(error)})"
        raise no_room(told, "FACES_WORK_DIR or FACES_DATA_DIR") from None
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Make a folder; a DataError, before the work and not after it, if nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); name another") from None


def locked(folder: Path | str) -> filelock.FileLock:
    """For `with`: one process at a time fills `folder`; others wait, then find it filled.

    The lock is the file ``.lock-<folder>`` beside it. The system drops it when the process ends,
    however it ends.
    """
    path = Path(folder).with_name(f".lock-{Path(folder).name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(path)


_HELD: dict[Path, filelock.FileLock] = {}  # until the process ends


def hold_lock(folder: Path | str) -> None:
    """Lock `folder` until this process ends; wait, and say so, while another one holds it."""
    path = Path(folder).resolve()
    if path in _HELD:
        return
    lock = locked(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"waiting for the process that works on {path.name} ...", flush=True)
        lock.acquire()
    _HELD[path] = lock


def digest_of(content: Path | dict) -> str:
    """SHA-256 of a file, or of what a JSON file is to hold, whatever the order of its keys."""
    if isinstance(content, dict):
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    try:
        with open(content, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError as error:
        raise unreadable(content, error, "make it readable") from None


def write_json(path: Path | str, content) -> None:
    """Write `content` as readable JSON, whole or not at all."""
    with write_aside(path) as aside:
        aside.write_text(json.dumps(content, indent=1, default=str) + "\n")


def read_json(path: Path | str):
    """Read JSON; an unreadable file is named in the error."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except (ValueError, PermissionError) as error:  # the first: no JSON, or no text
        raise unreadable(path, error, "delete it and run again") from None


def release_pages(array) -> None:
    """Drop the pages of a memory-mapped array from this process; the file's content stays.

    Without this the memory of a process grows with every part of the map that it has touched.
    Does nothing to an array in memory, or where the system offers no ``madvise`` (Windows).
    """
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    if array is not None and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)
