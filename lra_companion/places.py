"""Where training happens: on which device, and on which machines. A place is no part of what a run is, and no part of its key.

Notebooks have no parameters for it: the command that starts them says it in environment variables, which their kernels inherit.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Generator

import torch

DEVICE_VARIABLE = "LRA_COMPANION_DEVICE"
SCHEDULER_VARIABLE = "LRA_COMPANION_SCHEDULER"
DEVICES = ("auto", "cpu", "cuda")


def scheduler_address(given: str | None = None) -> str | None:
    """The Dask scheduler whose workers train: the one given, else the environment's; None: this machine trains.

    Raises ValueError for what is no address.
    """
    address = given or os.environ.get(SCHEDULER_VARIABLE) or None
    if address is not None and not re.fullmatch(r"[a-z]+://[^\s/]+:\d+", address):
        raise ValueError(f"scheduler = {address!r}: must be an address such as tcp://192.0.2.1:8786")
    return address


def device_name(given: str | None = None) -> str:
    """The device asked for: the one given, else the environment's, else cpu. Raises ValueError for an unknown name."""
    name = given or os.environ.get(DEVICE_VARIABLE) or "cpu"
    if name not in DEVICES:
        raise ValueError(f"device = {name!r}: must be one of {', '.join(DEVICES)}")
    return name


def usable_device(given: str | None = None) -> str:
    """The device that this process computes on, cpu or cuda; auto takes a GPU where there is one.

    Raises ValueError where cuda is asked for and PyTorch finds no GPU.
    """
    name, found = device_name(given), torch.cuda.is_available()
    if name == "cuda" and not found:
        raise ValueError("device = 'cuda': PyTorch finds no GPU here; cpu or auto are to be had")
    return "cuda" if found and name != "cpu" else "cpu"


@contextlib.contextmanager
def trained_at(device: str | None, scheduler: str | None) -> Generator[None]:
    """While the body runs, train there, in the kernels that it starts too; None leaves things as they are.

    Raises ValueError for a wrong name or address, and where this machine is to train on a device that it lacks.
    """
    if scheduler_address(scheduler) is None:
        usable_device(device)
    wanted = {DEVICE_VARIABLE: device, SCHEDULER_VARIABLE: scheduler}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update({name: value for name, value in wanted.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
