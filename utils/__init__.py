"""Age, gender and ethnicity from faces: the package behind the notebooks."""

import os

# On a single core TensorFlow makes one thread for its operations; the one that waits for the next
# batch then keeps out the one that makes it, and a training can hang between two epochs.
os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(max(2, os.cpu_count() or 1)))
