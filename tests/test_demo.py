"""The demo's server: what it answers, what it refuses, and that it stays up."""

import io
import json
import re
import socket
import sys
import tempfile
import threading
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

pytest.importorskip("mtcnn", reason="the demo extra is not installed")
pytest.importorskip("waitress", reason="the demo extra is not installed")

import demo_kit as kit
from jsonschema import Draft202012Validator

from utils.demo import analysis
from utils.demo.app import OPENAPI, create_app
from utils.demo.pictures import MAX_BYTES, Refused, decode
from utils.demo.worker import Worker
from utils.paths import ROOT

API = yaml.safe_load(OPENAPI.read_text())


@pytest.fixture(scope="module")
def analyst(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACES_WORK_DIR", str(tmp_path_factory.mktemp("demo")))
        kit.write_run("utkface-mobilenetv2-finetune-48-seed1", "mobilenetv2", 1)
        kit.write_run("utkface-resnet50-finetune-48-seed1", "resnet50", 2, label="unknown")
        found = {k: v for k, v in analysis.models.available().items() if "-48-" in k}
        made = analysis.Analyst(analysis.choose(found))
    made.models["resnet50"].about["model"] = "not in the registry"
    made.warm_up()
    return made


@pytest.fixture(scope="module")
def client(analyst):
    return create_app(analyst, Worker(time_limit=60)).test_client()


@pytest.fixture(scope="module")
def server(analyst):
    server, address = kit.serve(analyst, Worker(time_limit=60))
    yield address
    server.close()


@pytest.fixture(scope="module")
def photo():
    return kit.encoded(kit.photo())


def send(client, content, query="", name="face.jpg", **options):
    form = {"image": (io.BytesIO(content), name)}
    return client.post(f"/api/predict{query}", data=form, **options)


def resolved(schema):
    """A schema with its references to the OpenAPI file put in place."""
    if isinstance(schema, list):
        return [resolved(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        found = API
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return resolved(found)
    return {key: resolved(value) for key, value in schema.items()}


def fits_api(response, path="/api/predict", method="post"):
    """Check status, type, headers and body against the OpenAPI file."""
    described = resolved(API["paths"][path][method]["responses"][str(response.status_code)])
    assert response.mimetype in described["content"]
    schema = described["content"][response.mimetype]["schema"]
    Draft202012Validator(schema).validate(response.get_json())
    for name in described.get("headers", {}):
        assert response.headers[name].isdigit()
    return response.get_json()


# What it answers


def test_one_face(client, photo):
    answer = fits_api(send(client, photo))
    assert (answer["model"], answer["width"], answer["height"]) == ("mobilenetv2", 700, 500)
    (face,) = answer["faces"]
    x, y, width, height = face["box"]
    assert 40 < x + width / 2 < 340 and 90 < y + height / 2 < 390
    assert face["age"]["low"] <= face["age"]["high"]
    for name in ("gender", "ethnicity"):
        assert sum(face[name].values()) == pytest.approx(1, abs=1e-3)
    assert set(face) == {"box", "confidence", "age", "gender", "ethnicity"}


def test_two_faces_the_larger_first(client):
    content = kit.encoded(kit.photo((kit.FOUND, kit.ALSO_FOUND)))
    answer = fits_api(send(client, content))
    areas = [face["box"][2] * face["box"][3] for face in answer["faces"]]
    assert len(areas) == answer["faces_found"] == 2 and areas[0] >= areas[1]


def test_details(client, photo):
    (face,) = fits_api(send(client, photo, "?details=true&model=resnet50"))["faces"]
    assert len(face["age"]["distribution"]) == 117
    assert sum(face["age"]["distribution"]) == pytest.approx(1, abs=0.01)
    assert face["crop"] and set(face["heat_maps"]) <= set(analysis.TASKS)


def test_no_face_and_the_whole_picture(client):
    content = kit.encoded(Image.new("RGB", (300, 200), "grey"))
    assert fits_api(send(client, content))["faces"] == []
    (face,) = fits_api(send(client, content, "?whole=true"))["faces"]
    assert face["box"] == [0, 0, 300, 200]


def test_the_page_and_its_headers(client):
    page = client.get("/")
    text = page.get_data(as_text=True)
    assert page.status_code == 200 and "17,000" in text and "Synthetic faces only" not in text
    assert (
        "style=" not in text and "<script>" not in text and "http" not in text.split("</head>")[0]
    )
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors" in policy
    for response in (page, client.get("/healthz"), client.get("/nothing"), send(client, b"x")):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Referrer-Policy"] == "no-referrer"


def test_assets_are_all_ours():
    folder = OPENAPI.parent
    for path in [*folder.glob("static/*"), *folder.glob("templates/*")]:
        text = path.read_text().replace("http://www.w3.org/", "")
        assert "http:" not in text and "https:" not in text and "//cdn" not in text, path


def test_health(client, analyst, monkeypatch):
    assert fits_api(client.get("/healthz"), "/healthz", "get")["status"] == "ok"
    monkeypatch.setattr(analyst, "ready", False)
    response = client.get("/healthz")
    assert response.status_code == 503
    assert fits_api(response, "/healthz", "get")["status"] == "starting"


def test_every_route_is_documented(client):
    routes = {rule.rule for rule in client.application.url_map.iter_rules()}
    assert set(API["paths"]) == routes - {"/", "/openapi.yaml", "/static/<path:filename>"}
    assert yaml.safe_load(client.get("/openapi.yaml").get_data(as_text=True)) == API


def test_a_mirrored_and_a_turned_photograph_agree(client):
    """EXIF orientation is honoured: the stored picture lies on its side."""
    upright = kit.photo()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    answer = fits_api(send(client, kit.encoded(turned, "PNG", exif=exif.tobytes())))
    plain = fits_api(send(client, kit.encoded(upright, "PNG")))
    assert (answer["width"], answer["height"]) == (700, 500)
    assert answer["faces"] == plain["faces"]


@pytest.mark.parametrize(
    "kind,options",
    [
        ("PNG", {}),
        ("WEBP", {"quality": 95}),
        ("GIF", {}),
        ("BMP", {}),
    ],
)
def test_formats_whatever_the_name(client, kind, options):
    answer = fits_api(send(client, kit.encoded(kit.photo(), kind, **options), name="x.txt"))
    assert len(answer["faces"]) == 1


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "LA", "1", "I;16"])
def test_modes(mode):
    kind = "JPEG" if mode in ("CMYK", "L") else "PNG"
    picture = kit.photo()
    if mode == "I;16":
        picture = Image.fromarray((np.asarray(picture.convert("L")).astype(np.uint16)) * 257)
    else:
        picture = picture.convert(mode)
    seen = decode(kit.encoded(picture, kind)).image
    assert seen.mode == "RGB" and abs(np.asarray(seen).mean() - 112) < 20


def test_large_photographs_are_shrunk_and_boxes_are_not(client):
    picture = kit.photo().resize((4200, 3000))
    answer = fits_api(send(client, kit.encoded(picture)))
    assert (answer["width"], answer["height"]) == (4200, 3000)
    x, _, width, _ = answer["faces"][0]["box"]
    assert 240 < x + width / 2 < 2040 and width > 500


def test_metadata_is_dropped():
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    image = decode(kit.encoded(kit.photo(), "JPEG", exif=exif, comment=b"secret")).image
    assert not image.info and not image.getexif()


# What it refuses


def animated_gif():
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]
    return kit.encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
