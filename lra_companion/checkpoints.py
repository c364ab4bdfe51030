"""Runs in mid-training on disk: one safetensors file per run, beside the results (``unfinished``).

Tensors and, in the file's header, as JSON, all else that a ``RunState`` holds, with a checksum over both. A checkpoint is gone
on with only where the last bits of a result would be the same: by this method, and in the ``environment`` that wrote it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from lra_companion.config import RunConfig
from lra_companion.runs import RunState
from lra_companion.store import environment

FORMAT = 1
"""Raised whenever a RunState, an optimiser or a learner keeps something else than before."""

_VALUES = tuple(item.name for item in fields(RunState) if item.name not in ("config", "tensors"))


class DamagedCheckpointError(Exception):
    """A checkpoint that is truncated, altered or not ours."""


def encode(state: RunState, device: str) -> bytes:
    """The checkpoint of a run that is trained on ``cpu`` or ``cuda``."""
    content = {
        "format": FORMAT,
        "config": state.config.model_dump(mode="json"),
        **{name: getattr(state, name) for name in _VALUES},
        "made_with": environment(device),
    }
    text = json.dumps(content, separators=(",", ":"))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    header = {"content": text, "sha256": _checksum(text, tensors)}
    return safetensors.torch.save(tensors, metadata=header)


def read(file: Path, config: RunConfig, device: str) -> RunState | None:
    """The run in a checkpoint of ``config``'s, its tensors on the CPU; None where there is no file, or one that cannot be gone
    on with here, on ``cpu`` or ``cuda``.

    Raises DamagedCheckpointError.
    """
    try:
        with safetensors.safe_open(file, "pt") as opened:
            header = opened.metadata()
            tensors: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        text = header["content"]
        if header["sha256"] != _checksum(text, tensors):
            raise DamagedCheckpointError("its checksum differs")
        content = json.loads(text)
        if (content["format"], content["made_with"]) != (FORMAT, environment(device)):
            return None
        if content["config"] != config.model_dump(mode="json"):
            raise DamagedCheckpointError("it is of another run")
        return RunState(config, **{name: content[name] for name in _VALUES}, tensors=tensors)
    except FileNotFoundError:
        return None
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(str(error)) from error


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
