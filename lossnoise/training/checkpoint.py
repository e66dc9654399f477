"""Checkpoints: written whole or not at all, read as data only."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch

from lossnoise._files import atomic_open
from lossnoise.exceptions import CheckpointWarning

KEEP = 2
_NAME = re.compile(r"epoch-(\d+)\.pt")


def save_checkpoint(folder: Path, epoch: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint of `epoch` and remove all but the last two.

    The file appears under its name only when it is complete and on disk. Checkpoints of later
    epochs are leftovers of another run: they go too, or a resumed run would take them for its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"epoch-{epoch:05d}.pt"
    with atomic_open(path, "wb") as file:
        torch.save(state, file)
    found = list_checkpoints(folder)
    present = found.index(path)
    for other in [*found[:present], *found[present + KEEP :]]:
        other.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, newest epoch first."""
    found = [(int(m[1]), p) for p in folder.glob("*.pt") if (m := _NAME.fullmatch(p.name))]
    return [path for _, path in sorted(found, reverse=True)]


def load_newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint that can be read, or None; warn of each that cannot."""
    for path in list_checkpoints(folder):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged pickle may raise anything
            warnings.warn(
                f"The checkpoint {path} is damaged and was skipped: {error}",
                CheckpointWarning,
                stacklevel=2,
            )
        else:
            return state
    return None
