"""A line on stderr that counts rows, where the work takes longer than a few seconds."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO

from lossnoise.audit._select import Chunk

# Seconds from the first rows to the first line, between lines on a terminal, and between those of
# a log file. What libraries take to load before does not count: few rows are read in no time.
PATIENCE, ON_TERMINAL, IN_LOG = 2.0, 0.2, 10.0


class Ticker:
    """Counts the rows of passes over a file.

    Parameters
    ----------
    quiet : bool
        Whether to say nothing.
    stream : text file, optional
        Where to say it; by default stderr.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        found = stream or sys.stderr  # None where it was closed
        self._quiet = quiet or found is None
        self._stream = found or io.StringIO()
        self._terminal = self._stream.isatty()
        self._next: float | None = None

    def count(self, chunks: Iterable[Chunk], work: str) -> Iterator[Chunk]:
        """Yield the chunks of a pass, and say how many rows there were so far."""
        width = 0
        try:
            for chunk in chunks:
                if self._next is None:
                    self._next = time.monotonic() + PATIENCE
                if not self._quiet and time.monotonic() >= self._next:
                    line = f"lossnoise: {work}: {chunk.start + len(chunk.labels):,} rows"
                    width = len(line)
                    self._say(line)
                yield chunk
        finally:
            if width and self._terminal:
                self._stream.write(f"\r{' ' * width}\r")
                self._stream.flush()

    def _say(self, line: str) -> None:
        self._stream.write(f"\r{line}" if self._terminal else f"{line}\n")
        self._stream.flush()
        self._next = time.monotonic() + (ON_TERMINAL if self._terminal else IN_LOG)
