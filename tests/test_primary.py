"""The declared family of comparisons: seeds and faces in the interval, margins, verdicts."""

import numpy as np
import pandas as pd
import pytest

from utils.evaluation.findings import _family
from utils.evaluation.pairwise import family, primary
from utils.study import Study

WANTED = {"dataset": "utkface", "protocol": "finetune", "input_size": 128}


def _study(errors, n=4000, seeds=3, spread=0.0):
    """Runs whose age errors have given means; seeds differ by `spread` years."""
    rng, study = np.random.default_rng(0), Study()
    age = rng.uniform(20, 60, n)
    noise = rng.exponential(1.0, n)
    for model, error in errors.items():
        for seed in range(seeds):
            run = f"{model}{seed}"
            off = error * noise * 0.8 + error * 0.2 * rng.exponential(1.0, n)
            off = off + spread * (seed - (seeds - 1) / 2)
            study.predictions[run] = pd.DataFrame(
                {"image": [f"{i}" for i in range(n)], "split": "test", "age": age}
            ).assign(pred_age=age + off, gender=None, ethnicity=None)
            study.configs[run] = WANTED | {"model": model, "seed": seed, "split": "group"}
    return study


def _pair(study):
    (row,) = primary(study, WANTED).query("task == 'age'").to_dict("records")
    return row


def test_a_clear_difference_is_found_and_a_small_one_is_equivalent():
    row = _pair(_study({"a": 5.0, "b": 4.0}))
    assert row["verdict"] == "differ" and row["difference"] == pytest.approx(1.0, abs=0.1)
    row = _pair(_study({"a": 4.0, "b": 4.0}))
    assert row["equivalent"] and row["verdict"] == "equivalent" and row["margin"] == 0.15


def test_seeds_widen_the_interval():
    same, spread = (_pair(_study({"a": 4.3, "b": 4.0}, spread=s)) for s in (0.0, 0.8))
    assert same["verdict"] == "differ" and spread["verdict"] == "not established"
    assert spread["ci_high"] - spread["ci_low"] > 2 * (same["ci_high"] - same["ci_low"])


def test_one_training_establishes_nothing():
    assert _pair(_study({"a": 5.0, "b": 4.0}, seeds=1))["verdict"].startswith("not established")


def test_holm_counts_the_whole_family():
    table = primary(_study({"a": 4.0, "b": 4.1, "c": 4.2}), WANTED)
    told = _family(table)
    assert told.count(" and ") == 3 and "in every task" in told
    assert _family(table[:0]) == "No networks were trained alike to be compared."
    assert len(table) == 3 and (table["p_holm"] >= table["p"]).all()
    assert table["p_holm"].min() == pytest.approx(min(1, 3 * table["p"].min()))


def test_ablations_and_other_settings_are_no_members():
    study = _study({"a": 4.0, "b": 4.1}, seeds=1)
    study.configs["a0"]["study"] = "ablation"
    assert family(study, WANTED) == {"b": ["b0"]} and primary(study, WANTED).empty
