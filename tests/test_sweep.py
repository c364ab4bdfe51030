"""Many runs at once: what is stored is not trained again, what fails does not take others with it."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lra_companion import training
from lra_companion.chunks import CHUNK, chunks
from lra_companion.config import RunConfig
from lra_companion.learners import make_learner
from lra_companion.store import ResultStore
from lra_companion.sweep import SweepError, train_many
from lra_companion.training import run_group, shape_key, train
from runs import outcome, run_config, watched

MIXED = [
    run_config("lra", seed=1),
    run_config("bptt", seed=1),
    run_config("lra", seed=2),
    run_config("readout", seed=1, task="adding"),
    run_config("lra_omega", seed=1),
    run_config("bptt", seed=2, length=12),
    run_config("lra", seed=3, rate=0.3),
]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Which runs are really trained, in this process."""
    seen: list[RunConfig] = []
    real = run_group

    def spy(configs: Sequence[RunConfig], **kwargs: Any) -> Any:
        seen.extend(configs)
        return real(configs, **kwargs)

    monkeypatch.setattr("lra_companion.chunks.run_group", spy)
    return seen


def test_results_come_in_the_order_of_the_configs_and_are_those_of_single_runs() -> None:
    for result, config in zip(train_many(MIXED), MIXED, strict=True):
        assert outcome(result) == outcome(train(config))


def test_nothing_to_do(tmp_path: Path) -> None:
    assert train_many([]) == []
    assert train_many([], ResultStore(tmp_path / "store"), jobs=2) == []


def test_stored_runs_are_not_trained_again(tmp_path: Path, trained: list[RunConfig]) -> None:
    store = ResultStore(tmp_path)
    first = train_many(MIXED[:4], store)
    assert len(trained) == 4 and len(list(store.load_all())) == 4
    trained.clear()
    again = train_many(MIXED[::-1], store)
    assert {config.key() for config in trained} == {config.key() for config in MIXED[4:]}
    assert [outcome(result) for result in again[::-1][:4]] == [outcome(result) for result in first]
    assert [result.config for result in again] == MIXED[::-1]
    trained.clear()
    train_many(MIXED, store)
    assert trained == []


def test_a_damaged_result_is_trained_again(tmp_path: Path, trained: list[RunConfig]) -> None:
    store = ResultStore(tmp_path)
    first = train_many(MIXED[:2], store)
    file = tmp_path / f"{MIXED[0].key()}.json"
    file.write_text(file.read_text()[:-20])
    trained.clear()
    assert [outcome(result) for result in train_many(MIXED[:2], store)] == [outcome(each) for each in first]
    assert trained == MIXED[:1]
    assert file.exists()


def test_the_same_run_asked_for_twice_is_trained_once(trained: list[RunConfig]) -> None:
    asked = [MIXED[0], MIXED[1], MIXED[0], MIXED[0]]
    results = train_many(asked)
    assert len(trained) == 2
    assert [result.config for result in results] == asked
    assert outcome(results[0]) == outcome(results[2]) == outcome(results[3])


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for one, two in zip(train_many(MIXED), train_many(MIXED, store, jobs=2), strict=True):
        assert outcome(one) == outcome(two)
    assert len(list(store.load_all())) == len(MIXED)


@pytest.mark.parametrize("jobs", [0, -1])
def test_at_least_one_job(jobs: int, trained: list[RunConfig]) -> None:
    with pytest.raises(ValueError, match=f"jobs = {jobs}"):
        train_many(MIXED, jobs=jobs)
    assert trained == []


@pytest.mark.parametrize("jobs", [1, 2, 3, 7])
def test_chunks_cover_each_run_once_and_share_shape_and_size(jobs: int) -> None:
    configs = [run_config(learner, seed=seed) for learner in ("bptt", "lra") for seed in range(CHUNK + 9)]
    configs += MIXED[3:6]
    pieces = chunks(configs, jobs)
    counted = collections.Counter(config.key() for piece in pieces for config in piece)
    assert counted == collections.Counter(config.key() for config in configs)
    for piece in pieces:
        assert 1 <= len(piece) <= CHUNK
        assert len({shape_key(config) for config in piece}) == 1
    if jobs > 1:
        of_bptt = [piece for piece in pieces if piece[0].learner.name == "bptt" and len(piece) > 1]
        assert len(of_bptt) >= min(jobs, 2), "every process has work"


def test_each_shape_gets_its_share_of_the_processes() -> None:
    configs = [run_config("lra", seed=seed, length=length) for length in (10, 70) for seed in range(21)]
    lengths = collections.Counter(piece[0].task.sequence_length for piece in chunks(configs, 8))
    assert lengths == {70: 7, 10: 1}, "seven eighths of the work are in the longer runs"


def test_the_longest_chunk_comes_first() -> None:
    short, long = run_config("bptt", max_iterations=5), run_config("bptt", max_iterations=50)
    assert chunks([short, long], 2) == [[long], [short]]


class Refusing:
    """A learner that cannot do one run."""

    def __init__(self, configs: Sequence[Any], seeds: Sequence[int]) -> None:
        self.real = make_learner(configs, seeds)
        self.refuses = any(getattr(config, "target_step_size", 0) == 13.0 for config in configs)

    def gradients(self, *args: Any, **kwargs: Any) -> Any:
        if self.refuses:
            raise ArithmeticError("thirteen is\nnot to be had")
        return self.real.gradients(*args, **kwargs)

    def select(self, runs: Any) -> "Refusing":
        self.real = self.real.select(runs)
        return self


LRA = {"name": "lra", "inner_steps": 1}
BAD = run_config(LRA | {"target_step_size": 13.0}, seed=4)


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([run_config("bptt"), run_config("readout"), run_config("lra_omega")], id="other shapes"),
        pytest.param([run_config(LRA, seed=seed) for seed in range(3)], id="its own batch"),
    ],
)
def test_a_run_that_fails_lets_all_others_finish(
    others: list[RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "make_learner", Refusing)
    store = ResultStore(tmp_path)
    with pytest.raises(SweepError) as caught:
        train_many([others[0], BAD, *others[1:]], store)
    assert set(caught.value.failures) == {BAD.key()}
    assert "ArithmeticError" in caught.value.failures[BAD.key()]
    text = str(caught.value)
    assert BAD.key() in text and "1 of 4 runs" in text and "\n" not in text
    assert {result.config.key() for result in store.load_all()} == {config.key() for config in others}


def test_a_disk_that_is_full_is_reported_with_every_run_that_could_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ResultStore, "put", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(SweepError, match="disk full") as caught:
        train_many(MIXED, ResultStore(tmp_path))
    assert set(caught.value.failures) == {config.key() for config in MIXED}


def test_an_interrupted_sweep_keeps_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = run_group, []

    def interrupted(configs: Sequence[RunConfig], **kwargs: Any) -> Any:
        calls.append(configs)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(configs, **kwargs)

    monkeypatch.setattr("lra_companion.chunks.run_group", interrupted)
    store = ResultStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train_many([run_config("bptt"), run_config("readout")], store)
    assert len(list(store.load_all())) == 1


def test_progress_reaches_its_total_however_runs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch)
    fields: dict[str, Any] = {"max_iterations": 40, "patience": 2}
    train_many([run_config(rate=rate, **fields) for rate in (0.1, 1e39, 1e-12)])
    assert seen == [(120, 0), (120, 120)]
