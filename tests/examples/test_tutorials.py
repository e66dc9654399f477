"""The tutorials on losses, on a network of one's own and on text, run as a user would run them."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TUTORIALS = ("audit_images", "audit_table", "losses_only", "own_model", "train_text")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a tutorial in an empty folder; return its variables and the number of its figures."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    shown = []

    def show():
        shown.extend(pyplot.get_fignums())
        pyplot.close("all")

    monkeypatch.setattr(pyplot, "show", show)

    def run(name):
        found = runpy.run_path(str(EXAMPLES / f"{name}.py"))
        assert list(tmp_path.iterdir()) == []
        return found, len(shown)

    return run


def test_losses_only(run, capsys):
    found, figures = run("losses_only")
    assert figures == 2
    assert found["changed"][found["above"]].mean() > 0.9  # those to look at, of a budget of 100
    printed = capsys.readouterr().out
    estimated, true = re.findall(r"share of wrong labels: +([\d.]+)%", printed)
    assert float(estimated) == pytest.approx(float(true), abs=5.0)
    assert "Cannot tell" in printed
    assert found["detector"].separable_ is False


def test_losses_only_does_without_torch():
    code = f"import runpy, sys; runpy.run_path({str(EXAMPLES / 'losses_only.py')!r})"
    code += "; sys.exit('torch' in sys.modules)"
    environment = {"MPLBACKEND": "template", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=EXAMPLES.parent, env=environment)


def test_own_model(run, capsys):
    found, figures = run("own_model")
    assert figures == 3
    accuracies = [float(x) for x in re.findall(r"last epoch: ([\d.]+)", capsys.readouterr().out)]
    plain, corrected = accuracies
    assert corrected > plain + 0.1
    assert corrected > 0.9
    flagged, changed = found["flagged"], found["changed"]
    assert changed[flagged].mean() > 0.9
    assert changed[flagged].sum() > 0.9 * changed.sum()


def test_text(run, capsys):
    found, figures = run("train_text")
    assert figures == 1
    plain, corrected = (
        float(share)
        for share in re.findall(r"wrong labels (\d+)% are found", capsys.readouterr().out)
    )
    assert corrected > 90
    assert corrected > plain + 30
    assert found["changed"][found["flagged"]].mean() > 0.95


@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorials_are_written_in_cells(name):
    """A cell may have a title, which becomes one of the page."""
    cells = (EXAMPLES / f"{name}.py").read_text("utf-8").split("# %%\n")
    assert len(cells) > 5
    for cell in cells[1:]:
        title, second = (line.removeprefix("# ") for line in cell.splitlines()[:2])
        if set(second) == {"-"}:
            assert len(second) == len(title)
