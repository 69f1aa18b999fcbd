"""Do the maps mark what the network uses? Deletion, insertion, average drop, increase.

Every method is set against two controls that know nothing of the network: a random map and a
centred Gaussian. Faces fill the middle of an aligned picture, so the second is hard to beat.
"""

import numpy as np
import pandas as pd

from utils.explain.maps import blurred
from utils.explain.names import FAITHFULNESS as STATISTICS
from utils.explain.target import checked, explain_target
from utils.explain.uncertainty import bootstrap_mean


def _ranks(maps, seed):
    """Place of each pixel in the order of falling attention, [n, s * s]; ties at random."""
    flat = np.asarray(maps, np.float32).reshape(len(maps), -1)
    rng = np.random.default_rng(seed)
    ranks = np.empty(flat.shape, np.int32)
    for row, values in zip(ranks, flat, strict=True):
        order = np.lexsort((rng.random(values.size), -values))
        row[order] = np.arange(values.size)
    return ranks


def _mean_colour(images):
    return np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)


def perturbation_curves(
    target, images, maps, classes, mode, steps=10, batch_size=32, seed=129
) -> np.ndarray:
    """Confidence while pixels are removed or restored in order of attention.

    Petsiuk et al. 2018 (RISE). ``deletion`` replaces pixels by the picture's mean colour;
    ``insertion`` starts from a blurred picture and puts the true pixels back.

    Parameters
    ----------
    target : Target
    images : array [n, s, s, 3], 0..255
    maps : array [n, s, s]
    classes : int array [n]
        Classes whose confidence is followed.
    mode : {"deletion", "insertion"}
    steps : int
        Number of equal parts in which the pixels are changed.

    Returns
    -------
    float32 array [n, steps + 1]
        Confidence after a share of 0, 1/steps, ... 1 of the pixels.
    """
    if mode not in ("deletion", "insertion"):
        raise ValueError(f"mode {mode!r} is unknown; expected deletion or insertion")
    if steps < 1:
        raise ValueError(f"steps {steps}; expected 1 or more")
    ends = _ends(target, np.asarray(images, np.float32), classes, batch_size)
    return _curve(target, ends, _ranks(maps, seed), classes, mode, steps, batch_size)


def _ends(target, images, classes, batch_size):
    """What every curve of these faces shares: pictures and their confidence."""
    pictures = {"full": images, "grey": _mean_colour(images), "blurred": blurred(images)}
    sure = {k: target.confidence(p, classes, batch_size) for k, p in pictures.items()}
    return pictures, sure


def _curve(target, ends, ranks, classes, mode, steps, batch_size):
    pictures, sure = ends
    first, then = ("full", "grey") if mode == "deletion" else ("blurred", "full")
    shape = pictures["full"].shape
    ranks = ranks.reshape(shape[:3])[..., None]
    values = np.empty((len(ranks), steps + 1), np.float32)
    values[:, 0], values[:, -1] = sure[first], sure[then]
    for start in range(0, len(ranks), batch_size):
        rows = slice(start, start + batch_size)
        for step in range(1, steps):
            changed = ranks[rows] < round(step / steps * shape[1] * shape[2])
            picture = np.where(changed, pictures[then][rows], pictures[first][rows])
            values[rows, step] = target.confidence(picture, classes[rows], batch_size)
    return values


def area_under(curves) -> np.ndarray:
    """Area under each curve over a share of pixels from 0 to 1, [n].

    Examples
    --------
    >>> area_under(np.array([[1.0, 0.5, 0.0]])).tolist()
    [0.5]
    """
    curves = np.asarray(curves, np.float64)
    return np.trapezoid(curves, dx=1 / (curves.shape[1] - 1), axis=1)


def drop_and_increase(target, images, maps, classes, batch_size=32, before=None):
    """Confidence lost, and whether any is gained, when only what the map marks is shown.

    Chattopadhay et al. 2018 (Grad-CAM++); the rest fades to the picture's mean colour.

    Returns
    -------
    drop : float array [n]
        Share of the confidence that is lost, 0..1.
    increase : float array [n]
        1 where the confidence grows, else 0.
    """
    if before is None:
        before = target.confidence(images, classes, batch_size)
    after = np.empty_like(before)
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        part = np.asarray(images[rows], np.float32)
        shown = np.asarray(maps[rows], np.float32)[..., None]
        picture = shown * part + (1 - shown) * _mean_colour(part)
        after[rows] = target.confidence(picture, classes[rows], batch_size)
    # A confidence of (nearly) zero cannot drop: no division by it.
    drop = np.maximum(before - after, 0) / np.maximum(before, 1e-6)
    return np.minimum(drop, 1.0), (after > before).astype(float)


def faithfulness(
    model,
    images,
    maps,
    task,
    layer=None,
    classes=None,
    steps=10,
    batch_size=32,
    seed=129,
    progress=lambda: None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the maps of several methods on the same faces.

    Parameters
    ----------
    model : keras.Model or Target
    images : array [n, s, s, 3], 0..255
    maps : dict
        Method -> maps [n, s, s], or fewer maps for the first faces (a slow method); include the
        controls of `utils.explain.names.CONTROLS`.
    classes : int or int array [n], optional
        As in `utils.explain.cams.cam`.
    progress : callable
        Called after each method.

    Returns
    -------
    per_face : DataFrame
        Columns method, face and the four `STATISTICS`.
    curves : DataFrame
        Columns method, mode, share (of pixels), value (mean confidence), n.
    """
    target = explain_target(model, task, layer)
    images = checked(images, target)
    chosen = target.classes(target.logits(images, batch_size), classes)
    ends = _ends(target, np.asarray(images, np.float32), chosen, batch_size)
    faces, lines = [], []
    for method, heat in maps.items():
        if np.shape(heat)[1:] != images.shape[1:3] or not 0 < len(heat) <= len(images):
            raise ValueError(
                f"maps of {method!r} have shape {np.shape(heat)}; expected {images.shape[:3]}, "
                "or fewer maps for the first faces"
            )
        few = len(heat)
        row = {"method": method, "face": np.arange(few)}
        here = [{k: v[:few] for k, v in part.items()} for part in ends]
        ranks = _ranks(heat, seed)
        for mode in ("deletion", "insertion"):
            curve = _curve(target, here, ranks, chosen[:few], mode, steps, batch_size)
            row[f"{mode}_auc"] = area_under(curve)
            lines += [
                dict(method=method, mode=mode, share=i / steps, value=float(v), n=few)
                for i, v in enumerate(curve.mean(axis=0))
            ]
        drop, increase = drop_and_increase(
            target, images[:few], heat, chosen[:few], batch_size, ends[1]["full"][:few]
        )
        progress()
        faces.append(pd.DataFrame(row | dict(average_drop=drop, increase_in_confidence=increase)))
    return pd.concat(faces, ignore_index=True), pd.DataFrame(lines)


def summarise(per_face, seed=129) -> pd.DataFrame:
    """Mean of each statistic with its bootstrap interval.

    Returns
    -------
    DataFrame
        Columns method, statistic, value, ci_low, ci_high, n.
    """
    rows = [
        {"method": method, "statistic": name, **bootstrap_mean(part[name], seed)}
        for method, part in per_face.groupby("method", sort=False)
        for name in STATISTICS
        if name in part
    ]
    return pd.DataFrame(rows)
