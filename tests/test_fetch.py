"""Fetching, against a server on this machine and a stand-in for kagglehub."""

import http.server
import io
import sys
import tarfile
import threading
import types

import pytest
from PIL import Image

from utils.datasets import fetch as fetching
from utils.datasets.__main__ import main
from utils.datasets.facetable import DataError
from utils.datasets.fetch import SOURCES, download, fetch, fetch_kaggle

CONTENT = bytes(range(256)) * 4000


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    return file.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.content``, with ranges; can stop after ``server.cut`` bytes."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        if self.path != "/file.tar":
            self.send_error(404)
            return
        body, start = server.content, 0
        current = self.headers.get("If-Range") == server.etag
        if server.ranges and self.headers.get("Range") and current:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][: server.cut])

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    """Says nothing when a client goes away early."""

    def handle_error(self, request, address):
        pass


@pytest.fixture
def server():
    httpd = Server(("127.0.0.1", 0), Handler)
    httpd.content, httpd.etag, httpd.ranges, httpd.cut, httpd.asked = CONTENT, '"1"', True, None, []
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/file.tar"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Keep data and caches in a folder of this test; go round any proxy."""
    monkeypatch.setenv("FACES_DATA_DIR", str(tmp_path / "raw"))
    monkeypatch.setenv("FACES_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_download(server, tmp_path):
    target = download(server.url, tmp_path / "new" / "file.tar")
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.tar"]


def test_download_goes_on_where_it_stopped(server, tmp_path):
    target, server.cut = tmp_path / "file.tar", 300_000
    with pytest.raises(DataError, match="run it again to go on"):
        download(server.url, target)
    assert not target.exists()
    server.cut = None
    assert download(server.url, target).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_changed_file_is_fetched_from_its_start(server, tmp_path):
    target, server.cut = tmp_path / "file.tar", 300_000
    with pytest.raises(DataError):
        download(server.url, target)
    server.cut, server.etag, server.content = None, '"2"', CONTENT[::-1]
    assert download(server.url, target).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("lack", ["ranges", "etag"])
def test_server_without_ranges_or_marks(server, tmp_path, lack):
    setattr(server, lack, None)
    target, server.cut = tmp_path / "file.tar", 300_000
    with pytest.raises(DataError):
        download(server.url, target)
    server.cut = None
    assert download(server.url, target).read_bytes() == CONTENT


def test_all_came_but_was_not_renamed(server, tmp_path):
    (tmp_path / ".file.tar.part").write_bytes(CONTENT)
    (tmp_path / ".file.tar.tag").write_text('"1"')
    assert download(server.url, tmp_path / "file.tar").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_part_larger_than_the_file_is_dropped(server, tmp_path):
    (tmp_path / ".file.tar.part").write_bytes(CONTENT + b"x")
    (tmp_path / ".file.tar.tag").write_text('"1"')
    with pytest.raises(DataError, match="run it again"):
        download(server.url, tmp_path / "file.tar")
    assert download(server.url, tmp_path / "file.tar").read_bytes() == CONTENT


def test_restart_forgets_the_part(server, tmp_path):
    (tmp_path / ".file.tar.part").write_bytes(b"old")
    (tmp_path / ".file.tar.tag").write_text('"1"')
    assert download(server.url, tmp_path / "file.tar", restart=True).read_bytes() == CONTENT
    assert server.asked == [None]


def test_no_server_and_no_page(server, tmp_path):
    with pytest.raises(DataError, match="404.*by hand"):
        download(server.url + "x", tmp_path / "file.tar")
    with pytest.raises(DataError, match="check the network"):
        download("http://127.0.0.1:9/file.tar", tmp_path / "file.tar")


def test_disk_too_small(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(DataError, match="FACES_DATA_DIR"):
        download(server.url, tmp_path / "file.tar")
    assert not (tmp_path / "file.tar").exists()


def test_disk_that_fills_up(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "_save", full)
    with pytest.raises(DataError, match="No space left.*FACES_DATA_DIR"):
        download(server.url, tmp_path / "file.tar")


def wiki_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("00/1_1950-01-01_1990.jpg", "01/2_1960-01-01_1990.jpg"):
            info = tarfile.TarInfo(f"wiki_crop/{name}")
            info.size = len(jpeg())
            tar.addfile(info, io.BytesIO(jpeg()))
    return file.getvalue()


def change(monkeypatch, name, **changes):
    source = types.SimpleNamespace(**{**vars(SOURCES[name]), **changes})
    monkeypatch.setitem(SOURCES, name, source)


def test_fetch_wiki(server, tmp_path, monkeypatch, capsys):
    server.content = wiki_tar()
    change(monkeypatch, "wiki", address=server.url)
    assert main(["fetch", "wiki"]) == 0
    said = capsys.readouterr().out
    assert server.url in said and "academic research only" in said
    assert "2 faces, 2 of them usable" in said and "published set has 62,328" in said
    assert (tmp_path / "raw" / "wiki_crop.tar").is_file()
    assert main(["fetch", "wiki"]) == 0 and len(server.asked) == 1
    assert main(["fetch", "wiki", "--force"]) == 0 and len(server.asked) == 2


@pytest.fixture
def kagglehub(tmp_path, monkeypatch):
    """A stand-in for the library: its download is a folder of this test."""
    cache = tmp_path / "kaggle" / "versions" / "1"
    cache.mkdir(parents=True)
    module = types.ModuleType("kagglehub")
    module.cache, module.asked = cache, []

    def dataset_download(handle, force_download=False):
        module.asked.append((handle, force_download))
        return str(cache)

    module.dataset_download = dataset_download
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    return module


def test_fetch_utkface(kagglehub, tmp_path, capsys):
    for folder in ("UTKFace", "deep/er/UTKFace", "crop_part1"):
        (kagglehub.cache / folder).mkdir(parents=True)
        (kagglehub.cache / folder / "26_1_2_20170116.jpg.chip.jpg").write_bytes(jpeg())
    (kagglehub.cache / "UTKFace" / "30_0_1_20170116.jpg.chip.jpg").write_bytes(jpeg())
    faces = fetch("utkface")
    assert len(faces) == 2 and len(list((tmp_path / "raw" / "UTKFace").iterdir())) == 2
    assert kagglehub.asked == [("jangedoo/utkface-new", False)]
    said = capsys.readouterr().out
    assert "kaggle.com/datasets/jangedoo/utkface-new" in said and "non-commercial" in said


def test_fetch_utkface_csv(kagglehub, tmp_path):
    text = "age,ethnicity,gender,img_name,pixels\n26,2,1,2017.jpg.chip.jpg," + "7 " * 2304 + "\n"
    (kagglehub.cache / "age_gender.csv").write_text(text)
    assert len(fetch("utkface-csv", tmp_path / "elsewhere")) == 1
    assert (tmp_path / "elsewhere" / "age_gender.csv").is_file()


def test_kaggle_without_the_data_or_the_network(kagglehub, tmp_path):
    with pytest.raises(DataError, match="came without UTKFace"):
        fetch_kaggle("a/b", tmp_path / "UTKFace")

    def fail(*arguments, **options):
        raise ConnectionError("no route")

    kagglehub.dataset_download = fail
    with pytest.raises(DataError, match="Kaggle did not deliver a/b .*no route"):
        fetch_kaggle("a/b", tmp_path / "UTKFace")


def test_without_kagglehub(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert main(["fetch", "utkface"]) == 1
    assert "pip install kagglehub" in capsys.readouterr().err


def test_copy_onto_a_full_disk(kagglehub, tmp_path, monkeypatch):
    (kagglehub.cache / "UTKFace").mkdir()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(DataError, match="No space left"):
        fetch_kaggle("a/b", tmp_path / "raw" / "UTKFace")
    assert not list((tmp_path / "raw").iterdir())


def test_unknown_set():
    with pytest.raises(ValueError, match="'imdb' cannot be fetched; expected one of"):
        fetch("imdb")
    with pytest.raises(SystemExit):
        main(["fetch", "imdb"])


def test_check_lists_what_is_there(tmp_path, capsys):
    assert main(["check"]) == 1
    said = capsys.readouterr().out
    assert "no real faces" in said and said.count("is not there") == 4
    for name in ("26_1_2_20170116.jpg.chip.jpg", "26_1_7_20170116.jpg.chip.jpg"):
        path = tmp_path / "raw" / "UTKFace" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg())
    assert main(["check"]) == 0
    said = capsys.readouterr().out
    assert "utkface      1 faces" in said and "left out: race 7" in said
