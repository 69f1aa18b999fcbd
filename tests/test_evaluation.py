"""Metrics, baselines, bootstrap, tests, subgroups, calibration and label noise, by their values."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from utils.evaluation import (
    bootstrap,
    calibration,
    conformal,
    noise,
    pairwise,
    protocols,
    random_split,
    subgroups,
)
from utils.evaluation.columns import predicted, sized_interval, truth
from utils.evaluation.metrics import baseline, confusion, evaluate, statistics
from utils.files import DataError
from utils.vocabulary import CLASSES, ETHNICITIES, GENDERS, METRICS, probability_columns


def fake_predictions(n=400, seed=0, spread=6.0, faces_seed=7):
    """A predictions table with known labels and noisy answers."""
    draw = np.random.default_rng(faces_seed)
    table = pd.DataFrame({"image": [f"{i}.jpg" for i in range(n)]})
    table["split"] = draw.choice(["train", "val", "test"], n, p=[0.3, 0.2, 0.5])
    table["age"] = draw.integers(1, 100, n).astype(float)
    table["gender"] = draw.choice(GENDERS, n)
    table["ethnicity"] = draw.choice(ETHNICITIES, n, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    table["group"] = [f"g{i // 2}" if i < n // 4 else f"s{i}" for i in range(n)]
    draw = np.random.default_rng(seed)
    table["pred_age"] = (table["age"] + draw.normal(0, spread, n)).astype("float32")
    table["age_q10"], table["age_q90"] = table["pred_age"] - 8, table["pred_age"] + 8
    for task in CLASSES:
        logits = draw.normal(0, 1, (n, len(CLASSES[task])))
        logits[np.arange(n), truth(table, task)] += 8 / spread
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        table[probability_columns(task)] = p.astype("float32")
    return table


@pytest.fixture
def faces():
    return fake_predictions()


def test_metrics_equal_scikit_learn(faces):
    table = evaluate(faces, ["test"]).set_index(["task", "metric"])["value"]
    test = faces[faces["split"] == "test"]
    mae = sk.mean_absolute_error(test["age"], test["pred_age"].astype(float))
    assert table["age", "mae"] == pytest.approx(mae, rel=1e-12)
    near = (test["age"] - test["pred_age"].astype(float)).abs() <= 5
    assert table["age", "cs5"] == pytest.approx(near.mean())
    for task in CLASSES:
        real, guess = truth(test, task), predicted(test, task)
        assert table[task, "accuracy"] == pytest.approx(sk.accuracy_score(real, guess))
        balanced = sk.balanced_accuracy_score(real, guess)
        assert table[task, "balanced_accuracy"] == pytest.approx(balanced)
        assert table[task, "macro_f1"] == pytest.approx(sk.f1_score(real, guess, average="macro"))
        counts = sk.confusion_matrix(real, guess, labels=range(len(CLASSES[task])))
        assert (confusion(faces, task).to_numpy() == counts).all()


def test_unknown_labels_are_left_out_and_missing_columns_named(faces):
    faces.loc[faces["split"] == "test", "ethnicity"] = None
    table = evaluate(faces)
    assert "ethnicity" not in set(table.query("split == 'test'")["task"])
    assert "ethnicity" in set(table.query("split == 'val'")["task"])
    with pytest.raises(DataError, match="lacks the columns.*split"):
        evaluate(faces.drop(columns="split"))
    with pytest.raises(DataError, match="pred_age"):
        statistics(faces.drop(columns="pred_age"), "age")
    with pytest.raises(DataError, match="unknown label.*robot"):
        truth(faces.assign(gender="robot"), "gender")


def test_the_baseline_is_the_median_and_the_majority_of_training():
    faces = pd.DataFrame({"image": list("abcdef"), "split": ["train"] * 4 + ["test"] * 2})
    faces["age"] = [10.0, 20, 30, 90, 25, 45]
    faces["gender"] = ["male"] * 3 + ["female", "female", "male"]
    table = baseline(faces, ["test"]).set_index(["task", "metric"])["value"]
    assert table["age", "mae"] == pytest.approx((0 + 20) / 2)
    assert table["gender", "accuracy"] == table["gender", "balanced_accuracy"] == 0.5
    assert table["gender", "macro_f1"] == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="no train or val"):
        baseline(faces[faces["split"] == "test"])


def test_bootstrap_equals_a_plain_loop(faces):
    test = faces[faces["split"] == "test"].reset_index(drop=True)
    drawn = bootstrap.Resamples(test["group"], n=20, seed=3)
    pairs = [(task, metric) for task in METRICS for metric in METRICS[task]]
    fast = {pair: bootstrap.scored(test, drawn, *pair)[1] for pair in pairs}
    members = [np.flatnonzero(drawn.codes == g) for g in range(len(drawn.counts))]
    for number in range(20):
        counts = drawn.counts[:, number].astype(int)
        assert counts.sum() == len(members)
        rows = np.concatenate([np.tile(m, c) for m, c in zip(members, counts, strict=True)])
        slow = evaluate(test.iloc[rows].reset_index(drop=True), ["test"])
        for row in slow.itertuples():
            assert fast[row.task, row.metric][number] == pytest.approx(row.value, rel=1e-5)
    # Over a mask they are as if the values of the other faces were zero.
    values, mask = statistics(test, "ethnicity"), (test["gender"] == "male").to_numpy()
    np.testing.assert_array_equal(drawn.sums(values, mask), drawn.sums(values * mask[:, None]))


def test_bootstrap_is_repeatable_draws_the_groups_of_the_split_and_refuses_nonsense(faces):
    first, again = (bootstrap.Resamples(faces["group"], 50, 5).counts for _ in range(2))
    np.testing.assert_array_equal(first, again)
    splits = pd.DataFrame({"image": ["b", "a"], "group": ["g", "g"]})
    three = pd.DataFrame({"image": ["a", "b", "c"]})  # unknown faces stand alone
    assert bootstrap.groups_of(three, splits).tolist() == ["g", "g", "c"]
    told = {"no faces": ([], 9), "without a group": (["a", None], 9), "at least 2": (["a"], 1)}
    for error, asked in told.items():
        with pytest.raises(ValueError, match=error):
            bootstrap.Resamples(*asked)
    with pytest.raises(DataError, match="no faces in split 'test'"):
        bootstrap.intervals(faces[faces["split"] == "val"])


def test_resamples_drawn_in_blocks_are_those_kept_at_once(monkeypatch):
    groups, values = np.arange(300) % 200, np.random.default_rng(0).integers(0, 100, (300, 2))
    kept, mask = bootstrap.Resamples(groups, n=50), np.arange(300) < 40
    monkeypatch.setattr(bootstrap, "HELD", 200 * 7)
    drawn = bootstrap.Resamples(groups, n=50)
    assert drawn.counts is None and {part.shape[1] for part in drawn._drawn()} == {7, 1}
    for chosen in (None, mask, mask):  # whole numbers: the order of the sums has no influence
        np.testing.assert_array_equal(drawn.sums(values, chosen), kept.sums(values, chosen))


def test_a_mean_over_duplicates_is_as_uncertain_as_over_their_groups():
    # It drew single faces: an interval of .12 instead of .38 for 100 groups of 10.
    draw = np.random.default_rng(4)
    values = np.repeat(draw.normal(0, 1, 100), 10)
    groups = np.repeat(np.arange(100), 10)
    alone, together = bootstrap.bootstrap_mean(values), bootstrap.bootstrap_mean(values, groups)
    widths = [row["ci_high"] - row["ci_low"] for row in (alone, together)]
    assert alone["value"] == together["value"] == pytest.approx(values.mean())
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(10), rel=0.1)
    assert widths[1] == pytest.approx(2 * 1.96 * np.std(values[::10], ddof=1) / 10, rel=0.1)
    # Groups of different sizes: the mean is over faces, and NaN faces leave their group.
    odd = bootstrap.bootstrap_mean([1.0, 1.0, np.nan, 4.0], ["a", "a", "a", "b"])
    assert odd["value"] == 2.0 and odd["n"] == 3
    assert (odd["ci_low"], odd["ci_high"]) == (1.0, 4.0)
    assert bootstrap.bootstrap_mean([np.nan])["n"] == 0


def test_mcnemar_and_holm_by_hand():
    a = np.array([True] * 40 + [False] * 10 + [True] * 50)
    b = np.array([False] * 40 + [True] * 10 + [True] * 50)
    only_a, only_b, p = pairwise.mcnemar(a, b)
    assert (only_a, only_b) == (40, 10)
    assert p == pytest.approx(stats.chi2.sf(29**2 / 50, 1))
    assert pairwise.mcnemar(a[:5], b[:5])[2] == pytest.approx(2 * 0.5**5)
    assert pairwise.mcnemar(a, a)[2] == 1.0
    # 4 x .01, 3 x .02, 2 x .03, 1 x .9, never falling.
    assert pairwise.holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])


def test_pairs_find_the_better_model_and_not_the_equal_one():
    told = {"good": (1, 3.0), "same": (2, 3.0), "bad": (3, 8.0)}
    runs = {name: fake_predictions(2000, *settings) for name, settings in told.items()}
    for task in ("age", "gender"):
        pairs = pairwise.compare(runs, task, n=500)
        letters = pairwise.letters(pairs, list(runs))
        assert letters["good"] == letters["same"] == "a" and letters["bad"] == "b"
        assert pairwise.within_chance(pairs, "good", task) == ["same"]
        row = pairs.set_index(["a", "b"]).loc["good", "bad"]
        assert row["difference"] == pytest.approx(row["value_a"] - row["value_b"])
        assert row["ci_low"] < row["difference"] < row["ci_high"]
        assert row["p_holm"] >= row["p"]


def test_a_pair_is_as_uncertain_as_its_seeds():
    runs = {f"a{seed}": fake_predictions(2000, 1, spread) for seed, spread in enumerate((3, 4, 5))}
    runs |= {f"b{seed}": fake_predictions(2000, 2, spread) for seed, spread in enumerate((5, 6, 7))}
    (alone,) = pairwise.compare({r: runs[r] for r in ("a0", "b0")}, "age").to_dict("records")
    systems = {name: [run for run in runs if run[0] == name[0]] for name in ("a0", "b0")}
    (pair,) = pairwise.compare(runs, "age", systems=systems).to_dict("records")
    errors = {run: evaluate(faces, ("test",))["value"][0] for run, faces in runs.items()}
    mean = np.mean([errors[run] for run in systems["a0"]])
    assert pair["value_a"] == pytest.approx(mean) and alone["value_a"] == errors["a0"]
    assert pair["ci_high"] - pair["ci_low"] > 2 * (alone["ci_high"] - alone["ci_low"])
    assert alone["p"] < 1e-6 < pair["p"]


def test_pairs_use_the_faces_that_all_share():
    one, two = fake_predictions(300, 1), fake_predictions(300, 2)
    short = two[two["image"] != one[one["split"] == "test"]["image"].iloc[0]]
    pairs = pairwise.compare({"one": one, "two": short, "tiny": two.head(9)}, "age", n=50)
    assert list(pairs["a"] + pairs["b"]) == ["onetwo"]
    assert pairs["n"][0] == (one["split"] == "test").sum() - 1
    assert pairwise.compare({"one": one}, "age").empty
    apart = two.assign(image="x" + two["image"])
    with pytest.raises(DataError, match="share no test face"):
        pairwise.compare({"one": one, "two": apart}, "age")


def test_letters_join_what_differs_within_chance():
    # 1 beats 3 and 4, 2 beats 4: a for 1 and 2, b for 2 and 3, c for 3 and 4.
    clear = 0.01 / 6  # of six pairs
    told = [("1", "2", 0.5), ("1", "3", clear), ("1", "4", clear), ("2", "3", 0.5)]
    told += [("2", "4", clear), ("3", "4", 0.5)]
    pairs = pd.DataFrame(told, columns=["a", "b", "p"])
    for side in "ab":
        pairs[f"value_{side}"] = pairs[side].astype(int)
    found = pairwise.letters(pairs.assign(metric="mae"), list("1234"))
    assert found == {"1": "a", "2": "ab", "3": "bc", "4": "c"}
    best_first = pairwise.letters(pairs.assign(metric="accuracy"), list("1234"))
    assert best_first == {"4": "a", "3": "ab", "2": "bc", "1": "c"}
    # Fewer pairs, a milder correction; a lone run has no letter to share.
    pairs["p"] *= 20
    assert set(pairwise.letters(pairs.assign(metric="mae"), list("1234")).values()) == {"a"}
    assert pairwise.letters(pairs.assign(metric="mae"), list("14")) == {"1": "a", "4": "b"}
    assert pairwise.letters(pairs.assign(metric="mae"), ["1"]) == {}


def test_subgroups_by_hand_and_small_ones_are_never_ranked(faces):
    test = faces[faces["split"] == "test"].reset_index(drop=True)
    table = subgroups.subgroups(test, bootstrap.Resamples(test["group"], n=100))
    error = test["pred_age"].astype(float) - test["age"]
    women = (test["gender"] == "female").to_numpy()
    row = table.query("task == 'age' and by == 'gender' and group == 'female'").set_index("metric")
    assert row["value"]["mae"] == pytest.approx(error[women].abs().mean())
    assert row["value"]["bias"] == pytest.approx(error[women].mean())
    assert row["n"]["mae"] == women.sum()
    assert (table["small"] == (table["n"] < 30)).all() and table["small"].any()
    full = table.query("by == 'age_bin x gender x ethnicity' and metric == 'mae'")
    assert full["n"].sum() == len(test)
    found = subgroups.gaps(table)
    ranked = table[~table["small"]]
    for row in found.itertuples():
        part = ranked.query(f"task == '{row.task}' and metric == '{row.metric}' and by == @row.by")
        assert {row.worst, row.best} <= set(part["group"])
        assert row.ranked == len(part)
    age = found.query("metric == 'mae' and by == 'age_bin'").iloc[0]
    values = ranked.query("metric == 'mae' and by == 'age_bin'")["value"]
    assert age["gap"] == pytest.approx(values.max() - values.min())
    # A study of few faces has none to rank, and ended in a KeyError.
    assert list(subgroups.gaps(table[table["small"]])) == list(found)


def test_fairness_gap_equals_the_largest_rate_difference():
    faces = fake_predictions(3000)
    table = subgroups.fairness(faces).set_index(["measure", "by"])["value"]
    said = pd.Series(predicted(faces, "gender")).groupby(faces["ethnicity"]).mean()
    assert table["demographic_parity_difference", "ethnicity"] == pytest.approx(np.ptp(said))
    assert "equalized_odds_difference" in table


def test_ece_by_hand_and_by_name():
    p = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    labels = np.array([0] * 7 + [1] * 3 + [0] * 6 + [1] * 4)
    assert calibration.ece(p, labels, bins=10) == pytest.approx(0.5 * 0.2)
    table = calibration.reliability(p, labels, 10)
    assert table["n"].tolist() == [10, 10] and table["accuracy"].tolist() == [0.6, 0.7]


def test_temperature_is_recovered_and_fitted_on_validation_only():
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 2, (20000, 5))
    p = calibration.apply_temperature(np.exp(logits), 1.0)
    labels = (p.cumsum(axis=1) < draw.random((len(p), 1))).sum(axis=1)
    sharp = calibration.apply_temperature(p, 1 / 2.5)
    assert calibration.fit_temperature(sharp, labels) == pytest.approx(2.5, rel=0.05)
    scaled = calibration.apply_temperature(sharp, 2.5)
    assert calibration.ece(scaled, labels) < 0.02 < calibration.ece(sharp, labels)

    faces = fake_predictions(1000)
    first = calibration.calibration(faces).set_index("task")
    test = faces["split"] == "test"
    faces.loc[test, ["gender"]] = "male"
    again = calibration.calibration(faces).set_index("task")
    assert first["temperature"]["gender"] == again["temperature"]["gender"]
    assert first["binning"]["gender"] == "15 equal-width bins"
    alone = calibration.calibration(faces[test])
    assert alone["temperature"].isna().all()
    # Bare answers (all 0 or 1) say nothing of confidence.
    bins = probability_columns("age_bin")
    faces[bins] = np.eye(5)[faces[bins].to_numpy().argmax(axis=1)]
    assert set(calibration.calibration(faces)["task"]) == {"gender", "ethnicity"}


def test_coverage_by_hand(faces):
    test = faces[faces["split"] == "test"].reset_index(drop=True)
    table = conformal.coverage(test, bootstrap.Resamples(test["group"], n=200))
    inside = (test["age"] - test["pred_age"]).abs() <= 8
    row = table.set_index("group").loc["all"]  # no validation faces: the network's own alone
    assert row["coverage"] == pytest.approx(inside.mean())
    assert row["width"] == pytest.approx(16, rel=1e-4)
    assert row["ci_low"] < row["coverage"] < row["ci_high"]
    assert table["n"].iloc[1:].sum() == row["n"]
    test.loc[0, "age"] = np.nan  # an unknown age is neither inside nor outside
    fewer = conformal.coverage(test, bootstrap.Resamples(test["group"], n=200))
    assert fewer["n"].iloc[0] == row["n"] - 1


def test_conformal_intervals_and_sets_hold_what_they_promise():
    faces = fake_predictions(20000, 3, 6.0)
    old = faces["pred_age"] > 50  # where the network errs more than it says
    off = np.random.default_rng(0).normal(0, 14, old.sum())
    faces.loc[old, "age"] = (faces.loc[old, "age"] + off).clip(0, 116)
    test = faces[faces["split"] == "test"].reset_index(drop=True)
    said = test[["pred_age", "age_q10", "age_q90"]].to_numpy().T
    low, high = sized_interval(*said, conformal.age_sizes(faces)).T
    held = (low <= test["age"]) & (test["age"] <= high)
    assert held[test["pred_age"] > 50].mean() == pytest.approx(0.8, abs=0.06)
    assert held[test["pred_age"] <= 50].mean() == pytest.approx(0.8, abs=0.06)
    assert test["age"].between(test["age_q10"], test["age_q90"])[test["pred_age"] > 50].mean() < 0.6
    drawn = bootstrap.Resamples(test["image"], n=50)
    table = conformal.coverage(faces, drawn).set_index(["interval", "group"])["coverage"]
    assert table["conformal", "all"] == pytest.approx(held.mean())

    found = conformal.sets(faces, drawn).set_index(["task", "group"])
    assert (found.loc["ethnicity"]["coverage"] - 0.9).abs().max() < 0.05  # each class of its own
    assert 0 < found.loc[("ethnicity", "all"), "size"] < 5
    few = faces.assign(ethnicity=faces["ethnicity"].where(faces["split"] == "test", "White"))
    inside = conformal.class_sets(few)["ethnicity"]  # classes without a validation face
    assert inside.shape == (len(test), 5) and not inside[:, 1:].all(axis=0).any()


def test_a_bonus_for_rare_classes_is_chosen_on_validation_faces():
    faces = fake_predictions(8000, 5, 4.0)
    columns = probability_columns("ethnicity")
    shares = np.array([0.6, 0.1, 0.1, 0.1, 0.1])
    faces[columns] = faces[columns] * shares  # a network that leans on the common class
    faces[columns] = faces[columns].div(faces[columns].sum(axis=1), axis=0)
    drawn = bootstrap.Resamples(faces.loc[faces["split"] == "test", "image"], n=50)
    row = calibration.logit_adjusted(faces, drawn).set_index("task").loc["ethnicity"]
    assert row["strength"] > 0 and row["value"] > row["before"]
    assert row["difference"] == pytest.approx(row["value"] - row["before"])
    faces.loc[faces["split"] == "test", "ethnicity"] = "White"
    again = calibration.logit_adjusted(faces, drawn).set_index("task").loc["ethnicity"]
    assert again["strength"] == row["strength"]


def test_the_questions_of_others_by_hand(faces):
    test = faces[faces["split"] == "test"].reset_index(drop=True)
    table = protocols.others_protocols(test, bootstrap.Resamples(test["group"], n=50))
    error = (test["pred_age"] - test["age"]).abs()[test["age"].between(21, 60)]
    first = table.query("task == 'age' and metric == 'mae'").iloc[0]
    assert first["value"] == pytest.approx(error.mean()) and first["n"] == len(error)
    minors = test[test["age"] < 18]
    last = table[table["protocol"].str.contains("younger than 18")].iloc[0]
    assert last["value"] == pytest.approx((minors["pred_age"] >= 18).mean())


def test_labels_that_all_networks_contradict():
    faces = fake_predictions(60, 1, 2.0).assign(split="test", gender="male", age=30.0)
    faces["pred_age"] = 31.0
    columns = probability_columns("gender")
    faces[columns] = [0.95, 0.05]
    faces.loc[[3, 4], columns] = [0.05, 0.95]
    other = faces.copy()
    other.loc[4, columns] = [0.2, 0.8]  # less sure: no suspect
    faces.loc[[7, 8], "pred_age"], other.loc[[7, 8], "pred_age"] = 55.0, [57.0, 5.0]
    found = noise.suspects([faces, other]).set_index("task")
    assert found.loc["gender", ["image", "answer"]].tolist() == [faces["image"][3], "female"]
    assert found.loc["age", ["image", "answer"]].tolist() == [faces["image"][7], "56.0"]


def test_label_conflicts_and_label_noise_by_hand():
    table = pd.DataFrame({"group": list("aabbcdd"), "age": [20.0, 24, 50, 50, 7, 30, 60]})
    table["image"] = table["same_file"] = [f"{k}.jpg" for k in range(7)]
    table["gender"] = ["male", "female", *["male"] * 4, None]
    table["ethnicity"] = "White"
    conflicts = noise.label_conflicts(table).set_index("task")
    assert conflicts["conflicts"].to_dict() == {"age": 2, "gender": 1, "ethnicity": 0}
    assert conflicts["groups"].to_dict() == {"age": 3, "gender": 2, "ethnicity": 3}
    bounds = noise.label_noise(table, 200).set_index(["task", "metric"])["bound"]
    assert bounds["age", "mae"] == pytest.approx((4 + 0 + 30) / 3 / 2)
    assert bounds["age", "cs5"] == pytest.approx(1 - 1 / 3 / 2)
    assert bounds["age_bin", "accuracy"] == pytest.approx(1 - 1 / 3 / 2)
    assert bounds["gender", "accuracy"] == pytest.approx(1 - 1 / 2 / 2)
    assert bounds["ethnicity", "accuracy"] == 1.0
    table.loc[1, "same_file"] = "0.jpg"  # the first group is one file twice
    bounds = noise.label_noise(table, 200).set_index(["kind", "task", "metric"])["bound"]
    assert bounds["identical files", "age", "mae"] == pytest.approx(4 / 2)
    assert bounds["near-duplicates", "age", "mae"] == pytest.approx((0 + 30) / 2 / 2)
    assert noise.heaping_index([23, 25]) == 250.0  # Whipple's index
    assert np.isnan(noise.heaping_index([1]))


def test_near_duplicates_in_training_are_found_and_their_worth():
    mixed = pd.DataFrame({"image": ["t1", "t2", "t3", "v1"], "split": ["test"] * 3 + ["val"]})
    splits = pd.DataFrame({"image": ["t1", "r1", "t2", "v1", "t3"], "group": list("aabbc")})
    assert random_split.leaked(mixed, splits).tolist() == [True, False, False]

    first, second = fake_predictions(3000, 1, 6.0), fake_predictions(3000, 2, 4.0)
    table = random_split.split_effect(first, second, resamples=300).set_index("task")
    assert table["difference"]["age"] == pytest.approx(-1.6, abs=0.4)  # .8 x the spread
    assert table["ci_high"]["age"] < 0 < table["difference"]["gender"]


def test_old_runs_are_scored_on_the_clean_faces_too():
    faces = fake_predictions(600, 1, 5.0)
    test = (faces["split"] == "test").to_numpy()
    copied = test & (faces.index % 4 == 0)
    faces.loc[copied, "pred_age"] = faces.loc[copied, "age"]  # known by heart
    splits = faces[["image", "group"]].assign(copy_in_train=copied)
    table = random_split.clean_effect(faces, splits.astype(str), resamples=300).set_index("task")
    error = (faces["pred_age"].astype(float) - faces["age"]).abs()
    row = table.loc["age"]
    assert row["all"] == pytest.approx(error[test].mean())
    assert row["clean"] == pytest.approx(error[test & ~copied].mean())
    assert row["n_all"] == test.sum() and row["n_clean"] == (test & ~copied).sum()
    assert 0 < row["ci_low"] < row["difference"] == row["clean"] - row["all"] < row["ci_high"]
    assert random_split.clean_effect(faces, splits[["image", "group"]]).empty
