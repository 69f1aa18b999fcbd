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


def _small(faces: FaceSet, size: int, like: str, image: str) -> bytes | None:
    """A picture of `size` x `size` pixels as WebP; None if it is to be cut and shows no face."""
    picture, content = faces.read(image), io.BytesIO()
    if like:
        from utils.faces import crop_like_training, frame_of, locate  # the detector loads slowly

        face = locate(picture)
        if face is None:
            return None
        picture = crop_like_training(picture, face.box, face.landmarks, frame=frame_of(like))
    resized(picture, size).save(content, "WEBP", quality=QUALITY)
    return content.getvalue()


def pack(
    faces: FaceSet, size: int, to: Path | str, like: str = "", progress: bool = True
) -> tuple[Path, int]:
    """Write the faces of UTKFace or WIKI, `size` pixels a side, into the zip `to`.

    Names, and so labels and split, stay as they are. The archive can be FACES_DATA_DIR itself. With
    `like`, another data set, each face is found and cut as in that one. Returns the path and how
    many pictures were left out because no face was found in them.
    """
    if faces.name not in _FOLDERS:
        told = f"expected one of {list(_FOLDERS)}, whose names carry their labels"
        raise DataError(f"pack: saw {faces.name}; {told}")
    table, to, left_out = faces.table, Path(to).with_suffix(".zip"), 0
    make = partial(_small, faces, size, like)
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
