"""Speed as ratios within one run: `make bench` prints a table and writes build/bench.json. Nothing here fails for being slow.

Rates count the matrix products of eqs. 1 and 7 alone, 2 M N K operations each; the ceiling is torch.baddbmm at
(32, 20, 100) x (32, 100, 100) in the same run. One thread unless said, and then processor time: other programs on the machine
count only where they crowd its caches.
"""

from __future__ import annotations

import contextlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.table import Table

from lra_companion import compiled
from lra_companion.cluster import connect
from lra_companion.config import BPTTConfig, LRAConfig, RunConfig, TaskConfig
from lra_companion.learners import make_learner
from lra_companion.network import Parameters, initial_parameters
from lra_companion.runs import RunState
from lra_companion.sweep import train_many
from lra_companion.tasks import make_task
from lra_companion.training import _Group
from runs import bytes_alive

B, H, REPEATS = 20, 100, 9
ROWS: list[dict[str, Any]] = []


@pytest.fixture(scope="module", autouse=True)
def _one_thread_and_a_table() -> Any:
    torch.set_num_threads(1)
    yield
    table = Table("what", "measured", "target")
    for row in ROWS:
        table.add_row(row["what"], row["measured"], row["target"])
    Console(width=120).print(table)
    target = Path("build/bench.json")
    target.parent.mkdir(exist_ok=True)
    made_with = {"torch": torch.__version__, "compiled": compiled.made_by(), "processor": platform.machine()}
    target.write_text(json.dumps({"made_with": made_with, "rows": ROWS}, indent=1) + "\n", encoding="utf-8")


def note(what: str, value: float, target: str, form: str = "{:.2f}") -> None:
    ROWS.append({"what": what, "value": value, "measured": form.format(value), "target": target})


