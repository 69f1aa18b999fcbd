"""Getting the data sets: from Kaggle, or from their authors' server."""

import shutil
from collections import namedtuple
from pathlib import Path

import requests

from utils.datasets import load, utkface, utkface_csv, wiki
from utils.datasets.archives import check_room, list_images
from utils.datasets.progress import progress_bar
from utils.datasets.table import FaceSet
from utils.files import DataError, no_room, write_aside
from utils.paths import data_dir

_WAIT = 60  # seconds without an answer after which a download stops
_UTKFACE = "https://susanqq.github.io/UTKFace/"
_WIKI = "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/"
_CSV = "nipunarora8/age-gender-and-ethnicity-face-data-csv"
# Kaggle's owner/name or a URL; the name under data/raw; faces of the published set before cleaning.
Source = namedtuple("Source", "address target expected terms page")
SOURCES = {
    "utkface": Source("jangedoo/utkface-new", "UTKFace", 23708, utkface.TERMS, _UTKFACE),
    "utkface-csv": Source(_CSV, "age_gender.csv", 23705, utkface_csv.TERMS, _UTKFACE),
    "wiki": Source(_WIKI + "static/wiki_crop.tar", "wiki_crop.tar", 62328, wiki.TERMS, _WIKI),
}


def fetch(name: str, folder: Path | None = None, force: bool = False) -> FaceSet:
    """Get one of ``SOURCES`` into `folder`, check it, and say where it came from under what terms.

    By default it goes to ``FACES_DATA_DIR`` or ``data/raw``; `force` gets it again. Returns what
    the loader makes of it; a DataError says why it cannot be had, or cannot be read.
    """
    if name not in SOURCES:
        raise ValueError(f"data set {name!r} cannot be fetched; expected one of {sorted(SOURCES)}")
    source, target = SOURCES[name], Path(folder or data_dir()) / SOURCES[name].target
    is_url = "://" in source.address
    print(f"source  {source.address if is_url else 'kaggle.com/datasets/' + source.address}")
    print(f"        described at {source.page}\nterms   {source.terms}")
    if target.exists() and not force:
        print(f"there   {target} (--force gets it again)")
    else:
        (download if is_url else fetch_kaggle)(source.address, target, force)
    faces = load(name.replace("-", "_"), target)
    seen = int(faces.steps["faces"].iloc[0])
    print(f"got     {target}: {seen:,} faces, {len(faces):,} of them usable")
    if seen != source.expected:
        print(f"note    the published set has {source.expected:,}: another version, or incomplete")
    return faces


def fetch_kaggle(handle: str, target: Path, force: bool = False) -> Path:
    """Download ``owner/name`` from Kaggle and copy what is named like `target` out of it."""
    try:
        import kagglehub  # only here: the study itself does not need it

        got = Path(kagglehub.dataset_download(handle, force_download=force))
    except Exception as error:  # kagglehub passes on whatever its network layer raises
        told = f"Kaggle did not deliver {handle} ({type(error).__name__}: {str(error)[:100]}); "
        lacks = isinstance(error, ImportError)
        told += "`pip install kagglehub`" if lacks else "check the network, and Kaggle's login"
        told += ", or download the set with a browser (data/README.md has the address)"
        raise DataError(told) from None
    found = min(got.rglob(target.name), key=lambda path: (len(path.parts), path), default=None)
    if found is None:
        told = f"{handle} came without {target.name} (in {got}); its layout may have changed"
        raise DataError(f"{told}: copy the data to {target} by hand")
    files = [found] if found.is_file() else list_images(found)[0].values()
    needed = sum(path.stat().st_size for path in files)
    check_room(target.parent, needed, f"copying {target.name}", "FACES_DATA_DIR")
    with write_aside(target) as aside:
        (shutil.copytree if found.is_dir() else shutil.copyfile)(found, aside)
    print(f"kept    Kaggle's own copy is in {got}; it can be deleted")
    return target


def download(url: str, target: Path, restart: bool = False) -> Path:
    """Download a file to `target`, whole or not at all; go on where an earlier attempt stopped.

    What has come is kept in ``.<name>.part`` beside it (`restart` forgets it); the server is asked
    for the rest if its file is unchanged. A DataError tells of a server that cannot be reached or
    stops early, and of a disk too small.
    """
    # Not pooch: it begins a download that was cut short anew.
    part, tag = (target.with_name(f".{target.name}.{kind}") for kind in ("part", "tag"))
    target.parent.mkdir(parents=True, exist_ok=True)
    if restart or not tag.is_file():
        part.unlink(missing_ok=True)
    try:
        total = _receive(url, part, tag)
    except requests.RequestException as error:
        told = f"{url} cannot be downloaded ({str(error)[:200]}); check the network and run it "
        raise DataError(f"{told}again to go on, or put the file at {target} by hand") from None
    except OSError as error:
        raise no_room(f"{target} cannot be written ({error})", "FACES_DATA_DIR") from None
    size = part.stat().st_size
    if total and size != total:
        if size > total:
            part.unlink()
        raise DataError(f"{url}: {size:,} of {total:,} bytes came; run it again to go on")
    part.replace(target)
    tag.unlink(missing_ok=True)
    return target


def _receive(url: str, part: Path, tag: Path) -> int:
    """Append to `part` what is missing; the announced size of the whole file, or 0."""
    have = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "faces-study", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text()} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=_WAIT) as answer:
        if answer.status_code == 416:  # nothing is missing
            return int(answer.headers["Content-Range"].rpartition("/")[2])
        answer.raise_for_status()
        have = have if answer.status_code == 206 else 0
        rest = int(answer.headers.get("Content-Length", 0))
        check_room(part.parent, rest, f"downloading {url}", "FACES_DATA_DIR")
        tag.write_text(answer.headers.get("ETag", ""))
        if not answer.headers.get("ETag"):  # an unchanged file could not be told from a new one
            tag.unlink()
        title = url.rpartition("/")[2]
        bar = progress_bar(total=rest or None, desc=title, unit="B", unit_scale=True)
        with bar, open(part, "ab" if have else "wb") as out:
            for block in answer.iter_content(1 << 16):
                bar.update(out.write(block))
    return have + rest
