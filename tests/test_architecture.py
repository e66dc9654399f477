"""The picture of the house in docs/development.md, checked on the source itself."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import lossnoise

ROOT = Path(__file__).parents[1]
PACKAGE = Path(lossnoise.__file__).parent  # also where the tests run on an installed wheel
MODULES = sorted(PACKAGE.rglob("*.py"))
PYTHON_FILES = [
    path for folder in (PACKAGE, ROOT / "tests", ROOT / "examples") for path in folder.rglob("*.py")
]

FRAMEWORKS = {"lightning", "skorch", "transformers"}
OPTIONAL = {"PIL", "jinja2", "matplotlib", "pandas", "polars", "pyarrow", "tqdm"} | FRAMEWORKS
SCIENCE = {"numpy", "scipy", "sklearn"}
TORCH = {"torch", "torchvision"}

# Free for all: they know nothing of the rest of the house.
FOUNDATION = {"exceptions", *(path.stem for path in PACKAGE.glob("_*.py"))} - {"__init__"}

# Part of the house -> the parts that it may import, and the packages from outside. A new part has
# to be entered here.
PARTS = {
    **{name: (set(), {"numpy"}) for name in FOUNDATION},
    "detectors": (set(), SCIENCE),
    "noise": (set(), {"numpy"}),
    "audit": ({"detectors"}, SCIENCE),
    "data": (set(), SCIENCE | TORCH),
    "models": (set(), TORCH),
    "corrections": ({"noise"}, SCIENCE | TORCH),
    "training": ({"corrections", "detectors", "data"}, SCIENCE | TORCH),
    "integrations": ({"corrections", "detectors", "training"}, SCIENCE | TORCH),
    "cross_val": ({"training"}, SCIENCE),
    "cli": ({"__version__", "audit"}, set()),
    "__main__": ({"cli"}, set()),
    "": ({"audit", "cross_val", "detectors", "training"}, set()),  # the public names
}


class Import(NamedTuple):
    module: str
    top_level: bool
    typing_only: bool


def part_of(module):
    """Return the first name below lossnoise, of a dotted module name."""
    return f"{module}.".split(".")[1]


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """Return every import in a file, wherever it stands."""
    return list(_walk(ast.parse(path.read_text("utf-8")), top_level=True, typing_only=False))


def _walk(node, *, top_level, typing_only):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, top_level, typing_only)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute here"
            yield from (Import(name, top_level, typing_only) for name in _imported_from(child))
        else:
            inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            guard = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from _walk(
                child, top_level=top_level and not inner, typing_only=typing_only or guard
            )


def _imported_from(node):
    """Return the modules imported from; `from lossnoise import noise` is lossnoise.noise."""
    if node.module != "lossnoise":
        return [node.module]
    return [f"lossnoise.{alias.name}" for alias in node.names]


def identify(path):
    folder = PACKAGE.parent if path.is_relative_to(PACKAGE) else ROOT
    return path.relative_to(folder).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_imports_between_parts_go_one_way(path):
    own = part_of(module_name(path))
    allowed = PARTS[own][0] | FOUNDATION | {own}
    used = {part_of(i.module) for i in imports_of(path) if i.module.split(".")[0] == "lossnoise"}
    assert used <= allowed


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_only_declared_packages_are_imported(path):
    known = PARTS[part_of(module_name(path))][1] | OPTIONAL | {"lossnoise"}
    used = {found.module.split(".")[0] for found in imports_of(path)}
    assert used - set(sys.stdlib_module_names) <= known


def eager_imports(path):
    """Return the modules that are loaded as soon as the file is."""
    return {i.module for i in imports_of(path) if i.top_level and not i.typing_only}


def test_optional_packages_are_loaded_on_use():
    """A module that has one at its top is itself imported inside functions only."""
    eager = {module_name(path): eager_imports(path) for path in MODULES}
    needy = {
        module
        for module, imports in eager.items()
        if OPTIONAL & {name.split(".")[0] for name in imports}
    }
    assert all("._" in module for module in needy), "a public module always loads"
    assert {module: found for module, imports in eager.items() if (found := imports & needy)} == {}


def test_the_import_rules_see_what_they_are_to_forbid(tmp_path):
    code = (
        "import torch.nn\n"
        "from lossnoise import training\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    import pandas\n"
        "def f():\n"
        "    from lossnoise.cli import main\n"
    )
    path = tmp_path / "module.py"
    path.write_text(code)
    assert imports_of(path) == [
        Import("torch.nn", True, False),
        Import("lossnoise.training", True, False),
        Import("typing", True, False),
        Import("pandas", True, True),
        Import("lossnoise.cli", False, False),
    ]


def run_fresh(code):
    """Run code in a new process; return what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_package_itself_loads_only_numpy():
    packages = sorted(SCIENCE | TORCH | OPTIONAL)
    code = f"import sys, lossnoise\nprint([name for name in {packages} if name in sys.modules])"
    assert run_fresh(code) == "['numpy']"


