"""Where are the faces in a picture, and how would the training data have cropped them?

Detection is MTCNN (Zhang et al. 2016) with the weights of the `mtcnn` package. Networks trained on
crops of one kind misjudge any other crop, so `crop_like_training` gives each face the place, size
and roll that faces have in the pictures of the network's training set.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from PIL import Image, ImageOps

from utils.files import DataError
from utils.study import same_faces

TRAINING_SIDE = 200  # pixels of a UTKFace picture
DETECT_SIDE = 640  # longer pictures are shrunk to it before the search
SMALL_SIDE = 192  # `locate` enlarges smaller pictures to this side
PAD = 0.25  # of the side, grey, on each side: `locate` finds faces that touch the edge too
MIN_FACE = 24  # smallest face, in pixels of the shrunk picture
CONFIDENCE = 0.9
PYRAMID = 0.709  # about 1 / sqrt(2): each step halves the area
STEPS = math.floor(math.log(12.5 / DETECT_SIDE / 12 * MIN_FACE, PYRAMID)) + 1  # at most
PROPOSALS = 1000  # kept per step; suppression needs memory of the order of their square


class Frame(NamedTuple):
    """Where a face lies in the pictures of a data set, so that others can be cut the same way."""

    template: list  # five landmarks as shares of the side
    margin: float  # side of the crop over the square root of the face box's area
    drop: float  # the crop's centre lies that share of the same root below the box's centre


_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
FRAMES = {dataset: Frame(**frame) for dataset, frame in _TABLE.items()}  # how measured: there


def frame_of(dataset: str) -> Frame:
    """Place of the face for a network that was trained on a data set."""
    if same_faces(dataset) not in FRAMES:
        known = f"is known for {list(FRAMES)} only; measure it and add it to utils/faces.yaml"
        raise DataError(f"where faces lie in {dataset} {known}")
    return FRAMES[same_faces(dataset)]


@dataclass(frozen=True)
class Face:
    """One face, in pixels of the picture it was found in.

    `landmarks` [5, 2] are x, y of left eye, right eye, nose, corners of the mouth, as the viewer
    sees left and right.
    """

    box: tuple[float, float, float, float]  # x, y, width, height; may reach beyond the picture
    confidence: float  # of the detector, 0..1
    landmarks: np.ndarray | None = None


@functools.cache
def _stages():
    """MTCNN's networks, compiled once a process; the first for all steps of a pyramid at once."""
    import tensorflow as tf  # here, as the frames are used without a detector, too
    from mtcnn import MTCNN

    pnet, rnet, onet = MTCNN(device="CPU:0").stages
    pictures, sizes = tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([STEPS, 2], "int32")

    def pyramid(pixels, sizes):
        return [pnet.model(tf.image.resize(pixels, sizes[k], "area")) for k in range(STEPS)]

    for stage in (rnet, onet):
        stage._model = tf.function(stage.model, input_signature=[pictures])
    return tf.function(pyramid, input_signature=[pictures, sizes]), rnet, onet


def _propose(pyramid, pixels: np.ndarray) -> np.ndarray:
    """Candidate boxes [n, 6] (0, x1, y1, x2, y2, confidence), at most PROPOSALS a scale.

    The package's own first stage fails on pictures where its pyramid ends below 12 pixels, and
    has no bound on its memory.
    """
    from mtcnn.utils import bboxes

    # Scales at which faces from MIN_FACE to the whole picture fill the 12 pixel window.
    smallest, found = 12.5 / min(pixels.shape[1:3]), []
    scales = max(smallest, 12 / MIN_FACE) * PYRAMID ** np.arange(STEPS)
    sizes = np.maximum(np.array(pixels.shape[1:3]) * scales[:, None], 12).astype("int32")
    scales = scales[scales >= smallest * (1 - 1e-9)]  # what smaller steps say is not needed
    for scale, (offsets, scores) in zip(scales, pyramid(pixels, sizes), strict=False):
        boxes = bboxes.generate_bounding_box(offsets, scores, 0.6)[:PROPOSALS]
        boxes = bboxes.upscale_bboxes(boxes, np.array([scale]))
        found.append(bboxes.smart_nms_from_bboxes(boxes, 0.5, initial_sort=False))
    found = np.concatenate(found)
    found = found[np.argsort(-found[:, 5])][:PROPOSALS]
    return bboxes.resize_to_square(bboxes.smart_nms_from_bboxes(found, 0.7))


def _search(pixels: np.ndarray) -> np.ndarray:
    """Rows 0, x1, y1, x2, y2, confidence, five x, five y (or fewer columns if there are none)."""
    pyramid, rnet, onet = _stages()
    pixels = ((pixels.astype(np.float32) - 127.5) / 128)[None]
    found = _propose(pyramid, pixels)
    if len(found):
        found = rnet(pixels, found)
    return onet(pixels, found) if len(found) else found


