"""Measured against predicted: how fast LRA's target displacement fades in untrained networks, in double precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from lra_companion.config import LRAConfig, RunConfig
from lra_companion.diagnostics import Decay, fitted_decay, resolution, resolved, starting_point
from lra_companion.learners import make_learner
from lra_companion.linear_theory import (
    first_order_factors,
    linear_displacement,
    scalar_factor,
    top_displacement,
)
from lra_companion.network import forward
from lra_companion.stability import norm, tanh_slope
from lra_companion.training import one_thread

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DecayComparison:
    """One setting at the start of training. norms, predicted (seeds, T): |zhat_t - z_t|, measured, and by the linear theory
    from the measured |zhat_T - z_T| down; used (seeds, T): what stands above rounding. measured, linear: factors per step,
    fitted to both over the same steps. first_order: K beta m q; scalar: its saturating form; means over seeds.
    """

    config: RunConfig
    norms: Floats
    predicted: Floats
    used: NDArray[np.bool_]
    measured: Decay
    linear: Decay
    first_order: float
    scalar: float

    @property
    def step_size(self) -> float:
        """The target step size beta."""
        return _lra(self.config).target_step_size

    @property
    def error(self) -> float:
        """Largest relative difference, over seeds, of the fitted factors: predicted against measured."""
        return float(np.nanmax(np.abs(self.linear.factors / self.measured.factors - 1)))


@one_thread()
def compare_decay(configs: Sequence[RunConfig], generator: Generator) -> DecayComparison:
    """Measure and predict the displacement of LRA without Ω: one run for each seed, alike in all else."""
    learners = [_lra(config) for config in configs]
    parameters, batch = starting_point(configs, torch.float64)
    _, diagnostics = make_learner(learners).gradients(parameters, batch, diagnose=True)
    measured = diagnostics.target_displacement
    assert measured is not None  # LRA measures it
    direction = top_displacement(parameters, batch, learners)
    top = direction * (measured[-1] / norm(direction))[:, None, None]
    predicted = norm(linear_displacement(parameters, batch, learners, top))
    slope = tanh_slope(forward(parameters, batch.inputs).z[1:])
    size, hidden = top.shape[1:]
    norms = measured.T.numpy()
    used = resolved(norms, resolution(size, hidden, np.float64))
    return DecayComparison(
        config=configs[0],
        norms=norms,
        predicted=predicted.T.numpy(),
        used=used,
        measured=fitted_decay(norms, used, generator),
        linear=fitted_decay(predicted.T.numpy(), used, generator),
        first_order=float(first_order_factors(parameters, batch, learners[0], top).log().mean().exp()),
        scalar=float(scalar_factor(learners[0], size, slope, parameters.w_hh).mean()),
    )


def _lra(config: RunConfig) -> LRAConfig:
    if not isinstance(config.learner, LRAConfig):
        raise ValueError(f"learner.name = {config.learner.name!r}: the prediction is of lra")
    return config.learner
