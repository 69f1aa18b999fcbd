"""What the statistics say: which method beats a control, which map is about the model.

Works from numbers alone: no TensorFlow, no picture.
"""

import numpy as np
import pandas as pd

from utils.explain.names import FAITHFULNESS, LOWER_IS_BETTER
from utils.explain.uncertainty import bootstrap_mean

FAILS_ABOVE = 0.5  # rank correlation with the original once every layer is randomised


def against_control(per_face, control="center_gaussian", seed=129) -> pd.DataFrame:
    """Paired comparison of each method with a control on the faces that both have.

    Returns
    -------
    DataFrame
        Columns method, statistic, value (mean advantage, positive is better), ci_low, ci_high,
        n and ``beats``: the interval lies above zero.
    """
    if control not in set(per_face["method"]):
        raise ValueError(f"control {control!r} is not among {sorted(set(per_face['method']))}")
    wide = per_face.set_index("face")
    base = wide[wide["method"] == control]
    rows = []
    for method, part in wide[wide["method"] != control].groupby("method", sort=False):
        for name in FAITHFULNESS:
            sign = -1 if name in LOWER_IS_BETTER else 1
            row = bootstrap_mean(sign * (part[name] - base[name]), seed)
            beats = bool(row["ci_low"] > 0)
            rows.append(dict(method=method, statistic=name, **row, beats=beats))
    return pd.DataFrame(rows)


def verdicts(comparison, control="the centred Gaussian", labels=None) -> list[str]:
    """One sentence a method: on which statistics it beats the control, and on which not."""
    labels = labels or {}
    sentences = []
    for method, part in comparison.groupby("method", sort=False):
        won = [name.replace("_", " ") for name in part.loc[part["beats"], "statistic"]]
        lost = [name.replace("_", " ") for name in part.loc[~part["beats"], "statistic"]]
        name = labels.get(method, method)
        text = f"{name} beats {control} on {', '.join(won)}" if won else ""
        if lost:
            text += "; not on " if won else f"{name} does not beat {control} on "
            text += ", ".join(lost)
        sentences.append(f"{text} ({int(part['n'].max())} faces).")
    return sentences


def randomization_similarity(table) -> dict:
    """The last stage of `cascade`: value, ci_low, ci_high, n."""
    last = table.iloc[-1]
    return {name: last[name] for name in ("value", "ci_low", "ci_high", "n")}


def verdict(table, label="the map") -> str:
    """One sentence: does the map depend on what the network learned?

    It passes if the whole interval lies below `FAILS_ABOVE`.
    """
    last = randomization_similarity(table)
    numbers = f"rank correlation {last['value']:.2f} [{last['ci_low']:.2f}, {last['ci_high']:.2f}]"
    if not np.isfinite(last["value"]):
        return f"{label}: no face has a map to compare"
    if last["ci_high"] >= FAILS_ABOVE:
        how = "hardly changes" if last["value"] >= FAILS_ABOVE else "may hardly change"
        return f"{label} fails: it {how} when every layer is randomised ({numbers})"
    return f"{label} passes: it changes when every layer is randomised ({numbers})"
