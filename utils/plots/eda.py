"""What is in a data set: figures for the first notebook."""

import numpy as np
import pandas as pd
import seaborn as sns

from utils.evaluation.columns import require
from utils.evaluation.noise import heaping_index, label_conflicts
from utils.files import DataError
from utils.plots import theme
from utils.vocabulary import AGE_BINS, ETHNICITIES, GENDERS, MAX_AGE, SPLITS, age_bin

SMALL = 30  # fewer faces say little about a group


def _labelled(table, *columns):
    """Rows where all `columns` are known; an error where none is left."""
    require(table, columns, "face table")
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


def count_plot(table, column, dataset):
    """Faces by gender or ethnicity, with shares."""
    known = {"gender": GENDERS, "ethnicity": ETHNICITIES}
    if column not in known:
        raise ValueError(f"column {column!r} cannot be counted; expected gender or ethnicity")
    counts = _labelled(table, column)[column].value_counts().reindex(known[column], fill_value=0)
    figure, axes = theme.canvas(height=1.9 + 0.42 * len(counts))
    shares = counts / counts.sum()
    tints = np.where(counts == counts.max(), theme.BLUE, theme.SKY)
    bars = axes.barh(counts.index, counts, color=tints)
    axes.bar_label(bars, [f"{n:,}  ({shares[name]:.1%})" for name, n in counts.items()], padding=4)
    axes.set(xlabel="faces", xlim=(0, counts.max() * 1.3))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    title = f"Always guessing '{shares.idxmax()}' is right for {shares.max():.1%}; "
    title += f"'{shares.idxmin()}' is rarest with {shares.min():.1%}"
    return theme.finish(figure, title, dataset, f"Faces by {column}", int(counts.sum()))


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


def _by_who(table):
    """Faces with age and gender, their ethnicity (or "all") in `who`, and who there is."""
    faces = _labelled(table, "age", "gender")
    who = faces["ethnicity"].fillna("all") if "ethnicity" in faces else "all"
    faces = faces.assign(who=who)
    return faces, [name for name in (*ETHNICITIES, "all") if name in set(faces["who"])]


_INTERVAL = {"errorbar": ("se", 1.96)}  # 95 %
_BESIDE = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
_BY_GENDER = {"hue": "gender", "hue_order": GENDERS, "palette": theme.GENDER_COLOURS}


def mean_age(table, dataset):
    """Mean age by ethnicity and gender with 95 % intervals."""
    faces, names = _by_who(table)
    figure, axes = theme.canvas(height=1.9 + 0.55 * len(names))
    look = {"dodge": 0.32, "markers": ["o", "s"], "linestyle": "none", "capsize": 0.1}
    sns.pointplot(faces, x="age", y="who", order=names, ax=axes, **look, **_INTERVAL, **_BY_GENDER)
    axes.set(xlabel="mean age (years)", ylabel="")
    axes.legend(**_BESIDE)
    by = faces.groupby("gender")["age"].mean().reindex(GENDERS)
    gap = by["male"] - by["female"]
    title = f"Women are {abs(gap):.1f} years {'younger' if gap > 0 else 'older'} than men "
    title += f"on average ({by['female']:.1f} against {by['male']:.1f})"
    return theme.finish(figure, title, dataset, "Mean age with 95% interval", len(faces))


def age_boxes(table, dataset):
    """Box plots of age by ethnicity and gender."""
    faces, names = _by_who(table)
    figure, axes = theme.canvas(width=max(theme.WIDTH, 1.5 * len(names)))
    dots = {"marker": ".", "markersize": 2, "alpha": 0.3, "rasterized": True}
    sns.boxplot(faces, x="who", y="age", order=names, flierprops=dots, ax=axes, **_BY_GENDER)
    axes.set(xlabel="", ylabel="age (years)")
    axes.legend(**_BESIDE)
    medians = faces.groupby(["who", "gender"])["age"].median()
    (old, man), (young, woman) = medians.idxmax(), medians.idxmin()
    title = f"Median age runs from {medians.min():.0f} ({young}, {woman}) to {medians.max():.0f} "
    return theme.finish(figure, title + f"({old}, {man})", dataset, "age_boxes", len(faces))


def photo_year(table, dataset):
    """Age against the year in which the photo was taken, as a density with the median by decade.

    The year is read from WIKI's image names, `[id]_[birth date]_[year].jpg`.
    """
    require(table, ["image", "age"], "face table")
    found = table["image"].astype(str).str.extract(r"_(\d{4})\.[A-Za-z]+$")[0].astype(float)
    rows = table.assign(year=found)[(found >= 1900) & table["age"].notna()]
    if rows.empty:
        raise DataError("no photo years in the image names; expected '..._<year>.jpg', as in WIKI")
    year, age = rows["year"], rows["age"]
    figure, axes = theme.canvas()
    theme.density(axes, year, age, 10, SMALL)
    axes.set(xlabel="year of the photo", ylabel="age (years)")
    title = f"{np.mean(year >= 2000):.0%} of the photos were taken in 2000 or later"
    if np.ptp(year) and np.ptp(age):
        title += f"; age and year correlate by {np.corrcoef(year, age)[0, 1]:.2f}"
    return theme.finish(figure, title, dataset, "Median by decade in red", len(rows))


