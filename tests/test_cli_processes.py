"""The command line as a process: pipes, signals, encodings, and how much memory it takes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lossnoise import cli

ROOT = Path(__file__).parents[1]


def write_rows(path, labels):
    """Write labels with losses of which one in ten is high."""
    rng = np.random.default_rng(0)
    losses = rng.gamma(1.0, 0.2, size=len(labels))
    losses[::10] += 5.0
    rows = (f"{label},{loss:.5f}\n" for label, loss in zip(labels, losses.tolist(), strict=True))
    path.write_text("label,loss\n" + "".join(rows), encoding="utf-8")
    return path


def test_any_label_can_be_printed_in_any_encoding(tmp_path):
    path = write_rows(tmp_path / "rows.csv", ["größe", "cat"] * 100)
    done = subprocess.run(
        [sys.executable, "-m", "lossnoise", "audit", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert r"gr\xf6\xdfe" in done.stdout


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    labels = [f"c{i:05d}" for i in range(3000)]  # more than a pipe holds
    path = write_rows(tmp_path / "rows.csv", labels)
    command = [sys.executable, "-m", "lossnoise", "audit", str(path), "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "{\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_a_closed_stdout_is_left_alone(monkeypatch):
    """The same in this process, where the last write is the one that fails."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        cli._print("more than anybody reads")
        print("and more")  # noqa: T201  # goes nowhere


def test_control_c_ends_with_130_and_leaves_nothing(tmp_path):
    path, out = tmp_path / "rows.csv", tmp_path / "out"
    os.mkfifo(path)  # the command waits for a line that never comes
    out.mkdir()
    code = (  # as `python -m lossnoise`, but in background jobs, which ignore interrupts, too
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "runpy.run_module('lossnoise', run_name='__main__')"
    )
    command = [sys.executable, "-c", code, "audit", str(path), "--csv", str(out / "a.csv")]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        with open(path, "w"):  # opens as soon as the other side reads
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        assert process.stderr.read() == "lossnoise: interrupted\n"
        assert process.stdout.read() == ""
    assert list(out.iterdir()) == []


# -- files that do not fit in memory ----------------------------------------------------------


def peak_of(*arguments):
    """Return the peak memory in MB of a run, as its own process reports it."""
    code = (
        "import resource, sys; from lossnoise.cli import main; status = main(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0, file=sys.stderr)\n"
        "raise SystemExit(status)"
    )
    command = [sys.executable, "-c", code, *map(str, arguments), "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stderr), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npy", "csv"])
def test_ten_million_losses_take_little_memory(tmp_path, kind):
    n = 10_000_000
    rng = np.random.default_rng(0)
    losses = np.where(rng.random(n) < 0.1, rng.normal(5.0, 0.7, n), rng.gamma(1.0, 0.2, n))
    losses = np.maximum(losses, 0.0)
    path = tmp_path / f"rows.{kind}"
    if kind == "npy":
        np.save(path, losses)
    else:
        with open(path, "w") as file:
            file.write("label,loss\n")
            for start in range(0, n, 500_000):
                piece = losses[start : start + 500_000].tolist()
                file.write("".join(f"c{i % 10},{v:.5f}\n" for i, v in enumerate(piece)))
    peak, out = peak_of("audit", path)
    base, _ = peak_of("audit", write_rows(tmp_path / "small.csv", ["a", "b"] * 100))
    assert "10,000,000 rows" in out
    assert peak - base < 500.0
