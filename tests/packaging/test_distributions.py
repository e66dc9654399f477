"""The wheel holds the package and nothing else, and works away from the checkout."""

import ast
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import lossnoise

ROOT = Path(__file__).parents[2]


def files_in(*folders):
    """Return the files that belong in the folders, as paths from the root."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not {"__pycache__", "_build", "tutorials"} & set(path.parts)
        # The tutorials leave tables and pages in the folder that they are in.
        if folder != "examples" or path.suffix not in (".csv", ".html")
    }


def test_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    packaged = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in packaged if ".dist-info/" not in name} == files_in("lossnoise")
    assert "lossnoise/py.typed" in packaged
    assert {
        f"lossnoise/audit/templates/report.{kind}" for kind in ("html", "css", "js")
    } <= packaged
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in packaged)


def test_sdist_holds_what_its_tests_need(sdist):
    with tarfile.open(sdist) as archive:
        packed = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    generated = {name for name in packed if "egg-info/" in name} | {"PKG-INFO"}
    top_level = {name for name in packed - generated if "/" not in name}
    assert packed - generated - top_level == files_in("lossnoise", "tests", "docs", "examples")
    assert {path for path in top_level if not (ROOT / path).is_file()} == set()
    assert {"pyproject.toml", "README.md", "CONTRIBUTING.md", "build_backend.py"} <= top_level


def test_builds_from_one_commit_are_the_same_byte_for_byte(built, build):
    """The second is made from files with other times, under another umask."""
    for one, other in zip(built, build(umask=0o077), strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes(), f"two builds of {one.name} differ"


def test_installed_wheel_opens_its_data_files_from_another_folder(run, site, tmp_path):
    code = (
        "from importlib.resources import files\n"
        "import lossnoise\n"
        "lossnoise.audit([0, 1], noise_proba=[0.9, 0.1]).to_html('report.html')\n"
        "print((files(lossnoise) / 'py.typed').read_bytes())\n"
        "print(lossnoise.__file__)\n"
        "print(lossnoise.__version__)\n"
    )
    printed = run(sys.executable, "-c", code, cwd=tmp_path, env={"PYTHONPATH": str(site)})
    marker, file, version = printed.splitlines()
    assert marker == "b''"
    assert "1 of 2 labels is likely wrong" in (tmp_path / "report.html").read_text("utf-8")
    assert Path(file).is_relative_to(site)
    assert version == lossnoise.__version__


def test_version_is_written_in_one_place(wheel):
    init = ast.parse((ROOT / "lossnoise" / "__init__.py").read_text("utf-8"))
    written = [
        node.value.value
        for node in init.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
    ]
    assert written == [lossnoise.__version__]
    assert wheel.name.split("-")[1] == lossnoise.__version__
    for name in ("pyproject.toml", "setup.cfg", "CITATION.cff"):
        assert lossnoise.__version__ not in (ROOT / name).read_text("utf-8")


def test_extras_are_those_that_the_readme_and_the_messages_name(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode()
    described = metadata.PathDistribution(zipfile.Path(wheel) / name.partition("/")[0]).metadata
    extras = {"plot", "audit", "polars", "progress", "dask", "all", "test", "docs", "dev"}
    extras |= {"huggingface", "lightning", "skorch", "tensorboard"}
    assert set(described.get_all("Provides-Extra")) == extras
    assert 'lossnoise[audit,plot,progress]; extra == "all"' in text
