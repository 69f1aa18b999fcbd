"""Where does a data set lie? A folder, or a zip or tar that is unpacked once."""

import gzip
import hashlib
import lzma
import os
import re
import shutil
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from utils.datasets.pictures import ENDINGS, UNREAD
from utils.datasets.progress import progress_bar
from utils.files import DataError, locked, no_room, unreadable, write_aside
from utils.paths import cache_dir

ARCHIVES = (".tar.gz", ".zip", ".tar", ".tgz")
_HIDDEN = (".", "__MACOSX")  # as .ipynb_checkpoints, or what macOS leaves in archives
_SPARE = 200_000_000  # bytes that stay free on the disk
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)
_DAMAGED += (lzma.LZMAError, RuntimeError)  # of zipfile: a password, or an unknown way to pack
# Folders that are a part of the data, not a wrapper.
_PART = re.compile(r"\d+|train|val|test|(crop_)?part_?\d+", re.IGNORECASE)


def find_source(root: Path | str, names: Sequence[str], what: str) -> Path:
    """Find a data set under `root` by any of its `names`, the preferred one first.

    A name stands for a folder, a file, or an archive of that name (.zip, .tar, .tar.gz, .tgz), in
    upper or lower case. `root` may also be the data set itself. An archive is unpacked once into
    the cache; a folder that only wraps another (``UTKFace/UTKFace``) is opened.

    Returns the folder with the content, or the file if a name is that of a plain file. Raises a
    DataError if `what` is not found, or its archive is unsafe or damaged.
    """
    root = Path(root)
    found = _candidate(root, names)
    if found is None:
        there = "" if root.exists() else " (which does not exist)"
        raise DataError(
            f"{what} is not there: looked for {', '.join(names)} (also as .zip, .tar, .tar.gz) in "
            f"{root}{there}; put it there or set FACES_DATA_DIR; data/README.md says how to get it"
        )
    if found.is_file() and found.name.lower().endswith(ARCHIVES):
        found = unpack(found)
    return _open_wrappers(found, names) if found.is_dir() else found


def list_images(folder: Path) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """All pictures below `folder` by relative name, and (name, reason) of those not read.

    Links to folders are followed, each real folder once; hidden files and folders passed over. Not
    read are kinds of picture that cannot be read here, names that are not UTF-8, and pipes.
    """
    paths, left_out, seen = {}, [], set()

    def shown(path) -> str:  # can be printed and stored: bytes that are no UTF-8 become \xe9
        name = Path(path).relative_to(folder).as_posix()
        return os.fsencode(name).decode("utf-8", "backslashreplace")

    def closed(error: OSError) -> None:
        left_out.append((shown(error.filename), f"folder cannot be opened: {error.strerror}"))

    places = [Path(folder)]
    for place in places:  # links come last, so that real folders name what is in them
        for here, folders, files in os.walk(place, onerror=closed):
            known = os.path.realpath(here) in seen
            seen.add(os.path.realpath(here))
            folders[:] = [name for name in folders if not name.startswith(_HIDDEN) and not known]
            places += [Path(here, name) for name in folders if os.path.islink(Path(here, name))]
            for path in (Path(here, n) for n in files if not (known or n.startswith(_HIDDEN))):
                name, ending = shown(path), path.name.lower()
                if ending.endswith(UNREAD):
                    left_out.append((name, "kind of picture that is not read: save as JPEG"))
                elif ending.endswith(ENDINGS) and not name.endswith(path.name):
                    left_out.append((name, "file name is not UTF-8: rename the file"))
                elif ending.endswith(ENDINGS) and path.exists() and not path.is_file():
                    left_out.append((name, "no file: opening a pipe or device may never end"))
                elif ending.endswith(ENDINGS):
                    paths[name] = path
    return dict(sorted(paths.items())), sorted(left_out)


def match_names(names, paths: dict[str, Path]) -> dict[str, Path]:
    """Files of the names in a table, upper and lower case aside; names without one are missing."""

    def plain(name: str) -> str:
        name = unicodedata.normalize("NFC", name.strip().replace("\\", "/"))
        return name.removeprefix("./").casefold()

    loose = {plain(name): path for name, path in reversed(paths.items())}
    found = {name: paths.get(name) or loose.get(plain(name)) for name in names}
    return {name: path for name, path in found.items() if path is not None}


