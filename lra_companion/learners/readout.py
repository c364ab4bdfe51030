"""The control: hidden weights frozen, only the output layer learns (method.md, "Baselines")."""

from __future__ import annotations

from lra_companion.learners.base import BaseLearner, Diagnostics
from lra_companion.network import Batch, Parameters, forward, output_loss, product, readout


class Readout(BaseLearner):
    """Exact gradient of L for W_hy and b_y, zero for all else. If another rule is no better, it taught W_hh nothing."""

    def gradients(
        self, parameters: Parameters, batch: Batch, diagnose: bool = False
    ) -> tuple[Parameters, Diagnostics]:
        """Gradients of the output layer; see ``learners.base.Learner``."""
        del diagnose  # nothing happens at earlier steps
        state = forward(parameters, batch.inputs).z[-1]
        loss, error = output_loss(readout(parameters, state), batch.targets)
        gradients = Parameters(
            w_xh=parameters.w_xh.new_zeros(parameters.w_xh.shape),
            w_hh=parameters.w_hh.new_zeros(parameters.w_hh.shape),
            b_h=parameters.b_h.new_zeros(parameters.b_h.shape),
            w_hy=product(state.transpose(1, 2), error),
            b_y=error.sum(1),
        )
        return gradients, Diagnostics(loss)