def test_using_the_detector_never_imports_torch_or_optional_packages():
    code = (
        "import sys, numpy as np\n"
        "from lossnoise import BetaMixtureNoiseDetector\n"
        "losses = np.random.default_rng(0).gamma(1.0, size=200)\n"
        "BetaMixtureNoiseDetector().fit(losses).predict_proba(losses)\n"
        "print(sorted({'torch', 'torchvision', 'matplotlib', 'tqdm'} & set(sys.modules)))\n"
    )
    assert run_fresh(code) == "[]"


def test_noise_and_audit_never_import_torch():
    code = (
        "import sys, numpy as np\n"
        "from lossnoise import audit\n"
        "from lossnoise.noise import inject_noise\n"
        "labels, changed = inject_noise(np.arange(100) % 4, 0.3, random_state=0)\n"
        "audit(labels, losses=np.linspace(0.0, 5.0, 100)).table\n"
        "print('torch' in sys.modules)\n"
    )
    assert run_fresh(code) == "False"


@pytest.mark.parametrize(
    "first",
    [
        "import lossnoise.audit",
        "from lossnoise.audit import AuditReport",
        "import lossnoise",
        "from lossnoise import NoisyLabelTrainer",
    ],
)
def test_audit_is_the_function_whatever_is_imported_first(first):
    code = f"{first}\nimport lossnoise\nimport lossnoise.audit\nprint(callable(lossnoise.audit))"
    assert run_fresh(code) == "True"


# -- sizes: what cannot be read in one go is hard to keep right -----------------------------------

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_CONSTRUCTOR_OPTIONS = 12


def functions_of(path):
    tree = ast.parse(path.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def code_lines(function, lines):
    """Return the number of lines of a function that hold code: no docstring, blanks, comments."""
    numbers = set(range(function.lineno, function.end_lineno + 1))
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        numbers -= set(range(docstring.lineno, docstring.end_lineno + 1))
    texts = (lines[number - 1].strip() for number in numbers)
    return sum(1 for text in texts if text and not text.startswith("#"))


@pytest.mark.parametrize("path", PYTHON_FILES, ids=identify)
def test_files_and_functions_are_short(path):
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= MAX_FILE_LINES
    sizes = {function.name: code_lines(function, lines) for function in functions_of(path)}
    assert {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES} == {}


def test_most_functions_of_the_package_are_small():
    sizes = sorted(
        code_lines(function, path.read_text("utf-8").splitlines())
        for path in MODULES
        for function in functions_of(path)
    )
    assert sizes[len(sizes) // 2] <= 12
    assert sizes[int(0.95 * len(sizes))] <= 40


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_constructors_take_few_options(path):
    for function in functions_of(path):
        if function.name == "__init__":
            assert len(function.args.kwonlyargs) <= MAX_CONSTRUCTOR_OPTIONS


def test_code_lines_leave_out_docstring_blanks_and_comments():
    source = 'def f(x):\n    """Text.\n\n    More.\n    """\n    # why\n\n    return x\n'
    (function,) = ast.parse(source).body
    assert code_lines(function, source.splitlines()) == 2
