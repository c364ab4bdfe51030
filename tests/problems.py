"""Random problems that several test files share: shapes, and tensors drawn from one seed."""

from dataclasses import dataclass

import torch

from lra_companion.network import Batch, Parameters
from reference import Weights


@dataclass(frozen=True)
class Shape:
    """Sizes of a problem and the kinds of its inputs (symbols or real) and targets (classes or real)."""

    runs: int = 2
    steps: int = 4
    batch: int = 3
    inputs: int = 4
    hidden: int = 5
    outputs: int = 3
    symbols: bool = False
    real_targets: bool = False


def random_problem(shape: Shape, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Parameters, Batch]:
    """Weights with spectral radius near 1, biases that are not zero, and a batch; the same numbers in any dtype."""
    g = torch.Generator().manual_seed(seed)
    runs, steps, batch = shape.runs, shape.steps, shape.batch

    def normal(*sizes: int, scale: float = 1.0) -> torch.Tensor:
        return (scale * torch.randn(*sizes, generator=g, dtype=torch.float64)).to(dtype)

    parameters = Parameters(
        w_xh=normal(runs, shape.inputs, shape.hidden, scale=0.6),
        w_hh=normal(runs, shape.hidden, shape.hidden, scale=shape.hidden**-0.5),
        b_h=normal(runs, shape.hidden, scale=0.2),
        w_hy=normal(runs, shape.hidden, shape.outputs, scale=0.6),
        b_y=normal(runs, shape.outputs, scale=0.2),
    )
    symbols = torch.randint(shape.inputs, (steps, runs, batch), generator=g)
    real = normal(steps, runs, batch, shape.inputs, scale=0.8)
    classes = torch.randint(shape.outputs, (runs, batch), generator=g)
    values = normal(runs, batch, shape.outputs)
    return parameters, Batch(symbols if shape.symbols else real, values if shape.real_targets else classes)


def weights_of(parameters: Parameters, run: int) -> Weights:
    """One run's five tensors for the reference."""
    return Weights(*(getattr(parameters, name)[run].detach() for name in Weights._fields))


def inputs_of(batch: Batch, run: int) -> torch.Tensor:
    """One run's inputs, (T, B, I) or (T, B)."""
    return batch.inputs[:, run]


def select(parameters: Parameters, batch: Batch, runs: list[int]) -> tuple[Parameters, Batch]:
    """The same problem with only some of its runs, as tensors of their own."""
    chosen = Parameters(*(getattr(parameters, name)[runs].clone() for name in Weights._fields))
    return chosen, Batch(batch.inputs[:, runs].clone(), batch.targets[runs].clone())
