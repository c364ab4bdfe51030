"""09_how_far: the longest sequences that each rule solves, how soon, and what carries over to real data."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lra_companion.experiments.comparison import READOUT
from lra_companion.experiments.how_far import PLAIN, RULES, preset_label
from lra_companion.findings.baselines import longest_solved, solves
from lra_companion.findings.comparison import Panel, by_task
from lra_companion.findings.outcomes import Outcome, direction, listed
from lra_companion.reporting import TASK_TITLES

UNDER_THE_MEAN, WHOLE_STEPS = "LRA under the mean", "LRA per example or normalised"
LOCAL = (UNDER_THE_MEAN, WHOLE_STEPS)
BACKPROPAGATION, TARGET_PROPAGATION = "backpropagation", "target propagation"


def kind(label: str) -> str | None:
    """The kind of rule that a label belongs to; none for the readout."""
    name = label.removesuffix(" + Ω").removesuffix(PLAIN)
    if name in (RULES["lra"], preset_label("paper")):
        return UNDER_THE_MEAN
    starts = {"lra": WHOLE_STEPS, "bptt": BACKPROPAGATION, "tptt": TARGET_PROPAGATION}
    return next((found for start, found in starts.items() if name.startswith(start)), None)


def how_far_finding(labels: Sequence[str], found: Sequence[Panel]) -> str:
    """Two sentences for the top of the chapter: the longest sequences that some rule of each kind solves; how many iterations
    the best strictly local one and the best backpropagation needed at the longest length that both solved.
    """
    kinds = dict.fromkeys(of for label in labels if (of := kind(label)) is not None)
    tables = {of: longest_solved(_of_kind(labels, of), found) for of in kinds}
    clauses = [
        f"{of} {listed([_longest(table[task].tolist()) for task in table])}" for of, table in tables.items()
    ]
    tasks = listed([TASK_TITLES[panels[0].task] for panels in by_task(found)])
    first = f"Longest sequences that at least half of the seeds of some rule solved, on {tasks}: {'; '.join(clauses)}."
    local, exact = _of_kind(labels, *LOCAL), _of_kind(labels, BACKPROPAGATION)
    sooner = [clause for panels in by_task(found) if (clause := _race(panels, local, exact))]
    if not sooner:
        return first
    return (
        f"{first} Iterations until half of the seeds had solved the task, at the longest length where both a strictly local "
        f"rule and backpropagation did: {'; '.join(sooner)}."
    )


def _of_kind(labels: Sequence[str], *kinds: str) -> list[str]:
    return [label for label in labels if kind(label) in kinds]


def _longest(of_rules: Sequence[str]) -> str:
    """The longest of several rules' longest lengths on a task, in a word."""
    lengths = [int(word) for word in of_rules if word.isdigit()]
    if lengths:
        return str(max(lengths))
    return "none" if "none" in set(of_rules) else "not run"


def _race(panels: Sequence[Panel], local: Sequence[str], exact: Sequence[str]) -> str:
    """The fastest strictly local rule against the fastest backpropagation on one task; empty where not both solve a length."""
    for panel in reversed(panels):
        best = [_fastest(panel, labels) for labels in (local, exact)]
        if all(best):
            ours, theirs = (f"{label} {soon}" for soon, label in filter(None, best))
            return f"{ours} against {theirs} on {panel.title}"
    return ""


def _fastest(panel: Panel, labels: Sequence[str]) -> tuple[int, str] | None:
    times = [
        (soon, label)
        for label in labels
        if solves(panel, label) and (soon := panel.outcomes[label].half_solved) is not None
    ]
    return min(times) if times else None


def real_data_finding(labels: Sequence[str], found: Sequence[Panel]) -> str:
    """What carries over to real data: on each panel, which must have the readout, the most accurate LRA and backpropagation and
    how they differ, how each rule stands to the readout, and what was still rising when the iterations ended.
    """
    if not found:
        return "Real data were not read here."
    return " ".join(_on_real_data(labels, panel) for panel in found)


