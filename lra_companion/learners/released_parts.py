"""What the public code computes in its own way: its values of the local losses, an Ω with one slope per example, and what a
pass over a batch leaves to look at.

``lra_released`` is made of these, and ``lra_ablation`` takes them up one by one. Numbers are steps of ``learners.released``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lra_companion.config import ReleasedLossName
from lra_companion.learners.base import Diagnostics
from lra_companion.network import product
from lra_companion.stability import tanh_slope


@dataclass
class ReleasedDiagnostics(Diagnostics):
    """Also the clipped gradients of each round, which the learner returns summed over time, and L at the moved last state.

    target_displacement is that of zhat_t when it was found (step 5d moves on without it), local_loss and regulariser are what
    round t starts with: ``loss``, and Ω of its first inner step. Nothing happens at the first step: its entries are 0, but for
    target_displacement.
    """

    loss_after_target: Tensor | None = None  # (R,)
    w_xh_steps: Tensor | None = None  # (T, R, I, H)
    w_hh_steps: Tensor | None = None  # (T, R, H, H)
    b_h_steps: Tensor | None = None  # (T, R, H)


# log(1 + x^2) and not log1p: the losses measured from the public code are whole multiples of what rounding 1 + x^2 leaves. In
# float32 a difference below 2.4e-4 is then a loss of 0, and step 5b asks whether the loss is 0.
LOSS_VALUES: dict[ReleasedLossName, Callable[[Tensor], Tensor]] = {
    "mse": torch.square,
    "log_penalty": lambda difference: (1 + difference.square()).log_(),
}


@dataclass
class DiagonalRegulariser:
    """Ω = (r - 1)^2 of the public code, with what its two gradients need. excess: r - 1. unit: the norm of each column of s
    over that of s. phi' is taken from the diagonal.
    """

    error_norm: Tensor  # (R, 1), and so are the next three
    lower_norm: Tensor
    ratio: Tensor
    excess: Tensor
    unit: Tensor  # (R, B), and so are the next two
    slope: Tensor
    activation: Tensor

    @property
    def value(self) -> Tensor:
        """Ω of each run (R,)."""
        return self.excess.square().squeeze(1)

    @property
    def preactivation(self) -> Tensor:
        """dΩ/du (R, B): of the diagonal entries of u, the only ones that have any."""
        return self.unit.square().mul_(-4 * self.excess * self.ratio).mul_(self.activation)

    def weight(self, error: Tensor, pulled_back: Tensor) -> Tensor:
        """dΩ/dW (R, H, M), from d (R, B, M) and d W^T (R, B, H)."""
        factor = 2 * self.excess * self.slope.square() / self.lower_norm
        return product((pulled_back * factor[..., None]).transpose(1, 2), error / self.error_norm[..., None])


def diagonal_regulariser(
    error: Tensor, pulled_back: Tensor, state: Tensor, undefined: Tensor
) -> DiagonalRegulariser:
    """2, 3, 5b, 5d: eq. 8 with one phi' per example b, that of unit b: r = |diag(phi') d W^T| / |d|.

    error: d (R, B, M), held constant. pulled_back: d W^T (R, B, H). state: tanh(u) (R, B, H), B <= H. undefined (R, 1): r - 1
    where |d| = 0. Norms are the plain ones of the public code: they are 0 where all squares underflow.
    """
    activation = state.diagonal(dim1=1, dim2=2)
    slope = tanh_slope(activation)
    columns = torch.linalg.vector_norm(pulled_back, dim=2) * slope  # norms of the columns of s
    lower_norm = torch.linalg.vector_norm(columns, dim=1, keepdim=True)
    error_norm = torch.linalg.vector_norm(error, dim=(1, 2))[:, None]
    defined = error_norm > 0
    error_norm = torch.where(defined, error_norm, 1.0)
    ratio = lower_norm / error_norm
    lower_norm = torch.where(lower_norm > 0, lower_norm, 1.0)  # s = 0: r = 0, and the gradients of |s| are 0
    return DiagonalRegulariser(
        error_norm=error_norm,
        lower_norm=lower_norm,
        ratio=ratio,
        excess=torch.where(defined, ratio - 1, undefined),
        unit=columns / lower_norm,
        slope=slope,
        activation=activation,
    )
