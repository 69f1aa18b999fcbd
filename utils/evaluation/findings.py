"""The findings on one data set in five sentences, computed from its tables."""

from utils.evaluation.pairwise import within_chance
from utils.evaluation.tables import best, networks, signed
from utils.vocabulary import DATASET_LABELS, HEADLINE, MODEL_LABELS, TASK_LABELS, TASKS, written


def findings(tables, dataset):
    """Five sentences on one data set; one that the runs do not allow says what is missing.

    `tables` are those of the report: ``comparison``, ``pairs``, ``gaps`` and, if any, ``primary``.
    """
    table, pairs = tables["comparison"], tables["pairs"]
    runs, where = networks(table), DATASET_LABELS.get(dataset, dataset)
    once = f" {(runs['seeds'] == 1).sum()} of {len(runs)} networks were trained once."
    return [
        _best(table, ("age",), where, pairs) + once,
        _best(table, TASKS[1:], where, pairs),
        _family(tables.get("primary")) or _protocols(runs),
        _cost(runs, pairs),
        _for_whom(table, tables["gaps"]),
    ]


def _best(table, tasks, where, pairs):
    rows = [row for row in (best(table, task) for task in tasks) if row is not None]
    if not rows:
        names = " or ".join(TASK_LABELS[task] for task in tasks)
        return f"No finished run on {where} predicts {names}."
    parts, runs = [], networks(table)
    for row in rows:
        told = {"metric": HEADLINE[row["task"]], "unit": True}
        value = written(row["value"], row["ci_low"], row["ci_high"], **told)
        guess = written(table[row["task"]].iloc[-1], **told)
        equal = within_chance(pairs, row["run"], row["task"])
        names = runs.loc[runs["run"].isin(equal), "label"]
        names = " and ".join(names) if len(names) < 3 else f"{len(names)} others"
        chance = f"; difference to {names} within chance" * bool(names)
        text = f"{TASK_LABELS[row['task']]} {value} by {row['label']}"
        parts.append(f"{text} (baseline {guess}{chance})")
    chosen = " and ".join(sorted({row["chosen_on"] for row in rows}))
    return f"Best on {where}, chosen on {chosen} faces: {'; '.join(parts)}."


def _family(primary):
    """Verdicts on the declared family, pair by pair; empty without one."""
    if primary is None or primary.empty:
        return ""
    parts = []
    for (a, b), rows in primary.groupby(["a", "b"], sort=False):
        tasks = rows.groupby("verdict")["task"].agg(lambda names: [TASK_LABELS[t] for t in names])
        alike = len(tasks) == 1
        told = [f"{v} in {'every task' if alike else ', '.join(n)}" for v, n in tasks.items()]
        parts.append(f"{MODEL_LABELS.get(a, a)} and {MODEL_LABELS.get(b, b)} {'; '.join(told)}")
    return f"Trained alike (the declared family): {'. '.join(parts)}."


def _protocols(runs):
    """Full fine-tuning against a linear probe, network by network at one input size."""
    parts, tasks = [], list(TASKS)
    for (_, size), of in runs.groupby(["model", "input_size"], sort=False):
        of = of.drop_duplicates("protocol").set_index("protocol")
        if {"linear_probe", "finetune"} <= set(of.index):
            gaps = (of.loc["finetune", tasks] - of.loc["linear_probe", tasks]).dropna().items()
            told = [f"{TASK_LABELS[t]} {signed(v, metric=HEADLINE[t], unit=True)}" for t, v in gaps]
            parts.append(f"{of['label'].iloc[0].split(',')[0]} at {size:.0f} px: {', '.join(told)}")
    if not parts:
        return "No backbone was both probed and fully fine-tuned at one input size."
    return f"Full fine-tuning instead of a linear probe changes {'; '.join(parts)}."


def _cost(runs, pairs):
    """How far the smallest network is from the best one."""
    task = "age" if runs["age"].notna().sum() > 1 else "age_bin"
    rows = runs.dropna(subset=["parameters", task])
    if rows["model"].nunique() < 2:
        return "The costs of fewer than two networks are known, so they cannot be compared."
    top, least = best(rows, task), rows["parameters"].min()
    small = best(rows[rows["parameters"] <= 1.001 * least], task)
    size = f"{least / 1e6:.1f} million parameters"
    if small["model"] == top["model"]:
        return f"{top['label']} is both the smallest network ({size}) and the best."
    change = signed(small[task] - top[task], metric=HEADLINE[task], unit=True)
    equal = " (within chance)" * (small["run"] in within_chance(pairs, top["run"], task))
    text = f"The smallest network, {small['label']} ({size}), differs by {change} in "
    text += f"{TASK_LABELS[task]}{equal} from {top['label']}, which is "
    return f"{text}{top['parameters'] / least:.1f} times as large."


def _for_whom(table, gaps):
    row = best(table, "age")
    if row is not None:
        gaps = gaps[(gaps["run"] == row["run"]) & (gaps["metric"] == "mae")]
        for gap in gaps[gaps["by"] == "age_bin"].to_dict("records"):
            low, high = (
                f"{written(gap[f'{end}_value'], unit=True)} at ages {gap[end]} "
                f"(n = {gap[f'{end}_n']:,})"
                for end in ("best", "worst")
            )
            return f"The age error of {row['label']} runs from {low} to {high}."
    return "Too few faces with a predicted age to say for whom the errors are largest."
