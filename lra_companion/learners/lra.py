"""Local Representation Alignment for simple RNNs, strictly local and in closed form (Manchev & Garcia-Peraza-Herrera,
arXiv:2504.13531; local losses of Ororbia et al., arXiv:1803.01834; Ω of Pascanu et al., ICML 2013).

Every step of time is a sub-graph of its own, cut at both ends: the state below and the target above are constants. So there is
nothing to backpropagate, and all of eqs. 3-8 is written out here without an autograd graph. Time and memory are linear in T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lra_companion.config import LRAConfig
from lra_companion.learners.base import (
    BaseLearner,
    Diagnostics,
    input_gradient,
    input_norms,
    product_norms,
    stacked_product,
)
from lra_companion.local_losses import LOCAL_LOSSES, reduction_scale
from lra_companion.network import Batch, Parameters, drive, output_loss, product, readout, states, step
from lra_companion.stability import Clipping, Regulariser, clip, norm, regulariser, tanh_slope


class LRA(BaseLearner):
    """Targets are handed back in time, from zhat_T to zhat_1 (eqs. 4, 7); each step's weights then move its state towards its
    target (eqs. 5, 6).
    """

    def __init__(self, configs: Sequence[LRAConfig], seeds: Sequence[int] = ()) -> None:
        super().__init__(configs, seeds)
        self.inner_steps = configs[0].inner_steps
        self.loss = LOCAL_LOSSES[configs[0].local_loss]
        self.regularised = any(config.regularisation_strength > 0 for config in configs)
        self.regularises_input = self.regularised and any(config.regularise_input for config in configs)
        self.clips = any(config.clip_norm > 0 for config in configs)
        self.clips_targets = any(_target_clip_norm(config) > 0 for config in configs)

    def gradients(
        self, parameters: Parameters, batch: Batch, diagnose: bool = False
    ) -> tuple[Parameters, Diagnostics]:
        """Sum over time of the local, clipped weight gradients; see ``learners.base.Learner``."""
        pass_ = _Pass(self, parameters, batch, diagnose)
        pass_.top_target()
        for t in range(pass_.steps, 1, -1):
            pass_.earlier_target(t)
        pass_.first_error()
        return pass_.weight_gradients()


@dataclass
class _Settings:
    """Each run's settings as tensors: (R,), or (R, 1, 1) where they meet (R, B, H)."""

    beta: Tensor
    alpha_targets: Tensor
    alpha_recurrent: Tensor
    alpha_readout: Tensor
    alpha_input: Tensor
    clip_norm: Tensor
    normalise: Tensor
    target_clip_norm: Tensor
    target_normalise: Tensor
    per_example: Tensor
    loss_scale: Tensor  # 1 / (B H) or 1 / B
    target_scale: Tensor  # 1 or B

    @classmethod
    def of(cls, configs: Sequence[LRAConfig], like: Tensor, batch_size: int) -> _Settings:
        """Stack the runs' settings on the device and in the dtype of ``like``, whose last axis is H."""

        def numbers(values: list[float], broadcast: bool = True) -> Tensor:
            tensor = like.new_tensor(values)
            return tensor[:, None, None] if broadcast else tensor

        def booleans(values: list[bool]) -> Tensor:
            return torch.tensor(values, device=like.device)

        hidden = like.shape[-1]
        return cls(
            beta=numbers([c.target_step_size for c in configs]),
            alpha_targets=numbers([c.regularisation_strength * c.regularise_targets for c in configs]),
            alpha_recurrent=numbers([c.regularisation_strength * c.regularise_recurrent for c in configs]),
            alpha_readout=numbers([c.regularisation_strength * c.regularise_readout for c in configs]),
            alpha_input=numbers([c.regularisation_strength * c.regularise_input for c in configs]),
            clip_norm=numbers([c.clip_norm for c in configs], broadcast=False),
            normalise=booleans([c.clip_mode == "normalise" for c in configs]),
            target_clip_norm=numbers([_target_clip_norm(c) for c in configs], broadcast=False),
            target_normalise=booleans([(c.target_clip_mode or c.clip_mode) == "normalise" for c in configs]),
            per_example=booleans([c.regularisation_scope == "example" for c in configs]),
            loss_scale=numbers([reduction_scale(c.reduction, batch_size, hidden) for c in configs]),
            target_scale=numbers([1.0 if c.reduction == "mean" else float(batch_size) for c in configs]),
        )


def _target_clip_norm(config: LRAConfig) -> float:
    return config.clip_norm if config.target_clip_norm is None else config.target_clip_norm


