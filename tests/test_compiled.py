"""The machine code against PyTorch in float64, and what happens where it cannot be made."""

from __future__ import annotations

import logging
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lra_companion import RunConfig, compiled, train
from lra_companion.config import BPTTConfig, LRAConfig
from lra_companion.learners import make_learner
from lra_companion.network import Batch, Parameters, forward, predict
from problems import Shape, random_problem

NO_COMPILER = shutil.which("cc") is None
pytestmark = pytest.mark.skipif(NO_COMPILER, reason="no C compiler here")

ULP = 2.0**-23  # of float32, relative to the number it is the last place of, or half of that


def in_torch(monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any]) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "available", lambda like: False)
        return action()


def test_where_there_is_a_compiler_its_code_is_used() -> None:
    """Else code that is refused as wrong would leave all other tests nothing to test."""
    assert compiled.made_by() is not None


# -- tanh


def test_tanh_is_within_three_units_of_the_last_place() -> None:
    x = torch.cat([torch.linspace(-12, 12, 300_001), torch.logspace(-40, 1, 100_003)])
    exact = torch.tanh(x.double())
    wrong = (compiled.tanh(x).double() - exact).abs() / exact.abs().clamp(min=2.0**-126)
    assert float(wrong.max()) < 3 * ULP


def test_tanh_at_its_ends() -> None:
    x = torch.tensor([0.0, -0.0, 9.2, 12.0, 1e30, float("inf"), 1e-45, 1e-30])
    assert torch.equal(compiled.tanh(x)[2:6], torch.ones(4))
    assert torch.equal(compiled.tanh(-x), -compiled.tanh(x))  # odd
    assert torch.equal(compiled.tanh(x)[[0, 6, 7]], x[[0, 6, 7]])  # the identity where x^3 is lost
    assert torch.isnan(compiled.tanh(torch.tensor([float("nan")]))).all()


def test_tanh_never_leaves_the_unit_interval() -> None:
    x = torch.randn(500_000, generator=torch.Generator().manual_seed(0)) * 6
    assert float(compiled.tanh(x).abs().max()) <= 1


def test_tanh_of_any_length_and_layout() -> None:
    x = torch.randn(7, 33, generator=torch.Generator().manual_seed(1))
    whole = compiled.tanh(x)
    assert torch.equal(compiled.tanh(x.T), whole.T)
    for length in (1, 15, 16, 17):
        assert torch.equal(compiled.tanh(x[0, :length]), whole[0, :length])


# -- states and gradients, in sizes that leave rests in rows and in vectors

SIZES = [
    Shape(runs=2, steps=6, batch=7, hidden=100, outputs=19, symbols=True),
    Shape(runs=1, steps=3, batch=20, inputs=9, hidden=33, outputs=1, real_targets=True),
    Shape(runs=3, steps=4, batch=1, hidden=64, outputs=4),
    Shape(runs=2, steps=3, batch=11, inputs=1, hidden=1, outputs=2),
    Shape(runs=1, steps=2, batch=3, hidden=130, outputs=70, symbols=True),
]


