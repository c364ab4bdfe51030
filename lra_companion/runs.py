"""What is known of a run: while it trains, when it has ended, and with which others it can train side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import Tensor

from lra_companion.config import RunConfig
from lra_companion.network import Parameters

Status = Literal["solved", "stalled", "max_iterations", "diverged"]


@dataclass
class RunState:
    """A run in mid-training, whole: whoever goes on from here computes what would have been computed.

    iteration: updates made. history: as in RunResult. best and checks_without_gain: of its validation accuracy. seconds: of
    processor time so far. loss_sum and loss_count: since the last check. tensors: weights and what optimiser and learner have
    learnt, each with a leading axis of one run; none before the first update, and none while the run is part of a batch.
    """

    config: RunConfig
    iteration: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float = -1.0
    checks_without_gain: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict, repr=False)


class Keeper(Protocol):
    """Where runs in mid-training are kept, so that they can be gone on with after an interruption (``unfinished``)."""

    def load(self, config: RunConfig) -> RunState | None:
        """The run as it was kept last, or None."""
        ...

    def due(self) -> bool:
        """Whether it is time to keep runs again."""
        ...

    def save(self, states: Sequence[RunState]) -> None:
        """Keep these. Raises OSError."""
        ...


@dataclass
class RunResult:
    """What became of one run.

    status: why it ended. iterations: updates made. validation_accuracy and test_accuracy: of the network as training left it
    (after divergence: its last finite state), shares of 1. history: one row per check, the first before any update:
    iteration, training_loss (mean since the last check), validation_accuracy, and diagnostics where asked for.
    duration_seconds: the run's share of the processor time. parameters: the trained weights (R = 1), kept in memory only.
    """

    config: RunConfig
    status: Status
    iterations: int
    validation_accuracy: float
    test_accuracy: float
    history: list[dict[str, Any]]
    duration_seconds: float
    parameters: Parameters | None = field(default=None, repr=False)

    @property
    def solved(self) -> bool:
        """Whether the validation error fell below the protocol's bound."""
        return self.status == "solved"


PER_RUN_SETTINGS = {
    "target_step_size",
    "clip_norm",
    "clip_mode",
    "target_clip_norm",
    "target_clip_mode",
    "reduction",
    "regularisation_strength",
    "regularisation_scope",
    "regularise_targets",
    "regularise_recurrent",
    "regularise_readout",
    "regularise_input",
    "released_nan",
    "inverse_learning_rate",
    "inverse_noise",
}


def shape_key(config: RunConfig) -> str:
    """Runs with equal keys can train side by side. Regularised and plain ones are kept apart: Ω costs time."""
    learner = config.learner.model_dump(exclude=PER_RUN_SETTINGS)
    regularised = getattr(config.learner, "regularisation_strength", 0) > 0
    return repr([config.task, config.network, config.optimiser.name, config.protocol, learner, regularised])
