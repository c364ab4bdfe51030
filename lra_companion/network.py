"""The recurrent network (eqs. 1-2), its parameters and its loss, for R independent runs side by side.

Letters: R runs, T time steps, B batch, I inputs, H hidden units, O outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from lra_companion import compiled
from lra_companion.randomness import Stream, run_generator


@dataclass
class Parameters:
    """The five weight tensors of R networks, or anything of their shape (gradients, steps)."""

    w_xh: Tensor  # (R, I, H)
    w_hh: Tensor  # (R, H, H)
    b_h: Tensor  # (R, H)
    w_hy: Tensor  # (R, H, O)
    b_y: Tensor  # (R, O)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the five tensors in order."""
        return (getattr(self, field.name) for field in fields(self))

    def select(self, runs: Tensor) -> Self:
        """A copy that holds only the given runs (indices along R)."""
        return type(self)(*(tensor[runs] for tensor in self))


@dataclass
class Batch:
    """Inputs (T, R, B, I) real or (T, R, B) integer symbols, targets (R, B) class numbers or (R, B, O) real."""

    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device; itself where it is there."""
        return Batch(self.inputs.to(device), self.targets.to(device))


@dataclass
class Trajectory:
    """Pre-activations h (T, R, B, H) and states z (T + 1, R, B, H); z[0] = 0, and h[t] leads to z[t + 1]."""

    h: Tensor
    z: Tensor


def initial_parameters(
    seeds: Sequence[int],
    input_size: int,
    hidden_size: int,
    output_size: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Parameters:
    """Orthogonal weights and zero biases, each run's from its own seed."""
    shapes = [(input_size, hidden_size), (hidden_size, hidden_size), (hidden_size, output_size)]
    drawn = orthogonal_matrices(seeds, "weights", shapes)
    w_xh, w_hh, w_hy = (matrices.to(device, dtype) for matrices in drawn)
    b_h, b_y = w_hh.new_zeros(len(seeds), hidden_size), w_hh.new_zeros(len(seeds), output_size)
    return Parameters(w_xh, w_hh, b_h, w_hy, b_y)


