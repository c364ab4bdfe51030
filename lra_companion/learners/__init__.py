"""Learning rules, one file each, behind one contract (``learners.base``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lra_companion.learners.ablation import LRAAblation
from lra_companion.learners.base import Diagnostics, Learner
from lra_companion.learners.bptt import BPTT
from lra_companion.learners.lra import LRA
from lra_companion.learners.readout import Readout
from lra_companion.learners.released import LRAReleased
from lra_companion.learners.tptt import TPTT

LEARNERS: dict[str, Callable[[Sequence[Any], Sequence[int]], Learner]] = {
    "lra": LRA,
    "bptt": BPTT,
    "readout": Readout,
    "lra_released": LRAReleased,
    "lra_ablation": LRAAblation,
    "tptt": TPTT,
}
"""Learning rules by name; a config's ``name`` is the key."""
SHARED_SETTINGS = ("name", "inner_steps", "local_loss", "released")
"""What shapes the computation, and so must be the same for runs that train side by side."""

__all__ = ["LEARNERS", "SHARED_SETTINGS", "Diagnostics", "Learner", "make_learner"]


def make_learner(configs: Sequence[Any], seeds: Sequence[int] = ()) -> Learner:
    """The learning rule for R runs, one config per run, and for a rule that draws random numbers (tptt) one seed per run.

    Raises ValueError if the configs differ in one of ``SHARED_SETTINGS``. All other settings may differ by run.
    Also if seeds are needed and missing, or not as many as the configs.
    """
    if not configs:
        raise ValueError("configs = []: at least one learner config is needed")
    for field in SHARED_SETTINGS:
        values = {str(getattr(config, field, None)) for config in configs}
        if len(values) > 1:
            raise ValueError(f"learner.{field} = {sorted(values)}: runs trained side by side must share it")
    if seeds and len(seeds) != len(configs):
        raise ValueError(f"{len(seeds)} seeds for {len(configs)} configs: every run has one of each")
    return LEARNERS[configs[0].name](configs, seeds)
