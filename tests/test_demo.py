"""The demo's server: what it answers, what it refuses, that it stays up, and how it ends."""

import contextlib
import functools
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from PIL import Image

pytest.importorskip("mtcnn", reason="the demo extra is not installed")
pytest.importorskip("waitress", reason="the demo extra is not installed")

import demo_kit as kit
from jsonschema import Draft202012Validator

from utils.demo import __main__ as start
from utils.demo import analysis
from utils.demo.app import OPENAPI, create_app
from utils.demo.pictures import MAX_BYTES, Refused, decode
from utils.demo.worker import Worker
from utils.paths import ROOT

API = yaml.safe_load(OPENAPI.read_text())


@pytest.fixture(scope="module")
def analyst(tmp_path_factory):
    return kit.analyst(tmp_path_factory, "vgg19", "resnet50", "unheard_of")


@pytest.fixture(scope="module")
def client(analyst):
    return create_app(analyst, Worker(time_limit=60)).test_client()


@pytest.fixture(scope="module")
def server(analyst):
    server, address = kit.serve(analyst, Worker(time_limit=60))
    yield address
    server.close()


@functools.cache
def photo():
    return kit.encoded(kit.photo())


def send(client, content, query="", name="face.jpg", **options):
    form = {"image": (io.BytesIO(content), name)}
    return client.post(f"/api/predict{query}", data=form, **options)


def fits_api(response, path="/api/predict", method="post"):
    """Check status, type, headers and body against the OpenAPI file."""
    described, parts = API["paths"][path][method]["responses"], API["components"]
    described = described[str(response.status_code)]
    if "$ref" in described:
        described = parts["responses"][described["$ref"].split("/")[-1]]
    schema = described["content"][response.mimetype]["schema"]
    Draft202012Validator(schema | {"components": parts}).validate(response.get_json())
    for name in described.get("headers", {}):
        assert response.headers[name].isdigit()
    return response.get_json()


# What it answers


def test_faces_the_larger_first(client):
    content = kit.encoded(kit.photo(2))
    answer = fits_api(send(client, content))
    assert (answer["model"], answer["width"], answer["height"]) == ("vgg19", 700, 500)
    areas = [face["box"][2] * face["box"][3] for face in answer["faces"]]
    assert len(areas) == answer["faces_found"] == 2 and areas[0] >= areas[1]
    for face in answer["faces"]:
        assert face["age"]["low"] <= face["age"]["high"]
        for name in ("gender", "ethnicity"):
            assert sum(face[name].values()) == pytest.approx(1, abs=1e-3)
        assert set(face) == {"box", "confidence", "age", "gender", "ethnicity"}


def test_details_no_face_and_the_whole_picture(client):
    (face,) = fits_api(send(client, photo(), "?details=true&model=resnet50"))["faces"]
    assert len(face["age"]["distribution"]) == 117
    assert sum(face["age"]["distribution"]) == pytest.approx(1, abs=0.01)
    assert face["crop"] and face["heat_maps"]
    assert set(face["heat_maps"]) <= {"age", "gender", "ethnicity"}
    content = kit.encoded(Image.new("RGB", (300, 200), "grey"))
    assert fits_api(send(client, content))["faces"] == []
    (face,) = fits_api(send(client, content, "?whole=true"))["faces"]
    assert face["box"] == [0, 0, 300, 200]


def test_the_age_interval_is_scaled_where_it_was_sized(client, analyst, monkeypatch):
    def age():
        return fits_api(send(client, photo(), "?whole=true"))["faces"][0]["age"]

    own, other = age(), "covers the middle 80 %"
    assert other in client.get("/").get_data(as_text=True)
    sizes = {"edges": [own["mean"] - 1], "factors": [9.0, 1.5], "level": 0.8}
    sizes |= {"held": {"wiki": 0.774, "wiki-cropped": 0.68}}
    monkeypatch.setitem(analyst.models["vgg19"].about, "age_interval", sizes)
    half = 1.5 * max(own["high"] - own["low"], 1) / 2
    assert age()["high"] == pytest.approx(own["mean"] + half, abs=0.2)
    assert age()["low"] == pytest.approx(max(0, own["mean"] - half), abs=0.2)
    text = " ".join(client.get("/").get_data(as_text=True).split())
    assert "interval of VGG-19 is sized" in text and "labelled age of 80 % of faces like" in text
    assert "(WIKI) it held 68 % cropped as in training, and 77 % uncropped." in text
    assert "any other network covers the middle 80 %" in text


