"""The page without a server: its networks are the study's, its code finds and reads the same."""

import base64
import functools
import gzip
import http.server
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

pytest.importorskip("onnx", reason="the web extra is not installed")
pytest.importorskip("onnxruntime", reason="the web extra is not installed")
pytest.importorskip("tf2onnx", reason="the web extra is not installed")
pytest.importorskip("mtcnn", reason="the demo extra is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")

import demo_kit as kit
import onnxruntime
import test_demo_browser as demo
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from utils import faces, models
from utils.datasets.synthetic import draw_face
from utils.demo import web
from utils.evaluation.columns import sized_interval
from utils.explain import maps
from utils.explain.cams import batched_gradcam
from utils.explain.target import explain_target
from utils.files import DataError, read_json
from utils.paths import ROOT
from utils.predict import Scorer
from utils.training.predicting import prediction_columns

OWN = Path(web.__file__).with_name("static")
needs_chromium = demo.pytestmark
TASKS = ("age", "gender", "ethnicity")
# What the page's worker says about a picture, in numbers.
READ = """
const [address, whole, done] = arguments;
(async () => {
  const code = `import "${new URL("reader.js", location)}"`;
  window.worker ??= new Worker(URL.createObjectURL(new Blob([code], {type: "text/javascript"})),
    {type: "module"});
  const shown = new Image();
  await new Promise((ok) => Object.assign(shown, {onload: ok, src: address}));
  const {width, height} = shown, pen = new OffscreenCanvas(width, height).getContext("2d");
  pen.drawImage(shown, 0, 0);
  const image = {data: pen.getImageData(0, 0, width, height).data, width, height};
  worker.onmessage = ({data}) => { if (data.id || data.failed) done(JSON.stringify(data)); };
  worker.postMessage({id: 1, image, whole, details: false});
})().catch((error) => done(JSON.stringify({error: String(error)})));
"""
REFUSED = """
const done = arguments[0];
document.addEventListener("securitypolicyviolation", (event) => done(event.violatedDirective));
fetch("https://example.org/").then(() => done("sent"));
"""


@pytest.fixture(scope="module")
def scorer():
    return Scorer("mobilenetv2")


@pytest.fixture(scope="module")
def chips():
    names = (f"synthetic/129/{number:06d}.png" for number in range(8))
    return np.stack([np.asarray(draw_face(name).resize((128, 128))) for name in names])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The built page; skipped where the JavaScript runtime cannot be downloaded."""
    try:
        return web.build(tmp_path_factory.mktemp("web") / "page")
    except DataError as error:
        if "cannot be downloaded" in str(error):
            pytest.skip(f"onnxruntime-web is not at hand: {error}")
        raise


def test_the_file_says_what_the_network_says_and_where_it_looks(page, scorer, chips):
    session = onnxruntime.InferenceSession(page / "network.onnx")
    names = [output.name for output in session.get_outputs()]
    said = dict(zip(names, session.run(None, {"image": chips.astype(np.float32)}), strict=True))
    for task, wanted in scorer.network.predict_on_batch(chips.astype(np.float32)).items():
        np.testing.assert_allclose(said[task], wanted, atol=2e-4)
    assert said["activation"].shape == (8, 4, 4, 1280)
    for task in TASKS:
        drawn = maps.normalise(maps.resize_maps(said[f"heat_{task}"], 128))
        ours = batched_gradcam(explain_target(scorer.network, task, "out_relu"), chips)
        np.testing.assert_allclose(drawn, ours, atol=1e-3)


def test_all_is_there_under_ten_megabytes_and_licences_are_told(page):
    first = [path for path in page.iterdir() if path.name != "licences.txt"]
    assert sum(path.stat().st_size for path in first) < 10_000_000
    text, told = (page / "index.html").read_text(), (page / "licences.txt").read_text()
    assert "connect-src 'self'" in text and "://" not in text.partition("<body")[2]
    held = read_json(models.SHIPPED / "mobilenetv2/model.json")["age_interval"]["held"]
    shown = f"{100 * held['wiki-cropped']:.0f} % cropped as in training"
    assert shown in text and "labelled age of 80 %" in text
    for words in ("Apache License", "Microsoft Corporation", "Iván de Paz Centeno"):
        assert words in told
    assert all(part in text for part in ("mtcnn", "onnxruntime-web", "licences.txt"))
    packages = {path.name for path in page.iterdir()} - {path.name for path in OWN.iterdir()}
    ours = {"index.html", "service-worker.js", "rules.json", "network.onnx", "licences.txt"}
    assert packages - ours == {"ort.js", "ort.wasm.gz", "pnet.onnx", "rnet.onnx", "onet.onnx"}


def test_a_changed_runtime_is_refused(work_dir):
    archive = work_dir / "cache" / web.RUNTIME.rpartition("/")[2]
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"something else")
    with pytest.raises(DataError, match="SHA-256 .*, expected .*; delete it"):
        web.build(work_dir / "page")
    assert not (work_dir / "page").exists()


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def site(page):
    """A server of files that notes what it is asked for; its address and its notes."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(f"{self.command} {self.path}")

    handler = functools.partial(Handler, directory=page)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", asked, server
    server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    browser = demo.start()
    browser.set_script_timeout(120)
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium, site):
    chromium.get(site[0])
    wait = WebDriverWait(chromium, 120, 0.1)
    wait.until(lambda _: "Ready" in demo.content(chromium, "status"))
    return chromium


