"""What a release has to pass beyond `.ci/run`: `nox` runs it, `nox --list` says what there is."""

from __future__ import annotations

import filecmp
import shutil
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv"  # pip cannot resolve to the lowest versions
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["oldest", "newest", "integrations", "package"]

OLDEST, NEWEST = "3.10", "3.13"

FRAMEWORKS = {"huggingface": "transformers", "lightning": "lightning", "skorch": "skorch"}

# The oldest versions stand in one place: they are the lower bounds in pyproject.toml.
LOWEST = "--resolution=lowest-direct"

# What old releases warn of among themselves: PyTorch 2.4 as it unpickles a tensor, NumPy 1.24.0 as
# pandas writes an empty cell, and all of them as they call what their own dependencies deprecate.
TOLERANT = [
    *("-W", "ignore::DeprecationWarning"),
    *("-W", "ignore::PendingDeprecationWarning"),
    *("-W", "ignore:You are using `torch.load`:FutureWarning"),
    *("-W", "ignore:invalid value encountered in cast:RuntimeWarning"),
]


@nox.session(python=OLDEST)
def oldest(session: nox.Session) -> None:
    """Run the tests with the oldest version of everything that pyproject.toml allows."""
    session.install(LOWEST, "-e.[test]")
    session.run("pytest", *TOLERANT, *session.posargs)


@nox.session(python=NEWEST)
def newest(session: nox.Session) -> None:
    """Run the tests with the newest version of everything."""
    session.install("-e.[test]")
    session.run("pytest", *session.posargs)


@nox.session(python=[OLDEST, NEWEST])
@nox.parametrize("framework", list(FRAMEWORKS), ids=list(FRAMEWORKS))
def integrations(session: nox.Session, framework: str) -> None:
    """Run the recorder for a framework in the oldest release that we allow, or in the newest."""
    old = session.python == OLDEST
    # transformers 4.51 cannot resume with an older PyTorch, whatever is recorded.
    beside = ["datasets>=3.0", "torch>=2.6"] if framework == "huggingface" else []
    session.install(*[LOWEST] * old, f"-e.[test,{framework}]", *beside)
    module = FRAMEWORKS[framework]  # without it the tests would be skipped
    session.run("python", "-c", f"import {module}; print({module}.__version__)")
    tests = [f"tests/integrations/test_{name}.py" for name in ("recording", framework)]
    tests += ["tests/examples/test_other_loops.py", "-m", "not gpu"]
    session.run("pytest", *TOLERANT * old, *tests, *session.posargs)


@nox.session(python=NEWEST)
def package(session: nox.Session) -> None:
    """Build the last commit into dist/, twice the same; test the wheel without the sources."""
    session.install("build", "check-sdist", "twine")
    with tempfile.TemporaryDirectory() as temporary:
        sdist, wheel = build(session, Path(temporary, "first"))
        for again in build(session, Path(temporary, "second")):
            if not filecmp.cmp(again, sdist.with_name(again.name), shallow=False):
                session.error(f"two builds of {again.name} differ")
        session.run("check-sdist", "--source-dir", str(Path(temporary, "first")))
        session.run("twine", "check", "--strict", str(sdist), str(wheel))
        session.install(f"lossnoise[test] @ {wheel.as_uri()}")
        shutil.unpack_archive(sdist, temporary)
        elsewhere = Path(temporary, sdist.name.removesuffix(".tar.gz"))
        shutil.rmtree(elsewhere / "lossnoise")
        with session.chdir(elsewhere):
            session.run("pytest", "tests", *session.posargs)
            session.run("pytest", "--pyargs", "lossnoise", *session.posargs)
        for built in (sdist, wheel):
            Path("dist").mkdir(exist_ok=True)
            shutil.copy(built, "dist")


def build(session: nox.Session, clone: Path) -> tuple[Path, Path]:
    """Build the sdist of the last commit, and the wheel from that, in a fresh clone."""
    session.run("git", "clone", "--quiet", ".", str(clone), external=True)
    time = session.run("git", "log", "-1", "--format=%ct", external=True, silent=True)
    env = {"SOURCE_DATE_EPOCH": str(time).strip()}
    session.run("python", "-m", "build", str(clone), env=env, silent=True)
    (sdist,), (wheel,) = (list(clone.glob(f"dist/*{kind}")) for kind in (".tar.gz", ".whl"))
    return sdist, wheel


@nox.session(python=NEWEST)
def docs(session: nox.Session) -> None:
    """Build the docs into docs/_build/html."""
    session.install("-e.[all,docs]")
    sphinx(session, "html")


@nox.session(python=NEWEST)
def linkcheck(session: nox.Session) -> None:
    """Follow the links in the docs; needs the network, and other people's servers."""
    session.install("-e.[all,docs]")
    sphinx(session, "linkcheck", "-D", "plot_gallery=0")


def sphinx(session: nox.Session, builder: str, *options: str) -> None:
    """Run Sphinx; a warning is an error."""
    command = ["python", "-m", "sphinx", "-W", "--keep-going", "-b", builder, *options]
    session.run(*command, "docs", f"docs/_build/{builder}", *session.posargs)
