"""Several processes that train one model: torch's own `torch.distributed`, and exact sums.

Without a process group, every function here is what it is for one process.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lossnoise.exceptions import DistributedError


def is_distributed() -> bool:
    """Tell whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank_and_size() -> tuple[int, int]:
    """Return the number of this process, from 0, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)


def local_device() -> torch.device:
    """Return the device of this process: its own GPU where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if is_distributed() else 0)


@contextmanager
def process_group() -> Iterator[None]:
    """Have a process group where ``torchrun`` started this process, unless there is one already.

    It stays for the life of the process: a second one on the same store would meet the keys of the
    first. An error in a collective means that another process died, and is raised as
    `DistributedError`.
    """
    launched = dist.is_available() and dist.is_torchelastic_launched()
    if launched and not dist.is_initialized() and int(os.environ["WORLD_SIZE"]) > 1:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # collectives go through it
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(_destroy_group)
    with _clear_errors():
        yield


def _destroy_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_distributed() or not _is_lost_connection(error):
            raise
        rank, size = rank_and_size()
        raise DistributedError(
            f"Process {rank} of {size} lost the connection to another one, which has probably "
            "died: its own error, further up or in its own log, is the cause. The run can be "
            "resumed from its last checkpoint."
        ) from error


def _is_lost_connection(error: RuntimeError) -> bool:
    kinds = tuple(
        kind
        for name in ("DistBackendError", "DistNetworkError", "DistStoreError")
        if (kind := getattr(dist, name, None)) is not None
    )
    words = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")
    return isinstance(error, kinds) or any(word in str(error).lower() for word in words)


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, the same bits on each."""
    if not is_distributed():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes, with gradient."""
    if not is_distributed():
        return tensor
    if not tensor.requires_grad:
        return sum_over_ranks(tensor) / dist.get_world_size()
    total: Tensor = _SumOverRanks.apply(tensor)
    return total / dist.get_world_size()


class _SumOverRanks(torch.autograd.Function):
    """Sum over all processes; the gradient is that of the sum of all their losses."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return sum_over_ranks(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return sum_over_ranks(gradients[0])


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows of all processes one after the other, however many each has."""
    if not is_distributed():
        return rows
    size = dist.get_world_size()
    counts = torch.zeros(size, dtype=torch.int64, device=rows.device)
    counts[dist.get_rank()] = len(rows)
    lengths = sum_over_ranks(counts).tolist()
    longest = max(lengths)
    padded = rows.new_zeros((longest, *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(parts, padded)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def gather_objects(value: Any) -> list[Any]:
    """Return the value of each process, in their order."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_buffers(model: nn.Module) -> None:
    """Give every process the buffers of the first one, such as BatchNorm's running statistics."""
    if is_distributed():
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def wait_for_all() -> None:
    """Wait until every process is here."""
    if is_distributed():
        dist.barrier()
