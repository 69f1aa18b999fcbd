"""AlexNet's convolutions as torchvision has them; Keras ships none."""

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import keras
import numpy as np
from keras import layers

URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"


def build(images):
    """From images [n, size, size, 3] of 63 pixels or more to [n, 6, 6, 256] (224-pixel images).

    References
    ----------
    Krizhevsky: One weird trick for parallelizing convolutional neural networks, 2014.
    """
    x = layers.ZeroPadding2D(2, name="pad1")(images)
    x = layers.Conv2D(64, 11, strides=4, activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = layers.Conv2D(192, 5, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv3")(x)
    x = layers.Conv2D(256, 3, padding="same", activation="relu", name="conv4")(x)
    x = layers.Conv2D(256, 3, padding="same", activation="relu", name="conv5")(x)
    return layers.MaxPooling2D(3, 2, name="pool5")(x)


def imagenet_weights(path: Path | str | None = None) -> list[np.ndarray]:
    """Weights in Keras order from torchvision's checkpoint at `path`, or downloaded."""
    state = read_torch_checkpoint(path or keras.utils.get_file(URL.rsplit("/", 1)[1], URL))
    kernels = []
    for index in (0, 3, 6, 8, 10):
        kernels.append(state[f"features.{index}.weight"].transpose(2, 3, 1, 0))
        kernels.append(state[f"features.{index}.bias"])
    return kernels


class _TensorReader(pickle.Unpickler):
    """Reads float tensors out of a torch checkpoint; any other object in it is refused."""

    def __init__(self, archive: zipfile.ZipFile, entry: str):
        super().__init__(io.BytesIO(archive.read(entry)))
        self.archive, self.folder = archive, entry.split("/")[0]

    def find_class(self, module, name):
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch", "FloatStorage"): float,
        }
        if (module, name) not in allowed:
            raise ValueError(
                f"the checkpoint asks for {module}.{name}, which is not a float tensor; "
                "refused, as a checkpoint must not run code"
            )
        return allowed[module, name]

    def persistent_load(self, pid):
        return np.frombuffer(self.archive.read(f"{self.folder}/data/{pid[2]}"), "<f4")

    @staticmethod
    def _tensor(storage, offset, shape, stride, *_):
        step = [storage.itemsize * number for number in stride]
        return np.array(np.lib.stride_tricks.as_strided(storage[offset:], shape, step))


def read_torch_checkpoint(path: Path | str) -> dict[str, np.ndarray]:
    """Read the float tensors of a ``.pth`` file by name, without torch and without running it.

    Raises
    ------
    ValueError
        If the file is no zip of torch 1.6 or later, or its pickle names anything but float tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            return dict(_TensorReader(archive, entry).load())
    except (zipfile.BadZipFile, StopIteration, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is no torch checkpoint in the zip format ({error})") from error
