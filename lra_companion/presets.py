"""Whole settings of LRA under a name: those of the paper, and those that reached furthest in this study's first trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lra_companion.complaints import nearest


@dataclass(frozen=True)
class LocalSetting:
    """Strictly local LRA with target steps that no mean divides, all of one length, under an optimiser that gives each weight a
    scale of its own; and what is left to choose: learning rate, beta, and alpha of an Ω on W_hh alone (0: none).
    """

    learning_rate: float
    target_step_size: float
    regularisation_strength: float

    def fields(self) -> dict[str, dict[str, Any]]:
        """Sections of a RunConfig."""
        omega = {"regularisation_strength": self.regularisation_strength} | ON_W_HH
        return {
            "optimiser": {"name": "adam", "learning_rate": self.learning_rate},
            "learner": {
                "name": "lra",
                "local_loss": "log_penalty",
                "reduction": "per_example",
                "target_step_size": self.target_step_size,
                "inner_steps": 1,
                "clip_norm": 1.0,
                "target_clip_mode": "normalise",
                **(omega if self.regularisation_strength else {}),
            },
        }


ON_W_HH: dict[str, Any] = {
    "regularisation_scope": "example",
    "regularise_targets": False,
    "regularise_readout": False,
}
"""Fields that let Ω act on W_hh alone, one ratio for each example."""
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    # K, c, loss and reduction of the public code's settings; rate, beta and alpha are values of its grid.
    "paper": {
        "optimiser": {"name": "sgd", "learning_rate": 0.1},
        "learner": {
            "name": "lra",
            "local_loss": "log_penalty",
            "reduction": "mean",
            "target_step_size": 10.0,
            "inner_steps": 10,
            "clip_norm": 1.0,
            "regularisation_strength": 0.1,
        },
    },
    # What ``preset_search`` chose.
    "recommended": LocalSetting(2e-4, 2.0, 1.0).fields(),
}


def preset(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's fields for ``RunConfig.model_validate``, with ``changes`` section by section; task and seed are among these.

    Raises ValueError for an unknown name, and where ``changes`` ask for another learner.
    """
    if name not in PRESETS:
        raise ValueError(f"preset = {name!r}: must be one of {', '.join(PRESETS)}{nearest(name, PRESETS)}")
    learner = dict(changes.get("learner", {})).get("name", "lra")
    if learner != "lra":
        raise ValueError(f"preset = {name!r}: has settings of lra, and none of learner = {learner!r}")
    return dict(changes) | {
        section: fields | dict(changes.get(section, {})) for section, fields in PRESETS[name].items()
    }
