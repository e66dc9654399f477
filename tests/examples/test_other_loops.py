"""The examples in other people's loops, run as a user would run them, with small settings."""

import re
import runpy
import warnings
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

# What the frameworks warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("name", "packages", "arguments", "gain"),
    [
        ("with_lightning", ["lightning"], ["--epochs", "24"], 0.15),
        ("with_skorch", ["skorch"], ["--epochs", "24"], 0.1),
        ("with_huggingface", ["transformers", "accelerate"], ["--epochs", "14"], 0.02),
    ],
)
def test_it_is_better_than_plain_training(
    name, packages, arguments, gain, monkeypatch, capsys, tmp_path
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for package in packages:
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](arguments)
    printed = capsys.readouterr().out
    plain, robust = map(float, re.findall(r"accuracy (0\.\d+)", printed))
    assert robust > plain + gain
    assert "labels are probably wrong" in printed
