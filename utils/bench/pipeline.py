"""Input pipeline at 224 pixels: files to float32 batches, one pass over a folder."""

import tempfile
import time
from pathlib import Path

import numpy as np

from utils.bench.material import Bench, faces, is_synthetic
from utils.bench.results import Measured
from utils.bench.timing import interleaved
from utils.training.batches import Batches

BATCH, SIZE = 64, 224
ALLOWED = 2.0  # mean difference in grey levels: decoders round differently


def _folder(found, folder: Path) -> None:
    """Lay the pictures of a FaceSet into one class folder, in the order of the table."""
    target = folder / "faces"
    target.mkdir()
    for k, image in enumerate(found.table["image"]):
        path = target / f"{k:06d}.jpg"
        if found.source_bytes is not None:
            path.write_bytes(found.source_bytes(image))
        else:
            found.read(image).save(path, quality=95)


def _dataset(folder: Path, size: int):
    import keras

    return keras.utils.image_dataset_from_directory(
        folder,
        labels=None,
        image_size=(size, size),
        batch_size=BATCH,
        shuffle=False,
        verbose=False,
    )


def _generator(folder: Path, size: int):
    import contextlib
    import io

    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it found
        flow = ImageDataGenerator().flow_from_directory(
            str(folder),
            target_size=(size, size),
            batch_size=BATCH,
            class_mode=None,
            shuffle=False,
            interpolation="bilinear",
        )
    return (flow[k] for k in range(len(flow)))


def _uint8(images):
    """Batches in file order, as the study's networks take them."""
    y = {"row": np.arange(len(images))}
    batches = Batches(images, y, np.arange(len(images)), BATCH, shuffle=False)
    return (batches[k][0] for k in range(len(batches)))


def _ours(images):
    """The same as float32 tensors, like those of the baselines."""
    import keras

    return (keras.ops.cast(batch, "float32") for batch in _uint8(images))


def _count(batches) -> int:
    """Draw all batches; nothing else is timed."""
    return sum(len(batch) for batch in batches)


def _against(bench: Bench, baseline, label: str, n: int) -> Measured:
    from utils.datasets.imagecache import load_images

    found = faces(bench, n)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _folder(found, folder)
        found.read = _reader(folder, found) if is_synthetic(bench) else found.read
        started = time.perf_counter()
        found, images = load_images(found, SIZE, progress=bench.progress)
        built = time.perf_counter() - started
        sides = {
            "baseline": lambda: _count(baseline(folder, SIZE)),
            "ours": lambda: _count(_ours(images)),
            "uint8": lambda: _count(_uint8(images)),
        }
        timing = interleaved(sides, bench.repeats, 1, label, bench.progress)
        there, here = _pixels(baseline(folder, SIZE)), _pixels(_ours(images))
    apart = float(np.abs(there - here).mean()) if there.shape == here.shape else float("inf")
    rates = {side: n / timing.median(side) for side in sides}
    return Measured(
        rates["ours"] / rates["baseline"],
        rates["baseline"],
        rates["ours"],
        apart <= ALLOWED,
        f"first pictures differ by {apart:.2f} of 255 on average (allowed {ALLOWED})",
        bench.repeats,
        sides_in="images/s",
        note=f"{n:,} JPEG files to float32 batches of {BATCH}; the cache was built once before, "
        f"in {built:.1f} s, and then serves every run. The study's networks take uint8 and cast "
        f"inside: without the cast {rates['uint8']:,.0f} images/s, "
        f"{rates['uint8'] / rates['baseline']:.1f} times.",
        details={"faces": n, "cache_seconds": built, "rates": rates},
    )


def _reader(folder: Path, found):
    """Read the files that were written: the drawn faces went through JPEG there."""
    from PIL import Image

    place = {image: k for k, image in enumerate(found.table["image"])}

    def read(image):
        return Image.open(folder / "faces" / f"{place[image]:06d}.jpg").convert("RGB")

    return read


def _pixels(batches) -> np.ndarray:
    """The first batch as float32."""
    return np.asarray(next(iter(batches)), "float32")


def against_dataset(bench: Bench) -> Measured:
    """What Keras offers today."""
    return _against(bench, _dataset, "image_dataset_from_directory", bench.pick(2048, 80))


def against_generator(bench: Bench) -> Measured:
    """What many notebooks still use."""
    return _against(bench, _generator, "ImageDataGenerator", bench.pick(1024, 80))
