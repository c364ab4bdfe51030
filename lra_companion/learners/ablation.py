"""LRA in which each difference between the described method and the public code has a switch of its own.

With no switch on these are eqs. 3-8 as ``lra`` computes them (reduction "mean", scope "batch"); with all of them on it is what
``lra_released`` computes. Both are tested. Written for clarity at T of some ten steps, not for speed: memory grows with T^2
where derivatives run back. Time is counted from 0, t = 0..T-1, as in ``learners.released``.

A round t has a loss l_t. It gives step t's weight gradients, and from it starts the search for the target of z_{t-1}. What the
switches (``config.ReleasedPart``) change:

full_differentiation   gradients of l_t run back through all steps before t; else only the weights of step t itself learn.
moving_targets         a target follows the state that it was found from, as u = h - constant does; else it is held.
pull_to_state          inner steps after the first compare the prediction q with z_t; else with zhat_t.
diagonal_slope         Ω takes one slope per example, off the diagonal of (B, H); else one per unit.
omega_on_input         Ω of step t + 1 reaches W_xh through h_t, and not W_hh; else W_hh alone, h_t held (eq. 6).
carried_loss           l_t = l(z_{t+1}, q), q being the prediction from the moved z_t; else l_t = l(z_t, zhat_t).
omega_at_state         for target steps Ω takes the error by the state z_t; else that by the pre-activation h_t.
no_first_step          there is no round 0.

Where two meet: a held target holds q too, its weights included. With ``carried_loss`` alone l_t reaches step t through W_hh of
step t + 1, which does not learn from it. ``omega_on_input`` reaches back as far as the weight gradients do. The Ω of W_hh is
always the immediate derivative.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lra_companion.config import LRAAblationConfig
from lra_companion.learners.base import BaseLearner, Diagnostics
from lra_companion.learners.released_parts import LOSS_VALUES, diagonal_regulariser
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
from lra_companion.stability import clip, norm, regulariser, tanh_slope


class LRAAblation(BaseLearner):
    """Between LRA and LRAReleased. All runs share the switches; Ω contributes nothing where its error is 0."""

    def __init__(self, configs: Sequence[LRAAblationConfig], seeds: Sequence[int] = ()) -> None:
        super().__init__(configs, seeds)
        self.released = frozenset(configs[0].released)
        self.inner_steps = configs[0].inner_steps
        self.loss_value = LOSS_VALUES[configs[0].local_loss]
        self.loss_derivative = LOCAL_LOSSES[configs[0].local_loss].derivative
        self.regularised = any(config.regularisation_strength > 0 for config in configs)

    def gradients(
        self, parameters: Parameters, batch: Batch, diagnose: bool = False
    ) -> tuple[Parameters, Diagnostics]:
        """Sum over the rounds of their clipped weight gradients; see ``learners.base.Learner``."""
        pass_ = _Pass(self, parameters, batch)
        pass_.top_target()
        for t in range(pass_.steps - 1, 0, -1):
            pass_.earlier_target(t)
        return pass_.weight_gradients(diagnose)


class _Pass:
    """One batch's way through the rounds.

    By step, (T, R, B, H): ``start`` is the derivative of l_t by h_t, ``input_start`` the same with α Ω for W_xh. With
    ``carried_loss``, at t + 1: ``state_error`` and ``guess_error``, the derivatives of l_t by the pre-activations of z_{t+1}
    and of q.
    """

    def __init__(self, rule: LRAAblation, parameters: Parameters, batch: Batch) -> None:
        self.rule, self.parameters, self.batch, self.released = rule, parameters, batch, rule.released
        self.driven = drive(parameters, batch.inputs)
        trajectory = states(parameters, self.driven)
        self.h, self.z, self.z_below = trajectory.h, trajectory.z[1:], trajectory.z[:-1]
        self.slope = tanh_slope(self.z)
        self.steps, runs, self.size, hidden = self.h.shape
        self.w_hh_transposed = parameters.w_hh.transpose(1, 2).contiguous()
        self.loss_scale = 1 / (self.size * hidden)  # reduction "mean"
        configs, like = rule.configs, self.h
        self.beta = like.new_tensor([c.target_step_size for c in configs])[:, None, None]
        self.alpha = like.new_tensor([c.regularisation_strength for c in configs])[:, None, None]
        self.clip_norm = like.new_tensor([c.clip_norm for c in configs])
        self.shorten = torch.zeros_like(self.clip_norm, dtype=torch.bool)  # mode "clip"
        self.whole_batch = torch.zeros_like(self.clip_norm, dtype=torch.bool)  # scope "batch"
        self.target = torch.empty_like(self.h)
        self.start, self.input_start = torch.empty_like(self.h), torch.empty_like(self.h)
        self.state_error, self.guess_error = torch.zeros_like(self.h), torch.zeros_like(self.h)
        self.local_loss = like.new_zeros(self.steps, runs)

    def top_target(self) -> None:
        """(4)  The target of the last state, down the gradient of L; also the gradients of W_hy and b_y."""
        u, state = self.h[-1].clone(), self.z[-1]
        w_hy_transposed = self.parameters.w_hy.transpose(1, 2).contiguous()
        for k in range(self.rule.inner_steps):
            loss, d = output_loss(readout(self.parameters, state), self.batch.targets)
            pulled_back = product(d, w_hy_transposed)
            if k == 0:
                self.loss, self.b_y = loss, d.sum(1)
                self.w_hy = product(state.transpose(1, 2), d)
                if self.rule.regularised:
                    self.w_hy += self.alpha * self._omega_by_weight(d, pulled_back, state)
            self._descend(u, pulled_back, state, d, pulled_back)
            state = tanh(u)
        self.target[-1] = state
        self._start_own(self.steps - 1)

    def earlier_target(self, t: int) -> None:
        """(7)  The target of z_{t-1}, first down l_t, then down the prediction's distance from z_t or zhat_t; and l_{t-1}."""
        u, state, guess = self.h[t - 1].clone(), self.z[t - 1], self.z[t]
        error, error_at_state = self.start[t], self.error_at_state
        compared = self.z[t] if "pull_to_state" in self.released else self.target[t]
        for _ in range(self.rule.inner_steps):
            pulled_back, omega_error, omega_pulled = self._pull_back(error), error, None
            if self.rule.regularised and "omega_at_state" in self.released:
                omega_error, omega_pulled = error_at_state, self._pull_back(error_at_state)
            self._descend(u, pulled_back, state, omega_error, omega_pulled)
            state = tanh(u)
            guess = next_state(self.driven[t], state, self.parameters.w_hh)  # q
            error_at_state = self.rule.loss_derivative(guess, compared).mul_(self.loss_scale)
            error = error_at_state * tanh_slope(guess)
        self.target[t - 1] = state
        if "carried_loss" in self.released:
            self._start_carried(t - 1, guess)
        else:
            self._start_own(t - 1)

    def _start_own(self, t: int) -> None:
        """l_t = l(z_t, zhat_t), and with a moving target both sides move with h_t."""
        z, target = self.z[t], self.target[t]
        self.error_at_state = self.rule.loss_derivative(z, target).mul_(self.loss_scale)
        self.start[t] = self.error_at_state * self.slope[t]
        if "moving_targets" in self.released:
            self.start[t] -= self.error_at_state * tanh_slope(target)
        self.local_loss[t] = self._loss(z, target)
        if t < self.steps - 1:
            self._start_input(t, self.start[t + 1], self.local_loss[t + 1])
        else:
            self.input_start[t] = self.start[t]  # above it is no step, and no Ω

    def _start_carried(self, t: int, guess: Tensor) -> None:
        """l_t = l(z_{t+1}, q) with q = f(moved z_t), and with a moving target q moves with h_t as well."""
        difference = self.rule.loss_derivative(self.z[t + 1], guess).mul_(self.loss_scale)
        self.state_error[t + 1] = difference * self.slope[t + 1]
        self.error_at_state = self._pull_back(self.state_error[t + 1])
        self.start[t] = self.error_at_state * self.slope[t]
        if "moving_targets" in self.released:
            self.guess_error[t + 1] = -difference * tanh_slope(guess)
            self.start[t] += self._pull_back(self.guess_error[t + 1]).mul_(tanh_slope(self.target[t]))
        self.local_loss[t] = self._loss(self.z[t + 1], guess)
        self._start_input(t, self.state_error[t + 1], self.local_loss[t])

    def _start_input(self, t: int, error_above: Tensor, loss_above: Tensor) -> None:
        """What W_xh learns from: with ``omega_on_input`` Ω of the step above too, unless the loss it belongs to is 0."""
        self.input_start[t] = self.start[t]
        if self.rule.regularised and "omega_on_input" in self.released:
            omega = self._omega_by_preactivation(error_above, self._pull_back(error_above), self.z[t])
            self.input_start[t] += torch.where((loss_above != 0)[:, None, None], self.alpha * omega, 0.0)

    def weight_gradients(self, diagnose: bool) -> tuple[Parameters, Diagnostics]:
        """(6)  Every round's gradients, clipped on their own, then summed, one round after the other."""
        inputs = self.batch.inputs
        if not inputs.is_floating_point():
            inputs = functional.one_hot(inputs, self.parameters.w_xh.shape[1]).to(self.h.dtype)
        total = Parameters(*(torch.zeros_like(tensor) for tensor in self.parameters))
        total.w_hy, total.b_y = self._clip(self.w_hy), self.b_y
        diagnostics = Diagnostics(self.loss)
        norms = self.h.new_zeros(2, self.steps, len(self.rule.configs))
        if diagnose:
            diagnostics.recurrent_norm, diagnostics.input_norm = norms
            diagnostics.local_loss = self.local_loss
            diagnostics.target_displacement = norm(self.z - self.target)
        reaches_input = self.rule.regularised and "omega_on_input" in self.released
        errors = self._run_back(self.start)
        input_errors = self._run_back(self.input_start) if reaches_input else errors
        for t in range("no_first_step" in self.released, self.steps):
            w_xh, w_hh, b_h = self._round_gradients(t, inputs, errors[t], input_errors[t])
            if diagnose:
                norms[:, t] = torch.stack([norm(w_hh), norm(w_xh)])
            total.w_xh += self._clip(w_xh)
            total.w_hh += self._clip(w_hh)
            total.b_h += b_h
        return total, diagnostics

    def _round_gradients(
        self, t: int, inputs: Tensor, errors: Tensor, input_errors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives of l_t and its Ω by W_xh, W_hh and b_h, from those by h_s, h_{s+1}, ..., h_t: (R, t + 1 - s, B, H)."""
        reached = slice(t + 1 - errors.shape[1], t + 1)
        w_xh = _stacked_product(inputs[reached], input_errors)
        w_hh = _stacked_product(self.z_below[reached], errors)
        b_h = errors.sum((1, 2))
        if self.rule.regularised and "omega_on_input" not in self.released and t > 0:
            d = self.start[t]
            w_hh += self.alpha * self._omega_by_weight(d, self._pull_back(d), self.z[t - 1])
        if {"carried_loss", "full_differentiation"} <= self.released and t < self.steps - 1:
            state_error, guess_error = self.state_error[t + 1], self.guess_error[t + 1]
            both = state_error + guess_error  # step t + 1, which leads to z_{t+1} and to q
            w_xh += product(inputs[t + 1].transpose(1, 2), both)
            w_hh += product(self.z[t].transpose(1, 2), state_error)
            w_hh += product(self.target[t].transpose(1, 2), guess_error)
            b_h += both.sum(1)
        return w_xh, w_hh, b_h

    def _run_back(self, start: Tensor) -> list[Tensor]:
        """Of each round t the derivatives by the pre-activations its gradients reach, (R, steps, B, H), h_t the last."""
        if "full_differentiation" not in self.released:
            return [error[:, None] for error in start]
        steps, runs, size, hidden = start.shape
        found = start.new_empty(runs, steps, steps, size, hidden)  # [:, t, s]: of l_t by h_s
        found[:, -1, -1] = start[-1]
        for s in range(steps - 2, -1, -1):
            later = found[:, s + 1 :, s + 1]  # rounds that have come back to s + 1
            pulled_back = self._pull_back(later.flatten(1, 2)).view(later.shape)
            found[:, s + 1 :, s] = pulled_back.mul_(self.slope[s][:, None])
            found[:, s, s] = start[s]
        return [found[:, t, : t + 1] for t in range(steps)]

    def _pull_back(self, error: Tensor) -> Tensor:
        return product(error, self.w_hh_transposed)

    def _loss(self, state: Tensor, target: Tensor) -> Tensor:
        return self.rule.loss_value(state - target).mean((1, 2))

    def _descend(
        self, u: Tensor, pulled_back: Tensor, state: Tensor, omega_error: Tensor, omega_pulled: Tensor | None
    ) -> None:
        """(4), (7)  u <- u - beta N_c(gradient + alpha dΩ/du), in place. omega_pulled: d W^T where it is not pulled_back."""
        gradient = pulled_back * tanh_slope(state)
        if self.rule.regularised:
            pulled = pulled_back if omega_pulled is None else omega_pulled
            gradient += self.alpha * self._omega_by_preactivation(omega_error, pulled, state)
        u -= self.beta * self._clip(gradient)

    def _clip(self, gradient: Tensor) -> Tensor:
        return clip(gradient, self.clip_norm, self.shorten)  # (3)

    def _omega_by_preactivation(self, error: Tensor, pulled_back: Tensor, state: Tensor) -> Tensor:
        """(8)  dΩ/du (R, B, H); with ``diagonal_slope`` it is 0 off the diagonal."""
        if "diagonal_slope" in self.released:
            undefined = error.new_zeros(len(error), 1)
            omega = torch.zeros_like(state)
            diagonal = omega.diagonal(dim1=1, dim2=2)
            diagonal += diagonal_regulariser(error, pulled_back, state, undefined).preactivation
            return omega
        return regulariser(error, pulled_back, state, self.whole_batch).preactivation

    def _omega_by_weight(self, error: Tensor, pulled_back: Tensor, state: Tensor) -> Tensor:
        """(8)  dΩ/dW (R, H, M)."""
        if "diagonal_slope" in self.released:
            undefined = error.new_zeros(len(error), 1)
            return diagonal_regulariser(error, pulled_back, state, undefined).weight(error, pulled_back)
        omega = regulariser(error, pulled_back, state, self.whole_batch)
        return product(omega.unit_weight_factor.transpose(1, 2), error / omega.error_norm)


def _stacked_product(lower: Tensor, upper: Tensor) -> Tensor:
    """Sum over steps of lower_s^T upper_s: (R, H, M) from (S, R, B, H) and (R, S, B, M)."""
    return product(lower.transpose(0, 1).flatten(1, 2).transpose(1, 2), upper.flatten(1, 2))