pictures = demo.pictures


def soft(number: int) -> Image.Image:
    """A photograph of a drawn face: turned, and as unsharp as lenses are."""
    face = draw_face(f"synthetic/129/{number:06d}.png").resize((260 + 20 * number,) * 2)
    picture = Image.new("RGB", (800, 700), (96, 120, 104))
    picture.paste(face.rotate(number - 5, Image.Resampling.BICUBIC, fillcolor=(96, 120, 104)))
    return picture.filter(ImageFilter.GaussianBlur(3))


def read(browser, picture: Image.Image, whole: bool = False) -> list[dict]:
    address = base64.b64encode(kit.encoded(picture, "PNG")).decode()
    said = browser.execute_async_script(READ, f"data:image/png;base64,{address}", whole)
    return json.loads(said)["answer"]["faces"]


def ages(scorer, crops) -> np.ndarray:
    said = scorer.outputs(crops)["age"].astype(float)
    return said @ np.arange(said.shape[1]) / said.sum(axis=1)


def mean_faces() -> list[Image.Image]:
    """Mean faces of UTKFace, of all and of groups, in a grey picture."""
    stored = np.load(ROOT / "reports/study/explanations/mean_faces-utkface.npz")
    pictures = []
    for number, name in enumerate(name for name in stored.files if name != "n"):
        face = stored[name] if stored[name].dtype == np.uint8 else stored[name] * 255
        side = 240 + 20 * number
        picture = Image.new("RGB", (640, 600), (96, 120, 104))
        face = Image.fromarray(face.astype("uint8")).resize((side, side), Image.Resampling.BICUBIC)
        picture.paste(face, (60 + number, 40))
        pictures.append(picture)
    return pictures


@needs_chromium
def test_the_page_finds_and_reads_the_same_faces_as_python(browser, scorer):
    seen, off = 0, []
    drawn = list(map(soft, range(8)))
    for picture in (*drawn, *mean_faces()):
        found, said = faces.detect(picture), read(browser, picture)
        assert len(found) == len(said)
        for face, other in zip(found, said, strict=True):
            np.testing.assert_allclose(other["box"], face.box, atol=0.02 * face.box[2])
            (age,) = ages(scorer, [scorer.crop(picture, face)])
            # Drawn faces are strange to the network: a pixel may move their age by years.
            off += [] if picture in drawn else [abs(other["age"]["mean"] - age)]
            seen += 1
    assert seen >= 12 and len(off) >= 9 and max(off) < 0.5, (seen, off)


@needs_chromium
def test_a_crop_is_read_as_python_reads_it(browser, scorer, chips):
    (face,) = read(browser, Image.fromarray(chips[0]), whole=True)
    said = scorer.outputs([Image.fromarray(chips[0])])
    np.testing.assert_allclose(face["age"]["mean"], ages(scorer, [Image.fromarray(chips[0])]), 1e-3)
    row = prediction_columns(said).iloc[0]
    own = (row["pred_age"], row["age_q10"], row["age_q90"])
    ends = sized_interval(*own, scorer.about["age_interval"])
    np.testing.assert_allclose([face["age"]["low"], face["age"]["high"]], ends, atol=0.02)
    np.testing.assert_allclose([*face["gender"].values()], said["gender"][0], atol=1e-3)
    np.testing.assert_allclose([*face["ethnicity"].values()], said["ethnicity"][0], atol=1e-3)