BAD = {
    "empty file": (b"", 400),
    "text as .png": (b"I am not a picture", 415),
    "svg with script": (SVG, 415),
    "html": (b"<html><script>alert(1)</script>", 415),
    "pdf": (b"%PDF-1.7\n", 415),
    "tiff": (kit.encoded(Image.new("RGB", (8, 8)), "TIFF"), 415),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", 415),
    "truncated jpeg": (kit.encoded(kit.photo())[:9000], 422),
    "truncated png": (kit.encoded(kit.photo(), "PNG")[:9000], 422),
    "header only": (b"\xff\xd8\xff\xe0\x00\x10JFIF", (415, 422)),
    "one byte": (b"\x89", 415),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pictures(client, case):
    content, status = BAD[case]
    response = send(client, content, name="picture.png")
    assert response.status_code in np.atleast_1d(status)
    error = fits_api(response)["error"]
    assert "Traceback" not in json.dumps(error) and "/" not in error["message"]


def test_a_decompression_bomb_is_refused_by_its_header(client):
    bomb = kit.flat_png(20_000, 20_000)
    assert len(bomb) < 1_000_000
    started = time.perf_counter()
    response = send(client, bomb)
    assert response.status_code == 413 and time.perf_counter() - started < 5
    assert fits_api(response)["error"]["code"] == "too_many_pixels"
    between = kit.flat_png(8_000, 8_000)  # below Pillow's own limit
    assert send(client, between).status_code == 413


def test_an_animated_gif_is_read_by_its_first_frame(client):
    assert fits_api(send(client, animated_gif()))["faces"] == []
    assert decode(animated_gif()).image.getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "..\\..\\x.jpg", "a\0b.jpg", "<script>.jpg", "x" * 3000],
)
def test_the_file_name_plays_no_part(client, photo, name):
    answer = fits_api(send(client, photo, name=name))
    assert len(answer["faces"]) == 1 and "script" not in json.dumps(answer)


