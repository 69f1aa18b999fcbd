"""Every choice of a run in one checked object."""

import os
import platform
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import keras

from utils.backbones.networks import TASKS, check_tasks
from utils.backbones.registry import BACKBONES
from utils.datasets.imagecache import LOOKS
from utils.profiles import run_name
from utils.training.losses import AGE_LOSSES

PROTOCOLS = ("head", "partial", "finetune", "scratch", "regress")
SCRATCH_MODELS = {"scratch": "scratch_cnn", "regress": "wiki_cnn"}


@dataclass
class RunConfig:
    """Parameters of one training run.

    Attributes
    ----------
    dataset : str
        Name of a loader.
    model : str
        A backbone; ``scratch_cnn`` for `scratch`, ``wiki_cnn`` for `regress`.
    protocol : {"head", "partial", "finetune", "scratch", "regress"}
    tasks : list of str
        One head each; ignored by `scratch` and `regress`, whose outputs are fixed.
    input_size : int
        Pixels a side.
    epochs : int
    batch_size : int
        0: 64 on a GPU, 32 on a CPU.
    learning_rate : float
        Peak rate; 0: the protocol's and backbone's own.
    seed : int
        Of weights, order and dropout. The split has a seed of its own.
    split : {"group", "naive"}
    split_seed : int
    limit : int
        Number of faces, 0 for all.
    weights : {"imagenet", "none"}
    precision : {"auto", "float32", "mixed_bfloat16"}
        ``auto``: mixed bfloat16 where the machine computes it (GPU, AVX-512 BF16) and the
        network gains.
    augment : bool
        Random flip, shift, zoom, rotation and light in `finetune` and `regress`.
    phases : list of dict
        Step decay (see `utils.training.schedules.StepDecay`) instead of the cosine.
    profile : str
        Which profile asked for the run.
    dataset_options : dict
        Passed to the loader.
    age_loss : {"distribution", "class", "ordinal", "regression"}
        Age as a distribution over years with a Gaussian target and its mean's error; as classes;
        as a chain of thresholds (CORN); as one value.
    look : {"colour", "grey", "colour48", "grey48"}
        What is left of each picture: without its colour, or shrunk to 48 pixels first.
    mirror : bool
        Average each prediction over picture and mirror image. False re-uses the network of the
        same run with True.
    head_width : int
        Outputs of each softmax at least, as a 1000-way ImageNet head has; 0: one for each class.
    start_from : str
        A finished run of the same network with the same heads, whose weights start the training
        instead of `weights`, also at another input size; its name gets the part ``continued``.
    study : str
        ``ablation``: left out of the comparison, shown in a section of its own.
    """

    dataset: str = "synthetic"
    model: str = "mobilenetv2"
    protocol: str = "finetune"
    tasks: list[str] = field(default_factory=lambda: list(TASKS))
    input_size: int = 96
    epochs: int = 10
    batch_size: int = 0
    learning_rate: float = 0.0
    seed: int = 129
    split: str = "group"
    split_seed: int = 129
    limit: int = 0
    weights: str = "imagenet"
    precision: str = "auto"
    augment: bool = True
    phases: list[dict] = field(default_factory=list)
    profile: str = ""
    dataset_options: dict = field(default_factory=dict)
    age_loss: str = "distribution"
    look: str = "colour"
    mirror: bool = True
    head_width: int = 0
    start_from: str = ""
    study: str = ""

    def __post_init__(self):
        """Check every value; papermill passes on whatever was typed."""
        self._check_types()
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol {self.protocol!r} is unknown; expected one of {PROTOCOLS}")
        if self.protocol in SCRATCH_MODELS:
            self.model = SCRATCH_MODELS[self.protocol]
            self.weights = "none"
            self.tasks = ["age_bin", "gender"] if self.protocol == "scratch" else ["age"]
        elif self.model not in BACKBONES:
            raise ValueError(
                f"backbone {self.model!r} is unknown; expected one of {list(BACKBONES)}"
            )
        self.tasks = list(check_tasks(self.tasks))
        self._check_choices()
        if self.epochs < 1 or self.input_size < 32:
            raise ValueError(
                f"epochs={self.epochs} and input_size={self.input_size}: expected "
                "at least 1 epoch and 32 pixels"
            )
        if self.batch_size < 0 or self.limit < 0 or self.learning_rate < 0:
            raise ValueError(
                f"batch_size={self.batch_size}, limit={self.limit} and learning_rate="
                f"{self.learning_rate}: expected at least 0, which stands for the default"
            )
        if self.phases:
            self._check_phases()
            self.epochs = sum(phase["epochs"] for phase in self.phases)
        if self.batch_size == 0:
            self.batch_size = 64 if has_gpu() else 32

    def _check_phases(self):
        keys = {"epochs", "rate", "factor", "every"}
        for phase in self.phases:
            if not isinstance(phase, dict) or set(phase) != keys:
                raise ValueError(f"phase {phase} of phases: expected a dict with {sorted(keys)}")

    def _check_choices(self):
        choices = {
            "split": ("group", "naive"),
            "weights": ("imagenet", "none"),
            "precision": ("auto", "float32", "mixed_bfloat16"),
            "age_loss": AGE_LOSSES,
            "look": LOOKS,
            "study": ("", "ablation"),
        }
        for name, expected in choices.items():
            if getattr(self, name) not in expected:
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is unknown; expected one of {expected}"
                )
        own_heads = self.age_loss != "distribution" or self.head_width
        if self.head_width < 0 or (own_heads and self.protocol in SCRATCH_MODELS):
            raise ValueError(
                f"age_loss={self.age_loss!r}, head_width={self.head_width} with protocol "
                f"{self.protocol}: expected a width of at least 0, and a backbone's protocol"
            )

    def _check_types(self):
        for item in fields(self):
            value, wanted = getattr(self, item.name), item.type
            wanted = getattr(wanted, "__origin__", wanted)
            if wanted is float and type(value) is int:
                setattr(self, item.name, float(value))
            elif not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
                raise ValueError(
                    f"parameter {item.name}={value!r} is a {type(value).__name__}; "
                    f"expected {getattr(item.type, '__name__', item.type)}"
                )

    @property
    def run(self) -> str:
        """Name of the run folder."""
        return run_name(self.model, asdict(self))

    def to_dict(self) -> dict:
        """All parameters, with the run's name first."""
        return {"run": self.run} | asdict(self)


