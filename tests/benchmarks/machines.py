"""The tables of book/machines_table.txt and book/workers_table.txt, from what was measured and from assumptions that a reader
replaces: python tests/benchmarks/machines.py tests/benchmarks/measured.json book
"""

from __future__ import annotations

import heapq
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lra_companion.chunks import chunks
from lra_companion.config import RunConfig

CORE_EUROS, GPU_EUROS = 0.05, 3.0
"""Assumed price of an hour of one core, and of one GPU with the machine around it."""
GPU_RATE = 5e12
"""Assumed: operations a second that a GPU keeps up in products of this size. None was measured."""
MACHINES = {"one core": 1, "laptop, 8 cores": 8, "node of a cluster, 64 cores": 64, "1000 cores": 1000}
WORKERS = (1, 8, 64, 200, 400, 1000)

_RATE = "model-iterations a second and core, K = 10, alpha > 0, T = 20, R = 32"
_SCHEDULER = "milliseconds of a chunk's way through a scheduler"


def _run(steps: int, alpha: float, seed: int) -> RunConfig:
    return RunConfig.model_validate(
        {
            "task": {"name": "random_permutation", "sequence_length": steps},
            "learner": {"name": "lra", "regularisation_strength": alpha},
            "protocol": {"max_iterations": 20_000},
            "seed": seed,
        }
    )


PLAN = [
    _run(steps, alpha, seed)
    for steps in (20, 50, 100, 200)
    for alpha in (0.0, 0.01, 0.1, 1.0)
    for seed in range(25)
]


def operations(config: RunConfig) -> float:
    """Of the products that one iteration of a run of LRA takes (how_fast)."""
    steps, inner, hidden = config.task.sequence_length, config.learner.inner_steps, config.network.hidden_size  # type: ignore[union-attr]
    return 2 * config.protocol.batch_size * hidden**2 * (steps + 2 * inner * (steps - 1))


def machines_table(measured: dict[str, Any]) -> str:
    """Markdown: model-iterations a second and a euro, T = 20."""
    rate = _value(measured, _RATE)
    rows = [(name, rate * cores, CORE_EUROS * cores) for name, cores in MACHINES.items()]
    rows.append(("one GPU (assumed)", GPU_RATE / operations(_run(20, 0.1, 0)), GPU_EUROS))
    lines = [
        f"| {name} | {speed:,.0f} | {euros:,.2f} | {3600 * speed / euros / 1e6:,.0f} |"
        for name, speed, euros in rows
    ]
    head = "| machine | model-iterations a second | euros an hour | million model-iterations a euro |"
    return "\n".join([head, "|---|---|---|---|", *lines, "", _assumptions(), ""])


def workers_table(measured: dict[str, Any]) -> str:
    """Markdown: what workers make of the plan, every run taking all its iterations."""
    rate, overhead = _value(measured, _RATE), _value(measured, _SCHEDULER) / 1000
    lines = []
    for workers in WORKERS:
        pieces = chunks(PLAN, workers, memory=1e12)
        costs = [_seconds(piece, rate) + overhead for piece in pieces]
        hours = _until_done(costs, workers) / 3600
        used = sum(costs) / 3600 / (hours * workers)
        lines.append(
            f"| {workers:,} | {len(pieces):,} | {max(map(len, pieces))} | {hours:,.1f} | {used:.0%} | "
            f"{overhead * len(pieces):,.1f} | {CORE_EUROS * workers * hours:,.0f} |"
        )
    head = ["workers", "chunks", "runs in the largest", "hours until done", "of the workers' time used"]
    head += ["seconds of the scheduler", "euros"]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines, ""])


def _value(measured: dict[str, Any], what: str) -> float:
    (row,) = (row for row in measured["rows"] if row["what"] == what)
    return row["value"]


def _seconds(piece: Sequence[RunConfig], rate: float) -> float:
    """At the measured rate, in proportion to the products."""
    standard = operations(_run(20, 0.1, 0))
    return sum(config.protocol.max_iterations * operations(config) / standard for config in piece) / rate


def _until_done(costs: Sequence[float], workers: int) -> float:
    """Each chunk, in this order, goes to the worker that is free first."""
    free = [0.0] * workers
    for cost in costs:
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


def _assumptions() -> str:
    return (
        f"Assumed: {CORE_EUROS:.2f} euros for an hour of a core, {GPU_EUROS:.2f} for one of a GPU, and {GPU_RATE / 1e12:.0f} "
        "million million operations a second for products of this size on a GPU."
    )


if __name__ == "__main__":
    numbers = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for table in (machines_table, workers_table):
        (Path(sys.argv[2]) / f"{table.__name__}.txt").write_text(table(numbers), encoding="utf-8")
