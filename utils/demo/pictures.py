"""Pictures from strangers: decode what is safe, refuse the rest with one clear sentence."""

import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

from utils.datasets.cleaning import open_rgb
from utils.datasets.facetable import DataError

MAX_BYTES = 10_000_000
MAX_PIXELS = 50_000_000  # as header says, before anything is decoded
WORKING_SIDE = 2048  # larger pictures are shrunk: a face needs 200 pixels
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")


class Refused(Exception):
    """A request that cannot be answered.

    Attributes
    ----------
    status : int
        HTTP status.
    code : str
        A word for programs.
    headers : dict
        More headers of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: dict | None = None):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright.

    Attributes
    ----------
    image : PIL.Image
        RGB without metadata, at most WORKING_SIDE pixels a side.
    size : tuple of int
        Width and height of the original, upright.
    """

    image: Image.Image
    size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Pixels of the original per pixel of `image`."""
        return self.size[0] / self.image.width


def decode(content: bytes) -> Picture:
    """Decode a picture by its content; its name plays no part.

    Parameters
    ----------
    content : bytes
        A JPEG, PNG, WebP, GIF (its first frame) or BMP file.

    Raises
    ------
    Refused
        If it is empty, too large, of another format, or broken.
    """
    if not content:
        raise Refused(400, "empty", "The file is empty.")
    if len(content) > MAX_BYTES:
        raise too_many_bytes()
    size, turned = _inspect(content)
    if size[0] * size[1] > MAX_PIXELS:
        raise Refused(
            413,
            "too_many_pixels",
            f"The picture has {size[0]} x {size[1]} pixels; "
            f"at most {MAX_PIXELS // 1_000_000} million are read.",
        )
    try:
        image = ImageOps.exif_transpose(_load(content))
    except (DataError, OSError, ValueError, SyntaxError, EOFError, MemoryError, OverflowError):
        raise Refused(422, "broken", "The picture is damaged and cannot be decoded.") from None
    upright = size[::-1] if turned else size
    clean = Image.new("RGB", image.size)  # pixels only: no EXIF, no comments, no profile
    clean.paste(image)
    return Picture(clean, upright)


def too_many_bytes() -> Refused:
    """The refusal of a file that is too long."""
    return Refused(413, "too_large", f"The file is larger than {MAX_BYTES // 1_000_000} MB.")


def _inspect(content: bytes) -> tuple[tuple[int, int], bool]:
    """Size by the header, and whether EXIF turns the picture on its side."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                return picture.size, picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Image.DecompressionBombError:
        raise Refused(
            413,
            "too_many_pixels",
            f"The picture has more than {MAX_PIXELS // 1_000_000} million pixels.",
        ) from None
    except UnidentifiedImageError:
        raise _unknown(content) from None
    except Exception:  # Pillow's readers raise whatever a hostile file provokes
        raise Refused(422, "broken", "The picture is damaged and cannot be decoded.") from None


def _unknown(content: bytes) -> Refused:
    if content[4:12] in _HEIC:
        message = "This is a HEIC photograph, which is not read here; save it as JPEG."
    else:
        message = "This is not a picture that can be read; send a JPEG, PNG, WebP, GIF or BMP."
    return Refused(415, "not_a_picture", message)


def _load(content: bytes) -> Image.Image:
    """Decode, shrink to WORKING_SIDE, as RGB, with EXIF kept for the turn."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        exif = picture.getexif()
        if picture.format in ("JPEG", "MPO"):
            # JPEG can be decoded at 1/2, 1/4 or 1/8: far less work for a large photograph.
            picture.draft(None, (WORKING_SIDE, WORKING_SIDE))
        plain = picture.mode == "RGB"
        image = picture.convert("RGB") if plain else open_rgb(content)
    image.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    image.info["exif"] = exif.tobytes() if exif else b""
    return image
