"""Progress that a terminal shows live, and a log or a page at most every ten seconds."""

import sys
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

_QUIET = 10  # seconds between two lines where nobody watches


def progress_bar(steps=None, *, show: bool = True, **options) -> tqdm:
    """A ``tqdm`` with `options`; where it is not on a terminal, at most one line in ten seconds."""
    live = sys.stderr.isatty()
    # A notebook shows what goes to stderr in red, as if something had failed.
    file = sys.stdout if "ipykernel" in sys.modules else sys.stderr
    pace = {"mininterval": 0.5 if live else _QUIET, "delay": 0 if live else _QUIET}
    return tqdm(steps, disable=not show, file=file, **pace, **options)


def in_threads(work, faces: list, title: str, show: bool) -> list:
    """Results of `work` for each of `faces`, in their order, by four threads."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        done = pool.map(work, faces)
        return list(progress_bar(done, total=len(faces), desc=title, unit="face", show=show))
