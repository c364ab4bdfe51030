"""Clipping (eq. 3) and the gradient regulariser Ω in the direction of the update (eq. 8) with its two gradients.

Axes: R runs, B batch, H units at the lower end of a weight matrix W, M at its upper end. Leading axes (time) are free.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def norm(tensor: Tensor, axes: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Frobenius norm over ``axes``, right for every size the dtype can hold: vanishing errors are what is studied here, and
    the squares of 1e-25 underflow in float32.
    """
    size = torch.linalg.vector_norm(tensor, dim=axes)
    small = size < _SMALL[tensor.dtype]
    if small.any():
        magnified = torch.linalg.vector_norm(tensor * _MAGNIFIER[tensor.dtype], dim=axes) / _MAGNIFIER[tensor.dtype]
        size = torch.where(small, magnified, size)  # a run keeps the value it would have alone
    return size


# Below _SMALL squares lose digits. The magnifier is a power of two, so it costs none.
_SMALL = {torch.float32: 2.0**-50, torch.float64: 2.0**-400}
_MAGNIFIER = {torch.float32: 2.0**64, torch.float64: 2.0**512}


def clip_factor(gradient_norm: Tensor, clip_norm: Tensor, normalise: Tensor) -> Tensor:
    """(3)  What N_c multiplies a gradient of this norm with. Shapes broadcast against (R,).

    Mode "clip" shortens to norm c what is longer; mode "normalise" rescales everything to norm c, and 0 stays 0.
    c = 0 switches either off.
    """
    rescaled = (clip_norm > 0) & (gradient_norm > 0) & (normalise | (gradient_norm >= clip_norm))
    factor = (clip_norm / gradient_norm).clamp(max=torch.finfo(gradient_norm.dtype).max)
    return torch.where(rescaled, factor, 1.0)


def clip(gradient: Tensor, clip_norm: Tensor, normalise: Tensor) -> Tensor:
    """(3)  N_c of each run's gradient (R, ...), its norm taken over all axes but the first."""
    factor = clip_factor(norm(gradient.flatten(1), (1,)), clip_norm, normalise)
    return gradient * factor.view(-1, *[1] * (gradient.dim() - 1))


@dataclass
class Regulariser:
    """Ω = (r - 1)^2 and its two gradients, made on request from the quantities of eq. 8.

    error_norm: |d| (..., R, B, 1). lower: s phi' (..., R, B, H). unit: lower / |lower|. slope: phi'. activation: tanh(u).
    ratio: r (..., R, B, 1). excess: r - 1, in scope "example" over B, an example's share in Ω.
    """

    error_norm: Tensor
    lower: Tensor
    unit: Tensor
    slope: Tensor
    activation: Tensor
    ratio: Tensor
    excess: Tensor

    @property
    def value(self) -> Tensor:
        """(8)  Ω of each run (..., R). In scope "batch" all B entries of the ratio are the same."""
        return (self.ratio - 1).square().squeeze(-1).mean(-1)

    @property
    def unit_weight_factor(self) -> Tensor:
        """G phi' |d|: dΩ/dW = unit_weight_factor^T (d / |d|). Neither factor leaves float32's range as d vanishes."""
        return (self.unit * self.slope).mul_(2 * self.excess)

    @property
    def weight_factor(self) -> Tensor:
        """G phi' (..., R, B, H): dΩ/dW = weight_factor^T d."""
        return self.unit_weight_factor / self.error_norm

    @property
    def preactivation(self) -> Tensor:
        """(8)  dΩ/du = G s (-2 tanh(u) phi'). With s phi' = |s phi'| unit and r = |s phi'| / |d| no small number is left in it."""
        return self.unit.square().mul_(-4 * self.excess * self.ratio).mul_(self.activation)


def regulariser(error: Tensor, pulled_back: Tensor, activation: Tensor, per_example: Tensor) -> Regulariser:
    """Ω = (r - 1)^2 with r = |s phi'| / |d| (eq. 8; Pascanu et al. 2013, eq. 9).

    error: d (..., R, B, M) at the upper end of W, held constant. pulled_back: s = d W^T (..., R, B, H). activation: tanh(u)
    (..., R, B, H). per_example (R,): whether a run takes one r per example and averages (scope "example") or one over
    the batch. Where |d| or |s phi'| is below the smallest normal number, Ω and its gradients are 0.
    """
    slope = tanh_slope(activation)
    lower = pulled_back * slope
    norms = torch.stack([norm(error, (-1,)), norm(lower, (-1,))])  # (2, ..., R, B): |d| and |s phi'|
    by_example = per_example[:, None]
    norms = torch.where(by_example, norms, norm(norms, (-1,))[..., None])
    defined = (norms >= torch.finfo(error.dtype).tiny).all(0)
    error_norm, lower_norm = torch.where(defined, norms, norms.new_ones(())).unsqueeze(-1)
    ratio = lower_norm / error_norm  # (8)  r; 1, where Ω and its slope vanish, if it is not defined
    excess = ratio - 1
    return Regulariser(
        error_norm=error_norm,
        lower=lower,
        unit=lower / lower_norm,
        slope=slope,
        activation=activation,
        ratio=ratio,
        excess=torch.where(by_example[..., None], excess / error.shape[-2], excess),
    )


def tanh_slope(activation: Tensor) -> Tensor:
    """phi'(u) = 1 - tanh(u)^2."""
    return torch.addcmul(activation.new_ones(()), activation, activation, value=-1)
