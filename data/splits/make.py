"""Writes the published splits, ``data/splits``: no training face copies a val or test face.

Once a face is in test or val it stays there. Training faces that show the photograph of one of
them leave training: their side is ``excluded``. Run ``python -m data.splits.make utkface``.
"""

import argparse

import pandas as pd

from utils.datasets import load
from utils.datasets.near_duplicates import components, duplicate_pairs
from utils.files import DataError, write_aside
from utils.paths import splits_dir

COLUMNS = ["image", "split", "group", "same_file", "copy_in_train", "reason"]
COLUMNS += ["age", "gender", "ethnicity"]


def clean_split(split: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Take training faces that copy a val or test face out of training.

    Parameters
    ----------
    split : DataFrame
        ``image``, ``split`` and labels; ``excluded`` faces were in ``train`` before.
    pairs : DataFrame
        As of `utils.datasets.near_duplicates.duplicate_pairs`.

    Returns
    -------
    DataFrame
        Sorted by ``image``, with ``group``; ``same_file``: the first of the faces whose files are
        identical; ``copy_in_train``: whether a val or test face has a copy in what was training
        before; ``reason`` of each excluded face, and of each val face that copies a test face.
    """
    table = split.sort_values("image", ignore_index=True)
    before = table["split"].replace("excluded", "train")
    pairs = pairs[pairs["image_a"].isin(table["image"]) & pairs["image_b"].isin(table["image"])]
    table["group"] = components(table["image"], pairs)
    table["same_file"] = components(table["image"], pairs[pairs["evidence"] == "file"])
    sides = pd.crosstab(table["group"], before).reindex(columns=["train", "val", "test"])
    has = sides.fillna(0).loc[table["group"]].gt(0).reset_index(drop=True)
    held_out = has["val"] | has["test"]
    table["split"] = before.mask((before == "train") & held_out, "excluded")
    table["copy_in_train"] = (before != "train") & has["train"]
    told = (table["split"] == "excluded") | ((before == "val") & has["test"])
    table["reason"] = ""
    table.loc[told, "reason"] = _reasons(table[told], table.assign(split=before), pairs)
    return table[[name for name in COLUMNS if name in table]]


def _reasons(rows: pd.DataFrame, table: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    """Which face each row copies: of test before val, the most alike one, else the first."""
    swapped = pairs.rename(columns={"image_a": "image_b", "image_b": "image_a"})
    both = pd.concat([pairs, swapped]).set_index(["image_a", "image_b"])["correlation"]
    alike = both[~both.index.duplicated()].to_dict()
    held_out = {group: faces for group, faces in table[table["split"] != "train"].groupby("group")}
    reasons = []
    for image, side, group in rows[["image", "split", "group"]].itertuples(index=False):
        faces = held_out[group]
        faces = faces[(faces["image"] != image) & ((side != "val") | (faces["split"] == "test"))]
        order = [
            (split != "test", -alike.get((image, name), -1), name)
            for name, split in faces[["image", "split"]].itertuples(index=False)
        ]
        is_val, _, name = min(order)
        stays = "; stays, as published" if side == "val" else ""
        reasons.append(f"near-duplicate of {'val' if is_val else 'test'} face {name}{stays}")
    return reasons


def publish_split(dataset: str, progress: bool = True) -> pd.DataFrame:
    """Write ``data/splits/<dataset>.csv`` from the split as it stands; return it.

    Raises
    ------
    DataError
        If there is no split yet, or a face of it is missing.
    """
    path = splits_dir() / f"{dataset}.csv"
    if not path.is_file():
        raise DataError(f"{path} is missing: there is no split of {dataset!r} to start from")
    split, faces = pd.read_csv(path, dtype=str), load(dataset)
    missing = set(split["image"]) - set(faces.table["image"])
    if missing:
        raise DataError(f"{dataset} lacks {len(missing)} published faces, such as {min(missing)}")
    faces = faces.subset(faces.table["image"].isin(split["image"]))
    table = clean_split(split, duplicate_pairs(faces, progress=progress))
    with write_aside(path) as aside:
        said = table["copy_in_train"].map({True: "true", False: "false"})
        table.assign(copy_in_train=said).to_csv(aside, index=False)
    return table


def main() -> None:
    """Write the published split of each named data set and tell its sizes."""
    parser = argparse.ArgumentParser(description="write the published splits")
    parser.add_argument("datasets", nargs="+", help="such as utkface wiki")
    for dataset in parser.parse_args().datasets:
        table = publish_split(dataset)
        copies = table.loc[table["copy_in_train"], "split"].value_counts().to_dict()
        print(f"{dataset}: {table['split'].value_counts().to_dict()}; copy in train: {copies}")


if __name__ == "__main__":
    main()
