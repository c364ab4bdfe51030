"""08_released_code: its findings in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lra_companion.experiments import ReleasedCodeParameters
from lra_companion.experiments.released_code import UNCLIPPED
from lra_companion.findings.comparison import Panel
from lra_companion.findings.outcomes import direction, listed
from lra_companion.findings.released_code import (
    DIFFERENCES,
    LISTED,
    PART_TITLES,
    Fidelity,
)
from lra_companion.findings.released_gradients import Comparison, turn
from lra_companion.findings.released_tables import degrees, ended_after, signed, with_omega
from lra_companion.reporting import TASK_TITLES


def fidelity_finding(
    parameters: ReleasedCodeParameters, found: Sequence[Fidelity], compared: Sequence[Comparison]
) -> str:
    """Two sentences for the top of the chapter."""
    alpha = parameters.regularisation_strength
    described, released = turn(compared, "lra", "lra", alpha), turn(compared, "lra_released", "lra", alpha)
    ends = []
    for each in found:
        verb = direction(each.ends.iqm, "is better", "is worse", "is not clearly different")
        values = [with_omega(each, name).accuracy.value for name in ("lra_released", "lra")]
        ends.append(f"{verb} on {each.title} ({values[0]:.2f} against {values[1]:.2f})")
    to_exact = {
        PART_TITLES[d.part]: turn(compared, f"+ {d.part}", "lra", alpha).to_exact
        for d in DIFFERENCES[:LISTED]
        if d.part
    }
    nearest = min(to_exact, key=lambda title: np.nan_to_num(to_exact[title], nan=np.inf))
    ended = [at for each in found for at in each.nan.values()]
    return (
        f"With regularisation (α = {alpha:g}) the update of the hidden weights as released stands at "
        f"{degrees(released.to_base)} to that as described (from the exact gradient: {degrees(released.to_exact)} as "
        f"released, {degrees(described.to_exact)} as described; medians), and after {parameters.max_iterations} iterations "
        f"the released rule {listed(ends)}. Of the five differences of the list that change gradients {nearest} alone "
        f"brings the described update nearest to the exact gradient ({degrees(to_exact[nearest])}); one by one, "
        f"{'; '.join(map(_clear_effects, found))}; and without the guard {sum(at is not None for at in ended)} of "
        f"{len(ended)} regularised released runs end in NaN."
    )


def omega_sentence(found: Sequence[Fidelity]) -> str:
    """What Ω did to accuracy at either end."""
    clauses = [
        f"{signed(each.omega['lra'].iqm)} as described and {signed(each.omega['lra_released'].iqm)} as released "
        f"on {each.title}"
        for each in found
    ]
    return f"Ω changes test accuracy, within each seed, by {listed(clauses)}."


def protocol_sentences(found: Sequence[Fidelity]) -> str:
    """What (vi), (vii) and (viii) came to, in words."""
    start = [
        f"{signed(pair.iqm, 3)} for {name} on {each.title}"
        for each in found
        for name, pair in each.start.items()
    ]
    chosen = [
        f"{signed(pair.iqm, 3)} for {name} on {each.title}"
        for each in found
        for name, pair in each.selection.items()
    ]
    ended = [
        f"{sum(at is not None for at in each.nan.values())} of {len(each.nan)} on {each.title}{ended_after(each)}"
        for each in found
    ]
    return (
        f"The released start changes the accuracy of trained networks by {listed(start)}. The best accuracy on the deciding "
        f"set exceeds that on a fresh one by {listed(chosen)}. Without the guard runs of lra_released with Ω end in NaN: "
        f"{listed(ended)}."
    )


def _clear_effects(found: Fidelity) -> str:
    """On one task: which differences, alone, clearly changed the accuracy of LRA, and which way."""
    rises, falls = [], []
    for part, pair in found.added.items():
        side = {"raises": rises, "lowers": falls}.get(direction(pair.iqm, "raises", "lowers", ""))
        if side is not None:
            side.append(f"{PART_TITLES[part].split()[0]} ({pair.iqm.value:+z.2f})")
    clauses = [f"{verb} with {listed(side)}" for verb, side in (("rises", rises), ("falls", falls)) if side]
    return f"accuracy on {found.title} {listed(clauses) if clauses else 'changes clearly with none'}"


def clipping_sentence(parameters: ReleasedCodeParameters, panels: Sequence[Panel]) -> str:
    """What clipping does to ``lra_released`` without Ω, from ``released_panels``."""
    changes = [
        f"{panel.difference('lra_released', UNCLIPPED).iqm:.2f} on {TASK_TITLES[panel.task]}"
        for panel in panels
    ]
    return (
        f"Without Ω, clipping at c = {parameters.clip_norm:.15g} changed the test accuracy of lra_released, against no "
        f"clipping, by {listed(changes)}."
    )
