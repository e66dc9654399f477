"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_open(path: str | os.PathLike[str], mode: str = "w", **options: Any) -> Iterator[IO[Any]]:
    """Open a file that takes the place of `path` when the block ends without an error.

    Until then `path` keeps what it held; after an error nothing is left behind. A file that is
    replaced hands on its permissions.
    """
    target = Path(path)
    # In the same folder, because only inside one file system is the move atomic.
    writer = f"{os.getpid()}-{threading.get_ident()}"
    temporary = target.with_name(f".{target.name}.{writer}.tmp")
    try:
        with _open(temporary, target, mode, options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a crash may leave an empty file under the final name
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error  # of a full disk
    finally:
        temporary.unlink(missing_ok=True)


def _open(temporary: Path, target: Path, mode: str, options: dict[str, Any]) -> IO[Any]:
    try:
        return open(temporary, mode, **options)
    except OSError as error:  # names the file that was asked for
        raise type(error)(error.errno, error.strerror, str(target)) from None
