"""What the tests of predict and demo share: small models of their own, pictures of drawn faces."""

import functools
import io
import itertools
import struct
import threading
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from utils.datasets.synthetic import draw_face
from utils.faces import detect
from utils.files import write_json
from utils.models import NEEDED
from utils.paths import runs_dir
from utils.vocabulary import OUTPUTS


def small_network(seed: int, size: int = 48, width: int = 0) -> keras.Model:
    """A flat network that looks trained: its outputs depend on the picture."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((size, size, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="first")(x)
    x = keras.layers.Conv2D(12, 3, strides=2, activation="relu", name="out_relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    kernel = keras.initializers.RandomNormal(stddev=3)
    start = {"bias_initializer": "random_normal", "kernel_initializer": kernel}
    outputs = {
        task: keras.layers.Dense(max(OUTPUTS[task], width), "softmax", name=task, **start)(x)
        for task in NEEDED
    }
    return keras.Model(images, outputs)


def write_run(name: str, backbone="vgg19", seed=1, mae=0.0, width=0, **about) -> Path:
    """A complete run in the work folder that `utils.models.available` finds; its folder."""
    folder = runs_dir() / name
    folder.mkdir(parents=True)
    small_network(seed, width=width).save(folder / "model.keras")
    config = {"run": name, "model": backbone, "label": backbone.upper(), "tasks": list(NEEDED)}
    config |= {"dataset": "utkface", "split": "group", "protocol": "finetune"}
    config |= {"input_size": 48, "n_train": 17000}
    write_json(folder / "config.json", config | about)
    row = {"task": "age", "metric": "mae", "value": mae}
    rows = [row | {"split": split} for split in ("val", "test")] if mae else []
    write_json(folder / "environment.json", {})
    write_json(folder / "metrics.json", {"rows": rows})
    return folder


def _lay(chips) -> Image.Image:
    picture = Image.new("RGB", (700, 500), (96, 120, 104))
    for k, chip in enumerate(chips):
        picture.paste(chip, (40 + k * 320, 90))
    return picture


def _sure(*chips) -> bool:
    """Whether all are found beyond doubt: as drawn, in half the size and as JPEG."""
    drawn = _lay(chips)
    views = (drawn, drawn.resize((350, 250)), Image.open(io.BytesIO(encoded(drawn))))
    seen = ([face.confidence > 0.97 for face in detect(view)] for view in views)
    return all(found == [True] * len(chips) for found in seen)


@functools.cache
def _found_by_the_detector() -> tuple[Image.Image, Image.Image]:
    """Two drawn faces that are found alone and side by side: many are, but not all."""
    names = (f"synthetic/129/{number:06d}.png" for number in range(25))
    chips = (draw_face(name).resize((260, 260)) for name in names)
    return next(pair for pair in itertools.combinations(filter(_sure, chips), 2) if _sure(*pair))


def photo(n: int = 1) -> Image.Image:
    """A picture of 700 x 500 pixels with one or two drawn faces side by side."""
    return _lay(_found_by_the_detector()[:n])


def encoded(picture: Image.Image, kind: str = "JPEG", **options) -> bytes:
    """A picture as the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: bytes) -> bytes:
    """EXIF whose orientation is a text of at most three letters, which Pillow would not write."""
    entry = struct.pack("<HHI4s", 0x0112, 2, len(orientation) + 1, orientation)
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4)


def flat_png(width: int, height: int) -> bytes:
    """A valid PNG of one colour, written without holding its pixels."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    packer, row = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
    body = b"".join([packer.compress(row * 100) for _ in range(height // 100)] + [packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def noise(side: int = 1500) -> bytes:
    """A PNG that hardly compresses."""
    rng = np.random.default_rng(0)
    return encoded(Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)), "PNG")


def analyst(tmp_path_factory, *backbones):
    """One that knows small networks under the names of some backbones."""
    from utils.demo.analysis import Analyst

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACES_WORK_DIR", str(tmp_path_factory.mktemp("demo")))
        found = {name: write_run(name, name, seed) for seed, name in enumerate(backbones)}
        made = Analyst(found)
    for model in made.models.values():
        model.layer = None  # its last layer is found by itself
    made.warm_up()
    return made


def serve(analyst, worker=None):
    """A real server on a free port; returns it and its address."""
    from utils.demo.server import listen, make_server

    server = make_server(analyst, listen("127.0.0.1", 0), worker)
    threading.Thread(target=_run, args=(server,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.effective_port}"


def _run(server):
    try:
        server.run()
    except OSError:  # closed by the test
        pass
