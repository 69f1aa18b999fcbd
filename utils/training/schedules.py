"""Learning rates and optimisers."""

import keras
import numpy as np

from utils.backbones.registry import get

FRESH_RATE = 1e-3  # peak for fresh layers: heads, last layers, networks from scratch


def step_decay(steps_per_epoch: int, phases: list[dict]):
    """Multiply the rate by a factor every few epochs, in one or more phases.

    A phase is a dict with ``epochs``, ``rate``, ``factor`` and ``every`` (epochs between decays).

    >>> rate = step_decay(10, [{"epochs": 4, "rate": 0.008, "factor": 0.5, "every": 2}])
    >>> [round(float(rate(step)), 4) for step in (0, 19, 20, 99)]
    [0.008, 0.008, 0.004, 0.004]
    """
    rates = [
        phase["rate"] * phase["factor"] ** (epoch // phase["every"])
        for phase in phases
        for epoch in range(phase["epochs"])
    ]
    ends = np.arange(1, len(rates) + 1) * steps_per_epoch - 1  # last step of each epoch
    return keras.optimizers.schedules.PiecewiseConstantDecay(ends.tolist(), [*rates, rates[-1]])


def warmup_cosine(peak: float, steps: int, warmup: float = 0.1):
    """Linear warm-up over a share of the steps, then a cosine to 1 % of the peak."""
    first = max(1, int(steps * warmup))
    return keras.optimizers.schedules.CosineDecay(
        peak * 0.05, max(1, steps - first), alpha=0.01, warmup_target=peak, warmup_steps=first
    )


def schedule_of(config, steps_per_epoch: int):
    """Warm-up and cosine, or the step decay of a configuration with phases."""
    if config.phases:
        return step_decay(steps_per_epoch, config.phases)
    rate = config.learning_rate or FRESH_RATE
    if config.protocol == "finetune" and not config.learning_rate:
        # The registry's rate is for batches of 64; smaller ones take smaller steps.
        rate = get(config.model).learning_rate * min(1.0, (config.batch_size / 64) ** 0.5)
    return warmup_cosine(rate, max(1, steps_per_epoch * config.epochs))


@keras.saving.register_keras_serializable("faces")
class LayerDecayAdamW(keras.optimizers.AdamW):
    """AdamW whose rate falls geometrically from the heads to a share `first` of it at the input.

    After Clark et al.: ELECTRA, ICLR 2020, where each layer has its rate.
    """

    def __init__(self, *arguments, first=1.0, **options):
        super().__init__(*arguments, **options)
        self.first = first

    def update_step(self, gradient, variable, learning_rate):
        """One step of a variable, at its own rate."""
        place = self._get_variable_index(variable) / max(1, len(self._trainable_variables) - 1)
        super().update_step(gradient, variable, learning_rate * self.first ** (1 - place))

    def get_config(self):
        """Configuration for saving."""
        return super().get_config() | {"first": self.first}
