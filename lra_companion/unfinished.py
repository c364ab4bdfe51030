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
from lra_companion.store import ResultStore, write_whole

FOLDER = "unfinished"
INTERVAL = 45.0
"""Seconds between two checkpoints. What takes less than this to compute is not worth one."""


class Unfinished:
    """What is known of a store's runs without a result. It keeps runs in mid-training: see ``runs.Keeper``.

    device: ``cpu`` or ``cuda``, where they are trained; elsewhere their last bits would be others.
    """

    def __init__(self, store: ResultStore, device: str = "cpu") -> None:
        self._store = store
        self._device = device
        self._folder = store.path / FOLDER
        self._locks = self._folder / "locks"
        self._saved = time.monotonic()

    @contextlib.contextmanager
    def claimed(self, configs: Sequence[RunConfig]) -> Generator[list[RunConfig]]:
        """Those of the runs that no other process trains or has stored; while the body runs none will. Raises OSError."""
        with contextlib.ExitStack() as held:
            mine = []
            for config in configs:
                if locks.take(self._locks, _place(config)):
                    held.callback(locks.release, self._locks, _place(config))
                    if config not in self._store:
                        mine.append(config)
            yield mine

    def wait_for(self, config: RunConfig) -> None:
        """Return when no other process trains this run any more."""
        locks.take(self._locks, _place(config), wait=True)
        locks.release(self._locks, _place(config))

    def load(self, config: RunConfig) -> RunState | None:
        """The run as its checkpoint has it; None without one that can be gone on with here. A damaged one is renamed to
        ``*.damaged``.
        """
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
            write_whole(self._file(config, "failed"), json.dumps(content))

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

    def _file(self, config: RunConfig, kind: str) -> Path:
        return self._folder / f"{config.key()}.{kind}"


def _place(config: RunConfig) -> int:
    """Of a run's lock: its key, short of a bit, for places are signed."""
    return int(config.key(), 16) >> 1
