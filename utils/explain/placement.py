"""Where on the picture does each cell of a feature map look?

The usual enlargement of a heat-map puts its first cell on the first pixel and its last cell on the
last one. Padding and strides say otherwise: at 96 pixels the three cells of MobileNetV2 are centred
on pixels 31, 63 and 95, those of ResNet50 near 0, 32 and 64. Drawn the usual way, MobileNetV2's
eyes come out in the upper left corner, and networks seem to look at different places because they
pad differently. The study therefore places maps by the centres of the receptive fields (Araujo,
Norris and Sim 2019, Computing Receptive Fields of Convolutional Neural Networks).
"""

import numpy as np


def _chain(net, layer):
    """Layers from the input to the named one, along the first input of each."""
    chain, current = [], net.get_layer(layer)
    while True:
        chain.append(current)
        inputs = current.input
        tensor = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
        parent = tensor._keras_history.operation
        if parent is current or not len(parent._inbound_nodes[0].input_tensors):
            return chain[::-1]
        current = parent


def _window(layer) -> tuple[int, int, int]:
    """Extent, stride and padding before the picture of a convolution or pooling layer."""
    kernel = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", (1,))
    stride = (getattr(layer, "strides", None) or (1,))[0]
    extent = (kernel[0] - 1) * (getattr(layer, "dilation_rate", None) or (1,))[0] + 1
    if layer.padding != "same":
        return extent, stride, 0
    n = layer.input.shape[1]
    total = max((-(-n // stride) - 1) * stride + extent - n, 0)
    return extent, stride, total // 2


def cell_grid(net, layer) -> tuple[float, float]:
    """Centre of the first cell of a layer and the distance between cells, in pixels.

    Parameters
    ----------
    net : keras.Model
        Flat; square pictures.
    layer : str
        Name of a layer with feature maps.

    Returns
    -------
    first, step : float
        Cell i looks at pixel ``first + i * step``. A layer that changes the size in a way unknown
        here gives equal tiles of the picture.
    """
    first, step = 0.0, 1.0
    for one in _chain(net, layer):
        kind = type(one).__name__
        if kind == "ZeroPadding2D":
            first -= step * one.padding[0][0]
        elif len(one.output.shape) == 4 and hasattr(one, "padding"):
            extent, stride, before = _window(one)
            first += step * ((extent - 1) / 2 - before)
            step *= stride
        elif not isinstance(one.input, list) and one.input.shape[1] != one.output.shape[1]:
            side, cells = net.inputs[0].shape[1], net.get_layer(layer).output.shape[1]
            return (side / cells - 1) / 2, side / cells
    return float(first), float(step)


def place_maps(maps, size, first, step) -> np.ndarray:
    """Enlarge maps [n, h, w] to size x size with each cell where it looks.

    Linear between the centres of cells, constant beyond the outer ones.

    Examples
    --------
    >>> place_maps(np.array([[[0.0, 1.0], [0.0, 1.0]]]), 4, 0.5, 2.0)[0, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    maps = np.asarray(maps, np.float64)

    def weights(cells):
        place = np.clip((np.arange(size) - first) / step, 0, cells - 1)
        left = np.minimum(place.astype(int), max(cells - 2, 0))
        matrix = np.zeros((size, cells))
        matrix[np.arange(size), left] = 1 - (place - left)
        matrix[np.arange(size), np.minimum(left + 1, cells - 1)] += place - left
        return matrix

    return weights(maps.shape[1]) @ maps @ weights(maps.shape[2]).T
