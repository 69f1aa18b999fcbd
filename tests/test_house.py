"""Who may import whom, how long things are, and whether the texts tell the truth."""

import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from utils.paths import ROOT

# From the bottom up; a room may import what stands in an earlier line, and itself.
# `plots.theme` needs the vocabulary alone, and no module imports a `__main__`.
FLOORS = (
    *("vocabulary files paths", "plan plots.theme", "study", "datasets backbones", "models"),
    *("training", "faces export", "predict", "evaluation", "explain", "plots", "notebook colab"),
    "report demo bench __main__",
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
FORBIDDEN = {  # finer than the floors
    "evaluation": r"utils\.(?!evaluation|vocabulary|study|plan|files|paths|datasets\.table)",
    "explain": r"utils\.(training|predict|faces)",
}
MOST_LINES, MOST_IN_FUNCTION, MOST_BYTES = 12_120, 40, 10_000_000
HEAVY = {"keras", "tensorflow", "tf_keras_vis", "jax"}  # the one reason to import inside a function
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def sources() -> dict[str, tuple[list[str], ast.Module]]:
    """Lines and trees of the modules of `utils` by their dotted names."""
    texts = {p.relative_to(ROOT): p.read_text() for p in sorted((ROOT / "utils").rglob("*.py"))}
    names = {path: ".".join(path.with_suffix("").parts) for path in texts}
    named = {names[path].removesuffix(".__init__"): text for path, text in texts.items()}
    return {name: (text.splitlines(), ast.parse(text)) for name, text in named.items()}


def imported(tree: ast.AST) -> set[str]:
    """Modules that a piece of code imports: `from utils import plan` gives ``utils.plan``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & sources().keys()) or {node.module}
    return found


def started(name: str, seen: set[str]) -> set[str]:
    """Adds all modules that importing `name` starts to `seen`, others' by their first name."""
    if name in sources() and name not in seen:
        nodes = [n for n in sources()[name][1].body if isinstance(n, ast.Import | ast.ImportFrom)]
        seen.add(name)
        for other in set().union(*map(imported, nodes)) | {name.rpartition(".")[0]}:
            started(other, seen)
    seen.add(name if name in sources() else name.split(".")[0])
    return seen


def test_the_house_is_small_and_its_functions_short():
    assert sum(len(lines) for lines, _ in sources().values()) <= MOST_LINES
    lengths = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name, (_, tree) in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, FUNCTION)
    }
    assert not {name: n for name, n in lengths.items() if n > MOST_IN_FUNCTION}


def floor(name: str) -> int:
    """Number of the floor of a module; a `__main__` stands above all."""
    own = "__main__" if name.endswith("__main__") else name.removeprefix("utils.")
    return FLOOR.get(own, FLOOR[name.split(".")[1]])


def test_arrows_point_down():
    wrong = []
    for name in sources().keys() - {"utils"}:
        room = name.split(".")[1]
        never = "$" if name.endswith("__main__") else FORBIDDEN.get(room, "$")
        for other in imported(sources()[name][1]) & sources().keys() - {"utils"}:
            up = other.split(".")[1] != room and floor(other) >= floor(name)
            if up or re.match(never, other) and other != "utils.plots.theme":
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(sorted(wrong))


def test_no_module_imports_itself_through_others():
    graph = {name: imported(tree) - {name} for name, (_, tree) in sources().items()}
    while graph:  # take away what imports nothing that is left; a cycle stays
        free = {name for name, needs in graph.items() if not needs & graph.keys()}
        assert free, f"a cycle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in free}


def test_imports_inside_functions_keep_keras_out_and_say_so():
    wrong = []
    for name, (lines, tree) in sources().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Import | ast.ImportFrom) or node in tree.body:
                continue
            ours = imported(node) & sources().keys()
            told = "#" in "".join(lines[node.lineno - 3 : node.end_lineno])
            heavy = set().union(*(started(one, set()) for one in ours)) & HEAVY
            if ours and not (told and heavy):
                wrong.append(f"{name}:{node.lineno} imports {sorted(ours)}")
    assert not wrong, "\n".join(wrong)


def test_all_modules_can_be_imported_on_windows_too():
    unix = {"fcntl", "grp", "pty", "pwd", "resource", "termios"}
    for name, (_, tree) in sources().items():
        at_import = ast.Module([n for n in tree.body if not isinstance(n, FUNCTION)], [])
        assert not imported(at_import) & unix, name


def test_nothing_takes_the_name_of_a_run_apart():
    wrong = re.compile(r"""-seed\(|-seed\\d|split\(["']-["']\)|with\(["']-?(naive|random|peer)""")
    for name, (lines, _) in sources().items():
        found = [line.strip() for line in lines if wrong.search(line)]
        assert not found, f"{name}: {found}"


# ---------------------------------------------------------------- notebooks and files


def cells(path: Path, tag: str = "") -> str:
    """Code of a notebook, or of its cells with a tag."""
    found = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    kept = [c for c in found if not tag or tag in c["metadata"].get("tags", [])]
    return "\n".join("".join(c["source"]) for c in kept)


@pytest.mark.parametrize("number", ["02", "03", "04"])
def test_training_notebooks_show_their_training(number):
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    assert re.search(r"\.compile\(", cells(path)) and re.search(r"\.fit\(", cells(path))


def test_no_file_in_git_is_large_or_names_a_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this copy has no git, which knows what belongs to the project")
    binary = {".parquet", ".npz", ".h5", ".jpg", ".png", ".html", ".svg", ".js"}
    for path in map(ROOT.joinpath, listed.stdout.splitlines()):
        if path.is_file() and path != Path(__file__):
            assert path.stat().st_size < MOST_BYTES, path
            text = "" if path.suffix in binary else path.read_text()
            found = re.search(r"(?<![\w.<])/(root|home(?!/me)|work|Users)/\w.*", text)
            assert not found, f"{path}: {found[0]}"


# ---------------------------------------------------------------- texts tell the truth

TEXTS = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE = ("data/raw", "data/runs", "data/cache", "reports/smoke")  # by a run, not in git


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_paths_and_commands_exist(path):
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert "://" in target or (path.parent / target).exists(), target
    places = (ROOT, ROOT / "utils", path.parent)
    for name in re.findall(r"`([\w.-]+/[\w./-]+)`", text):
        ours = any((place / name.split("/")[0]).exists() for place in places)
        assert name.startswith(MADE) or not ours or any((p / name).exists() for p in places), name
    assert {f"utils{name}" for name in re.findall(r"-m utils([\w.]*\w)", text)} <= sources().keys()
    for name, options in re.findall(r"papermill\s+notebooks/(\S+\.ipynb)([^`]*)`", text):
        given = cells(ROOT / "notebooks" / name, "parameters")
        for option in re.findall(r"-[py] (\w+)", options.replace("\n", " ")):
            assert re.search(rf"^{option}\b", given, re.M), f"{name}: {option}"
    shown = (ROOT / "run_all.sh").read_text()
    for verb in re.findall(r"\./run_all\.sh (\w+)", text):
        assert re.search(rf"\b{verb}\b", shown), verb


@pytest.mark.parametrize("name", ["add_a_backbone", "add_a_data_set"])
def test_recipes_run_as_they_stand(name, tmp_path):
    text = (ROOT / "docs" / f"{name}.md").read_text()
    script = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    (profile,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    script += f"""
import yaml
from utils import plan
steps = plan.steps(plan.Profile(**yaml.safe_load({profile!r})))
assert [step.config.model for step in steps if step.config][0] == "mobilenetv2"
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FACES_WORK_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
