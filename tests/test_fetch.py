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
from utils.datasets.fetch import SOURCES, download, fetch, fetch_kaggle
from utils.files import DataError

CONTENT = bytes(range(256)) * 4000


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    return file.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.content``, with ranges; can stop after ``server.cut`` bytes."""

    def do_GET(self):
        server, start = self.server, 0
        asked, body = self.headers.get("Range"), server.content
        server.asked.append(asked)
        if self.path != "/file.tar":
            self.send_error(404)
            return
        if server.ranges and asked and self.headers.get("If-Range") == server.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        whole = start >= len(body)
        self.send_response(416 if whole else 206 if start else 200)
        if start:
            span = "*" if whole else f"{start}-{len(body) - 1}"
            self.send_header("Content-Range", f"bytes {span}/{len(body)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(max(0, len(body) - start)))
        self.end_headers()
        self.wfile.write(body[start:][: server.cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.handle_error = lambda *_: None  # a client that goes away early is no error
    httpd.content, httpd.etag, httpd.ranges, httpd.cut, httpd.asked = CONTENT, '"1"', True, None, []
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/file.tar"
    threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Keep data and caches in a folder of this test; go round any proxy."""
    monkeypatch.setenv("FACES_DATA_DIR", str(tmp_path / "raw"))
    monkeypatch.setenv("FACES_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def cut_short(server, target):
    """A first attempt that ends after 300,000 bytes."""
    server.cut = 300_000
    with pytest.raises(DataError, match="run it again to go on"):
        download(server.url, target)
    assert not target.exists()
    server.cut = None


@pytest.mark.parametrize("lack", [None, "ranges", "etag"])
def test_download_goes_on_where_it_stopped_if_the_server_can(server, tmp_path, lack):
    if lack:
        setattr(server, lack, None)
    cut_short(server, tmp_path / "file.tar")
    assert download(server.url, tmp_path / "file.tar").read_bytes() == CONTENT
    assert (server.asked == [None, "bytes=262144-"]) == (lack is None) or lack == "ranges"
    cut_short(server, tmp_path / "other.tar")
    server.etag, server.content = '"2"', CONTENT[::-1]  # a changed file is fetched from its start
    assert download(server.url, tmp_path / "other.tar").read_bytes() == CONTENT[::-1]


def begun(folder, content: bytes):
    (folder / ".file.tar.part").write_bytes(content)
    (folder / ".file.tar.tag").write_text('"1"')
    return folder / "file.tar"


def test_part_that_is_whole_is_kept_and_a_larger_one_dropped(server, tmp_path):
    assert download(server.url, begun(tmp_path, CONTENT)).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]
    target = begun(tmp_path, CONTENT + b"x")
    with pytest.raises(DataError, match="run it again"):
        download(server.url, target)
    assert download(server.url, target).read_bytes() == CONTENT


def test_restart_keeps_the_old_file_until_the_new_one_is_there(server, tmp_path):
    target = begun(tmp_path, b"old")
    target.write_bytes(b"there")
    with pytest.raises(DataError):
        download(server.url + "x", target, restart=True)
    assert target.read_bytes() == b"there"
    assert download(server.url, target, restart=True).read_bytes() == CONTENT
    assert server.asked[-1] is None  # the part was forgotten


def test_download_and_no_server_and_no_page(server, tmp_path, capfd):
    target = download(server.url, tmp_path / "new" / "file.tar")
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.tar"]
    assert capfd.readouterr().err == ""  # a short download draws no bar into a log
    for url, told in ((server.url + "x", "404.*by hand"), ("http://127.0.0.1:9/f", "the network")):
        with pytest.raises(DataError, match=told):
            download(url, tmp_path / "file.tar")


def full(*_, **__):
    raise OSError(28, "No space left on device")


