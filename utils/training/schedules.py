"""Learning rates and optimisers."""

import keras


@keras.saving.register_keras_serializable("faces")
class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Multiply the rate by a factor every few epochs, in one or more phases.

    Parameters
    ----------
    steps_per_epoch : int
    phases : list of dict
        Each with ``epochs``, ``rate``, ``factor`` and ``every`` (epochs between two decays).
    """

    def __init__(self, steps_per_epoch, phases):
        self.steps_per_epoch, self.phases = int(steps_per_epoch), [dict(p) for p in phases]
        self._rates = [
            phase["rate"] * phase["factor"] ** (epoch // phase["every"])
            for phase in self.phases
            for epoch in range(phase["epochs"])
        ]

    def __call__(self, step):
        """Rate at an optimiser step."""
        rates = keras.ops.convert_to_tensor(self._rates, dtype="float32")
        epoch = keras.ops.cast(step, "int32") // self.steps_per_epoch
        return rates[keras.ops.minimum(epoch, len(self._rates) - 1)]

    def get_config(self):
        """Configuration for saving."""
        return {"steps_per_epoch": self.steps_per_epoch, "phases": self.phases}


def warmup_cosine(peak: float, steps: int, warmup: float = 0.1):
    """Linear warm-up over a share of the steps, then a cosine to 1 % of the peak."""
    first = max(1, int(steps * warmup))
    return keras.optimizers.schedules.CosineDecay(
        peak * 0.05, max(1, steps - first), alpha=0.01, warmup_target=peak, warmup_steps=first
    )


def adamw(schedule, weight_decay: float = 0.01) -> keras.optimizers.Optimizer:
    """AdamW with clipped gradients; biases and normalisations are not decayed."""
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=weight_decay, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
