"""The contract all learning rules share: gradients of R networks on one batch, and what was measured on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from lra_companion.network import Batch, Parameters, product
from lra_companion.stability import norm


@dataclass
class Diagnostics:
    """What a learner measured. ``loss`` (R,) is always there: L on the batch before the update.

    The others are filled when asked for, (T, R) with index 0 for t = 1, and stay None where a rule has no such notion.
    """

    loss: Tensor
    recurrent_norm: Tensor | None = None  # |dW_hh^t| before clipping
    input_norm: Tensor | None = None  # |dW_xh^t| before clipping
    target_displacement: Tensor | None = None  # |zhat_t - z_t|
    local_loss: Tensor | None = None  # l_t
    regulariser: Tensor | None = None  # Ω_t; 0 at t = 1, where there is no earlier state
    clipped_share: Tensor | None = (
        None  # (R,): share of weight gradients and target steps that eq. 3 rescaled
    )


class Learner(Protocol):
    """A learning rule for R runs. It never touches the optimiser, the clock or the disk."""

    def gradients(
        self, parameters: Parameters, batch: Batch, diagnose: bool = False
    ) -> tuple[Parameters, Diagnostics]:
        """Gradients for the optimiser, of the parameters' shapes, and the diagnostics.

        A rule with a state of its own trains it here, once in each call. With ``diagnose`` it changes nothing, and returns
        what the same call without it would.
        """
        ...

    def select(self, runs: Tensor) -> Learner:
        """The rule of the given runs alone (indices along R), with what it has learnt for them."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What the rule has learnt so far, by name, each with a leading axis R; empty for a rule without a state."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what ``state`` gave, for the runs of this rule."""
        ...


class BaseLearner:
    """What the rules share: one config per run, and runs that leave. A rule with a state of its own has ``state`` and
    ``restore``.

    seeds: one for each run, for rules that draw random numbers; the others need none.
    """

    def __init__(self, configs: Sequence[Any], seeds: Sequence[int] = ()) -> None:
        self.configs = list(configs)
        self.seeds = list(seeds)

    def select(self, runs: Tensor) -> Self:
        """See ``Learner``."""
        chosen = runs.tolist()
        seeds = [self.seeds[run] for run in chosen] if self.seeds else ()
        selected = type(self)([self.configs[run] for run in chosen], seeds)
        selected.restore({name: tensor[runs] for name, tensor in self.state().items()})
        return selected

    def state(self) -> dict[str, Tensor]:
        """See ``Learner``."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """See ``Learner``."""


def symbol_rows(symbols: Tensor, input_size: int) -> Tensor:
    """Row of each symbol (T, R, B) in the R matrices W_xh laid under one another, in (R, T, B) order: (R T B,)."""
    runs = torch.arange(symbols.shape[1], device=symbols.device)[:, None, None]
    return (symbols.transpose(0, 1) + runs * input_size).flatten()


def input_gradient(inputs: Tensor, error: Tensor, input_size: int) -> Tensor:
    """Sum over time of x_t^T d_t: (R, I, H) from inputs (T, R, B, I) or symbols (T, R, B) and errors (R, T, B, H)."""
    stacked = error.flatten(1, 2)  # (R, T B, H)
    if inputs.is_floating_point():
        return product(inputs.transpose(0, 1).flatten(1, 2).transpose(1, 2), stacked)
    gradient = error.new_zeros(error.shape[0] * input_size, error.shape[-1])
    gradient.index_add_(0, symbol_rows(inputs, input_size), stacked.flatten(0, 1))
    return gradient.view(error.shape[0], input_size, -1)


def stacked_product(lower: Tensor, upper: Tensor) -> Tensor:
    """Sum over time of lower_t^T upper_t: (R, H, M) from (R, T, B, H) and (R, T, B, M), as one product."""
    return product(lower.flatten(1, 2).transpose(1, 2), upper.flatten(1, 2))


def product_norms(lower: Tensor, upper: Tensor) -> Tensor:
    """|A_t^T D_t|_F of each run and step, (R, T), from A and D (R, T, B, H), without forming the products: its square is
    sum((A A^T) * (D D^T)) (the "ghost norm", Goodfellow, arXiv:1510.01799).
    """
    lower_norm, lower_gram = _unit_gram(lower)
    upper_norm, upper_gram = _unit_gram(upper)
    return lower_norm * upper_norm * _root(lower_gram * upper_gram)


def input_norms(inputs: Tensor, upper: Tensor) -> Tensor:
    """|x_t^T D_t|_F (R, T) from inputs (T, R, B, I) or symbols (T, R, B), of which equal ones share a row."""
    by_run = inputs.transpose(0, 1)
    if inputs.is_floating_point():
        return product_norms(by_run, upper)
    upper_norm, upper_gram = _unit_gram(upper)
    return upper_norm * _root((by_run[..., :, None] == by_run[..., None, :]) * upper_gram)


def _unit_gram(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Norm n (R, T) of rows A (R, T, B, H), and A A^T / n^2 (R, T, B, B): vanishing errors have squares that underflow."""
    size = norm(rows)
    unit = (rows / torch.where(size > 0, size, 1.0)[..., None, None]).flatten(0, 1)
    return size, product(unit, unit.transpose(1, 2)).unflatten(0, size.shape)


def _root(gram: Tensor) -> Tensor:
    return gram.sum((-2, -1)).clamp(min=0).sqrt()
