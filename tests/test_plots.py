"""Figures: the title states the computed finding, the caption names n and the data set."""

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from test_evaluation import fake_predictions
from test_evaluation_report import config, cost

from utils.evaluation.report import build
from utils.files import DataError
from utils.plots import eda, run, study, theme
from utils.study import Study


@pytest.fixture(scope="module")
def faces():
    return fake_predictions(600)


@pytest.fixture(scope="module")
def test_faces(faces):
    return faces[faces["split"] == "test"].reset_index(drop=True)


def drawn(figure, tmp_path):
    """The figure can be written, has a title, and a caption that ends in a full stop."""
    assert isinstance(figure, matplotlib.figure.Figure)
    figure.savefig(tmp_path / "figure.svg")
    assert figure.finding and figure.caption.endswith(".")
    return figure


def test_every_eda_figure_names_n_and_the_synthetic_set(faces, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (600, 8, 8, 3)).astype(np.uint8)
    plain = (eda.age_histogram, eda.joint_counts)
    figures = [function(faces, "synthetic") for function in (*plain, eda.split_composition)]
    figures += [
        eda.face_grid(images[:4], list("abcd"), "synthetic", "Four faces"),
    ]
    for figure in figures:
        drawn(figure, tmp_path)
        assert "synthetic" in figure.finding
        assert "n = " in figure.caption


def test_titles_hold_the_computed_numbers(tmp_path):
    ages = pd.DataFrame({"age": [20.0, 25, 31, 33]})
    figure = drawn(eda.age_histogram(ages, "utkface"), tmp_path)
    assert figure.finding.startswith("50% of the ages end in 0 or 5")
    assert "UTKFace, n = 4 faces" in figure.caption


def test_run_figures(faces, test_faces, tmp_path):
    figure = drawn(run.true_vs_predicted(faces, "utkface"), tmp_path)
    mae = (test_faces["pred_age"].astype(float) - test_faces["age"]).abs().mean()
    assert f"{mae:.2f} years" in figure.finding
    figure = drawn(run.error_by_age(faces, "utkface", label="a", baseline_age=29), tmp_path)
    assert figure.finding.startswith("A: the error runs from") and "years at ages" in figure.finding
    for task, figure in run.all_confusions(faces, "synthetic").items():
        assert task in ("age_bin", "gender", "ethnicity")
        assert f"n = {len(test_faces):,}" in drawn(figure, tmp_path).caption


def test_learning_curves_name_the_best_epoch_and_draw_the_baseline(tmp_path):
    rising = pd.DataFrame({"age_mae": [8.0, 6], "val_age_mae": [7.0, 8.0]})
    falling = pd.DataFrame({"age_mae": [8.0, 6], "val_age_mae": [7.0, 5.0]})
    figure = drawn(run.learning_curves(rising, "age_mae", "utkface", "a", 15.0), tmp_path)
    assert figure.finding == "Validation age error is best in epoch 1 of 2: 7"
    assert [15.0, 15.0] in [list(line.get_ydata()) for line in figure.axes[0].lines]
    found = run.learning_curves(falling, "age_mae", "utkface").finding
    assert found.endswith("best in epoch 2 of 2: 5")
    with pytest.raises(DataError, match="no history holds 'x'"):
        run.learning_curves(rising, "x", "utkface")


def test_front_keeps_what_none_beats():
    mask = study.front([1, 2, 3, 3], [0.7, 0.6, 0.9, 0.8], lower=False)
    assert mask.tolist() == [True, False, True, False]
    assert study.front([1, 2], [5.0, 4.0], lower=True).tolist() == [True, True]


def test_study_figures(tmp_path):
    told = {
        "a": config("a", dataset="synthetic"),
        "a130": config("a130", dataset="synthetic"),
        "b": config("b", dataset="synthetic", model="resnet50"),
        "r": config("r", dataset="synthetic", split="random"),
    }
    held = {name: fake_predictions(4000, k, 4.0 + k) for k, name in enumerate(told)}
    curve = pd.DataFrame({"val_age_mae": [7.0, 6.0, 6.5], "val_gender_accuracy": [0.6, 0.7, 0.8]})
    held["b"]["pred_age"] += 40  # far off: its figures must not be those of the best
    given = Study(
        predictions=held,
        configs=told,
        histories=dict.fromkeys(told, curve),
        costs={name: cost(one["model"]) for name, one in told.items()},
        splits={"synthetic": held["a"][["image", "group"]]},
    )
    report = study.draw(build(given, 50), given)
    kinds = "comparison cost subgroups reliability age_coverage label_noise random_split curves"
    kinds += " age_true_predicted ethnicity_confusion"
    assert {f"synthetic_{kind}" for kind in kinds.split()} <= set(report.figures)
    for figure in report.figures.values():
        assert "synthetic" in drawn(figure, tmp_path).finding
        # Readable at half width: 10 points at 8 inches, and a legend of its own place.
        texts = [text for text in figure.findobj(Text) if text.get_text().strip()]
        assert min(text.get_fontsize() for text in texts) * 8 / figure.get_figwidth() >= 10
        low = [one.get_window_extent().y1 for one in figure.legends]
        assert all(y <= figure._supxlabel.get_window_extent().y1 for y in low)
    named = {k.removeprefix("synthetic_"): f for k, f in report.figures.items()}
    assert named["comparison"].finding.startswith("MobileNetV2")
    assert "synthetic_gender_confusion" not in report.figures  # two shares are a sentence
    assert "2 of 4 validation curves peak" in named["curves"].finding
    assert "errs most in age on" in named["subgroups"].finding
    # A network has its colour in every figure.
    tints = {line.get_color() for line in named["curves"].axes[0].lines}
    assert {theme.colour("mobilenetv2"), theme.colour("resnet50")} <= tints


