"""Losses and metrics: age as a distribution over years, the rest as cross-entropy."""

import keras
import numpy as np
from keras import ops


def expected_age(probabilities):
    """Mean of an age distribution in years.

    Parameters
    ----------
    probabilities : tensor [n, 117]
        One probability for each year 0..116.
    """
    years = ops.arange(probabilities.shape[-1], dtype="float32")
    return ops.sum(ops.cast(probabilities, "float32") * years, axis=-1)


@keras.saving.register_keras_serializable("faces")
class AgeDistributionLoss(keras.losses.Loss):
    """Cross-entropy with a Gaussian around the true year, plus the error of the expected age.

    Parameters
    ----------
    sigma : float
        Standard deviation of the Gaussian target in years; 0 for a single year.
    weight : float
        Weight of the absolute error of the expected age in years.
    floor : float
        Smallest probability that is told apart from none; below it a face teaches nothing.

    References
    ----------
    Gao et al.: Deep Label Distribution Learning with Label Ambiguity, TIP 2017, and Age
    Estimation Using Expectation of Label Distribution Learning, IJCAI 2018.
    """

    def __init__(self, sigma=2.0, weight=0.2, floor=1e-8, name="age_distribution", **kwargs):
        super().__init__(name=name, **kwargs)
        self.sigma, self.weight, self.floor = sigma, weight, floor

    def call(self, y_true, y_pred):
        """Return the loss of each face; `y_true` in years [n] or [n, 1]."""
        true = ops.reshape(ops.cast(y_true, "float32"), (-1, 1))
        years = ops.arange(y_pred.shape[-1], dtype="float32")
        if self.sigma > 0:
            target = ops.softmax(-((years - true) ** 2) / (2 * self.sigma**2), axis=-1)
        else:
            target = ops.one_hot(ops.cast(ops.round(true[:, 0]), "int32"), y_pred.shape[-1])
        entropy = -ops.sum(target * ops.log(ops.maximum(y_pred, self.floor)), axis=-1)
        return entropy + self.weight * ops.abs(expected_age(y_pred) - true[:, 0])

    def get_config(self):
        """Configuration for saving."""
        own = {"sigma": self.sigma, "weight": self.weight, "floor": self.floor}
        return super().get_config() | own


@keras.saving.register_keras_serializable("faces")
def mae(y_true, y_pred):
    """Absolute error in years of an age distribution or an age value."""
    predicted = expected_age(y_pred) if y_pred.shape[-1] > 1 else y_pred[:, 0]
    return ops.abs(predicted - ops.reshape(ops.cast(y_true, "float32"), (-1,)))


WEIGHTS = {"age": 1.0, "age_bin": 0.5, "gender": 1.0, "ethnicity": 1.0, "age_value": 1.0}


AGE_LOSSES = ("distribution", "class", "ordinal", "regression")
REGRESSION_WEIGHT = 0.2  # of an absolute error in years, as inside the distribution's loss


def losses_and_metrics(outputs, age_loss: str = "distribution") -> dict:
    """Arguments of `keras.Model.compile` for the named outputs.

    Parameters
    ----------
    outputs : iterable of str
    age_loss : {"distribution", "class", "ordinal", "regression"}
        ``class`` and ``ordinal``: cross-entropy with the true year, whose order only the ordinal
        head knows. ``regression``: absolute error (the WIKI regressor keeps its squared error).
    """
    age = {
        "class": AgeDistributionLoss(sigma=0.0, weight=0.0),
        # A chain of thresholds gives tiny probabilities at first, which must teach all the same.
        "ordinal": AgeDistributionLoss(sigma=0.0, weight=0.0, floor=1e-30),
    }.get(age_loss, AgeDistributionLoss())
    years = age_loss == "regression"
    losses = {"age": age, "age_value": "mae" if years else "mse"}
    weights = WEIGHTS | ({"age_value": REGRESSION_WEIGHT} if years else {})
    classes = "sparse_categorical_crossentropy"
    return {
        "loss": {name: losses.get(name, classes) for name in outputs},
        "metrics": {name: [mae] if name in losses else ["accuracy"] for name in outputs},
        "loss_weights": {name: weights[name] for name in outputs},
    }


def targets(table, outputs) -> dict[str, np.ndarray]:
    """Training targets from a FaceTable, one array [n] an output.

    Raises
    ------
    ValueError
        If a label that an output needs is missing for some face.
    """
    from utils.datasets.facetable import ETHNICITIES, GENDERS, age_bin

    column = {"age": "age", "age_bin": "age", "age_value": "age"}
    for name in outputs:
        missing = int(table[column.get(name, name)].isna().sum())
        if missing:
            raise ValueError(
                f"{missing} of {len(table)} faces have no {column.get(name, name)} label, which "
                f"the task {name!r} needs; leave the task out or drop those faces"
            )
    make = {
        "age": lambda: table["age"].to_numpy("float32"),
        "age_value": lambda: table["age"].to_numpy("float32"),
        "age_bin": lambda: age_bin(table["age"]),
        "gender": lambda: table["gender"].map(GENDERS.index).to_numpy("int32"),
        "ethnicity": lambda: table["ethnicity"].map(ETHNICITIES.index).to_numpy("int32"),
    }
    return {name: make[name]() for name in outputs}
