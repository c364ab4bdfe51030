"""08_released_code: what each difference between the described method and the public code does to gradients and accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lra_companion.config import RELEASED_PARTS, ReleasedPart, RunConfig, TaskName
from lra_companion.experiments import ReleasedCodeParameters
from lra_companion.findings.outcomes import BOOTSTRAP_SEED, Outcome, direction, listed, outcome_of
from lra_companion.reporting import TASK_TITLES
from lra_companion.statistics import Estimate, PairedDifference, iqm_interval, paired_difference
from lra_companion.training import RunResult


@dataclass(frozen=True)
class Difference:
    """One difference in words. part: the switch of ``lra_ablation``, where the difference is one of gradients."""

    label: str
    described: str
    released: str
    part: ReleasedPart | None = None


DIFFERENCES = (
    Difference(
        "(i)",
        "a derivative stays in its own step",
        "derivatives run back to the first step",
        "full_differentiation",
    ),
    Difference("(ii)", "a target is held", "a target moves with its state", "moving_targets"),
    Difference(
        "(iii)", "inner steps pull towards the target", "after the first, back to the state", "pull_to_state"
    ),
    Difference("(iv)", "Ω: one slope per unit", "Ω: one slope per example", "diagonal_slope"),
    Difference("(v)", "Ω acts on W_hh", "Ω acts on W_xh instead", "omega_on_input"),
    Difference("(vi)", "validation starts from 0", "starts from the first pre-activation, feeds x_1 twice"),
    Difference("(vii)", "a test set of its own", "one set stops and reports"),
    Difference("(viii)", "Ω is 0 where its error is 0", "Ω is NaN there, the run ends"),
    Difference("unlisted a", "a step's loss is its own", "it is that of the step above", "carried_loss"),
    Difference("unlisted b", "Ω takes the error by h", "in target steps by z", "omega_at_state"),
    Difference("unlisted c", "the first step learns", "it has no loss of its own", "no_first_step"),
)
"""The eight of the list, and three more without which the two ends do not meet."""

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

    outcomes: by condition, "readout", "lra" and "lra_released", with Ω also "lra, α = ...". added: LRA with one part as released
    minus LRA; removed: the public code with one part as described minus the public code; ends: the public code minus LRA, all
    with Ω. start: (vi) of both ends, the accuracy from the released start minus that from 0. selection: (vii), the best on the
    validation set minus the accuracy on the test set. nan: (viii), iterations after which a run ended, by seed, or None.
    """

    task: TaskName
    outcomes: dict[str, Outcome]
    added: dict[ReleasedPart, PairedDifference]
    removed: dict[ReleasedPart, PairedDifference]
    ends: PairedDifference
    start: dict[str, PairedDifference]
    selection: dict[str, PairedDifference]
    nan: dict[int, int | None]

    @property
    def title(self) -> str:
        """The task, as a figure's title."""
        return TASK_TITLES[self.task]


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
            for part in parameters.trained_parts
        },
        removed={
            part: compare(results(lambda seed, part=part: parameters.removed_run(part, task, seed)), released)
            for part in parameters.trained_parts
        },
        ends=compare(released, described),
        start=start,
        selection=selection,
        nan={r.config.seed: r.iterations if r.status == "diverged" else None for r in nan_runs},
    )


def _scores(results: Sequence[RunResult]) -> dict[int, float]:
    return {result.config.seed: result.test_accuracy for result in results}


def gradient_frame(measured: Sequence[RunResult]) -> pd.DataFrame:
    """One row per variant and network: task, strength, network (the rule that trained it), seed, point (iterations asked for),
    variant, norm, and the angles to_exact, to_lra, to_lra_released (missing where a gradient is 0).
    """
    rows = []
    for result in measured:
        config = result.config
        shown = result.history[-1]["measured"]
        for point, moment in ((0, "start"), (config.protocol.max_iterations, "end")):
            for variant, values in shown[moment].items():
                rows.append(
                    {
                        "task": config.task.name,
                        "strength": getattr(config.learner, "regularisation_strength", 0.0),
                        "network": config.learner.name,
                        "seed": config.seed,
                        "point": point,
                        "variant": variant,
                        **{name: np.nan if value is None else value for name, value in values.items()},
                    }
                )
    return pd.DataFrame(rows).drop_duplicates(["task", "strength", "network", "seed", "point", "variant"])


