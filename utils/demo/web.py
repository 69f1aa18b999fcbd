"""Build the page that reads faces in the reader's own browser: ``python -m utils.demo.web``.

The folder asks nothing of any server: whatever hands out files can host it.
"""

import argparse
import gzip
import hashlib
import importlib.metadata
import shutil
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import jinja2
import matplotlib

from utils import faces, models
from utils.datasets.fetch import download
from utils.demo.analysis import MAX_FACES
from utils.demo.pictures import MAX_PIXELS, WORKING_SIDE
from utils.export import export_detector, export_network
from utils.files import DataError, digest_of, write_aside, write_json
from utils.paths import ROOT, cache_dir
from utils.vocabulary import CLASSES

HERE = Path(__file__).parent
RUNTIME = "https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz"
RUNTIME_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
MAX_BYTES = 50_000_000  # of a photograph: nothing is sent, so this guards the memory alone
_RULES = ("TRAINING_SIDE", "DETECT_SIDE", "MIN_FACE", "PYRAMID", "PROPOSALS", "CONFIDENCE")


def _runtime() -> tuple[bytes, bytes]:
    """Code and WebAssembly of onnxruntime-web, which is downloaded once."""
    archive = cache_dir() / RUNTIME.rpartition("/")[2]
    if not archive.is_file():
        download(RUNTIME, archive)
    if (seen := digest_of(archive)) != RUNTIME_SHA256:
        raise DataError(f"{archive} has SHA-256 {seen}, expected {RUNTIME_SHA256}; delete it")
    names = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
    with tarfile.open(archive) as tar:
        return tuple(tar.extractfile(f"package/dist/{name}").read() for name in names)


def _licences() -> str:
    texts = [ROOT / "LICENSE"]
    for package in ("mtcnn", "onnxruntime"):
        files = importlib.metadata.files(package) or []
        texts += [f for f in files if f.name.startswith(("LICENSE", "ThirdPartyNotices"))]
    return f"\n{'=' * 80}\n".join(text.read_text(encoding="utf-8") for text in texts)


def build(out: Path, name: str = "mobilenetv2") -> Path:
    """Write the page, with a network that is at hand, into a folder, which it replaces."""
    code, wasm = _runtime()
    about = models.describe(models.folder_of(name)) | {"name": name}
    rules = {rule: getattr(faces, rule) for rule in _RULES} | {"MAX_FACES": MAX_FACES}
    rules |= faces.frame_of(about["dataset"])._asdict() | {"side": about["input_size"]}
    rules["age_interval"] = about.get("age_interval")
    rules["classes"] = {task: CLASSES[task] for task in models.NEEDED[1:]}
    rules["colours"] = matplotlib.colormaps["inferno"](range(256), bytes=True)[:, :3].tolist()
    with write_aside(out) as aside:
        shutil.copytree(HERE / "static", aside, ignore=shutil.ignore_patterns("demo.js"))
        export_network(name, aside / "network.onnx")
        export_detector(aside)
        (aside / "ort.js").write_bytes(code)
        (aside / "ort.wasm.gz").write_bytes(gzip.compress(wasm, mtime=0))
        write_json(aside / "rules.json", rules)
        _write_pages(aside, about)
        (aside / "licences.txt").write_text(_licences(), encoding="utf-8")
    return out


def _write_pages(folder: Path, about: dict) -> None:
    """The page, and the worker that keeps its files under a name that changes with them."""
    error = models.age_error(models.folder_of(about["name"]))
    network = SimpleNamespace(name=about["name"], label=about["label"], about=about, error=error)
    analyst = SimpleNamespace(models={about["name"]: network}, synthetic=False, missing=[])
    limits = {"max_bytes": MAX_BYTES, "max_pixels": MAX_PIXELS, "working_side": WORKING_SIDE}
    templates = jinja2.FileSystemLoader(HERE / "templates")
    pages = jinja2.Environment(loader=templates, autoescape=True)
    own = {"web": True, "analyst": analyst, "url_for": lambda _, filename: filename} | limits
    (folder / "index.html").write_text(pages.get_template("index.html").render(own), "utf-8")
    files = sorted(path.name for path in folder.iterdir())
    digest = hashlib.sha256(b"".join((folder / file).read_bytes() for file in files)).hexdigest()
    kept = {"version": f"faces-{digest[:16]}", "files": ["./", *files]}
    worker = pages.get_template("service-worker.js").render(kept)
    (folder / "service-worker.js").write_text(worker, encoding="utf-8")


def main(argv=None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="./run_all.sh web", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "web")
    out = parser.parse_args(argv).out
    try:
        build(out)
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{out}; to look at it: python -m http.server --directory {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
