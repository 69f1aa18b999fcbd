"""Which machine was it? Enough to judge the figures, nothing that names its owner."""

import os
import platform
import subprocess
from pathlib import Path

import psutil

from utils.training.config import describe_machine

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def _cpu_info(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    found = [line.split(":", 1)[1].strip() for line in lines if line.startswith(key)]
    return found[0] if found else ""


def gpus() -> list[str]:
    """Names of the NVIDIA cards, as the driver's own tool lists them."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> dict:
    """`describe_machine` with the processor's name and abilities, memory, cards and load."""
    flags = set(_cpu_info("flags").split())
    return describe_machine() | {
        "cpu": _cpu_info("model name") or platform.processor() or platform.machine(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "usable_cores": usable_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": gpus(),
        "system": platform.system(),
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def short_name(about: dict) -> str:
    """One line that tells machines apart."""
    cards = f", {', '.join(about['gpus'])}" if about["gpus"] else ""
    return f"{about['cpu']}, {about['usable_cores']} cores, {about['memory_gb']:.0f} GB{cards}"
