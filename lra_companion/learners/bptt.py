"""Backpropagation through time with Pascanu et al.'s clipping and regulariser (ICML 2013): the exact baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lra_companion.config import BPTTConfig
from lra_companion.learners.base import (
    BaseLearner,
    Diagnostics,
    input_gradient,
    input_norms,
    product_norms,
    stacked_product,
)
from lra_companion.network import Batch, Parameters, forward, output_loss, product, readout
from lra_companion.stability import Clipping, Regulariser, norm, regulariser, tanh_slope


class BPTT(BaseLearner):
    """d_T = (dL/do W_hy^T) phi'(h_T);  d_{t-1} = (d_t W_hh^T) phi'(h_{t-1});  dW_hh = sum_t z_{t-1}^T d_t + alpha dΩ_t/dW_hh.

    Ω_t takes d = d_t, W = W_hh, u = h_{t-1}; only its immediate derivative with respect to W_hh counts. Then the global norm of
    all five gradients is clipped.
    """

    def __init__(self, configs: Sequence[BPTTConfig], seeds: Sequence[int] = ()) -> None:
        super().__init__(configs, seeds)
        self.regularised = any(config.regularisation_strength > 0 for config in configs)

    def gradients(
        self, parameters: Parameters, batch: Batch, diagnose: bool = False
    ) -> tuple[Parameters, Diagnostics]:
        """Gradients of L (and Ω), clipped; see ``learners.base.Learner``."""
        like = parameters.w_hh
        alpha = like.new_tensor([config.regularisation_strength for config in self.configs])
        c = like.new_tensor([config.clip_norm for config in self.configs])
        per_example = torch.tensor(
            [config.regularisation_scope == "example" for config in self.configs], device=like.device
        )
        z = forward(parameters, batch.inputs).z
        steps, runs, size, hidden = z.shape[0] - 1, *z.shape[1:]
        loss, output_error = output_loss(readout(parameters, z[-1]), batch.targets)

        w_hh_transposed = parameters.w_hh.transpose(1, 2).contiguous()
        error = z.new_empty(runs, steps, size, hidden)  # d_t
        omegas = z.new_zeros(steps, runs)
        pulled_back = product(output_error, parameters.w_hy.transpose(1, 2))
        omega_gradient = torch.zeros_like(parameters.w_hh)
        for t in range(steps, 0, -1):
            d = pulled_back * tanh_slope(z[t])
            error[:, t - 1] = d
            if t == 1:
                break
            pulled_back = product(d, w_hh_transposed)
            if diagnose or self.regularised:
                omega = regulariser(d, pulled_back, z[t - 1], per_example)
                omegas[t - 1] = omega.value
                omega_gradient += _weight_gradient(omega, d)

        lower = z[:-1].transpose(0, 1)  # (R, T, B, H)
        gradients = Parameters(
            w_xh=input_gradient(batch.inputs, error, parameters.w_xh.shape[1]),
            w_hh=stacked_product(lower, error) + alpha[:, None, None] * omega_gradient,
            b_h=error.sum((1, 2)),
            w_hy=product(z[-1].transpose(1, 2), output_error),
            b_y=output_error.sum(1),
        )
        norms = torch.stack([norm(gradient.flatten(1), (1,)) for gradient in gradients], dim=1)  # (R, 5)
        factor = Clipping(c, torch.zeros_like(per_example)).factor(norm(norms, (1,)))
        for gradient in gradients:
            gradient *= factor.view(-1, *[1] * (gradient.dim() - 1))
        diagnostics = Diagnostics(loss)
        if diagnose:
            diagnostics.recurrent_norm = product_norms(lower, error).T
            diagnostics.input_norm = input_norms(batch.inputs, error).T
            diagnostics.regulariser = omegas
            diagnostics.clipped_share = (factor != 1).to(factor.dtype)
        return gradients, diagnostics


def _weight_gradient(omega: Regulariser, error: Tensor) -> Tensor:
    """dΩ/dW (R, H, M)."""
    return product(omega.unit_weight_factor.transpose(1, 2), error / omega.error_norm)
