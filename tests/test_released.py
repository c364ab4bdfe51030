"""lra_released against the numbers of the public code (tests/data), and against a slow reference of what it computes."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lra_companion.config import BPTTConfig, LRAReleasedConfig, RunConfig, parse
from lra_companion.learners import make_learner
from lra_companion.learners import released as released_module
from lra_companion.network import Batch, Parameters, forward, output_loss, readout
from lra_companion.training import shape_key, train
from problems import Shape, inputs_of, random_problem, select, weights_of
from reference import Weights
from released_reference import ReleasedReference, ReleasedSettings
from runs import run_config

DATA = Path(__file__).parent / "data"
TOLERANCE = 1e-10
JITTER = 2e-15  # about ten roundings of float64
WELL_CONDITIONED = 2e-11  # a problem that ten roundings move further than this cannot show 1e-10
MEASURED = (
    "recurrent_norm",
    "input_norm",
    "target_displacement",
    "local_loss",
    "w_xh_steps",
    "w_hh_steps",
    "b_h_steps",
)
VARIETY = [
    ReleasedSettings("log_penalty", 5.0, 3, 1.0, 0.0),
    ReleasedSettings("log_penalty", 30.0, 3, 0.0, 0.0),
    ReleasedSettings("log_penalty", 30.0, 3, 0.05, 0.0),
    ReleasedSettings("log_penalty", 1.0, 3, 1.0, 0.1),
    ReleasedSettings("log_penalty", 0.5, 3, 0.0, 0.5),
    ReleasedSettings("log_penalty", 2.0, 3, 0.3, 1.0),
    ReleasedSettings("log_penalty", 10.0, 3, 0.2, 0.02),
]


def learner_config(settings: ReleasedSettings) -> LRAReleasedConfig:
    """The package's config for the reference's settings."""
    fields = asdict(settings)
    return LRAReleasedConfig(name="lra_released", released_nan=not fields.pop("guarded"), **fields)


def released(settings: list[ReleasedSettings]) -> Any:
    """The package's learner for one run per setting."""
    return make_learner([learner_config(s) for s in settings])


def tensors(gradients: Parameters) -> dict[str, Tensor]:
    """The five gradients by name, in the order of the reference."""
    return {name: getattr(gradients, name) for name in Weights._fields}


# ---------------------------------------------------------------------------------------- the public code's numbers


@pytest.mark.parametrize("symbols", [False, True])
@pytest.mark.parametrize("name", ["unregularised", "regularised"])
def test_numbers_of_the_public_code(name: str, symbols: bool) -> None:
    """Every array of the two files, to 1e-10: each round's gradients, their sums, the readout's, the losses."""
    with np.load(DATA / f"released_{name}.npz") as file:
        data = {key: torch.from_numpy(np.asarray(file[key])) for key in file.files if key != "loss"}
        assert str(file["loss"]) == "LOG-PENALTY"
    parameters = Parameters(*(data[key][None] for key in Weights._fields))
    inputs = data["inputs"][:, None]
    assert torch.equal(inputs, torch.nn.functional.one_hot(inputs.argmax(-1), inputs.shape[-1]).double())
    batch = Batch(inputs.argmax(-1) if symbols else inputs, data["targets"].argmax(-1)[None])
    settings = ReleasedSettings(
        target_step_size=float(data["beta"]),
        inner_steps=int(data["k"]),
        clip_norm=float(data["c"]),
        regularisation_strength=float(data["alpha"]),
    )
    gradients, seen = released([settings]).gradients(parameters, batch, diagnose=True)
    found = {
        "logits": readout(parameters, forward(parameters, inputs).z[-1])[0],
        "dw_xh": seen.w_xh_steps[:, 0],
        "dw_hh": seen.w_hh_steps[:, 0],
        "db_h": seen.b_h_steps[:, 0],
        "dw_hy": gradients.w_hy[0],
        "db_y": gradients.b_y[0],
        "local_loss": seen.local_loss[:, 0],
        "global_loss_after_target": seen.loss_after_target[0],
    }
    settings_and_problem = {*Weights._fields, "inputs", "targets", "alpha", "beta", "c", "k"}
    assert set(found) | settings_and_problem == set(data)
    for key, value in found.items():
        # Relative, so that the rounds in which little is left are compared as well.
        torch.testing.assert_close(
            value, data[key], atol=1e-16, rtol=TOLERANCE, msg=lambda text, key=key: f"{key}: {text}"
        )
    for key, value in (("w_xh", "dw_xh"), ("w_hh", "dw_hh"), ("b_h", "db_h")):
        torch.testing.assert_close(getattr(gradients, key)[0], data[value].sum(0), atol=1e-15, rtol=TOLERANCE)


