"""08_released_code: what each difference between the described method and the public code does to gradients and accuracy."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pandas as pd

from lra_companion.config import RELEASED_PARTS, ReleasedPart, RunConfig, TaskName
from lra_companion.experiments import ReleasedCodeParameters
from lra_companion.findings.outcomes import BOOTSTRAP_SEED, Outcome, direction, listed, outcome_of
from lra_companion.reporting import TASK_TITLES, condition
from lra_companion.statistics import (
    Estimate,
    PairedDifference,
    iqm_interval,
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
_LISTED = 8

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


def _solved(results: Sequence[RunResult]) -> Estimate:
    return wilson_interval(sum(result.solved for result in results), len(results))


def _scores(results: Sequence[RunResult]) -> dict[int, float]:
    return {result.config.seed: result.test_accuracy for result in results}


@dataclass(frozen=True)
class Comparison:
    """One variant's gradient at one network. network: the rule that trained it; point: after how many iterations, as asked for.
    angles: in degrees, to "exact", "lra" and "lra_released"; NaN where a gradient is 0.
    """

    task: TaskName
    strength: float
    network: str
    seed: int
    point: int
    variant: str
    norm: float
    angles: dict[str, float]


def comparisons(measured: Sequence[RunResult]) -> list[Comparison]:
    """Every comparison once: runs of one rule, seed and setting that differ in length share what was at the start."""
    found = {}
    for result in measured:
        config = result.config
        for point, moment in ((0, "start"), (config.protocol.max_iterations, "end")):
            for variant, values in result.history[-1]["measured"][moment].items():
                angles = {
                    other: np.nan if (value := values[f"to_{other}"]) is None else float(value)
                    for other in ("exact", "lra", "lra_released")
                }
                comparison = Comparison(
                    task=config.task.name,
                    strength=getattr(config.learner, "regularisation_strength", 0.0),
                    network=config.learner.name,
                    seed=config.seed,
                    point=point,
                    variant=variant,
                    norm=values["norm"],
                    angles=angles,
                )
                found[_place(comparison), variant] = comparison
    return list(found.values())


def _place(comparison: Comparison) -> tuple[object, ...]:
    """At which network."""
    return (
        comparison.task,
        comparison.strength,
        comparison.network,
        comparison.seed,
        comparison.point,
    )


@dataclass(frozen=True)
class Turn:
    """Medians over networks. to_base: angle to the rule that is changed; ratio: norm over that rule's; NaN where none is
    defined.
    """

    to_base: float
    to_exact: float
    ratio: float


def turn(
    compared: Sequence[Comparison],
    variant: str,
    base: str,
    strength: float,
    against: str | None = None,
    point: int | None = None,
    task: TaskName | None = None,
) -> Turn:
    """What a variant's gradient is beside that of ``base`` (lra or lra_released), on networks that ``base`` trained; of one
    task or point in training, or of all. ``against``: whose norm counts, if not that of ``base``.
    """
    here = [
        each
        for each in compared
        if (each.network, each.strength) == (base, strength)
        and point in (None, each.point)
        and task in (None, each.task)
    ]
    scale = {_place(each): each.norm for each in here if each.variant == (against or base)}
    of_variant = [each for each in here if each.variant == variant]
    return Turn(
        to_base=_median(each.angles[base] for each in of_variant),
        to_exact=_median(each.angles["exact"] for each in of_variant),
        ratio=_median(each.norm / scale[_place(each)] for each in of_variant if scale[_place(each)] > 0),
    )


def _median(values: Iterable[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.median(defined)) if defined else np.nan


def turns_by_seed(
    compared: Sequence[Comparison], task: TaskName, base: str, strength: float
) -> tuple[dict[str, Estimate], dict[str, list[float]]]:
    """For a figure: of each part, by its title, the angle by which it turns ``base``'s gradient: interquartile mean over seeds
    with its interval, and each seed's mean over the points in training.
    """
    sign = "+" if base == "lra" else "-"
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    estimates, scores = {}, {}
    for part in RELEASED_PARTS:
        by_seed: dict[int, list[float]] = defaultdict(list)
        for each in compared:
            if (each.task, each.network, each.strength, each.variant) == (
                task,
                base,
                strength,
                f"{sign} {part}",
            ):
                by_seed[each.seed].append(each.angles[base])
        means = [float(np.mean(angles)) for angles in by_seed.values() if not np.isnan(angles).any()]
        if means:
            estimates[PART_TITLES[part]] = iqm_interval(means, generator)
            scores[PART_TITLES[part]] = means
    return estimates, scores


def at_a_glance(
    parameters: ReleasedCodeParameters, found: Sequence[Fidelity], compared: Sequence[Comparison]
) -> pd.DataFrame:
    """The chapter's table: a row per difference, between the two ends."""
    alpha = parameters.regularisation_strength
    rows = [_end_row("as described", "lra", turn(compared, "lra", "lra", alpha), found)]
    rows[0]["left out: angle to released"] = _degrees(turn(compared, "lra", "lra_released", alpha).to_base)
    for difference in DIFFERENCES:
        row = {"": difference.label, "described → released": difference.words}
        if difference.part is not None:
            row |= _gradient_cells(turn(compared, f"+ {difference.part}", "lra", alpha))
            back = turn(compared, f"- {difference.part}", "lra_released", alpha)
            row["left out: angle to released"] = _degrees(back.to_base)
        else:
            row |= dict.fromkeys([*_GRADIENT_COLUMNS, "left out: angle to released"], _NOTHING)
        rows.append(row | {_accuracy_column(each): _accuracy_cell(difference, each) for each in found})
    rows.append(_end_row("as released", "lra_released", turn(compared, "lra_released", "lra", alpha), found))
    rows[-1]["left out: angle to released"] = _degrees(0.0)
    return pd.DataFrame(rows).set_index("")


