"""03_clipping: how often steps are clipped, and what that does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lra_companion.experiments import ClippingParameters
from lra_companion.experiments.clipping import CLIPPED_RULES, clip_label
from lra_companion.findings.baselines import solves
from lra_companion.findings.comparison import Panel
from lra_companion.findings.outcomes import listed
from lra_companion.statistics import Estimate

BITES = 0.1
"""Clipping bites where at least this share of steps is rescaled."""


@dataclass(frozen=True)
class ClippingEffect:
    """One clipped condition against no clipping: the share of steps rescaled, the difference in test accuracy within seeds, and
    its sign where it is clear, else 0.
    """

    panel: Panel
    label: str
    mode: str
    clipped: float
    difference: Estimate
    sign: int


def clipping_effects(parameters: ClippingParameters, found: Sequence[Panel]) -> list[ClippingEffect]:
    """Every clipped condition whose rule was run without clipping too."""
    effects = []
    for panel in found:
        for rule in CLIPPED_RULES:
            free = clip_label(rule, "clip", 0.0)
            for mode in parameters.clip_modes:
                for norm in sorted(parameters.clip_norms):
                    label = clip_label(rule, mode, norm)
                    if norm == 0 or not {label, free} <= panel.outcomes.keys():
                        continue
                    share = panel.outcomes[label].clipped
                    effects.append(
                        ClippingEffect(
                            panel=panel,
                            label=label,
                            mode=mode,
                            clipped=np.nan if share is None else share,
                            difference=panel.difference(label, free).iqm,
                            sign=panel.clear(label, free),
                        )
                    )
    return effects


def clipping_series(parameters: ClippingParameters) -> tuple[list[str], dict[str, list[str]]]:
    """Names of the values of c, and for each rule and mode its conditions in their order."""
    norms = sorted(parameters.clip_norms)
    series = {
        mode + rule.removeprefix("lra"): [clip_label(rule, mode, norm) for norm in norms]
        for rule in CLIPPED_RULES
        for mode in parameters.clip_modes
    }
    return ["off" if norm == 0 else f"{norm:.15g}" for norm in norms], series


def clipping_finding(parameters: ClippingParameters, found: Sequence[Panel]) -> str:
    """Two sentences for the top of the chapter: how often eq. 3 acts at the common c; whether clipping changes anything, and
    whether a task is solved with it.
    """
    common = [
        f"{np.mean(shares):.1%} of the steps of {rule}"
        for rule in CLIPPED_RULES
        if (shares := _shares(found, clip_label(rule, "clip", parameters.clip_norm)))
    ]
    first = (
        f"At c = {parameters.clip_norm:.15g}, the bound that all other chapters use, clipping rescaled {listed(common)}."
        if common
        else "How often steps were clipped was not recorded."
    )
    effects = clipping_effects(parameters, found)
    if not effects:
        return f"{first} Nothing was run without clipping to compare with."
    clauses = [
        clause
        for mode in parameters.clip_modes
        if (clause := _changes(mode, [effect for effect in effects if effect.mode == mode]))
    ]
    largest = max(effects, key=lambda effect: abs(effect.difference.value))
    return (
        f"{first} Against no clipping, accuracy on unseen sequences changed clearly {listed(clauses)}; "
        f"the largest difference was {largest.difference:.2f} ({largest.label}, on {largest.panel.title}), and at least "
        f"half of the seeds solved the task in {listed(_solved(effects, found))}."
    )


def _solved(effects: Sequence[ClippingEffect], found: Sequence[Panel]) -> list[str]:
    """In how many cases at least half of the seeds solved the task, without clipping and in each mode."""
    free = [clip_label(rule, "clip", 0.0) for rule in CLIPPED_RULES]
    cases = {
        "without clipping": [(panel, label) for panel in found for label in free if label in panel.outcomes]
    }
    for effect in effects:
        cases.setdefault(f"with mode {effect.mode}", []).append((effect.panel, effect.label))
    return [
        f"{sum(solves(*case) for case in each)} of {len(each)} cases {name}" for name, each in cases.items()
    ]


def _shares(found: Sequence[Panel], label: str) -> list[float]:
    outcomes = [panel.outcomes[label] for panel in found if label in panel.outcomes]
    return [outcome.clipped for outcome in outcomes if outcome.clipped is not None]


def _changes(mode: str, effects: Sequence[ClippingEffect]) -> str:
    if not effects:
        return ""
    signs = [effect.sign for effect in effects]
    changed = (
        f"in {len(signs) - signs.count(0)} of {len(signs)} cases with mode {mode} "
        f"({signs.count(1)} better, {signs.count(-1)} worse"
    )
    if mode == "normalise":
        return f"{changed})"
    bitten = [effect.sign for effect in effects if effect.clipped >= BITES]
    if not bitten:
        return f"{changed}; nowhere were as many as {BITES:.0%} of steps rescaled)"
    return f"{changed}; where at least {BITES:.0%} of steps were rescaled, in {len(bitten) - bitten.count(0)} of {len(bitten)})"
