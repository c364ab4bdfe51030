"""What a gradient is worth: its angle to the exact one, how fast it fades going back in time, and where rounding ends it.

Norms of single steps come from the learners' own ``Diagnostics``; here they are read. The unit of every interval is the seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lra_companion.config import BPTTConfig, RunConfig
from lra_companion.learners import Learner, make_learner
from lra_companion.network import Batch, Parameters, initial_parameters
from lra_companion.stability import norm
from lra_companion.statistics import Estimate, iqm_interval
from lra_companion.tasks import make_task

ALL = "all"
"""Under this name stand all five weight tensors taken as one vector."""


def starting_point(configs: Sequence[RunConfig], dtype: torch.dtype) -> tuple[Parameters, Batch]:
    """The networks of runs (of one shape) before training, and their first batch."""
    first, seeds = configs[0], [config.seed for config in configs]
    task = make_task(first.task)
    parameters = initial_parameters(
        seeds, task.input_size, first.network.hidden_size, task.output_size, dtype
    )
    batch = task.batch(seeds, 0, first.protocol.batch_size)
    inputs, targets = (
        part.to(dtype) if part.is_floating_point() else part for part in (batch.inputs, batch.targets)
    )
    return parameters, Batch(inputs, targets)


def exact_gradients(parameters: Parameters, batch: Batch) -> Parameters:
    """The gradient of L, by backpropagation through time without clipping or Ω."""
    runs = parameters.b_h.shape[0]
    return make_learner([BPTTConfig(name="bptt")] * runs).gradients(parameters, batch)[0]


def cosines(gradients: Parameters, others: Parameters) -> dict[str, Tensor]:
    """Cosine of the angle between two gradients (R,): of each weight tensor, by its name, and of all as one vector.

    NaN where one of them is 0 and has no direction.
    """
    names = [item.name for item in fields(Parameters)]
    pairs = {name: (getattr(gradients, name).flatten(1), getattr(others, name).flatten(1)) for name in names}
    one, other = (torch.cat(parts, dim=1) for parts in zip(*pairs.values(), strict=True))
    return {name: _cosine(*pair) for name, pair in (pairs | {ALL: (one, other)}).items()}


def angle_to_exact(learner: Learner, parameters: Parameters, batch: Batch) -> dict[str, Tensor]:
    """Angle in degrees (R,) between a learner's gradient and the exact one, by weight tensor and of all (``cosines``).

    Below 90 a small step along the learner's gradient lowers L; NaN where either is 0.
    """
    return _degrees(cosines(learner.gradients(parameters, batch)[0], exact_gradients(parameters, batch)))


def recurrent_angles(gradients: Parameters, parameters: Parameters, batch: Batch) -> list[float | None]:
    """Angle in degrees between gradients of W_hh and the exact ones, run by run; None where one of the two is 0.

    Rounded far above the last bits, which may differ with the number of runs side by side.
    """
    both = (gradients, exact_gradients(parameters, batch))
    precise = (Parameters(*(tensor.double() for tensor in found)) for found in both)
    angles = _degrees(cosines(*precise))["w_hh"].tolist()
    return [None if math.isnan(angle) else round(angle, 3) for angle in angles]


def _degrees(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.rad2deg(torch.acos(value.clamp(-1, 1))) for name, value in found.items()}


def spectral_radius(w_hh: Tensor) -> Tensor:
    """Largest absolute eigenvalue (R,) of W_hh (R, H, H): 1 for the orthogonal matrices that training starts from."""
    return torch.linalg.eigvals(w_hh).abs().amax(-1)


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    sizes = norm(one, (1,)), norm(other, (1,))
    unit, other_unit = (
        vector / torch.where(size > 0, size, 1.0)[:, None]
        for vector, size in zip((one, other), sizes, strict=True)
    )
    return torch.where((sizes[0] > 0) & (sizes[1] > 0), (unit * other_unit).sum(1), torch.nan)


# Decay from the end of a sequence to its start. Arrays (..., T) run over t = 1..T, as in stored histories.


def resolution(batch_size: int, hidden_size: int, dtype: type[np.floating] = np.float32) -> float:
    """Norm of a target displacement (B, H) at which rounding takes over.

    zhat_t and z_t are both kept as numbers below 1, so each entry of their difference is good to about the spacing of numbers
    there. A norm below sqrt(B H) such spacings is rounding error, or exactly 0.
    """
    return float(np.finfo(dtype).eps) * (batch_size * hidden_size) ** 0.5


def resolved(norms: ArrayLike, floor: float) -> NDArray[np.bool_]:
    """Which steps (..., T) carry a norm that can be believed: from the last one back to the first that is not above ``floor``.

    What lies before that one is left out even if it rises again: it was computed from rounding errors. NaN is not above.
    """
    above = np.asarray(norms, dtype=np.float64) > floor
    return np.flip(np.logical_and.accumulate(np.flip(above, -1), -1), -1)


def fitted_factor(norms: ArrayLike, used: ArrayLike) -> float:
    """What one step back in time multiplies a norm with: exp of the least-squares slope of log norm against distance from
    the end, over the steps ``used``. norms, used: (T,). NaN where fewer than two steps are left.
    """
    values, keep = np.asarray(norms, dtype=np.float64), np.asarray(used, dtype=bool) & (np.asarray(norms) > 0)
    distance = np.arange(len(values))[::-1][keep]
    if len(distance) < 2:
        return float("nan")
    return float(np.exp(np.polyfit(distance, np.log(values[keep]), 1)[0]))


@dataclass(frozen=True)
class Decay:
    """Fitted factor per step of several seeds. estimate: its interquartile mean (of logarithms) with a bootstrap interval, None
    where no seed had two steps to fit. factors, steps (seeds,): each seed's factor, NaN where it has none, and how many steps
    its fit used.
    """

    estimate: Estimate | None
    factors: NDArray[np.float64]
    steps: NDArray[np.int64]


def fitted_decay(norms: ArrayLike, used: ArrayLike, generator: Generator) -> Decay:
    """Decay per step of norms (seeds, T) over the steps ``used`` (seeds, T). Seeds are resampled, not steps: the steps of one
    network are not independent.
    """
    rows, keep = np.asarray(norms, dtype=np.float64), np.asarray(used, dtype=bool)
    factors = np.array([fitted_factor(row, kept) for row, kept in zip(rows, keep, strict=True)])
    steps = (keep & (rows > 0)).sum(1)
    known = factors[~np.isnan(factors)]
    if not known.size:
        return Decay(None, factors, steps)
    logs = iqm_interval(np.log(known), generator)
    value, low, high = (float(np.exp(number)) for number in (logs.value, logs.low, logs.high))
    return Decay(Estimate(value, low, high, logs.level, logs.n), factors, steps)