def medians(
    *actions: Callable[[], Any], repeats: int = REPEATS, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Median seconds of each action; all are tried in turn, so that a noisy machine disturbs them alike."""
    seconds: list[list[float]] = [[] for _ in actions]
    for action in actions:
        action()
    for _ in range(repeats):
        for place, action in enumerate(actions):
            start = clock()
            action()
            seconds[place].append(clock() - start)
    return [statistics.median(times) for times in seconds]


@contextlib.contextmanager
def without_compiled_code() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "available", lambda like: False)
        yield


def in_torch(action: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> None:
        with without_compiled_code():
            action()

    return run


def problem(runs: int, steps: int, task: str = "random_permutation") -> tuple[Parameters, Any]:
    setting = make_task(TaskConfig(name=task, sequence_length=steps))
    weights = initial_parameters(range(runs), setting.input_size, H, setting.output_size)
    return weights, setting.batch(range(runs), 0, B)


def lra_step(runs: int, steps: int = 20, inner_steps: int = 10, alpha: float = 0.1) -> Callable[[], Any]:
    config = LRAConfig(name="lra", inner_steps=inner_steps, regularisation_strength=alpha)
    learner = make_learner([config] * runs)
    weights, batch = problem(runs, steps)
    return lambda: learner.gradients(weights, batch)


def products(runs: int, steps: int, inner_steps: int) -> float:
    """Operations of the forward pass and of the inner steps of eq. 7."""
    return runs * 2 * B * H * H * (steps + 2 * inner_steps * (steps - 1))


def ceiling() -> Callable[[], Any]:
    added, left, right = torch.randn(32, B, H), torch.randn(32, B, H), torch.randn(32, H, H)
    out = torch.empty_like(added)

    def run() -> None:
        for _ in range(20):
            torch.baddbmm(added, left, right, out=out)

    return run


@pytest.mark.parametrize(("runs", "target"), [(32, "at least 0.50"), (1, "at least 0.35")])
def test_rate(runs: int, target: str) -> None:
    top, step = medians(ceiling(), lra_step(runs))
    rate, highest = products(runs, 20, 10) / step, 20 * 32 * 2 * B * H * H / top
    note(f"rate of an lra step over baddbmm, K = 10, alpha > 0, R = {runs}", rate / highest, target)


@pytest.mark.parametrize(("runs", "inner_steps"), [(32, 10), (1, 10), (32, 1)])
def test_compiled_over_torch(runs: int, inner_steps: int) -> None:
    step = lra_step(runs, inner_steps=inner_steps)
    fast, slow = medians(step, in_torch(step))
    note(f"an lra step in PyTorch over the compiled one, K = {inner_steps}, R = {runs}", slow / fast, "")


def test_tanh() -> None:
    x = torch.randn(32, B, H)
    ours, theirs = medians(
        lambda: [compiled.tanh(x) for _ in range(20)], lambda: [torch.tanh(x) for _ in range(20)]
    )
    note("torch.tanh over the compiled tanh, 64,000 numbers", theirs / ours, "")


def test_cost_of_regularisation() -> None:
    plain, regularised = medians(lra_step(32, alpha=0.0), lra_step(32, alpha=0.1))
    note("cost of alpha > 0 over alpha = 0, R = 32", regularised / plain, "at most 1.15")


def test_growth_with_sequence_length() -> None:
    lengths = [20, 40, 80, 160, 320]
    times = medians(*[lra_step(8, steps=length) for length in lengths], repeats=5)
    slope = np.polyfit(np.log(lengths), np.log(times), 1)[0]
    note("growth of a step's time, T = 20 to 320 (slope of logs)", float(slope), "at most 1.05")


def test_memory_per_step() -> None:
    def peak(steps: int) -> int:
        return bytes_alive(lra_step(4, steps=steps, inner_steps=2))

    lengths = [20, 40, 80, 160]
    peaks = [peak(length) for length in lengths]
    per_step = np.polyfit(lengths, peaks, 1)[0] / 4
    note("peak memory per time step and run (KiB), B = 20", float(per_step) / 1024, "linear in T", "{:.0f}")
    slope = np.polyfit(np.log(lengths), np.log(peaks), 1)[0]
    note("growth of peak memory with T (slope of logs)", float(slope), "about 1")


def run_config(seed: int, iterations: int) -> RunConfig:
    return RunConfig.model_validate(
        {
            "task": {"name": "random_permutation", "sequence_length": 20},
            "learner": {"name": "lra", "regularisation_strength": 0.1},
            "protocol": {"max_iterations": iterations},
            "seed": seed,
        }
    )


def test_everything_but_the_learner() -> None:
    """A hundred updates and the check that follows them, as in the paper's protocol (10,000 sequences every 100 updates)."""
    group = _Group([(seed, RunState(run_config(seed, 1000))) for seed in range(32)])
    group.advance()  # the check before any update, and the first update
    learner, spent = group.learner, 0.0

    class Timed:
        def gradients(self, *arguments: Any, **keywords: Any) -> Any:
            nonlocal spent
            start = time.process_time()
            try:
                return learner.gradients(*arguments, **keywords)
            finally:
                spent += time.process_time() - start

    group.learner = Timed()  # type: ignore[assignment]
    start = time.process_time()
    for _ in range(100):
        group.advance()
    whole = time.process_time() - start
    note("all that is not the learner, at the paper's protocol, R = 32", 1 - spent / whole, "at most 0.10")
    note("model-iterations a second and core, K = 10, alpha > 0, T = 20, R = 32", 3200 / whole, "", "{:.0f}")


def test_two_processes_over_one() -> None:
    configs = [run_config(seed, 20) for seed in range(64)]
    train_many(configs[:2], jobs=2)  # start the processes
    one, two = medians(
        lambda: train_many(configs, jobs=1),
        lambda: train_many(configs, jobs=2),
        repeats=3,
        clock=time.perf_counter,
    )
    note("two processes over one, R = 64", one / two, "at least 1.7 on two cores")


def test_a_chunk_s_way_through_a_scheduler() -> None:
    """What a cluster adds to each chunk of runs: 500 that do nothing, shared by two workers on this machine."""
    distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
    pieces = [[run_config(seed, 1)] for seed in range(500)]
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as local,
        connect(local.scheduler_address, "cpu") as workers,
    ):
        list(workers.each(lambda *_: None, pieces[:20]))  # imports
        start = time.perf_counter()
        assert len(list(workers.each(lambda *_: None, pieces))) == 500
        seconds = time.perf_counter() - start
    note("milliseconds of a chunk's way through a scheduler", 1000 * seconds / 500, "", "{:.1f}")


def test_lra_over_bptt() -> None:
    learner = make_learner([BPTTConfig(name="bptt")] * 32)
    weights, batch = problem(32, 20)
    lra, bptt = medians(lra_step(32, inner_steps=1, alpha=0.0), lambda: learner.gradients(weights, batch))
    note("an lra step (K = 1) over a bptt step, T = 20, R = 32", lra / bptt, "at most 3")