@dataclass(frozen=True)
class Turn:
    """Medians over seeds, points in training and (in the table) tasks. to_base: angle to the rule that is changed; ratio: norm
    over that rule's; NaN where nothing is defined.
    """

    to_base: float
    to_exact: float
    ratio: float


def turn(frame: pd.DataFrame, variant: str, base: str, strength: float) -> Turn:
    """What a variant's gradient is beside that of ``base`` (lra or lra_released), on networks that ``base`` trained."""
    wide = frame[(frame["network"] == base) & (frame["strength"] == strength)].set_index(
        ["task", "seed", "point"]
    )
    one, other = wide[wide["variant"] == variant], wide[wide["variant"] == base]
    ratios = (one["norm"] / other["norm"]).replace([np.inf, -np.inf], np.nan)
    return Turn(float(one[f"to_{base}"].median()), float(one["to_exact"].median()), float(ratios.median()))


def turns_by_seed(
    frame: pd.DataFrame, task: TaskName, base: str, strength: float
) -> tuple[dict[str, Estimate], dict[str, list[float]]]:
    """For a figure: of each part, by its title, the angle by which it turns ``base``'s gradient: interquartile mean over seeds
    with its interval, and each seed's mean over the points in training.
    """
    sign = "+" if base == "lra" else "-"
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    here = frame[(frame["task"] == task) & (frame["network"] == base) & (frame["strength"] == strength)]
    estimates, scores = {}, {}
    for part in RELEASED_PARTS:
        angles = here[here["variant"] == f"{sign} {part}"].groupby("seed")[f"to_{base}"].mean().dropna()
        if len(angles):
            estimates[PART_TITLES[part]] = iqm_interval(angles.to_numpy(), generator)
            scores[PART_TITLES[part]] = angles.tolist()
    return estimates, scores


def at_a_glance(
    parameters: ReleasedCodeParameters, found: Sequence[Fidelity], frame: pd.DataFrame
) -> pd.DataFrame:
    """The chapter's table: a row per difference, between the two ends."""
    alpha = parameters.regularisation_strength
    rows = [_end_row("as described: lra", turn(frame, "lra", "lra", alpha), found, "lra")]
    for difference in DIFFERENCES:
        row = {"": difference.label, "as described": difference.described, "as released": difference.released}
        if difference.part is not None:
            row |= _gradient_cells(turn(frame, f"+ {difference.part}", "lra", alpha))
        else:
            row |= dict.fromkeys(_GRADIENT_COLUMNS, _NOTHING)
        rows.append(row | {_accuracy_column(each): _accuracy_cell(difference, each) for each in found})
    both = turn(frame, "lra_released", "lra", alpha)
    rows.append(_end_row("as released: all", both, found, "lra_released"))
    return pd.DataFrame(rows).set_index("")


_GRADIENT_COLUMNS = ("angle to lra", "angle to exact", "norm / lra's")
_NOTHING = "–"


def _gradient_cells(found: Turn) -> dict[str, str]:
    values = (_degrees(found.to_base), _degrees(found.to_exact), _number(found.ratio))
    return dict(zip(_GRADIENT_COLUMNS, values, strict=True))


def _end_row(label: str, found: Turn, tasks: Sequence[Fidelity], learner: str) -> dict[str, str]:
    row = {"": label, "as described": "", "as released": ""} | _gradient_cells(found)
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
        ended = [at for at in found.nan.values() if at is not None]
        after = f", half within {np.median(ended):.0f} iterations" if ended else ""
        return f"{len(ended)} of {len(found.nan)} runs end{after}"
    pair = found.added.get(difference.part) if difference.part else None
    return _NOTHING if pair is None else _signed(pair.iqm)


def _signed(estimate: Estimate) -> str:
    if np.isnan(estimate.low):
        return f"{estimate.value:+z.2f} (n = {estimate.n})"
    return f"{estimate.value:+z.2f} [{estimate.low:+z.2f}, {estimate.high:+z.2f}]"


def _degrees(value: float) -> str:
    if np.isnan(value):
        return _NOTHING
    return f"{value:.0f}°" if value >= 10 else f"{value:.1f}°" if value >= 0.05 else "0°"


