"""All rows of the benchmark. A row is a question, a goal, and a module that answers it."""

import importlib
from dataclasses import dataclass

from utils.bench.results import version_of


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes
    ----------
    name, title : str
    measure : str
        ``module:function`` in `utils.bench`; the function takes a `Bench`, returns a `Measured`.
    baseline, ours : str
        What the two sides are, in words.
    goal : float or None
    rooms : tuple of str
        Parts of `utils` that are timed: when their code changes, the row is measured anew.
    unit : str
    lower_is_better : bool
    minutes : float
        Expected on two cores.
    optional : bool
        Only measured when it is asked for.
    """

    name: str
    title: str
    measure: str
    baseline: str
    ours: str
    goal: float | None
    rooms: tuple[str, ...]
    unit: str = "times"
    lower_is_better: bool = False
    minutes: float = 1.0
    optional: bool = False

    @property
    def version(self) -> str:
        """Digest of the code behind the row."""
        return version_of(self.measure.split(":")[0], self.rooms)

    def run(self, bench):
        """Measure; imports only what the row needs."""
        module, function = self.measure.split(":")
        return getattr(importlib.import_module(f"utils.bench.{module}"), function)(bench)


_TRAINING = ("training", "backbones")
_ROWS = [
    Row(
        "protocol",
        "First protocol: 4 backbones x 3 tasks x 10 epochs, frozen, by a cost model",
        "frozen:protocol",
        "model.fit with the frozen backbone in it",
        "features once, then the heads",
        25,
        (*_TRAINING, "bench/costs"),
        minutes=2.5,
    ),
    Row(
        "protocol_full",
        "First protocol, one backbone, every epoch really run",
        "full_protocol:protocol_full",
        "model.fit with the frozen backbone in it",
        "features once, then the heads",
        25,
        (*_TRAINING, "bench/costs"),
        minutes=90,
        optional=True,
    ),
    Row(
        "pipeline",
        "Input at 224 px, against image_dataset_from_directory",
        "pipeline:against_dataset",
        "keras.utils.image_dataset_from_directory with resize",
        "uint8 image cache and Batches",
        5,
        ("datasets", "training/batches"),
        minutes=0.7,
    ),
    Row(
        "pipeline_generator",
        "Input at 224 px, against ImageDataGenerator",
        "pipeline:against_generator",
        "ImageDataGenerator.flow_from_directory",
        "uint8 image cache and Batches",
        5,
        ("datasets", "training/batches"),
        minutes=0.7,
    ),
    Row(
        "features",
        "Frozen features on a CPU, the four backbones together",
        "features:extraction",
        "model.predict in float32",
        "cached_activations, precision by backbone",
        2,
        _TRAINING,
        minutes=5,
    ),
    Row(
        "partial",
        "Partial fine-tuning from the freeze boundary, 10 epochs",
        "frozen:partial",
        "model.fit with the lower layers frozen, float32",
        "upper layers on cached activations, precision by backbone",
        3,
        (*_TRAINING, "bench/costs"),
        minutes=4,
    ),
    Row(
        "gradcam",
        "Grad-CAM of many faces",
        "gradcam:gradcam",
        "tf-keras-vis, face by face",
        "batched_gradcam",
        4,
        ("explain",),
        minutes=1,
    ),
    Row(
        "bootstrap",
        "Bootstrap of all metrics, 2,000 resamples",
        "evaluating:bootstrap",
        "a loop over resamples with scikit-learn's metrics",
        "sums over groups, one matrix product",
        50,
        ("evaluation",),
        minutes=0.5,
    ),
    Row(
        "report",
        "Evaluation report from committed predictions",
        "evaluating:report",
        "none",
        "utils.evaluation on reports/study",
        120,
        ("evaluation", "plots"),
        unit="s",
        lower_is_better=True,
        minutes=2,
    ),
    Row(
        "memory",
        "Peak memory of a UTKFace run at 224 px, heads on features",
        "memory:full_run",
        "all faces as one float32 array (computed)",
        "a whole run in a process of its own (measured)",
        4,
        _TRAINING,
        unit="GB",
        lower_is_better=True,
        minutes=2,
    ),
    Row(
        "growth",
        "Does the time grow with the faces, and no faster?",
        "growth:growth",
        "the cost model, fitted to the smallest set",
        "features and heads, measured at three sizes",
        1.25,
        (*_TRAINING, "bench/costs"),
        unit="times the model",
        lower_is_better=True,
        minutes=1,
    ),
]
_GPU = {"rooms": (*_TRAINING, "bench/gpu_steps"), "minutes": 2}
_ROWS += [
    Row(
        "gpu_images",
        "GPU: ResNet50 training step at 224 px, images/s",
        "gpu:images",
        "none",
        "JAX, mixed bfloat16, images on the device as uint8",
        2500,
        unit="images/s",
        **_GPU,
    ),
    Row(
        "gpu_mfu",
        "GPU: model FLOP utilisation of that step",
        "gpu:utilisation",
        "the card's peak rate in bfloat16",
        "JAX, mixed bfloat16, images on the device as uint8",
        None,
        unit="share",
        **_GPU,
    ),
    Row(
        "gpu_input",
        "GPU: share of time lost to input",
        "gpu:input_share",
        "batches gathered on the host",
        "the same step on data already on the device",
        0.05,
        unit="share",
        lower_is_better=True,
        **_GPU,
    ),
    Row(
        "gpu_finetune",
        "GPU: ResNet50, 10 epochs of UTKFace after compilation",
        "gpu:finetune",
        "none",
        "JAX, mixed bfloat16, images on the device as uint8",
        90,
        unit="s",
        lower_is_better=True,
        **_GPU,
    ),
]
ROWS: dict[str, Row] = {row.name: row for row in _ROWS}


def choose(names: str, full_backbone: str = "") -> list[Row]:
    """Rows by their names.

    Parameters
    ----------
    names : str
        Separated by commas; empty for all that are not optional.
    full_backbone : str
        A backbone adds the row ``protocol_full``.

    Examples
    --------
    >>> [row.name for row in choose("gradcam,bootstrap")]
    ['gradcam', 'bootstrap']
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in ROWS]
    if unknown:
        raise ValueError(f"rows {unknown} are unknown; expected some of {list(ROWS)}")
    chosen = [ROWS[n] for n in wanted] or [row for row in _ROWS if not row.optional]
    if full_backbone and ROWS["protocol_full"] not in chosen:
        chosen.append(ROWS["protocol_full"])
    if ROWS["protocol_full"] in chosen and not full_backbone:
        raise ValueError("row protocol_full needs --full-backbone, such as alexnet")
    return chosen
