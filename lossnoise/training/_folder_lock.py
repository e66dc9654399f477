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
TRIES = 100  # at a folder whose runs end just when they are asked about

_held: dict[Path, IO[str]] = {}  # by this process


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a folder to this run, or raise where another one has it.

    The lock ends with the process, however that ends, and the file that a killed run leaves is no
    lock. Where a file system has none, nothing is kept.
    """
    path = (folder / NAME).resolve()
    with _taken(path) as file:
        _held[path] = file
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield
        finally:
            if _held.pop(path, None) is file:  # or else this is a forked process
                with suppress(OSError):  # Windows removes no open files
                    path.unlink()


@contextmanager
def _taken(path: Path) -> Iterator[IO[str]]:
    """Open the file of a lock that is ours while it is open."""
    for _ in range(TRIES):
        with _open(path) as file:
            if not _take(file):
                raise _in_use(path.parent, _owner(file))
            if _is_at(path, file):  # or else a run that ended just now has removed it
                yield file
                return
    raise _in_use(path.parent, "another run")


def _open(path: Path) -> IO[str]:
    try:
        return open(path, "a+", encoding="utf-8")
    except OSError as error:  # of another user, for instance
        owner, name, expected = "NoisyLabelTrainer", "checkpoint_dir", "a folder to write into"
        reason = f"{path.name} in it cannot be opened: {os.strerror(error.errno or 0)}"
        raise invalid_parameter(owner, name, expected, str(path.parent), reason) from error


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
    """Lock a file, if no other one that is open has it locked; True where there are no locks.

    Not by `lockf`, whose locks end when this process closes the file anywhere, as to copy it does.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS
    return True


def _let_go() -> None:
    """Hold nothing in a forked process: a worker that outlives a killed run would keep its lock."""
    for file in _held.values():
        file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