def orthogonal_matrices(
    seeds: Sequence[int], stream: Stream, shapes: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """An orthogonal matrix of each shape for each run, (R, *shape), from the run's own seed and a stream of its random numbers.

    Drawn in float64 on one CPU thread, so that neither the number of threads nor the device changes a weight.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        drawn = [_matrices_of_run(seed, stream, shapes) for seed in seeds]
    finally:
        torch.set_num_threads(threads)
    return [torch.stack(matrices) for matrices in zip(*drawn, strict=True)]


def _matrices_of_run(seed: int, stream: Stream, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    generator = run_generator(seed, stream)
    return [_orthogonal(torch.from_numpy(generator.standard_normal(shape))) for shape in shapes]


def _orthogonal(gaussian: Tensor) -> Tensor:
    """Q of the QR decomposition, its signs made unique (Saxe et al. 2013; as torch.nn.init.orthogonal_, which takes no
    numpy generator). Orthonormal along the shorter side.
    """
    if gaussian.shape[0] < gaussian.shape[1]:
        return _orthogonal(gaussian.T).T
    q, r = torch.linalg.qr(gaussian)
    return q * r.diagonal().sign()


def product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product of each run, (R, M, N) from (R, M, K) and (R, K, N), the same to the last bit for any number of runs.

    Where the result is a single row or column, BLAS takes another way for one run than for several; a plain sum does not.
    """
    if left.shape[-2] == 1 or right.shape[-1] == 1:
        return (left.unsqueeze(-1) * right.unsqueeze(-3)).sum(-2)
    return torch.bmm(left, right)


def drive(parameters: Parameters, inputs: Tensor) -> Tensor:
    """The input's part of eq. 1, x_t W_xh + b_h, for all steps at once: (T, R, B, H). A symbol looks its row up."""
    if inputs.is_floating_point():
        by_run = inputs.transpose(0, 1).flatten(1, 2)  # (R, T B, I)
        driven = product(by_run, parameters.w_xh) + parameters.b_h[:, None, :]
        return driven.unflatten(1, (inputs.shape[0], inputs.shape[2])).transpose(0, 1).contiguous()
    runs = torch.arange(inputs.shape[1], device=inputs.device)[:, None]  # (R, 1), beside inputs (T, R, B)
    rows = _rows(parameters)
    return (
        rows.flatten(0, 1).index_select(0, (inputs + runs * rows.shape[1]).flatten()).view(*inputs.shape, -1)
    )


def _rows(parameters: Parameters) -> Tensor:
    """The input's part of eq. 1 for every symbol, (R, I, H)."""
    return parameters.w_xh + parameters.b_h[:, None, :]


def tanh(u: Tensor) -> Tensor:
    """The network's tanh. States of a trajectory and moved states are compared with one another, so every one of them must come
    from the same function: a target that does not move must equal its state to the last bit.
    """
    return compiled.tanh(u) if compiled.available(u) else torch.tanh(u)


def next_state(driven: Tensor, state: Tensor, w_hh: Tensor) -> Tensor:
    """(1)  z_t = tanh(x_t W_xh + z_{t-1} W_hh + b_h), all (R, B, H), where ``driven`` is x_t W_xh + b_h."""
    if compiled.available(driven):
        return compiled.states(driven[None], w_hh, state)[1][1]
    return torch.tanh(_step(driven, state, w_hh))


def _step(driven: Tensor, state: Tensor, w_hh: Tensor) -> Tensor:
    """(1)  h_t = x_t W_xh + z_{t-1} W_hh + b_h."""
    if state.shape[-2] == 1 or state.shape[-1] == 1:
        return driven + product(state, w_hh)
    return torch.baddbmm(driven, state, w_hh)


def states(parameters: Parameters, driven: Tensor) -> Trajectory:
    """Every pre-activation and state (eq. 1), given the input's part of it from ``drive``."""
    if compiled.available(driven):
        return Trajectory(*compiled.states(driven, parameters.w_hh))
    h = torch.empty_like(driven)
    z = driven.new_zeros(driven.shape[0] + 1, *driven.shape[1:])
    for t in range(driven.shape[0]):
        h[t] = _step(driven[t], z[t], parameters.w_hh)
        torch.tanh(h[t], out=z[t + 1])  # z_t = tanh(h_t)
    return Trajectory(h, z)


def forward(parameters: Parameters, inputs: Tensor) -> Trajectory:
    """Run the network over a batch: inputs (T, R, B, I) real or (T, R, B) symbols."""
    return states(parameters, drive(parameters, inputs))


def readout(parameters: Parameters, state: Tensor) -> Tensor:
    """(2)  o = z_T W_hy + b_y: outputs (R, B, O) of states (R, B, H)."""
    if compiled.available(state):
        return compiled.readout(state, parameters.w_hy, parameters.b_y)
    return product(state, parameters.w_hy) + parameters.b_y[:, None, :]


def predict(parameters: Parameters, inputs: Tensor) -> Tensor:
    """Outputs (R, B, O); for evaluation. Compiled, and with symbols for inputs, no trajectory is kept."""
    if compiled.available(parameters.w_hh) and not inputs.is_floating_point():
        z = compiled.last_state(inputs, _rows(parameters), parameters.w_hh)
    else:
        z = forward(parameters, inputs).z[-1]
    return readout(parameters, z)


def output_loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Loss L of each run (R,) and its derivative dL/do (R, B, O).

    Class numbers (R, B) ask for softmax cross-entropy, real targets (R, B, O) for squared error; both are means (over the
    batch; over batch and outputs).
    """
    if targets.is_floating_point():
        difference = outputs - targets
        return difference.square().mean((1, 2)), difference * (2 / difference[0].numel())
    log_probabilities = functional.log_softmax(outputs, dim=-1)
    chosen = targets.unsqueeze(-1)
    loss = -log_probabilities.gather(-1, chosen).squeeze(-1).mean(1)
    error = log_probabilities.exp()
    error.scatter_add_(-1, chosen, torch.full_like(chosen, -1, dtype=error.dtype))
    return loss, error / targets.shape[1]