def _number(value: float) -> str:
    return _NOTHING if np.isnan(value) else f"{value:.2g}" if value < 100 else f"{value:.0f}"


def gradient_table(parameters: ReleasedCodeParameters, frame: pd.DataFrame) -> pd.DataFrame:
    """How the two ends stand to the exact gradient and to one another, through training: medians over seeds."""
    points = [0, *sorted(parameters.early_iterations), parameters.max_iterations]
    rows = []
    for task in parameters.tasks:
        for strength in (0.0, parameters.regularisation_strength):
            for point in points:
                row: dict[str, object] = {
                    "task": TASK_TITLES[task],
                    "α": f"{strength:g}",
                    "iterations": point,
                }
                for name in ("lra", "lra_released"):
                    here = frame[
                        (frame["task"] == task)
                        & (frame["strength"] == strength)
                        & (frame["point"] == point)
                        & (frame["network"] == name)
                    ].set_index("seed")
                    own, exact = here[here["variant"] == name], here[here["variant"] == "exact"]
                    row[f"{name}: angle to exact"] = _degrees(float(own["to_exact"].median()))
                    row[f"{name}: norm / exact"] = _number(float((own["norm"] / exact["norm"]).median()))
                    if name == "lra":
                        row["between them"] = _degrees(float(own["to_lra_released"].median()))
                rows.append(row)
    return pd.DataFrame(rows).set_index(["task", "α", "iterations"])


def accuracy_table(found: Sequence[Fidelity]) -> pd.DataFrame:
    """Both directions in numbers: each part added to LRA, and each taken out of the public code."""
    rows = []
    for each in found:
        for part, pair in each.added.items():
            out = each.removed[part]
            rows.append(
                {
                    "task": each.title,
                    "difference": PART_TITLES[part],
                    "lra + it": _signed(pair.iqm),
                    "better": f"{round(pair.improved.value * pair.improved.n)} of {pair.improved.n}",
                    "released − it": _signed(out.iqm),
                    "better ": f"{round(out.improved.value * out.improved.n)} of {out.improved.n}",
                }
            )
    return pd.DataFrame(rows).set_index(["task", "difference"])


def fidelity_finding(
    parameters: ReleasedCodeParameters, found: Sequence[Fidelity], frame: pd.DataFrame
) -> str:
    """Two sentences for the top of the chapter."""
    alpha = parameters.regularisation_strength
    described, released = turn(frame, "lra", "lra", alpha), turn(frame, "lra_released", "lra", alpha)
    ends = []
    for each in found:
        verb = direction(each.ends.iqm, "is better", "is worse", "is not clearly different")
        values = [_with_omega(each, name).accuracy.value for name in ("lra_released", "lra")]
        ends.append(f"{verb} on {each.title} ({values[0]:.2f} against {values[1]:.2f})")
    parts = [difference for difference in DIFFERENCES if difference.part in PART_TITLES][:5]
    turned = {d.label: turn(frame, f"+ {d.part}", "lra", alpha).to_base for d in parts}
    most = max(turned, key=lambda label: np.nan_to_num(turned[label]))
    ended = [at for each in found for at in each.nan.values()]
    return (
        f"With regularisation (α = {alpha:g}) the update of the hidden weights as released stands at "
        f"{_degrees(released.to_base)} to that as described, the one {_degrees(released.to_exact)} and the other "
        f"{_degrees(described.to_exact)} from the exact gradient (medians), and after {parameters.max_iterations} iterations the "
        f"released rule {listed(ends)}. Of the five differences of the list that change gradients, {most} alone turns the "
        f"described update most ({_degrees(turned[most])}), {_clear_effects(found)}; unguarded, "
        f"{sum(at is not None for at in ended)} of {len(ended)} released runs end in NaN."
    )


def _clear_effects(found: Sequence[Fidelity]) -> str:
    """Which differences, alone, clearly changed the accuracy of LRA, and which way."""
    clauses = []
    for each in found:
        for part, pair in each.added.items():
            verb = direction(pair.iqm, "raises", "lowers", "")
            if verb:
                label = PART_TITLES[part].split()[0]
                clauses.append(f"{label} {verb} its accuracy on {each.title} ({pair.iqm:.2f})")
    return listed(clauses) if clauses else "and none alone clearly changes its accuracy"
