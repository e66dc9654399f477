"""The sdist and the wheel, built as they are for a release, and the wheel installed elsewhere."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ["lossnoise", "tests", "docs", "examples"]
FILES = [
    *("pyproject.toml", "setup.cfg", "MANIFEST.in", "build_backend.py", "noxfile.py"),
    *("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md"),
]
EPOCH = "1700000000"


@pytest.fixture(scope="session")
def run():
    def run(*command, cwd, env=(), statuses=(0,), **options):
        options |= {"cwd": cwd, "env": os.environ | dict(env)}
        result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        assert result.returncode in statuses, result.stdout + result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="session")
def build(run, tmp_path_factory):
    """Build from a copy: a build in the checkout would leave its folders, and use old ones."""
    if not (ROOT / "lossnoise").is_dir():
        pytest.skip("the sources are not here: the tests run on an installed lossnoise")

    def build(**options):
        source = tmp_path_factory.mktemp("source")
        junk = shutil.ignore_patterns("__pycache__", "_build", "tutorials")
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, source / folder, ignore=junk, copy_function=shutil.copy)
        for file in FILES:
            shutil.copy(ROOT / file, source)
        # No build isolation: setuptools is in the test extra, and so this needs no network.
        command = [sys.executable, "-m", "build", "--no-isolation"]
        run(*command, cwd=source, env={"SOURCE_DATE_EPOCH": EPOCH}, **options)
        (sdist,), (wheel,) = (list(source.glob(f"dist/*{kind}")) for kind in (".tar.gz", ".whl"))
        return sdist, wheel

    return build


@pytest.fixture(scope="session")
def built(build):
    return build()


@pytest.fixture(scope="session")
def sdist(built):
    return built[0]


@pytest.fixture(scope="session")
def wheel(built):
    return built[1]


@pytest.fixture(scope="session")
def site(wheel, tmp_path_factory):
    """A folder to which the wheel is installed: of a pure Python wheel, that is unpacking."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder
