"""One worker, one bounded queue: one picture at a time, and nobody waits for ever."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait

from utils.demo.decoder import Decoder
from utils.demo.pictures import Refused

QUEUE_LENGTH = 8
TIME_LIMIT = 20.0  # seconds, waiting included


class Worker:
    """Runs jobs one after the other; `length` may wait, none longer than `time_limit` seconds."""

    def __init__(self, length: int = QUEUE_LENGTH, time_limit: float = TIME_LIMIT):
        self.length, self.time_limit = length, time_limit
        self.decode = Decoder()  # for jobs
        self._jobs: queue.Queue = queue.Queue(length)
        self._began = float("inf")  # of the job at work
        self._thread = threading.Thread(target=self._work, name="faces", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return self._jobs.qsize()

    @property
    def alive(self) -> bool:
        """Whether the thread runs, and no job is older than the limit."""
        return self._thread.is_alive() and time.monotonic() - self._began < self.time_limit

    def run(self, job: Callable, gone: Callable[[], bool] = lambda: False):
        """Do a job in the worker's thread; `Refused` if the queue is full or the time is over.

        A job that has not begun when its asker is `gone` is not done.
        """
        future: Future = Future()
        entry = (future, job)
        try:
            self._jobs.put_nowait(entry)
        except queue.Full:
            message = "Too many pictures are waiting; try again in a moment."
            raise Refused(429, "busy", message, self._retry_after()) from None
        until = time.monotonic() + self.time_limit
        while time.monotonic() < until and not gone():
            if wait([future], timeout=0.1).done:
                return future.result()
        future.cancel()
        with contextlib.suppress(ValueError), self._jobs.mutex:  # it has begun, for nobody
            self._jobs.queue.remove(entry)
        message = "The picture took too long; try again later or a smaller one."
        raise Refused(503, "timeout", message, self._retry_after())

    def _retry_after(self) -> dict:
        return {"Retry-After": str(self.waiting + 1)}  # a job takes a second at most

    def _work(self) -> None:
        while True:
            future, job = self._jobs.get()
            if not future.set_running_or_notify_cancel():
                continue
            self._began = time.monotonic()
            try:
                future.set_result(job())
            except BaseException as error:  # handed to the request; the worker lives on
                future.set_exception(error)
            self._began = float("inf")
            del future, job  # no picture outlives its request
