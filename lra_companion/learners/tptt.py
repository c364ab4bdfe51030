"""Target propagation through time (Manchev & Spratling, *Target Propagation in Recurrent Neural Networks*, JMLR 21, 2020),
written from the formulas of method.md ("Baselines", tptt).

An approximate inverse of the network's step, learnt beside it, hands targets back in time. Both ends of every step's sub-graph
are constants, so all is written out here without an autograd graph. Time and memory are linear in T.

Squared errors are summed over the units, averaged over the batch and summed over time. L is a mean over the batch as well, so
a target step carries 1/B and a weight gradient a further one: with an exact inverse, dW_hh is of 2 a / B times the size that
backpropagation would give it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lra_companion.config import TPTTConfig
from lra_companion.learners.base import (
    BaseLearner,
    Diagnostics,
    input_gradient,
    input_norms,
    product_norms,
    stacked_product,
)
from lra_companion.network import (
    Batch,
    Parameters,
    drive,
    orthogonal_matrices,
    output_loss,
    product,
    readout,
    states,
    tanh,
)
from lra_companion.randomness import run_generator
from lra_companion.stability import Clipping, norm, tanh_slope


@dataclass
class TPTTDiagnostics(Diagnostics):
    """Also how far the inverse is from undoing a step. Local losses are those of eq. 11, |zhat_t - z_t|^2 averaged over B."""

    inverse_loss: Tensor | None = (
        None  # (T, R): eq. 12 of each step; 0 at t = 1, which no target has to be carried across
    )


@dataclass
class Inverse:
    """What R inverses have learnt: V (R, H, H) and c (R, H) of eq. 9. W_xh, which they read too, is the network's."""

    v: Tensor
    c: Tensor

    @classmethod
    def initial(cls, seeds: Sequence[int], like: Tensor) -> Inverse:
        """V orthogonal, each run's from its own seed, and c = 0, on the device and in the dtype of W_hh (R, H, H)."""
        (v,) = orthogonal_matrices(seeds, "inverse_weights", [(like.shape[1], like.shape[2])])
        return cls(v.to(like.device, like.dtype), like.new_zeros(like.shape[:2]))

    def unusable(self) -> Tensor:
        """NaN where a run's V or c is not finite, else 0 (R, 1, 1): what such an inverse makes of a target may look finite."""
        finite = torch.isfinite(self.v).flatten(1).all(1) & torch.isfinite(self.c).all(1)
        return torch.where(finite, 0.0, torch.nan).to(self.c.dtype)[:, None, None]


