"""A million faces, on paper: what it would take, and where it would break first."""

from utils.bench.costs import UnitCosts, totals

FACES = 1_000_000
TEST_SHARE = 0.2
RESAMPLES = 2000
HASH_BLOCK = 2048  # rows of `near_pairs` that are compared with all others at once
WIDEST = 9216  # AlexNet's features at 224 px


def sizes(n: int = FACES) -> dict[str, float]:
    """Gigabytes of the things that grow with the faces.

    Examples
    --------
    >>> round(sizes()["images_224"], 1), round(sizes()["hash_block"], 1)
    (150.5, 8.2)
    """
    groups = TEST_SHARE * n
    return {
        "images_224": n * 224 * 224 * 3 / 1e9,
        "images_96": n * 96 * 96 * 3 / 1e9,
        "float_224": n * 224 * 224 * 3 * 4 / 1e9,
        "features": n * 2 * WIDEST * 2 / 1e9,
        "hash_block": HASH_BLOCK * n * 4 / 1e9,
        "counts": groups * RESAMPLES * 4 / 1e9,
    }


def million(costs: dict[str, UnitCosts]) -> list[str]:
    """The paragraph, as lines of markdown.

    Parameters
    ----------
    costs : dict
        Seconds a face of each backbone; may be empty.
    """
    gb = sizes()
    lines = ["### A million faces", ""]
    lines.append(
        f"Breaks first: the search for near-copies. `near_pairs` compares {HASH_BLOCK:,} hashes "
        f"with all others at once, {gb['hash_block']:.0f} GB for a million faces (and its time "
        "grows with their square); smaller blocks, or an index over parts of the hash, come "
        f"first. Next, the bootstrap's counts: {gb['counts']:.1f} GB for {RESAMPLES:,} resamples "
        f"of {TEST_SHARE * FACES:,.0f} test faces; drawn in parts they would fit. Then the disk: "
        f"{gb['images_224']:.0f} GB of uint8 pictures at 224 px ({gb['images_96']:.0f} GB at 96), "
        f"read in random order, so it must be an SSD, and {gb['features']:.0f} GB for the widest "
        f"features (AlexNet, with mirror images). As float32 the pictures alone would be "
        f"{gb['float_224']:.0f} GB of memory. Batches and networks do not grow."
    )
    if costs:
        before, after = totals(costs, 800_000, 200_000, 10, 3)
        lines += [
            "",
            f"By the cost model the first protocol on a million faces takes {after / 3600:,.0f} "
            f"hours on the machine above, and {before / 3600 / 24:,.0f} days without the cache.",
        ]
    return lines
