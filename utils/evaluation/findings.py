"""The findings on one data set in five short lines, and which network to use, from its tables."""

from utils import vocabulary as words
from utils.evaluation.pairwise import within_chance
from utils.evaluation.subgroups import AXES
from utils.evaluation.tables import best_row, best_rows, networks
from utils.vocabulary import HEADLINE, LOWER_IS_BETTER, TASK_LABELS, in_words, written


def findings(tables, dataset, elsewhere):
    """Five lines on one data set; one that the runs do not allow says what is missing.

    `tables` are those of the report: ``comparison``, ``gaps``, ``label_noise`` and, if any,
    ``primary``; `elsewhere` is the table of the networks trained on it on other data sets.
    """
    rows = best_rows(tables["comparison"])
    return [
        _best(rows, words.DATASET_LABELS.get(dataset, dataset)),
        _family(tables.get("primary")),
        _for_whom(rows, tables["gaps"]),
        _labels(tables.get("label_noise")),
        _elsewhere(elsewhere),
    ]


def _best(rows, where):
    held = {}
    for row in rows:
        name = f"{row['label'].split(', ')[0]}, {row['input_size']:.0f} px"
        held.setdefault(name, []).append(in_words(row["task"], row["value"]))
    told = "; ".join(f"{name} ({', '.join(values)})" for name, values in held.items())
    if not told:
        return f"No finished run on {where} can be scored."
    return f"Best single networks on {where}, chosen on {rows[0]['chosen_on']} faces: {told}."


def _family(primary):
    """Pairs of the declared family with one verdict in every task."""
    if primary is None or primary.empty:
        return "No networks were trained alike to be compared."
    held = {}
    for pair, verdicts in primary.groupby(["a", "b"], sort=False)["verdict"]:
        if verdicts.nunique() == 1:
            names = " and ".join(words.MODEL_LABELS.get(name, name) for name in pair)
            held.setdefault(verdicts.iloc[0], []).append(names)
    told = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in held.items())
    told = f"Trained alike, in every task {told}." if told else ""
    return told or "No pair has one verdict in all tasks."


def _for_whom(rows, gaps):
    """The group with the worst value of the best network of each task."""
    parts = []
    for row in rows:
        own = gaps[(gaps["run"] == row["run"]) & (gaps["task"] == row["task"])]
        own = own[own["by"].isin(AXES) & (own["metric"] == HEADLINE[row["task"]])]
        if len(own):
            lower = HEADLINE[row["task"]] in LOWER_IS_BETTER
            worst = own.sort_values("worst_value", ascending=not lower).iloc[0]
            parts.append(f"{in_words(row['task'], worst['worst_value'])} for {worst['worst']}")
    return f"Weakest groups: {', '.join(parts)}." if parts else "Too few faces to rank groups."


def _labels(noise):
    """What label noise costs even a perfect network, the smaller of its two bounds."""
    if noise is None or noise.empty:
        return "No two faces show one picture, so the label noise is unknown."
    parts = []
    for task, rows in noise[noise["metric"] == noise["task"].map(HEADLINE)].groupby("task"):
        cost = rows["bound"] if HEADLINE[task] in LOWER_IS_BETTER else 1 - rows["bound"]
        parts.append(in_words(task, cost.min()))
    told = ", ".join(sorted(parts))
    return f"On copies of one photograph label noise alone costs at least: {told}."


def _elsewhere(table):
    """Age errors on the first other data set, pictures as they are and cut as in training."""
    ages = table[(table["task"] == "age") & (table["metric"] == "mae")]
    if ages.empty:
        return "No network was scored on another data set."
    ages, told = ages[ages["dataset"] == ages["dataset"].iloc[0]], []
    for cut, values in ages.groupby(ages["cropped"].astype(bool))["value"]:
        ends = dict.fromkeys(f"{end:.1f}" for end in (values.min(), values.max()))
        shown = "cut as in training" if cut else "as they are"
        told.append(f"{' to '.join(ends)} years off {shown}")
    where, guess = words.DATASET_LABELS[ages["dataset"].iloc[0]], ages["baseline"].min()
    return f"On {where}, ages are {', '.join(told)}; a constant guess is {guess:.1f}."


def _cheaper(runs, pairs, rows):
    """On the cheapest network of several seeds that is within chance of the best of each task."""
    alike = [{row["run"], *within_chance(pairs, row["run"], row["task"])} for row in rows]
    every = runs[runs["run"].isin(set.intersection(*alike)) & (runs["seeds"] > 1)]
    every = every[every["flops"] < rows[0]["flops"]]
    if every.empty:
        return ""
    least = every.loc[every["flops"].idxmin()]
    told = f"{least['flops'] / rows[0]['flops']:.0%} of its operations: {least['label']}"
    return f" Within chance of the best in every task, at {told}, of {least['seeds']} seeds."


def advice(table, pairs):
    """Which network of `comparison` to use, in some sentences; `pairs` are all its pairs."""
    rows, runs = best_rows(table), networks(table)
    if not rows:
        return "No network to choose from yet."
    top, task = rows[0], rows[0]["task"]
    beaten = [row for row in rows if row["run"] != top["run"]]
    beaten = [r for r in beaten if top["run"] not in within_chance(pairs, r["run"], r["task"])]
    where = f"but in {', '.join(TASK_LABELS[row['task']] for row in beaten)}"
    text = f"Use {top['label']}: no single network is better beyond chance"
    text += f", {where}." if beaten else " in any task."
    text += _cheaper(runs, pairs, rows)
    sized = runs.dropna(subset=["parameters", task])
    small = best_row(sized[sized["parameters"] <= 1.001 * sized["parameters"].min()], task)
    if small is None or small["run"] == top["run"]:
        return text
    change = (small["value"] - top["value"]) * (1 if HEADLINE[task] in LOWER_IS_BETTER else -1)
    told = written(abs(change), metric=HEADLINE[task], unit=True)
    few, many = (f"{row['parameters'] / 1e6:.1f}" for row in (small, top))
    text += f" If it must be small, {small['label']} has {few} instead of {many} million "
    way = "worse" if change > 0 else "better"
    return f"{text}parameters; its {TASK_LABELS[task]} is {told} {way}."
