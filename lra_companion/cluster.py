"""Training on an existing Dask cluster: who the workers are, whether they compute the same, and chunks of runs handed to them.

Dask's own futures are used. joblib's Dask backend, which wraps them, waits for ever once a task has taken its workers down with
it: such a future ends in an error that joblib's callback is never told of (joblib 1.6). A task whose worker dies is done again
on another by Dask itself.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch

from lra_companion.chunks import Counter
from lra_companion.config import RunConfig
from lra_companion.places import usable_device
from lra_companion.store import environment

_CONNECT_SECONDS = 10.0
_REPORT_SECONDS = 5.0  # between two messages of one worker about its progress: a thousand workers must not drown a scheduler
_LOOK_SECONDS = 0.2  # between two looks for what came back
_ALONE_SECONDS = 300.0  # without any worker before a sweep gives up
_SAME = ("lra_companion", "method", "torch", "numpy")  # what must agree, of ``store.environment``


class WorkersError(RuntimeError):
    """A cluster without workers, or with some that would compute something else."""


Chunk = Sequence[RunConfig]
Train = Callable[[Any, None, Counter, str], Any]  # (chunk, no store, counter, device) -> what became of it


@contextlib.contextmanager
def connect(address: str, device: str) -> Generator[Cluster]:
    """The workers of the scheduler at ``address``, for training on ``device`` (auto, cpu or cuda).

    Raises ValueError without the extra ``cluster``; ConnectionError where no scheduler answers; WorkersError naming the
    workers that lack the device or run other versions than this process, and where there is none.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ValueError(
            f"scheduler = {address!r}: needs Dask, which pip install 'lra-companion[cluster]' brings"
        ) from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost scheduler is told of below
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = _first_line(error)
        raise ConnectionError(f"scheduler = {address!r}: cannot be reached ({reason})") from None
    with client:
        yield Cluster(client, address, device)


