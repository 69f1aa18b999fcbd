"""Networks as ONNX files: to predict faster, and for programs and pages without TensorFlow."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from utils import models
from utils.backbones.registry import BACKBONES
from utils.files import DataError, digest_of, write_aside
from utils.paths import cache_dir


def export_network(name: str, path: Path) -> None:
    """Write a trained network whose heads are linear in the pooled feature maps.

    Input ``image``: crops in 0..255, float32 [n, s, s, 3]. Outputs: probabilities [n, k] by task,
    the feature maps ``activation`` [n, h, w, c], and ``heat_<task>`` [n, h, w], raw Grad-CAM.
    """
    network, about = models.load(name), models.describe(models.folder_of(name))
    entry = BACKBONES.get(about["model"])
    features = network.get_layer(entry.last_conv).output if entry else network.output
    outputs = {task: network.get_layer(task).output for task in about["tasks"]}
    for task in models.NEEDED:
        kernel = network.get_layer(task).kernel
        if not entry or kernel.shape[0] != features.shape[-1] or entry.pooling != "avg":
            raise DataError(f"the heads of {name} are not linear; expected such as mobilenetv2's")
        outputs[f"heat_{task}"] = _gradcam(network.get_layer(task), features, outputs[task])
    explained = keras.Model(network.inputs, outputs | {"activation": features})
    _write(explained, about["input_size"], "image", path)


class OnnxNetwork:
    """A trained network on onnxruntime, in place of the Keras network for `predict_average`.

    Its file is made once, in the cache, for weights that are as they are.
    """

    def __init__(self, name: str):
        import onnxruntime

        digest = digest_of(models.network_file(models.folder_of(name)))[:16]
        path = cache_dir() / "onnx" / f"{name}-{digest}.onnx"
        if not path.is_file():
            network = models.load(name)
            _write(network, network.input_shape[1], "image", path)
        self.session = onnxruntime.InferenceSession(path)

    def predict_on_batch(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by task for faces in 0..255, [n, s, s, 3]."""
        names = [output.name for output in self.session.get_outputs()]
        said = self.session.run(names, {"image": np.asarray(pixels, np.float32)})
        return dict(zip(names, said, strict=True))


def _gradcam(head, features, said):
    """Cells [n, h, w] without gradients: that of a linear head's logit is its kernel.

    The score is the expected age, or the logit of the most probable class, as in `utils.explain`.
    """
    years = np.arange(said.shape[-1], dtype="float32")
    if head.name == "age":
        slope = said * ops.subtract(years, ops.sum(said * years, axis=-1, keepdims=True))
    else:  # not argmax: ONNX lacks what Keras makes of it
        slope = ops.cast(said >= ops.max(said, axis=-1, keepdims=True), "float32")
    # [n, h, w, k], as if each cell were all
    logits = ops.matmul(features, ops.convert_to_numpy(head.kernel))
    return ops.relu(ops.sum(logits * slope[:, None, None], axis=-1))


def export_detector(folder: Path) -> None:
    """Write MTCNN's networks as ``pnet.onnx``, ``rnet.onnx`` and ``onet.onnx``."""
    from mtcnn import MTCNN

    sides = {"pnet": None, "rnet": 24, "onet": 48}  # the first slides over pictures of any size
    for stage, (name, side) in zip(MTCNN(device="CPU:0").stages, sides.items(), strict=True):
        _write(stage.model, side, "pixels", folder / f"{name}.onnx")


def _write(network, side: int | None, name: str, path: Path) -> None:
    """Export with weights of 16 bits, half the size: they are widened when the file is loaded."""
    import onnx

    seen = [keras.InputSpec("float32", shape=(None, side, side, 3), name=name)]
    kernels = [kernel.transpose(3, 2, 0, 1) for kernel in network.get_weights() if kernel.ndim == 4]
    with write_aside(path) as aside:
        network.export(aside, format="onnx", verbose=False, input_signature=seen)
        content, node = onnx.load(aside), onnx.helper.make_node
        graph = content.graph
        for weights in list(graph.initializer):
            array = onnx.numpy_helper.to_array(weights)
            if array.dtype != np.float32 or array.ndim < 2 or len(array) < 2:  # such as a bias
                continue
            short, scale = map(onnx.numpy_helper.from_array, _shortened(array, kernels))
            short.name, scale.name = f"{weights.name}_short", f"{weights.name}_scale"
            graph.initializer.remove(weights)
            graph.initializer.extend([short, scale])
            wide = f"{weights.name}_wide"
            graph.node.insert(0, node("Mul", [wide, scale.name], [weights.name]))
            graph.node.insert(0, node("Cast", [short.name], [wide], to=onnx.TensorProto.FLOAT))
        onnx.save(content, aside)


def _shortened(array: np.ndarray, kernels: list) -> tuple[np.ndarray, np.ndarray]:
    """Weights in 16 bits, and the factors by which they are multiplied.

    Shipped kernels are float16, but the export multiplies most by the scales of the normalisation
    after them: rounding the products would move probabilities by 0.002. Other weights become
    integers: as small as float16, and ten times as precise.
    """
    inputs = (1, 2, 3) if array.ndim == 4 else 0
    for kernel in (array, *(kernel for kernel in kernels if kernel.shape == array.shape)):
        energy = np.maximum(np.sum(kernel**2, axis=inputs, keepdims=True), 1e-30)  # 0 if dead
        scale = np.sum(array * kernel, axis=inputs, keepdims=True) / energy
        short = kernel.astype(np.float16)
        if np.array_equal(short, kernel) and np.allclose(kernel * scale, array, 1e-4, 1e-7):
            return short, scale
    scale = np.maximum(np.abs(array).max(axis=inputs, keepdims=True) / 32767, 1e-30)
    return np.round(array / scale).astype(np.int16), scale
