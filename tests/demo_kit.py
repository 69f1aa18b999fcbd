"""What the demo's tests share: a small model of its own and pictures with drawn faces."""

import io
import os
import threading

import keras
import numpy as np
from PIL import Image

from utils.datasets.synthetic import draw_face
from utils.files import write_json
from utils.paths import runs_dir

FOUND, ALSO_FOUND = 2, 4  # numbers of drawn faces that the detector finds


def small_network(seed: int, size: int = 48) -> keras.Model:
    """A flat network that looks trained: its outputs depend on the picture."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((size, size, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="first")(x)
    x = keras.layers.Conv2D(12, 3, strides=2, activation="relu", name="out_relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = {
        task: keras.layers.Dense(
            n,
            "softmax",
            name=task,
            bias_initializer="random_normal",
            kernel_initializer=keras.initializers.RandomNormal(stddev=3),
        )(x)
        for task, n in (("age", 117), ("gender", 2), ("ethnicity", 5))
    }
    return keras.Model(images, outputs)


def write_run(name: str, backbone: str, seed: int = 1, mae: float = 0, **about) -> None:
    """A complete run in the work folder that `utils.models.available` finds."""
    folder = runs_dir() / name
    folder.mkdir(parents=True)
    small_network(seed).save(folder / "model.keras")
    config = {
        "run": name,
        "model": backbone,
        "label": backbone.upper(),
        "dataset": "utkface",
        "tasks": ["age", "gender", "ethnicity"],
        "input_size": 48,
        "split": "group",
        "protocol": "finetune",
        "n_train": 17000,
    }
    write_json(folder / "config.json", config | about)
    row = {"task": "age", "metric": "mae", "value": mae}
    rows = [row | {"split": split} for split in ("val", "test")] if mae else []
    write_json(folder / "metrics.json", {"rows": rows})


def photo(faces=(FOUND,), size=(700, 500), side=300) -> Image.Image:
    """A picture with drawn faces side by side."""
    picture = Image.new("RGB", size, (96, 120, 104))
    for k, number in enumerate(faces):
        chip = draw_face(f"synthetic/129/{number:06d}.png").resize((side, side))
        picture.paste(chip, (40 + k * (side + 20), 90))
    return picture


def encoded(picture: Image.Image, kind: str = "JPEG", **options) -> bytes:
    """A picture as the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def flat_png(width: int, height: int) -> bytes:
    """A valid PNG of one colour, written without holding its pixels."""
    import struct
    import zlib

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


def serve(analyst, worker=None):
    """A real server on a free port; returns it and its address."""
    from utils.demo.server import make_server

    server = make_server(analyst, "127.0.0.1", 0, worker)
    threading.Thread(target=_run, args=(server,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.effective_port}"


def _run(server):
    try:
        server.run()
    except OSError:  # closed by the test
        pass


def open_files() -> set[str]:
    """Regular files that this process holds open, deleted ones too (Linux)."""
    found = set()
    for handle in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{handle}")
        except OSError:
            continue
        if target.startswith("/") and not target.startswith(("/dev", "/proc", "/sys", "/memfd")):
            found.add(target)
    return found
