"""The split: stable, stratified, without leaks."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.datasets.facetable import ETHNICITIES, GENDERS, DataError, age_bin, new_table
from utils.datasets.splits import assign_splits, check_no_leak, published_split, write_split
from utils.paths import ROOT


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
@given(st.integers(0, 1000))
def test_row_order_has_no_influence(seed):
    table = faces(300)
    shuffled = table.sample(frac=1, random_state=seed)
    pd.testing.assert_series_equal(by_image(table), by_image(shuffled))


@settings(max_examples=25)
@given(st.integers(1, 10**6), st.integers(20, 400))
def test_no_group_crosses_and_every_face_has_a_side(seed, n):
    table = faces(n, seed % 97, grouped=0.3)
    split = assign_splits(table, seed=seed)
    assert split.notna().all()
    assert (split.groupby(table["group"]).nunique() == 1).all()


def test_shares_overall_and_in_each_stratum():
    table = faces(20_000)
    table["split"] = assign_splits(table)
    shares = table["split"].value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.20, abs=0.005)
    assert shares["val"] == pytest.approx(0.08, abs=0.005)
    strata = table.groupby([age_bin(table["age"]), "gender", "ethnicity"])["split"]
    assert (strata.apply(lambda s: abs((s == "test").mean() - 0.2)) < 0.02).all()


def test_added_files_move_hardly_a_face():
    table, more = faces(5000), faces(250, seed=9, prefix="added")
    before, after = by_image(table), by_image(pd.concat([table, more], ignore_index=True))
    # 5 % more files, 60 strata: a face or two at each boundary.
    assert (before != after[before.index]).mean() < 0.03


def test_added_files_move_no_published_face():
    table, more = faces(2000), faces(400, seed=9, prefix="added")
    published = table.assign(split=assign_splits(table))[["image", "split"]]
    together = pd.concat([table, more], ignore_index=True)
    after = by_image(together, published=published)
    assert (after[published["image"]].to_numpy() == published["split"].to_numpy()).all()
    added = after[more["image"]]
    assert (added == "test").mean() == pytest.approx(0.2, abs=0.07)


def test_another_seed_is_another_split():
    table = faces(1000)
    assert 0.1 < (by_image(table, seed=129) != by_image(table, seed=130)).mean() < 0.6


def test_the_naive_split_leaks_and_is_caught():
    table = faces(1000, grouped=0.3)
    table["split"] = assign_splits(table, kind="naive")
    with pytest.raises(DataError, match="duplicate groups cross the split"):
        check_no_leak(table)


def test_unknown_kind():
    with pytest.raises(ValueError, match="'random' is unknown"):
        assign_splits(faces(10), kind="random")


def test_split_files_are_sorted_and_complete(tmp_path):
    table = faces(50)
    table["split"] = assign_splits(table)
    write_split(table.sample(frac=1, random_state=1), tmp_path / "s.csv")
    read = pd.read_csv(tmp_path / "s.csv")
    assert list(read)[:4] == ["image", "split", "group", "age"]
    assert read["image"].is_monotonic_increasing and len(read) == 50


@pytest.mark.parametrize("dataset", ["utkface", "wiki"])
def test_the_published_split_has_no_leak(dataset):
    if not (ROOT / f"reports/study/splits/{dataset}.csv").is_file():
        pytest.skip(f"the study has no published split of {dataset} yet")
    published = published_split(dataset)
    assert published["image"].is_unique
    if dataset == "utkface":  # the table of pixels holds the same faces
        pd.testing.assert_frame_equal(published, published_split("utkface_csv"))
    check_no_leak(published)
    assert (published["split"] == "test").mean() == pytest.approx(0.2, abs=0.005)
