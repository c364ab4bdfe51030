"""Locks between processes: a file that is locked while it is in use, and removed after.

The operating system lifts a lock when its process dies, however it dies, so that none is ever stale.
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


def acquire(file: Path, wait: bool = False) -> int | None:
    """Lock a file, made for it with its folder; a handle for ``release``. None where another holds it, unless ``wait``.

    Raises OSError where the file cannot be made.
    """
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # another process has just removed the folder
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is(file, handle):
                return handle
            os.close(handle)  # whoever held it has removed the file: this lock would keep nobody out
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in _NO_LOCKS_HERE:
                return handle
            os.close(handle)
            raise


def release(file: Path, handle: int) -> None:
    """Remove the file and unlock."""
    file.unlink(missing_ok=True)
    os.close(handle)


def _is(file: Path, handle: int) -> bool:
    """Whether the open file is the one of this name."""
    try:
        return os.path.samestat(file.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
