"""The few layers that Keras lacks, as registered classes so that saved models load anywhere."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("faces")
class Preprocess(keras.layers.Layer):
    """Bring pixels 0..255 (RGB) into the range that a backbone's weights expect.

    Modes are ``tf``: -1..1; ``caffe``: BGR minus the ImageNet mean; ``torch``: 0..1, then minus
    mean, over standard deviation; ``unit``: 0..1; ``none``: 0..255, for networks that do it.
    Always in float32: bfloat16 cannot tell pixel 254 from 255.
    """

    def __init__(self, mode: str, **kwargs):
        super().__init__(**(kwargs | {"dtype": "float32"}))
        if mode not in ("tf", "caffe", "torch", "unit", "none"):
            raise ValueError(
                f"preprocessing {mode!r} is unknown; expected tf, caffe, torch, unit or none"
            )
        self.mode = mode

    def call(self, images):
        """Return float32 images of the same shape."""
        images = ops.cast(images, "float32")
        if self.mode == "unit":
            return images / 255.0
        if self.mode == "none":
            return images
        return keras.applications.imagenet_utils.preprocess_input(
            images, data_format="channels_last", mode=self.mode
        )

    def get_config(self):
        """Configuration for saving."""
        return super().get_config() | {"mode": self.mode}


@keras.saving.register_keras_serializable("faces")
class OrdinalYears(keras.layers.Layer):
    """From "older than k, given at least k" (logits) to one probability a year.

    The chain of conditional probabilities of CORN (Shi, Cao and Raschka: Deep Neural Networks for
    Rank-Consistent Ordinal Regression Based on Conditional Probabilities, 2023). The negative
    logarithm of the true year's probability is CORN's loss of a face, before its average over
    thresholds.
    """

    def __init__(self, **kwargs):
        super().__init__(**(kwargs | {"dtype": "float32"}))

    def call(self, logits):
        """Return probabilities [n, years] from logits [n, years - 1]."""
        logits = ops.cast(logits, "float32")
        none = ops.zeros_like(logits[:, :1])
        reached = ops.concatenate([none, ops.cumsum(ops.log_sigmoid(logits), axis=-1)], axis=-1)
        stays = ops.concatenate([ops.log_sigmoid(-logits), none], axis=-1)
        return ops.exp(reached + stays)


@keras.saving.register_keras_serializable("faces")
class Augment(keras.layers.Layer):
    """Random flip, shift, zoom, rotation, brightness and contrast, in training only.

    One interpolation does all the geometry. Works on every backend, on the device. The arguments
    are the largest changes: `shift` as a share of the side, `zoom` and `light` (brightness, and
    contrast) relative, `rotation` in degrees; `flip` mirrors every second picture.
    """

    def __init__(
        self, shift=0.06, zoom=0.1, rotation=8.0, light=0.2, flip=True, seed=129, **kwargs
    ):
        super().__init__(**(kwargs | {"dtype": "float32"}))
        self.settings = {"shift": shift, "zoom": zoom, "rotation": rotation}
        self.settings |= {"light": light, "flip": flip, "seed": seed}
        self.seed_generator = keras.random.SeedGenerator(seed)

    def _uniform(self, n, most):
        return keras.random.uniform((n,), -most, most, seed=self.seed_generator)

    def _transforms(self, n, side):
        """Rows of the eight numbers of `ops.image.affine_transform`, about the centre."""
        s = self.settings
        angle = self._uniform(n, s["rotation"] * 3.14159265 / 180)
        scale = 1 + self._uniform(n, s["zoom"])
        mirror = ops.sign(self._uniform(n, 1.0)) if s["flip"] else ops.ones((n,))
        cos, sin = ops.cos(angle) * scale, ops.sin(angle) * scale
        dx, dy = (self._uniform(n, s["shift"]) * side for _ in range(2))
        centre, zero = (side - 1) / 2, ops.zeros((n,))
        x0 = centre - mirror * cos * centre + sin * centre + dx
        y0 = centre - mirror * sin * centre - cos * centre + dy
        return ops.stack([mirror * cos, -sin, x0, mirror * sin, cos, y0, zero, zero], axis=1)

    def call(self, images, training=None):
        """Return float32 images 0..255 of the same shape, changed if `training`."""
        images = ops.cast(images, "float32")
        if not training:
            return images
        n, side = ops.shape(images)[0], images.shape[1]
        images = ops.image.affine_transform(
            images, self._transforms(n, side), fill_mode="nearest", data_format="channels_last"
        )
        light = self.settings["light"]
        contrast = ops.reshape(1 + self._uniform(n, light), (-1, 1, 1, 1))
        brightness = ops.reshape(1 + self._uniform(n, light), (-1, 1, 1, 1))
        mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
        return ops.clip(((images - mean) * contrast + mean) * brightness, 0.0, 255.0)

    def get_config(self):
        """Configuration for saving."""
        return super().get_config() | self.settings


def fused(layer):
    """Let a batch normalisation over maps train by TensorFlow's fused operation, in float32.

    Keras 3 takes ten operations for it, and each walks over all activations: on two cores a step
    of MobileNetV2 at 224 px needs 2.8 s with the fused one, not 3.7. Results differ by rounding.
    """
    usual, fits = layer.call, layer.scale and layer.center and layer.axis in (-1, 3)
    if keras.backend.backend() != "tensorflow" or layer.compute_dtype != "float32" or not fits:
        return
    import tensorflow as tf

    def call(inputs, training=None, mask=None):
        if not (training and layer.trainable) or len(inputs.shape) != 4:  # not over maps
            return usual(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, layer.gamma + 0.0, layer.beta + 0.0, epsilon=layer.epsilon
        )
        n = ops.cast(ops.size(inputs[..., 0]), "float32")
        variance *= (n - 1) / n  # Keras divides by n
        for average, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            average.assign(average * layer.momentum + new * (1 - layer.momentum))
        return outputs

    layer.call = call
