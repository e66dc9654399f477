"""The command line as a user or a pipeline sees it: options, files, exit status, streams."""

import csv
import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lossnoise import __version__, audit
from lossnoise.audit import _commands
from lossnoise.audit._file_audit import Limits
from lossnoise.cli import main, make_parser

ROOT = Path(__file__).parents[1]
N, WRONG = 300, 60
NAMES = ["cat", "dog", "007"]


def make_rows(n=N, seed=0):
    """Return labels (text), probabilities and losses; the first fifth of the labels is wrong."""
    rng = np.random.default_rng(seed)
    true = rng.integers(3, size=n)
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), true] += 5.0
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = true.copy()
    given[: n // 5] = (true[: n // 5] + 1) % 3
    return [NAMES[i] for i in given], probs, -np.log(probs[np.arange(n), given])


def write_csv(path, header, *columns):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))
    return path


@pytest.fixture
def table(tmp_path):
    labels, probs, losses = make_rows()
    ids = [f"{i:04d}" for i in range(N)]
    header = ["id", "label", *(f"p_{name}" for name in NAMES), "loss"]
    return write_csv(tmp_path / "rows.csv", header, ids, labels, *probs.T, losses)


@pytest.fixture
def clean(tmp_path):
    """Losses that look like one population."""
    losses = np.random.default_rng(0).gamma(1.0, 0.2, size=500)
    return write_csv(tmp_path / "clean.csv", ["label", "loss"], ["a", "b"] * 250, losses)


# -- the interface ----------------------------------------------------------------------------


def actions_of(command):
    parser = make_parser()
    if command:
        (commands,) = (a for a in parser._actions if hasattr(a, "choices") and a.choices)
        parser = commands.choices[command]
    return [a.option_strings or a.dest for a in parser._actions if a.help != "==SUPPRESS=="]


def test_the_options_are_frozen():
    assert actions_of(None)[:2] == [["-h", "--help"], ["--version"]]
    assert actions_of("audit") == [
        ["-h", "--help"],
        "file",
        ["--labels"],
        ["--losses"],
        ["--pred-probs"],
        ["--loss-scale"],
        ["--index"],
        ["--groups"],
        ["-o"],
        ["--csv"],
        ["--budget"],
        ["--precision"],
        ["--json"],
        ["--max-noise"],
        ["--quiet"],
    ]
    assert actions_of("review") == [["-h", "--help"], "reviews", ["--labels"], ["--column"], ["-o"]]


@pytest.mark.parametrize("command", [[], ["audit"], ["review"]])
def test_help_fits_a_screen(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"lossnoise {__version__}\n")


def test_abbreviated_options_are_refused(table, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["audit", str(table), "--loss", "loss"])
    assert ended.value.code == 2
    expected = "unrecognized arguments: --loss loss (see lossnoise --help)"
    assert capsys.readouterr().err == f"lossnoise: error: {expected}\n"


def test_csv_needs_neither_torch_nor_the_extra(table):
    code = (
        "import sys; sys.modules['pandas'] = sys.modules['pyarrow'] = None\n"
        "from lossnoise.cli import main\n"
        f"assert main(['audit', {str(table)!r}]) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_it_loads_little():
    code = "import sys, lossnoise.cli; print(sorted({'scipy', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n"


# -- exit status ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_noise", "status"), [([], 0), (["--max-noise", "0.5"], 0), (["--max-noise", "0.05"], 1)]
)
def test_status_tells_whether_there_is_too_much_noise(table, capsys, max_noise, status):
    assert main(["audit", str(table), "--losses", "loss", *max_noise]) == status
    err = capsys.readouterr().err
    assert bool(err) == (status == 1)
    if status:
        interval = r"\(90 % interval: 1?\d\.?\d* to 2\d\.?\d* %\)"
        found = rf"about 2\d\.?\d* % of the labels are wrong {interval}, 5 % are allowed"
        assert re.fullmatch(f"lossnoise: too much noise: {found}", err.strip())


