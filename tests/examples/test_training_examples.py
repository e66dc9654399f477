"""The examples of the trainer, run as a user would run them, with small settings."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *arguments):
    runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](list(arguments))


def test_a_table_of_pandas(capsys):
    run("train_table", "--epochs", "30")
    printed = capsys.readouterr().out
    assert "suggested" in printed
    assert float(printed.split("true diagnosis ")[1]) > 0.9


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.CollapseWarning")
def test_torchvisions_resnet(capsys):
    run("train_resnet", "--epochs", "2", "--samples", "120", "--size", "16")
    printed = capsys.readouterr().out
    assert "accuracy on clean test labels" in printed
    assert "labels are wrong" in printed
