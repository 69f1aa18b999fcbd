"""Two drawn faces with the maps of several networks, in one small file for the gallery."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from utils.evaluation.columns import predicted, truth
from utils.explain.cams import explain
from utils.explain.checks import evidence_masks
from utils.explain.evidence import EXAMPLES, MAP_SIDE
from utils.explain.maps import METHODS, resize_maps
from utils.explain.views import common_faces
from utils.files import write_aside
from utils.vocabulary import CLASSES


def _untaught(target):
    """The same target with the weights that a training begins with."""
    keras.utils.set_random_seed(129)
    return replace(target, net=keras.models.clone_model(target.net))


def measure_examples(views, folder, task="gender") -> Path:
    """Write the drawn face that most of the networks read right, and the one that fewest do.

    `views` are networks on drawn faces (`open_views` with `drawn`). Arrays: labels [networks];
    texts and right [networks, 2]; pictures uint8 [2, s, s, 3] and their true evidence, masks bool
    [2, s, s]; maps uint8 [networks, 3, methods, side, side] of the first face, of the second, and
    of the first with every layer re-initialised.
    """
    views, names = sorted(views, key=lambda view: view.label), common_faces(views)
    said = np.stack([predicted(view.predictions.loc[names], task) for view in views])
    right = said == truth(views[0].predictions.loc[names], task)
    two = [right.sum(axis=0).argmax(), right.sum(axis=0).argmin()]
    texts, pictures = np.array(CLASSES[task])[said[:, two]], views[0].images(names[two])
    held = {"labels": [view.label for view in views], "texts": texts, "right": right[:, two]}
    held |= {"pictures": pictures, "masks": evidence_masks(names[two], task, len(pictures[0]))}
    maps = []
    for view in views:
        target, images = view.target(task), view.images(names[two])
        classes = target.classes(target.logits(images))
        cases = [(target, images, classes), (_untaught(target), images[:1], classes[:1])]
        told = [[explain(a, b, method, c) for method in METHODS] for a, b, c in cases]
        every = np.concatenate([np.stack(part, axis=1) for part in told])
        flat = resize_maps(every.reshape(-1, *every.shape[2:]), MAP_SIDE, tiles=True)
        maps.append(
            np.round(flat * 255).astype(np.uint8).reshape(*every.shape[:2], *flat.shape[1:])
        )
        view.forget()
    with write_aside(Path(folder) / EXAMPLES) as aside:
        np.savez_compressed(aside, maps=np.stack(maps), **held)
    return Path(folder) / EXAMPLES
