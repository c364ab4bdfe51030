"""The shell's way in: train, notebook, reproduce, book, pdf, sweep, status, claims, tune.

Exit codes: 0 done; 2 bad input, with one line on stderr that names field, value and what is allowed; 1 anything else.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lra_companion import notebooks, preset_search, profiles, tuning
from lra_companion.claims_command import claims
from lra_companion.endings import InterruptedCommandError, interruptible, report
from lra_companion.experiments import ClaimsParameters, did_you_mean
from lra_companion.options import (
    RESULTS,
    Device,
    Jobs,
    Profile,
    Results,
    Scheduler,
    file_to_write,
    folder_to_write,
)
from lra_companion.places import trained_at
from lra_companion.printing import pdf
from lra_companion.status_command import status
from lra_companion.status_page import TABLE, status_table
from lra_companion.store import ResultStore, write_whole
from lra_companion.sweep import SweepError, train_many
from lra_companion.train_command import train

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Companion to 'Can Local Representation Alignment RNNs Solve Temporal Tasks?' (arXiv:2504.13531).",
)

Build = Annotated[Path, typer.Option(help="Folder in which the book is built.", callback=folder_to_write)]
BUILD = Path("build/book")
PUBLISHED = profiles.BOOK / "results"


# Of all wrong words on the command line, click's ClickException: typer carries a copy of click without exporting this.
_INTERRUPTED = 130  # what typer returns after Ctrl-C
_ShellError: type[Exception] = typer.BadParameter.mro()[2]


def main() -> None:
    """Entry point: what goes wrong ends in one line on stderr and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a request to end is heard as Ctrl-C is
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            _leave("interrupted")
        sys.exit(code)
    except InterruptedCommandError as error:
        _leave(str(error))
    except _ShellError as error:
        _stop(_explained(error), 2)
    except ValueError as error:
        _stop(str(error), 2)
    except (OSError, RuntimeError) as error:
        _stop(str(error), 1)


app.command()(train)
app.command()(status)
app.command()(claims)
app.command()(pdf)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Any number of -p NAME VALUE change parameters; VALUE is YAML, such as 0.1 or '[1, 2]'.",
)
def notebook(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A notebook of the book, such as 05_regularisation.")],
    profile: Profile = "quick",
    output_dir: Annotated[
        Path, typer.Option(help="Where the executed notebook goes.", callback=folder_to_write)
    ] = Path("build/notebooks"),
    results: Results = RESULTS,
    jobs: Jobs = 0,
    device: Device = None,
    scheduler: Scheduler = None,
) -> None:
    """Run one notebook with the profile's parameters, changed by any number of -p NAME VALUE."""
    changes = _changes(context.args)
    with trained_at(device, scheduler), interruptible(results):
        print(notebooks.run_notebook(name, profile, changes, output_dir, results, _jobs(jobs)))


@app.command()
def reproduce(
    profile: Profile = "quick",
    results: Results = RESULTS,
    build: Build = BUILD,
    jobs: Jobs = 0,
    device: Device = None,
    scheduler: Scheduler = None,
) -> None:
    """Train what the store does not hold yet, run every notebook, build the book. A chapter that the profile leaves out is made
    under `quick`.
    """
    given = profiles.profile_runs(profile)  # wrong parameters stop here, before anything is done
    chapters = {name: (profile if name in given else "quick", results) for name in profiles.NOTEBOOKS}
    with trained_at(device, scheduler), interruptible(results):
        failed = _build_book(chapters, build, _jobs(jobs))
    shown = [
        run
        for name, (used, _) in chapters.items()
        for run in profiles.parameters_of(name, used, {}, ".", 1).runs()
    ]
    report(shown, results, pages=failed)


@app.command()
def book(
    build: Build = BUILD,
    picture: Annotated[
        Path | None,
        typer.Option(help="Save the picture that README shows to this file.", callback=file_to_write),
    ] = None,
) -> None:
    """Build the book from the committed results, training nothing: each chapter under the profile `paper` where its runs are
    complete, else under `quick`.
    """
    shown = {name: profiles.published_profile(name, PUBLISHED) for name in profiles.NOTEBOOKS}
    chapters = {name: (profile, PUBLISHED / profile) for name, profile in shown.items()}
    claims_chapter = ClaimsParameters.chapter  # reads the others' runs, each under its own profile
    chapters[claims_chapter] = (shown[claims_chapter], PUBLISHED)
    report([], PUBLISHED, pages=_build_book(chapters, build, jobs=1))
    if picture is not None:
        notebooks.save_figure(build / "notebooks" / "05_regularisation.ipynb", "fig-accuracy", picture)


