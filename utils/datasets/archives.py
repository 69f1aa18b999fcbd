"""Where does a data set lie? A folder, or a zip or tar that is unpacked once."""

import gzip
import hashlib
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm.auto import tqdm

from utils.datasets.facetable import DataError
from utils.files import write_aside
from utils.paths import cache_dir

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
IMAGES = (".jpg", ".jpeg", ".png")
_SPARE = 200_000_000  # bytes that stay free on the disk
# RuntimeError is what zipfile raises for a password or an unknown compression.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    RuntimeError,
)
_PART = re.compile(r"\d+|train|val|test")  # folders that are a part of the data, not a wrapper
# One open archive as (name inside, content, share of the archive read so far).
Members = Iterator[tuple[str, IO[bytes], float]]


def find_source(root: Path | str, names: Sequence[str], what: str) -> Path:
    """Find a data set under `root` by any of its names.

    A name stands for a folder, a file, or an archive of that name (.zip, .tar, .tar.gz, .tgz);
    upper and lower case are the same. An archive is unpacked once into the cache. A folder
    that only wraps another (``UTKFace/UTKFace``) is opened.

    Parameters
    ----------
    root : Path or str
        Folder that holds the data set, or the data set itself (folder, archive or images).
    names : sequence of str
        Names by which the data set goes, the preferred one first.
    what : str
        Title of the data set, for the error.

    Returns
    -------
    Path
        The folder with the content, or the file if a name has that of a plain file.

    Raises
    ------
    DataError
        If nothing is found, or the archive is unsafe or damaged.

    Examples
    --------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> (root / "utkface").mkdir()
    >>> find_source(root, ["UTKFace", "crop_part1"], "UTKFace").name
    'utkface'
    """
    root = Path(root)
    found = _candidate(root, names)
    if found is None:
        there = "" if root.exists() else " (which does not exist)"
        raise DataError(
            f"{what} is not there: looked for {', '.join(names)} (also as .zip, .tar, .tar.gz) in "
            f"{root}{there}; put it there or set FACES_DATA_DIR; data/README.md says how to get it"
        )
    if found.is_file() and _is_archive(found):
        found = unpack(found)
    return _open_wrappers(found, names) if found.is_dir() else found


def list_images(folder: Path) -> list[str]:
    """Relative paths (with ``/``) of all .jpg and .png files below `folder`, sorted.

    Hidden files, such as those that macOS leaves beside unpacked pictures, are not listed.
    """
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = Path(here).relative_to(folder).as_posix()
        prefix = "" if prefix == "." else prefix + "/"
        found += [
            prefix + name
            for name in files
            if name.lower().endswith(IMAGES) and not name.startswith(".")
        ]
    return sorted(found)


def fingerprint(path: Path) -> str:
    """Twelve hexadecimal digits that change when a large file changes, without reading it all."""
    state = path.stat()
    digest = hashlib.sha256(f"{state.st_size} {state.st_mtime_ns}".encode())
    with open(path, "rb") as file:
        digest.update(file.read(65536))
        file.seek(max(0, state.st_size - 65536))
        digest.update(file.read())
    return digest.hexdigest()[:12]


def unpack(archive: Path) -> Path:
    """Unpack a zip or tar into ``cache/unpacked``, once, and return the folder.

    Only plain files are written, links are left out. The folder appears when it is whole.

    Raises
    ------
    DataError
        If a name leads out of the folder, the archive is damaged, or the disk is full.
    """
    target = cache_dir() / "unpacked" / f"{_stem(archive)}-{fingerprint(archive)}"
    if target.is_dir():
        return target
    _check_space(archive, target.parent)
    try:
        with write_aside(target) as aside:
            aside.mkdir()
            _extract(archive, aside)
            if target.is_dir():  # another process was faster: keep what it made
                raise FileExistsError(target)
    except FileExistsError:
        if not target.is_dir():
            raise
    except _DAMAGED as error:
        raise DataError(
            f"{archive} is damaged, cut short or locked ({str(error)[:80]}); get it again"
        ) from None
    except OSError as error:
        raise DataError(
            f"{archive} cannot be unpacked into {target.parent} ({error.strerror or error}); "
            "free some space, or set FACES_WORK_DIR to another disk"
        ) from None
    return target


