"""One picture at a time, decoded in a process of its own, and nobody waits for ever."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor

import psutil
from PIL import Image

from utils.demo.pictures import TOO_COSTLY, Refused, decode

QUEUE_LENGTH = 8
TIME_LIMIT = 20.0  # seconds of waiting
DECODE_LIMIT = 10.0  # seconds of one picture; 50 million pixels take 1.5
MEMORY_LIMIT = 1_200_000_000  # bytes of one picture; 50 million pixels take 800 MB


class Worker:
    """Does jobs one after the other; `length` may wait, none longer than `time_limit` seconds."""

    def __init__(self, length: int = QUEUE_LENGTH, time_limit: float = TIME_LIMIT):
        self.length, self.time_limit = length, time_limit
        self._turn, self.waiting = threading.Lock(), []  # a place for each job that waits
        self._began = float("inf")  # of the job at work
        self._pool: ProcessPoolExecutor | None = None  # of one process, the `child`

    @property
    def alive(self) -> bool:
        """Whether no job is older than the limit."""
        return time.monotonic() - self._began < self.time_limit

    def run(self, job: Callable, gone: Callable[[], bool] = lambda: False):
        """Do a job; `Refused` if too many wait, or the time is over or who asked is `gone`."""
        until, place = time.monotonic() + self.time_limit, object()
        self.waiting.append(place)
        later = {"Retry-After": str(len(self.waiting))}  # a job takes a second at most
        try:
            if len(self.waiting) > self.length:
                raise Refused(429, "busy", "Too many pictures wait; try again in a moment.", later)
            while not self._turn.acquire(timeout=0.1):
                if time.monotonic() > until or gone():
                    raise Refused(503, "timeout", "The picture waited too long.", later)
        finally:
            self.waiting.remove(place)
        try:
            self._began = time.monotonic()
            return job()
        finally:
            self._began = float("inf")
            self._turn.release()

    def decode(self, content: bytes):
        """`decode` in a child process, which is ended and replaced if that costs too much."""
        if not self._pool:
            spawn = multiprocessing.get_context("spawn")  # TensorFlow's threads bear no fork
            self._pool = ProcessPoolExecutor(1, spawn, _limit, [MEMORY_LIMIT])
            self.child = psutil.Process(self._pool.submit(os.getpid).result())  # after imports
        try:
            return self._pool.submit(decode, content).result(DECODE_LIMIT)
        except (TimeoutError, BrokenExecutor):
            with contextlib.suppress(psutil.Error):
                self.child.kill()
            self._pool = None
            raise Refused(*TOO_COSTLY) from None


def _limit(memory: int) -> None:
    """Start the child: its memory is limited, and the server alone ends it."""
    for name in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group
        signal.signal(name, signal.SIG_IGN)
    Image.MAX_IMAGE_PIXELS = None  # `decode` has a limit of its own
    if psutil.LINUX:  # other systems keep to no such limit
        room = psutil.Process().memory_info().vms + memory
        psutil.Process().rlimit(psutil.RLIMIT_AS, (room, room))
