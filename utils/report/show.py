"""Show a figure or a table in a notebook together with its caption.

The caption travels in the output's metadata, where the article finds, numbers and prints it; for
readers of the notebook itself it stands below as text.
"""

import base64
import io

import pandas as pd
from IPython.display import Markdown, display

_DPI = 150  # sharp on screens with small pixels
_WIDTH = 100  # pixels shown for an inch of figure


def show(thing, caption: str = "", alt: str = "") -> None:
    """Display `thing` with a caption.

    Parameters
    ----------
    thing : matplotlib Figure, pandas DataFrame or anything that a notebook can show
    caption : str
        One or two sentences: what it shows and for how many faces. Default: that of a figure of
        `utils.plots`.
    alt : str
        Text for those who cannot see the picture; default: the figure's finding and caption.
    """
    if hasattr(thing, "savefig"):
        caption = caption or getattr(thing, "caption", "")
        finding = getattr(thing, "finding", "")
        alt = alt or ". ".join(text for text in (finding, caption) if text)
        _figure(thing, caption, alt)
    else:
        with pd.option_context(*_TABLES):
            display(thing, metadata={"caption": caption, "alt": alt or caption})
    if caption:
        display(Markdown(f"*{caption}*"), metadata={"repeats_caption": True})


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


_TABLES = (
    *("display.max_colwidth", None),
    *("display.max_columns", None),
    *("display.float_format", _short),
)


def _figure(figure, caption: str, alt: str) -> None:
    # As bytes: no need of a backend, and no second copy from pyplot.
    if hasattr(figure, "caption"):
        figure.supxlabel("")  # it is printed below the picture
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": alt}
    size = {"width": round(figure.get_figwidth() * _WIDTH)}
    metadata = {"caption": caption, "alt": alt, "image/png": size}
    display(data, raw=True, metadata=metadata)


__all__ = ["show"]
