"""What is each choice worth? Differences to a reference that differs in one thing.

Which runs belong together stands in ``profiles/ablations.yaml``. Choices are judged on validation
faces; the same difference on test faces stands beside it. Variant and reference are means over
their seeds, scored on the same faces with the same resamples of duplicate groups (paired cluster
bootstrap). Where the split is what differs, their faces differ, and the two are resampled apart.
Most were trained once or twice, so what another training may give enters as a normal deviation, as
wide as that of all networks of the protocol with several seeds (`seed_noise`).
"""

import functools
from itertools import chain, product

import numpy as np
import pandas as pd
from sklearn.linear_model import QuantileRegressor
from sklearn.model_selection import KFold, cross_val_predict

from utils.evaluation.bootstrap import draw, gap, interval, intervals, scored
from utils.evaluation.columns import AGE_INTERVAL, aligned, known, part, tasks_of
from utils.evaluation.metrics import evaluate
from utils.evaluation.pairwise import ALPHA, holm
from utils.evaluation.tables import COSTS, run_table, signed, wide
from utils.plan import variants
from utils.vocabulary import CLASSES, HEADLINE, TASKS, probability_columns, written

SPLITS = ("val", "test")
ENSEMBLE, CORRECTED = "ensemble", "ensemble, age corrected"
COLUMNS = (
    "ablation change variant task metric split value ci_low ci_high seeds reference "
    "reference_seeds difference difference_low difference_high p p_holm paired seed_sd n run "
    "reference_run"
).split()


def score(table, split, splits=None, n=2000, seed=129):
    """Images of the faces of a split, and by task (value, resampled values, faces)."""
    if table is None or not (table["split"] == split).any():
        return (), {}
    faces, found = part(table, split).sort_values("image", ignore_index=True), {}
    drawn = draw(faces, splits, n, seed)
    for task in tasks_of(faces):
        values = scored(faces, drawn, task, HEADLINE[task])
        found[task] = (*values, int(known(faces, task).sum()))
    return tuple(faces["image"]), found


def seed_noise(study):
    """Standard deviation over seeds by protocol, split and task: of all systems with several."""
    runs, keys = run_table(study).set_index("run"), ["protocol", "split", "task"]
    runs = runs[runs["system"].duplicated(keep=False)][["protocol", "system"]]
    held = {run: study.predictions[run] for run in runs.index if run in study.predictions}
    rows = [evaluate(table, SPLITS).assign(run=run) for run, table in held.items()]
    if not rows:
        return {}
    rows = pd.concat(rows).join(runs, on="run")
    rows = rows[rows["metric"] == rows["task"].map(HEADLINE)]
    variance = rows.groupby([*keys, "system"])["value"].var()
    return np.sqrt(variance.groupby(keys).mean()).to_dict()


def _mean_of(scores, runs, split, noise, rng):
    """Images of a member, and by task (mean over its runs, resampled with noise, faces)."""
    found, made = [scores(run, split) for run in runs], {}
    for task in dict.fromkeys(task for _, held in found for task in held):
        values, spreads, n = zip(*(held[task] for _, held in found if task in held), strict=True)
        scale = noise.get((split, task), 0.0) / np.sqrt(len(values))
        spread = np.mean(spreads, axis=0) + rng.normal(0, scale, len(spreads[0]))
        made[task] = float(np.mean(values)), spread, n[0]
    return found[0][0] if found else (), made


