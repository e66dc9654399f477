"""Checkpoints: whole or not at all, the last two, the newest that can be read."""

import errno
import os
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from lossnoise.exceptions import CheckpointWarning, InvalidDataError, InvalidParameterError
from lossnoise.training.checkpoint import (
    Checkpoints,
    list_checkpoints,
    load_newest_checkpoint,
    open_folder,
    read_state,
    save_checkpoint,
    write_state,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def save(folder, *epochs):
    """Write some epochs of one run."""
    own = set()
    for epoch in epochs:
        state = {"epoch": epoch, "weights": torch.full((50,), epoch)}
        save_checkpoint(Checkpoints(folder), epoch, state, own)


def test_what_is_saved_is_loaded(tmp_path):
    state = {
        "tensor": torch.arange(3.0),
        "plain": [1, 2.5, None, "text", 2**127],  # numpy's generators have 128-bit states
        "history": [{"epoch": 1, "noise_rate": 0.25}],
    }
    path = save_checkpoint(Checkpoints(tmp_path / "a" / "b"), 3, state, set())
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


def test_checkpoints_of_another_run_are_left_alone(tmp_path):
    save(tmp_path, 3, 59, 60)
    save(tmp_path, 8, 9, 10)
    numbers = [9, 10, 59, 60]
    assert names(tmp_path) == [f"epoch-{number:05d}.pt" for number in numbers]


def test_what_killed_processes_began_to_write_is_removed(tmp_path):
    save(tmp_path, 1)
    old, fresh = tmp_path / ".epoch-00002.pt.7-7.tmp", tmp_path / ".epoch-00003.pt.8-8.tmp"
    for path, age in ((old, 60), (fresh, -60)):
        path.write_bytes(b"half of it")
        written = (tmp_path / "epoch-00001.pt").stat().st_mtime - age
        os.utime(path, (written, written))
    save(tmp_path, 2)
    assert not old.exists()
    assert fresh.exists()


def test_a_disk_that_is_full_is_named_with_the_file(tmp_path):
    """Torch alone says where in its sources it failed."""
    resource = pytest.importorskip("resource")
    path, limits = tmp_path / "epoch-00001.pt", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(OSError, match=re.escape(str(path))) as caught:
            write_state(path, {"weights": torch.zeros(1 << 16)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [[1, 2], {"0.weight": torch.zeros(2)}, {"kind": "other"}])
def test_a_file_of_another_kind_is_passed_over_with_a_warning(tmp_path, content):
    save(tmp_path, 1)
    foreign = tmp_path / "epoch-00003.pt"
    torch.save(content, foreign)
    message = f"The file {foreign} is no checkpoint of NoisyLabelTrainer and was skipped."
    with pytest.warns(CheckpointWarning, match=f"^{re.escape(message)}$"):
        assert load_newest_checkpoint(tmp_path)["epoch"] == 1


def test_a_checkpoint_of_another_version_is_told(tmp_path):
    """The run that it belongs to is not lost: to pass it over would train from an older one."""
    save(tmp_path, 1)
    other = tmp_path / "epoch-00003.pt"
    torch.save({"kind": "lossnoise checkpoint 0"}, other)
    message = (
        f"The checkpoint {other} was written by another version of lossnoise, whose format this "
        "one does not read. Finish the run with the version that began it, or choose another "
        "checkpoint_dir to start anew."
    )
    with pytest.raises(InvalidDataError) as caught:
        load_newest_checkpoint(tmp_path)
    assert str(caught.value) == message


@pytest.mark.parametrize("place", ["file/run", "file"])
def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidParameterError) as caught:
        open_folder(tmp_path / place)
    assert str(caught.value).startswith(
        "The 'checkpoint_dir' parameter of NoisyLabelTrainer must be a folder to write into. Got "
        f"{str(tmp_path / place)!r} instead: "
    )


@pytest.mark.parametrize("folder", ["", "missing"])
def test_nothing_to_load(tmp_path, folder):
    assert load_newest_checkpoint(tmp_path / folder) is None


def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    save(tmp_path, 1, 2)

    def fail(state, file):  # of a disk that is full
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


@pytest.mark.parametrize("checksums", [True, False])
def test_no_flipped_bit_goes_unnoticed(tmp_path, checksums):
    """Also where torch was told to write no checksums, which it can be from 2.6 on."""
    serialization = torch.serialization
    if not checksums and not hasattr(serialization, "set_crc32_options"):
        pytest.skip("this torch always writes checksums")
    path = tmp_path / "epoch-00001.pt"
    if not checksums:
        serialization.set_crc32_options(False)
    try:
        save(tmp_path, 1)
        assert checksums or not serialization.get_crc32_options()
    finally:
        if not checksums:
            serialization.set_crc32_options(True)
    content, unnoticed = path.read_bytes(), 0
    for place in range(0, len(content), 7):
        flipped_bit = bytes([content[place] ^ 16])
        path.write_bytes(content[:place] + flipped_bit + content[place + 1 :])
        try:
            state = read_state(path)
        except Exception:  # a damaged pickle may raise anything
            continue
        assert torch.equal(state["weights"], torch.full((50,), 1))  # between the entries
        assert state["epoch"] == 1
        unnoticed += 1
    assert unnoticed < len(content) // 7


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
    save_checkpoint(Checkpoints(tmp_path), 3, state, set())
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded == {"epoch": 3, "history": [{"loss": 0.5}], "sizes": (True,)}


class Harmful:
    def __reduce__(self):
        return print, ("code in a checkpoint was run",)


@pytest.mark.parametrize(
    ("state", "place", "got"),
    [
        ({"epoch": Harmful()}, "epoch", "Harmful"),
        ({"callbacks": [{"best": Path("a")}]}, "callbacks[0].best", "PosixPath"),
        ({"history": ({"when": datetime(2024, 1, 1)},)}, "history[0].when", "datetime"),
        ({"history": [{"when": np.datetime64("2024-01-01")}]}, "history[0].when", "date"),
        ({"a": {"b": np.array(["x"], dtype=object)}}, "a.b", "ndarray"),
        ({"a": {(1, Path("a")): 1}}, "a.keys()[1]", "PosixPath"),
        ({"a": lambda: None}, "a", "function"),
    ],
)
def test_what_no_checkpoint_could_be_read_with_is_never_written(
    tmp_path, capsys, state, place, got
):
    save(tmp_path, 1, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    message = (
        f"What is saved as {place} must be tensors and plain data, such as numbers and text. Got a "
        f"{got} instead, with which no file could be read."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        save_checkpoint(Checkpoints(tmp_path), 3, state, set())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert capsys.readouterr().out == ""


def test_arrays_of_a_callback_or_a_record_become_tensors(tmp_path):
    state = {"epoch": 1, "history": [{"confusion": np.eye(2)}], "callbacks": [np.int64(3)]}
    save_checkpoint(Checkpoints(tmp_path), 1, state, set())
    found = load_newest_checkpoint(tmp_path)
    assert torch.equal(found["history"][0]["confusion"], torch.eye(2, dtype=torch.float64))
    assert found["callbacks"] == [3]


def test_a_checkpoint_is_data_and_never_code(tmp_path, capsys):
    torch.save({"epoch": Harmful()}, tmp_path / "epoch-00001.pt")
    with (
        pytest.warns(CheckpointWarning, match="cannot be read as data .UnpicklingError."),
        pytest.raises(InvalidDataError),
    ):
        load_newest_checkpoint(tmp_path)
    assert capsys.readouterr().out == ""
