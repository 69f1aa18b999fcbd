"""Figures: the title states the computed finding, the caption names n and the data set."""

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from test_evaluation import fake_predictions

from utils.datasets.facetable import DataError
from utils.evaluation import calibration, noise, pairwise, subgroups
from utils.evaluation.bootstrap import Resamples
from utils.plots import eda, results, study, theme


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
    pixels = eda.pixel_statistics(images, faces, sample=200)
    figures = [
        eda.age_histogram(faces, "synthetic"),
        eda.count_plot(faces, "gender", "synthetic"),
        eda.count_plot(faces, "ethnicity", "synthetic"),
        eda.joint_counts(faces, "synthetic"),
        eda.mean_age(faces, "synthetic"),
        eda.age_boxes(faces, "synthetic"),
        eda.photo_year(faces, "synthetic", years=np.full(600, 1990)),
        eda.pixels(pixels, "synthetic"),
        eda.duplicates(faces, "synthetic"),
        eda.split_composition(faces, "synthetic"),
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
    table = pd.DataFrame({"gender": ["male"] * 3 + ["female"], "age": [40.0, 40, 40, 30]})
    assert "'male' is right for 75.0%" in eda.count_plot(table, "gender", "wiki").finding
    assert "10.0 years younger" in eda.mean_age(table, "wiki").finding


def test_pixel_statistics_by_hand():
    images = np.zeros((2, 2, 2, 3), np.uint8)
    images[1, 0, 0] = 200
    table = pd.DataFrame({"age": [1.0, 2.0], "gender": ["male", "female"]})
    found = eda.pixel_statistics(images, table)
    assert found["mean"].tolist() == [0.0, 50.0] and found["range"].tolist() == [0.0, 200.0]
    with pytest.raises(ValueError, match="2 images for 1 rows"):
        eda.pixel_statistics(images, table.head(1))


def test_run_figures(faces, test_faces, tmp_path):
    figure = drawn(results.true_vs_predicted(faces, "utkface"), tmp_path)
    mae = (test_faces["pred_age"].astype(float) - test_faces["age"]).abs().mean()
    assert f"{mae:.2f} years" in figure.finding
    drawn(results.error_by_age({"a": faces, "b": faces}, "utkface", baseline_age=29), tmp_path)
    for task, figure in results.all_confusions(faces, "synthetic").items():
        assert task in ("age_bin", "gender", "ethnicity")
        assert f"n = {len(test_faces):,}" in drawn(figure, tmp_path).caption


def test_learning_curves_title_names_the_best_run(tmp_path):
    rising = pd.DataFrame({"epoch": [1, 2], "age_mae": [8.0, 6], "val_age_mae": [7.0, 8.0]})
    falling = pd.DataFrame({"epoch": [1, 2], "age_mae": [8.0, 6], "val_age_mae": [7.0, 5.0]})
    histories = {"a": rising, "b": falling}
    figure = results.learning_curves(histories, "age_mae", "utkface", {"b": "Best"}, 15.0)
    assert drawn(figure, tmp_path).finding.startswith("Best reaches")
    assert "1 of 2 runs peak before" in figure.finding
    with pytest.raises(DataError, match="no history holds 'x'"):
        results.learning_curves(histories, "x", "utkface")


def test_metric_bars_put_the_best_first(tmp_path):
    rows = pd.DataFrame({"label": ["a", "b"], "task": "age", "metric": "mae", "value": [6.0, 5],
                         "n": 9, "ci_low": [5.5, 4.5], "ci_high": [6.5, 5.5]})  # fmt: skip
    figure = results.metric_bars(rows, "utkface", 15.0, [("published: 4.77 years", 4.77)])
    assert "Age: 5.00 years at best (b)" in drawn(figure, tmp_path).finding
    assert figure.axes[0].get_yticklabels()[0].get_text() == "b"
    with pytest.raises(ValueError, match="one task and metric"):
        results.metric_bars(rows.assign(metric=["mae", "cs5"]), "utkface")


def test_front_keeps_what_none_beats():
    mask = study.front([1, 2, 3, 3], [0.7, 0.6, 0.9, 0.8], lower=False)
    assert mask.tolist() == [True, False, True, False]
    assert study.front([1, 2], [5.0, 4.0], lower=True).tolist() == [True, True]


def test_study_figures(faces, test_faces, tmp_path):
    resamples = Resamples(test_faces["group"], 50)
    table = subgroups.subgroups(test_faces, resamples)
    runs = {"a": faces, "b": fake_predictions(600, 5, 9.0)}
    matrix = pairwise.beats(pairwise.compare(runs, "age", n=50))
    bounds = noise.ceilings(faces, 50)
    best = pd.DataFrame({"task": ["age"], "metric": ["mae"], "value": [5.0], "label": ["a"]})
    figures = [
        study.subgroup_bars(table, "age", "synthetic"),
        study.subgroup_bars(table, "age", "synthetic", metric="bias"),
        study.subgroup_cells(*subgroups.by_cell(faces, "gender"), "gender", "synthetic"),
        study.who_beats_whom(matrix, "age", "synthetic", 300),
        study.reliability_diagram(faces, "ethnicity", "synthetic", 1.5),
        study.coverage(calibration.coverage(test_faces, resamples), "synthetic"),
        study.error_by_digit(noise.error_by_digit(test_faces, resamples), "synthetic"),
        study.ceilings(bounds, best, "synthetic"),
    ]
    for figure in figures:
        assert "synthetic" in drawn(figure, tmp_path).finding
    assert "1 of 1 pairs" in figures[3].finding


def test_nothing_to_draw_is_one_clear_error():
    with pytest.raises(DataError, match="no row has age"):
        eda.age_histogram(pd.DataFrame({"age": [np.nan]}), "wiki")
    with pytest.raises(DataError, match="missing column"):
        eda.age_histogram(pd.DataFrame({"x": [1]}), "wiki")
    with pytest.raises(ValueError, match="gender or ethnicity"):
        eda.count_plot(pd.DataFrame({"age": [1]}), "age", "wiki")
    with pytest.raises(DataError, match="no photo years"):
        eda.photo_year(pd.DataFrame({"image": ["a.jpg"], "age": [3.0]}), "wiki")


def test_palette_can_be_told_apart_without_colour_vision():
    # Lightness differs between the two colours that stand for gender.
    def lightness(colour):
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    shades = [lightness(value) for value in theme.GENDER_COLOURS.values()]
    assert abs(shades[0] - shades[1]) > 0.15
    assert len(set(theme.MODEL_COLOURS.values())) == len(theme.MODEL_COLOURS)
