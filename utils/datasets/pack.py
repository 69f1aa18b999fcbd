"""UTKFace as one small archive, to carry to a machine that reaches no network."""

import io
import zipfile
from functools import partial
from pathlib import Path

from utils.datasets.pictures import resized
from utils.datasets.progress import in_threads
from utils.datasets.table import FaceSet
from utils.files import DataError, write_aside

QUALITY = 85  # of WebP: 128 pixels then take 2 kB, and differ by 2 of 255 on average


def _small(faces: FaceSet, size: int, image: str) -> bytes:
    """A picture of `size` x `size` pixels as WebP."""
    content = io.BytesIO()
    resized(faces.read(image), size).save(content, "WEBP", quality=QUALITY)
    return content.getvalue()


def pack(faces: FaceSet, size: int, to: Path | str, progress: bool = True) -> Path:
    """Write the faces of UTKFace, `size` pixels a side, into the zip `to`; return its path.

    Names, and so labels and split, stay as they are. The archive can be FACES_DATA_DIR itself.
    """
    if faces.name != "utkface":
        raise DataError(f"pack: saw {faces.name}; expected utkface, whose names carry its labels")
    names, to = faces.table["image"].tolist(), Path(to).with_suffix(".zip")
    with write_aside(to) as aside, zipfile.ZipFile(aside, "w") as archive:
        pictures = in_threads(partial(_small, faces, size), names, f"pack {size} px", progress)
        for name, content in zip(names, pictures, strict=True):
            archive.writestr(f"UTKFace/{name}", content)
    return to