_GRADIENT_COLUMNS = ("angle to lra", "angle to exact", "norm / lra's")
_NOTHING = "–"


def _gradient_cells(found: Turn) -> dict[str, str]:
    values = (_degrees(found.to_base), _degrees(found.to_exact), _number(found.ratio))
    return dict(zip(_GRADIENT_COLUMNS, values, strict=True))


def _end_row(label: str, learner: str, found: Turn, tasks: Sequence[Fidelity]) -> dict[str, str]:
    row = {"": label, "described → released": learner} | _gradient_cells(found)
    row["left out: angle to released"] = _NOTHING
    return row | {_accuracy_column(each): f"{_with_omega(each, learner).accuracy:.2f}" for each in tasks}


def _with_omega(found: Fidelity, learner: str) -> Outcome:
    (outcome,) = (o for o in found.outcomes.values() if o.learner == learner and o.strength > 0)
    return outcome


def _accuracy_column(found: Fidelity) -> str:
    return f"accuracy, {found.title}"


def _accuracy_cell(difference: Difference, found: Fidelity) -> str:
    """Lone effect on the accuracy of ``lra``; for (viii), which needs the public code's Ω, how many of its runs end."""
    if difference.label == "(vi)":
        return _signed(found.start["lra"].iqm)
    if difference.label == "(vii)":
        return _signed(found.selection["lra"].iqm)
    if difference.label == "(viii)":
        ended = sum(at is not None for at in found.nan.values())
        return f"{ended} of {len(found.nan)} runs end{_after(found)}"
    pair = found.added.get(difference.part) if difference.part else None
    return _NOTHING if pair is None else _signed(pair.iqm)


def _signed(estimate: Estimate, digits: int = 2) -> str:
    spec = f"+z.{digits}f"
    if np.isnan(estimate.low):
        return f"{estimate.value:{spec}} (n = {estimate.n})"
    return f"{estimate.value:{spec}} [{estimate.low:{spec}}, {estimate.high:{spec}}]"


def _degrees(value: float) -> str:
    if np.isnan(value):
        return _NOTHING
    return f"{value:.0f}°" if value >= 10 else f"{value:.1f}°" if value >= 0.05 else "0°"


def _number(value: float) -> str:
    return _NOTHING if np.isnan(value) else f"{value:.2g}" if value < 100 else f"{value:.0f}"


