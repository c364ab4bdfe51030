"""Local losses (eq. 5): how far a state z_t is from its target zhat_t, element by element, and how it is reduced.

A loss is a pair of element-wise functions of the difference z - zhat: its value and its derivative. What turns the elements
into one number per run is the reduction, an axis of its own (method.md, "Reduction").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lra_companion.config import LocalLossName, Reduction


@dataclass(frozen=True)
class LocalLoss:
    """Element-wise ``value`` and ``derivative``; both take the difference z - zhat, of any shape."""

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


def _log_penalty_derivative(difference: Tensor) -> Tensor:
    return difference / difference.square().add_(1).mul_(0.5)  # 2 x / (1 + x^2)


LOCAL_LOSSES: dict[LocalLossName, LocalLoss] = {
    # (5) squared error
    "mse": LocalLoss(torch.square, lambda difference: 2 * difference),
    # (5) log-penalty, the negative log-likelihood of a Cauchy distribution (arXiv:1803.01834)
    "log_penalty": LocalLoss(lambda difference: torch.log1p(difference.square()), _log_penalty_derivative),
}


def reduction_scale(reduction: Reduction, batch_size: int, hidden_size: int) -> float:
    """Weight of one element in l_t: 1 / (B H) for ``mean``, 1 / B for ``per_example``."""
    return 1 / (batch_size * hidden_size) if reduction == "mean" else 1 / batch_size
