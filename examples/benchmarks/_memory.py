"""How far the memory of this process grows while something runs."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

MEGABYTE = 1e6
SECONDS_BETWEEN_LOOKS = 0.0005


class MemoryGrowth:
    """Watch this process in a `with` block; `megabytes` is None where there is no /proc."""

    megabytes: float | None = None

    def __enter__(self) -> MemoryGrowth:
        self._before = self._peak = anonymous_memory() or 0.0
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(SECONDS_BETWEEN_LOOKS):
            self._look()

    def _look(self) -> None:
        self._peak = max(self._peak, anonymous_memory() or 0.0)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._watcher.join()
        self._look()
        if self._before:
            self.megabytes = self._peak - self._before


def anonymous_memory() -> float | None:
    """Return resident megabytes that are no pages of files; None where there is no /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith("RssAnon:")]
    return found[0] * 1024 / MEGABYTE if found else None