def test_disk_too_small_or_filling_up(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
        with pytest.raises(DataError, match="FACES_DATA_DIR"):
            download(server.url, tmp_path / "file.tar")
    monkeypatch.setattr(fetching, "progress_bar", full)
    with pytest.raises(DataError, match="No space left.*FACES_DATA_DIR"):
        download(server.url, tmp_path / "file.tar")
    assert not (tmp_path / "file.tar").exists()


def test_fetch_wiki(server, tmp_path, monkeypatch, capsys):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("00/1_1950-01-01_1990.jpg", "01/2_1960-01-01_1990.jpg"):
            info = tarfile.TarInfo(f"wiki_crop/{name}")
            info.size = len(jpeg())
            tar.addfile(info, io.BytesIO(jpeg()))
    server.content = file.getvalue()
    monkeypatch.setitem(SOURCES, "wiki", SOURCES["wiki"]._replace(address=server.url))
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
    module = types.ModuleType("kagglehub")
    module.cache, module.asked = tmp_path / "kaggle" / "versions" / "1", []
    module.cache.mkdir(parents=True)

    def dataset_download(handle, force_download=False):
        module.asked.append((handle, force_download))
        return str(module.cache)

    module.dataset_download = dataset_download
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    return module


def test_fetch_from_kaggle(kagglehub, tmp_path, capsys):
    for folder in ("UTKFace", "deep/er/UTKFace", "crop_part1"):
        (kagglehub.cache / folder).mkdir(parents=True)
        (kagglehub.cache / folder / "26_1_2_20170116.jpg.chip.jpg").write_bytes(jpeg())
    (kagglehub.cache / "UTKFace" / "30_0_1_20170116.jpg.chip.jpg").write_bytes(jpeg())
    assert len(fetch("utkface")) == len(list((tmp_path / "raw" / "UTKFace").iterdir())) == 2
    assert kagglehub.asked == [("jangedoo/utkface-new", False)]
    said = capsys.readouterr().out
    assert "kaggle.com/datasets/jangedoo/utkface-new" in said and "non-commercial" in said
    text = "age,ethnicity,gender,img_name,pixels\n26,2,1,2017.jpg.chip.jpg," + "7 " * 2304 + "\n"
    (kagglehub.cache / "age_gender.csv").write_text(text)
    assert len(fetch("utkface-csv", tmp_path / "other")) == 1
    assert (tmp_path / "other" / "age_gender.csv").is_file()


def test_kaggle_without_the_data_the_network_room_or_its_library(
    kagglehub, tmp_path, monkeypatch, capsys
):
    with pytest.raises(DataError, match="came without UTKFace"):
        fetch_kaggle("a/b", tmp_path / "UTKFace")
    (kagglehub.cache / "UTKFace").mkdir()
    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(DataError, match="No space left"):
        fetch_kaggle("a/b", tmp_path / "raw" / "UTKFace")
    assert not list((tmp_path / "raw").iterdir())
    kagglehub.dataset_download = full
    with pytest.raises(DataError, match="Kaggle did not deliver a/b .*No space left"):
        fetch_kaggle("a/b", tmp_path / "UTKFace")
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert main(["fetch", "utkface"]) == 1
    assert "pip install kagglehub" in capsys.readouterr().err
    with pytest.raises(ValueError, match="'imdb' cannot be fetched; expected one of"):
        fetch("imdb")


def test_check_lists_what_is_there(tmp_path, capsys):
    assert main(["check"]) == 1
    said = capsys.readouterr().out
    assert "no real faces" in said and said.count("is not there") == 4
    (tmp_path / "raw" / "UTKFace").mkdir(parents=True)
    for name in ("26_1_2_20170116.jpg.chip.jpg", "26_1_7_20170116.jpg.chip.jpg"):
        (tmp_path / "raw" / "UTKFace" / name).write_bytes(jpeg())
    assert main(["check"]) == 0
    said = capsys.readouterr().out
    assert "utkface      1 faces" in said and "left out: race 7" in said
