"""The benchmark: small sizes, but the real rows and the real files."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import jsonschema
import pandas as pd
import pytest

from utils.bench import __main__ as command
from utils.bench import gpu, material, memory, page, results
from utils.bench.costs import UnitCosts, totals
from utils.bench.material import Bench
from utils.bench.million import sizes
from utils.bench.results import Measured, Skip
from utils.bench.rows import ROWS, choose
from utils.bench.timing import interleaved
from utils.files import read_json
from utils.paths import ROOT

QUICK_ROWS = "protocol,pipeline,features,gradcam,bootstrap,gpu_images"
SCHEMA = {
    "type": "object",
    "required": ["machine", "rows"],
    "properties": {
        "machine": {
            "type": "object",
            "required": ["cpu", "usable_cores", "memory_gb", "instructions", "gpus", "versions"],
        },
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["row", "value", "goal", "lower_is_better", "agree", "baseline"]
                + ["ours", "repeats", "unit", "quick", "material", "skipped", "version"],
                "properties": {
                    "row": {"enum": list(ROWS)},
                    "value": {"type": ["number", "null"]},
                    "goal": {"type": ["number", "null"]},
                    "lower_is_better": {"type": "boolean"},
                    "agree": {"type": ["boolean", "null"]},
                    "repeats": {"type": "integer"},
                    "skipped": {"type": ["string", "null"]},
                },
            },
        },
    },
}


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Folder of a quick benchmark with one backbone."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(material, "QUICK_BACKBONES", ("alexnet",))
        patch.setattr(gpu, "gpus", list)
        options = ["--quick", "--repeats", "1", "--out", str(folder), "--rows", QUICK_ROWS]
        work = os.environ["FACES_WORK_DIR"]
        assert command.main(options) == 0
        assert os.environ["FACES_WORK_DIR"] == work
    return folder


def test_the_file_has_its_schema_and_every_row_agrees(quick):
    content = read_json(quick / "benchmarks.json")
    jsonschema.validate(content, SCHEMA)
    rows = {row["row"]: row for row in content["rows"]}
    assert list(rows) == [name for name in ROWS if name in QUICK_ROWS.split(",")]
    skipped = rows.pop("gpu_images")
    assert "nvidia-smi lists none" in skipped["skipped"] and skipped["value"] is None
    for row in rows.values():
        assert row["agree"] is True, f"{row['row']}: {row['agreement']}"
        assert row["quick"] and row["value"] > 0 and row["repeats"] == 1
        assert row["value"] == pytest.approx(
            row["ours"] / row["baseline"]
            if row["sides_in"] == "images/s"
            else row["baseline"] / row["ours"],
            rel=1e-3,
        )


def test_table_page_and_figures_are_made_and_name_the_stand_ins(quick):
    table = pd.read_csv(quick / "benchmarks.csv")
    assert len(table) == len(QUICK_ROWS.split(","))
    text = (quick / "README.md").read_text()
    for word in ("quick: means nothing", "A million faces", "nvidia-smi lists none", "gains.svg"):
        assert word in text
    assert str(ROOT) not in text and str(ROOT) not in (quick / "benchmarks.json").read_text()
    assert (
        "(synthetic faces)" in (quick / "gains.svg").read_text().replace("\n", " ")
        or (quick / "gains.svg").stat().st_size > 5000
    )
    assert (quick / "growth.svg").is_file()


def _row(monkeypatch, value=2.0, error=None):
    """Stand-in for the row bootstrap; counts its calls."""
    calls = []

    def run(bench):
        calls.append(bench)
        if error:
            raise error
        return Measured(value, 2.0, 1.0, True, "equal", bench.repeats)

    attributes = {**vars(ROWS["bootstrap"]), "version": "v1", "run": run}
    return SimpleNamespace(**attributes), calls


def test_finished_rows_are_kept_and_replaced_on_demand(tmp_path, monkeypatch):
    row, calls = _row(monkeypatch)
    command.run([row], Bench(), tmp_path)
    command.run([row], Bench(), tmp_path)
    assert len(calls) == 1
    row.run = lambda bench: Measured(7.0, 7.0, 1.0, True, "equal", 5)
    content = command.run([row], Bench(), tmp_path, force=True)
    assert [r["value"] for r in content["rows"]] == [7.0]
    row.version = "v2"
    row.run = lambda bench: Measured(8.0, 8.0, 1.0, True, "equal", 5)
    content = command.run([row], Bench(), tmp_path)
    assert [r["value"] for r in content["rows"]] == [8.0]


def test_a_quick_row_does_not_pass_for_a_measured_one(tmp_path, monkeypatch):
    row, calls = _row(monkeypatch)
    command.run([row], Bench(quick=True), tmp_path)
    command.run([row], Bench(), tmp_path)
    assert len(calls) == 2 and not results.load(tmp_path)["rows"][0]["quick"]


def test_a_skipped_row_never_replaces_a_measured_one(tmp_path, monkeypatch):
    row, _ = _row(monkeypatch)
    command.run([row], Bench(), tmp_path)
    row, _ = _row(monkeypatch, error=Skip("no card here"))
    content = command.run([row], Bench(), tmp_path, force=True)
    assert content["rows"][0]["value"] == 2.0
    other = tmp_path / "other"
    content = command.run([row], Bench(), other)
    assert content["rows"][0]["skipped"] == "no card here"
    assert command.run([row], Bench(), other)["rows"][0]["skipped"]


def test_rows_merge_in_the_order_of_the_table(tmp_path):
    content = {"machine": {}, "rows": []}
    for name in ("gradcam", "bootstrap", "protocol"):
        made = {"row": name, "skipped": None, "quick": False}
        content = results.merge(content, made, list(ROWS))
    assert [row["row"] for row in content["rows"]] == ["protocol", "gradcam", "bootstrap"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "gradcam,speed"], r"rows \['speed'\] are unknown; expected some of \['proto"),
        (["--rows", "protocol_full"], "needs --full-backbone"),
        (["--full-backbone", "lenet"], "'lenet' is unknown; expected one of"),
        (["--repeats", "0"], "expected at least 1"),
    ],
)
def test_wrong_options_get_one_clear_error(options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(options)
    assert stopped.value.code == 2
    import re

    assert re.search(message, capsys.readouterr().err)


def test_the_full_protocol_is_only_run_when_asked_for():
    assert "protocol_full" not in [row.name for row in choose("")]
    assert choose("", "alexnet")[-1].name == "protocol_full"
    assert sum(row.minutes for row in choose("") if "gpu" not in row.name) <= 21


def test_version_changes_with_the_code_that_is_timed(tmp_path, monkeypatch):
    for name in ("gradcam", "timing", "material"):
        path = tmp_path / "utils" / "bench" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    timed = tmp_path / "utils" / "explain.py"
    timed.write_text("a = 1")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    before = results.version_of("gradcam", ["explain"])
    assert results.version_of("gradcam", ["explain"]) == before
    timed.write_text("a = 2")
    assert results.version_of("gradcam", ["explain"]) != before


def test_sides_take_turns():
    order = []
    sides = {side: lambda side=side: order.append(side) for side in "ab"}
    timing = interleaved(sides, repeats=2, warmup=1, progress=False)
    assert order == ["a", "b"] * 3
    assert {side: len(s) for side, s in timing.seconds.items()} == {"a": 2, "b": 2}
    timing.seconds = {"a": [9.0, 2.0, 4.0], "b": [1.0, 1.0, 50.0]}
    assert timing.ratio("a", "b") == 4.0


def test_cost_model_and_growth():
    costs = {"a": UnitCosts(fit=2.0, forward=1.0, extract=1.0, upper=0.1)}
    before, after = totals(costs, n_train=8, n_val=2, epochs=10, runs=3)
    assert (before, after) == (pytest.approx(30 * (16 + 2)), pytest.approx(10 + 30 * 10 * 0.1))
    panels = page.growth_panels(costs | {"b": costs["a"]})
    assert [panel["x"] for panel in panels] == [[1000, 5000, 23_000], [1, 2], [1, 2, 5, 10]]
    backbones = panels[1]
    assert backbones["after"][1] == pytest.approx(2 * backbones["after"][0])
    assert page.growth_panels({}) == []
    assert sizes(2_000_000)["hash_block"] == pytest.approx(2 * sizes()["hash_block"])


def test_a_child_that_fails_is_reported(tmp_path):
    with pytest.raises(RuntimeError, match="protocol 'nonsense' is unknown"):
        memory._child({"protocol": "nonsense"}, tmp_path)


def test_gpu_steps_run_on_any_device():
    asked = {"backbones": ["alexnet"], "size": 64, "batches": [2], "repeats": 1, "steps": 2}
    done = subprocess.run(
        [sys.executable, "-m", "utils.bench.gpu_steps", json.dumps(asked)],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (step,) = json.loads(done.stdout.strip().splitlines()[-1])["steps"]
    assert step["losses_agree"] and step["images_per_second"] > 0 and step["flops"] > 1e6
