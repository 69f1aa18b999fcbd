"""Do the fixed regions fit the aligned faces? ``python -m utils.explain.landmarks``.

MTCNN finds eyes, nose and mouth on a random sample of real crops; the table says how many of these
points lie in the region of their name. Numbers only: no picture is stored.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from utils.explain.regions import region_masks
from utils.files import write_aside
from utils.paths import ROOT

POINTS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
BELONGS = dict(zip(POINTS, ("eyes", "eyes", "nose", "mouth", "mouth"), strict=True))


def find_landmarks(picture) -> np.ndarray | None:
    """MTCNN's five points of an aligned crop as shares of its side, [5, 2]; None without a face.

    The crop is laid on grey twice its side, as the detector misses faces that fill a picture.
    """
    from utils.faces import detect

    side = picture.width
    canvas = Image.new("RGB", (2 * side, 2 * side), (127, 127, 127))
    canvas.paste(picture, (side // 2, side // 2))
    faces = [face for face in detect(canvas) if face.landmarks is not None]
    return (faces[0].landmarks - side // 2) / side if faces else None


def check_table(points, looked_at, size=200) -> pd.DataFrame:
    """Share of the landmarks that lie in the region of their name.

    Parameters
    ----------
    points : array [n, 5, 2]
        x and y as shares of the side, one row a face.
    looked_at : int
        Faces searched, found or not.

    Returns
    -------
    DataFrame
        Columns landmark, region, inside, x and y (medians), x_low ... y_high (5 % and 95 %
        quantiles), n (faces with landmarks) and looked_at.
    """
    points = np.asarray(points, float)
    if points.ndim != 3 or points.shape[1:] != (5, 2) or not len(points):
        raise ValueError(f"landmarks of shape {points.shape}; expected (n, 5, 2) with n >= 1")
    masks, rows = region_masks(size), []
    for i, (name, region) in enumerate(BELONGS.items()):
        x, y = points[:, i].T
        column, row = (np.floor(v * size).astype(int) for v in (x, y))
        within = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        inside = np.zeros(len(points), bool)
        inside[within] = masks[region][row[within], column[within]]
        ends = {
            f"{axis}_{end}": np.quantile(v, q)
            for axis, v in (("x", x), ("y", y))
            for end, q in (("low", 0.05), ("high", 0.95))
        }
        rows.append(
            dict(landmark=name, region=region, inside=inside.mean(), x=np.median(x))
            | dict(y=np.median(y))
            | ends
            | dict(n=len(points), looked_at=looked_at)
        )
    return pd.DataFrame(rows)


def check_regions(faces, n=200, seed=129, progress=True) -> pd.DataFrame:
    """Check the regions on `n` random faces of an aligned set: see `check_table`."""
    order = np.random.default_rng(seed).permutation(len(faces.table))[:n]
    found = []
    for row in tqdm(order, "landmarks", unit="face", disable=not progress, mininterval=5.0):
        points = find_landmarks(faces.read(faces.table["image"].iloc[row]))
        if points is not None:
            found.append(points)
    return check_table(np.array(found), len(order))


def main(arguments=None) -> int:
    """Command line; returns the exit status."""
    from utils.datasets import load

    parser = argparse.ArgumentParser(
        prog="python -m utils.explain.landmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--n", type=int, default=200, help="faces looked at")
    parser.add_argument("--seed", type=int, default=129)
    out = ROOT / "reports" / "study" / "explanations" / "region_check.csv"
    parser.add_argument("--out", type=Path, default=out)
    asked = parser.parse_args(arguments)
    try:
        table = check_regions(load("utkface"), asked.n, asked.seed)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with write_aside(asked.out) as aside:
        table.to_csv(aside, index=False, float_format="%.4g", lineterminator="\n")
    print(table.round(3).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
