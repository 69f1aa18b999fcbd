"""The two networks from scratch: age bin with gender, and age regression."""

import keras
from keras import layers, regularizers

from utils.backbones.layers import Preprocess


def _block(x, filters: int, pool: int, spatial_dropout: float, seed: int):
    x = layers.SeparableConv2D(filters, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(pool)(x) if pool > 1 else x
    x = layers.BatchNormalization()(x)
    return layers.SpatialDropout2D(spatial_dropout, seed=seed)(x) if spatial_dropout else x


def _dense(x, width: int, dropout: float, seed: int, l2: float = 0.0):
    penalty = regularizers.L2(l2) if l2 else None
    x = layers.Dense(width, activation="relu", kernel_regularizer=penalty)(x)
    x = layers.Dropout(dropout, seed=seed)(x)
    return layers.BatchNormalization()(x)


def scratch_classifier(input_size: int = 198, seed: int = 129) -> keras.Model:
    """Age bin and gender from one shared trunk of separable convolutions.

    Parameters
    ----------
    input_size : int
        Pixels a side.
    seed : int
        Initialisation and dropout.

    Returns
    -------
    keras.Model
        Input pixels 0..255, outputs ``age_bin`` (5) and ``gender`` (2) as probabilities.
    """
    keras.utils.set_random_seed(seed)
    images = keras.Input((input_size, input_size, 3), name="image")
    x = Preprocess("unit", name="preprocess")(images)
    trunk = [
        (32, 3, 0),
        (64, 2, 0),
        (128, 2, 0),
        (128, 2, 0.1),
        (256, 1, 0.1),
        (256, 1, 0.15),
        (256, 1, 0.15),
    ]
    for filters, pool, dropout in trunk:
        x = _block(x, filters, pool, dropout, seed)
    flat = layers.Flatten(name="features")(x)
    gender = _dense(_dense(flat, 64, 0.3, seed), 32, 0.25, seed)
    age = _dense(_dense(_dense(flat, 128, 0.3, seed, 0.03), 64, 0.3, seed), 32, 0.2, seed)
    outputs = {
        "age_bin": layers.Dense(5, activation="softmax", dtype="float32", name="age_bin")(age),
        "gender": layers.Dense(2, activation="softmax", dtype="float32", name="gender")(gender),
    }
    return keras.Model(images, outputs, name="scratch_cnn")


def wiki_regressor(input_size: int = 180, seed: int = 129) -> keras.Model:
    """Age in years as one rectified output.

    Parameters
    ----------
    input_size : int
        Pixels a side.
    seed : int
        Initialisation and dropout.

    Returns
    -------
    keras.Model
        Input pixels 0..255, output ``age_value`` [n, 1] in years, at least 0.
    """
    keras.utils.set_random_seed(seed)
    images = keras.Input((input_size, input_size, 3), name="image")
    x = Preprocess("unit", name="preprocess")(images)
    for filters, dropout in [(64, 0), (128, 0), (128, 0.15), (256, 0.15), (256, 0.15)]:
        x = _block(x, filters, 2, dropout, seed)
    x = layers.Flatten(name="features")(x)
    for width, dropout in [(128, 0.3), (64, 0.3), (64, 0.2)]:
        x = _dense(x, width, dropout, seed)
    output = layers.Dense(
        1,
        activation="relu",
        dtype="float32",
        name="age_value",
        # Starts at a plausible age: a dead rectified output never learns.
        bias_initializer=keras.initializers.Constant(30.0),
    )(x)
    return keras.Model(images, {"age_value": output}, name="wiki_cnn")
