"""The benchmark: tiny sizes, but the real rows and the real files."""

import os

import pytest

from utils import bench
from utils.files import read_json
from utils.paths import ROOT

QUICK_ROWS = "gradcam,latency"


def test_every_row_is_measured_and_its_results_agree(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "QUICK", tmp_path)
    work = os.environ["FACES_WORK_DIR"]
    assert bench.main(["--quick", "--rows", QUICK_ROWS]) == 0
    assert os.environ["FACES_WORK_DIR"] == work
    rows = read_json(tmp_path / "benchmarks.json")["rows"]
    assert [row["row"] for row in rows] == QUICK_ROWS.split(",")
    for row in rows:
        assert row["agree"], f"{row['row']}: {row['compared']} differ by {row['apart']}"
        assert row["ours"] > 0 and row["baseline"] > 0 and row["machine"]["memory_gb"] > 0
    page = (tmp_path / "README.md").read_text()
    assert "quick: means nothing" in page and "No longer measured" in page
    assert "Not measured yet on this version: report from" in page
    assert str(ROOT) not in page


def _told(row, value, met=True):
    given = {"row": row, "ours": value, "baseline": None, "compared": "", "note": "n"}
    given |= {"goal": 120, "quick": False, "dataset": "d", "machine": {}}
    return given | {"value": value, "met": met}


def test_a_row_is_replaced_and_the_others_stay(tmp_path):
    for told in (_told("report", 7.0), _told("latency", 9.0), _told("report", 8.0, met=False)):
        bench.store(told, tmp_path)
    rows = read_json(tmp_path / "benchmarks.json")["rows"]
    assert [(row["row"], row["value"]) for row in rows] == [("report", 8.0), ("latency", 9.0)]
    assert "| 8 s | at most 120 | **no** |" in (tmp_path / "README.md").read_text()


def test_what_is_judged():
    for unit, value in {"times": 4.0, "s": 1.0, "ms": 1.0}.items():
        row = bench.Row("", None, "", "", 1, unit)
        assert row.value(bench.Measured(1.0, 4.0)) == value


def test_unknown_rows_get_one_clear_error(capsys):
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--rows", "gradcam,speed"])
    assert "--rows: speed is unknown; expected some of gradcam, report" in capsys.readouterr().err
    assert bench.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(bench.ROWS)
