"""torch.optim for R runs side by side, each with its own learning rate.

Every rule here is linear in its learning rate and looks at gradients only. So one torch optimiser runs with rate 1 on tensors
of zeros, which after its step hold the rule's move; each run's move is then scaled by the run's own rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
        selected.restore({name: tensor[runs] for name, tensor in self.state().items()})
        return selected

    def state(self) -> dict[str, Tensor]:
        """Running averages by name, each with a leading axis R, and the number of steps (R,) where the rule counts them."""
        runs = len(self._configs)
        return {
            f"{place}.{name}": value if value.dim() else value.expand(runs)
            for place, move in enumerate(self._moves)
            for name, value in self._rule.state[move].items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what ``state`` gave, for the runs of this optimiser, which have made equally many steps."""
        for key, value in state.items():
            place, name = key.split(".")
            self._rule.state[self._moves[int(place)]][name] = (
                value if value.dim() > 1 else value[0].cpu()  # torch keeps one count for all of a tensor
            )
