"""How are networks fitted? Protocols head, partial, finetune, scratch and regress.

A run is a `RunConfig`; `train` turns it into a complete run folder.
"""

from utils.training.config import PROTOCOLS, RunConfig
from utils.training.run import build, train

__all__ = ["PROTOCOLS", "RunConfig", "build", "train"]
