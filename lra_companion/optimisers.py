"""torch.optim for R runs side by side, each with its own learning rate.

Every rule here is linear in its learning rate and looks at gradients only. So one torch optimiser runs with rate 1 on tensors
of zeros, which after its step hold the rule's move; each run's move is then scaled by the run's own rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lra_companion.config import OptimiserConfig
from lra_companion.network import Parameters

NESTEROV_MOMENTUM = 0.9

_RULES: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "sgd": lambda moves: torch.optim.SGD(moves, lr=1.0),
    "nesterov": lambda moves: torch.optim.SGD(moves, lr=1.0, momentum=NESTEROV_MOMENTUM, nesterov=True),
    "adam": lambda moves: torch.optim.Adam(moves, lr=1.0),
    "rmsprop": lambda moves: torch.optim.RMSprop(moves, lr=1.0),
    "adagrad": lambda moves: torch.optim.Adagrad(moves, lr=1.0),
}


class Optimiser:
    """One rule for R runs; ``step`` returns moved parameters and leaves the given ones as they are."""

    def __init__(self, configs: Sequence[OptimiserConfig], like: Parameters) -> None:
        self._configs = list(configs)
        self._moves = [torch.zeros_like(tensor) for tensor in like]
        self._rule = _RULES[configs[0].name](self._moves)
        self._rates = like.b_h.new_tensor([config.learning_rate for config in configs])

    def step(self, parameters: Parameters, gradients: Parameters) -> Parameters:
        """Parameters after one step along the gradients, each run at its own rate."""
        for move, gradient in zip(self._moves, gradients, strict=True):
            move.zero_()
            move.grad = gradient
        self._rule.step()
        return Parameters(
            *(
                tensor + move * self._rates.view(-1, *[1] * (move.dim() - 1))
                for tensor, move in zip(parameters, self._moves, strict=True)
            )
        )

    def select(self, runs: Tensor) -> Optimiser:
        """The optimiser of the given runs alone (indices along R), its running averages with it."""
        like = Parameters(*(move[runs] for move in self._moves))
        selected = Optimiser([self._configs[run] for run in runs.tolist()], like)
        for old, new in zip(self._moves, selected._moves, strict=True):
            state: dict[str, Any] = self._rule.state[old]
            selected._rule.state[new] = {
                name: value[runs] if isinstance(value, Tensor) and value.shape == old.shape else value
                for name, value in state.items()
            }
        return selected
