"""The loops over time as machine code, where this machine has a C compiler; without one PyTorch does the same, slower.

``native/recurrence.c`` is compiled when it is first needed, for this very processor, and kept in the user's cache folder. CC
names another compiler, and LRA_COMPANION_COMPILED=0 does without. Both ways give the same numbers but for rounding.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lra_companion.network import Parameters, Trajectory

LOSSES = {"mse": 0, "log_penalty": 1, "huber": 2, "l1": 3}
"""Local losses that ``targets`` knows, by their number there."""

_SOURCES = Path(__file__).parent / "native"
_REAL = {torch.float32: "float", torch.float64: "double"}
_FLAGS = ["-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared"]
_FOR_THIS_PROCESSOR = [["-march=native", "-mprefer-vector-width=512"], ["-march=native"], ["-mcpu=native"]]
_COMPILE_SECONDS = 120  # what takes longer hangs

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Library:
    functions: ctypes.CDLL
    made_by: str  # compiler and width of vectors: what the last bits of a result depend on


def available(like: Tensor) -> bool:
    """Whether this module computes on tensors like this one: on the CPU, float32 or float64, a compiler at hand."""
    return like.device.type == "cpu" and like.dtype in _REAL and _library(like.dtype) is not None


def made_by() -> str | None:
    """What compiled the code for float32, and for which width of vectors; None where PyTorch does the work."""
    library = _library(torch.float32)
    return None if library is None else library.made_by


def tanh(x: Tensor) -> Tensor:
    """The tanh that all functions here use: within three units of the last place in float32."""
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    _functions(x).tanh_all(_address(x.contiguous()), _address(result), _size(x.numel()))
    return result


def states(driven: Tensor, w_hh: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(1)  h (T, R, B, H) and z (T + 1, R, B, H), z[0] being ``start`` (R, B, H) or zeros, of driven (T, R, B, H).

    Raises MemoryError.
    """
    driven = driven.contiguous()
    h = torch.empty_like(driven)
    z = driven.new_empty(driven.shape[0] + 1, *driven.shape[1:])
    z[0] = 0 if start is None else start
    failed = _functions(driven).states(
        _address(driven), _address(w_hh.contiguous()), _address(h), _address(z), *map(_size, driven.shape)
    )
    if failed:
        raise MemoryError("no memory for the states of one network")
    return h, z


def last_state(driven: Tensor, w_hh: Tensor) -> Tensor:
    """(1)  z_T (R, B, H), the same as from ``states``, with no other kept. Raises MemoryError."""
    driven = driven.contiguous()
    z = driven.new_zeros(driven.shape[1:])
    failed = _functions(driven).states(
        _address(driven), _address(w_hh.contiguous()), None, _address(z), *map(_size, driven.shape)
    )
    if failed:
        raise MemoryError("no memory for the states of one network")
    return z


def readout(state: Tensor, w_hy: Tensor, b_y: Tensor) -> Tensor:
    """(2)  o (R, B, O) of states (R, B, H). Raises MemoryError."""
    runs, batch, hidden = state.shape
    outputs = state.new_empty(runs, batch, w_hy.shape[-1])
    failed = _functions(state).readout(
        *map(_address, (state.contiguous(), w_hy.contiguous(), b_y.contiguous(), outputs)),
        *map(_size, (runs, batch, hidden, w_hy.shape[-1])),
    )
    if failed:
        raise MemoryError("no memory for the outputs of one network")
    return outputs


@dataclass(frozen=True)
class Targets:
    """What ``targets`` finds: (R, T, B, H), but target (T, R, B, H), omega (T, R) and rescaled (R,). See ``learners.lra``."""

    target: Tensor
    error: Tensor
    lower: Tensor | None
    upper: Tensor | None
    input_omega: Tensor | None
    omega: Tensor | None
    rescaled: Tensor