def tensors(found: Any) -> Iterator[tuple[str, Tensor]]:
    gradients, diagnostics = found
    for name, value in [*vars(gradients).items(), *vars(diagnostics).items()]:
        if value is not None:
            yield name, value


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-4)])
@pytest.mark.parametrize("loss", ["log_penalty", "mse", "huber", "l1"])
@pytest.mark.parametrize("shape", SIZES)
def test_both_ways_give_the_same_gradients(
    shape: Shape, loss: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative to the largest entry. A difference that changes its sign moves the derivative of l1 by a jump."""
    if loss == "l1" and dtype == torch.float32:
        tolerance *= 10
    common: dict[str, Any] = {"name": "lra", "local_loss": loss, "inner_steps": 4, "target_step_size": 0.5}
    settings = [
        LRAConfig(**common, reduction="per_example", regularisation_strength=0.3, regularise_input=True),
        LRAConfig(**common, clip_norm=0.2, clip_mode="normalise", regularisation_scope="example"),
        LRAConfig(**common, regularisation_strength=0.1, regularise_recurrent=False),
    ][: shape.runs]
    parameters, batch = random_problem(shape, seed=3, dtype=dtype)
    learner = make_learner(settings)
    compiled_way = learner.gradients(parameters, batch, diagnose=True)
    torch_way = in_torch(monkeypatch, lambda: learner.gradients(parameters, batch, diagnose=True))
    expected = dict(tensors(torch_way))
    for name, value in tensors(compiled_way):
        if name == "clipped_share":
            continue  # counts: an entry on the edge may fall on either side
        size = expected[name].abs().max()
        assert float((value - expected[name]).abs().max()) <= tolerance * float(size), name


@pytest.mark.parametrize("shape", SIZES)
def test_both_ways_give_the_same_states_and_outputs(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, batch = random_problem(shape, seed=4)
    trajectory = forward(parameters, batch.inputs)
    expected = in_torch(monkeypatch, lambda: forward(parameters, batch.inputs))
    torch.testing.assert_close(trajectory.h, expected.h, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(trajectory.z, expected.z, rtol=1e-12, atol=1e-12)
    outputs = in_torch(monkeypatch, lambda: predict(parameters, batch.inputs))
    torch.testing.assert_close(predict(parameters, batch.inputs), outputs, rtol=1e-12, atol=1e-12)


def test_the_last_state_is_that_of_the_trajectory_to_the_last_bit() -> None:
    """Training and evaluation see the same network."""
    parameters, batch = random_problem(SIZES[0], seed=5, dtype=torch.float32)
    rows = parameters.w_xh + parameters.b_h[:, None, :]
    last = compiled.last_state(batch.inputs, rows, parameters.w_hh)
    assert torch.equal(last, forward(parameters, batch.inputs).z[-1])


def test_a_symbol_without_a_row_is_refused() -> None:
    rows, w_hh = torch.zeros(1, 4, 8), torch.zeros(1, 8, 8)
    for symbol in (-1, 4):
        with pytest.raises(IndexError, match=r"0\.\.3"):
            compiled.last_state(torch.tensor([[[0, symbol]]]), rows, w_hh)


def test_sizes_that_do_not_fit_are_refused_before_memory_is_read() -> None:
    parameters, batch = random_problem(SIZES[0], seed=9, dtype=torch.float32)
    one_config_for_two_runs = make_learner([LRAConfig(name="lra")])
    with pytest.raises(ValueError, match=r"settings: shape \(1, 11\), where \(2, 11\)"):
        one_config_for_two_runs.gradients(parameters, batch)
    with pytest.raises(ValueError, match="targets: shape"):
        make_learner([LRAConfig(name="lra")] * 2).gradients(
            parameters, Batch(batch.inputs, batch.targets[:, :3])
        )
    with pytest.raises(ValueError, match="w_hh: shape"):
        compiled.states(torch.zeros(2, 1, 3, 8), torch.zeros(1, 8, 7))
    with pytest.raises(ValueError, match="symbols: shape"):
        compiled.last_state(
            torch.zeros(2, 2, 3, dtype=torch.int64), torch.zeros(1, 4, 8), torch.zeros(1, 8, 8)
        )
    with pytest.raises(ValueError, match="b_y: shape"):
        compiled.readout(torch.zeros(1, 3, 8), torch.zeros(1, 8, 2), torch.zeros(1, 3))
    with pytest.raises(TypeError, match=r"float32 beside torch\.float64"):
        compiled.states(torch.zeros(2, 1, 3, 8), torch.zeros(1, 8, 8, dtype=torch.float64))


def test_a_target_that_does_not_move_equals_its_state() -> None:
    """Else rounding would pass for an error, and Ω, which does not see an error's size, would act on it."""
    parameters, batch = random_problem(SIZES[0], seed=6, dtype=torch.float32)
    still = LRAConfig(name="lra", target_step_size=1e-30, inner_steps=3, regularisation_strength=0.0)
    _, diagnostics = make_learner([still, still]).gradients(parameters, batch, diagnose=True)
    assert torch.equal(diagnostics.target_displacement, torch.zeros(6, 2))


def test_other_learners_agree_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, batch = random_problem(SIZES[0], seed=7)
    learner = make_learner([BPTTConfig(name="bptt", regularisation_strength=0.1)] * 2)
    expected = dict(tensors(in_torch(monkeypatch, lambda: learner.gradients(parameters, batch))))
    for name, value in tensors(learner.gradients(parameters, batch)):
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-12)


