"""The tasks (method.md, "Tasks"): the synthetic ones of Hochreiter & Schmidhuber 1997 and Pascanu et al. 2013, which make
their sequences anew, and one that draws on a fixed stock of real ones.

A batch depends on the run's seed and the iteration alone, never on which runs train beside it. Positions count from 0;
intervals are half open.
"""

from __future__ import annotations

import functools
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
Draw = Callable[[int, Split, int, int], Sample]  # (seed, split, iteration, size)

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
    "sequential_digits": lambda steps: [(0, steps)],  # no marker: the whole picture
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
    draw: Draw

    @property
    def symbols(self) -> bool:
        """Whether inputs are integer symbols, standing for one-hot rows of ``input_size``."""
        return self.name not in ("adding", "sequential_digits")

    @property
    def marker_intervals(self) -> list[Interval]:
        """Where this task's markers stand."""
        return MARKER_INTERVALS[self.name](self.sequence_length)

    def batch(self, seeds: Sequence[int], iteration: int, batch_size: int) -> Batch:
        """Training batch of each run: inputs (T, R, B[, I]), targets (R, B[, O]); a function of (seed, iteration)."""
        return self._batch(seeds, "training", iteration, batch_size)

    def evaluation_batch(self, seed: int, split: Split, size: int) -> Batch:
        """The fixed validation or test set of one run (R = 1); where the stock is smaller than ``size``, all there is."""
        return self._batch([seed], split, 0, size)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Which sequences (R, B) count as solved by outputs (R, B, O)."""
        if targets.is_floating_point():
            return ((outputs - targets).square() <= _ADDING_TOLERANCE).all(-1)
        return outputs.argmax(-1) == targets

    def _batch(self, seeds: Sequence[int], split: Split, iteration: int, size: int) -> Batch:
        samples = [self.draw(seed, split, iteration, size) for seed in seeds]
        return Batch(
            inputs=torch.from_numpy(np.stack([inputs for inputs, _ in samples], axis=1)),
            targets=torch.from_numpy(np.stack([targets for _, targets in samples])),
        )


def make_task(config: TaskConfig) -> Task:
    """The task a config names."""
    return _TASKS[config.name](config.sequence_length)


def _made_anew(make: Callable[[Generator, int, int], Sample], steps: int) -> Draw:
    """Sequences without end: every batch and every set from a generator of its own."""
    return lambda seed, split, iteration, size: make(run_generator(seed, split, iteration), steps, size)


def _ordered_markers(name: TaskName) -> Callable[[Generator, int, int], Sample]:
    """Symbols c..f (2..5) everywhere but at one random position of each interval, where A or B (0, 1) stands."""

    def make(generator: Generator, steps: int, size: int) -> Sample:
        intervals = MARKER_INTERVALS[name](steps)
        symbols = generator.integers(2, 6, (steps, size))
        values = generator.integers(0, 2, (len(intervals), size))
        for (low, high), value in zip(intervals, values, strict=True):
            symbols[generator.integers(low, high, size), np.arange(size)] = value
        weights = 2 ** np.arange(len(intervals))[:, None]
        return symbols, (values * weights).sum(0)

    return make


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


def _digits(steps: int) -> Draw:
    """Pictures of handwritten digits, read from the top left in ``steps`` pieces of equal size; the target is the digit.

    A run's seed deals the pictures out into three parts. Training batches are drawn from the first with replacement.
    """

    def draw(seed: int, split: Split, iteration: int, size: int) -> Sample:
        pixels, digits = _pictures()
        part, generator = _parts(seed)[split], run_generator(seed, split, iteration)
        chosen = generator.choice(part, size) if split == "training" else part[:size]
        return pixels[chosen].reshape(len(chosen), steps, -1).swapaxes(0, 1), digits[chosen]

    return draw


@functools.cache
def _pictures() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The 1797 pictures of 8x8 pixels that come with scikit-learn (Alpaydin & Kaynak 1998): brightness in [0, 1] (1797, 64) in
    the order of reading, and digits (1797,).
    """
    from sklearn.datasets import load_digits  # takes a second, and one task needs it

    pixels, digits = load_digits(return_X_y=True)
    return np.asarray(pixels / 16, dtype=np.float32), np.asarray(digits, dtype=np.int64)


@functools.lru_cache(maxsize=1024)
def _parts(seed: int) -> dict[Split, NDArray[np.int64]]:
    """Which pictures a run trains on, is validated on and is tested on: 60, 20 and 20 %, dealt out by its seed."""
    count = len(_pictures()[1])
    order = run_generator(seed, "parts").permutation(count)
    training, validation, test = np.split(order, [3 * count // 5, 4 * count // 5])
    return {"training": training, "validation": validation, "test": test}


_TASKS: dict[TaskName, Callable[[int], Task]] = {
    "temporal_order": lambda steps: Task(
        "temporal_order", steps, 6, 4, 1 / 4, _made_anew(_ordered_markers("temporal_order"), steps)
    ),
    "temporal_order_3bit": lambda steps: Task(
        "temporal_order_3bit", steps, 6, 8, 1 / 8, _made_anew(_ordered_markers("temporal_order_3bit"), steps)
    ),
    "random_permutation": lambda steps: Task(
        "random_permutation", steps, 100, 100, 1 / 2, _made_anew(_first_symbol, steps)
    ),
    # Half the sum of two uniform values lies within 0.2 of 1/2 with probability 1 - 2 * 0.18.
    "adding": lambda steps: Task("adding", steps, 2, 1, 0.64, _made_anew(_marked_sum, steps)),
    "sequential_digits": lambda steps: Task(
        "sequential_digits", steps, 64 // steps, 10, 1 / 10, _digits(steps)
    ),
}
