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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lra_companion.network import Batch, Parameters, Trajectory

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
    _call("tanh_all", [x, result], [x.numel()])
    return result


def states(driven: Tensor, w_hh: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(1)  h (T, R, B, H) and z (T + 1, R, B, H), z[0] being ``start`` (R, B, H) or zeros, of driven (T, R, B, H).

    This and all that follow raise MemoryError where there is none for one network's arrays.
    """
    _, runs, _, hidden = driven.shape
    _expect(w_hh=(w_hh, (runs, hidden, hidden)))
    h = torch.empty_like(driven, memory_format=torch.contiguous_format)
    z = driven.new_empty(driven.shape[0] + 1, *driven.shape[1:])
    z[0] = 0 if start is None else start
    _call("states", [driven, w_hh, h, z], driven.shape)
    return h, z


def last_state(symbols: Tensor, rows: Tensor, w_hh: Tensor) -> Tensor:
    """(1)  z_T (R, B, H) of symbols (T, R, B), the same as from ``states``; rows (R, I, H): x W_xh + b_h of each symbol.

    Raises IndexError where a symbol has no row.
    """
    runs, inputs, hidden = rows.shape
    _expect(w_hh=(w_hh, (runs, hidden, hidden)), symbols=(symbols, (len(symbols), runs, symbols.shape[2])))
    if symbols.numel() and not 0 <= int(symbols.min()) <= int(symbols.max()) < inputs:
        raise IndexError(f"symbols must lie in 0..{inputs - 1}")
    z = rows.new_empty(*symbols.shape[1:], hidden)
    _call("last_state", [symbols.to(torch.int64), rows, w_hh, z], [*symbols.shape, hidden, inputs])
    return z


def readout(state: Tensor, w_hy: Tensor, b_y: Tensor) -> Tensor:
    """(2)  o (R, B, O) of states (R, B, H)."""
    (runs, size, hidden), units = state.shape, w_hy.shape[-1]
    _expect(w_hy=(w_hy, (runs, hidden, units)), b_y=(b_y, (runs, units)))
    outputs = state.new_empty(runs, size, units)
    _call("readout", [state, w_hy, b_y, outputs], [*state.shape, units])
    return outputs


@dataclass(frozen=True)
class Targets:
    """What ``targets`` finds: target (T, R, B, H); lower, upper and input_upper (R, T, B, H), b_h (R, H), omega and the two
    norms (T, R), rescaled (R,). See ``learners.lra``; lower is None where it is z_{t-1}.
    """

    target: Tensor
    lower: Tensor | None
    upper: Tensor
    input_upper: Tensor
    b_h: Tensor
    omega: Tensor | None
    recurrent_norm: Tensor
    input_norm: Tensor
    rescaled: Tensor


def targets(
    parameters: Parameters,
    trajectory: Trajectory,
    driven: Tensor,
    batch: Batch,
    settings: Tensor,
    inner_steps: int,
    local_loss: str,
    clips_targets: bool,
    clips_weights: bool,
    regularised: bool,
    measured: bool,
) -> Targets:
    """(4, 6, 7)  All targets of R runs, and the factors of each step's weight gradients.

    driven: the inputs' part of eq. 1 (T, R, B, H). settings: (R, 11), the columns of ``setting`` in recurrence.c.
    ``regularised``: Ω acts; ``measured``: its value is wanted all the same.
    """
    steps, runs, size, hidden = driven.shape
    units = parameters.w_hy.shape[-1]
    _expect(
        w_hh=(parameters.w_hh, (runs, hidden, hidden)),
        w_hy=(parameters.w_hy, (runs, hidden, units)),
        b_y=(parameters.b_y, (runs, units)),
        settings=(settings, (runs, 11)),
        targets=(batch.targets, (runs, size, units) if batch.targets.is_floating_point() else (runs, size)),
    )
    stacked, numbers = (runs, steps, size, hidden), (steps, runs)
    found = Targets(
        target=torch.empty_like(driven),
        lower=driven.new_empty(stacked) if regularised else None,
        upper=driven.new_empty(stacked),
        input_upper=driven.new_empty(stacked),
        b_h=driven.new_zeros(runs, hidden),
        omega=driven.new_empty(numbers) if measured else None,
        recurrent_norm=driven.new_empty(numbers),
        input_norm=driven.new_empty(numbers),
        rescaled=driven.new_zeros(runs),
    )
    network = [trajectory.h, trajectory.z, driven, parameters.w_hh, parameters.w_hy, parameters.b_y]
    data = [*_symbols_or_values(batch.inputs, driven), *_symbols_or_values(batch.targets, driven)]
    sizes = [steps, runs, size, parameters.w_xh.shape[1], hidden, units]
    options = [inner_steps, LOSSES[local_loss], clips_targets, clips_weights]
    _call("targets", [*network, *data, settings, *vars(found).values()], [*sizes, *options])
    return found


def _symbols_or_values(data: Tensor, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
    return (None, data.to(like.dtype)) if data.is_floating_point() else (data.to(torch.int64), None)


def _expect(**tensors: tuple[Tensor, tuple[int, ...]]) -> None:
    """C reads what it is told is there: raises ValueError where a tensor has another shape than the sizes that go with it."""
    for name, (tensor, shape) in tensors.items():
        if tensor.shape != shape:
            raise ValueError(f"{name}: shape {tuple(tensor.shape)}, where {shape} is needed")


def _call(name: str, tensors: Sequence[Tensor | None], numbers: Sequence[int]) -> None:
    """Call a function of recurrence.c: first its arrays, then its numbers. Results are written into tensors, so those must be
    contiguous; of others a contiguous copy will do. Raises TypeError where real tensors differ in dtype.
    """
    # Alive until the call is over.
    laid_out = [None if tensor is None else tensor.contiguous() for tensor in tensors]
    addresses = [None if tensor is None else ctypes.c_void_p(tensor.data_ptr()) for tensor in laid_out]
    real = [tensor for tensor in tensors if tensor is not None and tensor.is_floating_point()]
    like = real[0]
    if dtypes := {tensor.dtype for tensor in real} - {like.dtype}:
        raise TypeError(f"{name}: {like.dtype} beside {', '.join(map(str, dtypes))}")
    library = _library(like.dtype)
    assert library is not None
    if getattr(library.functions, name)(*addresses, *map(ctypes.c_long, numbers)):
        raise MemoryError(f"{name}: no memory for the arrays of one network")


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
    for choose in (_cache, _scratch):
        try:
            folder = choose()
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


def _scratch() -> Path:
    """For a machine without a home folder to write in: compiled anew by each process."""
    return Path(tempfile.mkdtemp(prefix="lra-companion-"))


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
    shapes = ((2, 1, 7, 19), (1, 19, 19))
    driven, w_hh = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    h, z = torch.empty_like(driven), driven.new_zeros(3, 1, 7, 19)
    arrays = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (driven, w_hh, h, z)]
    failed = functions.states(*arrays, *map(ctypes.c_long, driven.shape))
    expected = torch.tanh(driven[1] + torch.tanh(driven[0]) @ w_hh)
    return not failed and torch.allclose(z[2], expected, rtol=0, atol=1e-5)