def check_free(folder: Path, needed: int, what: str, variable: str) -> None:
    """Raise a DataError if the disk under `folder` has fewer than `needed` bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE:
        raise DataError(
            f"{what} needs {needed / 1e9:.1f} GB in {folder}, {free / 1e9:.1f} GB are free; "
            f"free some space, or set {variable} to another disk"
        )


def _check_space(archive: Path, folder: Path) -> None:
    # Photographs hardly shrink, so an archive is about as large as its content.
    check_free(folder, archive.stat().st_size, f"unpacking {archive.name}", "FACES_WORK_DIR")


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES)


def _stem(path: Path) -> str:
    name = path.name
    for ending in sorted(ARCHIVES, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def _candidate(root: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` in `root`; else `root` itself if it is the data set."""
    if root.is_dir():
        there = {path.name.lower(): path for path in sorted(root.iterdir())}
        for name in names:
            for ending in ("", *ARCHIVES):
                path = there.get((name + ending).lower())
                if path is not None and (path.is_dir() or ending or path.suffix):
                    return path
    known = {name.lower() for name in names}
    if root.is_file() and (_is_archive(root) or root.name.lower() in known):
        return root
    if root.is_dir() and (root.name.lower() in known or _holds_images(root)):
        return root
    return None


def _holds_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(e.name.lower().endswith(IMAGES) and e.is_file() for e in entries)


def _open_wrappers(folder: Path, names: Sequence[str]) -> Path:
    """Step into a folder of a known name, or the only one there, while no image is beside it."""
    known = [name.lower() for name in names]
    while not _holds_images(folder):
        visible = [p for p in sorted(folder.iterdir()) if not p.name.startswith((".", "__MACOSX"))]
        inner = sorted(
            (p for p in visible if p.is_dir() and p.name.lower() in known),
            key=lambda p: known.index(p.name.lower()),
        )
        alone = [
            p
            for p in visible
            if len(visible) == 1 and p.is_dir() and not _PART.fullmatch(p.name.lower())
        ]
        if not inner + alone:
            break
        folder = (inner + alone)[0]
    return folder


def _extract(archive: Path, folder: Path) -> None:
    members = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
    with tqdm(
        total=100,
        desc=f"unpack {archive.name}",
        unit="%",
        mininterval=1.0,
        bar_format="{l_bar}{bar}| {elapsed}<{remaining}",
    ) as bar:
        for name, content, share in members(archive):
            path = folder / _safe_name(name, archive)
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            bar.update(100 * share - bar.n)


def _safe_name(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":" or "\0" in name:
        raise DataError(
            f"{archive} holds the unsafe name {name!r}, which leads out of its folder; nothing "
            "was unpacked: get the archive from its original source"
        )
    return path


def _wanted(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and parts[0] != "__MACOSX" and not parts[-1].startswith("._")


def _zip_members(archive: Path) -> Members:
    with zipfile.ZipFile(archive) as file:
        members = [m for m in file.infolist() if not m.is_dir() and _wanted(m.filename)]
        done, total = 0, sum(m.compress_size for m in members) or 1
        for member in members:
            done += member.compress_size
            with file.open(member) as content:
                yield member.filename, content, done / total


def _tar_members(archive: Path) -> Members:
    total = archive.stat().st_size or 1
    with open(archive, "rb") as raw, tarfile.open(fileobj=raw, mode="r|*") as file:
        for member in file:
            if member.isfile() and _wanted(member.name):
                yield member.name, file.extractfile(member), raw.tell() / total