def pixel_statistics(images, table):
    """Age, gender, and mean and range (largest minus smallest) of the grey levels of faces.

    Of `images` uint8 [n, size, size, channels], maybe a memory map, with the rows of `table`.
    """
    if len(images) != len(table):
        raise ValueError(f"{len(images)} images for {len(table)} rows; pass the same faces in both")
    grey = np.stack([np.asarray(image, np.float32).mean(axis=-1).ravel() for image in images])
    result = table[["age", "gender"]].reset_index(drop=True)
    return result.assign(mean=grey.mean(axis=1), range=np.ptp(grey, axis=1))


def pixels(statistics, dataset):
    """Mean and range of grey values (from `pixel_statistics`) against age, by gender."""
    faces = _labelled(statistics, "age", "mean", "range")
    faces = faces.assign(decade=faces["age"] // 10 * 10 + 5)
    often = faces[faces.groupby(["decade", "gender"])["age"].transform("size") >= 10]
    figure, panels = theme.canvas(1, 2, width=9.5, height=4)
    look = {"err_style": "bars", "style": "gender", "style_order": GENDERS, "dashes": False}
    look |= {"markers": ["o", "s"], **_INTERVAL, **_BY_GENDER}
    for axes, column in zip(panels, ("mean", "range"), strict=True):
        tints = faces["gender"].map(theme.GENDER_COLOURS).fillna(theme.GREY)
        axes.scatter(faces["age"], faces[column], s=3, alpha=0.12, color=tints, rasterized=True)
        sns.lineplot(often, x="decade", y=column, ax=axes, legend=column == "range", **look)
        low, high = np.percentile(faces[column], [1, 99])
        axes.set(xlabel="age (years)", ylabel=f"{column} of grey values (0-255)", ylim=(low, high))
    slope = np.corrcoef(faces["age"], faces["mean"])[0, 1]
    title = f"Brightness and age correlate by {slope:.2f}; mean "
    if abs(slope) < 0.2:
        title = f"Brightness tells little about age (correlation {slope:.2f}); faces average "
    title += f"{faces['mean'].mean():.0f} of 255"
    return theme.finish(figure, title, dataset, "pixels", len(faces))


def duplicates(table, dataset):
    """Duplicate groups by size, and how often labels conflict inside them."""
    require(table, ["group"], "face table")
    sizes = table.groupby("group").size().loc[lambda size: size > 1]
    conflicts = label_conflicts(table)
    figure, (left, right) = theme.canvas(1, 2, width=9.5, height=3.8)
    by_size = sizes.clip(upper=5).value_counts().reindex(range(2, 6), fill_value=0)
    bars = left.bar(["2", "3", "4", "5+"], by_size, color=theme.SKY)
    left.bar_label(bars, fmt="{:,.0f}")
    left.set(xlabel="faces in the group", ylabel="duplicate groups")
    shares = conflicts.set_index("task")["conflict_share"]
    texts = [f"{row.conflicts:,} of {row.groups:,}" for row in conflicts.itertuples()]
    right.bar_label(right.barh(shares.index, shares, color=theme.RED), texts, padding=4)
    top = max(shares.max(), 0.01) if len(shares) else 1
    right.set(xlabel="groups with conflicting labels", xlim=(0, top * 1.5))
    right.invert_yaxis()
    theme.percent(right, "x")
    title = f"{int(sizes.sum()):,} of {len(table):,} faces have a near-duplicate"
    if len(shares):
        title += f"; in {shares.max():.0%} of their groups the {shares.idxmax()} differs"
    told = f"{len(sizes):,} groups of near-duplicates"
    return theme.finish(figure, title, dataset, told, len(table))


def split_composition(table, dataset):
    """Share of each age bin, gender and ethnicity in train, val and test."""
    require(table, ["split", "group", "age", "gender", "ethnicity"], "face table")
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
    if len(images) != len(titles):
        raise ValueError(f"{len(images)} images with {len(titles)} titles; expected one each")
    rows = -(-len(images) // columns)
    figure, grid = theme.canvas(rows, columns, 1.95 * rows + 1, 1.6 * columns, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for axes, image, text in zip(grid.ravel(), images, titles, strict=False):
        axes.imshow(image)
        axes.set_title(text, fontsize=10)
    return theme.finish(figure, title, dataset, n=len(images))
