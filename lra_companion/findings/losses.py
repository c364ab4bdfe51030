"""04_local_losses: whether the local loss matters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lra_companion.experiments import LocalLossParameters
from lra_companion.experiments.losses import loss_label
from lra_companion.findings.comparison import Panel
from lra_companion.findings.outcomes import listed


def losses_finding(parameters: LocalLossParameters, found: Sequence[Panel]) -> str:
    """Two sentences for the top of the chapter, one without and one with Ω: what each loss reached, how often another differed
    clearly from the common one, and on how many tasks any loss clearly beat the control.
    """
    return " ".join(_sentence(parameters, found, regularised) for regularised in (False, True))


def _sentence(parameters: LocalLossParameters, found: Sequence[Panel], regularised: bool) -> str:
    labels = {loss: loss_label(loss, regularised) for loss in parameters.local_losses}
    means = {
        loss: float(np.mean([panel.outcomes[label].accuracy.value for panel in found]))
        for loss, label in labels.items()
    }
    ranked = sorted(means, key=lambda loss: -means[loss])
    spread = listed([f"{loss} {means[loss]:.2f}" for loss in ranked])
    common = labels.get(parameters.local_loss)
    signs = [
        panel.clear(label, common)
        for panel in found
        for label in labels.values()
        if common is not None and label != common
    ]
    beaten = sum(any(panel.clear(label, "readout") > 0 for label in labels.values()) for panel in found)
    compared = (
        f"against {parameters.local_loss} the others were clearly better in {signs.count(1)} and clearly worse in "
        f"{signs.count(-1)} of {len(signs)} comparisons, and "
        if signs
        else ""
    )
    return (
        f"{'With' if regularised else 'Without'} Ω, the accuracy of LRA, averaged over tasks, was {spread} on unseen "
        f"sequences; {compared}some loss clearly beat the readout on {beaten} of {len(found)} task{'s' * (len(found) != 1)}."
    )