# ---------------------------------------------------------------------------------------------- the reference


@dataclass(frozen=True)
class Drawn:
    """A drawn problem: its sizes, its tensors' seed and the settings of each run."""

    shape: Shape
    seed: int
    settings: tuple[ReleasedSettings, ...]


@st.composite
def drawn_problems(draw: st.DrawFn) -> Drawn:
    """Shapes and settings; K and the local loss are one for all runs. Only unregularised batches may exceed H."""
    regularised = draw(st.booleans())
    hidden = draw(st.integers(2, 6))
    shape = Shape(
        runs=draw(st.integers(1, 3)),
        steps=draw(st.integers(1, 6)),
        batch=draw(st.integers(1, hidden if regularised else 6)),
        inputs=draw(st.integers(2, 6)),
        hidden=hidden,
        outputs=draw(st.integers(2, 5)),
        symbols=draw(st.booleans()),
        real_targets=draw(st.booleans()),
    )
    one = st.builds(
        ReleasedSettings,
        local_loss=st.just(draw(st.sampled_from(["log_penalty", "mse"]))),
        target_step_size=st.sampled_from([0.3, 1.0, 5.0, 30.0]),
        inner_steps=st.just(draw(st.integers(1, 4))),
        clip_norm=st.sampled_from([0.0, 0.01, 0.1, 1.0]),
        regularisation_strength=st.sampled_from([0.0, 0.02, 0.3, 1.0] if regularised else [0.0]),
        guarded=st.booleans(),
    )
    settings = draw(st.lists(one, min_size=shape.runs, max_size=shape.runs))
    return Drawn(shape, draw(st.integers(0, 10**6)), tuple(settings))


def disturbance(weights: Weights, settings: ReleasedSettings, inputs: Tensor, targets: Tensor) -> float:
    """How far a few roundings move the reference's gradients, absolutely or relatively."""
    exact = ReleasedReference(weights, settings).gradients(inputs, targets).gradients
    moved = ReleasedReference(weights, settings, JITTER).gradients(inputs, targets).gradients
    return max(
        float((a - b).abs().max() / a.abs().max().clamp(min=1.0)) for a, b in zip(exact, moved, strict=True)
    )


def compare_run(run: int, expected: Any, gradients: Parameters, seen: Any, regularised: bool) -> None:
    """One run's gradients, stacks and measurements against those of the reference."""
    close = {"atol": TOLERANCE, "rtol": TOLERANCE}

    def same(name: str, value: Tensor, wanted: Tensor) -> None:
        torch.testing.assert_close(value, wanted, **close, msg=lambda text: f"{name}: {text}")

    for name, value in tensors(gradients).items():
        same(name, value[run], getattr(expected.gradients, name))
    for name in ("loss", "loss_after_target"):
        same(name, getattr(seen, name)[run], getattr(expected, name))
    for name in (*MEASURED, "regulariser") if regularised else MEASURED:
        same(name, getattr(seen, name)[:, run], getattr(expected, name))


def test_gradients_and_diagnostics_equal_the_reference() -> None:
    """Tiny random problems, both losses, classes and real targets, wherever ten roundings move less than 1e-10."""
    compared, skipped = [], []

    @given(drawn_problems())
    def check(drawn: Drawn) -> None:
        parameters, batch = random_problem(drawn.shape, drawn.seed)
        gradients, seen = released(list(drawn.settings)).gradients(parameters, batch, diagnose=True)
        plain, _ = released(list(drawn.settings)).gradients(parameters, batch)
        for run, settings in enumerate(drawn.settings):
            problem = weights_of(parameters, run), settings, inputs_of(batch, run), batch.targets[run]
            if not disturbance(*problem) < WELL_CONDITIONED:
                skipped.append(settings)
                continue
            compared.append(settings)
            for name, value in tensors(gradients).items():
                assert torch.equal(value[run], getattr(plain, name)[run]), name
            expected = ReleasedReference(*problem[:2]).gradients(*problem[2:])
            compare_run(run, expected, gradients, seen, settings.regularisation_strength > 0)

    check()
    assert len(compared) > 5 * len(skipped), f"only {len(compared)} compared, {len(skipped)} skipped"
    assert sum(s.regularisation_strength > 0 for s in compared) > 20
    assert sum(s.clip_norm == 0.01 for s in compared) > 5


