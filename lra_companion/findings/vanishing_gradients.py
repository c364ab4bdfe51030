"""02_vanishing_gradients: how fast gradients fade going back in time, and how many steps they reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from lra_companion.config import TaskName
from lra_companion.diagnostics import Decay, fitted_decay, resolution, resolved
from lra_companion.findings.outcomes import BOOTSTRAP_SEED, listed
from lra_companion.reporting import TASK_TITLES, condition_of
from lra_companion.training import RunResult

Floats = NDArray[np.float64]
Quantity = Literal["recurrent_norm", "target_displacement"]
GRADIENT: Quantity = "recurrent_norm"
DISPLACEMENT: Quantity = "target_displacement"
_NO_DIFFERENCE = float(
    np.finfo(np.float32).tiny
)  # floor of norms that come from no difference of near-equal numbers


@dataclass(frozen=True)
class Norms:
    """One quantity of one condition: values (seeds, checks, T), NaN after a run's end, and which can be believed."""

    values: Floats
    used: NDArray[np.bool_]

    def decay(self, place: Literal["start", "end"], generator: Generator) -> Decay:
        """Factor per step at the first check, or at each run's last."""
        rows, used = self.at(place)
        return fitted_decay(rows, used, generator)

    def at(self, place: Literal["start", "end"]) -> tuple[Floats, NDArray[np.bool_]]:
        """Values and whether they can be believed (seeds, T), at the first check or at each run's last."""
        if place == "start":
            return self.values[:, 0], self.used[:, 0]
        last = (~np.isnan(self.values[:, :, -1])).sum(1) - 1
        seeds = np.arange(len(last))
        return self.values[seeds, last], self.used[seeds, last]

    def reach(self, place: Literal["start", "end"]) -> int:
        """How many steps, from the last one back, carry a norm that can be believed; median over seeds."""
        return int(np.median(self.at(place)[1].sum(1)))

    @property
    def heat(self) -> Floats:
        """Median over seeds of log10 (T, checks), -inf where half of them or more are lost in rounding."""
        with np.errstate(divide="ignore"):
            logs = np.where(self.used, np.log10(np.where(self.used, self.values, 1.0)), -np.inf)
        logs = np.where(np.isnan(self.values), np.nan, logs)
        return np.nanquantile(logs, 0.5, axis=0, method="lower").T


@dataclass(frozen=True)
class Trace:
    """One learning rule on one task, through training."""

    task: TaskName
    condition: str
    learner: str
    strength: float
    iterations: NDArray[np.int64]
    norms: dict[Quantity, Norms]
    start: dict[Quantity, Decay]
    end: dict[Quantity, Decay]


