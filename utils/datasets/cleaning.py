"""Opening pictures of any kind, and why a picture cannot be used."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.datasets.facetable import DataError


def open_rgb(source: Path | str | bytes, upright: bool = False) -> Image.Image:
    """Open a picture as 8-bit RGB, whatever its mode.

    Grey, CMYK, palette and transparent pictures are converted; 16-bit grey is scaled to 8 bits
    rather than cut off.

    Parameters
    ----------
    source : Path, str or bytes
        A file or its content.
    upright : bool
        Turn the picture as its EXIF orientation says, as photographs need it. Data sets are read
        as they are stored.

    Raises
    ------
    DataError
        If the file is empty, truncated or no picture; the message is the reason, in few words.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(file) as picture:
            picture.load()
            if upright:
                picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I") or picture.mode == "F":
                values = np.asarray(picture, dtype=np.float64)
                scale = 257.0 if picture.mode.startswith("I;16") or values.max() > 255 else 1.0
                picture = Image.fromarray((values / scale).clip(0, 255).astype(np.uint8))
            elif picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            return picture.convert("RGB")
    except FileNotFoundError:
        raise DataError("file is missing") from None
    except UnidentifiedImageError:
        raise DataError("not a picture") from None
    except Image.DecompressionBombError:
        raise DataError("picture has too many pixels") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"broken picture: {str(error)[:80]}") from None
