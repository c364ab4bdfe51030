"""bptt against autograd through the whole unrolled network, and against finite differences of the loss."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lra_companion.config import BPTTConfig
from lra_companion.learners import make_learner
from lra_companion.network import Batch, Parameters, forward, output_loss, readout
from problems import Shape, inputs_of, random_problem, select, weights_of
from reference import Weights, bptt_gradients, omega
from reference import forward as slow_forward
from reference import output_loss as slow_output_loss

CLOSE = {"atol": 1e-10, "rtol": 1e-10}
SETTINGS = [
    {},
    {"clip_norm": 0.05},
    {"clip_norm": 1e6},
    {"regularisation_strength": 0.5},
    {"regularisation_strength": 0.5, "regularisation_scope": "example"},
    {"regularisation_strength": 2.0, "regularisation_scope": "batch", "clip_norm": 0.3},
    {"regularisation_strength": 0.1, "regularisation_scope": "example", "clip_norm": 1.0},
    {"regularisation_strength": 0.0, "regularisation_scope": "example", "clip_norm": 0.7},
]


def bptt(settings: list[dict[str, Any]]) -> Any:
    """The package's learner for one run per setting."""
    return make_learner([BPTTConfig(name="bptt", **s) for s in settings])


def loss_of(parameters: Parameters, batch: Batch) -> Tensor:
    """L of each run, forward only."""
    return output_loss(readout(parameters, forward(parameters, batch.inputs).z[-1]), batch.targets)[0]


def global_norm(gradients: Parameters, run: int) -> float:
    """Norm over all five gradients of a run."""
    return float(torch.cat([getattr(gradients, name)[run].flatten() for name in Weights._fields]).norm())


@given(
    shape=st.builds(
        Shape,
        runs=st.just(len(SETTINGS)),
        steps=st.integers(1, 6),
        batch=st.integers(1, 5),
        inputs=st.integers(2, 6),
        hidden=st.integers(2, 6),
        outputs=st.integers(2, 5),
        symbols=st.booleans(),
        real_targets=st.booleans(),
    ),
    seed=st.integers(0, 10**6),
)
def test_gradients_equal_the_reference(shape: Shape, seed: int) -> None:
    """The exact gradient, Pascanu's Ω in both scopes and the global clip, each run with settings of its own."""
    parameters, batch = random_problem(shape, seed)
    gradients, _ = bptt(SETTINGS).gradients(parameters, batch)
    for run, settings in enumerate(SETTINGS):
        wanted = bptt_gradients(
            weights_of(parameters, run), inputs_of(batch, run), batch.targets[run], **settings
        )
        for name in Weights._fields:
            torch.testing.assert_close(getattr(gradients, name)[run], getattr(wanted, name), **CLOSE)


@pytest.mark.parametrize("real_targets", [True, False])
def test_gradient_is_the_slope_of_the_loss(real_targets: bool) -> None:
    """Central differences of L, weight by weight: no autograd on either side."""
    parameters, batch = random_problem(Shape(runs=1, steps=4, real_targets=real_targets), seed=2)
    gradients, diagnostics = bptt([{}]).gradients(parameters, batch)
    torch.testing.assert_close(diagnostics.loss, loss_of(parameters, batch))
    step = 1e-6
    for name in Weights._fields:
        weights, slopes = getattr(parameters, name), torch.zeros_like(getattr(parameters, name))
        for index in range(weights.numel()):
            kept = float(weights.view(-1)[index])
            weights.view(-1)[index] = kept + step
            above = loss_of(parameters, batch)
            weights.view(-1)[index] = kept - step
            slopes.view(-1)[index] = float(above - loss_of(parameters, batch)) / (2 * step)
            weights.view(-1)[index] = kept
        torch.testing.assert_close(getattr(gradients, name), slopes, atol=1e-8, rtol=1e-6)


def test_clipping_bounds_the_global_norm_and_keeps_the_direction() -> None:
    """One factor for all five gradients, 1 where the norm is short or c = 0."""
    parameters, batch = random_problem(Shape(runs=1), seed=3)
    parameters, batch = select(parameters, batch, [0, 0, 0])
    gradients, _ = bptt([{}, {"clip_norm": 0.1}, {"clip_norm": 100.0}]).gradients(parameters, batch)
    size = global_norm(gradients, 0)
    assert size > 0.2
    assert global_norm(gradients, 1) == pytest.approx(0.1, rel=1e-12)
    for name in Weights._fields:
        free, clipped, loose = getattr(gradients, name)
        torch.testing.assert_close(clipped, free * (0.1 / size), rtol=1e-12, atol=1e-15)
        assert torch.equal(loose, free)