def detect(picture: Image.Image) -> list[Face]:
    """Find the faces of an RGB picture, the largest first.

    Faces narrower than about 4 % of the longer side are not looked for, and those found with a
    confidence below 0.9 are left out.
    """
    if min(picture.size) < 16:
        return []
    shrink, small = max(picture.size) / DETECT_SIDE, picture
    if shrink > 1:
        size = [max(13, round(side / shrink)) for side in picture.size]
        small = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    ratio = np.array([p / s for p, s in zip(picture.size, small.size, strict=True)])
    rows = _search(np.asarray(small.convert("RGB")))
    faces = []
    for row in (row for row in rows if row[5] >= CONFIDENCE):
        corner, far = row[1:3] * ratio, row[3:5] * ratio
        box = (*corner.tolist(), *(far - corner).tolist())
        landmarks = row[6:16].reshape(2, 5).T * ratio
        faces.append(Face(box, float(min(row[5], 1.0)), landmarks))
    return sorted(faces, key=lambda face: -face.box[2] * face.box[3])


def locate(picture: Image.Image) -> Face | None:
    """The face of a picture that is about one face: the nearest to its centre, by its own size."""
    scale = max(1.0, SMALL_SIDE / max(picture.size))
    width, height = (max(1, round(scale * side)) for side in picture.size)
    pad = round(PAD * max(width, height))
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    canvas = ImageOps.expand(picture, pad, (127, 127, 127))

    def distance(face):
        x, y, w, h = face.box
        off = (x + w / 2 - canvas.width / 2, y + h / 2 - canvas.height / 2)
        return math.hypot(*off) / math.sqrt(max(w * h, 1))

    face = min(detect(canvas), key=distance, default=None)
    if face is None:
        return None
    x, y, w, h = face.box
    box = ((x - pad) / scale, (y - pad) / scale, w / scale, h / scale)
    return Face(box, face.confidence, (face.landmarks - pad) / scale)


def crop_like_training(
    image, box, landmarks=None, size: int = TRAINING_SIDE, frame: Frame = FRAMES["utkface"]
) -> Image.Image:
    """Cut out a face with the place, size and roll that faces have in a training set (`frame_of`).

    Box and landmarks are as `detect` gives them. Without landmarks, or if they contradict the box,
    the box alone decides and the roll stays. The result, `size` pixels a side, is black where the
    picture ends, as in UTKFace.

    >>> picture = Image.new("RGB", (400, 300), "red")
    >>> crop_like_training(picture, (150, 100, 60, 80), size=96).size
    (96, 96)
    """
    turn, shift = _placement(box, landmarks, frame)
    # Training saw 200 pixel crops shrunk to `size`; the same two steps give the same sharpness.
    chip = _warp(image, turn * TRAINING_SIDE, shift * TRAINING_SIDE, TRAINING_SIDE)
    return chip if size == TRAINING_SIDE else chip.resize((size, size), Image.Resampling.BILINEAR)


def cutter(dataset: str):
    """A function that cuts the face of a picture as a data set would; None where it finds none."""
    frame = frame_of(dataset)

    def cut(picture: Image.Image) -> Image.Image | None:
        face = locate(picture)
        return face and crop_like_training(picture, face.box, face.landmarks, frame=frame)

    return cut


def _placement(box, landmarks, frame: Frame) -> tuple[complex, complex]:
    """Similarity z -> turn * z + shift from the picture to a crop of side 1 (x + iy)."""
    x, y, width, height = box
    root = math.sqrt(width * height)
    if not root > 0:
        raise ValueError(f"box {tuple(box)} is empty; expected x, y, width, height in pixels")
    turn = complex(1 / (frame.margin * root))
    centre = complex(x + width / 2, y + height / 2 + frame.drop * root)
    shift = 0.5 + 0.5j - turn * centre
    if landmarks is None:
        return turn, shift
    points, goal = (np.asarray(p, float) @ [1, 1j] for p in (landmarks, frame.template))
    spread = points - points.mean()
    fitted = np.vdot(spread, goal - goal.mean()) / max(np.vdot(spread, spread).real, 1e-9)
    if not 0.5 < abs(fitted) / abs(turn) < 2:
        return turn, shift
    return complex(fitted), complex(goal.mean() - fitted * points.mean())


def _warp(image: Image.Image, turn: complex, shift: complex, side: int) -> Image.Image:
    """Picture of `side` pixels whose point turn * z + shift shows the point z of `image`."""
    reduce = max(1, int(0.5 / abs(turn)))
    if reduce > 1:  # interpolation looks at four pixels only: shrink large faces first
        image, turn = image.reduce(reduce), turn * reduce
    back = 1 / turn
    start = -shift * back
    affine = (back.real, -back.imag, start.real, back.imag, back.real, start.imag)
    bicubic = Image.Resampling.BICUBIC
    return image.transform((side, side), Image.Transform.AFFINE, affine, bicubic)
