"""Faces: found anywhere, cropped as in training, whatever the picture."""

import random

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mtcnn", reason="the demo extra is not installed")

from utils import faces
from utils.datasets.synthetic import draw_face


def placed(face, scale=1.5, turn=0.0, size=(800, 640), corner=(200, 120)):
    """A face in a larger picture, scaled and rotated (degrees, anticlockwise)."""
    picture = Image.new("RGB", size, (96, 120, 104))
    side = round(face.width * scale)
    chip = face.convert("RGBA").resize((side, side), Image.Resampling.BICUBIC)
    chip = chip.rotate(turn, expand=True, resample=Image.Resampling.BICUBIC)
    picture.paste(chip, corner, chip)
    return picture


@pytest.fixture(scope="module")
def drawn():
    """Drawn faces that the detector finds, as (face, picture, Face)."""
    found = []
    for number in range(12):
        face = draw_face(f"synthetic/129/{number:06d}.png")
        picture = placed(face)
        for seen in faces.detect(picture)[:1]:
            found.append((face, picture, seen))
    return found


def test_drawn_faces_are_found_where_they_are(drawn):
    assert len(drawn) >= 4
    for _, _, seen in drawn:
        x, y, width, height = seen.box
        assert 200 < x + width / 2 < 500 and 120 < y + height / 2 < 420
        assert seen.confidence >= faces.CONFIDENCE
        left_eye, right_eye, nose = seen.landmarks[:3]
        assert left_eye[0] < nose[0] < right_eye[0] and nose[1] > left_eye[1]


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (400, 300), "grey"),
        Image.new("RGB", (5, 5)),
        Image.new("RGB", (16, 16)),
        Image.new("RGB", (20, 2000)),
        Image.new("RGB", (3000, 17)),
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (400, 400, 3), dtype=np.uint8)),
    ],
    ids=["flat", "tiny", "small", "tall", "wide", "noise"],
)
def test_no_face_is_an_empty_list(picture):
    assert faces.detect(picture) == []


def test_proposals_are_bounded(monkeypatch):
    """Thousands of candidates must not need memory of the order of their square."""
    from mtcnn.utils import bboxes

    counts = []

    def watched(boxes, *arguments, **options):
        counts.append(len(boxes))
        return plain(boxes, *arguments, **options)

    plain = bboxes.smart_nms_from_bboxes
    monkeypatch.setattr(bboxes, "smart_nms_from_bboxes", watched)
    rng = np.random.default_rng(0)
    flood = rng.random((1, 60, 60, 2)).astype("float32") * 0.3 + 0.7

    def pnet(pixels):
        import tensorflow as tf

        return tf.zeros((1, 60, 60, 4)), tf.constant(flood)

    found = faces._propose(pnet, np.zeros((1, 200, 200, 3), np.float32))
    assert max(counts) <= faces.PROPOSALS and len(found) <= faces.PROPOSALS


@pytest.mark.parametrize("scale,turn", [(0.5, 0), (1.0, 20), (4.0, -15), (7.0, 8)])
def test_the_crop_undoes_scale_place_and_roll(scale, turn):
    """With known landmarks the face comes back pixel by pixel, however it was placed."""
    face = draw_face("synthetic/129/000003.png")
    side = round(200 * scale)
    picture = placed(face, scale, turn, (side * 2, side * 2), (side // 3, side // 4))
    whole = side // 3 + 1j * (side // 4)
    angle = np.exp(-1j * np.radians(turn))
    expanded = Image.new("L", (side, side)).rotate(turn, expand=True).width
    points = (faces.TEMPLATE - 0.5) @ [1, 1j] * side * angle + whole + expanded / 2 * (1 + 1j)
    marks = np.stack([points.real, points.imag], axis=1)
    box = (whole.real + side * 0.1, whole.imag, side * 0.8, side)
    crop = faces.crop_like_training(picture, box, marks)
    inner = (slice(30, 170), slice(30, 170))
    seen, true = (np.asarray(image, float)[inner] for image in (crop, face))
    assert np.abs(seen - true).mean() < (10 if scale < 1 else 6)
    assert np.corrcoef(seen.ravel(), true.ravel())[0, 1] > (0.95 if scale < 1 else 0.99)


def test_landmarks_that_contradict_the_box_are_not_used():
    picture = draw_face("synthetic/129/000003.png").resize((400, 400))
    box = (100, 80, 200, 240)
    plain = faces.crop_like_training(picture, box)
    mad = faces.crop_like_training(picture, box, np.full((5, 2), 7.0))
    assert np.array_equal(np.asarray(plain), np.asarray(mad))


def test_an_empty_box_is_an_error():
    with pytest.raises(ValueError, match="box .* is empty"):
        faces.crop_like_training(Image.new("RGB", (50, 50)), (10, 10, 0, 20))


def test_the_whole_picture_is_its_central_square():
    picture = Image.new("RGB", (300, 100), "blue")
    picture.paste(Image.new("RGB", (100, 100), "red"), (100, 0))
    crop = np.asarray(faces.whole_picture(picture, 64))
    assert crop.shape == (64, 64, 3) and (crop[:, 4:-4] == (255, 0, 0)).all()


@pytest.fixture(scope="module")
def utkface(real_data):
    """Some real faces, another draw than the one that the constants come from."""
    names = sorted((real_data / "UTKFace").glob("*.jpg"))
    random.Random(1).shuffle(names)
    return [Image.open(name).convert("RGB") for name in names[:24]]


def test_the_training_crop_is_as_measured(utkface):
    assert np.abs(faces.landmark_template(utkface) - faces.TEMPLATE).max() < 0.02


def test_a_training_face_in_a_larger_picture_gives_its_crop_back(utkface):
    close = []
    for k, face in enumerate(utkface):
        found = faces.detect(placed(face, 1.5, turn=(-12, 0, 12)[k % 3]))
        if found:
            crop = faces.crop_like_training(
                placed(face, 1.5, (-12, 0, 12)[k % 3]), found[0].box, found[0].landmarks
            )
            inner = (slice(40, 160), slice(40, 160))
            pair = [np.asarray(i.convert("L"), float)[inner].ravel() for i in (crop, face)]
            close.append(np.corrcoef(*pair)[0, 1])
    assert len(close) >= 22
    assert np.median(close) > 0.9


def test_a_training_face_in_a_larger_picture_is_read_alike(utkface):
    """The shipped network's answer hardly depends on where the face lies."""
    from utils import models
    from utils.training.predicting import predict_average

    shipped = [name for name, path in models.available().items() if path.parent == models.SHIPPED]
    if not shipped:
        pytest.skip("no model is shipped in data/models")
    network = models.load(shipped[0])
    size = network.input_shape[1]
    pairs = []
    for k, face in enumerate(utkface):
        picture = placed(face, 1.5, turn=(-12, 0, 12)[k % 3])
        for seen in faces.detect(picture)[:1]:
            crop = faces.crop_like_training(picture, seen.box, seen.landmarks, size)
            pairs.append((face.resize((size, size), Image.Resampling.BILINEAR), crop))
    both = [
        predict_average(network, np.stack([np.asarray(p[i]) for p in pairs]), np.arange(len(pairs)))
        for i in (0, 1)
    ]
    ages = [outputs["age"] @ np.arange(outputs["age"].shape[1]) for outputs in both]
    assert np.median(np.abs(ages[0] - ages[1])) < 4
    labels = [outputs["gender"].argmax(axis=1) for outputs in both]
    assert (labels[0] == labels[1]).mean() >= 0.85