def test_wrong_requests(client, photo):
    cases = [
        (client.post("/api/predict"), 400),
        (client.post("/api/predict", data={"image": "text"}), 400),
        (client.post("/api/predict", data={"other": (io.BytesIO(photo), "x")}), 400),
        (send(client, photo, "?model=../../secret"), 404),
        (send(client, photo, "?details=maybe"), 400),
        (send(client, photo, headers={"Sec-Fetch-Site": "cross-site"}), 403),
        (send(client, b"x" * (MAX_BYTES + 1)), 413),
        (send(client, b"x" * (MAX_BYTES + 50_000)), 413),
    ]
    for response, status in cases:
        assert response.status_code == status
        fits_api(response)
    assert client.get("/api/predict").status_code == 405
    assert client.get("/static/../app.py").status_code == 404


def test_no_stack_trace_reaches_the_client(analyst, photo, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("secret /home/me/model")

    monkeypatch.setattr(analysis.Analyst, "analyse", fail)
    response = send(create_app(analyst, Worker()).test_client(), photo)
    assert response.status_code == 500
    assert "secret" not in response.get_data(as_text=True) and "secret" in caplog.text
    fits_api(response)


def test_nothing_is_written_to_disk(server, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a temporary file was asked for")

    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    monkeypatch.setattr("waitress.buffers.TempfileBasedBuffer.newfile", refuse)
    before = kit.open_files() if Path("/proc/self/fd").is_dir() else set()
    status, answer, _ = post(server, kit.noise())  # 6.7 MB: far above every spool limit
    assert status == 200 and answer["width"] == 1500
    if before:
        assert kit.open_files() <= before | {name for name in kit.open_files() if ".pyc" in name}


# How it bears load


def post(address, content, query=""):
    boundary = b"--frontier"
    body = (
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n'
        b"\r\n" + content + b"\r\n--" + boundary + b"--\r\n"
    )
    request = urllib.request.Request(
        f"{address}/api/predict{query}",
        body,
        {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=90) as response:
            return response.status, json.load(response), response.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}"), error.headers


def test_a_body_of_200_mb_is_cut_off(server):
    host, port = server.removeprefix("http://").split(":")
    sent = 0
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(
            b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        )
        try:
            for _ in range(200):
                line.sendall(bytes(1_000_000))
                sent += 1_000_000
            reply = line.recv(4096)
        except OSError:  # the server hung up, as it should
            reply = b""
    assert sent < 200_000_000 or b"413" in reply[:40]
    assert urllib.request.urlopen(f"{server}/healthz", timeout=20).status == 200


def test_fifty_at_once(server, photo):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(post(server, photo))) for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    states = [status for status, _, _ in answers]
    assert len(states) == 50 and set(states) <= {200, 429} and states.count(200) >= 5
    served = [answer["faces"] for status, answer, _ in answers if status == 200]
    assert all(faces == served[0] for faces in served)
    busy = [headers for status, _, headers in answers if status == 429]
    assert busy and all(int(headers["Retry-After"]) >= 1 for headers in busy)
    assert post(server, photo)[0] == 200


def test_a_full_queue_says_when_to_come_back():
    worker, gate = Worker(length=1, time_limit=5), threading.Event()
    first = threading.Thread(target=worker.run, args=(gate.wait,))
    first.start()
    while worker.waiting:
        time.sleep(0.01)
    time.sleep(0.05)
    second = threading.Thread(target=worker.run, args=(gate.wait,))
    second.start()
    while not worker.waiting:
        time.sleep(0.01)
    with pytest.raises(Refused) as refused:
        worker.run(print)
    assert refused.value.status == 429 and int(refused.value.headers["Retry-After"]) >= 1
    gate.set()
    first.join()
    second.join()
    assert worker.run(lambda: 7) == 7


def test_the_time_limit_and_what_waited_behind_it(analyst, photo):
    worker, gate, ran = Worker(length=4, time_limit=0.2), threading.Event(), []
    with pytest.raises(Refused) as refused:
        worker.run(gate.wait)
    assert refused.value.status == 503
    with pytest.raises(Refused):
        worker.run(ran.append, 1)
    response = send(create_app(analyst, worker).test_client(), photo)
    assert response.status_code == 503
    fits_api(response)
    gate.set()
    worker.time_limit = 20
    worker.run(ran.append, 2)
    assert ran == [2]  # what nobody waits for is not done


def test_the_worker_outlives_an_error():
    worker = Worker()
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 / 0)
    assert worker.run(lambda: 3) == 3 and worker.alive


