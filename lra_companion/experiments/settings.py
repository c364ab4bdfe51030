"""Settings that a profile states in full, where a chapter compares no tuned rules."""

from __future__ import annotations

from typing import Self

from lra_companion.config import NonNegative, Positive, Scope, StrictModel


class ReadoutSettings(StrictModel):
    """Settings of the control."""

    learning_rate: Positive


class PlainSettings(StrictModel):
    """Settings of LRA, or of the released code, without Ω."""

    learning_rate: Positive
    target_step_size: Positive


class RegularisedSettings(PlainSettings):
    """Settings of LRA with Ω."""

    regularisation_strength: Positive
    regularisation_scope: Scope


class ReleasedSettings(PlainSettings):
    """Settings of the released code with Ω; without it only the strength is left out."""

    regularisation_strength: Positive

    @property
    def without_omega(self) -> PlainSettings:
        """The same without Ω."""
        return PlainSettings(learning_rate=self.learning_rate, target_step_size=self.target_step_size)


class ExactSettings(StrictModel):
    """Settings of backpropagation through time; without Ω only the strength is left out."""

    learning_rate: Positive
    clip_norm: NonNegative
    regularisation_strength: NonNegative

    @property
    def without_omega(self) -> Self:
        """The same without Ω."""
        return self.model_copy(update={"regularisation_strength": 0.0})
