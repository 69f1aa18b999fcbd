"""Which of many small grey pictures show the same photograph? Pixels alone, in two stages.

Stage 1 (`candidates`) finds the nearest few short descriptors of each picture by an index. Stage 2
(`similarity`) lays the two pictures of a candidate over one another and correlates their fine
detail, so that brightness and contrast have no say.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from utils.datasets.neighbours import InvertedFile, blocks, unit
from utils.datasets.progress import progress_bar

SIDE = 49  # pixels of the pictures: 25 cells of two pixels, so that one is in the middle
MIDDLE = SIDE // 2
WINDOW = 17  # cells of the compared window: of 25 cells it leaves 4 on each side for shifts
WAVES = 8  # a descriptor is a window's 8 x 8 slowest cosines, less the mean: 63 numbers
SCALES = (1.0, 0.92, 0.84)  # of one picture in the other; larger ones: with their roles swapped
NEAREST = 3  # candidates of each picture, and of its mirror image
LIKELY = 0.7  # least likeness of two descriptors; 98 % of strongly cropped copies reach it
# Least correlation of one photograph. Random pairs of faces reach 0.67 in two thousand, and nearly
# all copies lie above 0.9. The few in between were looked at: copies that are blurred, drawn over
# or retouched, until below 0.8 most pairs are two photographs of faces that are much alike.
ALIKE = 0.8
SURE = 0.95  # enough for any pictures
SAMPLE, FAR = 1000, 4  # random pairs to judge by; deviations above their median that are far
FLAT = 1.0  # grey levels of detail below which a picture shows nothing to compare
COARSE, MEDIUM, FINE = (0.0, 5.0), (1.0, 2.5), (0.7, 1.5)  # two blurs, in pixels, to subtract
EVEN = 4.0  # pixels over which contrast is evened out
STEPS = 6  # of the fit; more change nothing
EDGE = 2  # pixels at the border that are not compared: the blurs lack neighbours there
UNIT = 12  # pixels; turned and stretched by this lever, all six numbers of a fit are of like size


def _blur(maps: np.ndarray, width: float) -> np.ndarray:
    return gaussian_filter(maps, (0, width, width), mode="reflect") if width else maps


def _detail(grey: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """What lies between two blurs: neither brightness nor slow shading."""
    grey = grey.astype(np.float32)
    return _blur(grey, band[0]) - _blur(grey, band[1])


def _even_detail(grey: np.ndarray) -> np.ndarray:
    """Fine detail of like contrast everywhere."""
    detail = _detail(grey, FINE)
    return detail / (np.sqrt(_blur(detail**2, EVEN)) + 1)


def flat(grey: np.ndarray) -> np.ndarray:
    """Which pictures show next to nothing, as a blank page does: bool [n]."""
    parts = [_detail(grey[rows], MEDIUM).std((1, 2)) for rows in blocks(len(grey), 1024)]
    return np.concatenate([np.zeros(0), *parts]) < FLAT


def _cosines() -> np.ndarray:
    """Matrix [WINDOW x WINDOW, 63] that takes windows to their slow cosines."""
    wave = np.cos(np.pi * np.outer(np.arange(WAVES), np.arange(WINDOW) + 0.5) / WINDOW)
    wave[0] *= 0.5**0.5
    both = np.einsum("ki,lj->klij", wave, wave).reshape(WAVES**2, WINDOW**2)
    return both[1:].T.astype(np.float32)


def _shrunk(maps: np.ndarray, scale: float) -> np.ndarray:
    """The middle window of pictures that are shrunk by `scale`: [n, WINDOW, WINDOW]."""
    at = MIDDLE + (np.arange(WINDOW) - WINDOW // 2) * 2 / scale
    # Linear interpolation as a matrix: one product for all pictures.
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(SIDE))).astype(np.float32)
    return weights @ maps @ weights.T


def _shifts(reach: int) -> np.ndarray:
    """Pixels down and across, two cells apart, `reach` of them to each side."""
    offs = 4 * np.arange(-reach, reach + 1)
    return np.array([(down, across) for down in offs for across in offs])


def _descriptors(grey: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of pictures: of the middle at all scales (as it is, then mirrored), and of
    the shifted windows: [n, 2 x scales, 63] and [n, shifts, 63].
    """
    detail, cosines = _detail(grey, COARSE), _cosines()
    middles = [_shrunk(maps, scale) for maps in (detail, detail[:, :, ::-1]) for scale in SCALES]
    cells = 2 * np.arange(WINDOW) - WINDOW + 1 + MIDDLE
    windows = [detail[:, cells + y][:, :, cells + x] for y, x in _shifts(reach)]
    return tuple(
        unit(np.stack(cuts, axis=1).reshape(len(grey), len(cuts), -1) @ cosines)
        for cuts in (middles, windows)
    )


