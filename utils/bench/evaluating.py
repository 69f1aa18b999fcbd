"""Evaluation: the bootstrap against a loop, and the time of the whole report."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from utils.bench.material import Bench
from utils.bench.results import Measured, Skip
from utils.bench.timing import interleaved
from utils.evaluation.bootstrap import Resamples, groups_of, metric_resamples
from utils.evaluation.columns import METRICS, part, predicted, tasks_of, truth
from utils.evaluation.metrics import WITHIN_YEARS
from utils.paths import ROOT
from utils.runs import load_study

STUDY = ROOT / "reports" / "study"
RESAMPLES = 2000
LOOPED = 20  # resamples that the loop really does


def _predictions(bench: Bench) -> pd.DataFrame:
    """Test faces of a committed run, or drawn numbers in the same columns."""
    found = sorted(STUDY.glob("predictions/*.parquet"))
    if found and not bench.quick:
        return part(pd.read_parquet(found[-1]), "test")
    bench.note("random predictions")
    from utils.training.predicting import predictions_table

    draw, n = np.random.default_rng(129), bench.pick(4740, 300)
    table = pd.DataFrame(
        {
            "image": [f"{k:05d}" for k in range(n)],
            "split": "test",
            "age": draw.integers(0, 100, n).astype(float),
            "gender": draw.choice(["male", "female"], n),
            "ethnicity": draw.choice(["White", "Black", "Asian", "Indian", "Other"], n),
        }
    )
    widths = {"age": 117, "age_bin": 5, "gender": 2, "ethnicity": 5}
    return predictions_table(table, {k: draw.dirichlet(np.ones(w), n) for k, w in widths.items()})


def _scikit(task, target, guess) -> list[float]:
    """Metrics of one resample as scikit-learn computes them, in the order of METRICS."""
    from sklearn import metrics

    if task == "age":
        error = np.abs(guess - target)
        return [metrics.mean_absolute_error(target, guess), float(np.mean(error <= WITHIN_YEARS))]
    return [
        metrics.accuracy_score(target, guess),
        metrics.balanced_accuracy_score(target, guess),
        metrics.f1_score(target, guess, average="macro"),
    ]


def bootstrap(bench: Bench) -> Measured:
    """All metrics on 2,000 resamples of the groups; the loop does a few and is scaled."""
    faces = _predictions(bench)
    groups = groups_of(faces)
    n, looped = bench.pick(RESAMPLES, 50), bench.pick(LOOPED, 5)
    pairs = {task: (truth(faces, task), predicted(faces, task)) for task in tasks_of(faces)}
    drawn = Resamples(groups, n)
    positions = np.arange(len(faces))

    def loop():
        rows = []
        for k in range(looped):
            chosen = np.repeat(positions, drawn.counts[drawn.codes, k].astype(int))
            rows.append(sum((_scikit(t, a[chosen], b[chosen]) for t, (a, b) in pairs.items()), []))
        return np.array(rows)

    def ours():
        spread = metric_resamples(faces, Resamples(groups, n))
        return np.stack([spread[task, m] for task in pairs for m in METRICS[task]], axis=1)

    # Scikit-learn warns of classes that a resample lacks; ours leaves them out alike.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        timing = interleaved(
            {"loop": loop, "ours": ours}, bench.repeats, 1, "bootstrap", bench.progress
        )
    apart = float(np.abs(timing.results["loop"][-1] - timing.results["ours"][-1][:looped]).max())
    slow, fast = timing.median("loop") * n / looped, timing.median("ours")
    return Measured(
        slow / fast,
        slow,
        fast,
        apart <= 1e-5,
        f"{len(pairs)} tasks, all metrics: values differ by at most {apart:.1e} (allowed 1e-5)",
        bench.repeats,
        note=(
            f"{len(faces):,} faces; the loop did {looped} of the {n:,} resamples, its seconds are "
            f"scaled by {n / looped:.0f}. The same resamples, one thread each."
        ),
    )


def _agrees(scored: pd.DataFrame, results: pd.DataFrame) -> float:
    """Largest relative difference from the values that were stored when the runs were trained."""
    keys = ["run", "task", "metric", "split"]
    both = scored.merge(results[[*keys, "value"]], on=keys, suffixes=("", "_stored"))
    if both.empty:
        return float("inf")
    return float((both["value"] / both["value_stored"] - 1).abs().max())


def report(bench: Bench) -> Measured:
    """Seconds from the committed predictions to every table and figure."""
    from utils.evaluation.report import build, write

    study = load_study(STUDY)
    if not study.predictions:
        raise Skip("reports/study holds no predictions; publish a study first")
    resamples = bench.pick(RESAMPLES, 50)
    if bench.quick:
        study.predictions = dict(list(study.predictions.items())[:1])
        study.results = study.results[study.results["run"].isin(study.predictions)]

    def ours():
        with tempfile.TemporaryDirectory() as folder:
            made = build(study, resamples)
            write(made, Path(folder))
        return made.tables["metrics"]

    with threadpool_limits(1):
        timing = interleaved({"ours": ours}, bench.repeats, 0, "report", bench.progress)
    apart = _agrees(timing.results["ours"][-1], study.results)
    seconds = timing.median("ours")
    return Measured(
        seconds,
        None,
        seconds,
        apart <= 1e-4,
        f"values differ by at most {apart:.1e} from those stored at training (allowed 1e-4)",
        bench.repeats,
        note=f"{len(study.predictions)} runs, {resamples:,} resamples, tables and figures.",
        details={"runs": len(study.predictions)},
    )
