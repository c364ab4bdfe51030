"""06_reduction: decay under both reductions over batch and hidden size, and what training makes of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from lra_companion.config import LRAConfig, Reduction, RunConfig
from lra_companion.experiments import ReductionParameters
from lra_companion.experiments.reduction import REDUCTIONS
from lra_companion.findings.decay import DecayComparison, compare_decay
from lra_companion.findings.outcomes import BOOTSTRAP_SEED, Outcome, direction, outcome_of
from lra_companion.reporting import TASK_TITLES
from lra_companion.statistics import PairedDifference, paired_difference
from lra_companion.training import RunResult

Comparisons = dict[Reduction, list[DecayComparison]]


def over_batch_sizes(parameters: ReductionParameters) -> Comparisons:
    """Decay in untrained networks of the standard hidden size, over batch sizes."""
    sizes = sorted(parameters.batch_sizes)
    return {
        reduction: [_decay(parameters.untrained(reduction, batch_size=size)) for size in sizes]
        for reduction in REDUCTIONS
    }


def over_hidden_sizes(parameters: ReductionParameters) -> Comparisons:
    """Decay in untrained networks at the standard batch size, over hidden sizes."""
    sizes = sorted(parameters.hidden_sizes)
    return {
        reduction: [_decay(parameters.untrained(reduction, hidden_size=size)) for size in sizes]
        for reduction in REDUCTIONS
    }


def variants(parameters: ReductionParameters) -> dict[str, DecayComparison]:
    """Decay in untrained networks of standard size under each reduction and way of clipping target steps."""
    clipped = {"clip_norm": parameters.clip_norm}
    normalised = clipped | {"clip_mode": "normalise"}
    return {
        f"{title}{suffix}": _decay(parameters.untrained(reduction, **fields))
        for reduction, title in TITLES.items()
        for suffix, fields in {"": {}, ", clipped": clipped, ", normalised": normalised}.items()
    }


TITLES: dict[Reduction, str] = {"mean": "mean", "per_example": "per example"}
"""What figures call the reductions."""


def _decay(configs: Sequence[RunConfig]) -> DecayComparison:
    return _measured(tuple(configs))


@functools.cache
def _measured(configs: tuple[RunConfig, ...]) -> DecayComparison:
    """The standard size belongs to every comparison of the chapter, and is measured once."""
    return compare_decay(configs, np.random.default_rng(BOOTSTRAP_SEED))


def trained(results: Sequence[RunResult]) -> dict[str, Outcome]:
    """Outcomes of the control and of both reductions, by what figures call them."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        learner = result.config.learner
        name = f"lra, {learner.reduction}" if isinstance(learner, LRAConfig) else learner.name
        groups.setdefault(name, []).append(result)
    return {name: outcome_of(group, generator) for name, group in groups.items()}


def gain(outcomes: Mapping[str, Outcome]) -> PairedDifference:
    """Test accuracy under ``per_example`` minus that under ``mean``, seed by seed."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return paired_difference(outcomes["lra, per_example"].scores, outcomes["lra, mean"].scores, generator)


def finding(
    parameters: ReductionParameters, found: Mapping[str, DecayComparison], outcomes: Mapping[str, Outcome]
) -> str:
    """Two sentences for the top of the chapter: what the reduction does to the decay, and to what is learned."""
    mean, example = (found[name].measured.estimate for name in ("mean", "per example"))
    decays = " and ".join(
        f"{words} by {estimate:.3g}" if estimate is not None else f"{words} by too much to be measured"
        for words, estimate in (("averaged over batch and units", mean), ("per example", example))
    )
    difference = gain(outcomes).iqm
    verb = direction(difference, "rises", "falls", "does not clearly change")
    scores = {name: outcome.accuracy.value for name, outcome in outcomes.items()}
    return (
        f"At the same step size (β = {parameters.step_size:g}), with nothing else changed and nothing clipped, one step "
        f"back in an untrained network multiplies the target displacement {decays}. From the one reduction to the other the "
        f"test accuracy of LRA without Ω on {TASK_TITLES[parameters.task]} {verb}, from {scores['lra, mean']:.2f} to "
        f"{scores['lra, per_example']:.2f} (difference {difference:.2f}; readout {scores['readout']:.2f})."
    )


def prediction_sentence(comparisons: Sequence[DecayComparison]) -> str:
    """How well the linear theory agrees over all settings of the chapter."""
    known = [comparison for comparison in comparisons if comparison.measured.estimate is not None]
    worst = max(known, key=lambda comparison: comparison.error)
    median = float(np.median([comparison.error for comparison in known]))
    learner = worst.config.learner
    assert isinstance(learner, LRAConfig)
    return (
        f"Over the {len(known)} settings of this page the predicted factor is off by {100 * median:.2g} % in the median and by "
        f"{100 * worst.error:.2g} % at worst (reduction {learner.reduction}, B = {worst.config.protocol.batch_size}, "
        f"H = {worst.config.network.hidden_size})."
    )
