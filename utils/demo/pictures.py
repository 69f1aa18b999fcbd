"""Pictures from strangers: decode what is safe, refuse the rest with one clear sentence."""

import io

from PIL import Image, UnidentifiedImageError

from utils.datasets.pictures import open_rgb
from utils.files import DataError

MAX_BYTES = 10_000_000
MAX_PIXELS = 50_000_000  # as header says, before anything is decoded
MAX_SCANS = 100  # of a progressive JPEG, each of which costs a pass over all pixels:
MAX_PASSES = 1_000_000_000  # pixels in all scans, a second's work
MAX_READS = 100_000  # a good file of 10 MB needs a tenth; fill and empty chunks cost one each
WORKING_SIDE = 2048  # larger pictures are shrunk: a face needs 200 pixels
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
TOO_LARGE = (413, "too_large", f"Send a file of at most {MAX_BYTES // 1_000_000} MB as 'image'.")
TOO_COSTLY = (422, "too_costly", "The picture costs too much to decode; save it anew or smaller.")


class Refused(DataError):
    """A request that cannot be answered: HTTP status, a word for programs, more headers."""

    def __init__(self, status: int, code: str, message: str, headers: dict | None = None):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}

    def __reduce__(self):  # so that it comes out of a child process
        return Refused, (self.status, self.code, str(self), self.headers)


class _Counted(io.BytesIO):
    """A file in memory that may be read a limited number of times."""

    reads = 0

    def read(self, *size) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise Refused(*TOO_COSTLY)
        return super().read(*size)


def decode(content: bytes) -> tuple[Image.Image, tuple[int, int]]:
    """Decode a JPEG, PNG, WebP, GIF (first frame) or BMP, or say why it is refused.

    Upright, as RGB of at most WORKING_SIDE pixels a side without metadata; and the size it had.
    """
    if not content:
        raise Refused(400, "empty", "The file is empty.")
    if len(content) > MAX_BYTES:
        raise Refused(*TOO_LARGE)
    try:
        file = _Counted(content)
        width, height = _inspect(file)
        image = open_rgb(file, upright=True, formats=FORMATS)
    except Refused:
        raise
    except UnidentifiedImageError:
        told = "This is not a picture that can be read; send JPEG, PNG, WebP, GIF or BMP, no HEIC."
        raise Refused(415, "not_a_picture", told) from None
    except Exception:  # Pillow's readers raise whatever a hostile file provokes
        message = "The picture cannot be decoded: it is damaged, or needs too much memory."
        raise Refused(422, "broken", message) from None
    if (image.width > image.height) != (width > height):  # it was turned on its side
        width, height = height, width
    image.thumbnail((WORKING_SIDE,) * 2, Image.Resampling.BILINEAR, reducing_gap=2.0)
    clean = Image.new("RGB", image.size)  # pixels only: no EXIF, no comments, no profile
    clean.paste(image)
    return clean, (width, height)


def _inspect(file: io.BytesIO) -> tuple[int, int]:
    """Size by the header, before anything is decoded; one that costs too much is refused."""
    picture = Image.open(file, formats=FORMATS)
    width, height = picture.size
    if width * height > MAX_PIXELS:
        told = f"{width} x {height} pixels; at most {MAX_PIXELS // 1_000_000} million are read."
        raise Refused(413, "too_many_pixels", f"The picture has {told}")
    # A small file may hold a decoder for many seconds.
    scans = file.getvalue().count(b"\xff\xda") if picture.format in ("JPEG", "MPO") else 0
    run_lengths = picture.format == "BMP" and picture.info.get("compression", 0) in (1, 2)
    if scans > MAX_SCANS or scans * width * height > MAX_PASSES or run_lengths:
        raise Refused(*TOO_COSTLY)
    return width, height
