"""Checkpoints: written whole or not at all, read as data only."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from lossnoise._files import atomic_open
from lossnoise._validation import check_int, invalid_parameter
from lossnoise._warnings import warn
from lossnoise.exceptions import CheckpointWarning, InvalidDataError

_NAME = re.compile(r"epoch-(\d+)\.pt")


class Checkpoints:
    """A folder of checkpoints: how often one is written, and how many are kept.

    Parameters
    ----------
    folder : str or Path
        Made when the first one is written.
    every : int, default=1
        Epochs between two checkpoints. After the last epoch one is written in any case.
    keep : int, default=2
        How many are kept, the newest ones. With one, a damaged file leaves nothing to go on from.

    Raises
    ------
    InvalidParameterError
        A parameter is out of range.

    Examples
    --------
    >>> from lossnoise.training import Checkpoints
    >>> Checkpoints("run", every=10).keep
    2
    """

    def __init__(self, folder: str | os.PathLike[str], *, every: int = 1, keep: int = 2) -> None:
        owner = type(self).__name__
        if not isinstance(folder, (str, os.PathLike)) or Path(folder).is_file():
            raise invalid_parameter(owner, "folder", "the path of a folder", folder)
        self.folder = Path(folder)
        self.every = check_int(owner, "every", every, 1)
        self.keep = check_int(owner, "keep", keep, 1)

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        return f"Checkpoints({str(self.folder)!r}, every={self.every}, keep={self.keep})"


def save_checkpoint(checkpoints: Checkpoints, epoch: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint of `epoch`, and remove those that are too old.

    The file appears under its name only when it is complete and on disk. Checkpoints of later
    epochs are leftovers of another run: they go too, or a resumed run would take them for its own.
    """
    folder = checkpoints.folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"epoch-{epoch:05d}.pt"
    write_state(path, state)
    found = list_checkpoints(folder)
    if found == [path]:
        _check_readable(path)
    present = found.index(path)
    for other in [*found[:present], *found[present + checkpoints.keep :]]:
        other.unlink()
    return path


def _check_readable(path: Path) -> None:
    """Raise, after the first epoch and not when all is lost, where a checkpoint is of no use."""
    try:
        read_state(path)
    except UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        path.unlink()
        raise InvalidDataError(
            "What checkpoints hold of a schedule, a callback or the records of epochs must be "
            f"tensors and plain data. Got {found[1] if found else 'other objects'} instead, which "
            "no checkpoint could be read with."
        ) from error


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain data to a file, whole or not at all."""
    with atomic_open(path, "wb") as file:
        torch.save(plain(state), file)


def read_state(path: Path) -> dict[str, Any]:
    """Return what `write_state` wrote; data only, no code is run."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def plain(state: Any) -> Any:
    """Return `state` with numpy's scalars as Python's and its arrays as tensors.

    Loading accepts no others.
    """
    if isinstance(state, OrderedDict):
        copied = OrderedDict((key, plain(value)) for key, value in state.items())
        vars(copied).update(vars(state))  # the versions of a model's modules
        return copied
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        items = [plain(value) for value in state]
        return items if isinstance(state, list) else tuple(items)
    if isinstance(state, np.ndarray) and state.dtype.kind in "biuf":
        return torch.from_numpy(state.copy())
    return state.item() if isinstance(state, np.generic) else state


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, newest epoch first."""
    found = [(int(m[1]), p) for p in folder.glob("*.pt") if (m := _NAME.fullmatch(p.name))]
    return [path for _, path in sorted(found, reverse=True)]


def load_newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint that can be read, or None where there is none.

    Warns of each that cannot be read, and raises where no other is left: to start anew would
    write over what may still be saved.
    """
    paths = list_checkpoints(folder)
    for path in paths:
        try:
            return read_state(path)
        except MemoryError:
            raise  # the file may be sound
        except Exception as error:  # a damaged pickle may raise anything
            warn(
                # not torch's own text, which advises to run the code in the file
                f"The checkpoint {path} cannot be read as data ({type(error).__name__}) and was "
                "skipped.",
                CheckpointWarning,
            )
    if paths:
        raise InvalidDataError(
            f"None of the {len(paths)} checkpoints in {folder} can be read. Move them away, or "
            "choose another checkpoint_dir, to start anew."
        )
    return None


def check_same_settings(old: dict[str, Any], new: dict[str, Any], folder: str) -> None:
    """Raise where a checkpoint belongs to a run with other settings."""
    for name, value in new.items():
        if old.get(name) != value:
            raise InvalidDataError(
                f"The checkpoint in {folder} was made with {name} = {old.get(name)!r}, and cannot "
                f"be resumed with {value!r}."
            )
