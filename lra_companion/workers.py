"""Work shared by processes of this machine, of which one may be killed: by the kernel for want of memory, or by hand."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from types import FrameType
from typing import Any

from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError


class KilledError(RuntimeError):
    """A task had its process killed."""


def each(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], jobs: int
) -> Generator[tuple[int, Any]]:
    """The place of each task and what ``function(*task)`` returned, as it comes; a KilledError in its stead where its process
    was killed. Processes end with this generator.
    """
    # Pools of one: in a larger one a killed process takes down those beside it, and nobody knows which task was to blame.
    free = [_process() for _ in range(min(jobs, len(tasks)))]
    waiting = deque(enumerate(tasks))
    running: dict[Future[Any], tuple[int, Any]] = {}
    try:
        while waiting or running:
            while free and waiting:
                place, task = waiting.popleft()
                with _undisturbed():
                    process = free.pop()
                    running[process.submit(function, *task)] = place, process
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                place, process = running.pop(future)
                try:
                    answer = future.result()
                except TerminatedWorkerError:
                    answer = KilledError()
                    process = _process()
                free.append(process)
                yield place, answer
    finally:
        for process in [*free, *(process for _, process in running.values())]:
            process.shutdown(kill_workers=True)


@contextlib.contextmanager
def _undisturbed() -> Generator[None]:
    """Put a request to end off until a process has started: loky, interrupted there, leaves semaphores behind, and warns.

    Python hands signals to the main thread alone; elsewhere there is nothing to put off.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[tuple[int, FrameType | None]] = []
    requests = (signal.SIGINT, signal.SIGTERM)
    # a handler that cannot be called is not Python's
    own = {number: handler for number in requests if callable(handler := signal.getsignal(number))}
    for number in own:
        signal.signal(number, lambda *what: heard.append(what))
    try:
        yield
    finally:
        for number, handler in own.items():
            signal.signal(number, handler)
    if heard:
        own[signal.Signals(heard[0][0])](*heard[0])


def _process() -> ProcessPoolExecutor:
    """A pool of one process, which starts with its first task."""
    return ProcessPoolExecutor(
        1, env={"OMP_NUM_THREADS": "1"}, initializer=_belong_to, initargs=(os.getpid(),)
    )


def _belong_to(parent: int) -> None:
    """Leave Ctrl-C, which all processes of a terminal hear, to the one that started this; but do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
