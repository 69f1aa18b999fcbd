"""Decoding in a process of its own: what costs too much time or memory ends with it."""

import atexit
import contextlib
import multiprocessing
import signal

import psutil
from PIL import Image

from utils.demo.pictures import TOO_COSTLY, Picture, Refused, decode

CPU_LIMIT = 4.0  # seconds of one picture; 50 million pixels take 1.5
TIME_LIMIT = 15.0  # seconds by the clock, on a machine that does other things too
MEMORY_LIMIT = 1_200_000_000  # bytes of one picture; 50 million pixels take 800 MB
_CONTEXT = multiprocessing.get_context("spawn")  # TensorFlow's threads bear no fork


class Decoder:
    """Decodes one picture at a time in a child process, which is replaced where it fails."""

    def __init__(self):
        self._child = self._pipe = None
        atexit.register(self._stop)

    def __call__(self, content: bytes) -> Picture:
        """What `decode` makes of a file; `Refused` if that costs too much."""
        answer = None
        with contextlib.suppress(EOFError, OSError):  # the child has ended
            if not (self._child and self._child.is_alive()):
                self._start()
            self._pipe.send_bytes(content)
            answer = self._pipe.recv() if self._pipe.poll(TIME_LIMIT) else None
        if isinstance(answer, Picture):
            return answer
        if answer is None:
            self._stop()
        raise Refused(*answer or TOO_COSTLY)

    def _start(self) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        limits = (CPU_LIMIT, MEMORY_LIMIT)
        self._child = _CONTEXT.Process(target=_work, args=(theirs, *limits))
        self._child.start()
        theirs.close()
        self._pipe.recv()  # "ready": its imports are no cost of the picture

    def _stop(self) -> None:
        if self._child:
            self._child.kill()
            self._child.join()


def _work(pipe, seconds: float, memory: int) -> None:
    """The child: decode what arrives until the server is gone."""
    for name in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group; the server decides
        signal.signal(name, signal.SIG_IGN)
    Image.MAX_IMAGE_PIXELS = None  # `decode` has a limit of its own
    if psutil.LINUX:  # other systems keep to no such limit
        room = psutil.Process().memory_info().vms + memory
        psutil.Process().rlimit(psutil.RLIMIT_AS, (room, room))
    answer = "ready"
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(answer)
            content = pipe.recv_bytes()
            if hasattr(signal, "setitimer"):  # not on Windows
                signal.setitimer(signal.ITIMER_PROF, seconds)  # of this process; then it ends
            try:
                answer = decode(content)
            except Refused as error:
                answer = (error.status, error.code, str(error))
