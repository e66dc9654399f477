"""Checkpoints: written whole or not at all, read as data only."""

from __future__ import annotations

import copy
import io
import math
import os
import re
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from types import NoneType
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from lossnoise._files import atomic_open
from lossnoise._validation import check_int, invalid_data, invalid_parameter
from lossnoise._warnings import warn
from lossnoise.exceptions import CheckpointWarning, InvalidDataError

KIND = "lossnoise checkpoint 3"  # its number is that of the format

_NAME = re.compile(r"epoch-(\d+)\.pt")
_PLAIN = {Tensor, nn.Parameter, NoneType, bool, int, float, str}


class Checkpoints:
    """A folder of checkpoints: how often one is written, and how many are kept.

    Parameters
    ----------
    folder : str or Path
        Of one run; made when it begins.
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


def open_folder(folder: Path) -> None:
    """Make a folder for checkpoints, or raise where none could be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        owner, name, expected = "NoisyLabelTrainer", "checkpoint_dir", "a folder to write into"
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise invalid_parameter(owner, name, expected, str(folder), reason) from error


def save_checkpoint(
    checkpoints: Checkpoints, epoch: int, state: dict[str, Any], own: set[Path]
) -> Path:
    """Write a checkpoint of `epoch`, and of a run's `own` ones remove those that are too old.

    The file appears under its name only when it is complete and on disk, and is entered in `own`.
    """
    folder = checkpoints.folder
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    path = folder / name_of(epoch)
    write_state(path, {"kind": KIND, **state})
    own.add(path)
    for old in [other for other in list_checkpoints(folder) if other in own][checkpoints.keep :]:
        old.unlink()
    return path


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes had begun to write: all older than the newest checkpoint."""
    for newest in list_checkpoints(folder)[:1]:
        written = newest.stat().st_mtime
        for leftover in folder.glob(".epoch-*.pt.*.tmp"):
            if leftover.stat().st_mtime < written:
                leftover.unlink()


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain data to a file, whole or not at all."""
    content = plain(state)
    with atomic_open(path, "wb") as file:
        watched = _WatchedFile(file)
        try:
            with _checksums():
                torch.save(content, watched)  # type: ignore[arg-type]  # it writes, and no more
        except RuntimeError as error:
            raise watched.error or error from None


@contextmanager
def _checksums() -> Iterator[None]:
    """Have torch write checksums: from 2.6 on it may have been told to leave them out."""
    serialization = torch.serialization
    if not hasattr(serialization, "set_crc32_options"):
        yield
        return
    before = serialization.get_crc32_options()
    serialization.set_crc32_options(True)
    try:
        yield
    finally:
        serialization.set_crc32_options(before)


class _WatchedFile:
    """A file that knows why it could not be written, which torch does not say."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, and keep the error."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Leave nothing in between."""
        self._file.flush()


def read_state(path: Path) -> dict[str, Any]:
    """Return what `write_state` wrote; data only, no code is run.

    A damaged file raises some error. What torch reads it does not compare with the checksums.
    """
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} is not what was written")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def is_other_version(kind: object, own: str) -> bool:
    """Tell whether a file is of the same kind as our `own`, in another format."""
    return isinstance(kind, str) and kind.rpartition(" ")[0] == own.rpartition(" ")[0]


