"""Folds on disk: a run that was killed goes on where it was."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossnoise._files import atomic_open
from lossnoise._validation import invalid_parameter
from lossnoise._warnings import warn
from lossnoise.cross_val._labels import OWNER
from lossnoise.exceptions import CheckpointWarning

_NAME = re.compile(r"fold-(\d+)\.npz")


class SavedFold(NamedTuple):
    """What a file holds: probabilities, and the call that they belong to."""

    pred_probs: NDArray[np.float64]
    call: dict[str, Any]


class SavedFolds:
    """The folds in a folder; without a folder nothing is kept.

    Attributes
    ----------
    seed : int or None
        The seed of the call that the files in the folder belong to.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        if folder is not None and not _may_be_folder(folder):
            raise invalid_parameter(OWNER, "checkpoint_dir", "the path of a folder", folder)
        self._folder = None if folder is None else Path(folder)
        self._found = {} if self._folder is None else _read_folder(self._folder)
        self._call: dict[str, Any] = {}
        seeds = [fold.call["random_state"] for fold in self._found.values()]
        self.seed: int | None = seeds[0] if seeds else None

    @property
    def active(self) -> bool:
        """Tell whether anything is kept."""
        return self._folder is not None

    def begin(self, call: dict[str, Any]) -> None:
        """Say which call it is, by parameter; raise where the folder has folds of another."""
        self._call = call
        for fold in self._found.values():
            for name, value in call.items():
                if fold.call.get(name) != value:
                    expected = (
                        "a new folder, or that of the same call: the folds in this one were made "
                        f"with another {name!r}"
                    )
                    folder = str(self._folder)
                    raise invalid_parameter(OWNER, "checkpoint_dir", expected, folder)

    def load(self, number: int, shape: tuple[int, int]) -> NDArray[np.float64] | None:
        """Return the probabilities of a fold that was done before, or None."""
        fold = self._found.get(number)
        if fold is not None and fold.pred_probs.shape != shape:
            assert self._folder is not None  # something was found in it
            _warn_damaged(_path(self._folder, number), f"shape {fold.pred_probs.shape}")
            return None
        return None if fold is None else fold.pred_probs

    def save(self, number: int, pred_probs: NDArray[np.float64]) -> None:
        """Write the probabilities of a fold, whole or not at all."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_open(_path(self._folder, number), "wb") as file:
            np.savez(file, pred_probs=pred_probs, call=np.array(json.dumps(self._call)))


def _path(folder: Path, number: int) -> Path:
    return folder / f"fold-{number:04d}.npz"


def _may_be_folder(folder: object) -> bool:
    return isinstance(folder, (str, os.PathLike)) and not Path(folder).is_file()


def _read_folder(folder: Path) -> dict[int, SavedFold]:
    """Return the folds by their numbers; warn of files that cannot be read."""
    found = {}
    for path in sorted(folder.glob("*.npz")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        try:
            found[int(match[1])] = _read_file(path)
        except MemoryError:
            raise  # the file may be sound
        except Exception as error:  # a damaged archive may raise anything
            _warn_damaged(path, type(error).__name__)
    return found


def _read_file(path: Path) -> SavedFold:
    # Opened here, as numpy leaves a damaged one open. Data only: no code in it is run.
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        call = json.loads(str(file["call"]))
        seed = int(call["random_state"])
        return SavedFold(file["pred_probs"].astype(np.float64), call | {"random_state": seed})


def _warn_damaged(path: Path, why: str) -> None:
    warn(
        f"The file {path} cannot be read as a fold ({why}), which is computed anew.",
        CheckpointWarning,
    )
