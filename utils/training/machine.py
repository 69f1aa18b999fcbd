"""What does this machine offer, and what did a run cost on it?"""

import os
import platform
import sys
import time
from pathlib import Path

import keras
import numpy as np
import psutil

from utils.backbones.flops import count_flops
from utils.backbones.registry import get
from utils.plan import RunConfig
from utils.vocabulary import OWN_NETWORKS


def has_gpu() -> bool:
    """Whether the Keras backend sees an accelerator."""
    return any(not device.startswith("cpu") for device in keras.distribution.list_devices())


_CPUINFO = Path("/proc/cpuinfo")
CPUINFO = _CPUINFO.read_text() if _CPUINFO.is_file() else ""  # Linux alone has it


def settle(config: RunConfig) -> RunConfig:
    """The configuration with batch size and precision for this machine; its backbone must exist.

    ``auto`` becomes bfloat16 on a GPU. On a CPU that pays only where the processor computes it
    (AVX-512 BF16, which every CPU with AMX has too; a Zen 5 core trains VGG-19 1.8 times faster,
    AlexNet 1.65, ResNet50 1.25), and never for MobileNetV2, whose depthwise convolutions get
    slower and whose features differ by 15 %.
    """
    entry = None if config.protocol in OWN_NETWORKS else get(config.model)
    gpu, precision = has_gpu(), config.precision
    if precision == "auto":
        gains = bool(entry and entry.bfloat16_on_cpu and "avx512_bf16" in CPUINFO)
        precision = "mixed_bfloat16" if gpu or gains else "float32"
    batch = config.batch_size or (64 if gpu else 32)
    return config.model_copy(update={"batch_size": batch, "precision": precision})


def describe_machine() -> dict:
    """Device, processor and versions, for ``environment.json``."""
    named = [line for line in CPUINFO.splitlines() if line.startswith("model name")]
    processor = named[0].split(":", 1)[1].strip() if named else platform.processor()
    names = ("keras", "numpy", "pandas", keras.backend.backend())
    return {
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "device": "gpu" if has_gpu() else "cpu",
        "cpu": processor or platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: getattr(sys.modules.get(name), "__version__", "?") for name in names},
    }


def peak_memory_mb() -> float:
    """Most memory that this process has held so far, in megabytes."""
    try:
        import resource  # Unix alone has it
    except ImportError:
        return round(psutil.Process().memory_info().peak_wset / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024), 1)


def cost(network: keras.Model, images: np.ndarray, seconds: float, features: float = 0.0) -> dict:
    """Content of ``cost.json``: what a network is, and what it took to train and to ask.

    `seconds` were spent on training, `features` on the frozen part; throughput: a median of five.
    """
    batch, took = np.ascontiguousarray(images[:64]), []
    for _ in range(6):  # the first one also compiles
        started = time.perf_counter()
        network.predict_on_batch(batch)
        took.append(time.perf_counter() - started)
    return {
        "parameters": network.count_params(),
        "flops": count_flops(network),
        "train_seconds": round(seconds, 1),
        "feature_seconds": round(features, 1),
        "images_per_second": round(len(batch) / float(np.median(took[1:])), 1),
        "peak_memory_mb": peak_memory_mb(),
        **describe_machine(),
    }
