"""The loops over time as machine code, where this machine has a C compiler; without one PyTorch does the same, slower.

``recurrence.c`` is compiled when it is first needed, for this very processor, and kept in the user's cache folder. CC names
another compiler, and LRA_COMPANION_COMPILED=0 does without. Both ways give the same numbers but for rounding.
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

import torch
from torch import Tensor

LOSSES = {"mse": 0, "log_penalty": 1, "huber": 2, "l1": 3}
"""Local losses that ``targets`` knows, by their number there."""

_SOURCE = Path(__file__).with_name("recurrence.c")
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


def targets(
    h: Tensor,
    z: Tensor,
    driven: Tensor,
    w_hh: Tensor,
    settings: Tensor,
    target: Tensor,
    inner_steps: int,
    local_loss: str,
    regularised: bool,
    clips: bool,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(7)  Fill in target (T, R, B, H), whose last step is given, from the trajectory h, z of the inputs' part ``driven``.

    settings: (R, 6) with beta, alpha of Ω on targets, the scale of g^k, the two factors of ``stability.Clipping``, and whether
    Ω's scope is "example". Returns d_t before its reduction (R, T, B, H); d_t W_hh^T of t >= 2 (R, T, B, H), 0 at t = 1, where
    ``regularised`` asks for it; and how many target steps eq. 3 rescaled (R,). Raises MemoryError.
    """
    steps, runs, batch, hidden = driven.shape
    error = driven.new_empty(runs, steps, batch, hidden)
    pulled_back = torch.zeros_like(error) if regularised else None
    rescaled = driven.new_zeros(runs)
    failed = _functions(driven).targets(
        *map(_address, (h, z, driven, w_hh.contiguous(), settings, target, error, pulled_back, rescaled)),
        *map(_size, (steps, runs, batch, hidden, inner_steps)),
        LOSSES[local_loss],
        int(clips),
    )
    if failed:
        raise MemoryError("no memory for the targets of one network")
    return error, pulled_back, rescaled


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
    identity = [_SOURCE.read_text(encoding="utf-8"), version, real, *_FLAGS, platform.machine(), _processor()]
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
        command = [compiler, *_FLAGS, *flags, f"-DREAL={real}", str(_SOURCE), "-o", str(target), "-lm"]
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
