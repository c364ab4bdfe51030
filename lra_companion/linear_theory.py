"""What eqs. 4-7 predict for targets close to their states: how a displacement is handed back in time (book/why_it_vanishes.md).

To first order in the displacement delta_t = zhat_t - z_t the inner loop of eq. 7 is linear. With D_t = phi'(h_t), rows v moving
h_{t-1}, and v J_t = ((v D_{t-1}) W_hh) D_t the step from a moved h_{t-1} to z_t,

    v <- v - beta N_c( m (v J_t - delta_t) J_t^T ),  K times from v = 0;    delta_{t-1} = v D_{t-1}

where m is the loss's second derivative at 0 times 1/(B H) for `mean` and 1 for `per_example`. Without Ω throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lra_companion.config import LocalLossName, LRAConfig
from lra_companion.learners.lra_settings import LRASettings
from lra_companion.local_losses import reduction_scale
from lra_companion.network import Batch, Parameters, forward, output_loss, product, readout
from lra_companion.stability import Clipping, norm, tanh_slope

CURVATURES: dict[LocalLossName, float] = {"mse": 2.0, "log_penalty": 2.0, "huber": 1.0}
"""Second derivative at 0 of each loss that is the same parabola in every unit there."""


def pull(config: LRAConfig, batch_size: int, hidden_size: int) -> float:
    """m: how hard eq. 7 pulls at a state for each unit of error above it. Raises ValueError where there is no such number."""
    if config.local_loss not in CURVATURES:
        raise ValueError(f"local_loss = {config.local_loss!r}: has no curvature at 0 that all units share")
    if config.regularisation_strength > 0:
        raise ValueError(
            f"regularisation_strength = {config.regularisation_strength}: Ω is not linear in the error"
        )
    scale = reduction_scale(config.reduction, batch_size, hidden_size)
    return CURVATURES[config.local_loss] * scale * (1 if config.reduction == "mean" else batch_size)


def top_displacement(parameters: Parameters, batch: Batch, configs: Sequence[LRAConfig]) -> Tensor:
    """delta_T (R, B, H) to first order: K steps of eq. 4, all with the derivative of L at h_T."""
    state = forward(parameters, batch.inputs).z[-1]
    _, error = output_loss(readout(parameters, state), batch.targets)
    slope = tanh_slope(state)
    settings = LRASettings.of(configs, state, state.shape[1])
    gradient = product(error, parameters.w_hy.transpose(1, 2)) * slope * settings.target_scale
    steps = configs[0].inner_steps * settings.beta
    return -steps * _clipped(gradient, settings.target_clipping) * slope


def linear_displacement(
    parameters: Parameters, batch: Batch, configs: Sequence[LRAConfig], top: Tensor
) -> Tensor:
    """delta_t (T, R, B, H) that eq. 7 hands down from delta_T = ``top`` (R, B, H), with the Jacobians of the trajectory."""
    z = forward(parameters, batch.inputs).z
    steps, _, size, hidden = z[1:].shape
    slope = tanh_slope(z[1:])
    w_hh_transposed = parameters.w_hh.transpose(1, 2)
    settings = LRASettings.of(configs, top, size)
    m = top.new_tensor([pull(c, size, hidden) for c in configs])[:, None, None]
    displacement = torch.empty_like(slope)
    displacement[-1] = top
    for t in range(steps - 1, 0, -1):
        below, above = slope[t - 1], slope[t]
        v = torch.zeros_like(top)
        for _ in range(configs[0].inner_steps):
            missing = product(v * below, parameters.w_hh) * above - displacement[t]
            gradient = m * product(missing * above, w_hh_transposed) * below
            v = v - settings.beta * _clipped(gradient, settings.target_clipping)
        displacement[t - 1] = v * below
    return displacement


def first_order_factors(parameters: Parameters, batch: Batch, config: LRAConfig, top: Tensor) -> Tensor:
    """|delta_{t-1}| / |delta_t| (T - 1, R), for t = 2..T, where K beta m is small and nothing is clipped:

    delta_{t-1} = K beta m ((delta_t D_t) W_hh^T) D_{t-1}^2.
    """
    z = forward(parameters, batch.inputs).z
    slope = tanh_slope(z[1:])
    rate = config.inner_steps * config.target_step_size * pull(config, *top.shape[1:])
    factors, direction = [], top
    for t in range(len(slope) - 1, 0, -1):
        unit = direction / norm(direction)[:, None, None]
        direction = product(unit * slope[t], parameters.w_hh.transpose(1, 2)) * slope[t - 1].square()
        factors.insert(0, rate * norm(direction))
    return torch.stack(factors)


def scalar_factor(config: LRAConfig, batch_size: int, slope: Tensor, w_hh: Tensor) -> Tensor:
    """One number per run (R,) for |delta_{t-1}| / |delta_t|, as if slopes and errors were independent of each other.

    slope: phi'(h) (T, R, B, H). With g^2 the mean squared singular value of W_hh and <.> means over all units,
        q = g <phi'^2>^(1/2) <phi'^4>^(1/2),   s^2 = g^2 <phi'^2>^2,   factor = q (1 - (1 - beta m s^2)^K) / s^2,
    which is K beta m q where K beta m s^2 is small. Nothing is clipped.
    """
    hidden = w_hh.shape[-1]
    gain = w_hh.square().sum((1, 2)) / hidden  # g^2
    second, fourth = (slope**power for power in (2, 4))
    second, fourth = second.mean((0, 2, 3)), fourth.mean((0, 2, 3))
    squared = gain * second.square()  # s^2
    reached = (
        1 - (1 - config.target_step_size * pull(config, batch_size, hidden) * squared) ** config.inner_steps
    )
    return (gain * second * fourth).sqrt() * reached / squared


def _clipped(gradient: Tensor, clipping: Clipping) -> Tensor:
    return gradient * clipping.factor(norm(gradient))[:, None, None]
