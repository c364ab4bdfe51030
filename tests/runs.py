"""Small runs that several test files share: their configs, and what it means that two results are the same."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from lra_companion import sweep
from lra_companion.config import RunConfig, parse
from lra_companion.training import RunResult

LEARNERS: dict[str, dict[str, Any]] = {
    "lra": {"name": "lra", "inner_steps": 2, "clip_norm": 0.0},
    "lra_clip": {
        "name": "lra",
        "inner_steps": 2,
        "clip_norm": 0.05,
        "reduction": "per_example",
        "local_loss": "mse",
    },
    "lra_normalise": {"name": "lra", "inner_steps": 2, "clip_norm": 0.5, "clip_mode": "normalise"},
    "lra_omega": {
        "name": "lra",
        "inner_steps": 2,
        "clip_norm": 0.5,
        "regularisation_strength": 0.3,
        "regularisation_scope": "example",
    },
    "bptt": {"name": "bptt"},
    "bptt_omega": {"name": "bptt", "clip_norm": 0.5, "regularisation_strength": 0.2},
    "readout": {"name": "readout"},
    "lra_released": {"name": "lra_released", "inner_steps": 2, "clip_norm": 0.05},
    "lra_released_omega": {"name": "lra_released", "inner_steps": 2, "regularisation_strength": 0.3},
    "tptt": {"name": "tptt"},
    "tptt_clip": {
        "name": "tptt",
        "target_step_size": 5.0,
        "inverse_learning_rate": 0.01,
        "inverse_noise": 0.1,
        "clip_norm": 0.05,
    },
    "lra_ablation_omega": {
        "name": "lra_ablation",
        "inner_steps": 2,
        "released": ["full_differentiation", "diagonal_slope"],
        "regularisation_strength": 0.3,
    },
}
OPTIMISERS = ["sgd", "nesterov", "adam", "rmsprop", "adagrad"]


def run_config(
    learner: str | dict[str, Any] = "bptt",
    seed: int = 1,
    task: str = "random_permutation",
    length: int = 10,
    hidden: int = 8,
    optimiser: str = "sgd",
    rate: float = 0.1,
    **protocol: Any,
) -> RunConfig:
    """A run that takes a few milliseconds; ``learner`` is a name of LEARNERS or a learner's fields."""
    small = {
        "batch_size": 4,
        "max_iterations": 6,
        "validate_every": 3,
        "validation_size": 50,
        "test_size": 50,
    }
    return parse(
        RunConfig,
        {
            "task": {"name": task, "sequence_length": length},
            "network": {"hidden_size": hidden},
            "optimiser": {"name": optimiser, "learning_rate": rate},
            "learner": LEARNERS[learner] if isinstance(learner, str) else learner,
            "protocol": small | protocol,
            "seed": seed,
        },
    )


def outcome(result: RunResult) -> dict[str, Any]:
    """All of a result that must be reproducible bit for bit, the weights apart."""
    return {
        "config": result.config,
        "status": result.status,
        "iterations": result.iterations,
        "validation_accuracy": result.validation_accuracy,
        "test_accuracy": result.test_accuracy,
        "history": result.history,
    }


def assert_same(one: RunResult, other: RunResult) -> None:
    """Two results are the same to the last bit, their weights too."""
    for name, value in outcome(one).items():
        assert value == outcome(other)[name], name
    assert one.parameters is not None
    assert other.parameters is not None
    for name in ("w_xh", "w_hh", "b_h", "w_hy", "b_y"):
        assert torch.equal(getattr(one.parameters, name), getattr(other.parameters, name)), name


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the progress bar of a sweep is told at its start and at its end: (total, done)."""
    seen: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def watch(_: str, total: int, done: Callable[[], int]) -> Iterator[None]:
        seen.append((total, done()))
        yield
        seen.append((total, done()))

    monkeypatch.setattr(sweep, "watch", watch)
    return seen


def bytes_alive(action: Callable[[], object]) -> int:
    """Most bytes of tensors alive at once, by torch's own profiler of allocations."""
    with torch.profiler.profile(profile_memory=True) as profile:
        action()
    alive = highest = 0
    for event in profile.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            alive += event.nbytes()
            highest = max(highest, alive)
    return highest