def compared(scores, members, noise, seed=129):
    """Rows of one ablation; none without the reference (the first member) or without a variant.

    `scores` gives `score` by (run, split), `members` are (label, runs, tasks); `noise` by (split,
    task) is that of a training: where it is unknown there is no p, as seeds must enter it.
    """
    first, rows, rng = members[0][1], [], np.random.default_rng(seed)
    for split in SPLITS:
        reference = base_images, base = _mean_of(scores, first, split, noise, rng)
        for label, runs, tasks in members:
            images, own = reference if runs == first else _mean_of(scores, runs, split, noise, rng)
            for task in (task for task in tasks if task in own and task in base):
                value, spread, n = own[task]
                low, high = interval(spread)
                row = {"variant": label, "task": task, "metric": HEADLINE[task], "split": split}
                row |= {"run": runs[0], "reference_run": first[0], "reference": base[task][0]}
                row |= {"value": value, "ci_low": low, "ci_high": high, "n": n}
                row |= {"seeds": len(runs), "reference_seeds": len(first)}
                row["seed_sd"] = noise.get((split, task), np.nan)
                if runs != first:
                    row |= _difference(own[task], base[task], images == base_images)
                    row["p"] = row["p"] if (split, task) in noise else np.nan
                rows.append(row)
    return rows if any(row["run"] != first[0] for row in rows) else []


def _difference(own, base, paired):
    """What a variant (value, resampled values, ...) has more than its reference."""
    # On other faces a resample must not meet its own number: one seed drew both.
    found = gap(own[:2], (base[0], base[1] if paired else np.roll(base[1], 1)))
    ends = {f"difference_{end}": found.pop(f"ci_{end}") for end in ("low", "high")}
    return found | ends | {"paired": paired}


def ensemble_members(comparison, backbones):
    """Run -> label: of each network the run with all tasks and the least validation age error."""
    rows = comparison[comparison["model"].isin(backbones)].dropna(subset=[*TASKS, "age_val"])
    rows = rows.sort_values("age_val").drop_duplicates("model")
    return dict(zip(rows["run"], rows["label"], strict=True))


def wide_members(study, settings, dataset):
    """Runs on a data set that have, of each of `settings`, one of the listed values."""
    told = pd.DataFrame.from_dict(study.configs, "index").reindex(columns=["dataset", *settings])
    fit = told.isin({"dataset": [dataset]} | settings).all(axis=1)
    return list(told.index[fit]) if settings else []


def ensemble_predictions(tables):
    """Mean of several predictions, on the validation and test faces that all tables hold."""
    columns = ["pred_age", *AGE_INTERVAL, *chain(*map(probability_columns, CLASSES))]
    held = aligned([table[table["split"].isin(SPLITS)] for table in tables])
    mean = np.mean([table[columns].to_numpy(float) for table in held], axis=0)
    truth = held[0][["image", "split", "age", "gender", "ethnicity"]]
    return truth.join(pd.DataFrame(mean, columns=columns))


def age_corrected(predictions):
    """Predictions with ages by median regression on the age and the ends of its interval.

    The expected value of a skewed distribution, as networks give it, lies beside the median, which
    has the least absolute error. Fitted on validation faces; theirs come from ten folds.
    """
    val = (predictions["split"] == "val") & predictions["age"].notna()
    # Rounding and penalty: the solver fails where two columns say the same but for float's noise.
    read = predictions[["pred_age", *AGE_INTERVAL]].round(2)
    age, fit = predictions.loc[val, "age"], QuantileRegressor(alpha=0.001)
    folds = KFold(min(10, val.sum()), shuffle=True, random_state=0)
    ages = fit.fit(read[val], age).predict(read)
    ages[val] = cross_val_predict(fit, read[val], age, cv=folds)
    return predictions.assign(pred_age=ages)