def gradient_table(parameters: ReleasedCodeParameters, compared: Sequence[Comparison]) -> pd.DataFrame:
    """How the two ends stand to the exact gradient and to one another, through training: medians over seeds."""
    rows = []
    for task in parameters.tasks:
        for alpha in (0.0, parameters.regularisation_strength):
            for point in [0, *sorted(parameters.early_iterations), parameters.max_iterations]:
                own, other = (
                    turn(compared, name, name, alpha, "exact", point, task)
                    for name in ("lra", "lra_released")
                )
                between = turn(compared, "lra_released", "lra", alpha, None, point, task)
                rows.append(
                    {
                        "task": TASK_TITLES[task],
                        "α": f"{alpha:g}",
                        "iterations": point,
                        "lra: angle to exact": _degrees(own.to_exact),
                        "norm / exact": _number(own.ratio),
                        "released: angle to exact": _degrees(other.to_exact),
                        "norm / exact ": _number(other.ratio),
                        "between the two": _degrees(between.to_base),
                    }
                )
    return pd.DataFrame(rows).set_index(["task", "α", "iterations"])


def accuracy_table(found: Sequence[Fidelity]) -> pd.DataFrame:
    """In numbers: each part added to LRA, and each taken out of the public code, where any was."""
    rows = []
    for each in found:
        for part in RELEASED_PARTS:
            if part not in each.added and part not in each.removed:
                continue
            row = {"task": each.title, "difference": PART_TITLES[part]}
            both = [("lra + it", each.added), ("released − it", each.removed)]
            for label, pairs in both[: 1 + bool(each.removed)]:
                pair = pairs.get(part)
                row[label] = _signed(pair.iqm) if pair else _NOTHING
                row[f"{label}: better"] = _share(pair.improved) if pair else _NOTHING
            row["lra + it: solved"] = (
                _share(each.added_solved[part]) if part in each.added_solved else _NOTHING
            )
            rows.append(row)
        row = {
            "task": each.title,
            "difference": "none: lra",
            "lra + it: solved": _share(_with_omega(each, "lra").solved),
        }
        rows.append(dict.fromkeys(rows[-1], _NOTHING) | row)
    return pd.DataFrame(rows).set_index(["task", "difference"])


def _share(estimate: Estimate) -> str:
    return f"{estimate.value * estimate.n:.0f} of {estimate.n}"


def fidelity_finding(
    parameters: ReleasedCodeParameters, found: Sequence[Fidelity], compared: Sequence[Comparison]
) -> str:
    """Two sentences for the top of the chapter."""
    alpha = parameters.regularisation_strength
    described, released = turn(compared, "lra", "lra", alpha), turn(compared, "lra_released", "lra", alpha)
    ends = []
    for each in found:
        verb = direction(each.ends.iqm, "is better", "is worse", "is not clearly different")
        values = [_with_omega(each, name).accuracy.value for name in ("lra_released", "lra")]
        ends.append(f"{verb} on {each.title} ({values[0]:.2f} against {values[1]:.2f})")
    to_exact = {
        PART_TITLES[d.part]: turn(compared, f"+ {d.part}", "lra", alpha).to_exact
        for d in DIFFERENCES[:_LISTED]
        if d.part
    }
    nearest = min(to_exact, key=lambda title: np.nan_to_num(to_exact[title], nan=np.inf))
    ended = [at for each in found for at in each.nan.values()]
    return (
        f"With regularisation (α = {alpha:g}) the update of the hidden weights as released stands at "
        f"{_degrees(released.to_base)} to that as described (from the exact gradient: {_degrees(released.to_exact)} as "
        f"released, {_degrees(described.to_exact)} as described; medians), and after {parameters.max_iterations} iterations "
        f"the released rule {listed(ends)}. Of the five differences of the list that change gradients {nearest} alone "
        f"brings the described update nearest to the exact gradient ({_degrees(to_exact[nearest])}); one by one, "
        f"{'; '.join(map(_clear_effects, found))}; and without the guard {sum(at is not None for at in ended)} of "
        f"{len(ended)} regularised released runs end in NaN."
    )