class Cluster:
    """Workers that are ready. count: of one thread each; memory: bytes of the smallest; device: where the first computes."""

    def __init__(self, client: Any, address: str, device: str) -> None:
        self._client, self._address, self._asked_device = client, address, device
        self._expected = _versions()
        self._topic = f"lra-companion-{uuid.uuid4().hex}"
        self._done: dict[int, int] = {}
        workers: dict[str, dict[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            raise WorkersError(f"scheduler = {address!r}: has no workers")
        answers = client.run(_introduction, device, on_error="return")
        _agree(address, self._expected, workers, answers)
        self.count = len(workers)
        self.device: str = next(iter(answers.values()))["device"]
        self.memory = min(worker["memory_limit"] or sys.maxsize for worker in workers.values())

    def iterations(self) -> int:
        """Model-iterations that workers have told of."""
        return sum(self._done.values())

    def each(self, train: Train, pieces: Sequence[Chunk]) -> Iterator[tuple[int, Any]]:
        """What became of every piece, as it comes: its place in ``pieces``, and what ``train`` returned with the
        ``environment`` of its worker, or the error in which Dask's attempts at it ended.

        Raises ConnectionError where the scheduler is lost; WorkersError where no worker is left, or a late one is of another
        version.
        """
        from distributed import as_completed

        self._client.subscribe_topic(self._topic, lambda event: self._done.update([event[1]]))
        waiting = deque(enumerate(pieces))
        places: dict[Any, int] = {}
        arriving = as_completed(loop=self._client.loop, with_results=True, raise_errors=False)

        def hand_out() -> None:
            """No more than there are threads: Dask blames a dead worker on every task that it was given."""
            for _ in range(min(len(waiting), self._threads() - len(places))):
                place, piece = waiting.popleft()
                report = self._topic, place
                future = self._client.submit(
                    *(_train_remotely, train, list(piece), report, self._asked_device, self._expected),
                    pure=False,
                )
                places[future] = place
                arriving.add(future)

        while places or waiting:
            hand_out()
            self._wait_for(arriving, hand_out)
            future, answer = next(arriving)
            place = places.pop(future)
            if future.status == "cancelled":  # what becomes of all when the connection breaks
                raise self._lost()
            if future.status != "finished":
                answer = answer[1] if isinstance(answer, tuple) else answer
                if isinstance(answer, WorkersError):
                    raise answer
            future.release()
            self._done[place] = sum(config.protocol.max_iterations for config in pieces[place])
            yield place, answer

    def _wait_for(self, arriving: Any, hand_out: Callable[[], None]) -> None:
        """Return when there is an answer; meanwhile give work to workers that have come."""
        looked = alone_since = time.monotonic()
        while not arriving.has_ready():
            if time.monotonic() - looked > _REPORT_SECONDS:
                looked = time.monotonic()
                hand_out()
                alone_since = looked if self._threads() else alone_since
                if looked - alone_since > _ALONE_SECONDS:
                    raise WorkersError(
                        f"scheduler = {self._address!r}: has no workers left; finished runs are kept"
                    )
            time.sleep(_LOOK_SECONDS)

    def _threads(self) -> int:
        """Of all workers. Raises ConnectionError where the scheduler is lost."""
        try:
            return sum(self._client.nthreads().values())
        except (OSError, RuntimeError):  # RuntimeError: Dask has given the connection up
            raise self._lost() from None

    def _lost(self) -> ConnectionError:
        return ConnectionError(f"scheduler = {self._address!r}: lost; finished runs are kept")


def _versions() -> dict[str, Any]:
    """What must be the same everywhere. Builds of one PyTorch for CPUs and GPUs may differ: results say what made them."""
    found = environment()
    return {name: str(found[name]).split("+")[0] for name in _SAME}


def _introduction(device: str) -> dict[str, Any]:
    """What a worker says of itself."""
    return {"device": usable_device(device), "versions": _versions()}


def _agree(address: str, expected: Any, workers: Any, answers: dict[str, Any]) -> None:
    """Raise WorkersError with all that is wrong with any worker."""
    wrong = []
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            wrong.append(f"{worker} says {_first_line(answer)}")
        elif difference := _difference(answer["versions"], expected):
            wrong.append(f"{worker} has {difference}")
        elif workers[worker]["nthreads"] != 1:
            wrong.append(
                f"{worker} has {workers[worker]['nthreads']} threads, where one is needed (--nthreads 1)"
            )
    if wrong:
        raise WorkersError(f"scheduler = {address!r}: {'; '.join(wrong)}")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _difference(versions: dict[str, Any], expected: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {versions[name]} (here {value})"
        for name, value in expected.items()
        if versions[name] != value
    )


class _Abandoned(BaseException):
    """Nobody waits for this chunk any more. No Exception: one would be taken for a failing run."""


class _Reporter:
    """A counter that tells the client how far a chunk has come. A chunk that is begun again counts from zero again."""

    def __init__(self, topic: str, place: int) -> None:
        from distributed import get_worker

        self._worker, self._topic, self._place = get_worker(), topic, place
        self._task = self._worker.get_current_task()
        self._done, self._told = 0, time.monotonic()

    def add(self, count: int) -> None:
        """Told now and then; by the way, stop where the client has gone."""
        self._done += count
        if time.monotonic() - self._told < _REPORT_SECONDS:
            return
        self._told = time.monotonic()
        self._worker.log_event(self._topic, (self._place, self._done))
        task = self._worker.state.tasks.get(self._task)
        if task is None or task.state == "cancelled":
            raise _Abandoned


def _train_remotely(
    train: Train, piece: list[RunConfig], report: tuple[str, int], device: str, expected: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """On a worker: train a chunk; what became of it, and what it was made with."""
    from distributed import get_worker

    if difference := _difference(_versions(), expected):  # it came after the others had been asked
        raise WorkersError(f"{get_worker().address} has {difference}")
    torch.set_num_threads(1)
    device = usable_device(device)
    return train(piece, None, _Reporter(*report), device), environment(device)
