"""Settings of LRA runs that train side by side, stacked along the runs axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lra_companion.config import LRAConfig
from lra_companion.local_losses import reduction_scale
from lra_companion.stability import Clipping


@dataclass
class LRASettings:
    """Each run's settings as tensors: (R,), or (R, 1, 1) where they meet (R, B, H)."""

    beta: Tensor
    alpha_targets: Tensor
    alpha_recurrent: Tensor
    alpha_readout: Tensor
    alpha_input: Tensor
    clip_norm: Tensor
    normalise: Tensor
    weight_clipping: Clipping
    target_clipping: Clipping
    per_example: Tensor
    loss_scale: Tensor  # 1 / (B H) or 1 / B
    target_scale: Tensor  # 1 or B

    @classmethod
    def of(cls, configs: Sequence[LRAConfig], like: Tensor, batch_size: int) -> LRASettings:
        """Stack the runs' settings on the device and in the dtype of ``like``, whose last axis is H."""

        def numbers(values: list[float], broadcast: bool = True) -> Tensor:
            tensor = like.new_tensor(values)
            return tensor[:, None, None] if broadcast else tensor

        def booleans(values: list[bool]) -> Tensor:
            return torch.tensor(values, device=like.device)

        hidden = like.shape[-1]
        clip_norm = numbers([c.clip_norm for c in configs], broadcast=False)
        normalise = booleans([c.clip_mode == "normalise" for c in configs])
        target_norm = numbers([target_clip_norm(c) for c in configs], broadcast=False)
        target_mode = booleans([(c.target_clip_mode or c.clip_mode) == "normalise" for c in configs])
        return cls(
            beta=numbers([c.target_step_size for c in configs]),
            alpha_targets=numbers([c.regularisation_strength * c.regularise_targets for c in configs]),
            alpha_recurrent=numbers([c.regularisation_strength * c.regularise_recurrent for c in configs]),
            alpha_readout=numbers([c.regularisation_strength * c.regularise_readout for c in configs]),
            alpha_input=numbers([c.regularisation_strength * c.regularise_input for c in configs]),
            clip_norm=clip_norm,
            normalise=normalise,
            weight_clipping=Clipping(clip_norm, normalise),
            target_clipping=Clipping(target_norm, target_mode),
            per_example=booleans([c.regularisation_scope == "example" for c in configs]),
            loss_scale=numbers([reduction_scale(c.reduction, batch_size, hidden) for c in configs]),
            target_scale=numbers([1.0 if c.reduction == "mean" else float(batch_size) for c in configs]),
        )

    def rows(self) -> Tensor:
        """What the compiled code takes: one row of ``setting`` (native/recurrence.c) for each run, (R, 11)."""
        columns = [
            self.beta,
            self.alpha_targets,
            self.alpha_recurrent,
            self.alpha_input,
            self.loss_scale,
            self.target_scale,
            self.target_clipping.clip_norm,
            self.target_clipping.cap,
            self.weight_clipping.clip_norm,
            self.weight_clipping.cap,
            self.per_example.to(self.beta.dtype),
        ]
        return torch.stack([column.flatten() for column in columns], dim=1)


def target_clip_norm(config: LRAConfig) -> float:
    """C of target steps: that of the weight gradients where it has no value of its own."""
    return config.clip_norm if config.target_clip_norm is None else config.target_clip_norm