def candidates(grey: np.ndarray, progress: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that may show one photograph: each picture's nearest, and its mirror image's.

    From pictures uint8 [n, 49, 49]: row numbers [pairs, 2], first < second, and whether one would
    be the other's mirror image, bool [pairs].
    """
    if len(grey) < 2:
        return np.zeros((0, 2), int), np.zeros(0, bool)
    windows = np.concatenate([_descriptors(grey[rows], 1)[1] for rows in blocks(len(grey), 1024)])
    owners = np.repeat(np.arange(len(grey)), windows.shape[1])
    index, found = InvertedFile(windows.reshape(len(owners), -1), owners), []
    del windows  # the index has its own copy
    for rows in progress_bar(list(blocks(len(grey), 4096)), desc="compare", show=progress):
        owners = np.repeat(np.arange(rows.start, rows.stop), len(SCALES))
        middles = np.split(_descriptors(grey[rows], 1)[0], 2, axis=1)
        for mirrored, side in enumerate(middles):
            near = index.nearest(side.reshape(len(owners), -1), owners, NEAREST, LIKELY)
            pairs = np.sort(near[["owner", "other"]].to_numpy(), axis=1)
            found.append(np.column_stack([pairs, np.full(len(pairs), mirrored)]))
    found = np.unique(np.concatenate(found), axis=0)
    return found[:, :2], found[:, 2].astype(bool)


def similarity(grey: np.ndarray, pairs: np.ndarray, mirrored=None, progress=False) -> np.ndarray:
    """Correlation of the fine detail of two pictures that are laid over one another.

    One picture is mirrored, shifted and scaled to where the descriptors agree best, then fitted
    to the other by small affine steps, as copies may be turned and stretched a little too. In the
    common part all regions count alike, not just eyes and mouth, which are alike in all faces.

    Of `pairs` [pairs, 2] of rows of `grey` [n, 49, 49], float [pairs]: 1 for the same picture,
    `threshold` or more for one photograph; 0 if a picture is flat. `mirrored`, bool [pairs], says
    which side to try; by default both.
    """
    if mirrored is None:
        sides = [np.full(len(pairs), side) for side in (False, True)]
        return np.maximum(*(similarity(grey, pairs, side, progress) for side in sides))
    scores = [np.zeros(0)]
    for rows in progress_bar(list(blocks(len(pairs), 256)), desc="overlay", show=progress):
        first, second = (grey[pairs[rows, side]] for side in (0, 1))
        score = _correlation(*_oriented(first, second, mirrored[rows].astype(int)))
        scores.append(np.where(flat(first) | flat(second), 0, score))
    return np.concatenate(scores)


def threshold(grey: np.ndarray) -> float:
    """Least `similarity` of one photograph: `ALIKE`, or more where all pictures are much alike.

    Drawn faces are. Random pairs tell, by median and quartile, which a few copies do not move.
    """
    first, second = np.triu_indices(min(len(grey), 400), 1)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(first))[:SAMPLE]
    rows = rng.permutation(len(grey))
    pairs = rows[np.stack([first[chosen], second[chosen]], axis=1)]
    quartile, median = np.quantile([*similarity(grey, pairs), 0.0], [0.25, 0.5])
    far = median + FAR * (median - quartile) / 0.674  # of a normal distribution: one deviation
    return float(np.clip(far, ALIKE, SURE))


def _oriented(first, second, mirrored) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both pictures, swapped where that fits better, the one mirrored, and where it lies."""
    shifts, n = _shifts(2), np.arange(len(first))
    middles, windows = zip(_descriptors(first, 2), _descriptors(second, 2), strict=True)
    middles = [m.reshape(len(n), 2, len(SCALES), -1)[n, mirrored] for m in middles]
    both = [middles[k] @ windows[1 - k].swapaxes(1, 2) for k in (0, 1)]
    rough = np.stack(both, axis=1).reshape(len(n), -1)
    swapped, scale, shift = np.unravel_index(rough.argmax(axis=1), (2, len(SCALES), len(shifts)))
    swap = swapped.astype(bool)[:, None, None]
    one, two = np.where(swap, second, first), np.where(swap, first, second)
    one = np.where(mirrored.astype(bool)[:, None, None], one[:, :, ::-1], one)
    scale = np.array(SCALES)[scale]
    place = np.zeros((len(one), 2, 3))
    place[:, 0, 0] = place[:, 1, 1] = UNIT / scale
    place[:, :, 2] = -shifts[shift] / scale[:, None]
    return one, two, place


def _grid(step: int) -> np.ndarray:
    """Compared points of a picture, rows of down, across (in UNITs off the middle) and 1."""
    line = np.arange(-MIDDLE + EDGE, MIDDLE - EDGE + 1, step)
    down, across = np.meshgrid(line, line, indexing="ij")
    points = [down.ravel() / UNIT, across.ravel() / UNIT, np.ones(down.size)]
    return np.stack(points, axis=1).astype(np.float32)


def _values(stack: np.ndarray, place: np.ndarray, grid: np.ndarray):
    """Values [n, k, points] of maps [n, k, SIDE, SIDE] where `place` takes `grid`; which exist."""
    at = np.einsum("nij,pj->npi", place, grid)
    inside = (np.abs(at) <= MIDDLE - EDGE).all(axis=2).astype(np.float32)
    at = np.clip(at + MIDDLE, 0, SIDE - 1.001)
    whole = at.astype(int)
    y, x = np.moveaxis((at - whole).astype(np.float32), 2, 0)[:, :, None]
    corner = (whole[..., 0] * SIDE + whole[..., 1])[:, None]
    maps = stack.reshape(*stack.shape[:2], -1)
    a, b, c, d = (np.take_along_axis(maps, corner + k, axis=2) for k in (0, 1, SIDE, SIDE + 1))
    return (a * (1 - x) + b * x) * (1 - y) + (c * (1 - x) + d * x) * y, inside


def _standard(values: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values [n, points] less their mean and of length 1, 0 outside; and the lengths."""
    mean = (values * inside).sum(1, keepdims=True) / np.maximum(inside.sum(1, keepdims=True), 1)
    values = (values - mean) * inside
    length = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    return values / length, length


def _correlation(one: np.ndarray, two: np.ndarray, place: np.ndarray) -> np.ndarray:
    place, grid = _fitted(one, two, place), _grid(1)
    values, inside = _values(_even_detail(one)[:, None], place, grid)
    two = _even_detail(two)[:, EDGE:-EDGE, EDGE:-EDGE].reshape(len(two), -1)
    return (_standard(values[:, 0], inside)[0] * _standard(two, inside)[0]).sum(axis=1)


def _fitted(one: np.ndarray, two: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The affine place of `one` in `two` near `place` where they correlate best (Gauss-Newton)."""
    one, grid = _detail(one, MEDIUM), _grid(2)
    two = _detail(two, MEDIUM)[:, EDGE:-EDGE:2, EDGE:-EDGE:2].reshape(len(two), -1)
    stack = np.stack([one, *np.gradient(one, axis=(1, 2))], axis=1)
    best, best_place = np.full(len(one), -1.0), place
    for _ in range(STEPS):
        values, inside = _values(stack, place, grid)
        (here, length), (target, _) = _standard(values[:, 0], inside), _standard(two, inside)
        score = np.where(inside.mean(axis=1) > 0.4, (here * target).sum(axis=1), -1)
        best_place = np.where((score > best)[:, None, None], place, best_place)
        best = np.maximum(score, best)
        slopes = (values[:, 1:, :, None] * grid).swapaxes(1, 2).reshape(*here.shape, 6)
        slopes = slopes * (inside / length)[:, :, None]
        share = (inside / np.maximum(inside.sum(1, keepdims=True), 1))[:, :, None]
        slopes -= slopes.sum(axis=1, keepdims=True) * share
        across = slopes.swapaxes(1, 2)
        square = across @ slopes
        calm = 0.02 * np.trace(square, axis1=1, axis2=2) / 6 + 1e-9
        square += calm[:, None, None] * np.eye(6)
        step = np.linalg.solve(square, across @ (target - here)[:, :, None])
        place = place + np.clip(step, -2, 2).reshape(-1, 2, 3)  # 2 pixels, lest it run away
    return best_place
