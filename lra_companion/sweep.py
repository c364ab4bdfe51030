"""Many runs at once: what is stored already, what is left, which runs share a batch, and on how many processes.

Runs of one shape (``runs.shape_key``) train side by side in one batched program; groups are cut into chunks where a
process would be left without work. Each finished run is stored at once. How runs are grouped changes nothing in their results.
With a store, runs in mid-training are kept as well, and no other process trains them meanwhile (``unfinished``).
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import traceback
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lra_companion import cluster, places, workers
from lra_companion.config import RunConfig
from lra_companion.memory import device_memory, runs_that_fit
from lra_companion.progress import watch
from lra_companion.runs import RunResult, shape_key
from lra_companion.store import ResultStore, environment
from lra_companion.training import run_group
from lra_companion.unfinished import Unfinished

CHUNK = 32
"""Runs in one batch at most: beyond this a CPU core gains nothing, and its cache loses."""
CUDA_CHUNK = 1024
"""On a GPU, where a batch of few runs leaves most of it idle."""


class SweepError(RuntimeError):
    """Some runs failed; all others were finished and stored first. ``failures`` maps a run's key to its error."""

    def __init__(self, failures: dict[str, str], asked: int) -> None:
        self.failures = failures
        reasons = "; ".join(sorted({reason(text) for text in failures.values()}))
        super().__init__(
            f"{len(failures)} of {asked} runs failed ({', '.join(sorted(failures)[:5])}): {reasons}"
        )


def reason(error: str) -> str:
    """What a traceback comes to, in a line."""
    return error.strip().splitlines()[-1]


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
    allows a bar on a terminal. Runs that another process of this machine trains into the same store are waited for.

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
        for finished, error in outcomes:
            results |= {result.config.key(): result for result in finished}
            failures |= error
            if store is not None:
                for key, text in error.items():
                    Unfinished(store).fail(left[key], reason(text))
        left = {key: config for key, config in left.items() if key not in results | failures}
        if store is not None:  # else none is left
            left = _still_left(left, results, store)
    if failures:
        raise SweepError(failures, len(configs))
    return [results[config.key()] for config in configs]


