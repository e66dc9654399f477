"""What the command line must not do: lose files, break a terminal, or answer what was not asked."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lossnoise import cli
from lossnoise.audit._commands import run_audit
from lossnoise.cli import main

ROOT = Path(__file__).parents[1]
N = 100


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with losses and their labels."""
    losses = np.random.default_rng(0).gamma(1.0, 0.2, size=N)
    losses[::10] += 5.0
    np.save(tmp_path / "losses.npy", losses)
    np.save(tmp_path / "labels.npy", np.arange(N) % 3)
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "loss"])
        writer.writerows((f"{i:03d}", "ab"[i % 2], loss) for i, loss in enumerate(losses))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_command_there_is_help(capsys):
    assert main([]) == 2
    assert capsys.readouterr().out.rstrip() == cli.make_parser().format_help().rstrip()


def refused(capsys, *arguments):
    assert main(["audit", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lossnoise: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("lossnoise: error: ").rstrip("\n")


@pytest.mark.parametrize("option", ["--csv", "-o"])
def test_arrays_that_are_read_are_not_written_over(folder, capsys, option):
    before = (folder / "labels.npy").read_bytes()
    found = refused(capsys, "losses.npy", "--labels", "labels.npy", option, "labels.npy")
    assert found == "labels.npy: is read too: write to another file, so that nothing is lost"
    assert (folder / "labels.npy").read_bytes() == before


def test_one_file_under_two_names_is_named_twice(folder, capsys):
    (folder / "sub").mkdir()
    found = refused(capsys, "rows.csv", "--csv", "a.csv", "-o", "sub/../a.csv")
    assert found == "a.csv: is named twice: the table and the report are two files"


def test_links_stay_and_what_they_lead_to_is_written(folder):
    (folder / "shared").mkdir()
    for name in ("issues.csv", "audit.html", "new.csv"):
        (folder / name).symlink_to(folder / "shared" / name)
    assert main(["audit", "rows.csv", "--csv", "issues.csv", "-o", "audit.html", "--quiet"]) == 0
    assert main(["review", "issues.csv", "--labels", "rows.csv", "-o", "new.csv"]) == 0
    for name in ("issues.csv", "audit.html", "new.csv"):
        assert (folder / name).is_symlink()
        assert (folder / "shared" / name).stat().st_size > 0


def test_what_is_no_file_is_not_replaced(folder, capsys):
    os.mkfifo("pipe")
    found = refused(capsys, "rows.csv", "--csv", "pipe")
    assert found == "pipe: is no file that could be replaced: name another one"


@pytest.mark.parametrize(("option", "ending"), [("--csv", ".xlsx"), ("-o", ".PDF")])
def test_what_is_another_kind_of_file_is_not_called_so(folder, capsys, option, ending):
    assert refused(capsys, "rows.csv", option, f"a{ending}") == (
        f"a{ending}: tables are CSV and reports HTML, whatever their names: choose another ending "
        f"than {ending.lower()}"
    )
    assert not (folder / f"a{ending}").exists()


@pytest.mark.parametrize("option", ["--csv", "-o"])
def test_what_is_not_compressed_is_not_called_so(folder, capsys, option):
    expected = "a.csv.gz: tables and reports are not compressed: leave out the ending"
    assert refused(capsys, "rows.csv", option, "a.csv.gz") == expected
    assert not (folder / "a.csv.gz").exists()


@pytest.mark.parametrize("option", ["--csv", "-o"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_a_review_is_not_written_over_however_a_spreadsheet_saved_it(
    folder, capsys, encoding, option
):
    assert main(["audit", "rows.csv", "--csv", "issues.csv", "--quiet"]) == 0
    capsys.readouterr()
    text = (folder / "issues.csv").read_text("utf-8-sig")
    header, first, *rest = text.splitlines()
    cells = first.split(",")
    cells[3], cells[-1] = "château", "lost"
    text = "\n".join([header, ",".join(cells), *rest])
    (folder / "issues.csv").write_text(text, encoding=encoding)
    found = refused(capsys, "rows.csv", option, "issues.csv")
    assert found.startswith("issues.csv: holds 1 reviews or notes that would be lost: ")


def test_the_index_keeps_the_name_of_its_column(folder):
    assert main(["audit", "rows.csv", "--index", "id", "--csv", "issues.csv", "--quiet"]) == 0
    assert (folder / "issues.csv").read_text("utf-8-sig").startswith("id,given_label,")


def test_json_has_no_numbers_that_json_does_not_know(folder, capsys):
    labels = np.where(np.arange(N) % 2, np.inf, 1.0)
    np.savez("rows.npz", labels=labels, losses=np.load("losses.npy"))
    assert main(["audit", "rows.npz", "--json"]) == 0

    def refuse(constant):
        raise ValueError(constant)

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert [one["label"] for one in found["per_class"]] == [1.0, "inf"]


def test_names_of_files_cannot_write_to_the_terminal(folder, capsys):
    name = "\x1b[31m\x07.csv"
    (folder / "rows.csv").rename(name)
    assert main(["audit", name, "--csv", f"out{name}"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert "\x1b" not in refused(capsys, name, "--labels", "none")


def test_a_mistake_of_ours_is_no_answer_to_max_noise(folder, capsys, monkeypatch):
    def fail(**_options):
        raise KeyError("x")

    monkeypatch.setattr(cli, "run_audit", fail)
    found = refused(capsys, "rows.csv", "--max-noise", "0.5")
    assert found.startswith("unexpected KeyError 'x' (test_cli_safety.py, line ")
    assert found.endswith("): this is a mistake in lossnoise, please report it")


def test_without_a_stderr_nothing_else_is_written(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["audit", "rows.csv", "--labels", "none"]) == 2
    assert main(["audit", "rows.csv", "--json"]) == 0
    json.loads(capsys.readouterr().out)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_under_stdout_is_one_line(folder):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lossnoise", "audit", str(folder / "rows.csv")],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("lossnoise: error: ")


def test_one_class_is_counted_in_the_singular(folder):
    np.save("labels.npy", np.zeros(N, dtype=int))
    nothing = (
        "index",
        "groups",
        "output",
        "csv",
        "max_noise",
        "pred_probs",
        "losses",
        "budget",
        "precision",
    )
    found = run_audit(
        "losses.npy",
        labels="labels.npy",
        loss_scale="cross-entropy",
        json=False,
        quiet=True,
        **dict.fromkeys(nothing),
    )
    assert found.text.startswith("losses.npy: 100 rows, 1 class\n")
