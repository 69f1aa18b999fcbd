"""A stand-in where there is no model yet: it has seen drawn faces only."""

from pathlib import Path

EPOCHS = 2


def train_smoke_model() -> Path:
    """Train a small network on synthetic faces, about a minute on two cores.

    Returns
    -------
    Path
        Its run folder under ``data/runs``; trained once, then found again.
    """
    from utils.training import RunConfig, train

    return train(
        RunConfig(
            dataset="synthetic",
            limit=400,
            input_size=64,
            epochs=EPOCHS,
            weights="none",
            tasks=["age", "gender", "ethnicity"],
        )
    )
