"""Local Representation Alignment for simple RNNs, strictly local and in closed form (Manchev & Garcia-Peraza-Herrera,
arXiv:2504.13531; local losses of Ororbia et al., arXiv:1803.01834; Ω of Pascanu et al., ICML 2013).

Every step of time is a sub-graph of its own, cut at both ends: the state below and the target above are constants. So there is
nothing to backpropagate, and all of eqs. 3-8 is written out here without an autograd graph. Time and memory are linear in T.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lra_companion import compiled
from lra_companion.config import LRAConfig
from lra_companion.learners.base import (
    BaseLearner,
    Diagnostics,
    input_gradient,
    input_norms,
    product_norms,
    stacked_product,
)
from lra_companion.learners.lra_settings import LRASettings, target_clip_norm
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
from lra_companion.stability import Regulariser, clip, norm, regulariser, tanh_slope


class LRA(BaseLearner):
    """Targets are handed back in time, from zhat_T to zhat_1 (eqs. 4, 7); each step's weights then move its state towards its
    target (eqs. 5, 6).
    """

    def __init__(self, configs: Sequence[LRAConfig], seeds: Sequence[int] = ()) -> None:
        super().__init__(configs, seeds)
        self.inner_steps = configs[0].inner_steps
        self.local_loss = configs[0].local_loss
        self.loss = LOCAL_LOSSES[self.local_loss]
        self.regularised = any(config.regularisation_strength > 0 for config in configs)
        self.clips = any(config.clip_norm > 0 for config in configs)
        self.clips_targets = any(target_clip_norm(config) > 0 for config in configs)

    def gradients(
        self, parameters: Parameters, batch: Batch, diagnose: bool = False
    ) -> tuple[Parameters, Diagnostics]:
        """Sum over time of the local, clipped weight gradients; see ``learners.base.Learner``."""
        pass_ = _Pass(self, parameters, batch, diagnose)
        if compiled.available(pass_.h) and self.local_loss in compiled.LOSSES:
            pass_.compiled_targets()
        else:
            pass_.top_target()
            pass_.earlier_targets()
        return pass_.weight_gradients()


class _Pass:
    """One batch's way through eqs. 1-8. Time is counted as in the paper, t = 1..T, so that h_t is h[t - 1] and z_t is z[t].

    What eq. 6 needs is kept per step, (R, T, B, H), already clipped: dW_hh^t = lower_t^T upper_t and dW_xh^t =
    x_t^T input_upper_t.
    """

    target: Tensor  # (T, R, B, H); zhat_t is target[t - 1]
    lower: Tensor
    upper: Tensor
    input_upper: Tensor
    b_h: Tensor  # (R, H)
    recurrent_norm: Tensor  # (T, R), of the gradients before clipping, as the next
    input_norm: Tensor
    omega: Tensor | None = None  # (T, R): Ω_t, 0 at t = 1, where there is no earlier state

    def __init__(self, rule: LRA, parameters: Parameters, batch: Batch, diagnose: bool) -> None:
        self.rule, self.parameters, self.batch, self.diagnose = rule, parameters, batch, diagnose
        self.driven = drive(parameters, batch.inputs)
        self.trajectory = states(parameters, self.driven)
        self.h, self.z = self.trajectory.h, self.trajectory.z
        self.steps, runs, size, _ = self.h.shape
        self.settings = LRASettings.of(rule.configs, self.h, size)
        self.rescaled = self.h.new_zeros(runs)  # how many target steps eq. 3 rescaled
        outputs = readout(parameters, self.z[-1])
        self.loss, self.output_error = output_loss(outputs, batch.targets)  # L, and d_y = dL/do of eq. 6
        self.w_hy_transposed = parameters.w_hy.transpose(1, 2).contiguous()

    def top_target(self) -> None:
        """(4)  zhat_T: from h_T, down the exact gradient of L."""
        u, state, output_error = self.h[-1].clone(), self.z[-1], self.output_error
        for k in range(self.rule.inner_steps):
            if k > 0:
                _, output_error = output_loss(readout(self.parameters, state), self.batch.targets)
            pulled_back = product(output_error, self.w_hy_transposed)
            state = self._descend(u, state, output_error, pulled_back, self.settings.target_scale)
        self.target = torch.empty_like(self.h)
        self.target[-1] = state

    def earlier_targets(self) -> None:
        """(7)  zhat_{t-1} for t = T..2, and with them what eq. 6 needs: d_t is the error of the first inner step, which starts
        on the trajectory itself.
        """
        steps, runs, size, hidden = self.h.shape
        # d_t before its reduction: Ω does not feel a scale of d.
        errors = self.h.new_empty(runs, steps, size, hidden)
        pulled_back = torch.zeros_like(errors)
        w_hh_transposed = self.parameters.w_hh.transpose(1, 2).contiguous()
        scale = self.settings.loss_scale * self.settings.target_scale
        for t in range(steps, 1, -1):
            u, state, prediction, zhat = self.h[t - 2].clone(), self.z[t - 1], self.z[t], self.target[t - 1]
            for k in range(self.rule.inner_steps):
                if k > 0:
                    prediction = next_state(self.driven[t - 1], state, self.parameters.w_hh)  # (7)  p^k
                error = self._error(prediction, zhat)  # (7)  e^k
                s = product(error, w_hh_transposed)  # the product that eqs. 7 and 8 share
                if k == 0:
                    errors[:, t - 1], pulled_back[:, t - 1] = error, s
                state = self._descend(u, state, error, s, scale)  # (7)  g^k and u^{k+1}
            self.target[t - 2] = state  # (7)  zhat_{t-1}
        errors[:, 0] = self._error(self.z[1], self.target[0])
        self._keep(errors, pulled_back)

    def compiled_targets(self) -> None:
        """What ``top_target`` and ``earlier_targets`` do, as machine code (native/recurrence.c)."""
        found = compiled.targets(
            self.parameters,
            self.trajectory,
            self.driven,
            self.batch,
            self.settings.rows(),
            inner_steps=self.rule.inner_steps,
            local_loss=self.rule.local_loss,
            clips_targets=self.rule.clips_targets,
            clips_weights=self.rule.clips,
            regularised=self.rule.regularised,
            measured=self.diagnose,
        )
        self.target, self.rescaled, self.omega = found.target, found.rescaled, found.omega
        self.lower = self.z[:-1].transpose(0, 1) if found.lower is None else found.lower
        self.upper, self.input_upper, self.b_h = found.upper, found.input_upper, found.b_h
        self.recurrent_norm, self.input_norm = found.recurrent_norm, found.input_norm

    def weight_gradients(self) -> tuple[Parameters, Diagnostics]:
        """(6)  The sum over time of all steps' weight gradients."""
        settings = self.settings
        output_gradient = self._output_gradient()
        gradients = Parameters(
            w_xh=input_gradient(self.batch.inputs, self.input_upper, self.parameters.w_xh.shape[1]),
            w_hh=stacked_product(self.lower, self.upper),
            b_h=self.b_h,
            w_hy=clip(output_gradient, settings.clip_norm, settings.normalise),
            b_y=self.output_error.sum(1),
        )
        diagnostics = Diagnostics(self.loss)
        if self.diagnose:
            self._measure(diagnostics, norm(output_gradient))
        return gradients, diagnostics

    def _error(self, state: Tensor, target: Tensor) -> Tensor:
        """loss'(z, zhat) (1 - z^2): the error of eqs. 6 and 7 before its reduction."""
        return self.rule.loss.derivative(state, target).mul_(tanh_slope(state))

    def _descend(self, u: Tensor, state: Tensor, error: Tensor, pulled_back: Tensor, scale: Tensor) -> Tensor:
        """One inner step of eqs. 4 and 7, u <- u - beta N_c(g + alpha dΩ/du) in place; returns tanh(u).

        state: tanh(u) before. error and pulled_back: d and d W^T. g is scale times the latter times phi'.
        """
        settings, omega = self.settings, None
        if self.rule.regularised:
            omega = regulariser(error, pulled_back, state, settings.per_example)
        gradient = (pulled_back * tanh_slope(state) if omega is None else omega.lower) * scale
        if omega is not None:
            gradient.addcmul_(omega.preactivation, settings.alpha_targets)
        if self.rule.clips_targets:
            size = norm(gradient)
            gradient *= self.settings.target_clipping.factor(size)[:, None, None]
            if self.diagnose:
                self.rescaled += self.settings.target_clipping.rescales(size)
        u.addcmul_(gradient, settings.beta, value=-1)
        return tanh(u)

    def _keep(self, error: Tensor, pulled_back: Tensor) -> None:
        """(6)  From d_t before its reduction and d_t W_hh^T: the factors of each step's weight gradients, clipped."""
        clipping = self.settings.weight_clipping
        d = error * self.settings.loss_scale[:, None]
        self.b_h = d.sum((1, 2))
        self.lower, self.upper, self.input_upper = self.z[:-1].transpose(0, 1), d, d
        self.omega = self.h.new_zeros(self.h.shape[:2])
        if self.steps > 1 and (self.rule.regularised or self.diagnose):
            # Ω_t of t = 2..T at once; it wants time in front of the runs.
            earlier, pulled = (tensor.transpose(0, 1)[1:] for tensor in (error, pulled_back))
            omega = regulariser(earlier, pulled, self.z[1:-1], self.settings.per_example)
            self.omega[1:] = omega.value
            if self.rule.regularised:
                self._add_omega(omega, error, d)
        recurrent_norm = product_norms(self.lower, self.upper)
        input_norm = input_norms(self.batch.inputs, self.input_upper)
        if self.rule.clips:
            self.upper = self.upper * clipping.factor(recurrent_norm)[..., None, None]
            self.input_upper = self.input_upper * clipping.factor(input_norm)[..., None, None]
        self.recurrent_norm, self.input_norm = recurrent_norm.T, input_norm.T

    def _add_omega(self, omega: Regulariser, error: Tensor, d: Tensor) -> None:
        """(6)  alpha dΩ/dW_hh, and of W_xh what Ω_{t+1} adds through h_t, one step.

        dΩ/dW grows as 1 / |d|. With e the error, q its reduction and d = q e, the gradient of a regularised run is
        (q |e| z + alpha G phi' |e|)^T (e / |e|): neither factor leaves float32's range, however small the error.
        """
        settings = self.settings
        acts = settings.alpha_recurrent[:, None] > 0
        error_norm = torch.where(acts, omega.error_norm.transpose(0, 1), 1.0)  # (R, T - 1, B or 1, 1)
        unit_factor = omega.unit_weight_factor.transpose(0, 1)
        self.lower = self.lower.clone(memory_format=torch.contiguous_format)
        self.lower[:, 1:] *= torch.where(acts, error_norm * settings.loss_scale[:, None], 1.0)
        self.lower[:, 1:] += settings.alpha_recurrent[:, None] * unit_factor
        self.upper = d.clone()
        self.upper[:, 1:] = torch.where(acts, error[:, 1:] / error_norm, d[:, 1:])
        self.input_upper = d.clone()
        self.input_upper[:, :-1] += settings.alpha_input[:, None] * omega.preactivation.transpose(0, 1)

    def _output_gradient(self) -> Tensor:
        """z_T^T d_y + alpha dΩ_y/dW_hy (eq. 6), before clipping."""
        state, error = self.z[-1], self.output_error
        gradient = product(state.transpose(1, 2), error)
        if self.rule.regularised:
            omega = regulariser(error, product(error, self.w_hy_transposed), state, self.settings.per_example)
            gradient += self.settings.alpha_readout * product(
                omega.unit_weight_factor.transpose(1, 2), error / omega.error_norm
            )
        return gradient

    def _measure(self, diagnostics: Diagnostics, output_norm: Tensor) -> None:
        states, scale = self.z[1:], self.settings.loss_scale
        diagnostics.recurrent_norm, diagnostics.input_norm = self.recurrent_norm, self.input_norm
        diagnostics.target_displacement = norm(states - self.target)
        diagnostics.local_loss = (self.rule.loss.value(states, self.target) * scale).sum((-2, -1))  # (5)
        diagnostics.regulariser = self.omega
        rescaled = sum(
            self.settings.weight_clipping.rescales(size).view(len(size), -1).sum(1)
            for size in (self.recurrent_norm.T, self.input_norm.T, output_norm)
        )
        # Of T gradients of W_xh, T - 1 of W_hh (z_0 = 0), one of W_hy, and K T target steps.
        diagnostics.clipped_share = (self.rescaled + rescaled) / (self.steps * (2 + self.rule.inner_steps))
