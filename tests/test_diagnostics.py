"""Angles, spectral radius, decay per step: against autograd, closed cases, and what single precision does to targets."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from lra_companion.config import LRAConfig, RunConfig
from lra_companion.diagnostics import (
    ALL,
    angle_to_exact,
    cosines,
    exact_gradients,
    fitted_decay,
    fitted_factor,
    resolution,
    resolved,
    spectral_radius,
    starting_point,
)
from lra_companion.learners import make_learner
from lra_companion.learners.base import Diagnostics
from lra_companion.network import Batch, Parameters, initial_parameters
from lra_companion.tasks import make_task
from problems import Shape, inputs_of, random_problem, weights_of
from reference import bptt_gradients
from runs import run_config

NAMES = ["w_xh", "w_hh", "b_h", "w_hy", "b_y"]


class Fixed:
    """A learner that returns given gradients."""

    def __init__(self, gradients: Parameters) -> None:
        self.given = gradients

    def gradients(self, parameters, batch, diagnose=False):
        return self.given, Diagnostics(torch.zeros(parameters.b_h.shape[0]))


def moved(parameters: Parameters, direction: Parameters, run: int, size: float) -> Parameters:
    return Parameters(*(w[[run]] + size * d[[run]] for w, d in zip(parameters, direction, strict=True)))


def test_exact_gradients_are_those_of_autograd():
    parameters, batch = random_problem(Shape(), seed=1)
    found = exact_gradients(parameters, batch)
    for run in range(2):
        expected = bptt_gradients(weights_of(parameters, run), inputs_of(batch, run), batch.targets[run])
        for name in NAMES:
            torch.testing.assert_close(getattr(found, name)[run], getattr(expected, name), rtol=1e-10, atol=0)


def test_the_cosine_is_the_slope_of_the_loss_along_a_unit_step():
    """By finite differences of L: -dL/dstep / |gradient| along a random direction."""
    parameters, batch = random_problem(Shape(), seed=2)
    direction = random_problem(Shape(), seed=3)[0]
    exact = exact_gradients(parameters, batch)
    found = cosines(direction, exact)[ALL]
    for run in range(2):
        one = Batch(batch.inputs[:, [run]], batch.targets[[run]])
        up, down = (
            make_learner([LRAConfig(name="lra")])
            .gradients(moved(parameters, direction, run, size), one)[1]
            .loss
            for size in (1e-6, -1e-6)
        )
        length, steepness = (
            torch.cat([part[run].flatten() for part in which]).norm() for which in (direction, exact)
        )
        assert found[run].item() == pytest.approx(((up - down) / 2e-6 / length / steepness).item(), abs=1e-7)


@pytest.mark.parametrize(("factor", "degrees"), [(3.0, 0.0), (1e-30, 0.0), (-2.0, 180.0)])
def test_angles_do_not_feel_a_scale(factor, degrees):
    parameters, batch = random_problem(Shape(), seed=4, dtype=torch.float32)
    exact = exact_gradients(parameters, batch)
    found = angle_to_exact(Fixed(Parameters(*(factor * part for part in exact))), parameters, batch)
    assert set(found) == {*NAMES, ALL}
    for angle in found.values():
        assert_allclose(angle, degrees, atol=0.1)


def test_a_tensor_turned_by_a_known_angle():
    parameters, batch = random_problem(Shape(), seed=5)
    exact = exact_gradients(parameters, batch)
    across = random_problem(Shape(), seed=6)[0].w_hh
    along = exact.w_hh / exact.w_hh.flatten(1).norm(dim=1)[:, None, None]
    across = across - (across * along).sum((1, 2), keepdim=True) * along
    across = across / across.flatten(1).norm(dim=1)[:, None, None]
    turned = Parameters(
        exact.w_xh, along * np.cos(0.5) + across * np.sin(0.5), exact.b_h, exact.w_hy, exact.b_y
    )
    found = angle_to_exact(Fixed(turned), parameters, batch)
    assert_allclose(found["w_hh"], np.rad2deg(0.5), rtol=1e-9)
    assert_allclose(found["w_xh"], 0, atol=1e-5)


def test_no_gradient_has_no_angle():
    parameters, batch = random_problem(Shape(), seed=7)
    found = angle_to_exact(make_learner([run_config("readout").learner] * 2), parameters, batch)
    assert torch.isnan(found["w_hh"]).all() and torch.isnan(found["b_h"]).all()
    assert_allclose(found["w_hy"], 0, atol=1e-5)
    assert (found[ALL] > 1).all()


def test_spectral_radius():
    rotation = torch.tensor([[0.0, 2.0], [-2.0, 0.0]])  # eigenvalues 2i, -2i
    shear = torch.tensor([[0.5, 100.0], [0.0, -0.7]])  # norms say 100, eigenvalues 0.7
    assert_allclose(spectral_radius(torch.stack([rotation, shear])), [2.0, 0.7], rtol=1e-6)
    assert_allclose(spectral_radius(initial_parameters([1, 2], 3, 30, 2).w_hh), 1.0, rtol=1e-5)


@pytest.mark.parametrize("task", ["random_permutation", "adding"])
def test_runs_start_where_training_does(task):
    configs = [run_config("lra", seed=seed, task=task) for seed in (1, 2)]
    parameters, batch = starting_point(configs, torch.float64)
    expected = initial_parameters([1, 2], parameters.w_xh.shape[1], 8, parameters.w_hy.shape[2])
    for found, part in zip(parameters, expected, strict=True):
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), part, rtol=0, atol=0)
    first = make_task(configs[0].task).batch([1, 2], 0, 4)
    torch.testing.assert_close(batch.inputs.to(first.inputs.dtype), first.inputs, rtol=0, atol=0)
    assert batch.targets.dtype == (torch.float64 if task == "adding" else first.targets.dtype)


# Decay


def test_a_known_decay_is_found():
    norms = 3.0 * 0.4 ** np.arange(12)[::-1]  # t = 1..T, largest at the end
    assert fitted_factor(norms, np.ones(12, bool)) == pytest.approx(0.4, rel=1e-12)
    assert fitted_factor(norms[::-1], np.ones(12, bool)) == pytest.approx(2.5, rel=1e-12)


def test_what_is_not_used_does_not_count():
    norms = 0.1 ** np.arange(10.0)[::-1]
    norms[:4] = [7.0, 0.0, np.nan, 3.0]
    assert fitted_factor(norms, np.arange(10) >= 4) == pytest.approx(0.1, rel=1e-12)
    norms[6] = 0.0  # a zero has no logarithm, and is left out
    assert fitted_factor(norms, np.arange(10) >= 4) == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize("used", [[], [5], [0]])
def test_one_step_is_no_decay(used):
    assert np.isnan(fitted_factor(np.ones(6), np.isin(np.arange(6), used)))


def test_resolved_is_the_stretch_from_the_end():
    norms = [[5.0, 0.0, 2.0, 3.0], [1.0, 2.0, 3.0, 0.5], [2.0, np.nan, 2.0, 2.0], [2.0, 2.0, 2.0, 2.0]]
    assert_array_equal(
        resolved(norms, 1.0),
        [[False, False, True, True], [False] * 4, [False, False, True, True], [True] * 4],
    )


def test_decay_over_seeds():
    factors = [0.2, 0.3, 0.4, 0.5]
    norms = np.array([factor ** np.arange(8.0)[::-1] for factor in factors])
    used = np.ones((4, 8), bool)
    used[3, :7] = False  # the last seed has one step left: no factor
    decay = fitted_decay(norms, used, np.random.default_rng(0))
    assert_allclose(decay.factors, [0.2, 0.3, 0.4, np.nan], rtol=1e-12)
    assert_array_equal(decay.steps, [8, 8, 8, 1])
    assert decay.estimate is not None and decay.estimate.n == 3
    assert decay.estimate.value == pytest.approx((0.2 * 0.3 * 0.4) ** (1 / 3))
    assert 0.2 <= decay.estimate.low < decay.estimate.value < decay.estimate.high <= 0.4 + 1e-12
    again = fitted_decay(norms, used, np.random.default_rng(0))
    assert again.estimate == decay.estimate, "the generator is the caller's"


def test_no_seed_with_two_steps_has_no_estimate():
    decay = fitted_decay(np.ones((2, 3)), np.zeros((2, 3), bool), np.random.default_rng(0))
    assert decay.estimate is None and np.isnan(decay.factors).all()


def test_the_floor_is_where_single_precision_ends():
    """Above it float32 agrees with float64; a few steps below it nothing is left. So the floor is neither lax nor wasteful."""
    config = RunConfig.model_validate(
        {
            "task": {"name": "random_permutation", "sequence_length": 20},
            "learner": {"name": "lra", "target_step_size": 10.0},
            "protocol": {"batch_size": 20},
            "seed": 1,
        }
    )
    norms = []
    for dtype in (torch.float64, torch.float32):
        start = starting_point([config], dtype)
        found = make_learner([config.learner]).gradients(*start, diagnose=True)[1].target_displacement
        assert found is not None
        norms.append(found[:, 0].double().numpy())
    exact, single = norms
    used = resolved(single, resolution(20, 100))
    assert 4 <= used.sum() < 10
    assert_allclose(single[used], exact[used], rtol=0.05)
    below = np.flatnonzero(~used)[-3:]
    assert np.abs(single[below] / exact[below] - 1).max() > 0.2, "three steps further, rounding decides"
    assert (single[:8] == 0).all() and (exact[5:8] > 0).all()
