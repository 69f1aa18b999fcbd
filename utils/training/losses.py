"""Losses and metrics: age as a distribution over years, the rest as cross-entropy."""

import keras
import numpy as np
from keras import ops

from utils.vocabulary import CLASSES, age_bin


def expected_age(probabilities):
    """Mean in years of age distributions [n, 117], one probability for each year 0..116."""
    years = ops.arange(probabilities.shape[-1], dtype="float32")
    return ops.sum(ops.cast(probabilities, "float32") * years, axis=-1)


@keras.saving.register_keras_serializable("faces")
class AgeDistributionLoss(keras.losses.Loss):
    """Cross-entropy with a Gaussian around the true year, plus the error of the expected age.

    `sigma` is the standard deviation of the Gaussian in years (0: a single year), `weight` that
    of the absolute error of the expected age in years, `floor` the smallest probability that is
    told apart from none; below it a face teaches nothing.

    References
    ----------
    Gao et al.: Deep Label Distribution Learning with Label Ambiguity, TIP 2017, and Age
    Estimation Using Expectation of Label Distribution Learning, IJCAI 2018.
    """

    def __init__(self, sigma=2.0, weight=0.2, floor=1e-8, name="age_distribution", **kwargs):
        super().__init__(name=name, **kwargs)
        self.sigma, self.weight, self.floor = sigma, weight, floor

    def call(self, y_true, y_pred):
        """Return the loss of each face; `y_true` in years [n] or [n, 1], or as [n, years]: what is
        to be said of each year (`utils.training.soft`).
        """
        target = self._target(ops.cast(y_true, "float32"), y_pred.shape[-1])
        entropy = -ops.sum(target * ops.log(ops.maximum(y_pred, self.floor)), axis=-1)
        return entropy + self.weight * mae(y_true, y_pred)

    def _target(self, y_true, classes):
        if _is_soft(y_true):
            return y_true
        true = ops.reshape(y_true, (-1, 1))
        if self.sigma > 0:
            years = ops.arange(classes, dtype="float32")
            return ops.softmax(-((years - true) ** 2) / (2 * self.sigma**2), axis=-1)
        return ops.one_hot(ops.cast(ops.round(true[:, 0]), "int32"), classes)

    def get_config(self):
        """Configuration for saving."""
        own = {"sigma": self.sigma, "weight": self.weight, "floor": self.floor}
        return super().get_config() | own


@keras.saving.register_keras_serializable("faces")
def mae(y_true, y_pred):
    """Absolute error in years of an age distribution or an age value; 0 where no age is known."""
    predicted = expected_age(y_pred) if y_pred.shape[-1] > 1 else y_pred[:, 0]
    if _is_soft(y_true):
        return ops.abs(predicted * ops.sum(y_true, axis=-1) - expected_age(y_true))
    return ops.abs(predicted - ops.reshape(ops.cast(y_true, "float32"), (-1,)))


def _is_soft(y_true) -> bool:
    return len(y_true.shape) == 2 and y_true.shape[-1] > 1


WEIGHTS = {"age": 1.0, "age_bin": 0.5, "gender": 1.0, "ethnicity": 1.0, "age_value": 1.0}
COLUMNS = {"age_bin": "age", "age_value": "age"}  # output -> label, where they differ


def losses_and_metrics(outputs, age_loss: str = "distribution", soft: bool = False) -> dict:
    """Arguments ``loss``, ``metrics`` and ``loss_weights`` of `compile` for the named outputs.

    `soft`: the targets are those of `utils.training.soft`.

    ``class`` and ``ordinal`` ages: cross-entropy with the true year, whose order only the ordinal
    head knows. ``regression``: absolute error (the WIKI regressor keeps its squared error).
    """
    age = {
        "class": AgeDistributionLoss(sigma=0.0, weight=0.0),
        # A chain of thresholds gives tiny probabilities at first, which must teach all the same.
        "ordinal": AgeDistributionLoss(sigma=0.0, weight=0.0, floor=1e-30),
    }.get(age_loss, AgeDistributionLoss())
    value, weight = ("mae", age.weight) if age_loss == "regression" else ("mse", 1.0)
    losses, weights = {"age": age, "age_value": value}, WEIGHTS | {"age_value": weight}
    classes = "categorical_crossentropy" if soft else "sparse_categorical_crossentropy"
    return {
        "loss": {name: losses.get(name, classes) for name in outputs},
        "metrics": {name: [mae] if name in losses else ["accuracy"] for name in outputs},
        "loss_weights": {name: weights[name] for name in outputs},
    }


def targets(table, outputs) -> dict[str, np.ndarray]:
    """Training targets from a FaceTable, one array [n] an output; ValueError if one is missing."""
    found = {}
    for name in outputs:
        labels = table[COLUMNS.get(name, name)]
        if missing := int(labels.isna().sum()):
            raise ValueError(
                f"{missing} of {len(table)} faces have no {labels.name} label, which the task "
                f"{name!r} needs; leave the task out or drop those faces"
            )
        if name == "age_bin":
            found[name] = age_bin(labels)
        elif name in CLASSES:
            found[name] = labels.map(list(CLASSES[name]).index).to_numpy("int32")
        else:
            found[name] = labels.to_numpy("float32")
    return found