def test_the_page_its_headers_what_is_documented_and_health(client, analyst, monkeypatch):
    page = client.get("/")
    text = page.get_data(as_text=True)
    assert "17,000" in text and not any(
        w in text for w in ("Synthetic faces", "style=", "<script>")
    )
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors" in policy
    for response in (page, client.get("/healthz"), client.get("/nothing"), send(client, b"x")):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Referrer-Policy"] == "no-referrer"
    for path in [*OPENAPI.parent.glob("static/*"), *OPENAPI.parent.glob("templates/*")]:
        text = path.read_text().replace("http://www.w3.org/", "")
        assert "http:" not in text and "https:" not in text and "//cdn" not in text, path
    routes = {rule.rule for rule in client.application.url_map.iter_rules()}
    assert set(API["paths"]) == routes - {"/", "/openapi.yaml", "/static/<path:filename>"}
    assert yaml.safe_load(client.get("/openapi.yaml").get_data(as_text=True)) == API
    assert fits_api(client.get("/healthz"), "/healthz", "get")["status"] == "ok"
    monkeypatch.setattr(analyst, "ready", False)
    response = client.get("/healthz")
    assert response.status_code == 503
    assert fits_api(response, "/healthz", "get")["status"] == "starting"


@pytest.mark.parametrize("orientation", [b"6", b"odd"])
def test_a_turned_photograph_is_read_upright(client, orientation):
    """Also where the orientation is of an odd type; one that says nothing means upright."""
    upright = kit.photo()
    stored = upright.transpose(Image.Transpose.ROTATE_90) if orientation == b"6" else upright
    answer = fits_api(send(client, kit.encoded(stored, "PNG", exif=kit.exif(orientation))))
    plain = fits_api(send(client, kit.encoded(upright, "PNG")))
    assert (answer["width"], answer["height"]) == (700, 500)
    assert answer["faces"] == plain["faces"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "JPEG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_formats_and_modes_without_metadata(client, kind, mode):
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    content = kit.encoded(kit.photo().convert(mode), kind, exif=exif.tobytes(), comment=b"secret")
    seen, _ = decode(content)
    assert seen.mode == "RGB" and not seen.info and not seen.getexif()
    assert fits_api(send(client, content, "?whole=true", "../../x.txt"))["faces_found"] == 1


@pytest.mark.parametrize("size", [(4200, 3000), (17, 3000)])
def test_boxes_are_in_pixels_of_the_original(client, size):
    turned = Image.Exif()
    turned[0x0112] = 6
    content = kit.encoded(kit.photo().resize(size[::-1]), exif=turned.tobytes())
    answer = fits_api(send(client, content, "?whole=true"))
    assert (answer["width"], answer["height"]) == size
    assert answer["faces"][0]["box"] == [0, 0, *size]


# What it refuses

NOISE = kit.encoded(Image.effect_noise((300, 300), 60))

BAD = {
    "empty file": (b"", 400),
    "text as .png": (b"I am not a picture", 415),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', 415),
    "tiff": (kit.encoded(Image.new("RGB", (8, 8)), "TIFF"), 415),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", 415),
    "truncated jpeg": (NOISE[:9000], 422),
    "truncated png": (kit.noise(300)[:9000], 422),
    "header only": (b"\xff\xd8\xff\xe0\x00\x10JFIF", (415, 422)),
    "too many scans": (NOISE + b"\xff\xda" * 200, 422),
    "bomb": (kit.flat_png(20_000, 20_000), 413),
    "below Pillow's own limit": (kit.flat_png(8_000, 8_000), 413),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pictures(client, case):
    content, status = BAD[case]
    started = time.perf_counter()
    response = send(client, content, name="picture.png")
    assert response.status_code in np.atleast_1d(status) and time.perf_counter() - started < 5
    error = fits_api(response)["error"]
    assert "Traceback" not in json.dumps(error) and "/" not in error["message"]


def test_wrong_requests(client):
    two = {"image": [(io.BytesIO(photo()), "a"), (io.BytesIO(photo()), "b")]}
    cases = [
        (client.post("/api/predict"), 400),
        (client.post("/api/predict", data={"image": "text"}), 400),
        (client.post("/api/predict", data=two), 400),
        (send(client, photo(), "?model=../../secret"), 404),
        (send(client, photo(), "?details=maybe"), 400),
        (send(client, photo(), headers={"Sec-Fetch-Site": "cross-site"}), 403),
        (send(client, photo(), headers={"Origin": "http://localhost:3000"}), 403),
        (send(client, photo(), headers={"Origin": "null"}), 403),
        (send(client, b"x" * (MAX_BYTES + 1)), 413),
        (send(client, b"x" * (MAX_BYTES + 50_000)), 413),
    ]
    for response, status in cases:
        assert response.status_code == status
        fits_api(response)
    own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
    assert send(client, b"", headers=own).status_code == 400  # it is read
    kind = {"content_type": "multipart/form-data"}
    text = client.post("/api/predict", data={"image": "x" * 600_000}, **kind)
    error = fits_api(text)["error"]
    assert text.status_code == 413 and "file of at most" in error["message"]
    assert client.get("/api/predict").status_code == 405
    assert client.get("/static/../app.py").status_code == 404


def test_no_stack_trace_reaches_the_client(analyst, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("secret /home/me/model")

    monkeypatch.setattr(analysis.Analyst, "analyse", fail)
    response = send(create_app(analyst, Worker()).test_client(), photo())
    assert response.status_code == 500
    assert "secret" not in response.get_data(as_text=True) and "secret" in caplog.text
    fits_api(response)


# How it bears load, and how it ends


def post(address, content, query=""):
    head = b'--frontier\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    body = head + content + b"\r\n--frontier--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=frontier"}
    request = urllib.request.Request(f"{address}/api/predict{query}", body, kind)
    try:
        with urllib.request.urlopen(request, timeout=90) as response:
            return response.status, json.load(response), response.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}"), error.headers


def test_nothing_is_written_to_disk(server, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a temporary file was asked for")

    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    monkeypatch.setattr("waitress.buffers.TempfileBasedBuffer.newfile", refuse)
    status, answer, _ = post(server, kit.noise())  # 6.7 MB: far above every spool limit
    assert status == 200 and answer["width"] == 1500


def test_a_body_of_200_mb_is_cut_off(server):
    host, port = server.removeprefix("http://").split(":")
    head = b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as line:
        reply = b"413"
        with contextlib.suppress(OSError):  # the server hangs up, or answers and then does
            for part in (head, *[bytes(1_000_000)] * 200):
                line.sendall(part)
            reply = line.recv(4096)
    assert b"413" in reply[:40]
    assert urllib.request.urlopen(f"{server}/healthz", timeout=20).status == 200


def say(address, text):
    """What the server answers to some bytes."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(text)
        return line.makefile("rb").read().decode()


def test_only_its_own_names_are_answered_and_every_refusal_is_guarded(server):
    """A foreign name that points at this computer; what Waitress itself refuses (400, 431)."""
    ask = "GET /nothing HTTP/1.1\r\n{}Connection: close\r\n\r\n"
    cases = {
        "Host: evil.example:8000\r\n": 400,
        "Host: localhost:1\r\n": 404,
        "": 404,
        "bad header\r\n": 400,
        f"X: {'x' * 20_000}\r\n": 431,
    }
    for header, status in cases.items():
        answer = say(server, ask.format(header).encode())
        assert answer.split()[1] == str(status), header[:40]
        assert "waitress" not in answer and answer.count("X-Content-Type-Options: nosniff") == 1
        assert json.loads(answer.partition("\r\n\r\n")[2])["error"]["code"]


def test_who_drips_is_cut_off_and_others_are_answered(analyst):
    """A byte now and then keeps no connection: the whole request has a deadline."""
    server, address = kit.serve(analyst)
    server.adj.channel_timeout = server.adj.cleanup_interval = 2
    place = ("127.0.0.1", server.effective_port)
    begun, lines = time.monotonic(), [socket.create_connection(place, 20) for _ in range(70)]
    for line in lines:
        line.sendall(b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n")
    assert urllib.request.urlopen(f"{address}/healthz", timeout=20).status == 200
    while lines and time.monotonic() < begun + 60:
        time.sleep(0.5)
        for line in list(lines):
            try:
                line.sendall(b"x")
            except OSError:
                lines.remove(line)
    assert not lines
    server.close()


def test_fifty_at_once(server):
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: post(server, photo()), range(50)))
    states = [status for status, _, _ in answers]
    assert set(states) <= {200, 429} and states.count(200) >= 5
    busy = [headers for status, _, headers in answers if status == 429]
    assert busy and all(int(headers["Retry-After"]) >= 1 for headers in busy)


def test_a_full_queue_a_time_limit_and_an_error():
    worker, gate, ran = Worker(length=1, time_limit=5), threading.Event(), []
    holders = [threading.Thread(target=worker.run, args=(gate.wait,)) for _ in range(2)]
    for holder in holders:
        holder.start()
        time.sleep(0.1)
    with pytest.raises(Refused) as refused:
        worker.run(print)
    assert refused.value.status == 429 and int(refused.value.headers["Retry-After"]) >= 1
    gate.set()
    for holder in holders:
        holder.join()
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 / 0)
    worker.time_limit = 0.2
    gate.clear()
    holder = threading.Thread(target=worker.run, args=(gate.wait,))
    holder.start()
    time.sleep(0.1)
    with pytest.raises(Refused) as refused:
        worker.run(lambda: ran.append(1))
    assert refused.value.status == 503 and not worker.waiting and not worker.alive
    gate.set()
    holder.join()
    worker.run(lambda: ran.append(2))
    assert ran == [2] and worker.alive  # what nobody waits for is not done


SLOW = """
import time
from utils.demo import analysis, server
class Slow(analysis.Analyst):
    def __init__(self): self.models, self.ready = {"m": None}, True
    def analyse(self, *a, **o): print("begun", flush=True); time.sleep(2); return {}
made = server.make_server(Slow(), server.listen("localhost", 0))
print(made.effective_port, flush=True)
server.serve(made)
"""


@pytest.mark.parametrize(
    "before", [[], ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]]
)
def test_told_to_stop_it_finishes_what_has_begun(before):
    """Also as the first process of a container, which the system protects from signals."""
    if before and (not shutil.which(before[0]) or subprocess.run([*before, "true"]).returncode):
        pytest.skip("needs Linux and the right to make a namespace of processes")
    command = [*before, sys.executable, "-c", SLOW]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    watch = threading.Timer(240, process.kill)
    watch.start()  # else a fault would hold the test for ever
    address = f"http://localhost:{process.stdout.readline().strip()}"
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(post, address, kit.noise(100))
        assert process.stdout.readline() == "begun\n"
        first = psutil.Process(process.pid)
        (first.children()[0] if before else first).send_signal(signal.SIGTERM)
        assert process.wait(40) == 0 and asking.result(5)[0] == 200
    watch.cancel()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=5)


# Which models, and how it starts


def test_one_model_a_backbone_and_the_best(work_dir):
    kit.write_run("utkface-vgg19-head", "vgg19", protocol="linear_probe")
    kit.write_run("utkface-vgg19-finetune", "vgg19", mae=4.84)
    kit.write_run("utkface-vgg19-random", "vgg19", split="random")
    kit.write_run("utkface-vgg19-n200", "vgg19", limit=200, mae=1)
    kit.write_run("utkface-alexnet-a", "alexnet", mae=6)
    kit.write_run("utkface-alexnet-b", "alexnet", mae=5)
    kit.write_run("synthetic-resnet50", "resnet50", dataset="synthetic")
    shipped = analysis.models.SHIPPED / "mobilenetv2"
    found = analysis.models.available()
    chosen = [(name, folder.name) for name, folder in analysis.choose(found).items()]
    best = [("alexnet", "utkface-alexnet-b"), ("vgg19", "utkface-vgg19-finetune")]
    assert chosen == [("mobilenetv2", "mobilenetv2"), *best]
    for mae, better in ((9.0, False), (1.0, True)):
        kit.write_run(f"utkface-mobilenetv2-{mae}", "mobilenetv2", mae=mae)
        first = analysis.choose(analysis.models.available())["mobilenetv2"]
        assert (first != shipped) is better
    drawn = analysis.Analyst({"x": found["synthetic-resnet50"]})
    page = create_app(drawn, Worker()).test_client().get("/").get_data(as_text=True)
    assert "Synthetic faces only" in page and "Not trained here yet" not in page
    made = analysis.Analyst({"x": found["utkface-vgg19-finetune"]})
    page = create_app(made, Worker()).test_client().get("/").get_data(as_text=True)
    assert "not compared: AlexNet, MobileNetV2, ResNet50." in page
    assert "4.8 years off on test faces" in " ".join(page.split()) and "1 network" in page


def test_a_model_that_cannot_be_used_gives_way_to_the_next_best(work_dir, capsys):
    good, cut = kit.write_run("good", mae=9), kit.write_run("cut", mae=2)
    (cut / "model.keras").write_bytes(b"PK")
    nan, network = kit.write_run("nan", mae=1), kit.small_network(1)
    network.set_weights([w * np.nan for w in network.get_weights()])
    network.save(nan / "model.keras")
    made = analysis.Analyst({folder.name: folder for folder in (good, cut, nan)})
    assert made.models["vgg19"].about["run"] == "good"
    said = capsys.readouterr().err
    assert "damaged" in said and "does not answer in numbers" in said
    with pytest.raises(ValueError, match="no model"):
        analysis.Analyst({"cut": cut})


def test_what_is_wrong_at_the_start_is_one_line(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        start.arguments(["--port", "70000"])
    assert "is not a port" in capsys.readouterr().err
    monkeypatch.setattr(analysis, "Analyst", None)  # not reached: the address comes first
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert start.main(["--port", str(taken.getsockname()[1])]) == 2
    assert "--port N" in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert start.main(["--host", "no.such.host.invalid"]) == 2
    assert "no such address" in (said := capsys.readouterr().err) and "--port" not in said


def test_the_container():
    """It copies what exists, runs as nobody special, and starts where its health is asked."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    parts = [tuple(line.split(maxsplit=1)) for line in lines]
    only = {word: rest for word, rest in parts if word != "COPY"}
    names = [name for word, rest in parts if word == "COPY" for name in rest.split()[:-1]]
    assert {"pyproject.toml", "utils", "requirements.lock", "data/models"} <= set(names)
    assert all((ROOT / name).exists() for name in names)
    assert only["USER"] == "faces" and list(only).index("USER") > list(only).index("RUN")
    assert "useradd" in only["RUN"] and '".[demo]" -c requirements.lock' in only["RUN"]
    command, check = (json.loads(only[n].split("CMD")[-1]) for n in ("CMD", "HEALTHCHECK"))
    assert command[:3] == ["python", "-m", "utils.demo"]
    options = start.arguments(command[3:])
    assert options.host == "0.0.0.0" and str(options.port) == only["EXPOSE"]
    assert f"127.0.0.1:{options.port}/healthz" in check[2]
    readme = (ROOT / "utils" / "demo" / "README.md").read_text()
    assert f":{options.port} faces" in readme and "--read-only" in readme
    settings = dict(part.split("=", 1) for part in only["ENV"].split())
    assert f"./data/runs:{settings['FACES_WORK_DIR']}/runs:ro" in readme


def test_the_pages_need_nothing_but_their_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = {
        extra: {re.split(r"[<>=\[; ]", line)[0].lower() for line in lines}
        for extra, lines in (extras | {"": project["dependencies"]}).items()
    }
    wanted = names[""] | names["demo"] | {"utils", "PIL", "yaml"}  # ours, Pillow and PyYAML
    imports = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)
    parts = {path.name: path for path in Path(start.__file__).parent.glob("*.py")}
    alone = [parts.pop("web.py"), ROOT / "utils/export.py"]  # the page without a server
    for extra, code in {"demo": [*parts.values(), ROOT / "utils/faces.py"], "web": alone}.items():
        found = {name for path in code for name in imports.findall(path.read_text())}
        assert found - set(sys.stdlib_module_names) <= wanted | names[extra]
        assert extra == "web" or {"flask", "waitress"} <= found
