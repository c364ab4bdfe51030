"""Local losses (eq. 5): how far a state z_t is from its target zhat_t, and how that is reduced to one number.

A loss is a pair of functions of state and target: its value, whose sum over the units is the distance of one example, and the
derivative of that distance with respect to the state. What turns the examples' distances into one number per run is the
reduction, an axis of its own (method.md, "Reduction").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lra_companion.config import LocalLossName, Reduction
from lra_companion.stability import norm


@dataclass(frozen=True)
class LocalLoss:
    """``value`` and ``derivative`` of state and target (..., H), both of their shape and new tensors.

    The sum of ``value`` over the units is an example's distance; ``derivative`` is that of the sum with respect to the state.
    """

    value: Callable[[Tensor, Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]


def _mse(state: Tensor, target: Tensor) -> Tensor:
    return (state - target).square_()


def _mse_derivative(state: Tensor, target: Tensor) -> Tensor:
    return (state - target).mul_(2)


def _log_penalty(state: Tensor, target: Tensor) -> Tensor:
    return (state - target).square_().log1p_()


def _log_penalty_derivative(state: Tensor, target: Tensor) -> Tensor:
    difference = state - target
    return difference / difference.square().add_(1).mul_(0.5)  # 2 x / (1 + x^2)


def _huber(state: Tensor, target: Tensor) -> Tensor:
    size = (state - target).abs_()
    return torch.where(size <= 1, 0.5 * size.square(), size - 0.5)


def _huber_derivative(state: Tensor, target: Tensor) -> Tensor:
    return (state - target).clamp_(-1, 1)


def _l1(state: Tensor, target: Tensor) -> Tensor:
    return (state - target).abs_()


def _l1_derivative(state: Tensor, target: Tensor) -> Tensor:
    return (state - target).sign_()  # at the kink the subgradient 0


def _cosine(state: Tensor, target: Tensor) -> Tensor:
    """1 - cos(z, zhat) = |z / |z| - zhat / |zhat||^2 / 2, the square split by units: small angles keep their digits."""
    state_norm, target_norm, undefined = _norms(state, target)
    difference = (state / state_norm).sub_(target / target_norm)
    return difference.square_().mul_(0.5).masked_fill_(undefined, 0)


def _cosine_derivative(state: Tensor, target: Tensor) -> Tensor:
    """What of -zhat / (|z| |zhat|) is across z. It is also what of z - zhat is, which has more digits where they are close."""
    state_norm, target_norm, undefined = _norms(state, target)
    difference, direction = state - target, state / state_norm
    pull = torch.where(norm(difference, (-1,))[..., None] < target_norm, difference, -target)
    along = (pull * direction).sum(-1, keepdim=True)
    across = pull.addcmul_(along, direction, value=-1)
    return across.div_(target_norm).div_(state_norm).masked_fill_(undefined, 0)


def _norms(state: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|z| and |zhat| of each example (..., 1), at least the smallest normal number, and whether one is smaller than that."""
    tiny = torch.finfo(state.dtype).tiny
    norms = torch.stack([norm(state, (-1,)), norm(target, (-1,))]).unsqueeze(-1)
    undefined = norms.amin(0) < tiny
    state_norm, target_norm = norms.clamp_(min=tiny).unbind()
    return state_norm, target_norm, undefined


LOCAL_LOSSES: dict[LocalLossName, LocalLoss] = {
    # (5) squared error
    "mse": LocalLoss(_mse, _mse_derivative),
    # (5) log-penalty, the negative log-likelihood of a Cauchy distribution (arXiv:1803.01834)
    "log_penalty": LocalLoss(_log_penalty, _log_penalty_derivative),
    # (5) squared error up to 1, absolute error beyond
    "huber": LocalLoss(_huber, _huber_derivative),
    # (5) absolute error
    "l1": LocalLoss(_l1, _l1_derivative),
    # (5) cosine distance, one angle per example; 0 where a vector is 0
    "cosine": LocalLoss(_cosine, _cosine_derivative),
}


def reduction_scale(reduction: Reduction, batch_size: int, hidden_size: int) -> float:
    """Weight of an example's distance in l_t: 1 / (B H) for ``mean``, 1 / B for ``per_example``, whatever the loss.

    So the cosine distance, which is no sum over units, is divided by H under ``mean`` all the same: a reduction scales the
    losses alike.
    """
    return 1 / (batch_size * hidden_size) if reduction == "mean" else 1 / batch_size
