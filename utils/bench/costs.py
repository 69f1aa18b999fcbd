"""The cost model: seconds of a study from seconds a face.

A row measures the three unit costs of a backbone on a subset; this is what they come to.
"""

from dataclasses import dataclass

UTKFACE = {"train": 17_071, "val": 1_894, "test": 4_740}  # faces in the published split


@dataclass(frozen=True)
class UnitCosts:
    """Seconds a face.

    Attributes
    ----------
    fit : float
        One training step of the whole network with its lower part frozen.
    forward : float
        One forward pass of the whole network, as validation does it.
    extract : float
        One forward pass of the frozen part, written to the cache.
    upper : float
        One training step of the trained part on cached activations.
    """

    fit: float
    forward: float
    extract: float
    upper: float

    def uncached(self, n_train, n_val, epochs, runs=1) -> float:
        """Seconds of `runs` trainings with the frozen part inside the network."""
        return runs * epochs * (n_train * self.fit + n_val * self.forward)

    def cached(self, n_train, n_val, epochs, runs=1) -> float:
        """Seconds of `runs` trainings (tasks, seeds) that share one cache.

        Validation on cached activations is counted as dear as training on them.
        """
        faces = n_train + n_val
        return faces * self.extract + runs * epochs * faces * self.upper


def totals(costs: dict, n_train: int, n_val: int, epochs: int, runs: int) -> tuple[float, float]:
    """Seconds of all backbones in `costs`, uncached and cached.

    Examples
    --------
    >>> totals({"a": UnitCosts(2.0, 1.0, 1.0, 0.0)}, n_train=10, n_val=0, epochs=5, runs=2)
    (200.0, 10.0)
    """
    before = sum(one.uncached(n_train, n_val, epochs, runs) for one in costs.values())
    after = sum(one.cached(n_train, n_val, epochs, runs) for one in costs.values())
    return before, after
