"""The one place that opens a picture: of any kind, turned upright, or with the reason why not."""

import errno
import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from utils.files import DataError

Image.init()
warnings.filterwarnings("ignore", module="PIL")  # a damaged file may provoke tens of thousands
# Without this list any of Pillow's forty decoders may claim a file, whatever its name says.
_KINDS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM", "TGA")
FORMATS = tuple(kind for kind in _KINDS if kind in Image.OPEN)
_BY_ENDING = Image.registered_extensions().items()
ENDINGS = tuple(sorted(ending for ending, kind in _BY_ENDING if kind in (*FORMATS, "MPO")))
# Pictures by their ending, which cannot be opened here: listed, never passed over.
_OTHERS = ".arw .avif .cr2 .cr3 .dcx .dds .dib .dng .emf .eps .exr .hdr .heic .heif .hif .icns .ico"
_OTHERS += " .jxl .jxr .nef .nrw .orf .pcx .pef .psd .qoi .raf .ras .raw .rgb .rw2 .sgi .srw .svg"
_OTHERS += " .wmf .xbm .xcf .xpm"
UNREAD = tuple(set(_OTHERS.split()) - set(ENDINGS))
IMAGE_MODES = ("colour", "grey", "colour48", "grey48")
_TOLD = {FileNotFoundError: "file is missing", UnidentifiedImageError: "not a picture"}
_TOLD |= {Image.DecompressionBombError: "picture has too many pixels"}
_ORIENTATION = 0x0112
_TURN = Image.Transpose
_TURNS = dict(enumerate((_TURN.FLIP_LEFT_RIGHT, _TURN.ROTATE_180, _TURN.FLIP_TOP_BOTTOM), start=2))
_TURNS |= {5: _TURN.TRANSPOSE, 6: _TURN.ROTATE_270, 7: _TURN.TRANSVERSE, 8: _TURN.ROTATE_90}


def open_rgb(source, upright: bool = False, formats: tuple = FORMATS) -> Image.Image:
    """Open a picture, a file or its content (bytes), as 8-bit RGB, whatever its mode.

    Grey, CMYK, palette and transparent pictures are converted (transparent parts become white);
    16-bit grey and numbers in 0..1 are scaled to 0..255. With `upright` the pixels are turned as
    the EXIF orientation says, as photographs need it; one that cannot be read means upright. Data
    sets are read as they are stored. A DataError says in few words why a file is no picture.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(file, formats=formats) as picture:
            picture.load()
            turn = _TURNS.get(_orientation(picture)) if upright else None
            picture = _rgb(picture)
            return picture if turn is None else picture.transpose(turn)
    except DataError:
        raise
    except Exception as error:  # decoders raise many kinds; one bad picture must not end a run
        locked = getattr(error, "errno", None) in (errno.EACCES, errno.EISDIR, errno.EIO)
        kind = "file cannot be opened" if locked else "broken picture"
        told = f"{kind}: {' '.join(str(error).split())[:80]}"
        raise DataError(_TOLD.get(type(error), told)) from None


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none that can be read."""
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
        value = value[0] if isinstance(value, tuple | list) else value
        if isinstance(value, bytes):  # one number, or a digit
            value = value[0] if len(value) == 1 and value[0] < 9 else value.decode()
        return int(float(str(value).strip("\0 ")))
    except Exception:  # any field may be damaged, in ways that Pillow does not foresee
        return 1


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _eight_bits(picture)
    elif picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or of real numbers, as 8 bits by the range of its values."""
    values = np.asarray(picture)
    low, high = values.min(), values.max()
    if not (0 <= low and high <= 65535):  # NaN is neither
        raise DataError(
            f"pixels run from {low:g} to {high:g}; expected 0 to 1, 0 to 255 or 0 to 65535"
        )
    factor = 255.0 if picture.mode == "F" and high <= 1 else 1.0
    if picture.mode.startswith("I;16") or high > 255:
        factor = 1 / 257
    # Half the memory of float64, which matters for 50 million pixels.
    values = np.multiply(values, factor, dtype=np.float32)
    return Image.fromarray(np.rint(values, out=values).astype(np.uint8))


def in_mode(picture: Image.Image, image_mode: str) -> Image.Image:
    """Take colour (``grey``: three equal channels) or detail (``48``: 48 x 48 pixels) from an RGB.

    >>> in_mode(Image.new("RGB", (200, 200), "red"), "grey48").getpixel((0, 0))
    (76, 76, 76)
    """
    if image_mode not in IMAGE_MODES:
        raise ValueError(f"image mode {image_mode!r} is unknown; expected one of {IMAGE_MODES}")
    if image_mode.startswith("grey"):
        picture = picture.convert("L").convert("RGB")
    return resized(picture, 48) if "48" in image_mode else picture


def resized(picture: Image.Image, side: int) -> Image.Image:
    """A picture of `side` x `side` pixels, as every network of the study gets it."""
    # Pillow widens the bilinear filter when it shrinks, so nothing aliases.
    return picture.resize((side, side), Image.Resampling.BILINEAR)
