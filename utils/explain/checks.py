"""Can maps be trusted? Faithfulness, randomisation, and the true evidence of drawn faces.

Every method is set against controls of equal area that know nothing of the network: random patches
as wide as a map's cells, random pixels, and a centred Gaussian. Faces fill the middle of an aligned
picture, so the last is hard to beat.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import entropy, rankdata

from utils.datasets.synthetic import evidence_mask
from utils.evaluation.bootstrap import bootstrap_mean
from utils.vocabulary import MAX_AGE

FAITHFULNESS = ("deletion_auc", "insertion_auc", "average_drop", "increase_in_confidence")
LOWER_IS_BETTER = ("deletion_auc", "average_drop")
FILLS = ("mean_colour", "blurred")
LEAST_CHANGE = 5  # years by which a blank picture must change the age, or there is nothing to share
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


def blanks(images) -> dict[str, np.ndarray]:
    """Pictures without evidence, by fill: the mean colour everywhere, and blurred ones."""
    sigma = 0.08 * images.shape[1]
    return {
        "mean_colour": np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape),
        "blurred": gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest"),
    }


def kept(target, said, full, blank) -> np.ndarray:
    """What is left of the answer to the full picture where the network now has `said`, all [n].

    A class keeps its probability, as in RISE. An age keeps 1 less the change in years, as a share
    of the change that the blank picture makes, at most all of it: 1 for the full picture, 0 for
    the blank one. It is NaN where the blank changes the age by less than `LEAST_CHANGE`.
    """
    if target.kind == "class":
        return said
    change = np.abs(blank - full)
    change[change * MAX_AGE < LEAST_CHANGE] = np.nan
    return 1 - np.minimum(np.abs(said - full) / change, 1)


def _curves(target, images, ranks, classes, steps):
    """What is kept [2 fills, n, steps + 1] as pixels go (deletion) and come (insertion)."""
    found, cuts = {"deletion": [], "insertion": []}, np.arange(steps + 1) / steps
    for blank in blanks(images).values():
        for mode, (first, then) in zip(found, ((images, blank), (blank, images)), strict=True):
            changed = [ranks < round(cut * ranks[0].size) for cut in cuts]
            said = [target.confidence(np.where(c, then, first), classes) for c in changed]
            ends = (said[0], said[-1]) if mode == "deletion" else (said[-1], said[0])
            found[mode].append(kept(target, np.stack(said), *ends).T)
    return {mode: np.stack(values).astype(float) for mode, values in found.items()}


def _only_marked(target, images, heat, classes):
    """Average drop and increase in confidence when only what is marked is shown, else grey."""
    shown, grey = np.asarray(heat, np.float32)[..., None], blanks(images)["mean_colour"]
    pictures = (images, shown * images + (1 - shown) * grey, grey)
    full, said, blank = (target.confidence(picture, classes) for picture in pictures)
    before, after = (kept(target, answer, full, blank) for answer in (full, said))
    # A confidence of (nearly) zero cannot drop: no division by it.
    drop = np.clip((before - after) / np.maximum(before, 1e-6), 0, 1)
    rise = (said > full).astype(float) if target.kind == "class" else np.nan  # no age is surer
    return {"average_drop": drop, "increase_in_confidence": rise}


def faithfulness(target, images, maps, classes, steps=20, seed=129):
    """Score the maps [n, s, s] of several methods on the same images, [n, s, s, 3] in 0..255.

    Deletion takes pixels away, insertion puts them back (RISE, Petsiuk et al. 2018), in `steps`
    equal parts, over either of the `blanks`; an area is the mean of both. Average drop and increase
    in confidence show only what the map marks (Grad-CAM++, Chattopadhay et al. 2018). Followed is
    what is `kept` of the answer for `classes` [n]. A slow method may have maps of the first faces
    only.

    Returns a table with method, face, the four `FAITHFULNESS`, both areas by blank, and
    ``blank_alike`` (share of blanks left out as they change nothing); and the curves: method, mode,
    share (of pixels), value (mean of what is kept) and n.
    """
    images, faces, lines = np.asarray(images, np.float32), [], []
    for method, heat in maps.items():
        few = len(heat)
        if np.shape(heat)[1:] != images.shape[1:3] or not 0 < few <= len(images):
            shapes = f"{np.shape(heat)}; expected {images.shape[:3]}"
            raise ValueError(f"maps of {method!r} have shape {shapes}, or fewer maps")
        row, asked = {"method": method, "face": np.arange(few)}, (images[:few], classes[:few])
        curves = _curves(target, asked[0], _ranks(heat, seed), asked[1], steps)
        for mode, values in curves.items():
            areas = pd.DataFrame(np.trapezoid(values, dx=1 / steps, axis=2).T, columns=FILLS)
            row |= {f"{mode}_auc": areas.mean(axis=1), **areas.add_prefix(f"{mode}_auc_")}
            row["blank_alike"] = areas.isna().mean(axis=1)
            means = pd.DataFrame(values.reshape(-1, steps + 1)).mean()
            line = {"method": method, "mode": mode, "share": np.arange(steps + 1) / steps}
            lines.append(pd.DataFrame(line | {"value": means, "n": few}))
        faces.append(pd.DataFrame(row | _only_marked(target, asked[0], heat, asked[1])))
    return pd.concat(faces, ignore_index=True), pd.concat(lines, ignore_index=True)


def against_control(per_face, control=CONTROL, groups=None, seed=129) -> pd.DataFrame:
    """Paired comparison of each method with a control on the faces that both have.

    As `means_of`, of the advantage (positive is better); ``beats``: the interval is above zero.
    """
    names = list(FAITHFULNESS)
    base = per_face[per_face["method"] == control].set_index("face")[names]
    rest = per_face[per_face["method"] != control].reset_index(drop=True)
    sign = [-1 if name in LOWER_IS_BETTER else 1 for name in names]
    gain = (rest[names].to_numpy() - base.loc[rest["face"]].to_numpy()) * sign
    table = means_of(rest[["method", "face"]].join(pd.DataFrame(gain, columns=names)), groups, seed)
    return table.assign(beats=table["ci_low"] > 0)


def similarity(maps, others) -> np.ndarray:
    """Spearman rank correlation of each map with its counterpart, [n] in -1..1.

    NaN where either holds no attention: a map that has vanished is neither like nor unlike.

    Examples
    --------
    >>> a = np.arange(4.0).reshape(1, 2, 2)
    >>> similarity(a, a).tolist(), similarity(a, -a).tolist(), similarity(a, 0 * a).tolist()
    ([1.0], [-1.0], [nan])
    """
    ranks = [rankdata(np.asarray(m, float).reshape(len(m), -1), axis=1) for m in (maps, others)]
    a, b = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    value = np.divide((a * b).sum(axis=1), norm, out=np.full(len(a), np.nan), where=norm > 0)
    return np.round(value, 12)


def complexity(maps, bins=100) -> np.ndarray:
    """Entropy, in nats, of the histogram of each map's values in 0..1, [n].

    Examples
    --------
    >>> complexity(np.array([[[0.0, 0.0]], [[0.0, 1.0]]])).round(3).tolist()
    [0.0, 0.693]
    """
    return entropy([np.histogram(m, bins, (0, 1))[0] for m in maps], axis=1)


def _after_randomisation(original, maps) -> pd.DataFrame:
    """Of each face, by statistic: how its map changed once layers were randomised.

    ``vanished``: no attention is left. ``emprt``: by which share the map became more complex
    (Hedström et al. 2024, arXiv 2405.02383): above zero where the trained network's map is simpler.
    """
    drawn, left = (np.asarray(m).any(axis=(1, 2)) for m in (original, maps))
    rise = complexity(maps) / np.where(drawn, complexity(original), np.nan) - 1
    faces = {"randomization_similarity": similarity(original, maps)}
    faces |= {"emprt": np.where(left, rise, np.nan), "vanished": np.where(drawn, ~left, np.nan)}
    return pd.DataFrame(faces)


def _reinitialise(layer, seed) -> None:
    """Give a layer the weights it would begin a training with."""
    import keras  # here, so that a page on stored measurements needs no TensorFlow

    keras.utils.set_random_seed(seed)
    fresh = type(layer).from_config(layer.get_config())
    fresh.build(layer.input.shape)
    layer.set_weights(fresh.get_weights())


def cascade(target, images, method, stages=6, groups=None, seed=129, original=None, **options):
    """Compare maps with the original ones while layers are randomised from the output down.

    Adebayo et al. 2018: a map that stays as it was does not depend on what the network learned.
    Stage 0 is the trained network, stage 1 re-initialises the output layer, the others equal parts;
    `original` [n, s, s] are its maps, if at hand; `options` go to `utils.explain.cams.explain`.

    Returns a table with one row a stage: stage, layers (randomised so far), deepest (layer), value
    (mean similarity), ci_low, ci_high, n, vanished (share); and `_after_randomisation` of the last.
    """
    import keras

    from utils.explain.cams import explain  # here: likewise

    if stages < 2:
        raise ValueError(f"stages {stages}; expected 2 or more")
    options = {"classes": target.classes(target.logits(images)), "seed": seed} | options
    original = explain(target, images, method, **options) if original is None else original
    copy = keras.models.clone_model(target.net)
    copy.set_weights(target.net.get_weights())
    names = [layer.name for layer in reversed(copy.layers) if layer.weights]
    parts = [names[:1], *np.array_split(names[1:], stages - 1)]
    broken = replace(target, net=copy, scorer=None)  # compiled once for all stages
    maps, done, deepest, rows = original, 0, "none", []
    for stage, part in enumerate([[], *filter(len, parts)]):
        for name in part:
            _reinitialise(copy.get_layer(str(name)), seed + done)
            done, deepest = done + 1, str(name)
        if stage:
            maps = explain(broken, images, method, **options)
        faces = _after_randomisation(original, maps)
        row = bootstrap_mean(faces["randomization_similarity"], groups, seed)
        row |= {"vanished": faces["vanished"].mean()}
        rows.append({"stage": stage, "layers": done, "deepest": deepest, **row})
    return pd.DataFrame(rows), faces


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