def _still_left(
    elsewhere: dict[str, RunConfig], results: dict[str, RunResult], store: ResultStore
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


def chunks(
    configs: Sequence[RunConfig], jobs: int, device: str = "cpu", memory: float | None = None
) -> list[list[RunConfig]]:
    """Groups of runs that train side by side, the longest first. A group is cut only where it would be too large or leave
    processes without work: the more runs in a batch, the less each costs.

    memory: bytes for each chunk; by default jobs share those of the device here. Raises ValueError where one run needs more.
    """
    memory = device_memory(device) / jobs if memory is None else memory
    largest = CHUNK if device == "cpu" else CUDA_CHUNK
    groups: dict[str, list[RunConfig]] = defaultdict(list)
    for config in configs:
        groups[shape_key(config)].append(config)
    pieces = []
    whole = sum(map(_work, groups.values()))
    for group in groups.values():
        parts = math.ceil(jobs * _work(group) / whole)  # its share of the processes
        size = min(largest, math.ceil(len(group) / parts), runs_that_fit(group[0], memory))
        pieces += [group[start : start + size] for start in range(0, len(group), size)]
    return sorted(pieces, key=_work, reverse=True)


def _work(chunk: Sequence[RunConfig]) -> float:
    """Rough cost of a chunk, in products of a step."""
    config = chunk[0]
    products = 2 * getattr(config.learner, "inner_steps", 1) + 1
    return len(chunk) * products * config.task.sequence_length * config.protocol.max_iterations


@dataclass(frozen=True)
class _Counter:
    """Model-iterations done by one chunk: a slot in a small file that processes share."""

    file: Path
    slot: int

    def add(self, count: int) -> None:
        np.memmap(self.file, dtype=np.int64, mode="r+")[self.slot] += count


_Task = tuple[list[RunConfig], ResultStore | None, _Counter, str]
_Outcome = tuple[list[RunResult], dict[str, str]]  # finished runs, and the error of each that failed


def _bar(
    pieces: list[list[RunConfig]], done: Callable[[], int], progress: bool
) -> contextlib.AbstractContextManager[None]:
    total = sum(config.protocol.max_iterations for piece in pieces for config in piece)
    return watch("training", total, done) if progress else contextlib.nullcontext()


def _train_here(
    configs: list[RunConfig], store: ResultStore | None, jobs: int, progress: bool, device: str
) -> Iterator[_Outcome]:
    """What became of each chunk, here or in processes that joblib starts. Runs that another process trains are missing."""
    pieces = chunks(configs, jobs, device)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "iterations"
        np.zeros(len(pieces), dtype=np.int64).tofile(file)
        tasks = [(piece, store, _Counter(file, slot), device) for slot, piece in enumerate(pieces)]
        with _bar(pieces, lambda: int(np.fromfile(file, dtype=np.int64).sum()), progress):
            if jobs == 1:
                for task in tasks:
                    yield _train_chunk(*task)
            else:
                yield from _train_in_processes(tasks, jobs)


def _train_in_processes(tasks: list[_Task], jobs: int) -> Iterator[_Outcome]:
    """A chunk that has its process killed is cut into single runs: one that does must not take others along."""
    broken: list[_Task] = []
    for place, outcome in workers.each(_train_chunk, tasks, jobs):
        piece, store, counter, device = tasks[place]
        if not isinstance(outcome, RuntimeError):
            yield outcome
        elif len(piece) == 1:
            yield [], {piece[0].key(): f"RuntimeError: {outcome}"}
        else:
            broken += [([config], store, counter, device) for config in piece]
    if broken:
        yield from _train_in_processes(broken, jobs)


def _train_there(
    configs: list[RunConfig], store: ResultStore | None, scheduler: str, progress: bool, device: str
) -> Iterator[_Outcome]:
    """What became of each chunk on a cluster's workers. They may share no disk with this process: it stores what comes back, as
    it comes, and nothing is kept of runs in mid-training.
    """
    with cluster.connect(scheduler, device) as nodes:
        pieces = chunks(configs, nodes.count, nodes.device, nodes.memory)
        with _bar(pieces, nodes.iterations, progress):
            for place, answer in nodes.each(_train_chunk, pieces):
                if isinstance(answer, BaseException):
                    yield [], {config.key(): repr(answer) for config in pieces[place]}
                    continue
                (finished, failures), made_with = answer
                for result in finished:
                    try:
                        if store is not None:
                            store.put(result, made_with)
                    except OSError:
                        failures[result.config.key()] = traceback.format_exc()
                yield finished, failures


def _train_chunk(
    piece: list[RunConfig], store: ResultStore | None, counter: cluster.Counter, device: str
) -> _Outcome:
    """Train a chunk. If it breaks off, its unfinished runs are tried one by one: one that fails must not take others along."""
    finished: list[RunResult] = []
    try:
        with contextlib.closing(train_unfinished(piece, store, counter.add, device)) as ended:
            for result in ended:
                result.parameters = None
                if store is not None:
                    store.put(result, environment(device))
                finished.append(result)
                counter.add(result.config.protocol.max_iterations - result.iterations)
        return finished, {}
    except Exception as error:
        done = {result.config.key() for result in finished}
        left = {config.key(): config for config in piece if config.key() not in done}
        if isinstance(error, OSError):  # what cannot be written now need not be computed once more
            return finished, dict.fromkeys(left, traceback.format_exc())
        if len(piece) == 1:
            if store is not None:
                Unfinished(store).begin_anew(piece[0])  # perhaps it is the checkpoint that is wrong
            return [], dict.fromkeys(left, traceback.format_exc())
    failures: dict[str, str] = {}
    for config in left.values():
        alone, failed = _train_chunk([config], store, counter, device)
        finished += alone
        failures |= failed
    return finished, failures


def train_unfinished(
    configs: Sequence[RunConfig],
    store: ResultStore | None,
    on_iteration: Callable[[int], None] | None = None,
    device: str = "cpu",
) -> Generator[RunResult]:
    """Train runs of one shape, and yield each as it ends, for the caller to store.

    With a store they are locked meanwhile, and gone on with from their checkpoints; those that another process trains or has
    stored are passed over. Raises OSError where the store cannot be written.
    """
    if store is None:
        yield from (result for _, result in run_group(configs, on_iteration=on_iteration, device=device))
        return
    unfinished = Unfinished(store, device)
    with unfinished.claimed(configs) as mine:
        if mine:
            for _, result in run_group(mine, on_iteration=on_iteration, device=device, keeper=unfinished):
                yield result
                unfinished.forget(result.config)
