"""The commands that train many networks and show none: sweep, tune, tune-preset."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from lra_companion import preset_search, profiles, tuning
from lra_companion.endings import interruptible, report
from lra_companion.experiments import did_you_mean
from lra_companion.options import (
    RESULTS,
    Device,
    Jobs,
    Profile,
    Results,
    Scheduler,
    file_to_write,
    processes,
)
from lra_companion.places import trained_at
from lra_companion.store import ResultStore, write_whole
from lra_companion.sweep import SweepError, train_many


def sweep(
    profile: Profile = "quick",
    name: Annotated[
        list[str] | None, typer.Option("--notebook", help="Only the runs of these notebooks, in this order.")
    ] = None,
    results: Results = RESULTS,
    jobs: Jobs = 0,
    device: Device = None,
    scheduler: Scheduler = None,
) -> None:
    """Train what a profile's notebooks show and the store does not hold yet, and nothing else."""
    store = ResultStore(results)
    chapters = name or list(profiles.profile_parameters(profile))
    wanted = {chapter: profiles.parameters_of(chapter, profile, {}, ".", 1).runs() for chapter in chapters}
    failed: dict[str, str] = {}
    with trained_at(device, scheduler), interruptible(results):
        for chapter, runs in wanted.items():
            left = [run for run in runs if run not in store]
            print(f"{chapter}: {len(runs) - len(left)} of {len(runs)} runs are stored", flush=True)
            try:
                train_many(left, store, processes(jobs))
            except SweepError as error:
                failed |= error.reasons
    report([run for runs in wanted.values() for run in runs], results, failed)


def tune(
    profile: Profile = "quick",
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Trials for each task, length and group; default: the profile's."),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only these tasks of the profile.")] = None,
    length: Annotated[list[int] | None, typer.Option(help="Only these sequence lengths.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Only these groups of settings.")] = None,
    results: Results = tuning.TRIALS,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="The file to write; default: the profile's in book/settings.", callback=file_to_write
        ),
    ] = None,
    jobs: Jobs = 0,
    device: Device = None,
    scheduler: Scheduler = None,
) -> None:
    """Search the settings of a profile's comparisons on the tuning seed; write the best into its file of settings."""
    plan = profiles.tuning_plan(profile)
    plan = plan.model_copy(update={"trials": trials or plan.trials})
    file = settings or profiles.SETTINGS / f"{profile}.yaml"
    rows = {row.place: row for row in profiles.read_settings(file)}
    searches = tuning.searches(profiles.comparisons(profile))
    asked = _asked(searches, {"task": task, "length": length, "group": group})
    problems = dict.fromkeys(place[:2] for place in asked)
    for problem in problems:  # all groups of one side by side: no process waits for the slowest alone
        places = [place for place in asked if place[:2] == problem]
        tried = [tuning.candidates(plan, *place) for place in places]
        runs = [
            tuning.trial(searches[place], candidate, plan)
            for place, candidates in zip(places, tried, strict=True)
            for candidate in candidates
        ]
        with trained_at(device, scheduler), interruptible(results):
            found = train_many(runs, ResultStore(results), processes(jobs))
        for index, (place, candidates) in enumerate(zip(places, tried, strict=True)):
            rows[place] = tuning.chosen(candidates, found[index * plan.trials : (index + 1) * plan.trials])
        write_whole(file, tuning.settings_text(profile, rows.values()))
        print(tuning.settings_text(profile, [rows[place] for place in places]), end="", flush=True)


def tune_preset(
    results: Results = tuning.TRIALS,
    jobs: Jobs = 0,
    device: Device = None,
    scheduler: Scheduler = None,
) -> None:
    """Try the settings from which the preset recommended was chosen, on the tuning seed; print how each did, and the choice."""
    with trained_at(device, scheduler), interruptible(results):
        found = train_many(preset_search.all_trials(), ResultStore(results), processes(jobs))
    for line in preset_search.report(found):
        print(line)


def _asked(searches: Iterable[tuning.Place], only: dict[str, list[Any] | None]) -> list[tuning.Place]:
    """Those searches that the options leave."""
    left = list(searches)
    for position, (name, values) in enumerate(only.items()):
        known = sorted({place[position] for place in searches})
        for value in values or []:
            if value not in known:
                raise ValueError(
                    f"{name} = {value!r}: is not searched for this profile{did_you_mean(str(value), [*map(str, known)])}"
                )
        left = [place for place in left if not values or place[position] in values]
    if not left:
        raise ValueError("nothing is left to search: no comparison of the profile needs these together")
    return left
