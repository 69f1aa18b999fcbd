"""Where do ImageNet weights come from? A folder of files, or a download."""

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import keras
import numpy as np

from utils.paths import weights_dir

ALEXNET_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"


class _Storage:
    """Stands for a torch storage class while a checkpoint is read."""


class _TensorReader(pickle.Unpickler):
    """Reads tensors out of a torch checkpoint; any other object in it is refused."""

    def __init__(self, file, archive: zipfile.ZipFile, prefix: str):
        super().__init__(file)
        self.archive, self.prefix = archive, prefix

    def find_class(self, module, name):
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch", "FloatStorage"): _Storage,
        }
        if (module, name) not in allowed:
            raise ValueError(
                f"the checkpoint asks for {module}.{name}, which is not a float tensor; "
                "refused, as a checkpoint must not run code"
            )
        return allowed[module, name]

    def persistent_load(self, pid):
        data = self.archive.read(f"{self.prefix}/data/{pid[2]}")
        return np.frombuffer(data, "<f4")

    @staticmethod
    def _tensor(storage, offset, shape, stride, *_):
        item = storage.itemsize
        view = np.lib.stride_tricks.as_strided(
            storage[offset:], shape, [step * item for step in stride]
        )
        return np.array(view)


def read_torch_checkpoint(path: Path | str) -> dict[str, np.ndarray]:
    """Read the float tensors of a torch checkpoint without torch and without running its pickle.

    Parameters
    ----------
    path : Path or str
        A ``.pth`` file in the zip format (torch 1.6 or later).

    Returns
    -------
    dict from parameter name to float32 array.

    Raises
    ------
    ValueError
        If the file is no such zip, or its pickle names anything but float tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            reader = _TensorReader(io.BytesIO(archive.read(entry)), archive, entry.split("/")[0])
            return dict(reader.load())
    except (zipfile.BadZipFile, StopIteration, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is no torch checkpoint in the zip format ({error})") from error


def alexnet_kernels(path: Path | str) -> list[np.ndarray]:
    """Weights of AlexNet's convolutions in Keras order from torchvision's checkpoint."""
    state = read_torch_checkpoint(path)
    kernels = []
    for index in (0, 3, 6, 8, 10):
        kernels.append(state[f"features.{index}.weight"].transpose(2, 3, 1, 0))
        kernels.append(state[f"features.{index}.bias"])
    return kernels


def weights_file(stem: str) -> Path | None:
    """File in ``FACES_WEIGHTS_DIR`` whose name begins with `stem`, or None without that folder.

    Raises
    ------
    FileNotFoundError
        If the folder is set but has no such file.
    """
    folder = weights_dir()
    if folder is None:
        return None
    found = sorted([*folder.glob(f"{stem}*.weights.h5"), *folder.glob(f"{stem}*.pth")])
    if not found:
        present = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else "no folder"
        raise FileNotFoundError(
            f"FACES_WEIGHTS_DIR={folder} has no {stem}*.weights.h5; it holds {present}; "
            "add the file, or unset FACES_WEIGHTS_DIR to download ImageNet weights"
        )
    return found[0]


def load_into(network: keras.Model, path: Path) -> None:
    """Load a ``.weights.h5`` file into a network, or say in one line that it does not fit."""
    try:
        network.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        first = str(error).strip().splitlines()[0][:160]
        raise ValueError(
            f"{path.name} does not hold the weights of {network.name} ({first}); "
            "check that the file belongs to this backbone and is complete"
        ) from None
