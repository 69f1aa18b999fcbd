"""Are the maps about the model? Cascading parameter randomisation (Adebayo et al. 2018).

The weights are permuted layer after layer, from the output down. A map that stays as it was does
not depend on what the network learned.
"""

from dataclasses import replace

import keras
import numpy as np
import pandas as pd
from scipy.stats import rankdata

from utils.explain.cams import explain
from utils.explain.target import checked, explain_target
from utils.explain.uncertainty import bootstrap_mean


def similarity(maps, others) -> np.ndarray:
    """Spearman rank correlation of each map with its counterpart, [n] in -1..1.

    A counterpart without any attention counts as 0: the map has vanished. An original without
    attention gives NaN: nothing can be compared.

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


def permute_weights(layer, seed) -> None:
    """Permute the layer's weights in place: their distribution stays, what was learned goes.

    Vectors of one length (the parameters of a batch normalisation) move together, so that a
    mean stays with its variance.
    """
    values = []
    for value in layer.get_weights():
        rng = np.random.default_rng(seed)
        order = rng.permutation(value.size)
        values.append(value.ravel()[order].reshape(value.shape))
    layer.set_weights(values)


def cascade_stages(net, stages=6) -> list[list[str]]:
    """Names of the layers to randomise at each stage, from the output down.

    The first stage is the output layer alone; the rest are equal parts.
    """
    if stages < 2:
        raise ValueError(f"stages {stages}; expected 2 or more")
    names = [layer.name for layer in reversed(net.layers) if layer.weights]
    rest = np.array_split(np.array(names[1:], dtype=object), stages - 1)
    return [names[:1], *(part.tolist() for part in rest if len(part))]


def cascade(
    model, images, task, layer=None, method="gradcam", stages=6, seed=129, **options
) -> pd.DataFrame:
    """Similarity to the original maps while layers are randomised from the output down.

    Parameters
    ----------
    model : keras.Model or Target
        Left unchanged: a copy is randomised.
    images : array [n, s, s, 3], 0..255
    stages : int
        In how many steps all layers are randomised.
    **options
        Passed to `utils.explain.cams.explain`.

    Returns
    -------
    DataFrame
        One row a stage: stage, layers (randomised so far), deepest (layer), value, ci_low,
        ci_high, n. Stage 0 is the trained network.
    """
    target = explain_target(model, task, layer)
    images = checked(images, target)
    # The classes stay those of the trained network.
    classes = target.classes(target.logits(images))
    original = explain(target, images, task, method, classes=classes, seed=seed, **options)
    copy = keras.models.clone_model(target.net)
    copy.set_weights(target.net.get_weights())
    broken, done = replace(target, net=copy), 0
    same = bootstrap_mean(similarity(original, original))
    rows = [dict(stage=0, layers=0, deepest="none", **same)]
    for stage, names in enumerate(cascade_stages(copy, stages), start=1):
        for i, name in enumerate(names):
            permute_weights(copy.get_layer(name), seed + done + i)
        done += len(names)
        maps = explain(broken, images, task, method, classes=classes, seed=seed, **options)
        row = bootstrap_mean(similarity(original, maps), seed)
        rows.append(dict(stage=stage, layers=done, deepest=names[-1], **row))
    return pd.DataFrame(rows)
