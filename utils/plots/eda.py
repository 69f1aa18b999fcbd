"""What is in a data set: figures for the first notebook."""

import numpy as np
import pandas as pd

from utils.evaluation.noise import heaping_index
from utils.files import DataError, require
from utils.plots import theme
from utils.vocabulary import AGE_BINS, ETHNICITIES, GENDERS, MAX_AGE, SPLITS, age_bin

SMALL = 30  # fewer faces say little about a group


def _labelled(table, *columns):
    """Rows where all `columns` are known; an error where none is left."""
    require(table, columns, "the face table")
    rows = table.dropna(subset=list(columns))
    if rows.empty:
        raise DataError(f"face table: no row has {' and '.join(columns)}; nothing to draw")
    return rows


def age_histogram(table, dataset):
    """Faces by year of age, ages that end in 0 or 5 marked."""
    ages = _labelled(table, "age")["age"].to_numpy(float).astype(int)
    counts = np.bincount(np.clip(ages, 0, MAX_AGE), minlength=MAX_AGE + 1)
    years = np.arange(len(counts))
    figure, axes = theme.canvas()
    bars = axes.bar(years, counts, 1, color=np.where(years % 5, theme.PALE, theme.RED))
    axes.legend([bars[1], bars[0]], ["other ages", "ages ending in 0 or 5"])
    middle = float(np.median(ages))
    axes.axvline(middle, color=theme.BLACK, ls="--", lw=1.5)
    axes.text(middle + 1, counts.max(), f"median {middle:.0f}", va="top")
    axes.set(xlabel="age (years)", ylabel="faces", xlim=(-1, MAX_AGE + 1))
    axes.grid(axis="x", visible=False)
    title = f"{np.mean(ages % 5 == 0):.0%} of the ages end in 0 or 5 (20% if spread evenly); age "
    title += f"{counts.argmax()} alone holds {counts.max() / len(ages):.1%}"
    told = {"n": len(ages), "index": heaping_index(ages)}
    return theme.finish(figure, title, dataset, "age_histogram", **told)


def joint_counts(table, dataset):
    """Faces by age bin, gender and ethnicity: two heat-maps of counts."""
    faces = _labelled(table, "age", "gender", "ethnicity")
    figure, panels = theme.canvas(1, 2, height=4.2, width=9.5, sharey=True)
    places = [faces["gender"].map(GENDERS.index), faces["ethnicity"].map(ETHNICITIES.index)]
    cells = np.zeros((len(GENDERS), len(ETHNICITIES), len(AGE_BINS)), int)
    np.add.at(cells, (*places, age_bin(faces["age"])), 1)
    for gender, axes, count in zip(GENDERS, panels, cells, strict=True):
        texts = [[f"{value:,}" for value in line] for line in count]
        limits = 0, np.log10(cells.max() + 1)
        theme.annotated(axes, np.log10(count + 1), texts, ETHNICITIES, AGE_BINS, limits)
        axes.set(title=gender, xlabel="age (years)")
    thin = int((cells < SMALL).sum())
    title = f"{thin} of {cells.size} cells hold fewer than {SMALL} faces, "
    title += f"while the fullest holds {cells.max():,}"
    return theme.finish(figure, title, dataset, "joint_counts", len(faces))


def split_composition(table, dataset):
    """Share of each age bin, gender and ethnicity in train, val and test."""
    require(table, ["split", "group", "age", "gender", "ethnicity"], "the face table")
    used = table[table["split"] != "excluded"]
    parts = [part for part in SPLITS if (used["split"] == part).any()]
    known = used["age"].dropna()
    bins = pd.Series(np.array(AGE_BINS, object)[age_bin(known)], known.index)
    views = (bins, AGE_BINS), (used["gender"], GENDERS), (used["ethnicity"], ETHNICITIES)
    views = [(values, order) for values, order in views if values.notna().any()]
    width, widest = max(theme.WIDTH, 3.6 * len(views)), 0.0
    figure, panels = theme.canvas(1, len(views), width=width, squeeze=False)
    for axes, (values, order) in zip(panels[0], views, strict=True):
        shares = pd.crosstab(values, used["split"], normalize="columns")
        shares = shares.reindex(index=order, columns=parts, fill_value=0.0)
        widest = max(widest, float((shares.max(axis=1) - shares.min(axis=1)).max()))
        tilt, tints = 30 if len(shares) > 2 else 0, theme.PALETTE[: len(parts)]
        shares.plot.bar(ax=axes, width=0.8, rot=tilt, color=tints, legend=False)
        axes.set(title=values.name or "age (years)", xlabel="")
        axes.grid(axis="x", visible=False)
        theme.percent(axes)
    panels[0][0].set(ylabel="share of the split")
    panels[0][-1].legend()
    crossing = int((used.groupby("group")["split"].nunique() > 1).sum())
    title = f"The splits differ by at most {100 * widest:.1f} points in any class; {crossing:,} "
    title += f"duplicate group{'s' * (crossing != 1)} cross{'es' * (crossing == 1)} a split"
    sizes = table["split"].value_counts()
    sizes = ", ".join(f"{part} {sizes[part]:,}" for part in SPLITS if part in sizes)
    return theme.finish(figure, title, dataset, f"Faces per split: {sizes}", len(table))


def face_grid(images, titles, dataset, title, columns=6):
    """Faces [height, width, 3], uint8 or 0..1, in a grid, each with a line of text above it."""
    rows = -(-len(images) // columns)
    figure, grid = theme.canvas(rows, columns, 1.95 * rows + 1, 1.6 * columns, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for axes, image, text in zip(grid.ravel(), images, titles, strict=False):
        axes.imshow(image)
        axes.set_title(text, fontsize=10)
    return theme.finish(figure, title, dataset, n=len(images))
