"""Checkpoints: whole or not at all, the last two, the newest that can be read."""

import re

import numpy as np
import pytest
import torch

from lossnoise.exceptions import CheckpointWarning, InvalidDataError
from lossnoise.training.checkpoint import (
    Checkpoints,
    list_checkpoints,
    load_newest_checkpoint,
    save_checkpoint,
    write_state,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def save(folder, *epochs):
    for epoch in epochs:
        save_checkpoint(
            Checkpoints(folder), epoch, {"epoch": epoch, "weights": torch.full((50,), epoch)}
        )


def test_what_is_saved_is_loaded(tmp_path):
    state = {
        "tensor": torch.arange(3.0),
        "plain": [1, 2.5, None, "text", 2**127],  # numpy's generators have 128-bit states
        "history": [{"epoch": 1, "noise_rate": 0.25}],
    }
    path = save_checkpoint(Checkpoints(tmp_path / "a" / "b"), 3, state)
    assert path == tmp_path / "a" / "b" / "epoch-00003.pt"
    loaded = load_newest_checkpoint(tmp_path / "a" / "b")
    assert torch.equal(loaded.pop("tensor"), state.pop("tensor"))
    assert loaded == state


def test_only_the_last_two_are_kept(tmp_path):
    save(tmp_path, 8, 9, 10, 11)
    assert names(tmp_path) == ["epoch-00010.pt", "epoch-00011.pt"]
    assert load_newest_checkpoint(tmp_path)["epoch"] == 11


def test_epochs_are_ordered_as_numbers(tmp_path):
    save(tmp_path, 99_999, 100_000)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "epoch-100000.pt",
        "epoch-99999.pt",
    ]


def test_other_files_are_left_alone(tmp_path):
    others = ["best.pt", "epoch-1.pt.bak", "my-epoch-00001.pt", "notes.txt"]
    for name in others:
        (tmp_path / name).write_text("mine")
    save(tmp_path, 1, 2, 3)
    assert names(tmp_path) == sorted([*others, "epoch-00002.pt", "epoch-00003.pt"])
    assert load_newest_checkpoint(tmp_path)["epoch"] == 3


def test_later_epochs_of_another_run_are_removed(tmp_path):
    save(tmp_path, 58, 59, 60)
    save(tmp_path, 1)
    assert names(tmp_path) == ["epoch-00001.pt"]


@pytest.mark.parametrize("folder", ["", "missing"])
def test_nothing_to_load(tmp_path, folder):
    assert load_newest_checkpoint(tmp_path / folder) is None


def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    save(tmp_path, 1, 2)

    def fail(state, file):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    for epoch in (2, 3):
        with pytest.raises(OSError, match="disk full"):
            save(tmp_path, epoch)
    assert names(tmp_path) == ["epoch-00001.pt", "epoch-00002.pt"]
    assert load_newest_checkpoint(tmp_path)["epoch"] == 2


def flipped(content):
    """Break the pickle inside the archive, not the archive: such a file raises anything."""
    start = content.index(b"weights")
    return content[:start] + b"\x81\x80\xff\xfe\xfd\xfc\xfb" + content[start + 7 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"no checkpoint",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        flipped,
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, damage):
    save(tmp_path, 1, 2)
    newest = tmp_path / "epoch-00002.pt"
    newest.write_bytes(damage(newest.read_bytes()))
    message = f"The checkpoint {newest} cannot be read as data ("
    with pytest.warns(CheckpointWarning, match=f"^{re.escape(message)}"):
        assert load_newest_checkpoint(tmp_path)["epoch"] == 1


def test_when_all_are_damaged_nothing_is_started_anew(tmp_path):
    save(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    message = f"None of the 2 checkpoints in {tmp_path} can be read"
    with pytest.warns(CheckpointWarning) as warnings, pytest.raises(InvalidDataError) as error:
        load_newest_checkpoint(tmp_path)
    assert len(warnings) == 2
    assert str(error.value).startswith(message)


def test_a_lack_of_memory_is_no_damage(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def fail(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(MemoryError):
        load_newest_checkpoint(tmp_path)


def test_scalars_of_numpy_are_saved_as_those_of_python(tmp_path):
    state = {"epoch": np.int64(3), "history": [{"loss": np.float32(0.5)}], "sizes": (np.bool_(1),)}
    save_checkpoint(Checkpoints(tmp_path), 3, state)
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded == {"epoch": 3, "history": [{"loss": 0.5}], "sizes": (True,)}


class Harmful:
    def __reduce__(self):
        return print, ("code in a checkpoint was run",)


def test_what_no_checkpoint_could_be_read_with_is_told_at_once(tmp_path, capsys):
    message = r"plain data. Got (builtins\.)?print instead, which no checkpoint could be"
    with pytest.raises(InvalidDataError, match=message):
        save_checkpoint(Checkpoints(tmp_path), 1, {"epoch": Harmful()})
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_arrays_of_a_callback_or_a_record_become_tensors(tmp_path):
    state = {"epoch": 1, "history": [{"confusion": np.eye(2)}], "callbacks": [np.int64(3)]}
    save_checkpoint(Checkpoints(tmp_path), 1, state)
    found = load_newest_checkpoint(tmp_path)
    assert torch.equal(found["history"][0]["confusion"], torch.eye(2, dtype=torch.float64))
    assert found["callbacks"] == [3]


def test_a_checkpoint_is_data_and_never_code(tmp_path, capsys):
    write_state(tmp_path / "epoch-00001.pt", {"epoch": Harmful()})
    with (
        pytest.warns(CheckpointWarning, match="cannot be read as data .UnpicklingError."),
        pytest.raises(InvalidDataError),
    ):
        load_newest_checkpoint(tmp_path)
    assert capsys.readouterr().out == ""
