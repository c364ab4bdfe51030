"""06_reduction: decay under both reductions over batch and hidden size, and what training makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lra_companion.config import LRAConfig, Reduction
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
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return {
        reduction: [
            compare_decay(parameters.untrained(reduction, batch_size=size), generator)
            for size in sorted(parameters.batch_sizes)
        ]
        for reduction in REDUCTIONS
    }


def over_hidden_sizes(parameters: ReductionParameters) -> Comparisons:
    """Decay in untrained networks at the standard batch size, over hidden sizes."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return {
        reduction: [
            compare_decay(parameters.untrained(reduction, hidden_size=size), generator)
            for size in sorted(parameters.hidden_sizes)
        ]
        for reduction in REDUCTIONS
    }


def variants(parameters: ReductionParameters) -> dict[str, DecayComparison]:
    """Decay in untrained networks of standard size under each reduction and way of clipping target steps."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    c = parameters.clip_norm
    asked = {
        "mean": parameters.untrained("mean"),
        "mean, clipped": parameters.untrained("mean", clip_norm=c),
        "mean, normalised": parameters.untrained("mean", clip_norm=c, clip_mode="normalise"),
        "per example": parameters.untrained("per_example"),
        "per example, clipped": parameters.untrained("per_example", clip_norm=c),
        "per example, normalised": parameters.untrained("per_example", clip_norm=c, clip_mode="normalise"),
    }
    return {name: compare_decay(configs, generator) for name, configs in asked.items()}


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
        f"{words} by {estimate:.2g}" if estimate is not None else f"{words} by too much to be measured"
        for words, estimate in (("averaged over batch and units", mean), ("per example", example))
    )
    difference = gain(outcomes).iqm
    verb = direction(difference, "rises", "falls", "does not clearly change")
    scores = {name: outcome.accuracy.value for name, outcome in outcomes.items()}
    return (
        f"At the same step size (β = {parameters.step_size:g}) and with nothing else changed, a step back in an untrained network "
        f"multiplies the target displacement {decays}. Trained without Ω on {TASK_TITLES[parameters.task]}, LRA's test accuracy "
        f"{verb} from {scores['lra, mean']:.2f} to {scores['lra, per_example']:.2f} (difference {difference:.2f}; "
        f"readout {scores['readout']:.2f})."
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
