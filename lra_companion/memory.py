"""How much memory training takes, told before it is taken: what cannot fit is refused instead of ending the process.

Estimates are upper ones, of what is alive at once: the arrays over time that a learning rule holds, copies of the weights, and
one run's largest set of sequences.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

from lra_companion.config import RunConfig
from lra_companion.tasks import make_task

_REAL = 4  # bytes of a float32
_SYMBOL = 8  # and of an int64
_ARRAYS = {"lra": 16, "bptt": 4, "readout": 3, "tptt": 10, "lra_released": 80}
"""Arrays (T, B, H) that a rule holds at once for each run, where it holds most: with Ω, and without compiled code."""
_ABLATION_ARRAYS_PER_STEP = (
    1.4  # lra_ablation differentiates back through every earlier step, and holds them all
)
_WEIGHT_COPIES = 10  # weights, gradients, moves, the optimiser's averages, and what is in the making
_EVALUATED_AT_ONCE = 500  # sequences, as in ``training.accuracy``
_CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")  # what a container or a Slurm job may use


def bytes_needed(config: RunConfig, runs: int = 1) -> float:
    """Upper estimate of the bytes that training takes, for ``runs`` of this shape side by side."""
    task = make_task(config.task)
    steps, hidden, size = config.task.sequence_length, config.network.hidden_size, config.protocol.batch_size
    sequence = 2 * steps * (_SYMBOL if task.symbols else _REAL * task.input_size)  # drawn, then stacked
    arrays = _ARRAYS.get(config.learner.name, _ABLATION_ARRAYS_PER_STEP * steps)
    weights = hidden * (task.input_size + hidden + task.output_size)
    states = arrays * (steps + 2) * size * hidden
    each = _REAL * (states + _WEIGHT_COPIES * weights) + size * sequence
    protocol = config.protocol
    largest = max(protocol.validation_size, protocol.test_size)
    at_once = min(largest, _EVALUATED_AT_ONCE)
    return runs * each + largest * sequence + _REAL * _ARRAYS["readout"] * steps * at_once * hidden


def runs_that_fit(config: RunConfig, available: float) -> int:
    """How many runs of this shape train side by side in so many bytes. Raises ValueError where not even one does."""
    one = bytes_needed(config)
    if one > available:
        raise ValueError(
            f"task.sequence_length = {config.task.sequence_length}, network.hidden_size = {config.network.hidden_size}, "
            f"protocol.batch_size = {config.protocol.batch_size}: a run of {config.learner.name} needs about "
            f"{one / 1e9:,.1f} GB of memory, and {available / 1e9:,.1f} GB are allowed"
        )
    return 1 + int(min((available - one) / (bytes_needed(config, 2) - one), sys.maxsize))


def refuse_too_large(configs: Iterable[RunConfig], available: float) -> None:
    """Raise ValueError where one of the runs alone would not fit in so many bytes."""
    for config in configs:
        runs_that_fit(config, available)


def device_memory(device: str) -> float:
    """Bytes there are on ``cpu`` or ``cuda``, whatever else is using them now."""
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        limits.append(address_space)
    if _CONTROL_GROUP.exists() and (text := _CONTROL_GROUP.read_text().strip()).isdigit():
        limits.append(float(text))
    return min(limits)
