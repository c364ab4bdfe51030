"""02_vanishing_gradients, before training: decay and its prediction, powers of the step size, angles to the exact gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lra_companion.config import RunConfig, TaskName
from lra_companion.diagnostics import Decay, angle_to_exact, cosines, exact_gradients, starting_point
from lra_companion.experiments import VanishingParameters
from lra_companion.findings.decay import DecayComparison, compare_decay
from lra_companion.findings.outcomes import BOOTSTRAP_SEED, listed
from lra_companion.learners import make_learner
from lra_companion.network import Parameters
from lra_companion.reporting import TASK_TITLES, condition_of
from lra_companion.statistics import Estimate, iqm_interval
from lra_companion.training import RunResult, one_thread


@one_thread()
def step_size_comparisons(parameters: VanishingParameters, task: TaskName) -> list[DecayComparison]:
    """Measured and predicted decay in untrained networks, over the target step sizes that are compared."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return [
        compare_decay(parameters.untrained(task, target_step_size=beta), generator)
        for beta in sorted(parameters.compared_step_sizes)
    ]


@one_thread()
def growth_exponents(parameters: VanishingParameters, learner: str, count: int = 3) -> list[float]:
    """With which power of beta the displacement of the last steps, from T back, grows in untrained networks of the first task.

    Measured in double precision between two small step sizes. Theory: 1, 2, 3 where each step hands on a fixed share of the
    displacement above it (that share grows with beta as well); 1, 3, 7 where it hands on a share of its square.
    """
    small, logs = _SMALL_STEPS[learner], []
    for beta in small:
        configs = parameters.untrained(parameters.tasks[0], learner, target_step_size=beta)
        start = starting_point(configs, torch.float64)
        found = make_learner([config.learner for config in configs]).gradients(*start, diagnose=True)[1]
        assert found.target_displacement is not None
        logs.append(found.target_displacement[-count:].log().mean(1).flip(0))
    return ((logs[1] - logs[0]) / np.log(small[1] / small[0])).tolist()


_SMALL_STEPS = {"lra": (0.05, 0.1), "lra_released": (1.4, 2.8)}
"""Target step sizes small enough for the leading power, and large enough for three steps above rounding."""


