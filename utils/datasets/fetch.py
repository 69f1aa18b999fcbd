"""Getting the data sets: from Kaggle, or from their authors' server."""

import errno
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from utils.datasets import utkface, utkface_csv, wiki
from utils.datasets.archives import check_free, list_images
from utils.datasets.facetable import DataError, FaceSet
from utils.files import write_aside
from utils.paths import data_dir

WIKI_URL = "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/static/wiki_crop.tar"
_BLOCK = 1 << 20
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
_WAIT = 60  # seconds without an answer after which a download stops


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes
    ----------
    address : str
        Kaggle's ``owner/name``, or a URL.
    target : str
        Name under ``data/raw``.
    terms : str
        One line on licence and use.
    page : str
        Where the authors describe the set.
    expected : int
        Images or rows before cleaning in the published set.
    load : callable
        The loader.
    """

    address: str
    target: str
    terms: str
    page: str
    expected: int
    load: Callable[[Path | None], FaceSet]


SOURCES = {
    "utkface": Source(
        "jangedoo/utkface-new", "UTKFace", utkface.TERMS,
        "https://susanqq.github.io/UTKFace/", 23708, utkface.load_utkface),
    "utkface-csv": Source(
        "nipunarora8/age-gender-and-ethnicity-face-data-csv", "age_gender.csv", utkface_csv.TERMS,
        "https://susanqq.github.io/UTKFace/", 23705, utkface_csv.load_utkface_csv),
    "wiki": Source(
        WIKI_URL, "wiki_crop.tar", wiki.TERMS,
        "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/", 62328, wiki.load_wiki),
}  # fmt: skip


def fetch(name: str, folder: Path | None = None, force: bool = False) -> FaceSet:
    """Get a data set, check it, and say where it came from and under what terms.

    Parameters
    ----------
    name : {"utkface", "utkface-csv", "wiki"}
    folder : Path, optional
        Where it goes; by default ``FACES_DATA_DIR`` or ``data/raw``.
    force : bool
        Get it again, even if it is there.

    Returns
    -------
    FaceSet
        What the loader makes of it.

    Raises
    ------
    DataError
        If it cannot be had, or cannot be read.
    """
    if name not in SOURCES:
        raise ValueError(f"data set {name!r} cannot be fetched; expected one of {sorted(SOURCES)}")
    source, folder = SOURCES[name], Path(folder) if folder else data_dir()
    is_url = "://" in source.address
    print(f"source  {source.address if is_url else 'kaggle.com/datasets/' + source.address}")
    print(f"        described at {source.page}")
    print(f"terms   {source.terms}")
    target = folder / source.target
    if target.exists() and not force:
        print(f"there   {target} (--force gets it again)")
    elif is_url:
        download(source.address, target, restart=force)
    else:
        fetch_kaggle(source.address, target, force)
    faces = source.load(target)
    _report(faces, source, target)
    return faces


def _report(faces: FaceSet, source: Source, target: Path) -> None:
    seen = int(faces.steps["faces"].iloc[0])
    print(f"got     {target}: {seen:,} faces, {len(faces):,} of them usable")
    if seen != source.expected:
        print(
            f"note    the published set has {source.expected:,}; {seen:,} were found: "
            "it may be another version or incomplete"
        )


# -- Kaggle ------------------------------------------------------------------------------------


def _kagglehub():
    try:
        import kagglehub  # only here: the study itself does not need it
    except ImportError:
        raise DataError(
            "kagglehub is not installed; run `pip install kagglehub` and try again, or download "
            "the set with a browser (data/README.md has the address)"
        ) from None
    return kagglehub


def fetch_kaggle(handle: str, target: Path, force: bool = False) -> Path:
    """Download a Kaggle set and copy the file or folder named like `target` out of it.

    Parameters
    ----------
    handle : str
        ``owner/name`` on Kaggle.
    target : Path
        Where it goes; its name is what is looked for in the download.
    force : bool
        Download it again, even if Kaggle's own cache has it.
    """
    kagglehub = _kagglehub()
    try:
        got = Path(kagglehub.dataset_download(handle, force_download=force))
    except Exception as error:  # kagglehub passes on whatever its network layer raises
        raise DataError(
            f"Kaggle did not deliver {handle} ({type(error).__name__}: {str(error)[:100]}); check "
            "the network, and Kaggle's login if it asks for one, or download it with a browser"
        ) from None
    found = sorted(got.rglob(target.name), key=lambda path: (len(path.parts), path))
    if not found:
        raise DataError(
            f"{handle} came without {target.name} (in {got}); its layout may have "
            f"changed: copy the data to {target} by hand"
        )
    _copy(found[0], target)
    print(f"kept    Kaggle's own copy is in {got}; it can be deleted")
    return target


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum((path / name).stat().st_size for name in list_images(path))


def _copy(source: Path, target: Path) -> None:
    check_free(target.parent, _size(source), f"copying {target.name}", "FACES_DATA_DIR")
    try:
        with write_aside(target) as aside:
            if source.is_dir():
                shutil.copytree(source, aside)
            else:
                shutil.copyfile(source, aside)
    except OSError as error:
        raise DataError(
            f"{target} cannot be written ({error}); free some space, or set "
            "FACES_DATA_DIR to another disk"
        ) from None


# -- A file from a server ----------------------------------------------------------------------


def download(url: str, target: Path, restart: bool = False) -> Path:
    """Download a file; go on where an earlier attempt stopped.

    What has come so far is kept in ``.<name>.part`` beside `target` and renamed at the end, so
    `target` is whole or absent. The server is asked for the rest only if its file is unchanged.

    Parameters
    ----------
    url : str
    target : Path
        Final name.
    restart : bool
        Forget an earlier attempt.

    Raises
    ------
    DataError
        If the server cannot be reached, the disk is too small, or the size is not the announced
        one.
    """
    part, tag = target.with_name(f".{target.name}.part"), target.with_name(f".{target.name}.tag")
    target.parent.mkdir(parents=True, exist_ok=True)
    if restart or not tag.is_file():
        part.unlink(missing_ok=True)
    try:
        total = _receive(url, part, tag)
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "errno", None) in _DISK:
            raise DataError(
                f"{target} cannot be written ({error}); free some space, or set "
                "FACES_DATA_DIR to another disk"
            ) from None
        raise DataError(
            f"{url} cannot be downloaded ({error}); check the network and run it "
            f"again to go on, or put the file at {target} by hand"
        ) from None
    size = part.stat().st_size
    if total is not None and size != total:
        if size > total:
            part.unlink()
        raise DataError(f"{url}: {size:,} of {total:,} bytes came; run it again to go on")
    part.replace(target)
    tag.unlink(missing_ok=True)
    return target


def _receive(url: str, part: Path, tag: Path) -> int | None:
    """Append to `part` what is missing; return the announced size, or None."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "faces-study"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag.read_text())
    try:
        answer = urllib.request.urlopen(request, timeout=_WAIT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send: all of it came before
            return _total(error.headers.get("Content-Range", ""))
        raise
    with answer:
        if answer.status == 206:
            total = _total(answer.headers.get("Content-Range", ""))
            if not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink()
                raise DataError(f"{url}: the server sent another part than asked; run it again")
        else:  # the whole file, from its start
            have, total = 0, int(answer.headers.get("Content-Length", 0)) or None
        # Without a mark of the file's state an unfinished download cannot be trusted later.
        mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        tag.write_text(mark) if mark else tag.unlink(missing_ok=True)
        check_free(part.parent, (total or 0) - have, f"downloading {url}", "FACES_DATA_DIR")
        _save(answer, part, have, total)
    return total


def _save(answer, part: Path, have: int, total: int | None) -> None:
    bar = tqdm(
        total=total,
        initial=have,
        desc=part.name.strip(".").removesuffix(".part"),
        unit="B",
        unit_scale=True,
        mininterval=1.0,
    )
    with bar, open(part, "ab" if have else "wb") as file:
        while block := answer.read(_BLOCK):
            file.write(block)
            bar.update(len(block))


def _total(content_range: str) -> int | None:
    """The size from ``bytes 5-9/10`` or ``bytes */10``."""
    size = content_range.rpartition("/")[2]
    return int(size) if size.isdigit() else None