def has_gpu() -> bool:
    """Whether the Keras backend sees an accelerator."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() != "cpu"
    import torch

    return torch.cuda.is_available()


def _cpu_has_bfloat16() -> bool:
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def precision_policy(config: RunConfig) -> str:
    """Keras' precision policy for a run.

    On a CPU mixed bfloat16 pays only where the processor computes it (AVX-512 BF16, which every
    CPU with AMX has too; a Zen 5 core trains VGG-19 1.8 times faster, AlexNet 1.65, ResNet50 1.25),
    and never for MobileNetV2, whose depthwise convolutions get slower and whose features differ
    by 15 %.
    """
    if config.precision != "auto":
        return config.precision
    if has_gpu():
        return "mixed_bfloat16"
    gains = config.model in ("alexnet", "vgg19", "resnet50")
    return "mixed_bfloat16" if gains and _cpu_has_bfloat16() else "float32"


def describe_machine() -> dict:
    """Device, processor and versions, for `environment.json`."""
    import sys

    names = ("keras", "numpy", "pandas", keras.backend.backend())
    versions = {}
    for name in names:
        module = sys.modules.get(name)
        versions[name] = getattr(module, "__version__", "?")
    return {
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "device": "gpu" if has_gpu() else "cpu",
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "versions": versions,
    }