# Which models


def test_one_model_a_backbone_and_the_best(work_dir):
    kit.write_run("utkface-vgg19-head-48", "vgg19", protocol="head")
    kit.write_run("utkface-vgg19-finetune-48", "vgg19")
    kit.write_run("utkface-vgg19-finetune-48-naive", "vgg19", split="naive")
    kit.write_run("utkface-vgg19-finetune-48-n200", "vgg19", limit=200, mae=1)
    kit.write_run("utkface-alexnet-finetune-48-a", "alexnet", mae=6)
    kit.write_run("utkface-alexnet-finetune-48-b", "alexnet", mae=5)
    kit.write_run("synthetic-resnet50-48", "resnet50", dataset="synthetic")
    runs = {k: v for k, v in analysis.models.available().items() if v.parent.name == "runs"}
    chosen = analysis.choose(runs)
    assert {k: v.name for k, v in chosen.items()} == {
        "alexnet": "utkface-alexnet-finetune-48-b",
        "vgg19": "utkface-vgg19-finetune-48",
    }
    assert list(chosen) == ["alexnet", "vgg19"]
    only = {k: v for k, v in runs.items() if k.startswith("synthetic")}
    assert list(analysis.choose(only)) == ["resnet50"]
    made = analysis.Analyst(analysis.choose(only))
    assert made.synthetic
    page = create_app(made, Worker()).test_client().get("/").get_data(as_text=True)
    assert "Synthetic faces only" in page and "Not trained here yet" not in page


def test_the_shipped_backbone_comes_first_and_a_better_run_of_it_is_read(work_dir):
    shipped = analysis.models.SHIPPED / "mobilenetv2"
    if not analysis.models.is_shipped(shipped):
        pytest.skip("no MobileNetV2 is shipped in data/models")
    kit.write_run("utkface-alexnet-finetune-48", "alexnet")
    assert list(analysis.choose(analysis.models.available())) == ["mobilenetv2", "alexnet"]
    for number, (mae, better) in enumerate(((9.0, False), (1.0, True))):
        kit.write_run(f"utkface-mobilenetv2-finetune-{number}", "mobilenetv2", mae=mae)
        first = analysis.choose(analysis.models.available())["mobilenetv2"]
        assert (first != shipped) is better


