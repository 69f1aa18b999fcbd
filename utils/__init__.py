"""What the notebooks leave out: reading faces, batches, statistics, drawing.

From the bottom up: `vocabulary`, `plan` and `study`; `datasets` and `backbones`; `training`;
`faces` and `predict`; `evaluation` and `explain`; `plots`; `report`; `demo`. Imports point down.
"""

import contextlib
import importlib.util
import os
import platform
import sys
from types import SimpleNamespace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's greetings are no news
# On a single core TensorFlow makes one thread for its operations; the one that waits for the next
# batch then keeps out the one that makes it, and a training can hang between two epochs.
os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(max(2, os.cpu_count() or 1)))
# Without AVX-512 VNNI (AMD before Zen 4) TensorFlow leaves oneDNN out: steps took twice as long.
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@contextlib.contextmanager
def _without_stderr():
    """Send what is written to file descriptor 2 nowhere, also by C++ code."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _stopped(kind, error, trace):
    """Ctrl-C ends in one line, also while a command still imports."""
    if kind is not KeyboardInterrupt:
        return sys.__excepthook__(kind, error, trace)
    print("stopped; what is whole stays", file=sys.stderr)


if sys.argv[0] == "-m":  # as long as Python looks for the command, such as utils.predict
    sys.excepthook = _stopped
# TensorFlow's greetings come before its log level is read. An import that fails still says so:
# Python's own errors are no writing to a file descriptor.
_SPEC = None if "tensorflow" in sys.modules else importlib.util.find_spec("tensorflow")
if _SPEC and _SPEC.loader:
    _SPEC.loader.exec_module = _without_stderr()(_SPEC.loader.exec_module)
    _FOUND = {"tensorflow": _SPEC}
    sys.meta_path.insert(0, SimpleNamespace(find_spec=lambda name, *_: _FOUND.get(name)))
