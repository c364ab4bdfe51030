"""A Dask cluster of real processes on the loopback address, for tests of training on one; and work for its workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lra_companion.config import RunConfig

ROOT = Path(__file__).parents[1]
WAIT = 90.0  # seconds, on a machine that is busy with something else


class LocalCluster:
    """A scheduler and its workers, each a process with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(file))
        wait_for(file.exists)
        self.address: str = json.loads(file.read_text())["address"]

    def worker(self, name: str, *options: str, method: int | None = None) -> subprocess.Popen[bytes]:
        """Start a worker; ``method``: the METHOD_VERSION it has."""
        options = ("--nthreads", "1", *options)
        return self._start("worker", self.address, "--no-nanny", "--name", name, *options, method=method)

    def _start(self, kind: str, *options: str, method: int | None = None) -> subprocess.Popen[bytes]:
        code = [f"from distributed.cli.dask_{kind} import main", "main()"]
        if method is not None:
            code[:0] = ["from lra_companion import store", f"store.METHOD_VERSION = {method}"]
        home = self.folder / f"{kind}{len(self.processes)}"
        home.mkdir()
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
        }
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", "\n".join(code), *options, "--host", "127.0.0.1", "--no-dashboard"],
                cwd=home,
                env=environment,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End every process that was started here."""
        for process in self.processes:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], Any]) -> Any:
    """The first true answer. Raises TimeoutError."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise TimeoutError("waited in vain")


def deadly(piece: list[RunConfig], store: None, counter: Any, device: str) -> str:
    """Work for a worker that, with one seed, does not survive it."""
    if piece[0].seed == 13:
        os._exit(1)
    return "done"


def slow(piece: list[RunConfig], store: None, counter: Any, device: str) -> str:
    """Work that lasts, and tells of it."""
    for _ in range(1200):
        time.sleep(0.1)
        counter.add(1)
    return "done"