def test_one_network_alone_says_which_are_missing(work_dir):
    kit.write_run("utkface-vgg19-finetune-48", "vgg19", mae=4.84)
    made = analysis.Analyst({"vgg19": analysis.models.available()["utkface-vgg19-finetune-48"]})
    page = create_app(made, Worker()).test_client().get("/").get_data(as_text=True)
    assert "not compared: AlexNet, MobileNetV2, ResNet50." in page
    assert "4.8 years off on test faces" in " ".join(page.split()) and "1 network" in page


def test_no_model_trains_a_stand_in(monkeypatch, capsys):
    """Without a model the smoke model is trained; here only asked for."""
    from utils.demo import __main__ as start
    from utils.demo import smoke

    class Asked(Exception):
        pass

    def asked(config):
        assert (config.dataset, config.weights) == ("synthetic", "none")
        raise Asked

    monkeypatch.setattr("utils.models.available", dict)
    monkeypatch.setattr("utils.training.train", asked)
    with pytest.raises(Asked):
        start.load_analyst()
    assert smoke.EPOCHS >= 1 and "synthetic faces" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["x", "-1", "70000"])
def test_a_bad_port_is_one_line(text, capsys):
    from utils.demo.__main__ import arguments

    with pytest.raises(SystemExit):
        arguments(["--port", text])
    assert "is not a port" in capsys.readouterr().err or text == "-1"


def test_a_taken_port_is_one_line(analyst, monkeypatch, capsys):
    from utils.demo import __main__ as start

    monkeypatch.setattr(start, "load_analyst", lambda: analyst)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert start.main(["--port", str(taken.getsockname()[1])]) == 2
    assert "--port N" in capsys.readouterr().err


def container():
    """Instructions of the Containerfile as (word, rest), continued lines joined."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def only(word):
    (rest,) = [rest for name, rest in container() if name == word]
    return rest


def test_the_container_copies_what_exists_and_runs_as_nobody_special():
    names = [name for word, rest in container() if word == "COPY" for name in rest.split()[:-1]]
    missing = [name for name in names if not (ROOT / name).exists()]
    assert {"pyproject.toml", "utils", "requirements.lock"} <= set(names)
    assert set(missing) <= {"data/models"}, missing  # until a model is shipped
    words = [word for word, _ in container()]
    assert only("USER") == "faces" and words.index("USER") > words.index("RUN")
    assert "useradd" in only("RUN") and '".[demo]" -c requirements.lock' in only("RUN")
    version = tuple(map(int, only("FROM").split(":")[1].split("-")[0].split(".")))
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert version >= tuple(map(int, needed.removeprefix(">=").split(".")))


def test_the_container_starts_the_demo_where_its_health_is_asked():
    from utils.demo.__main__ import arguments

    command = json.loads(only("CMD"))
    assert command[:3] == ["python", "-m", "utils.demo"]
    options = arguments(command[3:])
    assert options.host == "0.0.0.0" and str(options.port) == only("EXPOSE")
    check = json.loads(only("HEALTHCHECK").split("CMD")[1])
    compile(check[2], "HEALTHCHECK", "exec")
    assert f"127.0.0.1:{options.port}/healthz" in check[2]
    readme = (ROOT / "utils" / "demo" / "README.md").read_text()
    assert f":{options.port} faces" in readme and "--read-only" in readme


def test_the_container_serves_runs_from_the_folder_that_its_readme_mounts():
    settings = dict(part.split("=", 1) for part in only("ENV").split())
    readme = (ROOT / "utils" / "demo" / "README.md").read_text()
    assert f"./data/runs:{settings['FACES_WORK_DIR']}/runs:ro" in readme


def test_the_command_needs_nothing_but_the_demo_extra():
    """What the page imports is in the list of dependencies, so a fresh environment suffices."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["demo"]
    wanted = {re.split(r"[<>=\[; ]", line)[0].lower() for line in wanted}
    code = [*(ROOT / "utils" / "demo").glob("*.py"), ROOT / "utils" / "faces.py"]
    found = {
        name.lower()
        for path in code
        for name in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
    }
    names = {"pil": "pillow", "yaml": "pyyaml"}
    outside = {names.get(n, n) for n in found if n not in sys.stdlib_module_names} - {"utils"}
    assert outside <= wanted and {"flask", "waitress", "mtcnn"} <= outside
