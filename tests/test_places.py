"""Where training happens: devices by name, the environment that notebooks inherit, and that nothing of it is in a run's key."""

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lra_companion import places, unfinished
from lra_companion.learners import make_learner
from lra_companion.network import Batch, Parameters, initial_parameters
from lra_companion.optimisers import Optimiser
from lra_companion.places import device_name, scheduler_address, trained_at, usable_device
from lra_companion.store import ResultStore, environment
from lra_companion.sweep import train_many
from lra_companion.tasks import make_task
from lra_companion.training import run_group, train
from lra_companion.unfinished import Unfinished
from runs import LEARNERS, assert_same, outcome, run_config

GPU = torch.cuda.is_available()


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(places.DEVICE_VARIABLE, raising=False)
    for found in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: found)
        assert usable_device() == usable_device("cpu") == "cpu", "a GPU is used where it is asked for"
        assert usable_device("auto") == ("cuda" if found else "cpu")
    assert usable_device("cuda") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device = 'cuda': PyTorch finds no GPU here; cpu or auto"):
        usable_device("cuda")
    monkeypatch.setenv(places.DEVICE_VARIABLE, "auto")
    assert device_name() == "auto" and device_name("cuda") == "cuda"
    monkeypatch.setenv(places.DEVICE_VARIABLE, "gpu")
    with pytest.raises(ValueError, match="device = 'gpu': must be one of auto, cpu, cuda"):
        train(run_config())


@pytest.mark.parametrize("before", [None, "tcp://127.0.0.1:7"])
def test_the_environment_is_put_back(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (places.DEVICE_VARIABLE, places.SCHEDULER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    if before:
        monkeypatch.setenv(places.SCHEDULER_VARIABLE, before)
    found = dict(os.environ)
    with contextlib.suppress(KeyError), trained_at("auto", "tcp://127.0.0.1:8"):
        assert (device_name(), scheduler_address()) == ("auto", "tcp://127.0.0.1:8")
        raise KeyError
    assert dict(os.environ) == found
    with trained_at(None, None):
        assert (device_name(), scheduler_address()) == ("cpu", before)


def test_results_say_where_they_were_made(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    assert environment()["device"] == "cpu"
    on_gpu = environment("cuda")
    assert (on_gpu["device"], on_gpu["compiled"]) == ("cuda: Some GPU", None)
    store, config = ResultStore(tmp_path), run_config()
    store.put(train(config), on_gpu)
    assert store.made_with(config) == on_gpu
    train_many([run_config(seed=5)], store)
    assert store.made_with(run_config(seed=5)) == environment()
    assert store.get(config) is not None, "found again wherever it was made"


def test_the_device_reaches_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine hands it on; auto is cpu where there is no GPU, and the history is that of no option at all."""
    asked: list[str] = []

    def spy(*arguments: Any, device: str, **keywords: Any) -> Any:
        asked.append(device)
        return run_group(*arguments, device="cpu", **keywords)

    monkeypatch.setattr("lra_companion.chunks.run_group", spy)
    monkeypatch.setattr("lra_companion.chunks.device_memory", lambda _: 1e12)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    for found in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: found)
        (result,) = train_many([run_config()], device="auto")
        assert outcome(result) == outcome(train(run_config()))
    assert asked == ["cpu", "cuda"]


class OneDevice(TorchDispatchMode):
    """Stands in for a GPU: tensors on ``meta`` must not meet others, indices and single numbers apart."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name == "_local_scalar_dense":  # a meta tensor has no value to ask for
            return True
        if name not in ("_to_copy", "copy_", "index"):
            flat = torch.utils._pytree.tree_leaves((args, kwargs or {}))
            tensors = [each for each in flat if isinstance(each, torch.Tensor) and each.dim() > 0]
            if len(devices := {each.device.type for each in tensors}) > 1:
                raise AssertionError(f"{name}: {devices}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("task", ["adding", "random_permutation"])
@pytest.mark.parametrize("name", LEARNERS)
def test_every_tensor_of_an_update_is_on_the_device(name: str, task: str) -> None:
    config = run_config(name, task=task, optimiser="adam")
    setting = make_task(config.task)
    weights = initial_parameters([1, 2], setting.input_size, 8, setting.output_size, device="meta")
    batch = setting.batch([1, 2], 0, 4).to("meta")
    learner = make_learner([config.learner] * 2, [1, 2])
    with OneDevice():
        for _ in range(2):
            gradients, diagnostics = learner.gradients(weights, batch)
            moved = Optimiser([config.optimiser] * 2, weights).step(weights, gradients)
        learner.select(torch.tensor([1])).gradients(
            weights.select(torch.tensor([1])), Batch(batch.inputs[:, 1:], batch.targets[1:])
        )
    assert {each.device.type for each in (*gradients, *moved, diagnostics.loss)} == {"meta"}


TOLERANCE = 2e-4
"""Largest difference of a weight after 100 updates, CPU against GPU: weights are of size 0.1 to 1, and single precision keeps
seven digits, of which sums in another order lose some at every update."""


@pytest.mark.skipif(not GPU, reason="needs a GPU")
@pytest.mark.parametrize("name", LEARNERS)
def test_cpu_and_gpu_agree_over_the_first_hundred_iterations(name: str) -> None:
    config = run_config(
        name, length=20, hidden=32, max_iterations=100, validate_every=10, patience=50, validation_size=500
    )
    here, there = train(config, "cpu"), train(config, "cuda")
    assert here.iterations == there.iterations and here.status == there.status
    for one, other in zip(here.history, there.history, strict=True):
        assert one["iteration"] == other["iteration"]
        assert one["validation_accuracy"] == pytest.approx(other["validation_accuracy"], abs=0.01)
        if one["training_loss"] is not None:
            assert one["training_loss"] == pytest.approx(other["training_loss"], rel=1e-3)
    assert isinstance(here.parameters, Parameters) and isinstance(there.parameters, Parameters)
    for one, other in zip(here.parameters, there.parameters, strict=True):
        assert torch.allclose(one, other.cpu(), rtol=0, atol=TOLERANCE)


@pytest.mark.skipif(not GPU, reason="needs a GPU")
@pytest.mark.parametrize("name", ["lra_omega", "bptt", "tptt_clip"])
def test_a_run_that_was_broken_off_on_a_gpu_goes_on_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "INTERVAL", 0.0)
    config, keeper = run_config(name, optimiser="adam"), Unfinished(ResultStore(tmp_path), "cuda")
    steps: list[int] = []

    def stop(count: int) -> None:
        steps.append(count)
        if len(steps) == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(run_group([config], stop, "cuda", keeper))
    assert Unfinished(ResultStore(tmp_path), "cpu").load(config) is None, "its last bits are a GPU's"
    ((_, result),) = run_group([config], steps.append, "cuda", keeper)
    assert steps[4] == 3, "what was made earlier"
    assert_same(result, train(config, "cuda"))


def test_naming_the_cpu_changes_nothing() -> None:
    for name in ("lra_omega", "bptt", "tptt"):
        ((_, named),) = run_group([run_config(name)], device="cpu")
        assert_same(train(run_config(name)), named)
