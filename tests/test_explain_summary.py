"""The page on explanations: sentences and figures from numbers alone, without Keras."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from utils.explain import landmarks
from utils.explain.evidence import FOLDER, Evidence, load_all, save_evidence
from utils.explain.faithfulness import summarise
from utils.explain.names import CONTROLS, FAITHFULNESS, LOWER_IS_BETTER, METHODS
from utils.explain.regions import REGIONS, focus, region_areas, shares_table
from utils.explain.summary import summarise_study, trusted
from utils.explain.table import statistics_rows, write_explanations
from utils.paths import ROOT

FACES = 40


def _shares(rng, favourite):
    weight = np.array([4.0 if name == favourite else 1.0 for name in REGIONS])
    return pd.DataFrame(rng.dirichlet(weight * 20, FACES), columns=list(REGIONS))


def _per_face(rng, good):
    """Methods in `good` are far better than the Gaussian, the others equal to it."""
    rows = []
    for method in (*METHODS, *CONTROLS):
        row = {"method": method, "face": np.arange(FACES)}
        for name in FAITHFULNESS:
            better = -0.3 if name in LOWER_IS_BETTER else 0.3
            row[name] = 0.5 + rng.normal(0, 0.02, FACES) + better * (method in good)
        rows.append(pd.DataFrame(row))
    return pd.concat(rows, ignore_index=True)


def _evidence(run, model, task, favourite, good, stays, seed=0):
    rng = np.random.default_rng(seed)
    shares, per_face = _shares(rng, favourite), _per_face(rng, good)
    similar = [
        dict(method=m, statistic="randomization_similarity", n=8)
        | dict(value=0.9, ci_low=0.8, ci_high=0.95)
        if m in stays
        else dict(method=m, statistic="randomization_similarity", n=8)
        | dict(value=0.1, ci_low=0.0, ci_high=0.2)
        for m in METHODS
    ]
    tables = [summarise(per_face), shares_table(shares).assign(method="gradcam")]
    table = pd.concat([*tables, pd.DataFrame(similar)], ignore_index=True)
    about = dict(
        run=run, model=model, label=model.title(), task=task, dataset="utkface", faces="same"
    )
    about |= dict(counts={"all": FACES}, attention={"all": shares.mean().to_dict()})
    return Evidence(
        about,
        {"all": rng.random((8, 8)).astype(np.float16)},
        statistics_rows(table, run, model, task),
        shares,
        per_face,
    )


@pytest.fixture
def study(tmp_path):
    for one in (
        _evidence("utkface-a-finetune-96-seed1", "alexnet", "gender", "eyes", METHODS[:1], ()),
        _evidence("utkface-b-finetune-96-seed1", "resnet50", "gender", "mouth", (), METHODS[3:], 1),
    ):
        save_evidence(tmp_path / FOLDER, one)
        write_explanations(tmp_path / "explanations.csv", one.table)
    return tmp_path


def test_sentences_are_computed(study):
    summary = summarise_study(study)
    text = "\n".join(summary.sentences)
    assert summary.sentences[0].startswith("**No method is to be trusted on single faces**")
    assert "Grad-CAM of Alexnet lies, for the region's area, mostly on: gender eyes (" in text
    assert "Grad-CAM of Resnet50 lies, for the region's area, mostly on: gender mouth (" in text
    assert "of 8 differences between networks are beyond chance; the largest is the" in text
    assert "Grad-CAM beats the centred Gaussian on both curves (1 of 2 cases)" in text
    assert "Score-CAM does not beat the centred Gaussian on both curves (0 of 2 cases)" in text
    assert "SmoothGrad fails in 1 of 2 cases" in text and "Grad-CAM passes in all of 2" in text
    for figure in summary.figures.values():
        figure.canvas.draw()
        assert figure.finding and "UTKFace" in figure.caption
    assert set(summary.figures) == {"attention", "mean_maps", "methods"}


def test_the_best_method_is_not_praised_if_it_loses(study):
    methods = summarise_study(study).tables["methods"]
    # Four of eight comparisons are no majority.
    assert trusted(methods).startswith("**No method is to be trusted on single faces**")
    better = methods.assign(**dict.fromkeys(FAITHFULNESS, 2), fails=[1, 0, 1, 1])
    assert trusted(better).startswith("**To be trusted most: Grad-CAM++**")


def test_true_evidence_is_compared_with_the_gaussian(study):
    rows = [
        dict(method=m, statistic=s, value=v, ci_low=v - 0.1, ci_high=v + 0.1, n=50)
        for s in ("energy_inside", "pointing_game")
        for m, v in zip((*METHODS, *CONTROLS), (0.5, 0.2, 0.4, 0.3, 0.1, 0.25), strict=True)
    ]
    table = statistics_rows(pd.DataFrame(rows), "synthetic-x", "alexnet", "gender")
    write_explanations(study / "explanations.csv", table)
    summary = summarise_study(study)
    text = "\n".join(summary.sentences)
    assert "attention inside 50% by Grad-CAM, 25% by the Gaussian" in text
    assert "which does better than or as well as Grad-CAM++" in text
    assert "synthetic" in summary.figures["true_evidence"].finding.lower()


def test_nothing_measured_gives_an_empty_page(tmp_path):
    summary = summarise_study(tmp_path)
    assert not summary.sentences and not summary.figures


def test_evidence_files_repeat_byte_by_byte(tmp_path):
    one = _evidence("utkface-a", "alexnet", "age", "nose", (), ())
    first = save_evidence(tmp_path, one).read_bytes()
    (again,) = load_all(tmp_path)
    assert save_evidence(tmp_path / "b", again).read_bytes() == first
    assert again.about == one.about and len(again.per_face) == len(one.per_face)
    pd.testing.assert_frame_equal(again.table, one.table, check_dtype=False)


def test_the_page_needs_no_tensorflow(study):
    code = (
        "import sys; from utils.explain.summary import summarise_study as s;"
        f"assert s({str(study)!r}).sentences; assert 'tensorflow' not in sys.modules, 'loaded'"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_focus_is_relative_to_the_area():
    area = region_areas()
    assert sum(area.values()) == pytest.approx(1)
    name, ratio = focus(area | {"nose": 3 * area["nose"]})
    assert name == "nose" and ratio == pytest.approx(3)
    assert focus(dict.fromkeys(REGIONS, np.nan)) == ("nothing", 0.0)


def test_landmarks_are_counted_in_their_regions():
    good = np.array([[0.30, 0.29], [0.69, 0.29], [0.49, 0.52], [0.32, 0.69], [0.67, 0.69]])
    low = good + [0, 0.5]  # outside the picture, or in another region
    table = landmarks.check_table(np.stack([good, good, good, low]), looked_at=5)
    assert table["inside"].tolist() == [0.75] * 5
    assert (table["n"] == 4).all() and (table["looked_at"] == 5).all()
    with pytest.raises(ValueError, match="n >= 1"):
        landmarks.check_table(np.zeros((0, 5, 2)), 3)


def test_the_published_check_supports_the_regions():
    """What the docstring of the regions claims is in the stored table."""
    path = ROOT / "reports" / "study" / FOLDER / "region_check.csv"
    table = pd.read_csv(path)
    assert table["landmark"].tolist() == list(landmarks.POINTS)
    assert (table["n"] >= 150).all() and (table["inside"] >= 0.9).all()
