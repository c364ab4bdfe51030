"""Work for processes of their own, which tests start, watch and kill."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lra_companion import chunks, sweep, unfinished
from lra_companion.config import RunConfig
from lra_companion.store import ResultStore

_CONTEXT = multiprocessing.get_context(
    "forkserver"
)  # each a fork of one that has imported all there is, and no more
_CONTEXT.set_forkserver_preload(["lra_companion.cli", "torch._dynamo", "processes"])


def started(work: Callable[..., None], *arguments: Any) -> Any:
    """A process that does this, on one thread, in the environment that is now."""
    process = _CONTEXT.Process(target=_alone, args=(work, arguments, dict(os.environ)))
    process.start()
    return process


def _alone(work: Callable[..., None], arguments: tuple[Any, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)  # the server's may be an earlier one
    torch.set_num_threads(1)
    work(*arguments)
    os._exit(0)  # joblib's threads would keep a child of multiprocessing from ending


def unfinished_files(folder: Path, kind: str = "*") -> list[Path]:
    """What lies in a store's folder of unfinished runs, its locks and what a killed process was just writing apart."""
    found = (folder / unfinished.FOLDER).glob(f"*.{kind}")
    return sorted(file for file in found if not file.name.startswith(".writing-"))


def train_into(
    folder: Path, configs: Sequence[RunConfig], interval: float = 30.0, jobs: int = 1, log: Path | None = None
) -> None:
    """Train these, with a checkpoint every so many seconds; note in a file which were trained, and how far they were."""
    unfinished.INTERVAL = interval
    run_group = chunks.run_group

    def noting(chosen: Sequence[RunConfig], **how: Any) -> Any:
        if log is not None:
            with log.open("a") as file:
                file.writelines(f"{config.key()} {_iteration(how['keeper'], config)}\n" for config in chosen)
        return run_group(chosen, **how)

    chunks.run_group = noting
    sweep.train_many(configs, ResultStore(folder), jobs, progress=False)


def _iteration(keeper: unfinished.Unfinished, config: RunConfig) -> int:
    state = keeper.load(config)
    return state.iteration if state else 0