class TPTT(BaseLearner):
    """Targets are handed back by the inverse (eqs. 9, 10), and each step's weights move its state towards its target (eq. 11);
    W_hy and b_y follow the gradient of L. The inverse learns to undo the step around the states of the forward pass (eq. 12).

    All updates of an iteration start from the weights and the inverse as they were before it. A run whose inverse is no longer
    finite gets gradients that are not, so that the training loop sees it diverge. ValueError without a seed for each run.
    """

    def __init__(self, configs: Sequence[TPTTConfig], seeds: Sequence[int] = ()) -> None:
        super().__init__(configs, seeds)
        if not self.seeds:
            raise ValueError("seeds = []: tptt draws random numbers, so each of its runs needs a seed")
        self.clips = any(config.clip_norm > 0 for config in configs)
        self.inverse: Inverse | None = None  # drawn with the first batch, which shows H
        self.iteration = 0  # how many steps the inverse has made

    def state(self) -> dict[str, Tensor]:
        """The inverse, and how many steps it has made; nothing before the first."""
        if self.inverse is None:
            return {}
        steps = torch.full((len(self.configs),), self.iteration)
        return {"v": self.inverse.v, "c": self.inverse.c, "iteration": steps}

    def restore(self, state: dict[str, Tensor]) -> None:
        """See ``learners.base.Learner``."""
        if state:
            self.inverse = Inverse(state["v"], state["c"])
            self.iteration = int(state["iteration"][0])

    def gradients(
        self, parameters: Parameters, batch: Batch, diagnose: bool = False
    ) -> tuple[Parameters, TPTTDiagnostics]:
        """Sum over time of the local, clipped weight gradients; one step of the inverse. See ``learners.base.Learner``."""
        inverse = self.inverse or Inverse.initial(self.seeds, parameters.w_hh)
        pass_ = _Pass(self, inverse, parameters, batch)
        gradients, diagnostics = pass_.weight_gradients(diagnose)
        slopes, inverse_loss = pass_.inverse_gradients(self._noise(pass_.steps - 1, batch, inverse.v))
        if diagnose:
            diagnostics.inverse_loss = inverse_loss
            return gradients, diagnostics
        rate = inverse.c.new_tensor([config.inverse_learning_rate for config in self.configs])[:, None]
        self.inverse = Inverse(inverse.v - rate[..., None] * slopes.v, inverse.c - rate * slopes.c)
        self.iteration += 1
        return gradients, diagnostics

    def _noise(self, steps: int, batch: Batch, like: Tensor) -> Tensor:
        """The n of eq. 12 (R, T - 1, B, H), each run's from its own seed and the iteration, in the dtype of V (R, H, H)."""
        shape = steps, batch.inputs.shape[2], like.shape[2]
        drawn = [
            config.inverse_noise * run_generator(seed, "inverse_noise", self.iteration).standard_normal(shape)
            for config, seed in zip(self.configs, self.seeds, strict=True)
        ]
        return torch.stack([torch.from_numpy(noise) for noise in drawn]).to(like.device, like.dtype)


def change_of_tanh(preactivation: Tensor, change: Tensor) -> Tensor:
    """tanh(u + e) - tanh(u) from u and e, as tanh(e) (1 - tanh(u) tanh(u + e)): a small change keeps all its digits."""
    both = tanh(preactivation + change).mul_(tanh(preactivation))
    return tanh(change).mul_(both.neg_().add_(1))


def displacements(
    top: Tensor,
    preactivations: Tensor,
    v: Tensor,
    change_of: Callable[[Tensor, Tensor], Tensor] = change_of_tanh,
) -> Tensor:
    """(10)  zhat_t - z_t of all steps (R, T, B, H), from ``top`` (R, B, H), that of the last.

    preactivations: x_t W_xh + z_t V + c (R, T - 1, B, H), t = 2..T. v: V (R, H, H). change_of: phi(u + e) - phi(u) of u
    and e, where phi is the activation of the inverse.
    """
    runs, earlier, size, hidden = preactivations.shape
    found = top.new_empty(runs, earlier + 1, size, hidden)  # that of z_t is found[:, t - 1]
    found[:, -1] = top
    for place in range(earlier, 0, -1):
        found[:, place - 1] = change_of(preactivations[:, place - 1], product(found[:, place], v))
    return found


