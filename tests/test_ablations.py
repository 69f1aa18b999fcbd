"""Ablations: their list, the settings that they change, and what the report says of them."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from test_evaluation import fake_predictions

from utils.ablations import DEFAULTS, Ablation, Plan, Variant, load_plan
from utils.evaluation import ablations, tables
from utils.evaluation.report import build
from utils.plots.ablations import ablation as draw
from utils.profiles import names, run_name
from utils.runs import Study

SPREADS = {"plain": 3.0, "worse": 6.0, "same": 3.0, "alone": 5.0}


def _faces(seed, spread):
    """Predictions with a validation part; the same faces and labels whatever the spread."""
    faces = fake_predictions(900, seed, spread)
    parts = np.where(np.arange(900) % 3 == 0, "val", "test")
    return faces.assign(split=parts)


@pytest.fixture(scope="module")
def study():
    held = {name: _faces(1, spread) for name, spread in SPREADS.items()}
    splits = {"utkface": held["plain"][["image", "group"]]}
    return Study(predictions=held, splits=splits)


def _variant(name, **settings):
    return Variant(name, settings, name=name)


@pytest.fixture(scope="module")
def made(study):
    one = Ablation(
        "one", "Noise", (_variant("plain"), _variant("worse"), _variant("same"), _variant("gone"))
    )
    alone = Ablation("two", "Alone", (_variant("plain"), _variant("alone", tasks=["gender"])))
    lost = Ablation("lost", "Lost", (_variant("nothing"), _variant("plain")))
    return ablations.ablations(study, Plan("utkface", (one, alone, lost)), 200)


def test_differences_are_paired_and_right(made, study):
    table, questions, missing = made
    assert set(questions) == {"one", "two"}
    assert [name for name, _ in missing] == ["utkface_ablation_one", "utkface_ablation_lost"]
    assert "gone" in missing[0][1]
    row = table.query("variant == 'worse' and task == 'age' and split == 'val'").iloc[0]
    errors = {
        run: (faces["pred_age"] - faces["age"]).abs()[faces["split"] == "val"].mean()
        for run, faces in study.predictions.items()
    }
    assert row["value"] == pytest.approx(errors["worse"])
    assert row["difference"] == pytest.approx(errors["worse"] - errors["plain"])
    assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert row["difference_low"] > 0 and row["p_holm"] < 0.05 and row["paired"] and row["n"] == 300


def test_twins_differ_by_nothing_and_references_have_no_difference(made):
    table = made[0]
    twins = table.query("variant == 'same'")
    assert (twins["difference"] == 0).all() and (twins["p"] == 1).all()
    assert table.query("variant == 'plain'")["difference"].isna().all()
    assert set(table.query("variant == 'alone'")["task"]) == {"gender"}
    assert set(table["split"]) == {"val", "test"}


def test_other_faces_are_resampled_apart(study):
    held = study.predictions | {"other": _faces(2, 3.0).assign(image=lambda t: "x" + t["image"])}
    scores = ablations.Scores(held, resamples=400)
    one = Ablation("split", "Split", (_variant("plain"), _variant("other")))
    rows = [row for row in ablations.compared(scores, one) if row["run"] == "other"]
    assert rows and not any(row["paired"] for row in rows)
    row = next(row for row in rows if row["task"] == "age" and row["split"] == "test")
    own = (row["ci_high"] - row["ci_low"]) / 2
    both = (row["difference_high"] - row["difference_low"]) / 2
    assert both == pytest.approx(np.sqrt(2) * own, rel=0.25)  # independent errors add in squares


def test_sentences_tell_the_numbers_and_what_may_be_chance(made):
    table, questions, _ = made
    told = ablations.sentences(table, questions).set_index("ablation")["sentence"]
    assert told["one"].startswith("Noise: against ‘plain’")
    row = table.query("variant == 'worse' and task == 'age' and split == 'val'").iloc[0]
    assert f"{row['difference']:+.2f} years" in told["one"]
    assert "‘same’ changes" in told["one"] and "(may be chance)" in told["one"]
    assert "300 validation faces" in told["one"] and "test faces confirm the sign" in told["one"]
    assert "age error" not in told["two"] and "accuracy of gender" in told["two"]
    assert all(text.endswith(".") and text.count(". ") == 0 for text in told)


def test_readable_has_values_and_marked_differences(made):
    table = made[0]
    text = ablations.readable(table)
    row = text[(text["variant"] == "worse") & (text["faces"] == "validation")].iloc[0]
    value = table.query("variant == 'worse' and task == 'age' and split == 'val'").iloc[0]
    expected = f"{value['value']:.2f} ({value['difference']:+.2f})*"
    assert row["age, years"] == expected
    same = text[text["variant"] == "same"].iloc[0]
    assert same["age, years"].endswith("(+0.00)")
    alone = text[text["variant"] == "alone"].iloc[0]
    assert alone["age, years"] == "-" and alone["gender, %"] != "-"


def test_seeds_give_a_yardstick():
    runs = {f"utkface-m-head-96-seed{k}": _faces(1, 3.0 + k / 10) for k in (1, 2, 3)}
    scores = ablations.Scores(runs, resamples=50)
    values = [scores.of(run, "val")[1]["age"][0] for run in runs]
    found = scores.seed_sd("utkface-m-head-96-seed1", "val", "age")
    assert found == pytest.approx(np.std(values, ddof=1)) and found > 0
    assert np.isnan(ablations.Scores({"a": _faces(1, 3)}, None, 50).seed_sd("a", "val", "age"))


def test_an_ensemble_is_the_mean_of_the_best_run_of_each_network():
    runs = {
        "utkface-vgg19-head-96-seed129": 6.0,
        "utkface-vgg19-partial-96-seed129": 4.0,
        "utkface-resnet50-head-96-seed129": 5.0,
        "utkface-resnet50-head-96-seed129-naive": 1.0,
        "utkface-alexnet-head-96-seed129": 1.0,
    }
    held = {run: _faces(k, spread) for k, (run, spread) in enumerate(runs.items())}
    study, plan = Study(predictions=held), Plan("utkface", (), (), ("vgg19", "resnet50"))
    members = ablations.ensemble_members(study, plan, "utkface")
    best = ["utkface-vgg19-partial-96-seed129", "utkface-resnet50-head-96-seed129"]
    assert list(members) == best  # by validation; no head, no naive split, no other network
    mean = ablations.ensemble_predictions([held[run] for run in members])
    first, second = (held[run].set_index("image").loc[mean["image"]] for run in members)
    expected = (first["pred_age"] + second["pred_age"]) / 2
    np.testing.assert_allclose(mean["pred_age"], expected)
    table, _, _ = ablations.ablations(study, plan, 100)
    gain = table.query("variant == 'mean of the networks' and task == 'age' and split == 'test'")
    assert gain["difference_high"].iloc[0] < 0


def test_the_figure_says_which_side_is_better(made):
    table, questions, _ = made
    figure = draw(table[table["ablation"] == "one"], questions["one"], "utkface")
    assert "with ‘worse’" in figure.finding and "right of it is better" in figure.caption
    assert len(figure.axes) == 4 and "n = 300" in figure.caption
    worse = figure.axes[0].containers[0].lines[0].get_xdata()
    assert worse[0] < 0  # years saved: a loss


def test_ablation_runs_stay_out_of_the_comparison_but_in_the_table():
    plan = load_plan()
    age = next(one for one in plan.ablations if one.name == "age").variants
    held = {variant.run: _faces(1, 3.0 + k) for k, variant in enumerate(age)}
    configs = {
        variant.run: {"study": variant.study, "dataset": "utkface", "seed": 129} for variant in age
    }
    report = build(Study(predictions=held, configs=configs), resamples=50)
    shown = report.tables["utkface_comparison"]["run"].dropna().tolist()
    assert shown == [age[0].run]
    assert set(report.tables["metrics"]["run"]) == set(held)
    assert "utkface_ablation_age" in report.figures
    assert report.tables["utkface_ablation_sentences"]["ablation"].tolist() == ["age"]
    assert any(name == "utkface_ablation_look" for name, _ in report.left_out)
    odd = Study(predictions=held, configs={age[1].run: {"study": "ablation"}})
    assert age[1].run not in tables.comparable(odd).predictions


# ---------------------------------------------------------------- the list


def test_the_list_is_sound():
    plan = load_plan()
    assert "ablations" not in names()
    assert {one.name for one in plan.ablations} >= {"start", "look", "age", "tasks", "mirror"}
    runs = plan.runs()
    assert [v.position for v in runs.values()] == sorted(v.position for v in runs.values())
    assert set(plan.runs(("repeats",))) == {variant.run for variant in plan.repeats}
    assert all(variant.study == "" for variant in plan.repeats)
    odd = {run: variant.study for run, variant in runs.items()}
    assert odd["utkface-mobilenetv2-partial-96-seed129"] == ""
    assert odd["utkface-mobilenetv2-partial-96-seed129-grey48"] == "ablation"
    assert odd["utkface-mobilenetv2-finetune-128-seed129-random"] == "ablation"
    with pytest.raises(ValueError, match="ablation 'hats' is unknown"):
        plan.runs(("hats",))


_ALONE = {"label": "x", "settings": {}}
_COMMON = {"dataset": "utkface", "model": "vgg19", "protocol": "head", "input_size": 96, "seed": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"ablations": [{"name": "a", "question": "q"}]}, "the key 'variants' is missing"),
        (
            {"ablations": [{"name": "a", "question": "q", "variants": [_ALONE]}]},
            "at least two variants",
        ),
    ],
)
def test_a_bad_list_gets_one_clear_error(change, message, tmp_path):
    path = tmp_path / "ablations.yaml"
    path.write_text(yaml.safe_dump({"common": _COMMON, "ablations": []} | change))
    with pytest.raises(ValueError, match=message):
        load_plan(path)


def test_every_setting_that_is_not_the_default_is_in_the_name():
    plain = DEFAULTS | _COMMON | {"seed": 129}
    assert run_name("vgg19", plain) == "utkface-vgg19-head-96-seed129"
    odd = {"look": "grey48", "age_loss": "class", "head_width": 1000, "mirror": False, "limit": 9}
    name = run_name("vgg19", plain | odd)
    assert name == "utkface-vgg19-head-96-seed129-grey48-class-wide1000-nomirror-n9"
    assert tables.parse_run(name)["variant"] == "grey48-class-wide1000-nomirror-n9"


# ---------------------------------------------------------------- what they change in a training


def test_grey_and_small_pictures():
    from PIL import Image

    from utils.datasets.imagecache import look_of

    pixels = np.random.default_rng(1).integers(0, 256, (96, 96, 3)).astype("uint8")
    picture = Image.fromarray(pixels)
    grey = np.asarray(look_of(picture, "grey48"))
    assert grey.shape == (48, 48, 3)
    assert (grey == grey[:, :, :1]).all()
    assert look_of(picture, "colour") is picture
    small = np.asarray(look_of(picture, "colour48"), float)
    assert small.std() < pixels.std() and (small != small[:, :, :1]).any()


def test_a_look_has_pictures_and_a_fingerprint_of_its_own(work_dir):
    from utils.datasets import prepare

    plain, grey, other = (
        prepare("synthetic", 32, progress=False, n=60, **options)
        for options in ({}, {"look": "grey48"}, {"seed": 5})
    )
    assert (grey.images[..., 0] == grey.images[..., 2]).all()
    assert (plain.images[..., 0] != plain.images[..., 2]).any()
    assert len({plain.pictures, grey.pictures}) == 2 and other.pictures == plain.pictures
    assert len({plain.fingerprint, grey.fingerprint, other.fingerprint}) == 3
    with pytest.raises(ValueError, match="look 'sepia' is unknown"):
        prepare("synthetic", 32, progress=False, n=60, look="sepia")


def test_ordinal_years_are_a_chain_of_conditions():
    from utils.backbones.layers import OrdinalYears
    from utils.training.losses import AgeDistributionLoss

    logits = np.array([[2.0, 0.0, -1.0]], "float32")
    go = 1 / (1 + np.exp(-logits[0]))
    p = np.asarray(OrdinalYears()(logits))[0]
    by_hand = [1 - go[0], go[0] * (1 - go[1]), go[0] * go[1] * (1 - go[2]), go.prod()]
    np.testing.assert_allclose(p, by_hand, rtol=1e-5)
    # CORN: one binary entropy for each threshold that the true rank (2) was asked.
    loss = AgeDistributionLoss(sigma=0.0, weight=0.0, floor=1e-30)(np.array([2.0]), p[None])
    assert float(loss) == pytest.approx(
        -np.log(go[0]) - np.log(go[1]) - np.log(1 - go[2]), rel=1e-5
    )


def test_odd_heads_train_and_the_mirror_can_be_left_out(work_dir):
    from utils import models, runs
    from utils.training import RunConfig, train

    small = {"dataset": "synthetic", "dataset_options": {"n": 120}, "weights": "none", "epochs": 1,
             "input_size": 64, "model": "alexnet", "protocol": "head", "precision": "float32",
             "tasks": ["age", "gender"], "study": "ablation"}  # fmt: skip
    single = train(RunConfig(**small, age_loss="ordinal", mirror=False), progress=False)
    both = runs.runs_dir() / single.name.replace("-nomirror", "")
    assert runs.is_complete(both) and not (single / "model.keras").exists()
    # It has odd heads and tasks of its own, so it is no candidate of the comparison either.
    assert json.loads((both / "config.json").read_text())["study"] == "ablation"
    tables_ = [pd.read_parquet(folder / "predictions.parquet") for folder in (both, single)]
    averaged, alone = (table[table["split"] == "test"].set_index("image") for table in tables_)
    assert set(tables_[1]["split"]) == {"val", "test"}
    gap = (averaged["pred_age"] - alone["pred_age"]).abs()
    assert 0 < gap.max() < 20
    odd = train(RunConfig(**small, age_loss="regression", head_width=50), progress=False)
    table = pd.read_parquet(odd / "predictions.parquet")
    assert "age_q10" not in table and table["pred_age"].between(-50, 150).all()
    np.testing.assert_allclose(table.filter(like="p_gender").sum(axis=1), 1, atol=1e-4)
    assert models.available(("age",)).keys() & {both.name, odd.name} == {both.name}
    with pytest.raises(ValueError, match="age_loss 'squared' is unknown"):
        RunConfig(**small, age_loss="squared")
    with pytest.raises(ValueError, match="expected a width of at least 0"):
        RunConfig(protocol="regress", age_loss="class")


def test_a_trial_cannot_take_a_real_runs_place(capsys):
    from utils.training.ablations import main

    with pytest.raises(SystemExit):
        main(["age", "--epochs", "1"])
    assert "give both" in capsys.readouterr().err
