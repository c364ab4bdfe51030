"""08_released_code: the differences between the described method and the public code, and what each did to accuracy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lra_companion.config import ReleasedPart, RunConfig, TaskName
from lra_companion.experiments import ReleasedCodeParameters
from lra_companion.findings.comparison import Panel
from lra_companion.findings.outcomes import BOOTSTRAP_SEED, Outcome, outcome_of
from lra_companion.reporting import TASK_TITLES
from lra_companion.statistics import (
    Estimate,
    PairedDifference,
    paired_difference,
    wilson_interval,
)
from lra_companion.training import RunResult


@dataclass(frozen=True)
class Difference:
    """One difference in words. part: the switch of ``lra_ablation``, where the difference is one of gradients."""

    label: str
    words: str
    part: ReleasedPart | None = None


DIFFERENCES = (
    Difference("(i)", "derivatives: within a step → back to the first step", "full_differentiation"),
    Difference("(ii)", "targets: held → moving with their state", "moving_targets"),
    Difference("(iii)", "inner steps pull: to the target → back to the state", "pull_to_state"),
    Difference("(iv)", "slopes in Ω: one per unit → one per example", "diagonal_slope"),
    Difference("(v)", "Ω acts on: W_hh → W_xh", "omega_on_input"),
    Difference("(vi)", "validation starts from: 0 → the first pre-activation"),
    Difference("(vii)", "reported: a set of its own → the set that stops"),
    Difference("(viii)", "Ω of no error: 0 → NaN, which ends the run"),
    Difference("unlisted a", "a step's loss: its own → that of the step above", "carried_loss"),
    Difference("unlisted b", "error that Ω takes in target steps: by h → by z", "omega_at_state"),
    Difference("unlisted c", "the first step: has a loss → has none", "no_first_step"),
)
"""The eight of the list, and three more without which the two ends do not meet."""
LISTED = 8

PART_TITLES: dict[ReleasedPart, str] = {
    "full_differentiation": "(i) full differentiation",
    "moving_targets": "(ii) moving targets",
    "pull_to_state": "(iii) pull to the state",
    "diagonal_slope": "(iv) slope off a diagonal",
    "omega_on_input": "(v) Ω on W_xh",
    "carried_loss": "carried loss",
    "omega_at_state": "Ω of the error by z",
    "no_first_step": "no first step",
}
"""What figures call each part."""


@dataclass(frozen=True)
class Fidelity:
    """Everything the chapter shows of one task. Differences in test accuracy are paired by seed.

    outcomes: by condition, "readout", "lra" and "lra_released", with Ω "lra, α = ...". added: LRA with one part as released
    minus LRA; removed: the public code with one part as described minus the public code; ends: the public code minus LRA, all
    with Ω. added_solved: share of runs solved with the part added. omega: of both ends, with Ω minus without.

    start: (vi) of both ends, the accuracy from the released start minus that from 0. selection: (vii), the best on the
    validation set minus the accuracy on the test set. nan: (viii), iterations after which a run ended, by seed, or None.
    """

    task: TaskName
    outcomes: dict[str, Outcome]
    added: dict[ReleasedPart, PairedDifference]
    added_solved: dict[ReleasedPart, Estimate]
    removed: dict[ReleasedPart, PairedDifference]
    ends: PairedDifference
    omega: dict[str, PairedDifference]
    start: dict[str, PairedDifference]
    selection: dict[str, PairedDifference]
    nan: dict[int, int | None]

    @property
    def title(self) -> str:
        """The task, as a figure's title."""
        return TASK_TITLES[self.task]

    def labelled_pairs(self) -> dict[str, PairedDifference]:
        """Every difference in accuracy by a figure's label: both ends, each part added, each part taken out."""
        return (
            {"released − described": self.ends}
            | {f"+ {PART_TITLES[part]}": pair for part, pair in self.added.items()}
            | {f"− {PART_TITLES[part]}": pair for part, pair in self.removed.items()}
        )

    def labelled_learners(self) -> dict[str, str]:
        """Which end each of these changes."""
        return {label: "lra" if label.startswith("+") else "lra_released" for label in self.labelled_pairs()}