def with_ensemble(comparison, study, members, dataset, resamples=2000, seed=129):
    """The comparison with a row for the mean of the runs `members`; its costs are their sums.

    None is added for fewer than two members.
    """
    if len(members) < 2:
        return comparison
    mean = age_corrected(ensemble_predictions(map(study.predictions.get, members)))
    drawn = draw(part(mean, "test"), study.splits.get(dataset), resamples, seed)
    row = {"label": f"ensemble of {len(members)}, age corrected", "model": ENSEMBLE, "seeds": 1}
    row |= {"protocol": ENSEMBLE, "input_size": np.nan, "run": None, "system": ENSEMBLE}
    found = intervals(mean, drawn).set_index(["task", "metric"])
    val = evaluate(mean, ("val",)).set_index(["task", "metric"])["value"]
    for task, metric in HEADLINE.items():
        value, low, high = found.loc[(task, metric), ["value", "ci_low", "ci_high"]]
        row |= {task: value, f"{task}_low": low, f"{task}_high": high}
        row[f"{task}_val"] = val[task, metric]
    costs = pd.DataFrame([study.costs.get(run, {}) for run in members]).reindex(columns=list(COSTS))
    rows = pd.DataFrame([row | costs.sum(min_count=len(costs)).to_dict()])
    together = pd.concat([comparison.iloc[:-1], rows.astype({"input_size": float})])
    together = together.sort_values(["age", "age_bin"], ascending=[True, False], kind="stable")
    return pd.concat([together, comparison.iloc[-1:]], ignore_index=True)


def _members(study, profile):
    """(name, question, members, protocol, if trained) of each ablation; and what lacks runs."""
    every, missing, runs = [], [], run_table(study).set_index("run")["system"]
    for one in profile.ablations:
        made = variants(profile, one)
        trained, found, lacking = all(config.epochs for _, config in made), [], []
        for label, config in made:
            some = sorted(study.matching(config))[:1]
            lacking += [] if some else [config.label]
            if some and trained:
                some += sorted(runs.index[runs == runs[some[0]]].drop(some[0]))
            found.append((label, some, config.tasks))
        missing += [(f"ablation {one.name}", f"not run: {'; '.join(lacking)}")] if lacking else []
        every.append((one.name, one.question, found, made[0][1].protocol if trained else ""))
    return every, missing


def ablations(study, profile, best=(), resamples=2000, seed=129):
    """All ablations that a profile lists, and the ensemble of the runs `best`.

    Returns a table and (name, reason) of those that lack runs. One row a variant, task and split,
    `COLUMNS`: `change` is the ablation's question, `difference` variant minus reference; `p_holm`
    corrects over all of one task and split; `seed_sd` is the protocol's `seed_noise`.
    """
    splits, predictions = study.splits.get(profile.settings.get("dataset")), study.predictions
    every, missing = _members(study, profile)
    if len(best) > 1:
        mean, first = ensemble_predictions(map(predictions.get, best)), next(iter(best))
        predictions = predictions | {ENSEMBLE: mean, CORRECTED: age_corrected(mean)}
        members = [(best[first], [first], TASKS), ("mean of the networks", [ENSEMBLE], TASKS)]
        members.append(("mean, age corrected", [CORRECTED], ("age",)))
        every.append((ENSEMBLE, f"Mean of {len(best)} networks", members, ""))

    @functools.cache
    def scores(run, split):
        return score(predictions.get(run), split, splits, resamples, seed)

    noise, rows, same = seed_noise(study), [], dict.fromkeys(product(SPLITS, TASKS), 0.0)
    for name, question, members, protocol in every:
        told = {"ablation": name, "change": question}
        own = {key[1:]: sd for key, sd in noise.items() if key[0] == protocol}
        members = [one for one in members if one[1] or one is members[0]]
        rows += [told | row for row in compared(scores, members, own if protocol else same, seed)]
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    for _, group in table[table["p"].notna()].groupby(["task", "split"]):
        table.loc[group.index, "p_holm"] = holm(group["p"])
    return table, missing


def readable(table):
    """What validation faces say (test faces where there are none): value (difference) a task.

    A star where it is beyond chance of faces and trainings (Holm, 5 %).
    """

    def cell(row):
        text, change = written(row["value"], metric=row["metric"]), row["difference"]
        star = "*" * (row["p_holm"] < ALPHA)
        known = pd.notna(change)
        return f"{text} ({signed(change, metric=row['metric'])}){star}" if known else text

    val = table["split"] == "val"
    shown = table[val] if val.any() else table
    return wide(shown, ["change", "variant"], cell)