def test_half_precision_is_left_to_torch() -> None:
    assert not compiled.available(torch.zeros(1, dtype=torch.bfloat16))
    assert isinstance(
        forward(Parameters(*_bfloat16()), torch.zeros(2, 1, 3, 4, dtype=torch.bfloat16)).z, Tensor
    )


def _bfloat16() -> list[Tensor]:
    parameters, _ = random_problem(Shape(runs=1), seed=8, dtype=torch.bfloat16)
    return list(parameters)


# -- where it cannot be made

CONFIG = RunConfig.model_validate(
    {
        "task": {"name": "temporal_order", "sequence_length": 10},
        "network": {"hidden_size": 20},
        "learner": {"name": "lra", "regularisation_strength": 0.1, "inner_steps": 2},
        "protocol": {"max_iterations": 20, "validate_every": 10, "validation_size": 100, "test_size": 100},
        "seed": 0,
    }
)


@pytest.fixture
def fresh_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing compiled yet, and an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compiled._library.cache_clear()
    yield
    compiled._library.cache_clear()


def script(folder: Path, text: str) -> str:
    file = folder / "compiler"
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


@pytest.mark.usefixtures("fresh_library")
def test_it_compiles_into_the_cache_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_scratch", lambda: pytest.fail("another folder was made"))
    assert compiled.made_by() is not None
    (file,) = (tmp_path / "cache" / "lra-companion").iterdir()
    made = file.stat().st_mtime_ns
    compiled._library.cache_clear()
    monkeypatch.setattr(compiled, "_compile", lambda *arguments: pytest.fail("compiled again"))
    assert compiled.made_by() is not None
    assert file.stat().st_mtime_ns == made


@pytest.mark.usefixtures("fresh_library")
def test_without_a_compiler_training_goes_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = train(CONFIG)
    compiled._library.cache_clear()
    monkeypatch.setenv("CC", "no-such-compiler")
    assert compiled.made_by() is None
    slow = train(CONFIG)
    for mine, other in zip(fast.history[1:], slow.history[1:], strict=True):
        assert mine["training_loss"] == pytest.approx(other["training_loss"], rel=1e-3)


@pytest.mark.usefixtures("fresh_library")
@pytest.mark.parametrize(
    "text", ["exit 1", 'test "$1" = --version && echo 1.0 || exit 1', "sleep 5", "echo", "exit 0"]
)
def test_a_broken_compiler_is_done_without(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", script(tmp_path, text))
    monkeypatch.setattr(compiled, "_COMPILE_SECONDS", 1)
    with caplog.at_level(logging.WARNING):
        assert compiled.made_by() is None
    assert "PyTorch does without" in caplog.text
    assert not list((tmp_path / "cache" / "lra-companion").glob("*.so"))


@pytest.mark.usefixtures("fresh_library")
def test_code_that_computes_wrong_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(compiled._SOURCES, tmp_path / "native")
    vectors = tmp_path / "native" / "vectors.h"
    coefficient = "0.133755553786"
    text = vectors.read_text(encoding="utf-8")
    assert text.count(coefficient) == 1
    vectors.write_text(text.replace(coefficient, "0.1338"), encoding="utf-8")
    monkeypatch.setattr(compiled, "_SOURCES", tmp_path / "native")
    with caplog.at_level(logging.WARNING):
        assert compiled.made_by() is None
    assert "computes something else" in caplog.text


@pytest.mark.usefixtures("fresh_library")
def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiled.made_by() is not None


@pytest.mark.usefixtures("fresh_library")
def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRA_COMPANION_COMPILED", "0")
    assert compiled.made_by() is None