def _on_real_data(labels: Sequence[str], panel: Panel) -> str:
    present = [label for label in labels if label in panel.outcomes]
    rules = [label for label in present if label != READOUT.label]

    def best(kinds: Sequence[str]) -> str | None:
        among = _of_kind(rules, *kinds)
        return max(among, key=lambda label: panel.outcomes[label].accuracy.value, default=None)

    ours, exact = best(LOCAL), best([BACKPROPAGATION])
    named = [label for label in (ours, exact, READOUT.label) if label is not None]
    accuracies = "; ".join(f"{label} {panel.outcomes[label].accuracy:.3f}" for label in named)
    text = (
        f"Test accuracy on {panel.title}, of the most accurate LRA and backpropagation, as picked on these seeds, and of the "
        f"readout: {accuracies}"
    )
    if ours is not None and exact is not None:
        difference = panel.difference(ours, exact).iqm
        word = direction(difference, "ahead", "behind", "neither clearly ahead nor behind")
        text += f"; within seeds LRA is {word} (difference {difference:.3f})"
    signs = {label: panel.clear(label, READOUT.label) for label in rules}
    sides = {1: "Clearly better than the readout", -1: "Clearly worse", 0: "Not clearly different from it"}
    lists = {words: [label for label in rules if signs[label] == sign] for sign, words in sides.items()}
    lists["Still rising at the last iteration"] = [
        f"{label} {rising} of {outcome.solved.n}"
        for label in present
        if (rising := _at_the_end(outcome := panel.outcomes[label])[1])
    ]
    return " ".join(
        [f"{text}.", *(f"{words}: {'; '.join(those)}." for words, those in lists.items() if those)]
    )


def omega_tally(labels: Sequence[str], found: Sequence[Panel]) -> str:
    """What Ω did for each rule, over the tasks and lengths where it was run both without and with it: the runs that solved
    their task.
    """
    clauses = []
    for treated in labels:
        control = treated.removesuffix(" + Ω")
        both = [panel for panel in found if {control, treated} <= panel.outcomes.keys()]
        if control == treated or not both:
            continue
        solved = [sum(panel.outcomes[label].solved.count for panel in both) for label in (treated, control)]
        of = sum(panel.outcomes[control].solved.n for panel in both)
        lengths = listed([str(length) for length in sorted({panel.sequence_length for panel in both})])
        clauses.append(f"{control} {solved[0]} with and {solved[1]} without, of {of} each (T = {lengths})")
    if not clauses:
        return "no rule was run both ways"
    return f"runs that solved their task: {'; '.join(clauses)}"


def shortfalls(label: str, found: Sequence[Panel]) -> str:
    """How the seeds of a rule ended that did not solve their task: given up for want of progress or at the last iteration, with
    which accuracy, and how many of those that went to the end were still rising.
    """
    outcomes = [(panel, panel.outcomes[label]) for panel in found if label in panel.outcomes]
    clauses = [_shortfall(panel, outcome) for panel, outcome in outcomes if outcome.unsolved]
    return "; ".join(clauses) if clauses else "all of them did" if outcomes else "none was run"


def _shortfall(panel: Panel, outcome: Outcome) -> str:
    accuracies = [outcome.scores[seed] for seed in outcome.unsolved]
    ended = list(outcome.unsolved.values())
    words = {"stalled": "given up", "diverged": "diverged"}
    ways = [f"{ended.count(status)} {word}" for status, word in words.items() if status in ended]
    to_the_end, rising = _at_the_end(outcome)
    if to_the_end:
        ways.append(f"{to_the_end} at the last iteration, {rising} of them still rising")
    return (
        f"{len(ended)} of {outcome.solved.n} on {panel.title} ({listed(ways)}; test accuracy {min(accuracies):.3f} to "
        f"{max(accuracies):.3f})"
    )


def _at_the_end(outcome: Outcome) -> tuple[int, int]:
    """How many seeds went to the last iteration without solving their task, and how many of them were still rising: better on
    the last third of their checks than on the third before.
    """
    rows = [row for row, seed in enumerate(outcome.scores) if outcome.unsolved.get(seed) == "max_iterations"]
    checks = outcome.curves.matrix[rows]
    third = max(checks.shape[1] // 3, 1)
    rising = checks[:, -third:].mean(axis=1) > checks[:, -2 * third : -third].mean(axis=1)
    return len(rows), int(rising.sum())


def solved_table(labels: Sequence[str], found: Sequence[Panel]) -> pd.DataFrame:
    """In numbers: of each rule, task and length the share solved with its interval, iterations until half of the seeds had
    solved it ("half by"), and a median run's processor time for so many ("seconds"). A run that diverged has not solved it; how
    many did is there if any did.
    """
    rows = []
    for panel in found:
        for label in labels:
            if label not in panel.outcomes:
                continue
            outcome = panel.outcomes[label]
            half = outcome.half_solved
            rows.append(
                {
                    "task": TASK_TITLES[panel.task],
                    "T": panel.sequence_length,
                    "rule": label,
                    "solved": f"{outcome.solved:.2f}",
                    "accuracy (IQM)": f"{outcome.accuracy:.3f}",
                    "half by": "" if half is None else str(half),
                    "seconds": "" if half is None else f"{half * outcome.milliseconds / 1000:.2g}",
                    "diverged": outcome.diverged,
                }
            )
    table = pd.DataFrame(rows).set_index(["task", "T", "rule"])
    return table if any(row["diverged"] for row in rows) else table.drop(columns="diverged")
