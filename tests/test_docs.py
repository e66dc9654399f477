"""The docs build without a warning, and what they show runs."""

import json
import re
import runpy
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|mailto:)(?P<file>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
NAMED_FILE = re.compile(r"`(?:python )?((?:docs|examples|lossnoise|tests)/[\w/]+\.\w+)`")
FENCED = re.compile(r"^```(?P<language>\S*)(?P<rest>[^\n]*)\n(?P<code>.*?)^```", re.M | re.S)


def blocks(page, language):
    """Return (line number of the first line, code) of each fenced block of one language."""
    text = page.read_text("utf-8")
    return [
        (text.count("\n", 0, found.start("code")), found["code"])
        for found in FENCED.finditer(text)
        if found["language"] == language
    ]


def identify(page):
    return page.relative_to(ROOT).as_posix()


def needs(page):
    """Return the packages beyond ours that a snippet needs, by the line that it begins after."""
    text = page.read_text("utf-8")
    found = [match for match in FENCED.finditer(text) if match["language"] == "python"]
    assert all(re.fullmatch(r"( needs=[\w,]+)?", match["rest"]) for match in found)
    return {
        text.count("\n", 0, match.start("code")): match["rest"].removeprefix(" needs=").split(",")
        for match in found
        if match["rest"].strip()
    }


def missing(packages):
    return [name for name in packages if find_spec(name) is None]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=identify)
def test_snippets_run_one_after_another(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    needed = needs(page)
    for line, code in blocks(page, "python"):
        with warnings.catch_warnings():
            if line in needed:
                warnings.simplefilter("ignore")  # what other packages warn of is theirs
            if not missing(needed.get(line, [])):
                # Blank lines in front make the line numbers of a traceback those of the page.
                exec(compile("\n" * line + code, str(page), "exec"), namespace)
    if absent := missing(sorted(set().union(*needed.values()))):
        pytest.skip(f"all snippets ran but those that need {', '.join(absent)}")


def test_a_snippet_is_left_out_only_where_what_it_needs_is_missing(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\n```\n```python needs=numpy,no_such_package\n```\n")
    assert needs(page) == {3: ["numpy", "no_such_package"]}
    assert missing(["numpy", "no_such_package"]) == ["no_such_package"]


def test_every_fenced_block_says_what_it_is():
    """A block that claims no language is never run, and nobody would notice."""
    known = {"python", "sh", "text", "yaml", "bibtex", "{toctree}"}
    for page in PAGES:
        found = {match["language"] for match in FENCED.finditer(page.read_text("utf-8"))}
        assert found <= known, page


def anchors(page):
    """Return the anchors that GitHub and MyST make of the headings of a page."""
    text = FENCED.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=identify)
def test_links_lead_somewhere(page):
    """Sphinx knows the links from page to page, but not those of the README, nor files by name."""
    text = FENCED.sub("", page.read_text("utf-8"))
    for link in LINK.finditer(text):
        target = page.parent / link["file"] if link["file"] else page
        assert target.exists(), link[0]
        if link["anchor"]:
            assert link["anchor"] in anchors(target), link[0]
    installed = Path(find_spec("lossnoise").origin).parents[1]  # not always beside the tests
    for name in NAMED_FILE.findall(text):
        folder = installed if name.startswith("lossnoise/") else ROOT
        assert (folder / name).is_file(), name


def test_a_link_that_leads_nowhere_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Two words, here\n\n[to](#two-words-here) [fro](other.md#end) [](x.png)\n")
    assert [(m["file"], m["anchor"]) for m in LINK.finditer(page.read_text())] == [
        ("", "two-words-here"),
        ("other.md", "end"),
        ("x.png", None),
    ]
    assert anchors(page) == {"two-words-here"}


def test_readme_begins_with_the_two_commands():
    commands = [code.strip() for _, code in blocks(README, "sh")[:2]]
    assert commands == [
        'pip install ".[all]" && python examples/quickstart.py',
        'pip install ".[test]" && pytest',
    ]


def test_each_correction_has_a_page_that_the_index_names():
    from lossnoise.corrections import CORRECTIONS

    pages = {page.stem for page in (ROOT / "docs" / "methods").glob("*.md")} - {"index"}
    assert pages == set(CORRECTIONS)
    index = (ROOT / "docs" / "methods" / "index.md").read_text("utf-8")
    for name in CORRECTIONS:
        assert f"| [`{name}`]({name}.md) |" in index


def test_docs_build_without_a_warning(tmp_path):
    options = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, "docs", str(tmp_path / "html")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "html" / "api.html").is_file()
    order = runpy.run_path(str(ROOT / "docs" / "gallery_order.py"))["ORDER"]
    for name in order:
        assert (tmp_path / "html" / "tutorials" / f"{name}.html").is_file()
    index = (tmp_path / "html" / "tutorials" / "index.html").read_text("utf-8")
    places = [index.index(f'href="{name}.html') for name in order]
    assert places == sorted(places)


def test_the_figures_of_the_explanations_are_made_by_a_command(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(ROOT / "docs")
    import make_figures

    monkeypatch.setattr(make_figures, "EPOCHS", (1, 2, 3))
    make_figures.main(tmp_path)
    made = {re.sub(r"_\d+", "", path.stem) for path in tmp_path.iterdir()}
    committed = (ROOT / "docs" / "_static").glob("*_*.png")
    kept = {re.sub(r"_\d+", "", path.stem) for path in committed}
    assert made == {name for name in kept if name.startswith(("how_", "limits_"))}


def test_the_figures_in_the_readme_are_those_of_the_committed_results():
    results = json.loads(
        (ROOT / "examples" / "benchmarks" / "results" / "methods_digits.json").read_text("utf-8")
    )
    rows = {
        tuple(cell.strip() for cell in line.strip("|\n").split("|"))
        for line in README.read_text("utf-8").splitlines()
        if line.startswith("|")
    }
    for noise in (0.0, 0.2, 0.5, 0.8, 0.9):
        name = f"symmetric-{noise:g}"
        cells = {c["correction"]: c["summary"] for c in results["cells"] if c["noise_name"] == name}
        accuracies = [
            f"{cells[name]['last']['mean']:.3f} ± {cells[name]['last']['std']:.3f}"
            for name in ("cross-entropy", "mixup", "m-dyr-h")
        ]
        found = cells["m-dyr-h"]
        rates = f"{found['noise_rate']['mean']:.3f} / {found['true_rate']['mean']:.3f}"
        assert (f"{noise:.0%}".replace("%", " %"), *accuracies, rates) in rows


def test_the_tables_of_the_benchmarks_are_those_of_the_committed_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples" / "benchmarks")
    import tables

    pages = [page.read_text("utf-8") for page in tables.PAGES]
    found = [match["name"] for page in pages for match in tables.TABLE.finditer(page)]
    assert sorted(found) == sorted(tables.TABLES)
    for page in pages:
        assert tables.filled(page) == page
