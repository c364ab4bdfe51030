"""Clipping (eq. 3) and the gradient regulariser Ω in the direction of the update (eq. 8) with its two gradients.

Axes: R runs, B batch, H units at the lower end of a weight matrix W, M at its upper end. Leading axes (time) are free.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor


def norm(tensor: Tensor, axes: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Frobenius norm over ``axes``, right for every size the dtype can hold: vanishing errors are what is studied here, and
    the squares of 1e-25 underflow in float32.
    """
    size = torch.linalg.vector_norm(tensor, dim=axes)
    if size.min() >= _SMALL[tensor.dtype]:
        return size
    magnified = (
        torch.linalg.vector_norm(tensor * _MAGNIFIER[tensor.dtype], dim=axes) / _MAGNIFIER[tensor.dtype]
    )
    return torch.where(
        size < _SMALL[tensor.dtype], magnified, size
    )  # a run keeps the value it would have alone


# Below _SMALL squares lose digits. The magnifier is a power of two, so it costs none.
_SMALL = {torch.float32: 2.0**-50, torch.float64: 2.0**-400}
_MAGNIFIER = {torch.float32: 2.0**64, torch.float64: 2.0**512}


class Clipping:
    """(3)  N_c of R runs, each with its own norm c and mode.

    clip_norm: c (R,). normalise (R,): mode "normalise", which rescales everything to norm c (0 stays 0), instead of "clip",
    which shortens to c what is longer. c = 0 switches either off. A gradient of norm n is multiplied by min(clip_norm / n,
    cap).
    """

    def __init__(self, clip_norm: Tensor, normalise: Tensor) -> None:
        off = clip_norm == 0
        self.clip_norm = clip_norm.masked_fill(off, torch.inf)
        self.cap = torch.ones_like(clip_norm).masked_fill(normalise & ~off, torch.finfo(clip_norm.dtype).max)

    def factor(self, gradient_norm: Tensor) -> Tensor:
        """What N_c multiplies gradients of these norms (R, ...) with."""
        shape = (-1, *[1] * (gradient_norm.dim() - 1))
        factor = torch.minimum(self.clip_norm.view(shape) / gradient_norm, self.cap.view(shape))
        return torch.where(gradient_norm == 0, 1.0, factor)

    def rescales(self, gradient_norm: Tensor) -> Tensor:
        """Which gradients N_c changes."""
        return self.factor(gradient_norm) != 1


def clip(gradient: Tensor, clip_norm: Tensor, normalise: Tensor) -> Tensor:
    """(3)  N_c of each run's gradient (R, ...), its norm taken over all axes but the first."""
    factor = Clipping(clip_norm, normalise).factor(norm(gradient.flatten(1), (1,)))
    return gradient * factor.view(-1, *[1] * (gradient.dim() - 1))


@dataclass
class Regulariser:
    """Ω = (r - 1)^2 and its two gradients, made on request from the quantities of eq. 8.

    error_norm: |d| (..., R, B, 1). lower: s phi' (..., R, B, H). unit: lower / |lower|. slope: phi'. activation: tanh(u).
    ratio: r (..., R, B, 1). excess: r - 1, 0 where Ω is not defined. share: the excess, in scope "example" over B.
    """

    error_norm: Tensor
    lower: Tensor
    unit: Tensor
    slope: Tensor
    activation: Tensor
    ratio: Tensor
    excess: Tensor
    share: Tensor

    @property
    def value(self) -> Tensor:
        """(8)  Ω of each run (..., R). In scope "batch" all B entries of the ratio are the same."""
        return self.excess.square().squeeze(-1).mean(-1)

    @property
    def unit_weight_factor(self) -> Tensor:
        """G phi' |d|: dΩ/dW = unit_weight_factor^T (d / |d|). Neither factor leaves float32's range as d vanishes."""
        return (self.unit * self.slope).mul_(2 * self.share)

    @property
    def weight_factor(self) -> Tensor:
        """G phi' (..., R, B, H): dΩ/dW = weight_factor^T d."""
        return self.unit_weight_factor / self.error_norm

    @property
    def preactivation(self) -> Tensor:
        """(8)  dΩ/du = G s (-2 tanh(u) phi'). With s phi' = |s phi'| unit and r = |s phi'| / |d| no small number is left."""
        return self.unit.square().mul_(-4 * self.share * self.ratio).mul_(self.activation)


def regulariser(error: Tensor, pulled_back: Tensor, activation: Tensor, per_example: Tensor) -> Regulariser:
    """Ω = (r - 1)^2 with r = |s phi'| / |d| (eq. 8; Pascanu et al. 2013, eq. 9).

    error: d (..., R, B, M) at the upper end of W, held constant. pulled_back: s = d W^T (..., R, B, H). activation: tanh(u)
    (..., R, B, H). per_example (R,): whether a run takes one r per example and averages (scope "example") or one over
    the batch. Where |d| or |s phi'| is below the smallest normal number, Ω and its gradients are 0.
    """
    slope = tanh_slope(activation)
    lower = pulled_back * slope
    norms = _both_norms(error, lower)  # (2, ..., R, B)
    by_example = per_example[:, None]
    norms = torch.where(by_example, norms, norm(norms, (-1,))[..., None]).unsqueeze(-1)
    tiny = torch.finfo(error.dtype).tiny
    defined = norms.amin(0) >= tiny
    error_norm, lower_norm = norms.clamp_(min=tiny).unbind()
    ratio = lower_norm / error_norm  # (8)  r
    excess = (ratio - 1).mul_(defined)  # 0, and with it Ω and its gradients, where Ω is not defined
    return Regulariser(
        error_norm=error_norm,
        lower=lower,
        unit=lower / lower_norm,
        slope=slope,
        activation=activation,
        ratio=ratio,
        excess=excess,
        share=torch.where(by_example[..., None], excess / error.shape[-2], excess),
    )


def _both_norms(error: Tensor, lower: Tensor) -> Tensor:
    """|d| and |s phi'| of each example, (2, ..., R, B)."""
    norms = torch.stack([torch.linalg.vector_norm(error, dim=-1), torch.linalg.vector_norm(lower, dim=-1)])
    if norms.min() >= _SMALL[error.dtype]:
        return norms
    return torch.stack([norm(error, (-1,)), norm(lower, (-1,))])


@functools.cache
def _one(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.ones((), dtype=dtype, device=device)


def tanh_slope(activation: Tensor) -> Tensor:
    """phi'(u) = 1 - tanh(u)^2."""
    return torch.addcmul(_one(activation.dtype, activation.device), activation, activation, value=-1)
