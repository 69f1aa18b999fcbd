"""Show a figure or a table in a notebook together with its caption.

The caption travels in the output's metadata; the article numbers and prints it.
"""

from IPython.display import display


def show(thing, caption: str = "", alt: str = "") -> None:
    """Display `thing` with a caption that the HTML article prints below it.

    Parameters
    ----------
    thing : matplotlib Figure, pandas DataFrame or anything that a notebook can show
    caption : str
        One or two sentences: what it shows and for how many faces.
    alt : str
        Text for those who cannot see the picture; default: the caption.
    """
    display(thing, metadata={"caption": caption, "alt": alt or caption})
    if hasattr(thing, "savefig"):
        import matplotlib.pyplot as plt

        plt.close(thing)  # else the inline backend shows it a second time


__all__ = ["show"]
