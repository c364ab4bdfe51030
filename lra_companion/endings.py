"""Commands that end early: what is kept after an interruption, and what failed while all else went on."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path

from lra_companion.config import RunConfig
from lra_companion.store import ResultStore
from lra_companion.unfinished import Unfinished


class EndedEarlyError(RuntimeError):
    """Something failed, and all else was done."""


class InterruptedCommandError(RuntimeError):
    """A command was asked to end."""


@contextlib.contextmanager
def interruptible(results: Path | None) -> Generator[None]:
    """Let an interruption end a command with one line: what is kept, in this folder or nowhere, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedCommandError(
            f"interrupted; finished runs and the last checkpoints of others are kept in {results}, and the same command "
            "goes on from there"
            if results
            else "interrupted; nothing is kept, but with --results FOLDER the same command would go on where it was"
        ) from None


def report(
    runs: Iterable[RunConfig], results: Path, reasons: Mapping[str, str] = {}, pages: Sequence[str] = ()
) -> None:
    """List on stderr which of the runs diverged, which failed and why, what is said of failed pages, and which files were found
    damaged.

    reasons: by key, why runs failed just now; of others the store knows (``Unfinished.failure``), unless its disk was full.
    Raises EndedEarlyError if anything failed. A run that diverged did not: that is its result.
    """
    store = ResultStore(results)
    unfinished = Unfinished(store)
    failed = 0
    for config in {run.key(): run for run in runs}.values():
        result = store.get(config)
        if result is None and (reason := reasons.get(config.key()) or unfinished.failure(config)):
            failed += 1
            _say(f"failed: {config.key()}, {reason}: {described(config)}")
        elif result is not None and result.status == "diverged":
            _say(f"diverged: {config.key()}, at iteration {result.iterations}: {described(config)}")
    for text in pages:
        _say(f"failed: {text}")
    for file in store.damaged():
        _say(f"damaged: {file} was set aside, and is of no use any more")
    what = [counted(failed, "run")] * (failed > 0) + [counted(len(pages), "notebook")] * bool(pages)
    if what:
        raise EndedEarlyError(f"{' and '.join(what)} failed; all else is done")


def described(config: RunConfig) -> str:
    """A run in one line: what it has set otherwise than the defaults."""
    return json.dumps(config.model_dump(mode="json", exclude_defaults=True))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def counted(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number} {noun}{'s' * (number != 1)}"
