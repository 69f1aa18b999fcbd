"""Grad-CAM: one compiled graph for many faces, against tf-keras-vis one face at a time."""

import numpy as np

from utils.bench.material import Bench, pictures
from utils.bench.results import Measured
from utils.bench.timing import interleaved

TASK, MODEL = "gender", "mobilenetv2"


def gradcam(bench: Bench) -> Measured:
    """The shipped network on some faces."""
    import tensorflow as tf
    from tf_keras_vis.gradcam import Gradcam

    from utils import models
    from utils.explain.cams import batched_gradcam
    from utils.explain.maps import normalise
    from utils.explain.target import explain_target

    network = models.load(MODEL)
    size = models.describe(models.SHIPPED / MODEL)["input_size"]
    _, images = pictures(bench, bench.pick(64, 6), size)
    target = explain_target(network, TASK, None)
    explainer = Gradcam(target.net)

    def one_by_one():
        maps = []
        for picture in images:
            face = tf.constant(picture[None], "float32")
            wanted = target.classes(target.net(face, training=False).numpy())
            made = explainer(
                lambda output, wanted=wanted: target.scores(output, wanted),
                face,
                target.layer,
                seek_penultimate_conv_layer=False,
                normalize_cam=False,
            )
            maps.append(np.asarray(made)[0])
        return normalise(np.stack(maps))

    def ours():
        return batched_gradcam(target, images, TASK)

    sides = {"one by one": one_by_one, "ours": ours}
    timing = interleaved(sides, bench.repeats, 1, "gradcam", bench.progress)
    apart = float(np.abs(timing.results["one by one"][-1] - timing.results["ours"][-1]).max())
    return Measured(
        timing.ratio("one by one", "ours"),
        timing.median("one by one"),
        timing.median("ours"),
        apart <= 1e-4,
        f"maps (0 to 1) differ by at most {apart:.1e} (allowed 1e-4)",
        bench.repeats,
        note=f"The shipped MobileNetV2 at {size} px, {TASK}, {len(images)} faces, compiled before.",
    )
