"""Threads share the work on long arrays, and change no result."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.detectors import _threads
from lossnoise.detectors._threads import LIMIT, in_threads


@pytest.fixture
def short_stretches(monkeypatch):
    monkeypatch.setattr(_threads, "SHORTEST", 1000)


@pytest.mark.parametrize(("limit", "count"), [("1", 1), ("3", 3), ("64", 4)])
def test_stretches_are_all_of_the_array_in_order(limit, count, short_stretches, monkeypatch):
    monkeypatch.setenv(LIMIT, limit)
    stretches = in_threads(lambda stretch: np.arange(10_001)[stretch], 10_001)
    assert len(stretches) == count
    assert np.array_equal(np.concatenate(stretches), np.arange(10_001))


def test_threads_work_at_the_same_time(short_stretches, monkeypatch):
    monkeypatch.setenv(LIMIT, "2")
    meeting = threading.Barrier(2)
    assert sorted(in_threads(lambda _: meeting.wait(timeout=60.0), 2000)) == [0, 1]


@pytest.mark.parametrize("limit", ["", "0", "-2", "4,2", "many"])
def test_without_a_limit_there_are_as_many_threads_as_processors(
    limit, short_stretches, monkeypatch
):
    monkeypatch.setenv(LIMIT, limit)
    for owner, name, value in (
        (_threads.os, "sched_getaffinity", lambda process: {0, 3, 5}),
        (_threads.os, "cpu_count", lambda: 3),
    ):
        monkeypatch.setattr(owner, name, value, raising=False)
    assert len(in_threads(len_of, 10_000)) == 3
    monkeypatch.delattr(_threads.os, "sched_getaffinity")  # as on macOS and Windows
    assert len(in_threads(len_of, 10_000)) == 3


def len_of(stretch):
    return stretch.stop - stretch.start


@pytest.mark.parametrize("length", [0, 1, 999, 1999])
def test_short_arrays_stay_in_the_thread_that_asks(length, short_stretches, monkeypatch):
    monkeypatch.setenv(LIMIT, "4")
    here = threading.get_ident()
    assert in_threads(lambda s: (threading.get_ident(), len_of(s)), length) == [(here, length)]


def test_an_error_in_a_thread_is_raised(short_stretches, monkeypatch):
    monkeypatch.setenv(LIMIT, "2")
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda stretch: 1 // stretch.start, 5000)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fit_is_the_same_with_any_number_of_threads(dtype, monkeypatch):
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.gamma(1.0, 0.2, 140_000), rng.normal(4.0, 0.5, 60_003)])
    losses = np.abs(rng.permutation(losses)).astype(dtype)
    monkeypatch.setattr(_threads, "SHORTEST", 1 << 15)
    results = []
    for limit in ("1", "2", "4"):
        monkeypatch.setenv(LIMIT, limit)
        detector = BetaMixtureNoiseDetector().fit(losses)
        results.append((detector.noise_rate_, detector.predict_proba(losses)))
    for rate, proba in results[1:]:
        assert rate == results[0][0]
        assert np.array_equal(proba, results[0][1])


@pytest.mark.parametrize(
    "begin", ["threading.Thread(target=work).start()", "atexit.register(work)"]
)
def test_what_still_runs_when_the_interpreter_ends_does_without(begin):
    program = (
        "import atexit, os, threading, time; from lossnoise.detectors import _threads\n"
        "_threads.SHORTEST, os.environ[_threads.LIMIT] = 10, '2'\n"
        "def work():\n"
        "    time.sleep(0.5)\n"
        "    print(_threads.in_threads(lambda stretch: stretch.stop - stretch.start, 100))\n"
        f"{begin}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[50, 50]"
