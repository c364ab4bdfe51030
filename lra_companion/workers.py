"""Work shared by processes of this machine, of which one may be killed: by the kernel for want of memory, or by hand."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

_TRIES = 2  # beside other work; after that alone, for then it is known what had the process killed


def each(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], jobs: int
) -> Iterator[tuple[int, Any]]:
    """The place of each task and what ``function(*task)`` returned, as it comes; a RuntimeError in its stead where a process
    was killed whenever it did this, alone at last. jobs: at least 2.

    A killed process takes down those beside it. What they were about is begun again, all else goes on.
    """
    left = list(range(len(tasks)))
    killed = [0] * len(tasks)
    while left:
        beside = [place for place in left if killed[place] < _TRIES]
        now = beside or left[:1]
        run = Parallel(
            n_jobs=jobs,
            pre_dispatch=jobs,  # pyright: ignore[reportArgumentType]  # its default is a string
            batch_size=1,  # pyright: ignore[reportArgumentType]  # so is this one
            return_as="generator_unordered",
        )
        try:
            outcomes: Any = run(delayed(_call)(os.getpid(), place, function, tasks[place]) for place in now)
            for place, outcome in outcomes:
                left.remove(place)
                yield place, outcome
        except TerminatedWorkerError:
            if not beside:
                yield left.pop(0), RuntimeError("its process was killed, perhaps for want of memory")
            begun = [place for place in beside if place in left][:jobs]  # they are handed out in order
            for place in begun:
                killed[place] += 1


def _call(parent: int, place: int, function: Callable[..., Any], task: tuple[Any, ...]) -> tuple[int, Any]:
    _end_with(parent)
    return place, function(*task)


_watched: set[int] = set()


def _end_with(parent: int) -> None:
    """See to it that this process, one of joblib's, does not outlive the one that started it."""
    if parent in _watched:
        return
    _watched.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
