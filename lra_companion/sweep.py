"""Many runs at once: what is stored already, what is left, which runs share a batch, and on how many processes.

Runs of one shape (``training.shape_key``) train side by side in one batched program; groups are cut into chunks where a
process would be left without work. Each finished run is stored at once. How runs are grouped changes nothing in their results.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from lra_companion.config import RunConfig
from lra_companion.progress import watch
from lra_companion.store import ResultStore
from lra_companion.training import RunResult, run_group, shape_key

CHUNK = 32
"""Runs in one batch at most: beyond this a CPU core gains nothing, and its cache loses."""


class SweepError(RuntimeError):
    """Some runs failed; all others were finished and stored first. ``failures`` maps a run's key to its error."""

    def __init__(self, failures: dict[str, str], asked: int) -> None:
        self.failures = failures
        reasons = "; ".join(sorted({text.strip().splitlines()[-1] for text in failures.values()}))
        super().__init__(
            f"{len(failures)} of {asked} runs failed ({', '.join(sorted(failures)[:5])}): {reasons}"
        )


def train_many(
    configs: Sequence[RunConfig], store: ResultStore | None = None, jobs: int = 1, progress: bool = True
) -> list[RunResult]:
    """Results of all runs, in the order of ``configs``; only those not in the store are trained.

    ``jobs`` processes share the work, one thread each; 1 trains in this process. ``progress`` allows a bar on a terminal.
    Results hold no weights (``train`` does). Raises ValueError if jobs < 1; SweepError if runs failed, once all others are
    done.
    """
    if jobs < 1:
        raise ValueError(f"jobs = {jobs}: must be at least 1")
    results: dict[str, RunResult] = {}
    left: dict[str, RunConfig] = {}
    for config in configs:
        stored = store.get(config) if store is not None else None
        if stored is not None:
            results[config.key()] = stored
        else:
            left[config.key()] = config
    failures: dict[str, str] = {}
    for finished, error in _train_chunks(chunks(list(left.values()), jobs), store, jobs, progress):
        results |= {result.config.key(): result for result in finished}
        failures |= error
    if failures:
        raise SweepError(failures, len(configs))
    return [results[config.key()] for config in configs]


def chunks(configs: Sequence[RunConfig], jobs: int) -> list[list[RunConfig]]:
    """Groups of runs that train side by side, the longest first. A group is cut only where it would be too large, or leave
    processes without work: the more runs in a batch, the less each costs.
    """
    groups: dict[str, list[RunConfig]] = defaultdict(list)
    for config in configs:
        groups[shape_key(config)].append(config)
    pieces = []
    parts = math.ceil(jobs / max(len(groups), 1))
    for group in groups.values():
        size = min(CHUNK, math.ceil(len(group) / parts))
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


_Outcome = tuple[list[RunResult], dict[str, str]]  # finished runs, and the error of each that failed


def _train_chunks(
    pieces: list[list[RunConfig]], store: ResultStore | None, jobs: int, progress: bool
) -> list[_Outcome]:
    if not pieces:
        return []
    total = sum(config.protocol.max_iterations for piece in pieces for config in piece)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "iterations"
        np.zeros(len(pieces), dtype=np.int64).tofile(file)
        counters = [_Counter(file, slot) for slot in range(len(pieces))]
        bar = watch("training", total, lambda: int(np.fromfile(file, dtype=np.int64).sum()))
        with bar if progress else contextlib.nullcontext():
            if jobs == 1:
                return [
                    _train_chunk(piece, store, counter)
                    for piece, counter in zip(pieces, counters, strict=True)
                ]
            tasks = [
                delayed(_train_chunk)(piece, store, counter)
                for piece, counter in zip(pieces, counters, strict=True)
            ]
            outcomes: Any = Parallel(n_jobs=jobs, pre_dispatch="all")(tasks)
            return list(outcomes)


def _train_chunk(piece: list[RunConfig], store: ResultStore | None, counter: _Counter) -> _Outcome:
    """Train a chunk. If it breaks off, its unfinished runs are tried one by one: one that fails must not take others along."""
    finished: list[RunResult] = []
    try:
        for _, result in run_group(piece, on_iteration=counter.add):
            result.parameters = None
            if store is not None:
                store.put(result)
            finished.append(result)
            counter.add(result.config.protocol.max_iterations - result.iterations)
    except Exception:
        if len(piece) == 1:
            return [], {piece[0].key(): traceback.format_exc()}
        done = {result.config.key() for result in finished}
        failures: dict[str, str] = {}
        for config in piece:
            if config.key() not in done:
                alone, error = _train_chunk([config], store, counter)
                finished += alone
                failures |= error
        return finished, failures
    return finished, {}