@pytest.mark.parametrize("loss", ["mse", "log_penalty"])
@pytest.mark.parametrize("inner_steps", [1, 2, 5])
@pytest.mark.parametrize("real_targets", [True, False])
def test_every_kind_of_setting_equals_the_reference(loss: str, inner_steps: int, real_targets: bool) -> None:
    """The same comparison on a fixed list of settings, so that no kind depends on the luck of a draw."""
    settings = [replace(s, local_loss=loss, inner_steps=inner_steps) for s in VARIETY]
    parameters, batch = random_problem(Shape(runs=len(settings), real_targets=real_targets), seed=4)
    gradients, seen = released(settings).gradients(parameters, batch, diagnose=True)
    for run, s in enumerate(settings):
        problem = weights_of(parameters, run), s, inputs_of(batch, run), batch.targets[run]
        assert disturbance(*problem) < WELL_CONDITIONED
        expected = ReleasedReference(*problem[:2]).gradients(*problem[2:])
        compare_run(run, expected, gradients, seen, s.regularisation_strength > 0)
    assert (seen.clipped_share[[2, 5]] > 0).all() and (seen.clipped_share[[1, 4]] == 0).all()


@pytest.mark.parametrize("rounds", [1, 4, 100])
@pytest.mark.parametrize("strength", [0.0, 0.4])
def test_rounds_that_run_back_in_blocks(
    rounds: int, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, some, or all of the rounds run back together: the numbers are those of the reference."""
    monkeypatch.setattr(released_module, "_ROUNDS_AT_ONCE", rounds)
    settings = ReleasedSettings("log_penalty", 50.0, 2, 0.02, strength)
    parameters, batch = random_problem(Shape(runs=1, steps=8, hidden=8), seed=4)
    problem = weights_of(parameters, 0), settings, inputs_of(batch, 0), batch.targets[0]
    assert disturbance(*problem) < WELL_CONDITIONED
    gradients, seen = released([settings]).gradients(parameters, batch, diagnose=True)
    assert (seen.recurrent_norm[1:] > 0).all()
    expected = ReleasedReference(*problem[:2]).gradients(*problem[2:])
    compare_run(0, expected, gradients, seen, strength > 0)


# ------------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("runs", [[0], [2], [3], [5], [1, 6]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_runs_side_by_side_are_the_runs_alone(runs: list[int], dtype: torch.dtype) -> None:
    """The same bits where all runs are regularised or none is, as training groups them."""
    shape = Shape(runs=7, steps=20, batch=7, inputs=6, hidden=24, outputs=4, symbols=True)
    parameters, batch = random_problem(shape, seed=5, dtype=dtype)
    together, _ = released(VARIETY).gradients(parameters, batch)
    alone, _ = released([VARIETY[run] for run in runs]).gradients(*select(parameters, batch, runs))
    close = {"atol": 1e-12, "rtol": 1e-12} if dtype == torch.float64 else {"atol": 1e-6, "rtol": 1e-5}
    for name, value in tensors(together).items():
        torch.testing.assert_close(value[runs], getattr(alone, name), **close)
    regularised = [replace(s, regularisation_strength=s.regularisation_strength or 0.3) for s in VARIETY]
    for settings in (regularised, [replace(s, regularisation_strength=0.0) for s in VARIETY]):
        together, _ = released(settings).gradients(parameters, batch)
        alone, _ = released([settings[run] for run in runs]).gradients(*select(parameters, batch, runs))
        for name, value in tensors(together).items():
            assert torch.equal(value[runs], getattr(alone, name)), name


def test_symbols_and_one_hot_rows_give_the_same_gradients() -> None:
    """A symbol is a short way to write a one-hot row, for every setting."""
    parameters, batch = random_problem(Shape(runs=7, symbols=True, batch=5, inputs=3), seed=7)
    rows = torch.nn.functional.one_hot(batch.inputs, 3).double()
    from_symbols, _ = released(VARIETY).gradients(parameters, batch)
    from_rows, _ = released(VARIETY).gradients(parameters, Batch(rows, batch.targets))
    for name, value in tensors(from_symbols).items():
        torch.testing.assert_close(value, getattr(from_rows, name), atol=1e-12, rtol=1e-12)


def test_diagnosing_changes_no_gradient_and_nothing_else_is_touched() -> None:
    """The same bits whether or not somebody looks; weights and batch stay as they were."""
    parameters, batch = random_problem(Shape(runs=7), seed=8, dtype=torch.float32)
    before = {name: value.clone() for name, value in tensors(parameters).items()}
    inputs, targets = batch.inputs.clone(), batch.targets.clone()
    plain, diagnostics = released(VARIETY).gradients(parameters, batch)
    looked_at, _ = released(VARIETY).gradients(parameters, batch, diagnose=True)
    for name, value in tensors(plain).items():
        assert torch.equal(value, getattr(looked_at, name)), name
        assert not value.requires_grad
        assert torch.equal(before[name], getattr(parameters, name))
    assert torch.equal(inputs, batch.inputs) and torch.equal(targets, batch.targets)
    loss = output_loss(readout(parameters, forward(parameters, batch.inputs).z[-1]), batch.targets)[0]
    torch.testing.assert_close(diagnostics.loss, loss)
    assert diagnostics.w_hh_steps is None


def test_output_layer_equals_bptt_without_alpha_and_clipping() -> None:
    """Step 2 alone is the exact gradient; the hidden weights' is another."""
    parameters, batch = random_problem(Shape(runs=2), seed=11)
    ours, _ = released([ReleasedSettings(inner_steps=2)] * 2).gradients(parameters, batch)
    exact, _ = make_learner([BPTTConfig(name="bptt")] * 2).gradients(parameters, batch)
    torch.testing.assert_close(ours.w_hy, exact.w_hy, atol=1e-13, rtol=1e-12)
    torch.testing.assert_close(ours.b_y, exact.b_y, atol=1e-13, rtol=1e-12)
    assert not torch.allclose(ours.w_hh, exact.w_hh, rtol=0.01)


def test_larger_batches_than_hidden_layers() -> None:
    """Ω's diagonal needs B <= H; without Ω there is no such limit."""
    parameters, batch = random_problem(Shape(runs=1, batch=6, hidden=5), seed=12)
    released([VARIETY[0]]).gradients(parameters, batch)
    with pytest.raises(ValueError, match=r"batch of 6.*H = 5"):
        released([VARIETY[3]]).gradients(parameters, batch)


# ------------------------------------------------------------------------------------------------------ |d| = 0


def finite(gradients: Parameters) -> bool:
    """Whether no gradient is NaN or infinite."""
    return all(bool(value.isfinite().all()) for value in tensors(gradients).values())


def no_error(dtype: torch.dtype) -> tuple[Parameters, Batch]:
    """Outputs that equal the targets: d = 0 everywhere."""
    parameters, batch = random_problem(Shape(runs=7, real_targets=True), seed=19, dtype=dtype)
    return parameters, Batch(batch.inputs, readout(parameters, forward(parameters, batch.inputs).z[-1]))


def nothing_comes_down(dtype: torch.dtype) -> tuple[Parameters, Batch]:
    """W_hy = 0: an error, of which nothing reaches the states; d = 0 from step 5 on."""
    parameters, batch = random_problem(Shape(runs=7), seed=37, dtype=dtype)
    parameters.w_hy[:] = 0.0
    return parameters, batch


def saturated(dtype: torch.dtype) -> tuple[Parameters, Batch]:
    """Every unit at 1 exactly: the targets are the states."""
    parameters, batch = random_problem(Shape(runs=7), seed=23, dtype=dtype)
    parameters.b_h[:] = 60.0
    return parameters, batch


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("problem", [no_error, nothing_comes_down, saturated])
def test_without_a_direction_omega_is_nothing_or_nan(problem: Any, dtype: torch.dtype) -> None:
    """By default Ω contributes nothing; with released_nan the runs that have an alpha, and only they, are NaN."""
    parameters, batch = problem(dtype)
    gradients, seen = released(VARIETY).gradients(parameters, batch, diagnose=True)
    assert finite(gradients)
    assert all(getattr(seen, name).isfinite().all() for name in (*MEASURED, "regulariser", "loss"))
    for name in ("w_xh", "w_hh", "b_h"):
        assert torch.equal(getattr(gradients, name), torch.zeros_like(getattr(gradients, name))), name
    as_released = [replace(s, guarded=run % 2 == 0) for run, s in enumerate(VARIETY)]
    gradients, _ = released(as_released).gradients(parameters, batch)
    for run, settings in enumerate(as_released):
        one = Parameters(*(value[[run]] for value in tensors(gradients).values()))
        wants_nan = not settings.guarded and settings.regularisation_strength > 0
        assert finite(one) != wants_nan, (run, settings)
        if problem is no_error:
            continue  # the reference's outputs are those of the package up to roundings, so its d is not 0
        expected = ReleasedReference(weights_of(parameters, run), settings).gradients(
            inputs_of(batch, run), batch.targets[run]
        )
        assert all(value.isfinite().all() for value in expected.gradients) != wants_nan


@pytest.mark.parametrize("gap", [10.0, 80.0, 92.0, 98.0, 103.0, 200.0, 740.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vanishing_error(dtype: torch.dtype, gap: float) -> None:
    """A loss of about exp(-gap), down through the subnormal numbers to 0: finite at every size."""
    parameters, batch = random_problem(Shape(runs=7), seed=47, dtype=dtype)
    parameters.b_h[:, 1] = 60.0
    parameters.b_y[:, 0] += gap
    batch.targets.zero_()
    assert finite(released(VARIETY).gradients(parameters, batch)[0])


def test_a_loss_that_rounds_to_zero_leaves_the_input_weights_without_omega() -> None:
    """5b asks whether `loss` is 0; log(1 + x^2) is, for small x, where its derivative is not."""
    settings = [replace(VARIETY[3], target_step_size=size) for size in (1e-8, 1e-9)]
    parameters, batch = random_problem(Shape(runs=1), seed=4)
    parameters, batch = select(parameters, batch, [0, 0])
    _, seen = released(settings).gradients(parameters, batch, diagnose=True)
    assert (seen.local_loss[-2] == 0).all() and (seen.recurrent_norm[-2] > 0).all()
    _, without = released([replace(s, local_loss="mse") for s in settings]).gradients(
        parameters, batch, diagnose=True
    )
    assert (without.local_loss[-2] > 0).all()
    assert (without.input_norm[-2] > 1e3 * seen.input_norm[-2]).all()


# ------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("task", ["temporal_order", "adding"])
@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_training(task: str, strength: float) -> None:
    """A short run by the protocol: the loss falls, the hidden weights move, the measurements can be stored."""
    learner = {"name": "lra_released", "inner_steps": 3, "regularisation_strength": strength}
    config = run_config(
        learner, task=task, hidden=20, batch_size=20, max_iterations=60, validate_every=20, diagnostics=True
    )
    result = train(config)
    assert result.status == "max_iterations" and result.iterations == 60
    assert result.history[-1]["training_loss"] < result.history[1]["training_loss"]
    measured = result.history[0]
    assert len(measured["local_loss"]) == 10 and measured["local_loss"][-1] > 0
    assert (max(measured["regulariser"]) > 0) == (strength > 0)
    assert "w_hh_steps" not in measured
    assert result.parameters is not None
    product = result.parameters.w_hh[0] @ result.parameters.w_hh[0].T
    assert (product - torch.eye(20)).norm() > 1e-6  # no longer orthogonal, as it was drawn


def test_released_nan_ends_a_run() -> None:
    """Targets that equal the states in float32 end the run as the public code's end; the guarded one goes on."""
    learner = {
        "name": "lra_released",
        "inner_steps": 2,
        "regularisation_strength": 0.1,
        "target_step_size": 1e-12,
    }
    assert train(run_config(learner)).status == "max_iterations"
    result = train(run_config(learner | {"released_nan": True}))
    assert result.status == "diverged" and result.iterations == 0


def test_what_trains_side_by_side() -> None:
    """All settings but K, the loss and whether Ω acts may differ within a group."""
    base = {"name": "lra_released", "inner_steps": 2, "regularisation_strength": 0.1}
    key = shape_key(run_config(base))
    for change in (
        {"target_step_size": 3.0},
        {"clip_norm": 0.0},
        {"regularisation_strength": 1.0},
        {"released_nan": True},
    ):
        assert shape_key(run_config(base | change)) == key, change
    for change in ({"inner_steps": 3}, {"local_loss": "mse"}, {"regularisation_strength": 0.0}):
        assert shape_key(run_config(base | change)) != key, change


def test_a_batch_that_omega_s_diagonal_cannot_serve_is_refused_before_training() -> None:
    """One line that names both fields, their values and what is allowed."""
    learner = {"name": "lra_released", "regularisation_strength": 0.1}
    run_config(learner, hidden=4, batch_size=4)
    run_config(learner | {"regularisation_strength": 0.0}, hidden=4, batch_size=5)
    with pytest.raises(ValueError, match=r"^protocol.batch_size = 5: .*network.hidden_size.* 4"):
        parse(
            RunConfig,
            run_config(learner, hidden=4, batch_size=4).model_dump() | {"protocol": {"batch_size": 5}},
        )
