"""Locks between processes, any number of them in one file: a byte for each.

The operating system lifts a lock when its process ends, however it ends, so that none is ever stale.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

_NO_LOCKS_HERE = (
    errno.ENOSYS,
    errno.ENOLCK,
    errno.EOPNOTSUPP,
)  # some network file systems: then there are none

# A process loses all its locks of a file as soon as it closes the file, wherever it had opened it: so it never does.
_handles: dict[Path, int] = {}


def take(file: Path, place: int, wait: bool = False) -> bool:
    """Lock a byte of the file, made for it with its folder. False where another process holds it, unless ``wait``.

    place: of the byte, below 2^63. Raises OSError where the file cannot be made.
    """
    try:
        fcntl.lockf(_handle(file), fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, place)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
    return True


def release(file: Path, place: int) -> None:
    """Unlock what this process has locked."""
    try:
        fcntl.lockf(_handle(file), fcntl.LOCK_UN, 1, place)
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise


def _handle(file: Path) -> int:
    file = file.absolute()
    if file not in _handles or not _is(file, _handles[file]):
        file.parent.mkdir(parents=True, exist_ok=True)
        _handles[file] = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    return _handles[file]


def _is(file: Path, handle: int) -> bool:
    """Whether the open file is still the one of this name."""
    try:
        return os.path.samestat(file.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