def targets(
    parameters: Parameters,
    trajectory: Trajectory,
    driven: Tensor,
    targets: Tensor,
    settings: Tensor,
    inner_steps: int,
    local_loss: str,
    clips: bool,
    regularised: bool,
    input_regularised: bool,
    measured: bool,
) -> Targets:
    """(4, 7)  All targets of R runs, and what eq. 6 needs of each step.

    driven: the inputs' part of eq. 1 (T, R, B, H). targets: (R, B) or (R, B, O), as in ``Batch``. settings: (R, 9), the
    columns of ``setting`` in recurrence.c. ``regularised``: Ω acts; ``measured``: its value is wanted all the same. Raises
    MemoryError.
    """
    (steps, runs, batch, hidden), outputs = driven.shape, parameters.w_hy.shape[-1]
    stacked = (runs, steps, batch, hidden)
    found = Targets(
        target=torch.empty_like(driven),
        error=driven.new_empty(stacked),
        lower=driven.new_empty(stacked) if regularised else None,
        upper=driven.new_empty(stacked) if regularised else None,
        input_omega=driven.new_zeros(stacked) if input_regularised else None,
        omega=driven.new_empty(steps, runs) if measured else None,
        rescaled=driven.new_zeros(runs),
    )
    values = targets.to(driven.dtype).contiguous() if targets.is_floating_point() else None
    classes = targets.contiguous() if values is None else None
    weights = (tensor.contiguous() for tensor in (parameters.w_hh, parameters.w_hy, parameters.b_y))
    inputs = (trajectory.h, trajectory.z, driven, *weights, classes, values, settings)
    failed = _functions(driven).targets(
        *map(_address, (*inputs, *vars(found).values())),
        *map(_size, (steps, runs, batch, hidden, outputs, inner_steps)),
        LOSSES[local_loss],
        int(clips),
    )
    if failed:
        raise MemoryError("no memory for the targets of one network")
    return found


def _address(tensor: Tensor | None) -> ctypes.c_void_p | None:
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


_size = ctypes.c_long


def _functions(like: Tensor) -> ctypes.CDLL:
    library = _library(like.dtype)
    assert library is not None
    return library.functions


@functools.cache
def _library(dtype: torch.dtype) -> _Library | None:
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None or os.environ.get("LRA_COMPANION_COMPILED") == "0":
        return None
    try:
        version = subprocess.run(
            [compiler, "--version"], capture_output=True, text=True, check=True, timeout=_COMPILE_SECONDS
        ).stdout.splitlines()[0]
        functions = ctypes.CDLL(str(_compiled(compiler, version, _REAL[dtype])))
        if not _computes_right(functions, dtype):
            raise RuntimeError("the compiled code computes something else than PyTorch")
    except (OSError, subprocess.SubprocessError, RuntimeError, IndexError) as error:
        _log.warning("recurrence.c: %s; PyTorch does without, slower", error)
        return None
    return _Library(functions, f"{version}; vectors of {functions.vector_bytes()} bytes")


def _compiled(compiler: str, version: str, real: str) -> Path:
    """The shared library, from the cache or made now; it appears whole, whoever else is making it."""
    sources = [
        file.read_text(encoding="utf-8") for file in sorted(_SOURCES.iterdir()) if file.suffix in (".c", ".h")
    ]
    identity = [*sources, version, real, *_FLAGS, platform.machine(), _processor()]
    name = f"recurrence-{hashlib.sha256('|'.join(identity).encode()).hexdigest()[:16]}-{real}.so"
    for folder in (_cache(), Path(tempfile.mkdtemp(prefix="lra-companion-"))):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    draft = Path(scratch) / name
                    _compile(compiler, real, draft)
                    draft.replace(folder / name)
            return folder / name
        except OSError as error:
            failure = error
    raise failure


def _compile(compiler: str, real: str, target: Path) -> None:
    message = ""
    for flags in [*_FOR_THIS_PROCESSOR, []]:
        command = [
            compiler,
            *_FLAGS,
            *flags,
            f"-DREAL={real}",
            str(_SOURCES / "recurrence.c"),
            "-o",
            str(target),
            "-lm",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMPILE_SECONDS)
        if done.returncode == 0:
            return
        message = done.stderr.strip()
    raise RuntimeError(f"does not compile: {message[-200:]}")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lra-companion"


def _processor() -> str:
    """What tells processors apart: a home folder may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features")
    return "|".join(sorted({line for line in lines if line.startswith(wanted)}))


def _computes_right(functions: ctypes.CDLL, dtype: torch.dtype) -> bool:
    """One step of a small network against PyTorch: a compiler may be broken, a library stale."""
    generator = torch.Generator().manual_seed(0)
    driven, w_hh = (
        torch.randn(shape, generator=generator, dtype=dtype) for shape in ((2, 1, 7, 19), (1, 19, 19))
    )
    h, z = torch.empty_like(driven), driven.new_zeros(3, 1, 7, 19)
    sizes = map(_size, driven.shape)
    if functions.states(*map(_address, (driven, w_hh, h, z)), *sizes):
        return False
    expected = torch.tanh(driven[1] + torch.tanh(driven[0]) @ w_hh)
    return torch.allclose(z[2], expected, rtol=0, atol=1e-5)