@needs_chromium
def test_a_photograph_is_read_and_nothing_is_sent(browser, site, pictures):
    address, asked, _ = site
    before = list(asked)
    started = time.monotonic()
    assert demo.choose(browser, pictures / "two.jpg") == ("2 faces found.", "")
    assert time.monotonic() - started < 30  # 3 s on two idle cores
    card = demo.cards(browser)[0]
    assert "80 % interval" in card.text and "read by MobileNetV2" in card.text
    (heat,) = card.find_elements(By.CSS_SELECTOR, ".heat-stack img:last-child")
    assert heat.get_attribute("src").startswith("data:image/png")
    late = [line for line in asked[len(before) :] if "licences" not in line]
    assert all(line.startswith("GET /") for line in asked)
    assert not [line for line in late if "." not in line], late
    names = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    assert all(n.startswith((address, "data:", "blob:")) for n in browser.execute_script(names))
    assert browser.execute_async_script(REFUSED) == "connect-src"


@needs_chromium
@pytest.mark.parametrize(
    "name,words", [("text", "not a picture"), ("empty", "empty"), ("none", "No face found.")]
)
def test_what_cannot_be_read_gets_one_sentence(browser, pictures, name, words):
    assert words in "".join(demo.choose(browser, pictures / f"{name}.jpg"))


@needs_chromium
def test_heic_and_too_many_pixels_get_one_sentence(browser, tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "b.png").write_bytes(kit.flat_png(20_000, 10_000))
    assert "HEIC" in demo.choose(browser, tmp_path / "a.heic")[1]
    assert "20000 x 10000 pixels" in demo.choose(browser, tmp_path / "b.png")[1]


@needs_chromium
def test_without_webassembly_there_is_one_sentence(site):
    browser = demo.start("js-flags=--jitless")  # which leaves it out
    try:
        browser.get(site[0])
        wait = WebDriverWait(browser, 60, 0.1)
        wait.until(lambda _: "no WebAssembly" in demo.content(browser, "error"))
    finally:
        browser.quit()


@needs_chromium
def test_the_first_visit_is_at_most_ten_megabytes(page, pictures, capsys):
    """Alone, on an idle machine, ``pytest -s -k first_visit`` also prints seconds to be trusted."""
    files = {f"/{file.name}": file.read_bytes() for file in page.iterdir()}
    text = (".html", ".js", ".css", ".json", ".svg", ".txt")  # what hosts surely compress
    files |= {name: gzip.compress(files[name]) for name in files if name.endswith(text)}
    sent = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            name = "/index.html" if self.path == "/" else self.path
            self.send_response(200 if name in files else 404)
            self.send_header("Content-Type", self.guess_type(name))
            if name.endswith(text):
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Cache-Control", "max-age=600")  # as GitHub Pages has it
            self.end_headers()
            self.wfile.write(files.get(name, b""))
            sent.append(len(files.get(name, b"")))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser, began = demo.start(), time.monotonic()
    try:
        browser.get(f"http://127.0.0.1:{server.server_port}/")
        loaded = WebDriverWait(browser, 120, 0.05)
        loaded.until(lambda _: "Ready" in demo.content(browser, "status"))
        ready = time.monotonic() - began
        assert demo.choose(browser, pictures / "one.jpg") == ("1 face found.", "")
        first = time.monotonic() - began
        kept = "navigator.serviceWorker.ready.then(() => arguments[0](true))"
        assert browser.execute_async_script(kept)
    finally:
        browser.quit()
        server.shutdown()
    with capsys.disabled():
        told = f"first visit: {sum(sent) / 1e6:.2f} MB by gzip in {len(sent)} files"
        print(f"\n{told}, ready in {ready:.1f} s, first result after {first:.1f} s")
    assert 5_000_000 < sum(sent) <= 10_000_000


@needs_chromium
def test_the_camera_shows_ages_while_it_runs(browser):
    browser.find_element(By.ID, "camera-open").click()
    assert not browser.find_element(By.ID, "live").is_selected()
    browser.execute_script("document.getElementById('live').click()")
    wait = WebDriverWait(browser, 60)
    ready = "return document.getElementById('camera-view').videoWidth > 0"
    wait.until(lambda _: browser.execute_script(ready))
    browser.find_element(By.ID, "camera-shoot").click()
    status, error = demo.settled(browser)
    assert "found" in status and not error


@needs_chromium
def test_it_works_without_a_network_after_the_first_visit(browser, site, pictures):
    kept = "navigator.serviceWorker.ready.then(() => arguments[0](true))"
    assert browser.execute_async_script(kept)
    site[2].shutdown()
    site[2].server_close()
    browser.get(site[0])
    WebDriverWait(browser, 120, 0.1).until(lambda _: "Ready" in demo.content(browser, "status"))
    assert demo.choose(browser, pictures / "one.jpg") == ("1 face found.", "")
