"""The wheel holds the package and nothing else, and works away from the checkout."""

import ast
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import lossnoise

ROOT = Path(__file__).parents[1]
FOLDERS = ["lossnoise", "tests", "docs", "examples"]
FILES = ["pyproject.toml", "setup.cfg", "README.md", "LICENSE"]


def run(*command, cwd):
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build from a copy: a build in the checkout would leave its folders, and use old ones."""
    source = tmp_path_factory.mktemp("source")
    junk = shutil.ignore_patterns("__pycache__", "_build")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=junk)
    for file in FILES:
        shutil.copy(ROOT / file, source)
    # No build isolation: setuptools is in the test extra, and so this needs no network.
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist"]
    run(sys.executable, "-m", "pip", "wheel", *options, ".", cwd=source)
    (built,) = (source / "dist").glob("lossnoise-*.whl")
    return built


def test_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    packaged = set(zipfile.ZipFile(wheel).namelist())
    outside = {name for name in packaged if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "lossnoise").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert outside == wanted
    assert "lossnoise/py.typed" in packaged
    assert {
        f"lossnoise/audit/templates/report.{kind}" for kind in ("html", "css", "js")
    } <= packaged
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in packaged)


def test_installed_wheel_opens_its_data_files_from_another_folder(wheel, tmp_path):
    site = tmp_path / "site"
    options = ["--no-deps", "--no-index", "--target", str(site)]
    run(sys.executable, "-m", "pip", "install", *options, str(wheel), cwd=tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from importlib.resources import files\n"
        "import lossnoise\n"
        "lossnoise.audit([0, 1], noise_proba=[0.9, 0.1]).to_html('report.html')\n"
        "print((files(lossnoise) / 'py.typed').read_bytes())\n"
        "print(lossnoise.__file__)\n"
        "print(lossnoise.__version__)\n"
    )
    marker, file, version = run(sys.executable, "-c", code, cwd=tmp_path).splitlines()
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
    extras |= {"huggingface", "lightning", "skorch"}
    assert set(described.get_all("Provides-Extra")) == extras
    assert 'lossnoise[audit,plot,progress]; extra == "all"' in text