def fidelity(
    parameters: ReleasedCodeParameters, runs: Sequence[RunResult], measured: Sequence[RunResult]
) -> list[Fidelity]:
    """Every task of the chapter, from its runs and those measured."""
    found = {result.config.key(): result for result in runs}
    closer = {result.config.key(): result for result in measured}
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return [_of_task(parameters, task, found, closer, generator) for task in parameters.tasks]


def _of_task(
    parameters: ReleasedCodeParameters,
    task: TaskName,
    found: Mapping[str, RunResult],
    closer: Mapping[str, RunResult],
    generator: np.random.Generator,
) -> Fidelity:
    strength = parameters.regularisation_strength

    def results(make: Callable[[int], RunConfig]) -> list[RunResult]:
        return [found[make(seed).key()] for seed in parameters.seeds]

    def end(name: str, alpha: float) -> Callable[[int], RunConfig]:
        return lambda seed: parameters.end_run(name, task, alpha, seed)

    def compare(treated: Sequence[RunResult], control: Sequence[RunResult]) -> PairedDifference:
        return paired_difference(_scores(treated), _scores(control), generator)

    described, released = (results(end(name, strength)) for name in ("lra", "lra_released"))
    conditions = [
        results(lambda seed: parameters.readout_run(task, seed)),
        *(results(end(name, alpha)) for name in ("lra", "lra_released") for alpha in (0.0, strength)),
    ]
    outcomes = [outcome_of(each, generator) for each in conditions]
    nan_runs = results(lambda seed: parameters.nan_run(task, seed))
    start, selection = {}, {}
    for name, each in (("lra", described), ("lra_released", released)):
        both = {r.config.seed: closer[r.config.key()].history[-1]["measured"]["accuracy"] for r in each}
        start[name] = paired_difference(
            {seed: accuracy["released"] for seed, accuracy in both.items()},
            {seed: accuracy["described"] for seed, accuracy in both.items()},
            generator,
        )
        best = {r.config.seed: max(row["validation_accuracy"] for row in r.history) for r in each}
        selection[name] = paired_difference(best, _scores(each), generator)
    return Fidelity(
        task=task,
        outcomes={outcome.condition: outcome for outcome in outcomes},
        added={
            part: compare(results(lambda seed, part=part: parameters.added_run(part, task, seed)), described)
            for part in parameters.added_parts
        },
        added_solved={
            part: _solved(results(lambda seed, part=part: parameters.added_run(part, task, seed)))
            for part in parameters.added_parts
        },
        removed={
            part: compare(results(lambda seed, part=part: parameters.removed_run(part, task, seed)), released)
            for part in parameters.removed_parts
        },
        ends=compare(released, described),
        omega={
            name: compare(each, results(end(name, 0.0)))
            for name, each in (("lra", described), ("lra_released", released))
        },
        start=start,
        selection=selection,
        nan={r.config.seed: r.iterations if r.status == "diverged" else None for r in nan_runs},
    )


def released_panels(parameters: ReleasedCodeParameters, runs: Sequence[RunResult]) -> list[Panel]:
    """The control and the public code, without and with Ω and without clipping, as other chapters show their comparisons."""
    found = {result.config.key(): result for result in runs}
    panels = []
    for task in parameters.tasks:
        by_label: dict[str, list[RunResult]] = defaultdict(list)
        for seed in parameters.judged_seeds:
            for label, run in parameters.judged_runs(task, seed).items():
                by_label[label].append(found[run.key()])
        outcomes = {
            label: outcome_of(results, np.random.default_rng(BOOTSTRAP_SEED), label)
            for label, results in by_label.items()
        }
        panels.append(Panel(task, parameters.sequence_length, outcomes))
    return panels


def _solved(results: Sequence[RunResult]) -> Estimate:
    return wilson_interval(sum(result.solved for result in results), len(results))


def _scores(results: Sequence[RunResult]) -> dict[int, float]:
    return {result.config.seed: result.test_accuracy for result in results}