def test_omega_moves_only_the_recurrent_weights() -> None:
    """Its immediate derivative is with respect to W_hh; a single time step has none."""
    parameters, batch = random_problem(Shape(runs=1), seed=4)
    parameters, batch = select(parameters, batch, [0, 0])
    settings = [{}, {"regularisation_strength": 0.7}]
    gradients, _ = bptt(settings).gradients(parameters, batch)
    assert (gradients.w_hh[1] - gradients.w_hh[0]).norm() > 1e-3
    for name in ("w_xh", "b_h", "w_hy", "b_y"):
        assert torch.equal(*getattr(gradients, name)), name
    gradients, _ = bptt(settings).gradients(parameters, Batch(batch.inputs[:1], batch.targets))
    assert torch.equal(gradients.w_hh, torch.zeros_like(gradients.w_hh))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_never_nan(dtype: torch.dtype) -> None:
    """No error, saturated units, no recurrence, no readout: finite with Ω and clipping."""
    shape = Shape(runs=len(SETTINGS), real_targets=True)
    parameters, batch = random_problem(shape, seed=5, dtype=dtype)
    reached = readout(parameters, forward(parameters, batch.inputs).z[-1])
    gradients, _ = bptt(SETTINGS).gradients(parameters, Batch(batch.inputs, reached))
    assert all(torch.equal(v, torch.zeros_like(v)) for v in gradients)
    for name, value in (("b_h", 60.0), ("w_hh", 0.0), ("w_hy", 0.0), ("w_xh", 0.0)):
        changed, _ = random_problem(shape, seed=5, dtype=dtype)
        getattr(changed, name)[:] = value
        gradients, _ = bptt(SETTINGS).gradients(changed, batch)
        assert all(v.isfinite().all() for v in gradients), name
        assert (gradients.b_y.norm(dim=1) > 0).all()


def test_gradients_vanish_over_many_steps_without_nan() -> None:
    """float32, 200 steps, weak recurrence: d_t passes through the subnormal numbers to 0."""
    shape = Shape(runs=len(SETTINGS), steps=200, batch=20, hidden=20, symbols=True)
    parameters, batch = random_problem(shape, seed=6, dtype=torch.float32)
    parameters.w_hh *= 0.3
    gradients, _ = bptt(SETTINGS).gradients(parameters, batch)
    assert all(v.isfinite().all() for v in gradients)
    assert all(0 < global_norm(gradients, run) < 1e3 for run in range(len(SETTINGS)))


@pytest.mark.parametrize("symbols", [True, False])
@pytest.mark.parametrize("runs", [[0], [3], [4], [5], [1, 6]])
def test_a_run_is_the_same_bits_alone_and_among_others(symbols: bool, runs: list[int]) -> None:
    """Gradients of a run do not depend on what it is batched with."""
    shape = Shape(runs=8, steps=8, batch=7, inputs=6, hidden=24, outputs=4, symbols=symbols)
    parameters, batch = random_problem(shape, seed=7, dtype=torch.float32)
    together, _ = bptt(SETTINGS).gradients(parameters, batch)
    alone, _ = bptt([SETTINGS[run] for run in runs]).gradients(*select(parameters, batch, runs))
    for name in Weights._fields:
        assert torch.equal(getattr(together, name)[runs], getattr(alone, name)), name


def test_symbols_and_one_hot_rows_give_the_same_gradients() -> None:
    """A symbol is a short way to write a one-hot row."""
    parameters, batch = random_problem(Shape(runs=8, symbols=True, inputs=3), seed=8)
    rows = torch.nn.functional.one_hot(batch.inputs, 3).double()
    one, _ = bptt(SETTINGS).gradients(parameters, batch)
    other, _ = bptt(SETTINGS).gradients(parameters, Batch(rows, batch.targets))
    for name in Weights._fields:
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-12, rtol=1e-12)


def test_diagnostics() -> None:
    """Per step: the norms of z_{t-1}^T d_t and x_t^T d_t, and Ω_t of the exact errors d_t; alpha = 0 here."""
    parameters, batch = random_problem(Shape(runs=2, steps=5), seed=9)
    scopes = ["batch", "example"]
    learner = bptt([{"regularisation_scope": scope} for scope in scopes])
    _, seen = learner.gradients(parameters, batch, diagnose=True)
    for run, scope in enumerate(scopes):
        w, x = weights_of(parameters, run), inputs_of(batch, run)
        h, z, logits = slow_forward(w.leaves(), x)
        errors = torch.autograd.grad(slow_output_loss(logits, batch.targets[run]), h)
        recurrent = torch.stack([(z[t].T @ d).norm() for t, d in enumerate(errors)]).detach()
        inputs = torch.stack([(x[t].T @ d).norm() for t, d in enumerate(errors)])
        omegas = [omega(errors[t], w.w_hh, h[t - 1], scope).detach() for t in range(1, 5)]
        torch.testing.assert_close(seen.recurrent_norm[:, run], recurrent, **CLOSE)
        torch.testing.assert_close(seen.input_norm[:, run], inputs, **CLOSE)
        torch.testing.assert_close(seen.regulariser[1:, run], torch.stack(omegas), **CLOSE)
    assert seen.regulariser[0].tolist() == [0.0, 0.0]
    assert seen.target_displacement is None and seen.local_loss is None
