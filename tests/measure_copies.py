"""How many planted copies does the pixel check of near-duplicates find, how fast, in what memory?

``python tests/measure_copies.py 10000`` draws so many smooth random pictures of 32 pixels, one in a
hundred of them with a copy: cut to about 0.9, darker, every second one mirrored.
"""

import sys
import time

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from utils.datasets.copies import SIDE, candidates, similarity, threshold

DRAWN = 32


def enlarged(picture: np.ndarray, box=None) -> np.ndarray:
    """A picture, or a box of it, of the side that is compared."""
    side = (SIDE, SIDE)
    return np.asarray(Image.fromarray(picture).resize(side, Image.Resampling.BILINEAR, box=box))


def draw(count: int, rng: np.random.Generator) -> np.ndarray:
    """Pictures uint8 [count, SIDE, SIDE]; the last hundredth are copies of the first."""
    copies, grey = count // 100, np.empty((count, SIDE, SIDE), np.uint8)
    for k in range(count - copies):
        noise = gaussian_filter(rng.normal(size=(DRAWN, DRAWN)), 1.5)
        picture = ((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)
        grey[k] = enlarged(picture)
        if k < copies:
            (left, top), side = rng.uniform(0, 3, 2), rng.uniform(28, 29)
            copy = enlarged(picture, (left, top, left + side, top + side))
            copy = copy[:, ::-1] if k % 2 else copy
            grey[count - copies + k] = copy * rng.uniform(0.7, 1.0)
    return grey


def main(count: int) -> None:
    """Print what was found; on Unix."""
    import resource  # no other system has it

    grey = draw(count, np.random.default_rng(0))
    wall, cpu = time.perf_counter(), time.process_time()
    pairs, mirrored = candidates(grey)
    likeness = similarity(grey, pairs, mirrored)
    found = {tuple(pair) for pair in pairs[likeness >= threshold(grey)].tolist()}
    planted = {(k, count - count // 100 + k) for k in range(count // 100)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB; bytes on macOS
    print(f"{count} pictures: {len(found & planted)} of {len(planted)} copies", end=", ")
    print(f"{len(found - planted)} false pairs, {time.perf_counter() - wall:.0f} s", end=" ")
    print(f"({time.process_time() - cpu:.0f} CPU), {peak / 1e6:.1f} GB")


if __name__ == "__main__":
    main(int(sys.argv[1]))
