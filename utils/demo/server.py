"""Waitress around the application: threads, limits, everything in memory, and an orderly end."""

import contextlib
import functools
import json
import logging
import signal
import socket
import threading
import time

from waitress import create_server
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from utils.demo.analysis import Analyst
from utils.demo.app import FORM_OVERHEAD, HEADERS, create_app
from utils.demo.pictures import MAX_BYTES, Refused
from utils.demo.worker import Worker

MEMORY = 64_000_000  # buffers below this never become temporary files
GRACE = 20.0  # seconds for what is being answered when the server is told to stop


class _ErrorTask(ErrorTask):
    """Waitress's own refusals (400, 413, 431) in the form and with the headers of other answers."""

    def execute(self):
        error = self.request.error
        code, said = error.reason.lower().replace(" ", "_"), f"{error.reason}: {error.body}"
        error.to_response = lambda _: (
            f"{error.code} {error.reason}",
            [("Content-Type", "application/json"), *HEADERS.items()],
            json.dumps({"error": {"code": code, "message": said}}).encode(),
        )
        super().execute()


class _Connection(HTTPChannel):
    """A connection that is closed when a request does not arrive whole in `channel_timeout`."""

    error_task_class = _ErrorTask

    def received(self, data):
        if self.request is None:
            self.began = self.last_activity
        self.last_activity = self.began  # what drips in later does not count
        return super().received(data)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to a host (IPv4 before IPv6); a ValueError of one line if that fails."""
    try:
        family, *_, address = min(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        return socket.create_server(address, family=family)
    except socket.gaierror:
        raise ValueError(f"--host {host}: no such address on this computer") from None
    except OSError as error:
        why = f"{error.strerror}; choose another: --port N"
        raise ValueError(f"cannot listen on {host}, port {port}: {why}") from None


def make_server(analyst: Analyst, bound: socket.socket, worker: Worker | None = None, names=()):
    """A server that listens already on a socket of `listen`; see `serve` and `create_app`."""
    worker, address = worker or Worker(), bound.getsockname()[0]
    if names or address.startswith("127."):
        names = ["localhost", "127.0.0.1", address, *names]
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = create_server(
        create_app(analyst, worker, names),
        sockets=[bound],
        # Each waiting picture holds a thread; the others serve the page and say "busy".
        threads=worker.length + 8,
        connection_limit=256,
        channel_request_lookahead=1,  # else a client that goes away is not noticed
        server_name="localhost",
        max_request_body_size=MAX_BYTES + FORM_OVERHEAD,
        max_request_header_size=16_384,
        inbuf_overflow=MEMORY,
        outbuf_overflow=MEMORY,
        outbuf_high_watermark=MEMORY,
        channel_timeout=30,
        cleanup_interval=5,
        ident=None,
    )
    server.channel_class = _Connection
    if not analyst.ready:
        threading.Thread(target=_warm_up, args=(analyst, worker), daemon=True).start()
    return server


def serve(server) -> None:
    """Answer until SIGTERM or Ctrl-C; then accept nothing more and finish what has begun."""
    stop, poll = threading.Event(), server.adj.asyncore_use_poll
    turn = functools.partial(server.asyncore.loop, 0.5, poll, server._map, count=1)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    while not stop.is_set():
        turn()
    server.accepting = False
    server.socket.close()
    server.del_channel()
    until = time.monotonic() + GRACE
    while time.monotonic() < until and any(
        line.request or line.requests or line.total_outbufs_len
        for line in server.active_channels.values()
    ):
        turn()
    server.task_dispatcher.shutdown(timeout=1)


def _warm_up(analyst: Analyst, worker: Worker) -> None:
    for job in (functools.partial(worker.decode, b""), analyst.warm_up):
        with contextlib.suppress(Refused):  # the file is empty
            worker.run(job)