def traces(results: Sequence[RunResult]) -> list[Trace]:
    """Every condition on every task, from the results of ``VanishingParameters.runs()`` in their order."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return [
        _trace(list(group), generator)
        for _, group in groupby(
            results, key=lambda result: (result.config.task.name, condition_of(result.config))
        )
    ]


def _trace(results: list[RunResult], generator: Generator) -> Trace:
    first, longest = results[0].config, max((result.history for result in results), key=len)
    norms: dict[Quantity, Norms] = {GRADIENT: _norms(results, GRADIENT)}
    if DISPLACEMENT in longest[0]:
        norms[DISPLACEMENT] = _norms(results, DISPLACEMENT)
    return Trace(
        task=first.task.name,
        condition=condition_of(first),
        learner=first.learner.name,
        strength=getattr(first.learner, "regularisation_strength", 0.0),
        iterations=np.array([row["iteration"] for row in longest]),
        norms=norms,
        start={name: found.decay("start", generator) for name, found in norms.items()},
        end={name: found.decay("end", generator) for name, found in norms.items()},
    )


def _norms(results: Sequence[RunResult], name: Quantity) -> Norms:
    """A learner that sets targets has gradients only where a target differs from its state by more than rounding."""
    config = results[0].config
    values = _stacked(results, name)
    if DISPLACEMENT not in results[0].history[0]:
        return Norms(values, resolved(values, _NO_DIFFERENCE))
    floor = resolution(config.protocol.batch_size, config.network.hidden_size)
    used = resolved(_stacked(results, DISPLACEMENT), floor)
    if name == GRADIENT:
        used &= values > 0  # at t = 1, where z_0 = 0, there is none
    return Norms(values, used)


def _stacked(results: Sequence[RunResult], name: Quantity) -> Floats:
    """(seeds, checks, T), NaN after the end of runs that ended early."""
    checks = max(len(result.history) for result in results)
    values = np.full((len(results), checks, results[0].config.task.sequence_length), np.nan)
    for seed, result in enumerate(results):
        values[seed, : len(result.history)] = [row[name] for row in result.history]
    return values


def summary(found: Sequence[Trace]) -> pd.DataFrame:
    """The chapter's table: factor per step, and how many steps it was fitted to, before and after training."""
    rows = [
        {
            "task": TASK_TITLES[trace.task],
            "condition": trace.condition,
            "norm of": TITLES[quantity],
            "factor before": _factor(trace.start[quantity]),
            "steps before": norms.reach("start"),
            "factor after": _factor(trace.end[quantity]),
            "steps after": norms.reach("end"),
        }
        for trace in found
        for quantity, norms in trace.norms.items()
    ]
    return pd.DataFrame(rows).set_index(["task", "condition", "norm of"])


TITLES: dict[Quantity, str] = {GRADIENT: "gradient", DISPLACEMENT: "target move"}
"""What tables call the quantities."""


def _factor(decay: Decay) -> str:
    """A factor per step with its interval, for tables and prose."""
    return "nothing (no two steps)" if decay.estimate is None else f"{decay.estimate:.2g}"


def finding(found: Sequence[Trace]) -> str:
    """Two sentences for the top of the chapter: how fast gradients fade before training, and how many steps get one."""
    groups = [list(group) for _, group in groupby(found, key=lambda trace: trace.task)]
    places = [f"on {TASK_TITLES[group[0].task]}" for group in groups]
    plain, omega, released, released_omega, exact, _ = zip(*groups, strict=True)  # each over tasks
    length = plain[0].norms[GRADIENT].values.shape[-1]

    def factors(traces: Sequence[Trace]) -> str:
        return _by_place([_factor(trace.start[GRADIENT]) for trace in traces], places)

    def reach(traces: Sequence[Trace], place: Literal["start", "end"]) -> str:
        return _by_place([str(trace.norms[GRADIENT].reach(place)) for trace in traces], places)

    words = [
        _compared(local.start[GRADIENT], full.start[GRADIENT])
        for local, full in zip(plain, exact, strict=True)
    ]
    return (
        f"Before training, one step back in time multiplies the norm of LRA's recurrent gradient by {factors(plain)}, that of "
        f"the exact gradient by {factors(exact)}: LRA's {_by_place(words, places)}. In single precision this leaves a gradient "
        f"to the last {reach(plain, 'start')} of {length} steps, and after training to {reach(plain, 'end')} without Ω, "
        f"{reach(omega, 'end')} with it (released code: {reach(released, 'end')} without, {reach(released_omega, 'end')} with)."
    )


def _by_place(values: Sequence[str], places: Sequence[str]) -> str:
    """Values with their places, or one value where all are the same."""
    if len(set(values)) == 1:
        return values[0]
    return listed([f"{value} {place}" for value, place in zip(values, places, strict=True)])


def _compared(local: Decay, exact: Decay) -> str:
    """How a local gradient fades beside the exact one, by whether their intervals overlap."""
    if local.estimate is None or exact.estimate is None:
        return "cannot be compared"
    if local.estimate.high < exact.estimate.low:
        return "fades faster"
    return "fades more slowly" if local.estimate.low > exact.estimate.high else "does not clearly differ"
