"""Many runs at once: what is stored already, what is left, and on how many processes it is trained.

Runs of one shape (``runs.shape_key``) train side by side in one batched program (``chunks``). Each finished run is stored at
once. How runs are grouped changes nothing in their results.
"""

from __future__ import annotations

import contextlib
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lra_companion import cluster, places, workers
from lra_companion.chunks import Outcome, chunks, train_chunk
from lra_companion.config import RunConfig
from lra_companion.progress import watch
from lra_companion.runs import RunResult
from lra_companion.store import ResultStore
from lra_companion.unfinished import Unfinished


class SweepError(RuntimeError):
    """Some runs failed; all others were finished and stored first. ``failures`` maps a run's key to its error, ``reasons`` to
    what that comes to, in a line.
    """

    def __init__(self, failures: dict[str, str], asked: int) -> None:
        self.failures = failures
        self.reasons = {key: text.strip().splitlines()[-1] for key, text in failures.items()}
        reasons = "; ".join(sorted(set(self.reasons.values())))
        super().__init__(
            f"{len(failures)} of {asked} runs failed ({', '.join(sorted(failures)[:5])}): {reasons}"
        )


def train_many(
    configs: Sequence[RunConfig],
    store: ResultStore | None = None,
    jobs: int = 1,
    progress: bool = True,
    device: str | None = None,
    scheduler: str | None = None,
) -> list[RunResult]:
    """Results of all runs, in the order of ``configs``; only those not in the store are trained.

    ``jobs`` processes share the work, one thread each; 1 trains in this process. ``scheduler``: the address of a Dask scheduler
    whose workers share it instead. ``device``: auto, cpu or cuda. What is not given of the two, ``places`` says. ``progress``
    allows a bar on a terminal. Runs that another process trains into the same store are waited for.

    Results hold no weights (``train`` does). Raises ValueError for a wrong number of jobs, device or address, and for runs that
    would not fit in memory; ConnectionError and ``cluster.WorkersError`` where a cluster is not to be had; SweepError if runs
    failed, once all others are done.
    """
    if type(jobs) is not int or jobs < 1:
        raise ValueError(f"jobs = {jobs!r}: must be a whole number, at least 1")
    for config in configs:
        if type(config) is not RunConfig:
            raise ValueError(f"configs hold {str(config)[:60]!r}: each must be a RunConfig")
    scheduler = places.scheduler_address(scheduler)
    results: dict[str, RunResult] = {}
    left: dict[str, RunConfig] = {}
    for config in configs:
        stored = store.get(config) if store is not None else None
        if stored is not None:
            results[config.key()] = stored
        else:
            left[config.key()] = config
    failures: dict[str, str] = {}
    while left:
        asked = list(left.values())
        if scheduler is None:
            outcomes = _train_here(asked, store, jobs, progress, places.usable_device(device))
        else:
            outcomes = _train_there(asked, store, scheduler, progress, places.device_name(device))
        for finished, errors in outcomes:
            results |= {result.config.key(): result for result in finished}
            failures |= errors
        left = {key: config for key, config in left.items() if key not in results | failures}
        if store is not None:  # without one no other process has any of them
            left = _still_left(left, store, results)
    if failures:
        error = SweepError(failures, len(configs))
        if store is not None:
            for config in configs:
                if config.key() in failures:
                    Unfinished(store).fail(config, error.reasons[config.key()])
        raise error
    return [results[config.key()] for config in configs]


def _still_left(
    elsewhere: dict[str, RunConfig], store: ResultStore, results: dict[str, RunResult]
) -> dict[str, RunConfig]:
    """Wait for runs that another process trains; add what it has stored to ``results``, return what it has left undone."""
    left = {}
    for key, config in elsewhere.items():
        Unfinished(store).wait_for(config)
        stored = store.get(config)
        if stored is not None:
            results[key] = stored
        else:
            left[key] = config
    return left


@dataclass(frozen=True)
class _Counter:
    """Model-iterations done by one chunk: a slot in a small file that processes share."""

    file: Path
    slot: int

    def add(self, count: int) -> None:
        np.memmap(self.file, dtype=np.int64, mode="r+")[self.slot] += count


def _bar(
    pieces: list[list[RunConfig]], done: Callable[[], int], progress: bool
) -> contextlib.AbstractContextManager[None]:
    total = sum(config.protocol.max_iterations for piece in pieces for config in piece)
    return watch("training", total, done) if progress else contextlib.nullcontext()


_Task = tuple[list[RunConfig], ResultStore | None, _Counter, str]  # what ``train_chunk`` is given


def _train_here(
    configs: list[RunConfig], store: ResultStore | None, jobs: int, progress: bool, device: str
) -> list[Outcome]:
    """Train on this machine, in this process or in some that joblib starts. Runs that other commands train are missing."""
    pieces = chunks(configs, jobs, device)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "iterations"
        np.zeros(len(pieces), dtype=np.int64).tofile(file)
        tasks: list[_Task] = [
            (piece, store, _Counter(file, slot), device) for slot, piece in enumerate(pieces)
        ]
        with _bar(pieces, lambda: int(np.fromfile(file, dtype=np.int64).sum()), progress):
            if jobs == 1:
                return [train_chunk(*task) for task in tasks]
            return _train_in_processes(tasks, jobs)


def _train_in_processes(tasks: list[_Task], jobs: int) -> list[Outcome]:
    """A chunk that has its process killed is begun again run by run: one that does must not take others along. A run that has
    its process killed by itself is begun again once more, when nothing else takes memory.
    """
    outcomes: list[Outcome] = []
    for at_once in (jobs, jobs, 1):
        killed: list[_Task] = []
        with contextlib.closing(workers.each(train_chunk, tasks, at_once)) as answers:
            for place, answer in answers:
                if isinstance(answer, workers.KilledError):
                    piece, store, counter, device = tasks[place]
                    killed += [([config], store, counter, device) for config in piece]
                else:
                    outcomes.append(answer)
        tasks = killed
    reason = "its process was killed every time, perhaps for want of memory"
    return [*outcomes, *(([], {piece[0].key(): reason}) for piece, *_ in tasks)]


def _train_there(
    configs: list[RunConfig], store: ResultStore | None, scheduler: str, progress: bool, device: str
) -> list[Outcome]:
    """Train on a cluster's workers. They may share no disk with this process: it stores what comes back, as it comes, and holds
    the locks; runs in mid-training are not kept.
    """
    outcomes: list[Outcome] = []
    with contextlib.ExitStack() as stack:
        crew = stack.enter_context(cluster.connect(scheduler, device))
        unfinished = None if store is None else Unfinished(store)
        if unfinished is not None:
            configs = stack.enter_context(unfinished.claimed(configs))
        pieces = chunks(configs, crew.count, crew.device, crew.memory)
        stack.enter_context(_bar(pieces, crew.iterations, progress))
        for place, answer in crew.each(train_chunk, pieces):
            if isinstance(answer, BaseException):
                outcomes.append(([], {config.key(): repr(answer) for config in pieces[place]}))
                continue
            (finished, failures), made_with = answer
            for result in finished:
                try:
                    if store is not None and unfinished is not None:
                        store.put(result, made_with)
                        unfinished.forget(result.config)
                except OSError:
                    failures[result.config.key()] = traceback.format_exc()
            outcomes.append((finished, failures))
    return outcomes
