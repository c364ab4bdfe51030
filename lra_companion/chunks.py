"""Runs that train side by side: into which chunks a sweep is cut, and what becomes of one.

With a store, runs in mid-training are kept as well, and no other process trains them meanwhile (``unfinished``).
"""

from __future__ import annotations

import contextlib
import math
import traceback
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from lra_companion.config import RunConfig
from lra_companion.memory import device_memory, runs_that_fit
from lra_companion.runs import RunResult, shape_key
from lra_companion.store import ResultStore, environment
from lra_companion.training import run_group
from lra_companion.unfinished import Unfinished

CHUNK = 32
"""Runs in one batch at most: beyond this a CPU core gains nothing, and its cache loses."""
CUDA_CHUNK = 1024
"""On a GPU, where a batch of few runs leaves most of it idle."""

Outcome = tuple[list[RunResult], dict[str, str]]
"""Finished runs, and the traceback of each that failed, by its key."""


class Counter(Protocol):
    """Told how many model-iterations were made."""

    def add(self, count: int) -> None:
        """``count`` more."""
        ...


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


def train_chunk(piece: list[RunConfig], store: ResultStore | None, counter: Counter, device: str) -> Outcome:
    """Train a chunk and store its runs. If it breaks off, its unfinished runs are tried one by one: one that fails must not
    take others along.
    """
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
        text = traceback.format_exc()
        done = {result.config.key() for result in finished}
        left = {config.key(): config for config in piece if config.key() not in done}
        if isinstance(error, OSError):  # what cannot be written now need not be computed once more
            return finished, dict.fromkeys(left, text)
        if len(piece) == 1:
            if store is not None:
                Unfinished(store).begin_anew(piece[0])  # perhaps it is the checkpoint that is wrong
            return [], dict.fromkeys(left, text)
    failures: dict[str, str] = {}
    for config in left.values():
        alone, failed = train_chunk([config], store, counter, device)
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
            ended = run_group(mine, on_iteration=on_iteration, device=device, keeper=unfinished)
            for _, result in ended:
                yield result
                unfinished.forget(result.config)
