"""AlexNet's convolutions as torchvision has them; Keras ships none."""

from keras import layers


def alexnet_convolutions(images):
    """Apply the five convolutions and three poolings of AlexNet.

    Parameters
    ----------
    images : tensor [n, size, size, 3]
        At least 63 pixels a side.

    Returns
    -------
    tensor [n, 6, 6, 256] for 224-pixel images.

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
