"""One worker, one bounded queue: one picture at a time, and nobody waits for ever."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from utils.demo.decoder import Decoder
from utils.demo.pictures import Refused

QUEUE_LENGTH = 8
TIME_LIMIT = 20.0  # seconds, waiting included


class Worker:
    """Runs jobs one after the other; `length` may wait, none longer than `time_limit` seconds."""

    def __init__(self, length: int = QUEUE_LENGTH, time_limit: float = TIME_LIMIT):
        self.length, self.time_limit = length, time_limit
        self.decode = Decoder()  # for jobs
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="faces")
        self._lock, self._asked = threading.Lock(), []
        self._began = float("inf")  # of the job at work

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return sum(not (job.running() or job.done()) for job in list(self._asked))

    @property
    def alive(self) -> bool:
        """Whether no job is older than the limit."""
        return time.monotonic() - self._began < self.time_limit

    def run(self, job: Callable, gone: Callable[[], bool] = lambda: False):
        """Do a job in the worker's thread; `Refused` if the queue is full or the time is over.

        A job that has not begun by then, or when who asked is `gone`, is not done.
        """
        with self._lock:
            if self.waiting >= self.length:
                told = "Too many pictures are waiting; try again in a moment."
                raise self._refused(429, "busy", told)
            future = self._pool.submit(self._timed, job)
            self._asked.append(future)
        until = time.monotonic() + self.time_limit
        try:
            while time.monotonic() < until and not gone():
                if wait([future], timeout=0.1).done:
                    return future.result()
        finally:
            future.cancel()
            self._asked.remove(future)
        told = "The picture took too long; try again later or a smaller one."
        raise self._refused(503, "timeout", told)

    def _refused(self, status: int, code: str, message: str) -> Refused:
        return Refused(status, code, message, {"Retry-After": str(self.waiting + 1)})

    def _timed(self, job: Callable):
        self._began = time.monotonic()
        try:
            return job()
        finally:
            self._began = float("inf")
