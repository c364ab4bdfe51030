"""``lra-companion status``: what a profile's runs have come to, and how long those that are left may take."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lra_companion import profiles
from lra_companion.config import RunConfig
from lra_companion.endings import counted, described
from lra_companion.options import RESULTS, AsJson, Profile, folder_to_read
from lra_companion.places import usable_device
from lra_companion.runs import RunResult, RunState, shape_key
from lra_companion.store import ResultStore
from lra_companion.unfinished import Unfinished


@dataclass
class Survey:
    """The runs of a profile by their keys: results, checkpoints, failures; ``left`` are all that have no result."""

    done: dict[str, RunResult] = field(default_factory=dict)
    left: dict[str, RunConfig] = field(default_factory=dict)
    begun: dict[str, RunState] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Iterable[RunConfig], store: ResultStore) -> Survey:
        """What the store knows of these runs. Raises OSError where it is no folder."""
        found, unfinished = cls(), Unfinished(store, usable_device())
        for key, config in {run.key(): run for run in runs}.items():
            result = store.get(config)
            if result is not None:
                found.done[key] = result
                continue
            found.left[key] = config
            state, failure = unfinished.load(config), unfinished.failure(config)
            if state is not None:
                found.begun[key] = state
            if failure is not None:
                found.failed[key] = failure
        return found

    def seconds_left(self) -> tuple[float, int]:
        """Processor time that the runs that are left take at most, and how many of them are like none that is known.

        Like runs train side by side (``shape_key``); only when they stop may differ.
        """
        seconds: dict[str, float] = defaultdict(float)
        iterations: dict[str, int] = defaultdict(int)
        for result in self.done.values():
            seconds[_kind(result.config)] += result.duration_seconds
            iterations[_kind(result.config)] += result.iterations
        for state in self.begun.values():
            seconds[_kind(state.config)] += state.seconds
            iterations[_kind(state.config)] += state.iteration
        total, unknown = 0.0, 0
        for key, config in self.left.items():
            kind = _kind(config)
            if not iterations[kind]:
                unknown += 1
                continue
            made = self.begun[key].iteration if key in self.begun else 0
            total += seconds[kind] / iterations[kind] * (config.protocol.max_iterations - made)
        return total, unknown


def _kind(config: RunConfig) -> str:
    stops = {"max_iterations": 1, "patience": 1, "solved_error": 0.5}
    return shape_key(config.model_copy(update={"protocol": config.protocol.model_copy(update=stops)}))


def status(
    profile: Profile = "quick",
    results: Annotated[
        Path, typer.Option(help="Folder of the result store.", callback=folder_to_read)
    ] = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Say which runs of a profile are done, left, begun and failed, and how long those that are left may take."""
    wanted = profiles.profile_runs(profile)
    survey = Survey.of([run for runs in wanted.values() for run in runs], ResultStore(results))
    rows = {name: _row({run.key() for run in runs}, survey) for name, runs in wanted.items()}
    seconds, unknown = survey.seconds_left()
    damaged = [str(file.relative_to(results)) for file in ResultStore(results).damaged()]
    if as_json:
        print(json.dumps(_document(profile, rows, survey, seconds, unknown) | {"damaged": damaged}))
        return
    table = Table("notebook", *next(iter(rows.values())))
    for name, row in rows.items():
        table.add_row(name, *map(str, row.values()))
    Console().print(table)
    for key, state in survey.begun.items():
        of = state.config.protocol.max_iterations
        print(f"begun: {key}, at iteration {state.iteration} of {of}: {described(state.config)}")
    for key, reason in survey.failed.items():
        print(f"failed: {key}, {reason}: {described(survey.left[key])}")
    for name in damaged:
        print(f"damaged: {name} was set aside, and is of no use any more")
    if len(survey.left) > unknown:
        print(f"time left: at most {_duration(seconds)} of one core")
    if unknown:
        print(f"time left: nothing to go by for {counted(unknown, 'run')}, as none like it has been trained")


def _row(keys: set[str], survey: Survey) -> dict[str, int]:
    """Begun and failed runs are among those that are left, diverged ones among those that are done."""
    diverged = {key for key, result in survey.done.items() if result.status == "diverged"}
    counted = {
        "done": survey.done.keys(),
        "left": survey.left.keys(),
        "begun": survey.begun.keys(),
        "failed": survey.failed.keys(),
        "diverged": diverged,
    }
    return {name: len(keys & of) for name, of in counted.items()}


def _document(
    profile: str, rows: dict[str, dict[str, int]], survey: Survey, seconds: float, unknown: int
) -> dict[str, Any]:
    return {
        "profile": profile,
        "notebooks": rows,
        "begun": [
            {"key": key, "config": state.config.model_dump(mode="json"), "iteration": state.iteration}
            for key, state in survey.begun.items()
        ],
        "failed": [
            {"key": key, "config": survey.left[key].model_dump(mode="json"), "reason": reason}
            for key, reason in survey.failed.items()
        ],
        "core_seconds_left_at_most": seconds,
        "runs_left_without_estimate": unknown,
    }


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
