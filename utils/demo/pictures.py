"""Pictures from strangers: decode what is safe, refuse the rest with one clear sentence."""

import io
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from utils.datasets.pictures import open_rgb
from utils.files import DataError

MAX_BYTES = 10_000_000
MAX_PIXELS = 50_000_000  # as header says, before anything is decoded
MAX_SCANS = 100  # of a progressive JPEG, each of which costs a pass over all pixels
WORKING_SIDE = 2048  # larger pictures are shrunk: a face needs 200 pixels
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")


class Refused(Exception):
    """A request that cannot be answered: HTTP status, a word for programs, more headers."""

    def __init__(self, status: int, code: str, message: str, headers: dict | None = None):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright."""

    image: Image.Image  # RGB without metadata, at most WORKING_SIDE pixels a side
    size: tuple[int, int]  # width and height of the original, upright

    def box(self, box) -> list[int]:
        """x, y, width, height in `image` as pixels of the original."""
        x, y = self.size[0] / self.image.width, self.size[1] / self.image.height
        return [round(value * scale) for value, scale in zip(box, (x, y, x, y), strict=True)]


def decode(content: bytes) -> Picture:
    """Decode a JPEG, PNG, WebP, GIF (first frame) or BMP, or say why it is refused."""
    if not content:
        raise Refused(400, "empty", "The file is empty.")
    if len(content) > MAX_BYTES:
        raise too_many_bytes()
    width, height = _inspect(content)
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(f"{width} x {height} pixels")
    try:
        image = open_rgb(content, upright=True)
    except (DataError, MemoryError):
        raise _broken() from None
    if (image.width > image.height) != (width > height):  # it was turned on its side
        width, height = height, width
    image.thumbnail((WORKING_SIDE,) * 2, Image.Resampling.BILINEAR, reducing_gap=2.0)
    clean = Image.new("RGB", image.size)  # pixels only: no EXIF, no comments, no profile
    clean.paste(image)
    return Picture(clean, (width, height))


def too_many_bytes() -> Refused:
    """The refusal of a file that is too long."""
    return Refused(413, "too_large", f"The file is larger than {MAX_BYTES // 1_000_000} MB.")


def _too_many_pixels(seen: str) -> Refused:
    most = f"at most {MAX_PIXELS // 1_000_000} million are read"
    return Refused(413, "too_many_pixels", f"The picture has {seen}; {most}.")


def _broken() -> Refused:
    return Refused(422, "broken", "The picture is damaged and cannot be decoded.")


def _inspect(content: bytes) -> tuple[int, int]:
    """Size by the header, before anything is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                size, costly = picture.size, _is_costly(picture, content)
    except Image.DecompressionBombError:
        raise _too_many_pixels("too many pixels") from None
    except UnidentifiedImageError:
        raise _unknown(content) from None
    except Exception:  # Pillow's readers raise whatever a hostile file provokes
        raise _broken() from None
    if costly:
        raise Refused(422, "too_costly", "The picture takes too long to decode; save it anew.")
    return size


def _is_costly(picture: Image.Image, content: bytes) -> bool:
    """Whether a small file may hold a decoder for many seconds."""
    if picture.format == "BMP":
        return picture.info.get("compression", 0) in (1, 2)  # run lengths
    return picture.format in ("JPEG", "MPO") and content.count(b"\xff\xda") > MAX_SCANS


def _unknown(content: bytes) -> Refused:
    message = "This is not a picture that can be read; send a JPEG, PNG, WebP, GIF or BMP."
    if content[4:12] in _HEIC:
        message = "This is a HEIC photograph, which is not read here; save it as JPEG."
    return Refused(415, "not_a_picture", message)