@pytest.mark.parametrize(("max_noise", "status"), [([], 0), (["--max-noise", "0.9"], 3)])
def test_losses_that_cannot_tell_have_a_status_of_their_own(clean, capsys, max_noise, status):
    assert main(["audit", str(clean), *max_noise]) == status
    out, err = capsys.readouterr()
    assert "Cannot tell from these losses" in out
    assert "rows with the highest losses:" in out
    expected = "lossnoise: cannot tell from these losses whether there is more noise than allowed\n"
    assert err == (expected if status else "")


@pytest.mark.parametrize("share", ["5%", "1.5", "-0.1", "nan"])
def test_max_noise_is_a_share(table, capsys, share):
    with pytest.raises(SystemExit) as ended:
        main(["audit", str(table), f"--max-noise={share}"])
    assert ended.value.code == 2
    expected = f"argument --max-noise: a share between 0 and 1 is needed, not {share!r}"
    assert capsys.readouterr().err == f"lossnoise: error: {expected} (see lossnoise audit --help)\n"


# -- what is printed --------------------------------------------------------------------------


def test_the_summary_is_readable(table, capsys):
    assert main(["audit", str(table), "--pred-probs", "p_*", "--index", "id"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "rows.csv: 300 rows, 3 classes"
    assert lines[2].startswith("About 2")
    assert max(map(len, lines)) <= 80
    assert re.search(r"^007 +\d+ +\d+ +\d+\.\d %$", out, re.M)
    assert re.search(r"^most frequent pairs:\ngiven +suggested +flagged$", out, re.M)
    worst = out[out.index("worst rows:") :].splitlines()[2:]
    assert len(worst) == 10
    assert all(re.match(r"00[0-5]\d ", line) for line in worst)


def test_json_is_the_summary_and_nothing_else(table, capsys, tmp_path):
    options = ["--losses", "loss", "--csv", str(tmp_path / "issues.csv"), "--max-noise", "0.01"]
    assert main(["audit", str(table), "--json", *options]) == 1
    summary = json.loads(capsys.readouterr().out)
    labels, _, losses = make_rows()
    expected = audit(labels, losses=losses).summary
    assert set(summary) == set(expected)
    assert summary["num_issues"] == expected["num_issues"]
    assert summary["noise_rate"] == pytest.approx(expected["noise_rate"])


def test_quiet_leaves_stderr_to_errors(table, capsys):
    assert main(["audit", str(table), "--losses", "loss", "--max-noise", "0.01", "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert out
    assert main(["audit", "nothing.csv", "--quiet"]) == 2
    assert capsys.readouterr().err == "lossnoise: error: nothing.csv: No such file or directory\n"


def test_warnings_are_one_line_each(tmp_path, capsys):
    labels, probs, _ = make_rows()
    probs[0] *= 1.0005
    path = tmp_path / "rows.npz"
    names = np.array(["cat", "dog", "007"])
    np.savez(path, labels=np.array(labels), pred_probs=probs, class_names=names)
    assert main(["audit", str(path)]) == 0
    expected = "Rows of 'pred_probs' miss a sum of 1 by up to 0.0005: they were scaled."
    assert capsys.readouterr().err == f"lossnoise: warning: {expected}\n"
    assert main(["audit", str(path), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_labels_cannot_write_to_the_terminal(tmp_path, capsys):
    labels, _, losses = make_rows()
    labels = [{"cat": "\x1b[31mred\n", "dog": "d" * 100}.get(label, label) for label in labels]
    path = write_csv(tmp_path / "rows.csv", ["label", "loss"], labels, losses)
    assert main(["audit", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b[31mred\n" in out
    assert "d" * 21 + "..." in out
    assert "d" * 22 not in out


def test_many_classes_are_shortened(tmp_path, capsys):
    losses = np.r_[np.full(30, 5.0), np.random.default_rng(0).gamma(1.0, 0.1, 270)]
    labels = [f"c{i % 30}" for i in range(300)]
    path = write_csv(tmp_path / "rows.csv", ["label", "loss"], labels, losses)
    assert main(["audit", str(path)]) == 0
    assert "... and 10 more classes with less noise" in capsys.readouterr().out


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [[], ["--index", "id"]])
def test_losses_alone_are_audited_without_labels(tmp_path, capsys, index):
    _, _, losses = make_rows()
    name = "id" if index else ""  # as pandas writes numbers of rows
    columns = {name: [f"r{i}" if index else i for i in range(N)]}
    path = write_csv(tmp_path / "rows.csv", [*columns, "loss"], *columns.values(), losses)
    assert main(["audit", str(path), *index]) == 0
    worst = int(np.argmax(losses))
    header, first = capsys.readouterr().out.split("worst rows:\n")[1].splitlines()[:2]
    assert header.split() == ["index", "loss", "P(wrong)"]
    assert first.split()[:2] == [f"r{worst}" if index else str(worst), f"{losses[worst]:.3f}"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name it with --labels COL; its columns are 'target', 'loss'"),
        (["--losses", "los"], "no column is called 'los': the nearest is 'loss'"),
        (["--index", "Target"], "no column is called 'Target': the nearest is 'target'"),
    ],
)
def test_other_columns_may_be_labels_and_are_asked_for(tmp_path, capsys, options, message):
    labels, _, losses = make_rows()
    path = write_csv(tmp_path / "rows.csv", ["target", "loss"], labels, losses)
    assert main(["audit", str(path), *options]) == 2
    assert message in capsys.readouterr().err


def test_probabilities_are_not_asked_whether_they_are_losses(tmp_path, capsys):
    """Of two classes near chance, and of a tree that is sure, in one piece and in several."""
    rng = np.random.default_rng(0)
    for first in (rng.uniform(0.4, 0.6, N), rng.integers(2, size=N)):
        labels = rng.choice(["a", "b"], N)
        path = write_csv(tmp_path / "rows.csv", ["label", "p_a", "p_b"], labels, first, 1 - first)
        assert main(["audit", str(path), "--pred-probs", "p_*"]) == 0
        assert capsys.readouterr().err == ""
        _commands.audit_file(path, pred_probs="p_*", limits=Limits(rows=50))  # warnings are errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--losses", "los"],
            "no column is called 'los': the nearest is 'loss'; its columns are 'id', 'label', "
            "'p_cat', 'p_dog', 'p_007', 'loss'",
        ),
        (
            ["--losses", "label"],
            "column 'label' has {label!r} in row 0 (from 0), which is no number",
        ),
        (
            ["--pred-probs", "q_*"],
            "no column is like 'q_*'; its columns are 'id', 'label', 'p_cat', 'p_dog', 'p_007', "
            "'loss'",
        ),
        (["--pred-probs", "p_*,p_cat"], "--pred-probs p_*,p_cat names a column twice"),
        (
            ["--pred-probs", "p_cat,p_dog"],
            "the probabilities sum to {sum:.6g} in row 0 (from 0), not to 1: --pred-probs must "
            "name all classes",
        ),
        (
            ["--losses", "loss", "-o", "nowhere/a.html"],
            "nowhere/a.html: there is no folder nowhere: make it first",
        ),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(table, capsys, options, message):
    labels, probs, _ = make_rows()
    message = message.format(label=labels[0], sum=probs[0, :2].sum())
    message = message if message.startswith("nowhere") else f"{table}: {message}"
    assert main(["audit", str(table), *options]) == 2
    assert capsys.readouterr() == ("", f"lossnoise: error: {message}\n")


def test_the_input_is_never_written_over(table, capsys):
    before = table.read_bytes()
    for option in ("-o", "--csv"):
        assert main(["audit", str(table), option, str(table)]) == 2
        expected = f"{table}: is read too: write to another file, so that nothing is lost"
        assert capsys.readouterr().err == f"lossnoise: error: {expected}\n"
    assert table.read_bytes() == before


def test_outputs_that_cannot_be_are_refused_before_the_work(table, tmp_path, capsys):
    one = str(tmp_path / "out")
    assert main(["audit", str(table), "-o", one, "--csv", one]) == 2
    expected = f"{one}: is named twice: the table and the report are two files"
    assert capsys.readouterr().err == f"lossnoise: error: {expected}\n"
    assert main(["audit", str(table), "-o", str(tmp_path)]) == 2
    expected = f"{tmp_path}: is a folder: name a file in it"
    assert capsys.readouterr().err == f"lossnoise: error: {expected}\n"


def test_an_interrupt_is_one_line(table, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(_commands, "audit_file", interrupt)
    assert main(["audit", str(table)]) == 130
    assert capsys.readouterr() == ("", "lossnoise: interrupted\n")


def test_the_module_is_the_command(table, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lossnoise", "audit", str(table), "--losses", "loss"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("lossnoise", run_name="__main__")
    assert ended.value.code == 0
    assert "300 rows" in capsys.readouterr().out


def test_a_file_that_was_read_in_pieces_says_so(table, capsys, monkeypatch):
    monkeypatch.setattr(Limits, "__new__", lambda cls: cls._make([50, 50, 50, 20]))
    assert main(["audit", str(table), "--losses", "loss"]) == 0
    expected = "The file was read in pieces, and only its 20 worst rows were kept."
    assert expected in capsys.readouterr().out


def test_without_memory_the_error_is_one_line(table, capsys, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(_commands, "audit_file", fail)
    assert main(["audit", str(table)]) == 2
    expected = "not enough memory: leave out columns or rows of the file"
    assert capsys.readouterr().err == f"lossnoise: error: {expected}\n"


def test_a_missing_extra_is_named(table, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["audit", "rows.parquet"]) == 2
    needs = "which is not installed: pip install 'lossnoise[audit]'"
    expected = f"lossnoise: error: Reading rows.parquet needs pyarrow, {needs}\n"
    assert capsys.readouterr().err == expected
    assert main(["audit", str(table), "-o", str(tmp_path / "a.html")]) == 2
    assert capsys.readouterr().err == f"lossnoise: error: -o needs jinja2, {needs}\n"


# -- the page of the how-to guides -------------------------------------------------------------

PAGE = ROOT / "docs" / "how_to" / "command_line.md"


def test_the_commands_of_the_page_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    exec(next(code for language, code in blocks if language == "python"), {})
    commands = [line for language, code in blocks if language == "sh" for line in code.splitlines()]
    assert len(commands) == 5
    for command in commands:
        name, *arguments = shlex.split(command.partition(" > ")[0])
        assert name == "lossnoise"
        assert main(arguments) == 0, capsys.readouterr().err
        if "--csv" in arguments:
            issues = Path("issues.csv").read_text("utf-8-sig").splitlines(keepends=True)
            cells = issues[1].split(",")
            cells[issues[0].split(",").index("review")] = "cat"
            Path("issues.csv").write_text("".join([issues[0], ",".join(cells)]), "utf-8")
    assert {"audit.html", "issues.csv", "corrected.csv"} <= {
        path.name for path in tmp_path.iterdir()
    }


# -- the report -------------------------------------------------------------------------------


def test_the_report_shows_the_other_columns(table, tmp_path, capsys):
    page = tmp_path / "audit.html"
    command = ["audit", str(table), "--pred-probs", "p_*", "-o", str(page)]
    assert main(command) == 0
    assert f"wrote {page}\n" in capsys.readouterr().out
    text = page.read_text("utf-8")
    assert "0001" in text  # an id, which is another column here


def test_the_command_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    (line,) = re.findall(r"^lossnoise (audit .*)$", readme, re.M)
    monkeypatch.chdir(tmp_path)
    rows = [f"{'ab'[i % 2]},{0.9 - 0.4 * (i % 2)},{0.1 + 0.4 * (i % 2)}" for i in range(40)]
    Path("predictions.csv").write_text("\n".join(["label,p_a,p_b", *rows]) + "\n")
    assert main(shlex.split(line)) in (0, 1, 3)
    assert Path("audit.html").exists()
    assert "40 rows, 2 classes" in capsys.readouterr().out
