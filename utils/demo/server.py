"""Waitress around the application: threads, limits, and everything in memory."""

import logging
import threading

from waitress import create_server

from utils.demo.analysis import Analyst
from utils.demo.app import FORM_OVERHEAD, create_app
from utils.demo.pictures import MAX_BYTES, Refused
from utils.demo.worker import Worker

MEMORY = 64_000_000  # buffers below this never become temporary files


def make_server(analyst: Analyst, host: str, port: int, worker: Worker | None = None):
    """A server that listens already; call ``run()`` on it.

    Parameters
    ----------
    analyst : Analyst
    host : str
        Address to listen on.
    port : int
        0 for any free one; then see ``effective_port``.
    """
    worker = worker or Worker()
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = create_server(
        create_app(analyst, worker),
        host=host,
        port=port,
        # Each waiting picture holds a thread; the others serve the page and say "busy".
        threads=worker.length + 8,
        connection_limit=64,
        max_request_body_size=MAX_BYTES + FORM_OVERHEAD,
        max_request_header_size=16_384,
        inbuf_overflow=MEMORY,
        outbuf_overflow=MEMORY,
        outbuf_high_watermark=MEMORY,
        channel_timeout=30,
        ident=None,
    )
    if not analyst.ready:
        threading.Thread(target=_warm_up, args=(analyst, worker), daemon=True).start()
    return server


def _warm_up(analyst: Analyst, worker: Worker) -> None:
    try:
        worker.run(analyst.warm_up)
    except Refused:
        pass  # slower than the time limit; it goes on in the worker all the same