def beside(places: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """Files of some names, upper and lower case aside, in the first place that has any."""
    for place in filter(Path.is_dir, places):
        there = {path.name.lower(): path for path in place.iterdir() if path.is_file()}
        found = [there[name] for name in names if name in there]
        if found:
            return found
    return []


def fingerprint(path: Path) -> str:
    """Twelve hexadecimal digits that change when a large file changes, without reading it."""
    state = path.stat()
    told = f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def check_room(folder: Path, needed: int, what: str, variable: str = "FACES_WORK_DIR") -> None:
    """Raise a DataError if the disk under `folder` has no room for `needed` bytes.

    A memory map that finds no room ends the process without a word, so ask before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE:
        needs = f"{what} needs {needed / 1e9:.1f} GB in {folder}, {free / 1e9:.1f} GB are free"
        raise no_room(needs, variable)


def unpack(archive: Path) -> Path:
    """Unpack the plain files of a zip or tar into ``cache/unpacked``, once; return the folder.

    A DataError tells of a name that leads out of it, of a damaged archive and of a full disk.
    """
    stem = next(archive.name[: -len(e)] for e in ARCHIVES if archive.name.lower().endswith(e))
    target = cache_dir() / "unpacked" / f"{stem}-{fingerprint(archive)}"
    try:
        with locked(target):
            if not target.is_dir():
                with write_aside(target) as aside:
                    _extract(archive, aside)
    except _DAMAGED as error:
        raise unreadable(archive, error, "it is damaged, or locked: get it again") from None
    return target


def _extract(archive: Path, folder: Path) -> None:
    # Not shutil.unpack_archive: it asks for no room, and passes over unsafe names in silence.
    zipped = archive.name.lower().endswith(".zip")
    with zipfile.ZipFile(archive) if zipped else tarfile.open(archive) as file:
        if zipped:
            found = [(m.filename, m.file_size, m) for m in file.infolist() if not m.is_dir()]
        else:
            found = [(m.name, m.size, m) for m in file.getmembers() if m.isfile()]
        check_room(folder, sum(size for _, size, _ in found), f"unpacking {archive.name}")
        members = {_safe_name(name, archive): member for name, _, member in found}
        both = members.keys() & {parent for path in members for parent in path.parents}
        if both:
            told = f"{archive} holds a file and a folder of one name ({min(both)})"
            raise DataError(f"{told}; get it again, or unpack it by hand")
        for path in progress_bar(members, desc=f"unpack {archive.name}", unit="file"):
            if not (path.parts[0] == "__MACOSX" or path.name.startswith("._")):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                content = (file.open if zipped else file.extractfile)(members[path])
                with content, open(folder / path, "wb") as out:
                    shutil.copyfileobj(content, out, 1 << 20)


def _safe_name(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":" or "\0" in name:
        raise DataError(
            f"{archive} holds the unsafe name {name!r}, which leads out of its folder; nothing "
            "was unpacked: get the archive from its original source"
        )
    return path


def _candidate(root: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` in `root`; else `root` itself if it is the data set."""
    known = {name.lower() for name in names}
    if root.is_file():
        name = root.name.lower()
        return root if name in known or name.endswith(ARCHIVES) else None
    if not root.is_dir():
        return None
    there = {path.name.lower(): path for path in sorted(root.iterdir())}
    parts = [path for path in there.values() if path.is_dir() and _PART.fullmatch(path.name)]
    for name in names:
        if len(parts) > 1 and _PART.fullmatch(name):
            continue  # one of several parts is not the whole
        for ending in ("", *ARCHIVES):
            path = there.get((name + ending).lower())
            usable = path is not None and (path.is_file() or any(path.iterdir()))
            if usable and (path.is_dir() or ending or path.suffix):
                return path
    itself = root.name.lower() in known or len(parts) > 1 or _holds_images(root)
    return root if itself else None


def _holds_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(e.name.lower().endswith(ENDINGS) and e.is_file() for e in entries)


def _open_wrappers(folder: Path, names: Sequence[str]) -> Path:
    """Step into a folder of a known name, or the only one there, while no image is beside it."""
    while not _holds_images(folder):
        visible = [p for p in sorted(folder.iterdir()) if not p.name.startswith(_HIDDEN)]
        inner = {p.name.lower(): p for p in visible if p.is_dir() and not _PART.fullmatch(p.name)}
        named = [inner[name.lower()] for name in names if name.lower() in inner]
        chosen = named or (list(inner.values()) if len(visible) == 1 else [])
        if not chosen:
            break
        folder = chosen[0]
    return folder
