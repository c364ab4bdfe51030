"""Estimates of memory: never below what training really holds, and not so far above it that much would be refused in vain."""

from pathlib import Path

import pytest

from lra_companion import compiled, memory, training
from lra_companion.chunks import CHUNK, CUDA_CHUNK, chunks
from lra_companion.config import RunConfig
from lra_companion.memory import bytes_needed, device_memory, runs_that_fit
from lra_companion.runs import RunState
from lra_companion.training import _Group, train
from runs import LEARNERS, bytes_alive, run_config


@pytest.mark.parametrize("with_compiler", [True, False])
@pytest.mark.parametrize("task", ["adding", "random_permutation"])
@pytest.mark.parametrize("name", LEARNERS)
def test_an_estimate_covers_what_training_holds(
    name: str, task: str, with_compiler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_compiler:
        monkeypatch.setattr(compiled, "available", lambda like: False)
    asked = {"validation_size": 100, "test_size": 100, "diagnostics": True, "batch_size": 16}
    config = run_config(name, task=task, length=40, hidden=64, optimiser="adam", **asked)

    def two_updates() -> None:
        group = _Group([(0, RunState(config)), (1, RunState(config.model_copy(update={"seed": 9})))])
        group.advance()
        group.advance()

    found, estimate = bytes_alive(two_updates), bytes_needed(config, 2)
    assert found < estimate < 5 * found


def test_a_large_set_of_sequences_counts() -> None:
    config = run_config("readout", task="adding", length=100, hidden=4, validation_size=20_000, test_size=10)
    task = training.make_task(config.task)
    sequences = task.evaluation_batch(1, "validation", 20_000).inputs
    assert sequences.numel() * 4 < bytes_needed(config) < 4 * sequences.numel() * 4


def test_no_more_runs_side_by_side_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [run_config("lra", seed=seed, length=50) for seed in range(40)]
    for count in (1, 3, 17):
        available = bytes_needed(configs[0], count)
        assert runs_that_fit(configs[0], available) == count
        assert max(len(piece) for piece in chunks(configs, 1, memory=available)) == count
        assert sum(len(piece) for piece in chunks(configs, 1, memory=available)) == 40
    assert max(len(piece) for piece in chunks(configs, 1)) == CHUNK
    assert [len(piece) for piece in chunks(configs, 1, "cuda", memory=1e12)] == [40] and CUDA_CHUNK > 40


def test_processes_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [run_config("lra", seed=seed) for seed in range(8)]
    monkeypatch.setattr("lra_companion.chunks.device_memory", lambda device: 2 * bytes_needed(configs[0], 2))
    assert [len(piece) for piece in chunks(configs, 2)] == [2, 2, 2, 2]


def test_refused_before_anything_is_bytes_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    config = run_config("lra")
    monkeypatch.setattr(training, "device_memory", lambda device: bytes_needed(config) - 1)
    monkeypatch.setattr(training, "_Group", lambda *_: pytest.fail("began"))
    with pytest.raises(
        ValueError, match=r"protocol\.batch_size = 4: a run of lra needs about .* GB of memory"
    ):
        train(config)


def test_the_least_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CONTROL_GROUP", tmp_path / "memory.max")
    whole = device_memory("cpu")
    assert 1e8 < whole < 1e14
    (tmp_path / "memory.max").write_text("max\n")
    assert device_memory("cpu") == whole
    (tmp_path / "memory.max").write_text("12345678\n")
    assert device_memory("cpu") == 12345678
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (1_000_000, 0))
    assert device_memory("cpu") == 1_000_000


def test_what_the_project_trains_fits_in_a_laptop() -> None:
    config = RunConfig.model_validate(
        {
            "task": {"name": "random_permutation", "sequence_length": 200},
            "learner": {"name": "lra"},
            "seed": 0,
        }
    )
    assert runs_that_fit(config, 8e9) >= CHUNK
