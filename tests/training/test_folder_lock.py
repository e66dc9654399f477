"""Two runs do not write into one folder; what was killed holds none."""

import errno
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
import torch

from lossnoise.exceptions import InvalidParameterError
from lossnoise.training import Callback
from lossnoise.training._folder_lock import NAME, locked

HOLD = """
import os, sys, time
from pathlib import Path
from lossnoise.training._folder_lock import locked
with locked(Path(sys.argv[1])):
    has_worker = bool(sys.argv[2:])
    if not has_worker or os.fork() == 0:  # a worker says so itself: then it is there
        print("held", os.getpid() if has_worker else None, flush=True)
    time.sleep(30)
"""


def hold(folder, *arguments):
    """Return a process that has taken a folder."""
    command = [sys.executable, "-c", HOLD, str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_a_folder_in_use_is_refused_and_free_after_a_kill(build, make_data, tmp_path):
    with hold(tmp_path) as other:
        try:
            assert other.stdout.readline() == "held None\n"
            with pytest.raises(InvalidParameterError) as caught:
                build(checkpoint_dir=tmp_path).fit(make_data())
        finally:
            other.kill()
    text = str(caught.value)
    assert "must be a folder into which no other run writes" in text
    assert f"process {other.pid} on " in text
    trainer = build(checkpoint_dir=tmp_path).fit(make_data(), resume=True)
    assert len(trainer.history_) == trainer.epochs


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_worker_that_outlives_a_killed_run_holds_nothing(tmp_path):
    with hold(tmp_path, "with a worker") as other:
        worker = int(other.stdout.readline().split()[1])
        other.kill()
        other.wait()
        try:
            with locked(tmp_path):
                os.kill(worker, 0)  # it lives
        finally:
            os.kill(worker, signal.SIGKILL)


class FitsAgain(Callback):
    """Starts another run in the same folder."""

    def __init__(self, build, data):
        self._build, self._data = build, data

    def on_epoch_end(self, trainer, record):
        self._build(checkpoint_dir=trainer.checkpoint_dir).fit(self._data, resume=True)


def test_a_run_inside_a_run_needs_its_own_folder(build, make_data, tmp_path):
    again = FitsAgain(build, make_data())
    with pytest.raises(InvalidParameterError, match=f"process {os.getpid()} on .* trains there"):
        build(checkpoint_dir=tmp_path, callbacks=[again]).fit(make_data())
    build(checkpoint_dir=tmp_path).fit(make_data(), resume=True)  # free again


def test_folders_are_not_kept_where_files_cannot_be_locked(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path):
        assert (tmp_path / NAME).exists()


def is_refused_to_others(folder):
    """Tell whether another process cannot have a folder."""
    with hold(folder) as other:
        try:
            return other.stdout.readline() == ""
        finally:
            other.kill()


def test_one_folder_by_two_names_is_one(tmp_path):
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"):
        with pytest.raises(InvalidParameterError), locked(tmp_path / "x" / ".." / "run"):
            pass
        assert is_refused_to_others(tmp_path / "run")
        with locked(tmp_path):
            pass
    assert not is_refused_to_others(tmp_path / "run")


def test_a_file_that_an_ending_run_removes_is_no_lock(tmp_path, monkeypatch):
    """Another run opens the file, and gets the lock only when its name is gone."""
    fcntl = pytest.importorskip("fcntl")
    flock, removed = fcntl.flock, []

    def slow(file, flags):
        if not removed:
            removed.append(True)
            (tmp_path / NAME).unlink()
        flock(file, flags)

    monkeypatch.setattr(fcntl, "flock", slow)
    with locked(tmp_path):
        assert (tmp_path / NAME).exists()
        with pytest.raises(InvalidParameterError), locked(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_reading_the_file_does_not_end_the_lock(tmp_path):
    """As a backup of the folder does, in a callback."""
    with locked(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / NAME).read_text()
        assert is_refused_to_others(tmp_path)


def test_of_many_threads_one_has_the_folder(tmp_path):
    barrier, inside = threading.Barrier(8), []

    def run():
        barrier.wait()
        with suppress(InvalidParameterError), locked(tmp_path):
            inside.append(1)
            barrier.wait()
            return
        barrier.wait()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inside) == 1


def test_what_another_run_left_meanwhile_is_not_written_over(build, make_data, tmp_path):
    """The folder was empty when it was looked at first."""

    def start(epochs):
        return build(checkpoint_dir=tmp_path, epochs=epochs, correction="cross-entropy")

    class Late(torch.utils.data.TensorDataset):
        trained = False

        def __getitem__(self, index):
            if not self.trained:  # when a first batch is looked at
                self.trained = True
                start(3).fit(make_data())
            return super().__getitem__(index)

    with pytest.raises(InvalidParameterError, match="must be a folder without checkpoints"):
        start(1).fit(Late(*make_data().tensors))
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert names == ["epoch-00002.pt", "epoch-00003.pt"]


def test_a_lock_that_cannot_be_opened_is_told(build, make_data, tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(InvalidParameterError, match=r"\.lock in it cannot be opened: Is a dir"):
        build(checkpoint_dir=tmp_path).fit(make_data())
