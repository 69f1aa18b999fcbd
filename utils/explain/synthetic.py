"""Networks trained on drawn faces: the only ones whose true evidence is known.

``python -m utils.explain --synthetic alexnet,mobilenetv2,resnet50,vgg19 --n 200`` trains their last
layers and fills the rows `pointing_game` and `energy_inside` of ``explanations.csv``.
"""

from utils.training.config import RunConfig
from utils.training.run import train as train_run

FACES, SIZE, EPOCHS = 2000, 96, 8


def train(backbone, faces=FACES, size=SIZE, epochs=EPOCHS) -> str:
    """Train the last layers of a backbone on drawn faces; the name of the run.

    A finished run is used again. Nothing about these networks is a result, but where their maps
    point is.

    Parameters
    ----------
    backbone : str
        As the registry names it.
    faces, size, epochs : int
    """
    config = RunConfig(
        dataset="synthetic",
        model=backbone,
        protocol="partial",
        input_size=size,
        epochs=epochs,
        batch_size=64,
        dataset_options={"n": faces},
    )
    return train_run(config).name