def transient_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the buffers that are no part of the state of a model, such as counts."""
    kept = model.state_dict().keys()
    return {
        name: buffer.detach().clone()
        for name, buffer in model.named_buffers()
        if name not in kept and buffer.layout == torch.strided
    }


def load_transient_buffers(model: nn.Module, buffers: dict[str, Tensor]) -> None:
    """Give a model back what `transient_buffers` returned; some may be of other shapes by now."""
    modules = dict(model.named_modules())
    for name, buffer in buffers.items():
        path, _, own = name.rpartition(".")
        held = modules[path]._buffers if path in modules else {}
        if own not in held:
            continue
        present = held[own]
        if present is not None and present.shape == buffer.shape:
            with torch.no_grad(), suppress(RuntimeError):  # of one expanded, or of inference mode
                present.copy_(buffer)  # in its place, which compiled code and DDP know
                continue
        held[own] = buffer.to(buffer.device if present is None else present.device, copy=True)


def load_weights(
    model: nn.Module, state: dict[str, Any], owner: str, name: str, expected: str, advice: str = ""
) -> None:
    """Load weights into a model, or raise, and leave it alone, where they are of another one."""
    own = model.state_dict()
    alike = {key: getattr(value, "shape", None) for key, value in state.items()} == {
        key: getattr(value, "shape", None) for key, value in own.items()
    }
    trials = [model] if alike else [_copy_of(model), model]  # one that raises loads what fits
    try:
        for trial in trials:
            trial.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        given = f"{advice}. " if advice else ""
        raise invalid_data(
            owner, name, expected, "one of other parameters", f"{given}torch says: {reason}"
        ) from error


def _copy_of(model: nn.Module) -> nn.Module:
    """Return a copy of a model; of one that cannot be copied, the model itself."""
    try:
        return copy.deepcopy(model)
    except Exception:  # whatever its parts raise
        return model


def plain(state: Any, place: str = "") -> Any:
    """Return `state` with numpy's scalars as Python's and its arrays as tensors.

    Raises where it holds what loading would not accept, at a `place` such as ``history[0].when``.
    """
    if isinstance(state, OrderedDict):
        copied = OrderedDict(_plain_entries(state, place))
        vars(copied).update(vars(state))  # the versions of a model's modules
        return copied
    if isinstance(state, dict):
        return dict(_plain_entries(state, place))
    if isinstance(state, (list, tuple)):
        items = [plain(value, f"{place}[{number}]") for number, value in enumerate(state)]
        return items if isinstance(state, list) else tuple(items)
    if isinstance(state, np.ndarray) and state.dtype.kind in "biuf":
        return torch.from_numpy(state.copy())
    value = state.item() if isinstance(state, np.generic) else state
    if type(value) not in _PLAIN:
        _check_readable(value, place)
    return value


def _plain_entries(state: dict[Any, Any], place: str) -> Iterator[tuple[Any, Any]]:
    for key, value in state.items():
        yield plain(key, f"{place}.keys()"), plain(value, f"{place}.{key}".lstrip("."))


def _check_readable(value: object, place: str) -> None:
    """Raise, before anything is written or removed, where a file would be of no use."""
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception as error:  # a pickle may raise anything
        raise InvalidDataError(
            f"What is saved as {place} must be tensors and plain data, such as numbers and text. "
            f"Got a {type(value).__name__} instead, with which no file could be read."
        ) from error


def list_checkpoints(folder: Path, until: float = math.inf) -> list[Path]:
    """Return the checkpoints in a folder up to an epoch, newest first, by their exact names."""
    found = [(int(m[1]), p) for p in folder.glob("*.pt") if (m := _NAME.fullmatch(p.name))]
    named = [(epoch, path) for epoch, path in found if path.name == name_of(epoch)]
    return [path for epoch, path in sorted(named, reverse=True) if epoch <= until]


def name_of(epoch: int) -> str:
    """Return the name of the checkpoint of an epoch."""
    return f"epoch-{epoch:05d}.pt"


def load_newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint that can be read, or None where there is none.

    Warns of each that cannot be read or is another file, and raises where no other is left: to
    start anew would write over what may still be saved. Raises for one of another version too.
    """
    paths = list_checkpoints(folder)
    for path in paths:
        try:
            state = read_state(path)
        except MemoryError:
            raise  # the file may be sound
        except Exception as error:  # a damaged pickle may raise anything
            # not torch's own text, which advises to run the code in the file
            reason = f"The checkpoint {path} cannot be read as data ({type(error).__name__})"
        else:
            kind = state.pop("kind", None) if isinstance(state, dict) else None
            if kind == KIND:
                return state
            if is_other_version(kind, KIND):
                raise InvalidDataError(
                    f"The checkpoint {path} was written by another version of lossnoise, whose "
                    "format this one does not read. Finish the run with the version that began "
                    "it, or choose another checkpoint_dir to start anew."
                )
            reason = f"The file {path} is no checkpoint of NoisyLabelTrainer"
        warn(f"{reason} and was skipped.", CheckpointWarning)
    if paths:
        raise InvalidDataError(
            f"None of the {len(paths)} checkpoints in {folder} can be read. Move them away, or "
            "choose another checkpoint_dir, to start anew."
        )
    return None


def check_same_settings(old: dict[str, Any], new: dict[str, Any], folder: str) -> None:
    """Raise where a checkpoint belongs to a run with other settings.

    What only one of them knows is of another version of torch.
    """
    for name, value in new.items():
        if name in old and old[name] != value:
            longer = (
                ": phases and schedule go by the length of a run. To train on, fit a trainer again "
                "that has its weights, in another folder"
            )
            raise InvalidDataError(
                f"The checkpoint in {folder} was made with {name} = {old[name]!r}, and cannot be "
                f"resumed with {value!r}{longer if name == 'epochs' else ''}."
            )


def warn_of_circumstances(
    old: dict[str, list[str]], new: dict[str, list[str]], folder: str
) -> None:
    """Warn where a run is resumed with a model or a loader that looks like another one."""
    for name, lines in new.items():
        if name in old and old[name] != lines:
            before, now = first_difference(old[name], lines)
            warn(
                f"The checkpoint in {folder} was made with {name}: {before!r}, and is resumed with "
                f"{now!r}. Unless a callback changed them, the result will be another.",
                CheckpointWarning,
            )


def first_difference(old: list[str], new: list[str]) -> tuple[str, str]:
    """Return the first lines of two lists that differ, "none" for one that has no more."""
    before, now = next((a, b) for a, b in zip_longest(old, new) if a != b)
    return ("none" if before is None else before.strip()), ("none" if now is None else now.strip())
