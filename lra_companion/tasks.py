"""The synthetic tasks of the paper (method.md, "Tasks"; Hochreiter & Schmidhuber 1997, Pascanu et al. 2013).

Every sequence comes from a generator of its own run: a batch depends on the run's seed and the iteration alone, never on which
runs train beside it. Positions count from 0; intervals are half open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from lra_companion.config import TaskConfig, TaskName
from lra_companion.network import Batch
from lra_companion.randomness import Split, run_generator

Interval = tuple[int, int]
Sample = tuple[NDArray[np.generic], NDArray[np.generic]]  # inputs (T, B) or (T, B, I), targets (B,) or (B, O)

_ADDING_TOLERANCE = 0.04  # of the squared error, as in Pascanu et al.

MARKER_INTERVALS: dict[TaskName, Callable[[int], list[Interval]]] = {
    "temporal_order": lambda steps: [
        (steps // 10, 2 * (steps // 10)),
        (steps // 2, steps // 2 + steps // 10),
    ],
    "temporal_order_3bit": lambda steps: [
        (steps // 10, 2 * (steps // 10)),
        (3 * steps // 10, 3 * steps // 10 + steps // 10),
        (6 * steps // 10, 6 * steps // 10 + steps // 10),
    ],
    "random_permutation": lambda steps: [(0, 1)],
    "adding": lambda steps: [(0, steps // 10), (steps // 10, steps // 10 + 4 * steps // 10)],
}
"""Where, in a sequence of T steps, what must be remembered stands: one interval [low, high) for each marker."""


@dataclass(frozen=True)
class Task:
    """A task at one sequence length. ``chance``: the share of sequences a guess without memory gets right."""

    name: TaskName
    sequence_length: int
    input_size: int
    output_size: int
    chance: float
    draw: Callable[[Generator, int, int], Sample]  # (generator, sequence_length, size)

    @property
    def symbols(self) -> bool:
        """Whether inputs are integer symbols, standing for one-hot rows of ``input_size``."""
        return self.name != "adding"

    @property
    def marker_intervals(self) -> list[Interval]:
        """Where this task's markers stand."""
        return MARKER_INTERVALS[self.name](self.sequence_length)

    def batch(self, seeds: Sequence[int], iteration: int, batch_size: int) -> Batch:
        """Training batch of each run: inputs (T, R, B[, I]), targets (R, B[, O]); a function of (seed, iteration)."""
        return self._batch(seeds, "training", iteration, batch_size)

    def evaluation_batch(self, seed: int, split: Split, size: int) -> Batch:
        """The fixed validation or test set of one run (R = 1)."""
        return self._batch([seed], split, 0, size)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Which sequences (R, B) count as solved by outputs (R, B, O)."""
        if targets.is_floating_point():
            return ((outputs - targets).square() <= _ADDING_TOLERANCE).all(-1)
        return outputs.argmax(-1) == targets

    def _batch(self, seeds: Sequence[int], split: Split, iteration: int, size: int) -> Batch:
        generators = [run_generator(seed, split, iteration) for seed in seeds]
        samples = [self.draw(generator, self.sequence_length, size) for generator in generators]
        return Batch(
            inputs=torch.from_numpy(np.stack([inputs for inputs, _ in samples], axis=1)),
            targets=torch.from_numpy(np.stack([targets for _, targets in samples])),
        )


def make_task(config: TaskConfig) -> Task:
    """The task a config names."""
    return _TASKS[config.name](config.sequence_length)


def _ordered_markers(name: TaskName) -> Callable[[Generator, int, int], Sample]:
    """Symbols c..f (2..5) everywhere but at one random position of each interval, where A or B (0, 1) stands."""

    def draw(generator: Generator, steps: int, size: int) -> Sample:
        intervals = MARKER_INTERVALS[name](steps)
        symbols = generator.integers(2, 6, (steps, size))
        values = generator.integers(0, 2, (len(intervals), size))
        for (low, high), value in zip(intervals, values, strict=True):
            symbols[generator.integers(low, high, size), np.arange(size)] = value
        weights = 2 ** np.arange(len(intervals))[:, None]
        return symbols, (values * weights).sum(0)

    return draw


def _first_symbol(generator: Generator, steps: int, size: int) -> Sample:
    """Symbol 0 or 1, then symbols 2..99 that say nothing; the target is the first symbol."""
    symbols = generator.integers(2, 100, (steps, size))
    symbols[0] = generator.integers(0, 2, size)
    return symbols, symbols[0].copy()


def _marked_sum(generator: Generator, steps: int, size: int) -> Sample:
    """A value in [0, 1) and a marker at each step; the target is half the sum of the two marked values."""
    inputs = np.zeros((steps, size, 2), dtype=np.float32)
    inputs[..., 0] = generator.random((steps, size), dtype=np.float32)
    columns = np.arange(size)
    targets = np.zeros((size, 1), dtype=np.float32)
    for low, high in MARKER_INTERVALS["adding"](steps):
        positions = generator.integers(low, high, size)
        inputs[positions, columns, 1] = 1
        targets[:, 0] += inputs[positions, columns, 0] / 2
    return inputs, targets


_TASKS: dict[TaskName, Callable[[int], Task]] = {
    "temporal_order": lambda steps: Task(
        "temporal_order", steps, 6, 4, 1 / 4, _ordered_markers("temporal_order")
    ),
    "temporal_order_3bit": lambda steps: Task(
        "temporal_order_3bit", steps, 6, 8, 1 / 8, _ordered_markers("temporal_order_3bit")
    ),
    "random_permutation": lambda steps: Task("random_permutation", steps, 100, 100, 1 / 2, _first_symbol),
    # Half the sum of two uniform values lies within 0.2 of 1/2 with probability 1 - 2 * 0.18.
    "adding": lambda steps: Task("adding", steps, 2, 1, 0.64, _marked_sum),
}
