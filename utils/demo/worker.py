"""One worker, one bounded queue: one picture at a time, and nobody waits for ever."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from utils.demo.pictures import Refused

QUEUE_LENGTH = 8
TIME_LIMIT = 20.0  # seconds, waiting included
log = logging.getLogger("utils.demo")


class Worker:
    """Runs jobs one after the other in a thread of its own.

    Parameters
    ----------
    length : int
        Jobs that may wait.
    time_limit : float
        Seconds until a request is given up.
    """

    def __init__(self, length: int = QUEUE_LENGTH, time_limit: float = TIME_LIMIT):
        self.length, self.time_limit = length, time_limit
        self._jobs: queue.Queue = queue.Queue(maxsize=length)
        self._seconds = 1.0  # running mean of a job
        self._thread = threading.Thread(target=self._work, name="faces", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return self._jobs.qsize()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def run(self, job: Callable, *arguments, **options):
        """Do a job in the worker's thread and return its result.

        Raises
        ------
        Refused
            429 if the queue is full, 503 if the time limit passes; with Retry-After.
        """
        future: Future = Future()
        try:
            self._jobs.put_nowait((future, job, arguments, options))
        except queue.Full:
            raise Refused(
                429,
                "busy",
                "Too many pictures are waiting; try again in a moment.",
                self._retry_after(),
            ) from None
        try:
            return future.result(timeout=self.time_limit)
        except FutureTimeout:
            future.cancel()  # a job that has not begun is skipped
            raise Refused(
                503,
                "timeout",
                "The picture took too long; try again later or a smaller one.",
                self._retry_after(),
            ) from None

    def _retry_after(self) -> dict:
        return {"Retry-After": str(max(1, round(self._seconds * (self.waiting + 1))))}

    def _work(self) -> None:
        while True:
            future, job, arguments, options = self._jobs.get()
            if not future.set_running_or_notify_cancel():
                continue
            started = time.perf_counter()
            try:
                future.set_result(job(*arguments, **options))
            except BaseException as error:  # handed to the request; the worker lives on
                future.set_exception(error)
            self._seconds += 0.2 * (time.perf_counter() - started - self._seconds)
            del future, job, arguments, options  # no picture outlives its request
