"""Frozen feature extraction on a CPU: is the precision chosen for each backbone worth it?"""

import warnings

import keras
import numpy as np
from tqdm.auto import tqdm

from utils.backbones import BACKBONES
from utils.backbones.networks import FEATURES
from utils.bench.frozen import built, config_of, extract
from utils.bench.material import Bench, is_synthetic, pictures
from utils.bench.results import Measured, Skip
from utils.bench.timing import interleaved
from utils.training.config import has_gpu

SUBSET = {"alexnet": 512, "mobilenetv2": 256, "resnet50": 96, "vgg19": 32}
HEAD_FACES, HEAD_SIZE, FOLDS = 2500, 96, 5
HEAD_TASKS = ("age_bin", "gender", "ethnicity")
ALLOWED_POINTS = 0.2
ALLOWED_FEATURES = 0.03  # where there are no real faces to train heads on


def relative_difference(before, after) -> float:
    """Norm of the difference over the norm."""
    before, after = np.asarray(before, float), np.asarray(after, float)
    # Random weights can give features that float16 cannot hold; those count as zero.
    least = 1e-4 * before.size**0.5
    return float(np.linalg.norm(after - before) / max(np.linalg.norm(before), least))


def _lower(name, bench, size, precision):
    return built(config_of(name, bench, size, ["gender"], precision), FEATURES)[1]


def _timed(name: str, bench: Bench) -> dict:
    """Seconds a face of both sides, and how far the features are apart."""
    size, n = bench.pick(224, 64), bench.pick(SUBSET[name], 32)
    _, images = pictures(bench, n, size)
    images = np.asarray(images)
    plain, ours = (_lower(name, bench, size, kind) for kind in ("float32", "auto"))
    sides = {
        "predict": lambda: plain.predict(images, batch_size=64, verbose=0),
        "ours": lambda: extract(ours, images),
    }
    timing = interleaved(sides, bench.repeats, 1, name, bench.progress)
    return {
        "faces": n,
        "precision": ours.layers[-1].compute_dtype,
        "predict": timing.median("predict") / n,
        "ours": timing.median("ours") / n,
        "feature_difference": relative_difference(
            timing.results["predict"][-1], timing.results["ours"][-1]
        ),
    }


def head_hits(features, table) -> np.ndarray:
    """Which faces linear heads get right when they are held out.

    Parameters
    ----------
    features : float array [n, d]
    table : DataFrame
        The faces.

    Returns
    -------
    float array [tasks, n] of 0 and 1
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from utils.training.losses import targets

    y = targets(table, HEAD_TASKS)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=129)
    x, hits = np.asarray(features, "float32"), []
    for task in HEAD_TASKS:
        head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        # Classes with fewer faces than folds (the oldest) are only warned of.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            hits.append(cross_val_predict(head, x, y[task], cv=folds) == y[task])
    return np.array(hits, float)


def _heads(name: str, bench: Bench) -> dict:
    """Accuracy of heads on features of both precisions, and how far apart, in points."""
    table, images = pictures(bench, bench.pick(HEAD_FACES, 200), HEAD_SIZE)
    kinds = {"float32": "float32", "ours": "auto"}
    hits = {}
    for side, precision in kinds.items():
        lower = _lower(name, bench, HEAD_SIZE, precision)
        hits[side] = head_hits(extract(lower, images), table)
    change = 100 * (hits["ours"] - hits["float32"])
    return {
        **{f"accuracy_{side}": float(right.mean()) for side, right in hits.items()},
        "points_apart": float(change.mean()),
        "standard_error": float(change.std() / change.size**0.5),
    }


def _agreement(details: dict, heads: bool) -> tuple[bool, str]:
    if heads:
        found = {name: one["heads"] for name, one in details.items() if one["heads"]}
        worst = max((abs(one["points_apart"]) for one in found.values()), default=0.0)
        told = ", ".join(
            f"{BACKBONES[name].label} {one['points_apart']:+.2f} (se {one['standard_error']:.2f})"
            for name, one in found.items()
        )
        return worst <= ALLOWED_POINTS, (
            f"accuracy of linear heads, mean of {len(HEAD_TASKS)} tasks, {FOLDS} folds, "
            f"{HEAD_FACES:,} faces at {HEAD_SIZE} px, differs by percentage points: "
            f"{told or 'none'} (allowed {ALLOWED_POINTS}); the others compute in float32"
        )
    worst = max(one["feature_difference"] for one in details.values())
    return worst <= ALLOWED_FEATURES, (
        f"features differ by at most {worst:.1%} of their norm (allowed {ALLOWED_FEATURES:.0%}); "
        "no real faces to train heads on"
    )


def extraction(bench: Bench) -> Measured:
    """Seconds of one face through all backbones, both ways."""
    if has_gpu() and not bench.quick:
        raise Skip("this row is about a CPU; hide the GPU: CUDA_VISIBLE_DEVICES=-1")
    details = {}
    for name in tqdm(bench.backbones, desc="backbones", disable=not bench.progress, leave=False):
        details[name] = _timed(name, bench)
        keras.backend.clear_session()
    real = not is_synthetic(bench) and bench.weights() == "imagenet"
    for name, one in details.items():
        reduced = one["precision"] != "float32"
        one["heads"] = _heads(name, bench) if real and reduced else {}
    before = sum(one["predict"] for one in details.values())
    after = sum(one["ours"] for one in details.values())
    agree, agreement = _agreement(details, real)
    each = ", ".join(
        f"{BACKBONES[name].label} {one['predict'] / one['ours']:.2f} ({one['precision']})"
        for name, one in details.items()
    )
    return Measured(
        before / after,
        before,
        after,
        agree,
        agreement,
        bench.repeats,
        sides_in="seconds for one face through all backbones",
        note=f"Each alone: {each}.",
        details={"backbones": details},
    )
