"""What the notebooks leave out: reading faces, batches, statistics, drawing.

From the bottom up: `vocabulary`, `plan` and `study`; `datasets` and `backbones`; `training`;
`faces` and `predict`; `evaluation` and `explain`; `plots`; `report`; `demo`. Imports point down.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's greetings are no news
# On a single core TensorFlow makes one thread for its operations; the one that waits for the next
# batch then keeps out the one that makes it, and a training can hang between two epochs.
os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(max(2, os.cpu_count() or 1)))


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


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Imports TensorFlow without its greetings, which come before the log level is read.

    The first import of ``tensorflow`` finds its loader here; everything else passes by. An import
    that fails still says so: Python's own errors are no writing to a file descriptor.
    """

    def find_spec(self, name, path=None, target=None):
        """The usual place of ``tensorflow``, with a quiet loader; None for any other module."""
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def quietly(module):
                with _without_stderr():
                    load(module)

            spec.loader.exec_module = quietly
        return spec


if "tensorflow" not in sys.modules:
    sys.meta_path.insert(0, _QuietTensorFlow())
