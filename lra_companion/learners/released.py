"""What the paper's public code computes, which is not eqs. 1-8 (method.md, "Baselines"). Time is counted from 0, t = 0..T-1.

1. The forward pass.
2. Gradients of W_hy and b_y, the former with Ω.
3. The target of the last state, down the gradient of L.
4. `loss` = l(z_{T-1}, zhat_{T-1}).
5. For t = T-1..1: (a) gradients of `loss` by W_hh, W_xh and b_h; (b) for W_xh also of Ω, if `loss` is not 0 and t < T-1;
   (c) both matrices' are clipped; (d) h_{t-1} moves, K times, down the gradient of `loss`, which after the first time is
   l(z_t, q), q being the step from the moved state; as such it goes into the next round.
6. The update: the sum over t.

Nothing is detached: each gradient is that of the whole forward pass, back to the first step. Written out, that is less than it
seems. An inner step sees only the two or three states around it, because the state it moves is joined to the past by a constant
shift. Only the weight gradients of a round run back through all earlier steps; here all rounds do so together, step by
step, without an autograd graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lra_companion.config import LRAReleasedConfig
from lra_companion.learners.base import BaseLearner
from lra_companion.learners.released_parts import (
    LOSS_VALUES,
    DiagonalRegulariser,
    ReleasedDiagnostics,
    diagonal_regulariser,
)
from lra_companion.local_losses import LOCAL_LOSSES
from lra_companion.network import (
    Batch,
    Parameters,
    drive,
    next_state,
    output_loss,
    product,
    readout,
    states,
    tanh,
)
from lra_companion.stability import Clipping, tanh_slope

_ROUNDS_AT_ONCE = 16  # rounds that run back together: enough rows for a fast product, and memory linear in T


class LRAReleased(BaseLearner):
    """The public code's targets and updates. Ω is 0 where |d| = 0; ``released_nan`` gives NaN there, as the code does.

    Ω takes one slope per example, from the diagonal of (B, H). So with regularisation it needs B <= H, else ``gradients``
    raises ValueError.
    """

    def __init__(self, configs: Sequence[LRAReleasedConfig], seeds: Sequence[int] = ()) -> None:
        super().__init__(configs, seeds)
        self.inner_steps = configs[0].inner_steps
        self.loss_value = LOSS_VALUES[configs[0].local_loss]
        self.loss_derivative = LOCAL_LOSSES[configs[0].local_loss].derivative
        self.regularised = any(config.regularisation_strength > 0 for config in configs)
        self.clips = any(config.clip_norm > 0 for config in configs)

    def gradients(
        self, parameters: Parameters, batch: Batch, diagnose: bool = False
    ) -> tuple[Parameters, ReleasedDiagnostics]:
        """Sum over the rounds of their clipped weight gradients; see ``learners.base.Learner``."""
        pass_ = _Pass(self, parameters, batch, diagnose)
        pass_.top_target()
        for t in range(pass_.steps - 1, 0, -1):
            pass_.earlier_target(t)
        return pass_.weight_gradients()


class _Pass:
    """One batch's way through steps 1-6.

    What the weight gradients need of a round is kept by step, (T, R, B, H). Its `loss` compares z_{t+1} with q: at t + 1,
    ``state_error`` and ``guess_error`` are the derivatives with respect to the pre-activations of both. At t, ``start`` is its
    derivative with respect to h_t, and with alpha > 0, on a further axis before B, also the same with alpha Ω added (5b).
    """

    def __init__(self, rule: LRAReleased, parameters: Parameters, batch: Batch, diagnose: bool) -> None:
        self.rule, self.parameters, self.batch, self.diagnose = rule, parameters, batch, diagnose
        self.driven = drive(parameters, batch.inputs)
        trajectory = states(parameters, self.driven)  # 1
        self.h, self.z, self.z_below = trajectory.h, trajectory.z[1:], trajectory.z[:-1]
        self.slope = tanh_slope(self.z)
        self.steps, runs, self.size, hidden = self.h.shape
        if rule.regularised and self.size > hidden:
            raise ValueError(
                f"batch of {self.size}: lra_released with regularisation takes one slope per example from the diagonal of "
                f"(B, H), so B must be at most H = {hidden}"
            )
        self._settings()
        self.w_hh_transposed = parameters.w_hh.transpose(1, 2).contiguous()
        self.loss_scale = 1 / (self.size * hidden)
        self.target = torch.empty_like(self.h)
        self.state_error, self.guess_error = torch.empty_like(self.h), torch.empty_like(self.h)
        self.start = self.h.new_empty(self.steps, runs, 1 + rule.regularised, self.size, hidden)
        self.local_loss, self.omega = self.h.new_zeros(2, self.steps, runs)
        self.rescaled = self.h.new_zeros(runs)  # how many target steps and gradients were clipped

    def _settings(self) -> None:
        configs, like = self.rule.configs, self.h
        self.beta = like.new_tensor([c.target_step_size for c in configs])[:, None, None]
        self.alpha = like.new_tensor([c.regularisation_strength for c in configs])[:, None]
        clip_norm = like.new_tensor([c.clip_norm for c in configs])
        self.clipping = Clipping(clip_norm, torch.zeros_like(clip_norm, dtype=torch.bool))
        nan = [torch.nan if c.released_nan and c.regularisation_strength > 0 else 0.0 for c in configs]
        self.undefined = like.new_tensor(nan)[:, None]  # r - 1 where |d| = 0

    def top_target(self) -> None:
        """2 and 3: the readout's gradients, and the target of the last state, down the gradient of L."""
        u, state = self.h[-1].clone(), self.z[-1]
        w_hy_transposed = self.parameters.w_hy.transpose(1, 2).contiguous()
        for k in range(self.rule.inner_steps):
            loss, d = output_loss(readout(self.parameters, state), self.batch.targets)
            pulled_back = product(d, w_hy_transposed)
            omega = self._omega(d, pulled_back, state)
            if k == 0:
                self.loss, self.b_y = loss, d.sum(1)
                self.w_hy = product(state.transpose(1, 2), d)  # 2
                if omega is not None:
                    self.w_hy += self.alpha[..., None] * omega.weight(d, pulled_back)
            self._descend(u, pulled_back * tanh_slope(state), omega)  # 3
            state = tanh(u)
        self.target[-1] = state
        self.d = self.rule.loss_derivative(self.z[-1], state) * self.loss_scale  # 4
        self._measure_loss(self.steps - 1, self.z[-1] - state)
        self.start[-1] = (self.d * (self.slope[-1] - tanh_slope(state)))[:, None]

    def earlier_target(self, t: int) -> None:
        """5d: the target of z_{t-1}, and what round t - 1 starts with.

        d is the derivative of `loss` with respect to q, and at first, when q is still z_t, with respect to that. After the
        first inner step `loss` compares z_t with q, and u is joined to it by q alone.
        """
        rule, z, u, state = self.rule, self.z[t], self.h[t - 1].clone(), self.z[t - 1]
        d, error, guess = self.d, self.start[t, :, 0], z
        for k in range(rule.inner_steps):
            pulled_back, omega = self._pull_back(error), None
            if rule.regularised:
                omega = self._omega(d, self._pull_back(d), state)
                if self.diagnose and k == 0 and omega is not None:
                    self.omega[t] = omega.value
            self._descend(u, pulled_back.mul_(tanh_slope(state)), omega)
            state = tanh(u)
            guess = next_state(self.driven[t], state, self.parameters.w_hh)  # q
            d = rule.loss_derivative(z, guess).mul_(-self.loss_scale)
            error = d * tanh_slope(guess)
        self.target[t - 1] = state
        if t > 1:
            self._measure_loss(t - 1, z - guess)
            self._start_round(t - 1, -d * self.slope[t], error, state)

    def _start_round(self, t: int, state_error: Tensor, guess_error: Tensor, moved: Tensor) -> None:
        """The derivatives of `loss`, which compares z_{t+1} with q = f(moved), that round t needs, and 5b."""
        self.state_error[t + 1], self.guess_error[t + 1] = state_error, guess_error
        self.d = self._pull_back(state_error)  # by z_t
        torch.mul(self.d, self.slope[t], out=self.start[t, :, 0])
        self.start[t, :, 0] += self._pull_back(guess_error).mul_(tanh_slope(moved))
        omega = self._omega(state_error, self.d, self.z[t])
        if omega is not None:  # 5b
            applies = self.local_loss[t] != 0
            self.start[t, :, 1] = self.start[t, :, 0]
            diagonal = self.start[t, :, 1].diagonal(dim1=1, dim2=2)
            diagonal += torch.where(applies[:, None], self.alpha * omega.preactivation, 0.0)

    def weight_gradients(self) -> tuple[Parameters, ReleasedDiagnostics]:
        """5a-5c and 6: each round's gradients, clipped on their own, then summed."""
        w_xh, w_hh, b_h = self._round_gradients()
        diagnostics = ReleasedDiagnostics(self.loss)
        if self.diagnose:
            self._measure(diagnostics, w_xh, w_hh)
        gradients = Parameters(
            w_xh=_sum_rounds(self._clip_rounds(w_xh)),
            w_hh=_sum_rounds(self._clip_rounds(w_hh)),
            b_h=_sum_rounds(b_h),
            w_hy=self._clip(self.w_hy),
            b_y=self.b_y,
        )
        if self.diagnose:
            diagnostics.w_xh_steps, diagnostics.w_hh_steps, diagnostics.b_h_steps = w_xh, w_hh, b_h
            # T - 1 gradients of W_xh and of W_hh, one of W_hy, and K T target steps.
            diagnostics.clipped_share = self.rescaled / (self.steps * (2 + self.rule.inner_steps) - 1)
        return gradients, diagnostics

    def _round_gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """5a and 5b: derivatives of every round's `loss` by W_xh (T, R, I, H), W_hh (T, R, H, H) and b_h (T, R, H)."""
        inputs = self.batch.inputs
        if not inputs.is_floating_point():
            inputs = functional.one_hot(inputs, self.parameters.w_xh.shape[1]).to(self.h.dtype)
        runs, hidden = self.parameters.b_h.shape
        w_xh = self.h.new_zeros(self.steps, runs, inputs.shape[-1], hidden)
        w_hh = self.h.new_zeros(self.steps, runs, hidden, hidden)
        b_h = self.h.new_zeros(self.steps, runs, hidden)

        # Step t + 1 of round t, which compares z_{t+1} with q: two paths, each with a state of its own below.
        rounds, above = slice(1, -1), slice(2, None)
        error = self.state_error[above] + self.guess_error[above]
        w_xh[rounds] = _products(inputs[above], error)
        w_hh[rounds] = _products(self.z[rounds], self.state_error[above])
        w_hh[rounds] += _products(self.target[rounds], self.guess_error[above])
        b_h[rounds] = error.sum(2)

        # Steps t..0.
        by_run = inputs.transpose(0, 1).flatten(1, 2).transpose(1, 2)  # (R, I, T B)
        below_by_run = self.z_below.transpose(0, 1).flatten(1, 2).transpose(1, 2)  # (R, H, T B)
        for last in range(self.steps - 1, 0, -_ROUNDS_AT_ONCE):
            errors = self._run_back(last, max(1, last - _ROUNDS_AT_ONCE + 1))
            for place in range(errors.shape[1]):
                t = last - place
                rows = (t + 1) * self.size
                error = errors[:, place, :, : t + 1].flatten(2, 3)  # (R, 1 or 2, (t + 1) B, H)
                w_hh[t] += product(below_by_run[..., :rows], error[:, 0])
                w_xh[t] += product(by_run[..., :rows], error[:, -1])
                b_h[t] += error[:, 0].sum(1)
        return w_xh, w_hh, b_h

    def _run_back(self, last: int, first: int) -> Tensor:
        """Rounds last..first, run back together: their derivatives by h_t, ..., h_0, from ``start``.

        Returns (R, rounds, 1 or 2, last + 1, B, H); entries of later steps than the round's own are not set.
        """
        error = self.start[last][:, None]  # (R, rounds so far, 1 or 2, B, H)
        found = error.new_empty(error.shape[0], last - first + 1, error.shape[2], last + 1, *error.shape[3:])
        found[:, :1, :, last] = error
        for s in range(last - 1, -1, -1):
            error = self._pull_back(error.flatten(1, 3)).view_as(error).mul_(self.slope[s][:, None, None])
            if s >= first:
                error = torch.cat([error, self.start[s][:, None]], 1)
            found[:, : error.shape[1], :, s] = error
        return found

    def _pull_back(self, error: Tensor) -> Tensor:
        return product(error, self.w_hh_transposed)

    def _omega(self, error: Tensor, pulled_back: Tensor, state: Tensor) -> DiagonalRegulariser | None:
        if self.rule.regularised:
            return diagonal_regulariser(error, pulled_back, state, self.undefined)
        return None

    def _descend(self, u: Tensor, gradient: Tensor, omega: DiagonalRegulariser | None) -> None:
        """One inner step of 3 and 5d, in place: u <- u - beta N_c(gradient + alpha dΩ/du)."""
        if omega is not None:
            diagonal = gradient.diagonal(dim1=1, dim2=2)
            diagonal += self.alpha * omega.preactivation
        u.addcmul_(self._clip(gradient), self.beta, value=-1)

    def _clip(self, gradient: Tensor) -> Tensor:
        """(3)  N_c in place, of (R, ., .)."""
        if self.rule.clips:
            size = torch.linalg.vector_norm(gradient, dim=(1, 2))
            gradient *= self.clipping.factor(size)[:, None, None]
            if self.diagnose:
                self.rescaled += self.clipping.rescales(size)
        return gradient

    def _clip_rounds(self, gradients: Tensor) -> Tensor:
        """5c: N_c of each round's gradient, in place, of (T, R, ., .)."""
        for gradient in gradients[1:]:
            self._clip(gradient)
        return gradients

    def _measure_loss(self, t: int, difference: Tensor) -> None:
        if t > 0 and (self.diagnose or self.rule.regularised):
            self.local_loss[t] = self.rule.loss_value(difference).mean((1, 2))

    def _measure(self, diagnostics: ReleasedDiagnostics, w_xh: Tensor, w_hh: Tensor) -> None:
        diagnostics.input_norm, diagnostics.recurrent_norm = (
            torch.linalg.vector_norm(g, dim=(2, 3)) for g in (w_xh, w_hh)
        )
        diagnostics.target_displacement = torch.linalg.vector_norm(self.z - self.target, dim=(2, 3))
        diagnostics.local_loss, diagnostics.regulariser = self.local_loss, self.omega
        diagnostics.loss_after_target = output_loss(
            readout(self.parameters, self.target[-1]), self.batch.targets
        )[0]


def _products(lower: Tensor, upper: Tensor) -> Tensor:
    """lower_t^T upper_t of each step: (T, R, H, M) from (T, R, B, H) and (T, R, B, M)."""
    return product(lower.flatten(0, 1).transpose(1, 2), upper.flatten(0, 1)).unflatten(0, lower.shape[:2])


def _sum_rounds(gradients: Tensor) -> Tensor:
    """Sum over the first axis, one after the other: the order of torch.sum depends on how many runs there are."""
    total = gradients[0].clone()
    for gradient in gradients[1:]:
        total += gradient
    return total