def omega_sentence(found: Sequence[Fidelity]) -> str:
    """What Ω did to accuracy at either end."""
    clauses = [
        f"{_signed(each.omega['lra'].iqm)} as described and {_signed(each.omega['lra_released'].iqm)} as released "
        f"on {each.title}"
        for each in found
    ]
    return f"Ω changes test accuracy, within each seed, by {listed(clauses)}."


def protocol_sentences(found: Sequence[Fidelity]) -> str:
    """What (vi), (vii) and (viii) came to, in words."""
    start = [
        f"{_signed(pair.iqm, 3)} for {name} on {each.title}"
        for each in found
        for name, pair in each.start.items()
    ]
    chosen = [
        f"{_signed(pair.iqm, 3)} for {name} on {each.title}"
        for each in found
        for name, pair in each.selection.items()
    ]
    ended = [
        f"{sum(at is not None for at in each.nan.values())} of {len(each.nan)} on {each.title}{_after(each)}"
        for each in found
    ]
    return (
        f"The released start changes the accuracy of trained networks by {listed(start)}. The best accuracy on the deciding "
        f"set exceeds that on a fresh one by {listed(chosen)}. Without the guard runs of the public code with Ω end in NaN: "
        f"{listed(ended)}."
    )


def _after(found: Fidelity) -> str:
    ended = [at for at in found.nan.values() if at is not None]
    return f" (half of them within {np.median(ended):.0f} iterations)" if ended else ""


def _clear_effects(found: Fidelity) -> str:
    """On one task: which differences, alone, clearly changed the accuracy of LRA, and which way."""
    rises, falls = [], []
    for part, pair in found.added.items():
        side = {"raises": rises, "lowers": falls}.get(direction(pair.iqm, "raises", "lowers", ""))
        if side is not None:
            side.append(f"{PART_TITLES[part].split()[0]} ({pair.iqm.value:+z.2f})")
    clauses = [f"{verb} with {listed(side)}" for verb, side in (("rises", rises), ("falls", falls)) if side]
    return f"accuracy on {found.title} {listed(clauses) if clauses else 'changes clearly with none'}"


REFERENCE = resources.files("lra_companion") / "data" / "released_measurements.csv"
"""Runs of the public code itself, once and with one seed: outcome, iterations and best accuracy on the set that stops.

nan_guard: run with the one mend that Ω contributes nothing where its error is 0.
"""

_OUTCOMES = {"solved": "solved", "ran on": "unsolved", "nan": "ended in NaN"}


def reference_table(parameters: ReleasedCodeParameters, found: Sequence[Fidelity]) -> pd.DataFrame:
    """Runs of the public code at the chapter's settings, beside this book's ``lra_released``: both their best validation
    accuracy, which each measures from its own start (vi). Rows where nothing was run with the public code are left out.
    """
    with REFERENCE.open(encoding="utf-8") as file:
        measured = list(csv.DictReader(file))
    rows = []
    for each in found:
        for row in measured:
            alpha = float(row["regularisation_strength"])
            if not _same_settings(parameters, each.task, row) or alpha not in (
                0.0,
                parameters.regularisation_strength,
            ):
                continue
            ours = each.outcomes[condition("lra_released", alpha)].curves.matrix.max(1)
            rows.append(
                {
                    "task": each.title,
                    "α": f"{alpha:g}",
                    "Ω guarded": row["nan_guard"],
                    "public code": f"{_OUTCOMES[row['outcome']]}, {row['iterations']} iterations",
                    "its best accuracy": f"{float(row['best_validation_accuracy']):.2f}",
                    f"lra_released, guarded, {parameters.max_iterations} iterations": f"{min(ours):.2f} to {max(ours):.2f}",
                }
            )
    return pd.DataFrame(rows)


def _same_settings(parameters: ReleasedCodeParameters, task: TaskName, row: Mapping[str, str]) -> bool:
    settings = parameters.settings[task]
    return (
        row["task"] == task
        and row["local_loss"] == parameters.local_loss
        and [int(row["sequence_length"]), int(row["inner_steps"])]
        == [parameters.sequence_length, parameters.inner_steps]
        and [float(row[name]) for name in ("learning_rate", "target_step_size", "clip_norm")]
        == [settings.learning_rate, settings.target_step_size, parameters.clip_norm]
    )
