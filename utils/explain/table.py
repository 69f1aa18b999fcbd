"""The table of all statistics about explanations: ``explanations.csv``."""

from pathlib import Path

import numpy as np
import pandas as pd

from utils.explain.names import CONTROLS, METHODS
from utils.explain.names import FAITHFULNESS as STATISTICS
from utils.explain.regions import REGIONS
from utils.files import write_aside

COLUMNS = ["run", "model", "task", "method", "statistic", "value", "ci_low", "ci_high", "n"]
KEY = ["run", "task", "method", "statistic"]
KNOWN = (
    *STATISTICS,
    "randomization_similarity",
    "pointing_game",
    "energy_inside",
    *(f"attention_{name}" for name in REGIONS),
)


def check_explanations(table) -> pd.DataFrame:
    """Return the table with its columns in order, or say what is wrong with it."""
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ValueError(f"explanations lack the columns {missing}; expected {COLUMNS}")
    for name, known in (("method", METHODS + CONTROLS), ("statistic", KNOWN)):
        unknown = sorted(set(table[name]) - set(known))
        if unknown:
            raise ValueError(f"explanations: unknown {name} {unknown}; expected {list(known)}")
    return table[COLUMNS].reset_index(drop=True)


def statistics_rows(table, run, model, task, method=None) -> pd.DataFrame:
    """Give a table of statistics its run, model, task and, if it has none, its method.

    Rows without any usable face are left out.
    """
    named = table.assign(run=run, model=model, task=task)
    if method is not None:
        named["method"] = method
    return check_explanations(named[np.isfinite(named["value"].astype(float))])


def write_explanations(path, table) -> pd.DataFrame:
    """Write the table, keeping rows of other runs, tasks and methods that are already there.

    Returns
    -------
    DataFrame
        All that the file now holds.
    """
    path = Path(path)
    table = check_explanations(table)
    if path.exists():
        table = pd.concat([read_explanations(path), table], ignore_index=True)
    table = table.drop_duplicates(KEY, keep="last").sort_values(KEY, ignore_index=True)
    with write_aside(path) as aside:
        table.to_csv(aside, index=False, float_format="%.5g")
    return table


def read_explanations(path) -> pd.DataFrame:
    """Read ``explanations.csv``; an absent file gives an empty table."""
    path = Path(path)
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    return check_explanations(pd.read_csv(path))
