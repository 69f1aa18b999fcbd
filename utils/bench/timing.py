"""Seconds of several ways to do one thing, taken in turns so that a busy moment hits all alike."""

import gc
import time
from dataclasses import dataclass, field
from statistics import median

from tqdm.auto import tqdm


@dataclass
class Timing:
    """What `interleaved` measured.

    Attributes
    ----------
    seconds : dict from side to list of float
        One entry a repeat, warm-up left out.
    results : dict from side to list
        What each call returned, the warm-up's first.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    results: dict[str, list] = field(default_factory=dict)

    def median(self, side: str) -> float:
        """Median seconds of a side."""
        return float(median(self.seconds[side]))

    def ratio(self, slow: str, fast: str) -> float:
        """How many times faster `fast` is than `slow`."""
        return self.median(slow) / self.median(fast)


def interleaved(sides: dict, repeats: int = 5, warmup: int = 1, title="", progress=True) -> Timing:
    """Time some functions in turns: a, b, a, b ...

    Parameters
    ----------
    sides : dict from name to callable
        Called without arguments, in this order in every round; a later side may use what an
        earlier one of the same round left.
    repeats : int
        Timed rounds.
    warmup : int
        Rounds before them that are not timed: compilation, caches.
    title : str
        Of the progress bar.
    progress : bool

    Returns
    -------
    Timing

    Examples
    --------
    >>> taken = interleaved({"a": lambda: 1, "b": lambda: 2}, repeats=3, progress=False)
    >>> len(taken.seconds["a"]), taken.results["b"]
    (3, [2, 2, 2, 2])
    """
    if repeats < 1:
        raise ValueError(f"{repeats} repeats asked for; expected at least 1")
    timing = Timing({name: [] for name in sides}, {name: [] for name in sides})
    bar = tqdm(total=(warmup + repeats) * len(sides), desc=title, disable=not progress, leave=False)
    for turn in range(warmup + repeats):
        for name, side in sides.items():
            gc.collect()
            started = time.perf_counter()
            result = side()
            taken = time.perf_counter() - started
            timing.results[name].append(result)
            if turn >= warmup:
                timing.seconds[name].append(taken)
            bar.update(1)
    bar.close()
    return timing
