"""A run that is killed again and again ends with the bits of one that was left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("kill_me.py")
TIMEOUT = 120.0


def start(correction, folder):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), correction, str(folder)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def newest(folder):
    """Return the epoch of the newest whole checkpoint, 0 without one."""
    epochs = [int(path.stem.partition("-")[2]) for path in (folder / "run").glob("epoch-*.pt")]
    return max(epochs, default=0)


def finish(correction, folder):
    process = start(correction, folder)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    return np.load(folder / "result.npz", allow_pickle=False)


def kill_after(process, folder, epoch, delay):
    """Kill a process some time after the checkpoint of an epoch appeared."""
    begun = time.monotonic()
    while newest(folder) < epoch and process.poll() is None:
        assert time.monotonic() - begun < TIMEOUT
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("correction", ["m-dyr-h", "forward"])
def test_a_killed_run_ends_with_the_same_bits(correction, tmp_path):
    """Twenty kills in all: right after a checkpoint, and at random moments between two."""
    expected = finish(correction, tmp_path_of(tmp_path, "unbroken"))
    folder, rng = tmp_path_of(tmp_path, "killed"), np.random.default_rng(0)
    for kill in range(10):
        delay = 0.0 if kill % 2 else rng.uniform(0.0, 0.08)
        kill_after(start(correction, folder), folder, kill + 1, delay)
        assert not (folder / "result.npz").exists(), "it was too fast to be killed"
    result = finish(correction, folder)
    assert result.files == expected.files
    for name in expected.files:
        np.testing.assert_array_equal(result[name], expected[name], err_msg=name)


def tmp_path_of(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    return folder
