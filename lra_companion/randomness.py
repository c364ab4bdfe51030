"""Where every random number of a run comes from: its seed, what the numbers are for, and the iteration."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.random import Generator

Split = Literal["training", "validation", "test"]
Stream = Split | Literal["weights", "parts", "inverse_weights", "inverse_noise"]
_STREAMS: dict[Stream, int] = {
    "training": 0,
    "validation": 1,
    "test": 2,
    "weights": 3,
    "parts": 4,
    "inverse_weights": 5,
    "inverse_noise": 6,
}


def run_generator(seed: int, stream: Stream, iteration: int = 0) -> Generator:
    """A generator for one purpose of one run: numbers depend on (seed, stream, iteration) alone.

    torch.Generator would use only the low 32 bits of a seed, and a plain list of integers as entropy is ambiguous.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAMS[stream], iteration)))
