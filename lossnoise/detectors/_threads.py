"""Long arrays in as many stretches as threads may work on them.

Numpy lets go of the interpreter while it computes, so that threads share the work on one array,
in its place. Results do not depend on their number: what is added up is added without rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

SHORTEST = 1 << 20  # losses for which a further thread is worth its start
MOST = 4  # threads: more of them wait for memory, and for each other
LIMIT = "OMP_NUM_THREADS"  # joblib and torchrun set it for their processes


def in_threads(work: Callable[[slice], Result], length: int) -> list[Result]:
    """Return what `work` makes of each stretch of an array, in the order of the stretches.

    Parameters
    ----------
    work : callable
        Gets a slice; slices do not overlap, and threads call it at the same time.
    length : int
        Of the array.
    """
    count = max(1, min(length // SHORTEST, _allowed()))
    stretches = [slice(length * k // count, length * (k + 1) // count) for k in range(count)]
    if count == 1:
        return [work(stretches[0])]
    with ThreadPoolExecutor(count) as pool:
        try:
            futures = [pool.submit(work, stretch) for stretch in stretches]
        except RuntimeError:  # the interpreter is about to end, and starts no threads
            return [work(stretch) for stretch in stretches]
        return [future.result() for future in futures]


def _allowed() -> int:
    """Return how many threads this process may use: what `LIMIT` says, else its processors."""
    said = os.environ.get(LIMIT, "")
    if said.isdecimal() and int(said) > 0:
        return min(MOST, int(said))
    if hasattr(os, "sched_getaffinity"):
        return min(MOST, len(os.sched_getaffinity(0)))
    return min(MOST, os.cpu_count() or 1)