def test_the_ablation_figure_says_which_side_is_better():
    rows = pd.DataFrame({"split": ["val", "test"]}).assign(change="size", variant="big")
    rows = rows.assign(difference=2.0, difference_low=1.0, difference_high=3.0)
    rows = rows.assign(task="age", metric="mae", p_holm=0.01, n=7)
    figure = study.ablations({"ablations": rows}, None, "utkface")
    assert "size (big) 2.00 years worse" in figure.finding and "right is better" in figure.caption
    assert figure.axes[0].containers[0].lines[0].get_xdata()[0] == -2.0  # a larger error is a loss


def test_the_figure_of_sizes_shows_fine_tuned_networks_by_input_size():
    sizes, probe = {"a": 224, "b": 96, "c": 96, "d": 128}, "d"
    told = {run: {"model": "vgg19", "input_size": size} for run, size in sizes.items()}
    told = {run: one | {"protocol": "finetune"} for run, one in told.items()}
    told["c"]["model"], told[probe]["protocol"] = "resnet50", "linear_probe"
    rows = pd.DataFrame({"run": list("abcd"), "value": [4.0, 5.0, 6.0, 9.0]})
    rows = rows.assign(ablation="size_of", split="val", task="age", metric="mae", n=7)
    rows = pd.concat([rows, rows.assign(split="test", value=3.0), rows.assign(ablation="other")])
    rows = rows.assign(ci_low=rows["value"] - 1, ci_high=rows["value"] + 1)
    figure = study.sizes({"ablations": rows}, Study(configs=told), "utkface")
    assert figure.finding.endswith("ResNet50 6.00 to 6.00, VGG-19 5.00 to 4.00")
    lines = [text.get_text().split()[0] for text in figure.axes[0].get_yticklabels()]
    assert lines == ["96", "224"]
    with pytest.raises(DataError, match="several input sizes"):
        study.sizes({"ablations": rows[rows["run"] == probe]}, Study(configs=told), "utkface")


def test_the_figure_of_another_set_counts_who_is_worse_than_the_baseline():
    rows = pd.DataFrame({"label": list("xyx"), "value": [20.0, 8.0, 6.0]})
    rows = rows.assign(dataset="wiki", task="age", metric="mae", ci_low=5.0, ci_high=30.0, n=9)
    rows = rows.assign(in_domain=5.0, baseline=10.0, cropped=[False, False, True])
    figure = study.cross_dataset(rows, "wiki")
    assert "1 of 2 networks are worse than the baseline in age" in figure.finding
    with pytest.raises(DataError, match="see the table"):  # one mark is no figure
        study.cross_dataset(rows[rows["label"] == "y"], "wiki")
    with pytest.raises(DataError, match="utils.predict"):
        study.cross_dataset(rows, "utkface")


def test_nothing_to_draw_is_one_clear_error():
    tables = [
        (eda.age_histogram, {"age": [np.nan]}, "no row has age"),
        (eda.age_histogram, {"x": [1]}, "lacks the columns"),
    ]
    for function, table, message in tables:
        with pytest.raises(ValueError, match=message):
            function(pd.DataFrame(table), "wiki")


def luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_every_network_has_a_colour_of_its_own_that_can_be_seen():
    # The scratch CNN and ResNet50 shared a blue.
    names = "alexnet vgg19 mobilenetv2 resnet50 scratch_cnn wiki_cnn new newer".split()
    tints = [theme.colour(name) for name in names]
    assert len(set(tints)) == len(tints) and theme.colour("new") == tints[6]
    assert len(set(theme.MODEL_COLOURS.values())) == len(theme.MODEL_COLOURS)
    for tint in {*theme.MODEL_COLOURS.values(), *theme.PALETTE}:
        assert 1.05 / (luminance(tint) + 0.05) >= 3, tint
