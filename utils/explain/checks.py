"""Can maps be trusted? Faithfulness, randomisation, and the true evidence of drawn faces.

Every method is set against two controls that know nothing of the network: a random map and a
centred Gaussian. Faces fill the middle of an aligned picture, so the second is hard to beat.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from utils.datasets.synthetic import evidence_mask
from utils.evaluation.bootstrap import bootstrap_mean

FAITHFULNESS = ("deletion_auc", "insertion_auc", "average_drop", "increase_in_confidence")
LOWER_IS_BETTER = ("deletion_auc", "average_drop")
CONTROL = "center_gaussian"
FAILS_ABOVE = 0.5  # rank correlation with the original once every layer is randomised


def means_of(per_face, groups=None, seed=129) -> pd.DataFrame:
    """Mean of each statistic of each method: method, statistic, value, ci_low, ci_high, n.

    `per_face` has one row a method and face, with columns method, face (0, 1, ...) and one a
    statistic; `groups` [faces] are duplicate groups, which rise and fall together.
    """
    rows = []
    for method, part in per_face.groupby("method", sort=False):
        own = None if groups is None else np.asarray(groups)[part["face"]]
        for name in part.columns.drop(["method", "face"]):
            row = {"method": method, "statistic": name}
            rows.append(row | bootstrap_mean(part[name], own, seed))
    return pd.DataFrame(rows)


def _ranks(maps, seed):
    """Place of each pixel in the order of falling attention, [n, s, s, 1]; ties at random."""
    maps, rng = np.asarray(maps, np.float32), np.random.default_rng(seed)
    ranks = np.empty((len(maps), maps[0].size), np.int32)
    for row, values in zip(ranks, maps.reshape(ranks.shape), strict=True):
        row[np.lexsort((rng.random(values.size), -values))] = np.arange(values.size)
    return ranks.reshape(*maps.shape, 1)


def _ends(target, images, classes):
    """What every curve of these faces shares: pictures, and the confidence in each."""
    images = np.asarray(images, np.float32)
    sigma = 0.08 * images.shape[1]
    pictures = {
        "full": images,
        "grey": np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape),
        "blurred": gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest"),
    }
    return pictures, {name: target.confidence(part, classes) for name, part in pictures.items()}


def _curve(target, ends, ranks, classes, mode, steps):
    """Confidence [n, steps + 1] while pixels go, or come, in order of attention."""
    (pictures, sure), (n, side) = ends, ranks.shape[:2]
    first, then = ("full", "grey") if mode == "deletion" else ("blurred", "full")
    values = np.empty((n, steps + 1), np.float32)
    values[:, 0], values[:, -1] = sure[first][:n], sure[then][:n]
    for step in range(1, steps):
        changed = ranks < round(step / steps * side * side)
        picture = np.where(changed, pictures[then][:n], pictures[first][:n])
        values[:, step] = target.confidence(picture, classes[:n])
    return values


def _drop_and_increase(target, ends, maps, classes):
    """Share of confidence lost, and whether any is gained, when only what is marked is shown."""
    pictures, before, n = ends[0], ends[1]["full"][: len(maps)], len(maps)
    shown = np.asarray(maps, np.float32)[..., None]
    picture = shown * pictures["full"][:n] + (1 - shown) * pictures["grey"][:n]
    after = target.confidence(picture, classes[:n])
    # A confidence of (nearly) zero cannot drop: no division by it.
    drop = np.maximum(before - after, 0) / np.maximum(before, 1e-6)
    return np.minimum(drop, 1.0), (after > before).astype(float)


def faithfulness(target, images, maps, classes, steps=10, seed=129):
    """Score the maps [n, s, s] of several methods on the same images, [n, s, s, 3] in 0..255.

    Deletion replaces pixels by the picture's mean colour, insertion puts them back into a blurred
    picture (RISE, Petsiuk et al. 2018), in `steps` equal parts; average drop and increase in
    confidence show only what the map marks (Grad-CAM++, Chattopadhay et al. 2018). A slow method
    may have maps of the first faces only; it is the confidence in `classes` [n] that is followed.

    Returns a table with method, face and the four `FAITHFULNESS`, and the curves: method, mode,
    share (of pixels), value (mean confidence) and n.
    """
    ends, faces, lines = _ends(target, images, classes), [], []
    for method, heat in maps.items():
        few = len(heat)
        if np.shape(heat)[1:] != images.shape[1:3] or not 0 < few <= len(images):
            shapes = f"{np.shape(heat)}; expected {images.shape[:3]}"
            raise ValueError(f"maps of {method!r} have shape {shapes}, or fewer maps")
        row, ranks = {"method": method, "face": np.arange(few)}, _ranks(heat, seed)
        for mode in ("deletion", "insertion"):
            curve = _curve(target, ends, ranks, classes, mode, steps)
            row[f"{mode}_auc"] = np.trapezoid(curve.astype(float), dx=1 / steps, axis=1)
            means = {"share": np.arange(steps + 1) / steps, "value": curve.mean(axis=0)}
            lines.append(pd.DataFrame({"method": method, "mode": mode, **means, "n": few}))
        row |= zip(FAITHFULNESS[2:], _drop_and_increase(target, ends, heat, classes), strict=True)
        faces.append(pd.DataFrame(row))
    return pd.concat(faces, ignore_index=True), pd.concat(lines, ignore_index=True)


def against_control(per_face, control=CONTROL, groups=None, seed=129) -> pd.DataFrame:
    """Paired comparison of each method with a control on the faces that both have.

    As `means_of`, of the advantage (positive is better); ``beats``: the interval is above zero.
    """
    if control not in set(per_face["method"]):
        raise ValueError(f"control {control!r} is not among {sorted(set(per_face['method']))}")
    names = list(FAITHFULNESS)
    base = per_face[per_face["method"] == control].set_index("face")[names]
    rest = per_face[per_face["method"] != control].reset_index(drop=True)
    sign = [-1 if name in LOWER_IS_BETTER else 1 for name in names]
    gain = (rest[names].to_numpy() - base.loc[rest["face"]].to_numpy()) * sign
    table = means_of(rest[["method", "face"]].join(pd.DataFrame(gain, columns=names)), groups, seed)
    return table.assign(beats=table["ci_low"] > 0)


def similarity(maps, others) -> np.ndarray:
    """Spearman rank correlation of each map with its counterpart, [n] in -1..1.

    A counterpart without any attention counts as 0 (the map has vanished), an original as NaN.

    Examples
    --------
    >>> a = np.arange(4.0).reshape(1, 2, 2)
    >>> similarity(a, a).tolist(), similarity(a, -a).tolist(), similarity(a, 0 * a).tolist()
    ([1.0], [-1.0], [0.0])
    """
    first, second = (np.asarray(m, np.float64).reshape(len(m), -1) for m in (maps, others))
    ranks = [rankdata(m, axis=1) for m in (first, second)]
    a, b = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    value = np.divide((a * b).sum(axis=1), norm, out=np.zeros(len(a)), where=norm > 0)
    value[np.ptp(first, axis=1) == 0] = np.nan
    return np.round(value, 12)


def _permute_weights(layer, seed) -> None:
    """Permute a layer's weights in place: their distribution stays, what was learned goes.

    Vectors of one length (a batch normalisation's) move together: a mean stays with its variance.
    """
    orders = [np.random.default_rng(seed).permutation(v.size) for v in layer.get_weights()]
    pairs = zip(layer.get_weights(), orders, strict=True)
    layer.set_weights([v.ravel()[order].reshape(v.shape) for v, order in pairs])


def cascade(target, images, method, stages=6, groups=None, seed=129, **options) -> pd.DataFrame:
    """Similarity to the original maps while layers are randomised from the output down.

    Adebayo et al. 2018: a map that stays as it was does not depend on what the network learned.
    One row a stage: stage, layers (randomised so far), deepest (layer), value, ci_low, ci_high, n.
    Stage 0 is the trained network, stage 1 randomises the output layer, the others equal parts;
    `options` go to `utils.explain.cams.explain`.
    """
    import keras  # here, so that a page on stored measurements needs no TensorFlow

    from utils.explain.cams import explain  # likewise

    if stages < 2:
        raise ValueError(f"stages {stages}; expected 2 or more")
    options |= {"classes": target.classes(target.logits(images)), "seed": seed}
    original = explain(target, images, method, **options)
    copy = keras.models.clone_model(target.net)
    copy.set_weights(target.net.get_weights())
    names = [layer.name for layer in reversed(copy.layers) if layer.weights]
    parts = [names[:1], *np.array_split(names[1:], stages - 1)]
    broken = replace(target, net=copy)  # compiled once for all stages
    maps, done, deepest, rows = original, 0, "none", []
    for stage, part in enumerate([[], *filter(len, parts)]):
        for name in part:
            _permute_weights(copy.get_layer(str(name)), seed + done)
            done, deepest = done + 1, str(name)
        if stage:
            maps = explain(broken, images, method, **options)
        row = bootstrap_mean(similarity(original, maps), groups, seed)
        rows.append({"stage": stage, "layers": done, "deepest": deepest, **row})
    return pd.DataFrame(rows)


def evidence_masks(images, task, size) -> np.ndarray:
    """True regions of evidence of synthetic faces, by their names, bool [n, size, size]."""
    masks = []
    for image in images:
        mask = Image.fromarray(np.asarray(evidence_mask(image, task), bool).astype(np.uint8) * 255)
        masks.append(np.asarray(mask.resize((size, size), Image.Resampling.BILINEAR)) >= 128)
    return np.stack(masks)


def inside(maps, masks) -> dict[str, np.ndarray]:
    """How well maps [n, s, s] hit masks [n, s, s], for each map; 0 for one without attention.

    ``energy_inside``: share of attention in the mask (Wang et al. 2020, Score-CAM).
    ``pointing_game``: 1 where the strongest point lies in it (Zhang et al. 2018); several
    equally strong points count by the share of them inside.
    """
    maps, masks = np.asarray(maps, np.float64), np.asarray(masks, bool)
    if maps.shape != masks.shape or maps.ndim != 3:
        raise ValueError(f"maps {maps.shape} and masks {masks.shape}; expected equal (n, s, s)")
    peak = maps.max(axis=(1, 2), keepdims=True)
    scores = {}
    for name, weight in (("energy_inside", maps), ("pointing_game", (maps == peak) & (peak > 0))):
        total, held = weight.sum(axis=(1, 2)), (weight * masks).sum(axis=(1, 2))
        scores[name] = np.divide(held, total, out=np.zeros(len(maps)), where=total > 0)
    return scores


def localisation(maps, masks, groups=None, seed=129) -> pd.DataFrame:
    """Means of both statistics, as `means_of`, for maps by method.

    Faces whose mask is empty (nothing shows the label) are left out.
    """
    shown, tables = np.asarray(masks, bool).any(axis=(1, 2)), []
    for method, heat in maps.items():
        scores, face = inside(heat, masks[: len(heat)]), np.flatnonzero(shown[: len(heat)])
        table = {name: values[face] for name, values in scores.items()}
        tables.append(pd.DataFrame({"method": method, "face": face, **table}))
    return means_of(pd.concat(tables, ignore_index=True), groups, seed)
