"""Files that take the place of others only as a whole."""

import errno
import os
import re
import threading

import pytest

from lossnoise._files import atomic_open


def test_a_file_appears_as_a_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_open(path) as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_nothing_has_changed(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted():
        with atomic_open(path) as file:
            file.write("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_handed_on(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o600)
    with atomic_open(path) as file:
        file.write("new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "missing" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught, atomic_open(path):
        pass
    assert caught.value.filename == str(path)
    assert os.strerror(caught.value.errno) in str(caught.value)


def test_an_error_of_writing_names_the_file(tmp_path):
    """As of a disk that is full; the system names none."""
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match=re.escape(str(path))) as caught, atomic_open(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_two_threads_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    barrier = threading.Barrier(2, timeout=10)

    def write(text):
        with atomic_open(path) as file:
            barrier.wait()  # both are open at once
            file.write(text)

    threads = [threading.Thread(target=write, args=(letter * 10_000,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in {"a" * 10_000, "b" * 10_000}
    assert list(tmp_path.iterdir()) == [path]