class _Pass:
    """One batch's way through eqs. 1-8. Time is counted as in the paper, t = 1..T, so that h_t is h[t - 1] and z_t is z[t].

    What eq. 6 needs is kept per step, (R, T, B, H): ``error``, d_t before its reduction, and two factors of the recurrent
    gradient: dW_hh^t before clipping is lower_t^T upper_t.
    """

    def __init__(self, rule: LRA, parameters: Parameters, batch: Batch, diagnose: bool) -> None:
        self.rule, self.parameters, self.batch, self.diagnose = rule, parameters, batch, diagnose
        self.driven = drive(parameters, batch.inputs)
        trajectory = states(parameters, self.driven)
        self.h, self.z = trajectory.h, trajectory.z
        self.steps, runs, size, hidden = self.h.shape
        self.settings = _Settings.of(rule.configs, self.h, size)
        self.weight_clipping = Clipping(self.settings.clip_norm, self.settings.normalise)
        self.target_clipping = Clipping(self.settings.target_clip_norm, self.settings.target_normalise)
        self.w_hh_transposed = parameters.w_hh.transpose(1, 2).contiguous()
        self.target = torch.empty_like(self.h)  # zhat_t is target[t - 1]
        self.error = self.h.new_empty(runs, self.steps, size, hidden)
        self.lower = self.z[:-1].transpose(0, 1).clone(memory_format=torch.contiguous_format)
        self.upper = torch.empty_like(self.error)
        self.input_omega = torch.zeros_like(self.error) if rule.regularises_input else None
        self.omega_values = self.h.new_zeros(self.steps, runs)
        self.rescaled = self.h.new_zeros(runs)  # how many target steps eq. 3 rescaled

    def top_target(self) -> None:
        """(4)  From h_T, down the exact gradient of L. The first inner step is also where eq. 6 reads d_y and Ω_y."""
        u, settings = self.h[-1].clone(), self.settings
        w_hy_transposed = self.parameters.w_hy.transpose(1, 2).contiguous()
        for k in range(self.rule.inner_steps):
            state = self.z[-1] if k == 0 else torch.tanh(u)
            outputs = readout(self.parameters, state)
            loss, output_error = output_loss(outputs, self.batch.targets)  # L and d_y = dL/do
            pulled_back = product(output_error, w_hy_transposed)
            omega = self._omega(output_error, pulled_back, state, k)
            if k == 0:
                self.loss, self.output_error, self.output_omega = loss, output_error, omega
            lower = pulled_back * tanh_slope(state) if omega is None else omega.lower  # dL/du
            self._descend(u, lower * settings.target_scale, omega)  # (4)  u^{k+1}
        torch.tanh(u, out=self.target[-1])  # zhat_T

    def earlier_target(self, t: int) -> None:
        """(7)  From zhat_t to zhat_{t-1}: move h_{t-1} until the network's step from it lands closer to zhat_t.

        The first inner step starts on the trajectory itself: its error is the d_t of eq. 6 and its Ω is Ω_t.
        """
        u, settings, zhat = self.h[t - 2].clone(), self.settings, self.target[t - 1]
        scale = settings.loss_scale * settings.target_scale
        for k in range(self.rule.inner_steps):
            if k == 0:
                state, prediction = self.z[t - 1], self.z[t]
            else:
                state = torch.tanh(u)
                prediction = step(self.driven[t - 1], state, self.parameters.w_hh).tanh_()  # (7)  p^k
            error = self._error(
                prediction, zhat
            )  # (7)  e^k before its reduction: Ω does not feel a scale of d
            pulled_back = product(error, self.w_hh_transposed)  # the product that eqs. 7 and 8 share
            omega = self._omega(error, pulled_back, state, k)
            if k == 0:
                self._keep(t, error, omega)
            lower = pulled_back.mul_(tanh_slope(state)) if omega is None else omega.lower
            self._descend(u, lower * scale, omega)  # (7)  g^k and u^{k+1}
        torch.tanh(u, out=self.target[t - 2])  # (7)  zhat_{t-1}

    def first_error(self) -> None:
        """d_1 of eq. 6; below it is no state to move, and no Ω."""
        self._keep(1, self._error(self.z[1], self.target[0]), None)

    def weight_gradients(self) -> tuple[Parameters, Diagnostics]:
        """(6)  All steps' weight gradients, each clipped on its own, then summed over time."""
        settings, inputs = self.settings, self.batch.inputs
        error = self.error.mul_(settings.loss_scale[:, None])  # d_t
        input_upper = error if self.input_omega is None else error + self.input_omega
        norms = None
        recurrent_factor = input_factor = 1.0
        if self.rule.clips or self.diagnose:
            norms = product_norms(self.lower, self.upper), input_norms(inputs, input_upper)
            recurrent_factor, input_factor = (
                self.weight_clipping.factor(size)[..., None, None] for size in norms
            )
        output_gradient = self._output_gradient()
        gradients = Parameters(
            w_xh=input_gradient(inputs, input_upper * input_factor, self.parameters.w_xh.shape[1]),
            w_hh=stacked_product(self.lower, self.upper * recurrent_factor),
            b_h=error.sum((1, 2)),
            w_hy=clip(output_gradient, settings.clip_norm, settings.normalise),
            b_y=self.output_error.sum(1),
        )
        diagnostics = Diagnostics(self.loss)
        if self.diagnose and norms is not None:
            self._measure(diagnostics, *norms, norm(output_gradient))
        return gradients, diagnostics

    def _error(self, state: Tensor, target: Tensor) -> Tensor:
        """loss'(z, zhat) (1 - z^2): the error of eqs. 6 and 7 before its reduction."""
        return self.rule.loss.derivative(state, target).mul_(tanh_slope(state))

    def _omega(self, error: Tensor, pulled_back: Tensor, state: Tensor, k: int) -> Regulariser | None:
        if self.rule.regularised or (self.diagnose and k == 0):
            return regulariser(error, pulled_back, state, self.settings.per_example)
        return None

    def _descend(self, u: Tensor, gradient: Tensor, omega: Regulariser | None) -> None:
        """One inner step of eqs. 4 and 7, in place: u <- u - beta N_c(gradient + alpha dΩ/du)."""
        settings = self.settings
        if self.rule.regularised and omega is not None:
            gradient.addcmul_(omega.preactivation, settings.alpha_targets)
        if self.rule.clips_targets:
            size = norm(gradient)
            gradient *= self.target_clipping.factor(size)[:, None, None]
            if self.diagnose:
                self.rescaled += self.target_clipping.rescales(size)
        u.addcmul_(gradient, settings.beta, value=-1)

    def _keep(self, t: int, error: Tensor, omega: Regulariser | None) -> None:
        """Note d_t and the factors of dW_hh^t = z_{t-1}^T d_t + alpha dΩ_t/dW_hh (eq. 6).

        dΩ/dW grows as 1 / |d|. With e the error, q its reduction and d = q e, the gradient of a regularised run is
        (q |e| z + alpha G phi' |e|)^T (e / |e|): neither factor leaves float32's range, however small the error.
        """
        settings = self.settings
        self.error[:, t - 1] = error
        if omega is None or not self.rule.regularised:
            self.upper[:, t - 1] = error * settings.loss_scale
        else:
            acts = settings.alpha_recurrent > 0
            below = torch.where(acts, omega.error_norm * settings.loss_scale, 1.0)
            self.lower[:, t - 1] *= below
            self.lower[:, t - 1] += settings.alpha_recurrent * omega.unit_weight_factor
            self.upper[:, t - 1] = error * torch.where(acts, 1 / omega.error_norm, settings.loss_scale)
            if self.input_omega is not None:  # dΩ_t/dW_xh through h_{t-1}, one step
                self.input_omega[:, t - 2] = settings.alpha_input * omega.preactivation
        if omega is not None:
            self.omega_values[t - 1] = omega.value

    def _output_gradient(self) -> Tensor:
        """z_T^T d_y + alpha dΩ_y/dW_hy (eq. 6), before clipping."""
        gradient = product(self.z[-1].transpose(1, 2), self.output_error)
        omega = self.output_omega
        if self.rule.regularised and omega is not None:
            unit_error = self.output_error / omega.error_norm
            gradient += self.settings.alpha_readout * product(
                omega.unit_weight_factor.transpose(1, 2), unit_error
            )
        return gradient

    def _measure(self, diagnostics: Diagnostics, recurrent: Tensor, inputs: Tensor, output: Tensor) -> None:
        states, scale = self.z[1:], self.settings.loss_scale
        diagnostics.recurrent_norm, diagnostics.input_norm = recurrent.T, inputs.T
        diagnostics.target_displacement = norm(states - self.target)
        diagnostics.local_loss = (self.rule.loss.value(states, self.target) * scale).sum((-2, -1))  # (5)
        diagnostics.regulariser = self.omega_values
        rescaled = sum(
            self.weight_clipping.rescales(size).view(len(size), -1).sum(1)
            for size in (recurrent, inputs, output)
        )
        # Of T gradients of W_xh, T - 1 of W_hh (z_0 = 0), one of W_hy, and K T target steps.
        diagnostics.clipped_share = (self.rescaled + rescaled) / (self.steps * (2 + self.rule.inner_steps))
