"""A data set as one small archive: to carry to a machine that reaches no network, or cut anew."""

import io
import zipfile
from functools import partial
from pathlib import Path

from utils.datasets.pictures import resized
from utils.datasets.progress import in_threads
from utils.datasets.table import FaceSet
from utils.files import DataError, write_aside

QUALITY = 85  # of WebP: 128 pixels then take 2 kB, and differ by 2 of 255 on average
_FOLDERS = {"utkface": "UTKFace", "wiki": "wiki_crop"}  # sets whose names carry their labels


def _small(faces: FaceSet, size: int, cut, image: str) -> bytes | None:
    """A picture of `size` x `size` pixels as WebP; None if it is to be cut and shows no face."""
    picture, content = cut(faces.read(image)), io.BytesIO()
    if picture is None:
        return None
    resized(picture, size).save(content, "WEBP", quality=QUALITY)
    return content.getvalue()


def pack(
    faces: FaceSet, size: int, to: Path | str, cut=lambda picture: picture, progress: bool = True
) -> tuple[Path, int]:
    """Write the faces of UTKFace or WIKI, `size` pixels a side, into the zip `to`.

    Names, and so labels and split, stay as they are. The archive can be FACES_DATA_DIR itself.
    `cut` makes of each picture what is packed, or None where there is no face
    (`utils.faces.cutter`). Returns the path and how many pictures were left out for that.
    """
    if faces.name not in _FOLDERS:
        told = f"expected one of {list(_FOLDERS)}, whose names carry their labels"
        raise DataError(f"pack: saw {faces.name}; {told}")
    table, to, left_out = faces.table, Path(to).with_suffix(".zip"), 0
    make = partial(_small, faces, size, cut)
    with write_aside(to) as aside, zipfile.ZipFile(aside, "w") as archive:
        pictures = in_threads(make, table["image"].tolist(), f"pack {size} px", progress)
        for name, content in zip(table["image"], pictures, strict=True):
            if content is None:
                left_out += 1
            else:
                archive.writestr(f"{_FOLDERS[faces.name]}/{name}", content)
        if faces.name == "wiki" and table["gender"].notna().any():
            code = table["gender"].map({"female": 0, "male": 1})
            known = table[["image"]].set_axis(["full_path"], axis=1).assign(gender=code)
            archive.writestr("wiki_meta.csv", known.to_csv(index=False))
    return to, left_out
