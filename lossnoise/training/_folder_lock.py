"""One run a folder: two that write checkpoints into the same one would mix them up."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from lossnoise._validation import invalid_parameter
from lossnoise.exceptions import InvalidParameterError

NAME = ".lock"
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}  # on some network drives

_held: set[Path] = set()  # by this process, in which the lock of the system knows no other


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a folder to this run, or raise where another one has it.

    The lock ends with the process, however that ends, and the file that a killed run leaves does no
    harm. It is not handed on to child processes, so that workers of a killed run do not hold it.
    Where a file system has no locks, nothing is kept.
    """
    path = (folder / NAME).resolve()
    if path in _held:  # not to be opened: to close it again would end the lock
        raise _in_use(folder, _self())
    is_ours = False
    while not is_ours:
        with open(path, "a+", encoding="utf-8") as file:
            if not _take(file):
                raise _in_use(folder, _owner(file))
            is_ours = _is_at(path, file)  # or else a run that ended just now has removed it
            if is_ours:
                file.truncate(0)
                file.write(_self())
                file.flush()
                _held.add(path)
                try:
                    yield
                finally:
                    _held.discard(path)
                    with suppress(OSError):  # Windows removes no open files
                        path.unlink()


def _self() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _in_use(folder: Path, owner: str) -> InvalidParameterError:
    return invalid_parameter(
        "NoisyLabelTrainer",
        "checkpoint_dir",
        "a folder into which no other run writes",
        str(folder),
        f"{owner} trains there now: wait until it ends, or take another folder",
    )


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _owner(file: IO[str]) -> str:
    """Return who holds a lock, as far as can be read."""
    try:
        file.seek(0)
        return file.read(200) or "another process"
    except OSError:  # Windows locks what it holds against reading, too
        return "another process"


def _take(file: IO[str]) -> bool:
    """Lock a file, if no other process has; True also where files cannot be locked."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS
    return True
