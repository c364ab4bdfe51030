"""Runs that were broken off go on where they were: to the last bit what an uninterrupted run computes."""

import contextlib
import errno
import functools
import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lra_companion import checkpoints, compiled, unfinished
from lra_companion import config as config_module
from lra_companion.checkpoints import DamagedCheckpointError
from lra_companion.chunks import train_unfinished
from lra_companion.config import RunConfig
from lra_companion.runs import RunResult, RunState
from lra_companion.store import ResultStore, environment
from lra_companion.sweep import SweepError, train_many
from lra_companion.training import run_group, train
from lra_companion.unfinished import FOLDER, Unfinished
from processes import started, train_into, unfinished_files
from runs import LEARNERS, OPTIMISERS, assert_same, outcome, run_config


class Interruption(Exception):
    """What a test ends training with."""


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each iteration."""
    monkeypatch.setattr(unfinished, "INTERVAL", 0.0)


def go_on(configs: Sequence[RunConfig], store: ResultStore, calls: int | None = None) -> list[RunResult]:
    """Train until the loop has reported ``calls`` times, or to the end; the results are in the order of the configs."""
    reports = itertools.count(1)

    def report(_: int) -> None:
        if next(reports) == calls:
            raise Interruption

    found = {}
    with contextlib.suppress(Interruption):
        for result in train_unfinished(configs, store, report):
            found[result.config.key()] = result
            store.put(result)
    return [found[config.key()] for config in configs if config.key() in found]


def checkpointed(store: ResultStore) -> list[Path]:
    return unfinished_files(store.path, "safetensors")


# Bit by bit


@pytest.mark.parametrize(
    ("learner", "optimiser"),
    [*[(learner, "sgd") for learner in LEARNERS], *[("tptt_clip", rule) for rule in OPTIMISERS[1:]]],
)
def test_broken_off_again_and_again_a_run_is_the_same(
    learner: str, optimiser: str, tmp_path: Path, always: None
) -> None:
    config = run_config(learner, optimiser=optimiser, rate=0.01, max_iterations=11, diagnostics=True)
    store = ResultStore(tmp_path)
    for calls in (2, 3, 4, 3):
        assert go_on([config], store, calls) == []
        assert len(checkpointed(store)) == 1
    (result,) = go_on([config], store)
    whole = train(config)
    assert whole.iterations == 11 and len(whole.history) == 5
    assert_same(result, whole)


@pytest.mark.parametrize("learner", ["tptt", "lra_omega", "bptt"])
def test_runs_that_have_come_differently_far_catch_up_and_train_side_by_side(
    learner: str, tmp_path: Path, always: None
) -> None:
    configs = [run_config(learner, seed, optimiser="adam", max_iterations=12) for seed in range(5)]
    store = ResultStore(tmp_path)
    go_on(configs[1:3], store, 8)
    go_on(configs[4:], store, 4)
    batches: list[int] = []
    keeper = Unfinished(store)
    results = dict(run_group(configs, batches.append, keeper=keeper))
    for index, config in enumerate(configs):
        assert_same(results[index], train(config))
    # Two runs anew up to the one that had made 3 steps, those three up to the two that had made 7, all five from there.
    assert batches == [2 * 7 + 3, *[2] * 3, *[3] * 4, *[5] * 5, 0]


def test_a_checkpoint_goes_with_its_run_into_any_batch(tmp_path: Path, always: None) -> None:
    configs = [run_config("tptt", seed, optimiser="nesterov", max_iterations=9) for seed in range(4)]
    store = ResultStore(tmp_path)
    go_on(configs, store, 5)
    assert len(checkpointed(store)) == 4
    for batch in ([configs[2]], [configs[3], configs[0]], [configs[1]]):
        for result in go_on(batch, store):
            assert_same(result, train(result.config))
    assert unfinished_files(tmp_path) == [], "a stored result needs no checkpoint"


def test_runs_that_end_early_leave_the_others_checkpoints_right(tmp_path: Path, always: None) -> None:
    rates = (1e39, 0.05, 1e-12, 0.02)
    configs = [
        run_config("bptt", rate=rate, max_iterations=30, validate_every=2, patience=4) for rate in rates
    ]
    store = ResultStore(tmp_path)
    ended = go_on(configs, store, 14)
    assert {result.status for result in ended} == {"diverged", "stalled"}
    for result in [*ended, *go_on([config for config in configs if config not in store], store)]:
        assert_same(result, train(result.config))
    assert len(list(store.load_all())) == 4


def test_time_adds_up_over_interruptions(
    tmp_path: Path, always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "process_time", lambda: float(next(clock)))  # an iteration takes a second
    config = run_config(max_iterations=10)
    store = ResultStore(tmp_path)
    go_on([config], store, 5)
    go_on([config], store, 4)
    (result,) = go_on([config], store)
    assert result.duration_seconds == 11.0, "ten updates and the last check; what was lost is not counted"


def test_progress_counts_what_was_done_earlier(tmp_path: Path, always: None) -> None:
    configs = [run_config(seed=seed, max_iterations=10) for seed in (1, 2)]
    go_on(configs, ResultStore(tmp_path), 5)
    counts: list[int] = []
    dict(run_group(configs, counts.append, keeper=Unfinished(ResultStore(tmp_path))))
    assert counts[0] == 2 * 4 and sum(counts) == 2 * 10


def test_a_short_run_writes_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unfinished, "save", lambda *_: pytest.fail("saved"))
    train_many([run_config()], ResultStore(tmp_path))


def test_checkpoints_come_at_least_every_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    saved: list[float] = []
    real = Unfinished.save

    def save(self: Unfinished, states: Sequence[RunState]) -> None:
        saved.append(now[0])
        real(self, states)

    def seven_seconds_pass(_: int) -> None:
        now[0] += 7.0

    monkeypatch.setattr(Unfinished, "save", save)
    config = run_config(max_iterations=60)
    list(train_unfinished([config], ResultStore(tmp_path), seven_seconds_pass))
    gaps = [later - sooner for sooner, later in itertools.pairwise([0.0, *saved, now[0]])]
    assert len(saved) > 5 and max(gaps) <= 60


# Killed

LONG = [
    run_config(learner, optimiser=rule, rate=0.003, max_iterations=60, validate_every=10)
    for learner, rule in zip(LEARNERS, itertools.cycle(OPTIMISERS), strict=False)
]


@pytest.mark.parametrize(
    ("configs", "by_c"),
    [pytest.param(LONG, "1", id="compiled"), pytest.param(LONG[3::3], "0", id="PyTorch")],
)
def test_killed_at_random_points_a_process_goes_on_and_computes_the_same(
    configs: list[RunConfig], by_c: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRA_COMPANION_COMPILED", by_c)
    monkeypatch.setattr(compiled, "_library", functools.cache(compiled._library.__wrapped__))
    pause, ends, store, log = random.Random(5), [], ResultStore(tmp_path / "store"), tmp_path / "log"
    while not ends or ends[-1] == -signal.SIGKILL:
        process = started(train_into, store.path, configs, 0.03, 1, log)
        process.join(
            pause.uniform(0, 0.1) + len(ends) / 20
        )  # the longer, the more often it was killed: it comes to an end
        process.kill()
        process.join()
        ends.append(process.exitcode)
        assert len(ends) < 100
    assert ends[-1] == 0 and len(ends) > 2
    assert any(int(line.split()[1]) > 0 for line in log.read_text().splitlines()), (
        "gone on with from a checkpoint"
    )
    for config in configs:
        result, made_with = store.get(config), store.made_with(config)
        assert result is not None and outcome(result) == outcome(train(config))
        assert made_with == environment()
    assert unfinished_files(store.path) == []


# A full disk


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_after_a_full_disk_the_last_checkpoint_is_gone_on_with(
    tmp_path: Path, always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config("tptt", max_iterations=12)
    store = ResultStore(tmp_path)
    go_on([config], store, 6)
    (file,) = checkpointed(store)
    before = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SweepError, match="No space left"):
            train_many([config], store)
    assert file.read_bytes() == before
    assert unfinished_files(tmp_path) == [file]
    (result,) = go_on([config], store)
    assert_same(result, train(config))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount")
def test_a_disk_that_is_really_full(tmp_path: Path, always: None) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        configs = [run_config("bptt", seed, hidden=32, max_iterations=6) for seed in range(3)]
        store = ResultStore(disk)
        go_on(configs, store, 3)
        assert len(checkpointed(store)) == 3
        rest = disk / "film"
        with contextlib.suppress(OSError), rest.open("wb", buffering=0) as file:
            while file.write(b"0" * 4096):
                pass
        with pytest.raises(SweepError, match="No space left") as caught:
            train_many(configs, store)
        assert set(caught.value.failures) == {config.key() for config in configs}
        assert list(store.load_all()) == [] and len(checkpointed(store)) == 3
        rest.unlink()
        for result, config in zip(go_on(configs, store), configs, strict=True):
            assert_same(result, train(config))
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


# Damage

STATE_CONFIG = run_config("tptt", optimiser="adam", max_iterations=9)


@pytest.fixture
def kept(tmp_path: Path, always: None) -> ResultStore:
    """A store with one run in mid-training."""
    store = ResultStore(tmp_path)
    go_on([STATE_CONFIG], store, 6)
    return store


def assert_begun_anew(store: ResultStore) -> None:
    assert Unfinished(store).load(STATE_CONFIG) is None
    counts: list[int] = []
    (result,) = train_unfinished([STATE_CONFIG], store, counts.append)
    assert sum(counts) == 9 and counts[0] == 1
    assert_same(result, train(STATE_CONFIG))


DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2],
    "last byte lost": lambda data: data[:-1],
    "empty": lambda data: b"",
    "a byte more": lambda data: data + b"0",
    "JSON": lambda data: b'{"iteration": 5}',
    "zeros": lambda data: bytes(len(data)),
    "foreign safetensors": lambda data: safetensors.torch.save({"a": torch.zeros(3)}),
    "foreign header": lambda data: safetensors.torch.save({}, metadata={"content": "[]", "sha256": "0"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_and_its_run_begun_anew(damage: str, kept: ResultStore) -> None:
    (file,) = checkpointed(kept)
    spoilt = DAMAGE[damage](file.read_bytes())
    file.write_bytes(spoilt)
    assert_begun_anew(kept)
    assert file.with_suffix(".damaged").read_bytes() == spoilt


def test_the_checkpoint_of_another_run_is_damage(kept: ResultStore) -> None:
    (file,) = checkpointed(kept)
    other = STATE_CONFIG.model_copy(update={"seed": 99})
    file.rename(file.with_name(f"{other.key()}.safetensors"))
    assert Unfinished(kept).load(other) is None
    assert [each.suffix for each in unfinished_files(kept.path)] == [".damaged"]


@settings(max_examples=200)
@given(st.data())
def test_no_flipped_bit_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    file, sound, state = flipped_subject(tmp_path_factory)
    spoilt = bytearray(sound)
    spoilt[data.draw(st.integers(0, len(sound) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(spoilt)
    with contextlib.suppress(DamagedCheckpointError):  # else the bit was in white space
        found = checkpoints.read(file, STATE_CONFIG, "cpu")
        assert found is not None
        assert vars(found) | {"tensors": None} == vars(state) | {"tensors": None}
        assert found.tensors.keys() == state.tensors.keys()
        assert all(torch.equal(found.tensors[name], state.tensors[name]) for name in state.tensors)


_subject: list[tuple[Path, bytes, RunState]] = []


def flipped_subject(factory: pytest.TempPathFactory) -> tuple[Path, bytes, RunState]:
    """A checkpoint, made once: hypothesis asks for it at each example."""
    if not _subject:
        state = RunState(STATE_CONFIG, 3, [{"iteration": 0, "training_loss": None}], 0.5, 1, 0.25, 1.5, 2)
        state.tensors = {"parameters.w": torch.arange(40.0), "learner.v": torch.ones(1, 2)}
        file = factory.mktemp("checkpoint") / "one.safetensors"
        _subject.append((file, checkpoints.encode(state, "cpu"), state))
    return _subject[0]


@settings(max_examples=150)
@given(st.binary(max_size=80))
def test_no_content_whatever_raises(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    store = ResultStore(tmp_path_factory.mktemp("store"))
    file = store.path / FOLDER / f"{STATE_CONFIG.key()}.safetensors"
    file.parent.mkdir()
    file.write_bytes(content)
    assert Unfinished(store).load(STATE_CONFIG) is None
    assert [each.suffix for each in unfinished_files(store.path)] == [".damaged"]


def test_nonsense_under_a_valid_checksum_costs_one_try_and_no_more(kept: ResultStore) -> None:
    (file,) = checkpointed(kept)
    state = checkpoints.read(file, STATE_CONFIG, "cpu")
    assert state is not None
    state.tensors = {"learner.nothing": torch.zeros(1)}
    file.write_bytes(checkpoints.encode(state, "cpu"))
    with pytest.raises(SweepError):
        train_many([STATE_CONFIG], kept)
    assert checkpointed(kept) == [] and Unfinished(kept).failure(STATE_CONFIG)
    assert outcome(train_many([STATE_CONFIG], kept)[0]) == outcome(train(STATE_CONFIG))
    assert unfinished_files(kept.path) == [], "the failure is forgotten too"


@pytest.mark.parametrize(
    "name", ["torch", "numpy", "python", "lra_companion", "processor", "compiled", "method"]
)
def test_what_was_made_otherwise_is_left_alone(
    name: str, kept: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoints.environment("cpu")
    monkeypatch.setattr(checkpoints, "environment", lambda _: real | {name: "another"})
    assert_begun_anew(kept)
    assert unfinished_files(kept.path, "damaged") == [], "there is nothing wrong with it"


def test_another_format_is_left_alone(kept: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "FORMAT", checkpoints.FORMAT + 1)
    assert_begun_anew(kept)


def test_another_method_finds_no_checkpoint(kept: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_module, "METHOD_VERSION", config_module.METHOD_VERSION + 1)
    assert Unfinished(kept).load(STATE_CONFIG) is None
    assert len(checkpointed(kept)) == 1


def test_a_checkpoint_is_plain_safetensors_and_json_without_a_machine_s_path(kept: ResultStore) -> None:
    (file,) = checkpointed(kept)
    with safetensors.safe_open(file, "pt") as opened:
        content = json.loads(opened.metadata()["content"])
        names = set(opened.keys())
    assert content["iteration"] == 5 and content["config"]["learner"]["name"] == "tptt"
    assert {"parameters.w_hh", "learner.v", "optimiser.1.exp_avg"} <= names
    assert os.uname().nodename not in json.dumps(content) and str(kept.path) not in json.dumps(content)
