"""The split: stable, stratified, without leaks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.datasets import load, with_splits
from utils.datasets.splits import assign_splits, check_no_leak, check_sizes
from utils.datasets.table import new_table
from utils.files import DataError
from utils.study import published_split
from utils.vocabulary import ETHNICITIES, GENDERS, SPLITS, age_bin


def faces(n=3000, seed=0, prefix="face", grouped=0.05):
    """A table with labels like UTKFace's and some duplicate groups."""
    random = np.random.default_rng(seed)
    table = new_table(
        [f"{prefix}{k:05d}" for k in range(n)],
        source="test",
        age=random.choice([3, 15, 26, 35, 55, 80], n).astype(float),
        gender=random.choice(GENDERS, n),
        ethnicity=random.choice(ETHNICITIES, n),
    )
    group = table["group"].to_numpy(copy=True)
    for k in sorted(random.choice(n - 1, int(grouped * n), replace=False)):
        group[k + 1] = group[k]
    return table.assign(group=group)


def by_image(table, **options):
    return pd.Series(assign_splits(table, **options).to_numpy(), index=table["image"]).sort_index()


@settings(max_examples=25)
@given(st.integers(1, 10**6), st.integers(20, 400))
def test_no_group_crosses_and_row_order_has_no_influence(seed, n):
    table = faces(n, seed % 97, grouped=0.3)
    split = assign_splits(table, seed=seed)
    assert split.notna().all() and (split.groupby(table["group"]).nunique() == 1).all()
    shuffled = table.sample(frac=1, random_state=seed)
    pd.testing.assert_series_equal(by_image(table, seed=seed), by_image(shuffled, seed=seed))


def test_shares_overall_and_in_each_stratum():
    table = faces(20_000)
    table["split"] = assign_splits(table)
    shares = table["split"].value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.20, abs=0.005)
    assert shares["val"] == pytest.approx(0.08, abs=0.005)
    assert 0.1 < (table["split"] != assign_splits(table, seed=130)).mean() < 0.6
    strata = table.groupby([age_bin(table["age"]), "gender", "ethnicity"])["split"]
    assert (strata.apply(lambda s: abs((s == "test").mean() - 0.2)) < 0.02).all()


def test_added_files_move_hardly_a_face_and_no_published_one():
    table, more = faces(5000), faces(250, seed=9, prefix="added")
    together = pd.concat([table, more], ignore_index=True)
    before, after = by_image(table), by_image(together)
    # 5 % more files, 60 strata: a face or two at each boundary.
    assert (before != after[before.index]).mean() < 0.03
    published = table.assign(split=before[table["image"]].to_numpy())
    after = by_image(together, published=published)
    assert after[before.index].equals(before)
    assert (after[more["image"]] == "test").mean() == pytest.approx(0.2, abs=0.07)


def test_what_would_leak_into_training_is_excluded_and_stays_in_the_table():
    table = faces(40, grouped=0)
    published = table.assign(split=["test", "train", "val", "excluded"] * 10)
    table.loc[[1, 2], "group"] = table["group"][0]  # a new file joined test, train and val
    table.loc[[5, 7], "group"] = table["group"][5]  # train with one that was excluded before
    table["split"] = assign_splits(table, published=published[:39])
    assert table["split"][[0, 1, 2, 5, 7]].tolist() == [
        *("test", "excluded", "val", "train", "excluded")
    ]
    assert table["split"][3] == "excluded" and set(table["split"]) <= set(SPLITS)
    check_no_leak(table)


def test_the_random_split_leaks_and_is_caught():
    table = faces(1000, grouped=0.3)
    table["split"] = assign_splits(table, kind="random")
    with pytest.raises(DataError, match="duplicate groups cross the split"):
        check_no_leak(table)
    with pytest.raises(ValueError, match="'naive' is unknown"):
        assign_splits(table, kind="naive")


def test_too_few_faces_are_said_before_training():
    table = faces(6)
    with pytest.raises(DataError, match="too few faces to split .6 make 6 train, 0 val, 0 test"):
        check_sizes(table, "utkface")
    check_sizes(faces(60).assign(split=["train", "val", "test"] * 20), "utkface")


@pytest.mark.parametrize("dataset", ["utkface", "utkface_csv", "wiki"])
def test_the_published_split_has_no_leak_and_answers_for_its_seed_alone(dataset):
    published = published_split(dataset)
    assert published["image"].is_unique
    check_no_leak(published)
    assert (published["split"] == "test").mean() == pytest.approx(0.2, abs=0.005)
    some = published.groupby("split").head(40)
    table = new_table(some["image"], source=dataset).assign(group=some["group"].to_numpy())
    known = replace(load("synthetic", n=1), name=dataset, table=table)
    same = [
        (with_splits(known, seed=seed).table["split"].to_numpy() == some["split"]).mean()
        for seed in (129, 130)
    ]
    assert same[0] == 1 and same[1] < 0.8
