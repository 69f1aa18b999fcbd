"""Small files that cost much: each is given up in time, and the next picture is decoded."""

import contextlib
import io
import re
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from utils.datasets.pictures import open_rgb
from utils.demo import worker
from utils.demo.pictures import Refused, decode
from utils.demo.worker import Worker
from utils.paths import ROOT


def encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, content=b""):
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


GOOD = encoded(Image.new("RGB", (64, 48), "red"), "PNG")
JPEG = encoded(Image.new("RGB", (64, 48)), "JPEG")
HUGE = encoded(Image.new("L", (5000, 5000)), "JPEG", progressive=True)
GIF = encoded(Image.new("P", (64, 48)), "GIF")
BMP = encoded(Image.new("L", (64, 48)), "BMP")
START = GIF.index(b",\0\0\0\0")
COSTLY = {
    "empty chunks": GOOD[:33] + chunk(b"teXt") * 120_000 + GOOD[33:],
    "empty chunks of pixels": GOOD[:-12] + chunk(b"IDAT") * 120_000 + GOOD[-12:],
    "fill": JPEG[:2] + b"\xff" * 200_000 + JPEG[2:],
    "empty segments": JPEG[:2] + b"\xff\xe5\0\2" * 120_000 + JPEG[2:],
    "comments": GIF[:START] + b"!\xfe\1a\0" * 120_000 + GIF[START:],
    "run lengths": BMP[:30] + b"\1" + BMP[31:],
    "scans of many pixels": HUGE[:-2] + HUGE[HUGE.rindex(b"\xff\xda") : -2] * 40 + HUGE[-2:],
    "scans": JPEG[:-2] + JPEG[JPEG.index(b"\xff\xda") : -2] * 150 + JPEG[-2:],
}


@pytest.mark.parametrize("case", COSTLY)
def test_costly_files_are_refused_before_they_cost_much(case):
    begun = time.process_time()
    with pytest.raises(Refused) as refused:
        decode(COSTLY[case])
    assert refused.value.code == "too_costly" and time.process_time() - begun < 2


def test_what_takes_too_long_is_ended_and_the_next_picture_decoded(monkeypatch):
    slow, one, other = encoded(Image.new("L", (4000, 4000)), "JPEG"), Worker(), Worker()
    one.decode(GOOD), other.decode(GOOD)
    child, not_mine = one.child, other.child
    with monkeypatch.context() as patch:
        patch.setattr(worker, "DECODE_LIMIT", 0.001)
        with pytest.raises(Refused, match="costs too much"):
            one.decode(slow)
    child.wait(10)
    assert not_mine.is_running()
    picture, size = one.decode(GOOD)
    assert picture.getpixel((0, 0)) == (255, 0, 0) and size == (64, 48)


def test_memory_is_limited_and_a_child_that_the_system_ended_is_replaced(monkeypatch):
    large = encoded(Image.new("1", (6000, 6000)), "PNG")  # 5 kB; more than 100 MB in memory
    monkeypatch.setattr(worker, "MEMORY_LIMIT", 60_000_000)
    small = Worker()
    with pytest.raises(Refused, match="too much memory"):
        small.decode(large)
    assert small.decode(GOOD)[1] == (64, 48)
    small.child.kill()
    with contextlib.suppress(Refused):  # the first one afterwards may be lost
        small.decode(GOOD)
    assert small.decode(GOOD)[1] == (64, 48)


def test_every_picture_is_opened_by_decoders_that_are_named():
    """Else any of Pillow's forty may claim a file, such as IM's a WebP's."""
    for folder in ("utils", "reports", "data/models", "notebooks"):
        for path in (
            path for kind in ("py", "ipynb") for path in (ROOT / folder).rglob(f"*.{kind}")
        ):
            calls = re.findall(r"Image\.open\((.*)", path.read_text(encoding="utf-8"))
            assert all("formats=" in call for call in calls), path


def test_sixteen_bits_are_scaled_without_eight_bytes_a_pixel():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    seen = np.asarray(open_rgb(encoded(Image.fromarray(values), "PNG")))
    assert (seen == np.rint(values / 257)[..., None]).all()


def test_who_goes_away_gives_up_the_place_in_the_queue():
    one, gate, left, ran = Worker(length=1), threading.Event(), threading.Event(), []
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.run, gate.wait)
        while not one._turn.locked():
            time.sleep(0.01)
        second = pool.submit(one.run, lambda: ran.append(1), left.is_set)
        while not one.waiting:
            time.sleep(0.01)
        left.set()
        with pytest.raises(Refused):
            second.result(5)
        assert not one.waiting
        gate.set()
        assert first.result(5) and not ran and one.run(lambda: 2) == 2