@one_thread()
def floor_growth(parameters: VanishingParameters, task: TaskName) -> dict[str, Estimate]:
    """What doubling alpha, and doubling beta, multiplies the displacement far from the end with, where Ω acts on targets.

    Far is the first half of the sequence; geometric means over its steps, interquartile mean over seeds. Predicted: 2 for both.
    """
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    fields = parameters.settings[task].regularised.model_dump(exclude={"learning_rate"})

    def level(**changes: float) -> Tensor:
        configs = parameters.untrained(task, "lra", **fields | changes)
        start = starting_point(configs, torch.float64)
        found = make_learner([config.learner for config in configs]).gradients(*start, diagnose=True)[1]
        assert found.target_displacement is not None
        return found.target_displacement[: parameters.sequence_length // 2].log().mean(0)

    before = level()
    grown = {
        "α": level(regularisation_strength=2 * fields["regularisation_strength"]),
        "β": level(target_step_size=2 * fields["target_step_size"]),
    }
    return {name: iqm_interval((after - before).exp().numpy(), generator) for name, after in grown.items()}


def floor_sentence(parameters: VanishingParameters) -> str:
    """How the level that displacements settle at with Ω grows with alpha and beta."""
    clauses = []
    for task in parameters.tasks:
        grown = floor_growth(parameters, task)
        clauses.append(f"by {grown['α']:.1f} and {grown['β']:.1f} on {TASK_TITLES[task]}")
    return (
        "In untrained networks doubling α, and doubling β, multiplies the displacement in the first half of the sequence "
        f"{listed(clauses)} (predicted: 2 and 2)."
    )


@one_thread()
def angles(
    parameters: VanishingParameters, results: Sequence[RunResult], task: TaskName
) -> dict[str, Estimate]:
    """Angle in degrees between the gradient of W_hh and the exact one, before training (interquartile mean over seeds).

    Of each condition, and of what Ω adds to the gradient of LRA where it acts on targets alone, or on W_hh alone.
    """
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    by_condition: dict[str, list[RunConfig]] = {}
    for result in results:
        if result.config.task.name == task:
            by_condition.setdefault(condition_of(result.config), []).append(result.config)
    found = {}
    for name, configs in by_condition.items():
        learner = make_learner([config.learner for config in configs])
        found[name] = angle_to_exact(learner, *starting_point(configs, torch.float32))["w_hh"]
    settings = parameters.settings[task].regularised.model_dump(exclude={"learning_rate"})
    for name, places in OMEGA_PLACES.items():
        found[name] = _added_angle(parameters, task, settings | places)
    return {name: iqm_interval(degrees.numpy(), generator) for name, degrees in found.items()}


OMEGA_PLACES: dict[str, dict[str, bool]] = {
    "what Ω on targets adds": {"regularise_recurrent": False, "regularise_readout": False},
    "what Ω on W_hh adds": {"regularise_targets": False, "regularise_readout": False},
}
"""Where Ω may act alone, by what a figure calls the difference it makes."""


def _added_angle(parameters: VanishingParameters, task: TaskName, fields: dict[str, Any]) -> Tensor:
    """Angle (R,) between the exact gradient and the difference that Ω makes to LRA's, of W_hh, in double precision."""
    beta = fields["target_step_size"]
    both = parameters.untrained(task, **fields), parameters.untrained(task, target_step_size=beta)
    parameters_, batch = starting_point(both[0], torch.float64)
    with_omega, without = (
        make_learner([config.learner for config in configs]).gradients(parameters_, batch)[0]
        for configs in both
    )
    added = Parameters(*(one - other for one, other in zip(with_omega, without, strict=True)))
    cosine = cosines(added, exact_gradients(parameters_, batch))["w_hh"]
    return torch.rad2deg(torch.acos(cosine))


def prediction_sentence(comparisons: Mapping[TaskName, Sequence[DecayComparison]]) -> str:
    """How well the linear theory agrees with untrained networks, and at which step size nothing would fade."""
    every = [comparison for found in comparisons.values() for comparison in found]
    sizes = [comparison.step_size for comparison in every]
    known = [comparison for comparison in every if comparison.measured.estimate is not None]
    if not known:
        return "No step size left two steps above rounding to compare."
    worst = max(known, key=lambda comparison: comparison.error)
    small = [comparison for comparison in known if comparison.step_size <= SMALL_STEP]
    clauses = [
        f"Over step sizes from {min(sizes):g} to {max(sizes):g} the predicted factor is off by at most "
        f"{100 * worst.error:.2g} %, at β = {worst.step_size:g}"
    ]
    if small:
        clauses.append(
            f"up to β = {SMALL_STEP:g} by at most {100 * max(comparison.error for comparison in small):.2g} %"
        )
    kept = [comparison for comparison in known if _value(comparison.measured) >= 0.9]
    reached = (
        f"a factor of 0.9 is reached first at β = {min(comparison.step_size for comparison in kept):g}."
        if kept
        else "none of them brings the factor to 0.9."
    )
    return f"{', '.join(clauses)}; {reached}"


SMALL_STEP = 10.0
"""The largest target step size of the released code's grid."""


def _value(decay: Decay) -> float:
    return float("nan") if decay.estimate is None else decay.estimate.value


def powers_sentence(parameters: VanishingParameters) -> str:
    """With which powers of the step size displacements grow, in LRA and in the released code."""

    def powers(learner: str) -> str:
        return listed([f"{power:z.1f}" for power in growth_exponents(parameters, learner)])

    return (
        "In untrained networks in double precision the displacements of the last three steps, from the end back, grow with the "
        f"powers {powers('lra')} of a small β in LRA (predicted: 1, 2 and 3), and with the powers {powers('lra_released')} in "
        "the released code (predicted: 1, 3 and 7)."
    )


def angles_sentence(parameters: VanishingParameters, results: Sequence[RunResult]) -> str:
    """What Ω adds to the gradient of W_hh, as an angle to the exact one."""
    clauses = []
    for task in parameters.tasks:
        degrees = angles(parameters, results, task)
        names = [name for name in degrees if name.startswith("lra") and "released" not in name]
        plain, omega = (degrees[name] for name in names)
        clauses.append(f"{plain:.0f} without Ω and {omega:.0f} with it on {TASK_TITLES[task]}")
    return f"Before training the gradient of LRA stands, in degrees, at {listed(clauses)}."
