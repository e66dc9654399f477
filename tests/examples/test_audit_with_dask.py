"""The Dask example on little data: two processes count, one fits, and nothing gets lost."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "audit_with_dask.py"


@pytest.fixture
def example():
    pytest.importorskip("dask.array")
    pytest.importorskip("distributed")
    return runpy.run_path(str(EXAMPLE))


def test_two_processes_count_and_fit_what_one_does(example, capsys):
    example["main"](["--partitions", "5", "--size", "2000"])
    printed = capsys.readouterr().out
    assert printed.startswith("10000 losses in 5 partitions: ")
    assert "equal to the histogram of one process: True\n" in printed
    assert float(re.search(r"difference (\S+)\n", printed)[1]) < 1e-3
    flagged = [int(count) for count in re.findall(r"^partition .* (\d+) labels", printed, re.M)]
    assert len(flagged) == 5
    assert f"all partitions: {sum(flagged)} labels flagged\n" in printed
    rate, low, high = map(
        float, re.search(r"rate (\S+), 90 % interval (\S+) to (\S+)\n", printed).groups()
    )
    assert low <= rate <= high


def test_the_tree_adds_up_whatever_the_number_of_histograms(example):
    losses = [example["make_losses"](50, seed) for seed in range(9)]
    for number in (1, 4, 5, 9):
        histograms = [example["count_losses"](part) for part in losses[:number]]
        total = example["tree_sum"](histograms)
        total = total if number == 1 else total.compute(scheduler="synchronous")
        assert total == sum(histograms)