@app.command()
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
                train_many(left, store, _jobs(jobs))
            except SweepError as error:
                failed |= error.reasons
    report([run for runs in wanted.values() for run in runs], results, failed)


@app.command()
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
            found = train_many(runs, ResultStore(results), _jobs(jobs))
        for index, (place, candidates) in enumerate(zip(places, tried, strict=True)):
            rows[place] = tuning.chosen(candidates, found[index * plan.trials : (index + 1) * plan.trials])
        write_whole(file, tuning.settings_text(profile, rows.values()))
        print(tuning.settings_text(profile, [rows[place] for place in places]), end="", flush=True)


@app.command()
def tune_preset(
    results: Results = tuning.TRIALS,
    jobs: Jobs = 0,
    device: Device = None,
    scheduler: Scheduler = None,
) -> None:
    """Try the settings from which the preset recommended was chosen, on the tuning seed; print how each did, and the choice."""
    with trained_at(device, scheduler), interruptible(results):
        found = train_many(preset_search.all_trials(), ResultStore(results), _jobs(jobs))
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


def _build_book(chapters: dict[str, tuple[str, Path]], build: Path, jobs: int) -> list[str]:
    """Each chapter under its profile and from its results; then the site. Returns what is said of chapters that failed."""
    notebooks.copy_book(build)
    folder = build / "notebooks"
    seconds: dict[str, float] = {}
    failed: list[str] = []
    for name, (profile, results) in chapters.items():
        try:
            seconds[name] = _timed(
                name,
                lambda name=name, profile=profile, results=results: notebooks.run_notebook(
                    name, profile, {}, folder, results, jobs
                ),
            )
        except notebooks.NotebookFailedError as error:
            failed.append(str(error))
            notebooks.write_excuse(name, error, folder)
    write_whole(build / TABLE, status_table(chapters, seconds))
    _timed("book", lambda: notebooks.build_site(build, complete=not failed))
    print(f"open {build / '_build' / 'html' / 'index.html'}")
    return failed


def _timed(what: str, action: Callable[[], object]) -> float:
    """Do it, say so, and return the seconds it took."""
    print(f"{what} ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    action()
    seconds = time.monotonic() - start
    print(f"{what}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return seconds


def _jobs(jobs: int) -> int:
    if jobs < 0:
        raise ValueError(f"jobs = {jobs}: must be 0 (one per core) or more")
    return jobs or len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )


def _changes(arguments: list[str]) -> dict[str, Any]:
    """-p NAME VALUE, any number of times: typer has no options with two values that may be repeated."""
    changes: dict[str, Any] = {}
    while arguments:
        flag, *rest = arguments
        if flag not in ("-p", "--parameter"):
            raise ValueError(f"{flag}: is no option of notebook; parameters are changed by -p NAME VALUE")
        if len(rest) < 2:
            raise ValueError(f"{flag} {' '.join(rest)}: needs a name and a value")
        name, text, *arguments = rest
        changes[name] = profiles.read_yaml(name, text)
    return changes


def _explained(error: Exception) -> str:
    """Typer's message, with the value it is about, which typer leaves out."""
    message = str(getattr(error, "format_message", error.__str__)())
    for option in getattr(getattr(error, "param", None), "opts", []):
        if option in sys.argv[:-1]:
            return f"{message} (given: {sys.argv[sys.argv.index(option) + 1]!r})"
    return message


def _leave(message: str) -> NoReturn:
    """End now: who interrupts is not to wait while Python takes itself apart, which with PyTorch takes a second or more."""
    print(f"lra-companion: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)


def _stop(message: str, code: int) -> NoReturn:
    if message:  # typer has already printed the help where no command was given
        print(f"lra-companion: {message}", file=sys.stderr)
    raise SystemExit(code)
