"""Results on disk: the only module that touches result files.

One JSON file per run, named by the run's key, so that a run is found again exactly if it would compute the same thing. A file
is written under a temporary name and renamed, and carries a checksum: it is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import torch

from lra_companion import compiled
from lra_companion.config import METHOD_VERSION, RunConfig, parse
from lra_companion.training import RunResult

FORMAT = 1
_RESULT_FIELDS = (
    "status",
    "iterations",
    "validation_accuracy",
    "test_accuracy",
    "history",
    "duration_seconds",
)


class DamagedResultError(Exception):
    """A result file that is truncated, altered or not ours."""


class ResultStore:
    """Results of runs in one folder. Safe to share between processes: files appear whole.

    A damaged file is renamed to ``*.damaged`` and counts as missing, so that its run is done again.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __contains__(self, config: RunConfig) -> bool:
        """Whether a sound result of this run is here."""
        return self.get(config) is not None

    def get(self, config: RunConfig) -> RunResult | None:
        """The stored result of this run, or None."""
        return self._read(self._file(config))

    def put(self, result: RunResult, made_with: dict[str, Any] | None = None) -> None:
        """Keep a result. made_with: ``environment`` where it was trained, if that was not the CPU here.

        Raises OSError if the folder cannot be written; what was there before is then untouched.
        """
        write_whole(self._file(result.config), _encode(result, made_with or environment()))

    def made_with(self, config: RunConfig) -> dict[str, Any] | None:
        """What the stored result of this run was made with (``environment`` then and there), or None."""
        try:
            made_with: dict[str, Any] = _decode(self._file(config).read_text(encoding="utf-8"))["made_with"]
        except (FileNotFoundError, DamagedResultError, UnicodeDecodeError):
            return None
        return made_with

    def load_all(self) -> Iterator[RunResult]:
        """Every sound result in the folder, in the order of their keys."""
        for file in sorted(self.path.glob("*.json")):
            result = self._read(file)
            if result is not None:
                yield result

    def damaged(self) -> list[Path]:
        """Files that were set aside, those of runs in mid-training too."""
        return sorted(self.path.rglob("*.damaged"))

    def _file(self, config: RunConfig) -> Path:
        return self.path / f"{config.key()}.json"

    def _read(self, file: Path) -> RunResult | None:
        try:
            content = _decode(file.read_text(encoding="utf-8"))
            if content["made_with"]["method"] != METHOD_VERSION:
                return None  # sound, but of a method that computes something else
            return _result(content, file.stem)
        except FileNotFoundError:
            return None
        except (DamagedResultError, UnicodeDecodeError):
            with contextlib.suppress(OSError):  # another process was first, or the folder is read-only
                file.replace(file.with_suffix(".damaged"))
            return None


def write_whole(target: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, in a folder that may have to be made. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".writing-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def environment(device: str = "cpu") -> dict[str, Any]:
    """What the last bits of a result made on ``cpu`` or ``cuda`` depend on. ``compiled`` is None where PyTorch computed what C
    can (``compiled``).
    """
    on_cpu = device == "cpu"
    return {
        "lra_companion": importlib.metadata.version("lra-companion"),
        "method": METHOD_VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "device": device if on_cpu else f"{device}: {torch.cuda.get_device_name()}",
        "processor": platform.machine(),
        "compiled": compiled.made_by() if on_cpu else None,
    }


def _encode(result: RunResult, made_with: dict[str, Any]) -> str:
    content = {
        "config": result.config.model_dump(mode="json"),
        **{name: getattr(result, name) for name in _RESULT_FIELDS},
        "made_with": made_with,
    }
    text = _canonical(content)
    return json.dumps(
        {"format": FORMAT, "sha256": _checksum(text), "content": content}, separators=(",", ":")
    )


def _decode(text: str) -> dict[str, Any]:
    """Content of a result file, its checksum verified."""
    try:
        document = json.loads(text)
        content: dict[str, Any] = document["content"]
        if document["format"] != FORMAT or document["sha256"] != _checksum(_canonical(content)):
            raise DamagedResultError("checksum or format differs")
        int(content["made_with"]["method"])
        return content
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedResultError(str(error)) from error


def _result(content: dict[str, Any], key: str) -> RunResult:
    try:
        config = parse(RunConfig, content["config"])
        fields = {name: content[name] for name in _RESULT_FIELDS}
    except (ValueError, KeyError) as error:
        raise DamagedResultError(str(error)) from error
    if config.key() != key:
        raise DamagedResultError("the file's name is not its run's key")
    return RunResult(config=config, **fields)


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
