"""Faces: found anywhere, cropped as in training, whatever the picture."""

import random
from unittest import mock

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mtcnn", reason="the demo extra is not installed")

from utils import faces, models
from utils.datasets.synthetic import draw_face
from utils.predict import Scorer

TEMPLATE = np.array(faces.FRAMES["utkface"].template)


def placed(face, scale=1.5, turn=0.0, size=(800, 640), corner=(200, 120)):
    """A face in a larger picture, scaled and rotated (degrees, anticlockwise)."""
    picture = Image.new("RGB", size, (96, 120, 104))
    side = round(face.width * scale)
    chip = face.convert("RGBA").resize((side, side), Image.Resampling.BICUBIC)
    chip = chip.rotate(turn, expand=True, resample=Image.Resampling.BICUBIC)
    picture.paste(chip, corner, chip)
    return picture


def test_drawn_faces_are_found_where_they_are():
    pictures = [placed(draw_face(f"synthetic/129/{number:06d}.png")) for number in range(12)]
    found = [seen for picture in pictures for seen in faces.detect(picture)[:1]]
    assert len(found) >= 4
    for seen in found:
        (x, y, width, height), marks = seen.box, seen.landmarks
        assert 200 < x + width / 2 < 500 and 120 < y + height / 2 < 420
        assert seen.confidence >= faces.CONFIDENCE
        assert marks[0, 0] < marks[2, 0] < marks[1, 0] and marks[2, 1] > marks[0, 1]


@pytest.mark.parametrize("size", [(400, 300), (5, 5), (16, 16), (20, 2000), (3000, 17)])
def test_no_face_is_an_empty_list(size):
    assert faces.detect(Image.new("RGB", size, "grey")) == []


def test_proposals_are_bounded(monkeypatch):
    """Thousands of candidates must not need memory of the order of their square."""
    import tensorflow as tf
    from mtcnn.utils import bboxes

    watched = mock.Mock(wraps=bboxes.smart_nms_from_bboxes)
    monkeypatch.setattr(bboxes, "smart_nms_from_bboxes", watched)
    flood = np.random.default_rng(0).random((1, 60, 60, 2)).astype("float32") * 0.3 + 0.7
    said = tf.zeros((1, 60, 60, 4)), tf.constant(flood)
    found = faces._propose(lambda *_: [said] * faces.STEPS, np.zeros((1, 200, 200, 3), np.float32))
    counts = [len(call.args[0]) for call in watched.call_args_list]
    assert max([*counts, len(found)]) <= faces.PROPOSALS


def test_all_scales_at_once_propose_what_each_alone_does():
    import tensorflow as tf
    from mtcnn import MTCNN

    pnet = MTCNN(device="CPU:0").stages[0].model

    def one_by_one(pixels, sizes):
        return [pnet(tf.image.resize(pixels, size, "area")) for size in sizes]

    for side in (30, 120, 640):
        picture = placed(draw_face("synthetic/129/000003.png"), size=(640, 640)).resize((640, side))
        pixels = ((np.asarray(picture, np.float32) - 127.5) / 128)[None]
        own, alone = (faces._propose(way, pixels) for way in (faces._stages()[0], one_by_one))
        np.testing.assert_allclose(own, alone, rtol=1e-3, atol=1e-3)
    assert len(own)


@pytest.mark.parametrize("scale,turn", [(0.5, 0), (1.0, 20), (7.0, 8)])
def test_the_crop_undoes_scale_place_and_roll(scale, turn):
    """With known landmarks the face comes back pixel by pixel, however it was placed."""
    face = draw_face("synthetic/129/000003.png")
    side = round(200 * scale)
    picture = placed(face, scale, turn, (side * 2, side * 2), (side // 3, side // 4))
    whole = side // 3 + 1j * (side // 4)
    angle = np.exp(-1j * np.radians(turn))
    expanded = Image.new("L", (side, side)).rotate(turn, expand=True).width
    points = (TEMPLATE - 0.5) @ [1, 1j] * side * angle + whole + expanded / 2 * (1 + 1j)
    marks = np.stack([points.real, points.imag], axis=1)
    box = (whole.real + side * 0.1, whole.imag, side * 0.8, side)
    crop = faces.crop_like_training(picture, box, marks)
    inner = (slice(30, 170), slice(30, 170))
    seen, true = (np.asarray(image, float)[inner] for image in (crop, face))
    assert np.abs(seen - true).mean() < (10 if scale < 1 else 6)
    assert np.corrcoef(seen.ravel(), true.ravel())[0, 1] > (0.95 if scale < 1 else 0.99)


def test_landmarks_that_contradict_the_box_are_not_used_and_an_empty_box_is_an_error():
    picture = draw_face("synthetic/129/000003.png").resize((400, 400))
    box = (100, 80, 200, 240)
    plain = faces.crop_like_training(picture, box)
    mad = faces.crop_like_training(picture, box, np.full((5, 2), 7.0))
    assert np.array_equal(np.asarray(plain), np.asarray(mad))
    with pytest.raises(ValueError, match="box .* is empty"):
        faces.crop_like_training(picture, (10, 10, 0, 20))


def test_the_face_in_the_middle_is_chosen_and_brought_back_to_the_picture(monkeypatch):
    def detect(canvas):
        assert min(canvas.size) >= faces.SMALL_SIDE
        side, marks = canvas.width, np.full((5, 2), canvas.width / 2)
        half = side / 2 - 20
        edge = faces.Face((0.0, 0.0, 60.0, 60.0), 1.0, marks)
        return [edge, faces.Face((half, half, 40.0, 40.0), 1.0, marks)]

    monkeypatch.setattr(faces, "detect", detect)
    face = faces.locate(Image.new("RGB", (64, 64)))
    np.testing.assert_allclose(face.landmarks, 32, atol=0.5)
    assert face.box[2] == pytest.approx(40 / 3)
    monkeypatch.setattr(faces, "detect", lambda canvas: [])
    assert faces.locate(Image.new("RGB", (64, 64))) is None


@pytest.mark.parametrize("name,place", [("utkface", "UTKFace"), ("fairface", "FairFace540/val")])
def test_faces_lie_where_the_constants_say(real_data, name, place):
    """Another draw than the one that the constants come from."""
    names = sorted((real_data / place).glob("*.jpg"))
    random.Random(1).shuffle(names)
    shares = []
    for picture in (Image.open(path).convert("RGB") for path in names[:24]):
        if face := faces.locate(picture):
            shares.append(face.landmarks / picture.width)
    assert np.abs(np.median(shares, axis=0) - faces.FRAMES[name].template).max() < 0.025


def test_a_training_face_in_a_larger_picture_is_read_alike(real_data):
    """The shipped network's answer hardly depends on where the face lies."""
    if not models.is_shipped(models.SHIPPED / "mobilenetv2"):
        pytest.skip("no model is shipped in data/models")
    scorer, pairs = Scorer("mobilenetv2"), []
    for k, path in enumerate(sorted((real_data / "UTKFace").glob("*.jpg"))[::900]):
        face = Image.open(path).convert("RGB")
        picture = placed(face, 1.5, turn=(-12, 0, 12)[k % 3])
        pairs += [(scorer.crop(face), scorer.crop(picture, f)) for f in faces.detect(picture)[:1]]
    one, other = (scorer.outputs(crops) for crops in zip(*pairs, strict=True))
    years = np.arange(one["age"].shape[1])
    assert len(pairs) >= 20 and np.median(np.abs((one["age"] - other["age"]) @ years)) < 4
    assert (one["gender"].argmax(axis=1) == other["gender"].argmax(axis=1)).mean() >= 0.85