class _Pass:
    """One batch's way through eqs. 9-12. Time, t = 1..T as in the paper, comes after the runs: z_t is z[:, t]."""

    def __init__(self, rule: TPTT, inverse: Inverse, parameters: Parameters, batch: Batch) -> None:
        self.rule, self.inverse, self.parameters, self.batch = rule, inverse, parameters, batch
        driven = drive(parameters, batch.inputs)
        self.steps, _, self.size, _ = driven.shape
        self.z = _by_run(states(parameters, driven).z)
        # Steps 2..T only: the first has no earlier state that a target could be for.
        self.driven = _by_run(driven[1:])  # x_t W_xh + b_h
        self.inverse_driven = _by_run(drive(replace(parameters, b_h=inverse.c), batch.inputs)[1:])

    def weight_gradients(self, diagnose: bool) -> tuple[Parameters, TPTTDiagnostics]:
        """(11)  Weight gradients of all steps, each clipped on its own, then summed over time."""
        parameters, inputs = self.parameters, self.batch.inputs
        lower, upper = self.z[:, :-1], self.z[:, 1:]
        loss, output_error = output_loss(readout(parameters, upper[:, -1]), self.batch.targets)
        displacement = self._displacements(output_error)
        error = displacement * tanh_slope(upper) * (-2 / self.size)  # d_t
        output_gradient = product(upper[:, -1].transpose(1, 2), output_error)
        diagnostics = TPTTDiagnostics(loss)
        input_error = recurrent_error = error
        if self.rule.clips or diagnose:
            norms = [input_norms(inputs, error), product_norms(lower, error), norm(output_gradient)[:, None]]
            clipping = self._clipping()
            factors = [clipping.factor(size)[..., None, None] for size in norms]
            input_error, recurrent_error = error * factors[0], error * factors[1]
            output_gradient = output_gradient * factors[2][:, 0]
            if diagnose:
                self._measure(diagnostics, displacement, clipping, norms)
        gradients = Parameters(
            w_xh=input_gradient(inputs, input_error, parameters.w_xh.shape[1]),
            w_hh=stacked_product(lower, recurrent_error),
            b_h=error.sum((1, 2)),
            w_hy=output_gradient,
            b_y=output_error.sum(1),
        )
        return gradients, diagnostics

    def _measure(
        self, diagnostics: TPTTDiagnostics, displacement: Tensor, clipping: Clipping, norms: list[Tensor]
    ) -> None:
        """Norms are those of the gradients of W_xh and W_hh (R, T) and of W_hy (R, 1), before clipping."""
        diagnostics.input_norm, diagnostics.recurrent_norm = norms[0].T, norms[1].T
        diagnostics.target_displacement = norm(displacement).T
        diagnostics.local_loss = displacement.square().sum((2, 3)).T / self.size
        rescaled = torch.cat([clipping.rescales(size) for size in norms], dim=1)
        # Of T gradients of W_xh, T - 1 of W_hh (z_0 = 0) and one of W_hy.
        diagnostics.clipped_share = rescaled.sum(1) / (2 * self.steps)

    def _displacements(self, output_error: Tensor) -> Tensor:
        """(9), (10)  zhat_t - z_t (R, T, B, H). At the top it is -a dL/dz_T."""
        top = product(output_error, self.parameters.w_hy.transpose(1, 2))
        top *= top.new_tensor([-config.target_step_size for config in self.rule.configs])[:, None, None]
        preactivations = self.inverse_driven + _times(self.z[:, 2:], self.inverse.v)
        return displacements(top + self.inverse.unusable(), preactivations, self.inverse.v)

    def _clipping(self) -> Clipping:
        clip_norm = self.z.new_tensor([config.clip_norm for config in self.rule.configs])
        return Clipping(clip_norm, torch.zeros_like(clip_norm, dtype=torch.bool))

    def inverse_gradients(self, noise: Tensor) -> tuple[Inverse, Tensor]:
        """(12)  Gradients of V and c, and what they descend, step by step (T, R). noise: n (R, T - 1, B, H)."""
        start = self.z[:, 1:-1] + noise
        reached = tanh(self.driven + _times(start, self.parameters.w_hh))  # F(x_t, z_{t-1} + n)
        found = tanh(self.inverse_driven + _times(reached, self.inverse.v))  # (9)
        difference = found - start
        error = difference * tanh_slope(found) * (2 / self.size)
        loss = self.z.new_zeros(self.steps, len(noise))
        loss[1:] = difference.square().sum((2, 3)).T / self.size
        return Inverse(v=stacked_product(reached, error), c=error.sum((1, 2))), loss


def _by_run(tensor: Tensor) -> Tensor:
    """(R, T, B, H) from (T, R, B, H), in memory too: the order of a sum follows it, and must not depend on R."""
    return tensor.transpose(0, 1).contiguous()


def _times(rows: Tensor, matrix: Tensor) -> Tensor:
    """Rows of all steps (R, T, B, H) times a matrix (R, H, M), as one product."""
    return product(rows.flatten(1, 2), matrix).unflatten(1, rows.shape[1:3])
