"""Runs of a store that have no result yet, in its folder ``unfinished``: who trains them, how far they are, why they failed.

A run is trained by the process that holds its lock. Its checkpoint is renewed at intervals and removed when its result is
stored; so is the record of a failure. What is lost with this folder is time, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from lra_companion import checkpoints, locks
from lra_companion.checkpoints import DamagedCheckpointError
from lra_companion.config import RunConfig
from lra_companion.runs import RunState
from lra_companion.store import WRITING, ResultStore, write_whole

FOLDER = "unfinished"
INTERVAL = 30.0
"""Seconds between two checkpoints. What a run takes less than this to compute is not worth one."""


class Unfinished:
    """What is known of a store's runs without a result. It keeps runs in mid-training, on ``device``: see ``runs.Keeper``."""

    def __init__(self, store: ResultStore, device: str = "cpu") -> None:
        self._store, self._device = store, device
        self._folder = store.path / FOLDER
        self._saved = time.monotonic()

    @contextlib.contextmanager
    def claimed(self, configs: Sequence[RunConfig]) -> Generator[list[RunConfig]]:
        """Those of the runs that no other process trains or has stored; while the body runs none will. Raises OSError."""
        with contextlib.ExitStack() as held:
            mine = []
            for config in configs:
                if not self._claim(config, held):
                    continue
                if config not in self._store:
                    mine.append(config)
            yield mine

    def _claim(self, config: RunConfig, held: contextlib.ExitStack) -> bool:
        file = self._file(config, "lock")
        handle = locks.acquire(file)
        if handle is None:
            return False
        held.callback(self._tidy)
        held.callback(locks.release, file, handle)
        return True

    def wait_for(self, config: RunConfig) -> None:
        """Return when no process trains this run any more."""
        file = self._file(config, "lock")
        if file.exists():
            handle = locks.acquire(file, wait=True)
            assert handle is not None
            locks.release(file, handle)
            self._tidy()

    def load(self, config: RunConfig) -> RunState | None:
        """The run as its checkpoint has it, or None. A damaged one is renamed to ``*.damaged``."""
        file = self._file(config, "safetensors")
        try:
            return checkpoints.read(file, config, self._device)
        except DamagedCheckpointError:
            with contextlib.suppress(OSError):  # another process was first, or the folder is read-only
                file.replace(file.with_suffix(".damaged"))
            return None

    def due(self) -> bool:
        """Whether runs have gone without a checkpoint for long enough."""
        return time.monotonic() - self._saved >= INTERVAL

    def save(self, states: Sequence[RunState]) -> None:
        """Renew the checkpoints of these runs. Raises OSError; earlier ones are then untouched."""
        for state in states:
            write_whole(self._file(state.config, "safetensors"), checkpoints.encode(state, self._device))
        self._saved = time.monotonic()

    def fail(self, config: RunConfig, reason: str) -> None:
        """Record why a run failed, in one line. Where the disk is full there is no record."""
        content = {"config": config.model_dump(mode="json"), "reason": reason}
        with contextlib.suppress(OSError):
            write_whole(self._file(config, "failed"), json.dumps(content).encode())

    def failure(self, config: RunConfig) -> str | None:
        """Why the run failed when it was last tried, or None."""
        try:
            content = json.loads(self._file(config, "failed").read_text(encoding="utf-8"))
            return str(content["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def begin_anew(self, config: RunConfig) -> None:
        """Let nothing be gone on with of this run."""
        self._file(config, "safetensors").unlink(missing_ok=True)

    def forget(self, config: RunConfig) -> None:
        """Its result is stored: neither checkpoint nor failure is needed any more."""
        self.begin_anew(config)
        self._file(config, "failed").unlink(missing_ok=True)
        for folder in (self._folder, self._store.path):
            for left_behind in folder.glob(f"{WRITING}{config.key()}.*"):  # by a process that was killed
                left_behind.unlink(missing_ok=True)

    def _file(self, config: RunConfig, kind: str) -> Path:
        return self._folder / f"{config.key()}.{kind}"

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):  # something is in it
            self._folder.rmdir()
