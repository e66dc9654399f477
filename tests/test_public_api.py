"""What is public: importable, documented, in the API reference exactly once, and frozen.

`python tests/test_public_api.py` writes its names and signatures to tests/public_api.txt.
"""

import inspect
import re
from collections import Counter
from functools import cached_property
from importlib import import_module
from pathlib import Path

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc

import lossnoise
import lossnoise.corrections
import lossnoise.corrections.losses
import lossnoise.corrections.mixing
import lossnoise.data
import lossnoise.data.cifar
import lossnoise.data.resident
import lossnoise.exceptions
import lossnoise.integrations._lazy
import lossnoise.models
import lossnoise.noise
import lossnoise.training

API_PAGE = Path(__file__).parents[1] / "docs" / "api.rst"
FROZEN = Path(__file__).with_name("public_api.txt")

TOP_LEVEL = {f"lossnoise.{name}": getattr(lossnoise, name) for name in lossnoise.__all__}
CORRECTIONS = {
    f"lossnoise.corrections.{name}": getattr(lossnoise.corrections, name)
    for name in lossnoise.corrections.__all__
}
EXCEPTIONS = {
    f"lossnoise.exceptions.{name}": getattr(lossnoise.exceptions, name)
    for name in lossnoise.exceptions.__all__
}
CIFAR = {
    f"lossnoise.data.cifar.{name}": getattr(lossnoise.data.cifar, name)
    for name in lossnoise.data.cifar.__all__
}
PURE_FUNCTIONS = {
    f"{module.__name__}.{name}": value
    for module in (lossnoise.corrections.losses, lossnoise.corrections.mixing)
    for name, value in vars(module).items()
    if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
}
OTHERS = {
    "lossnoise.noise.inject_noise": lossnoise.noise.inject_noise,
    "lossnoise.noise.estimate_transition": lossnoise.noise.estimate_transition,
    "lossnoise.data.replace_inputs": lossnoise.data.replace_inputs,
    "lossnoise.models.preact_resnet18": lossnoise.models.preact_resnet18,
    "lossnoise.data.resident.ResidentImages": lossnoise.data.resident.ResidentImages,
    **{
        f"lossnoise.training.{name}": getattr(lossnoise.training, name)
        for name in lossnoise.training.__all__
        if name not in lossnoise.__all__
    },
}
# The classes themselves: their public modules have them only where the framework is installed.
RECORDERS = {
    f"lossnoise.integrations.{extra}.{name}": getattr(
        import_module(f"lossnoise.integrations._{extra}"), name
    )
    for extra, (_, name) in lossnoise.integrations._lazy.RECORDERS.items()
}
OTHERS |= RECORDERS
PUBLIC = {**TOP_LEVEL, **CORRECTIONS, **EXCEPTIONS, **CIFAR, **PURE_FUNCTIONS, **OTHERS}
DATA = {
    "lossnoise.corrections.CORRECTIONS",
    "lossnoise.data.cifar.CIFAR10_MEAN",
    "lossnoise.data.cifar.CIFAR10_STD",
}

# What one uses, as against what one only meets: the contract of corrections, errors, results.
MET = {"lossnoise.data.cifar.ImageArrays"} | DATA
USED = {n: v for n, v in {**TOP_LEVEL, **CIFAR, **PURE_FUNCTIONS, **OTHERS}.items() if n not in MET}
USED |= {
    f"lossnoise.corrections.{method.__name__}": method
    for method in lossnoise.corrections.CORRECTIONS.values()
}


def parameters_of(function):
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.name not in ("self", "cls")]


def documented(section):
    """Return the names in a section; `alphas_, betas_ : array` and `**kwargs` count as theirs."""
    return [name.strip("* ") for entry in section for name in entry.name.split(",")]


def public_methods(cls):
    """Return the functions that a class of ours defines or inherits from a class of ours."""
    found = {}
    for base in cls.__mro__:
        if base.__module__.startswith("lossnoise"):
            for name, member in vars(base).items():
                function = getattr(member, "__func__", member)
                if inspect.isfunction(function) and not name.startswith("_"):
                    found.setdefault(name, function)
    return found


METHODS = {
    f"{name}.{method}": function
    for name, value in TOP_LEVEL.items()
    if inspect.isclass(value)
    for method, function in public_methods(value).items()
}


def test_api_page_has_each_public_symbol_exactly_once():
    page = API_PAGE.read_text("utf-8")
    listed = Counter(re.findall(r"^\.\. auto\w+:: (\S+)", page, re.M))
    if ".. Here conf.py puts the class of each correction." in page:
        registered = lossnoise.corrections.CORRECTIONS.values()
        listed.update(f"lossnoise.corrections.{method.__name__}" for method in registered)
    assert {name: count for name, count in listed.items() if count > 1} == {}
    assert set(listed) == set(PUBLIC)


def test_dir_lists_lazy_names():
    assert set(lossnoise.__all__) <= set(dir(lossnoise))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'lossnoise' has no attribute 'nothing'$"):
        _ = lossnoise.nothing


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - DATA))
def test_every_symbol_has_a_docstring_of_its_own(name):
    docstring = PUBLIC[name].__doc__
    assert docstring
    first_line = docstring.strip().splitlines()[0]
    assert first_line.endswith((".", ":", "``."))


@pytest.mark.parametrize("name", sorted(n for n, v in USED.items() if inspect.isclass(v)))
def test_classes_document_their_parameters_and_show_an_example(name):
    doc = ClassDoc(USED[name])
    if expected := parameters_of(USED[name]):  # else the attributes are not the parameters
        assert documented(doc["Parameters"] or doc["Attributes"]) == expected
    assert doc["Examples"]


@pytest.mark.parametrize("name", sorted(n for n, v in USED.items() if inspect.isfunction(v)))
def test_functions_show_an_example(name):
    assert FunctionDoc(USED[name])["Examples"]


@pytest.mark.parametrize(
    "name",
    sorted([n for n, v in USED.items() if inspect.isfunction(v)] + list(METHODS)),
)
def test_functions_document_parameters_and_returns(name):
    function = {**USED, **METHODS}[name]
    doc = FunctionDoc(function)
    assert documented(doc["Parameters"]) == parameters_of(function)
    gives_nothing = inspect.signature(function).return_annotation in (None, "None")
    assert gives_nothing or doc["Returns"]


@pytest.mark.parametrize("name", sorted({**USED, **METHODS}))
def test_public_signatures_are_typed(name):
    signature = inspect.signature({**USED, **METHODS}[name])
    bare = [p for p in signature.parameters.values() if p.annotation is p.empty]
    assert [p.name for p in bare if p.name not in ("self", "cls")] == []


@pytest.mark.parametrize("error", EXCEPTIONS.values())
def test_errors_are_built_in_ones_too_and_warnings_have_one_base(error):
    if issubclass(error, Warning):
        assert issubclass(error, lossnoise.exceptions.LossNoiseWarning)
        assert issubclass(error, UserWarning)
    else:
        assert issubclass(error, lossnoise.exceptions.LossNoiseError)


# -- frozen: who changes a name, a parameter or a default also changes a file, seen in review -----


class AsItIs(str):
    """A text that stands in a signature without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def described(value):
    """Return a default or a constant in words that are the same in every version of Python."""
    if value is inspect.Parameter.empty:
        return value
    if isinstance(value, tuple):
        return AsItIs(f"({', '.join(map(described, value))})")
    plain = (bool, int, float, str, type(None))
    return AsItIs(repr(value) if isinstance(value, plain) else f"<{type(value).__name__}>")


def signature_of(function):
    """Return parameters and defaults as text; not types, whose spelling breaks nobody's code."""
    parameters = [
        p.replace(annotation=p.empty, default=described(p.default))
        for p in inspect.signature(function).parameters.values()
        if p.name not in ("self", "cls")
    ]
    return str(inspect.Signature(parameters))


def members_of(cls):
    """Return methods with their signatures, properties, and constants with their values."""
    ours = [base for base in cls.__mro__ if base.__module__.startswith("lossnoise")]
    members = {name: value for base in reversed(ours) for name, value in vars(base).items()}
    found = {f".{name}{signature_of(f)}" for name, f in public_methods(cls).items()}
    for name, value in members.items():
        if name[0] != "_" and isinstance(value, (property, cached_property)):
            found.add(f".{name}")
        elif name[0] != "_" and isinstance(value, (bool, int, float, str)):
            found.add(f".{name} = {described(value)}")
    return found


def lines_for_class(name, cls):
    """Return the constructor, and what the public bases of a class do not have already."""
    bases = [base for base in cls.__mro__[1:] if base in PUBLIC.values()]
    if issubclass(cls, Exception):
        head = ": " + ", ".join(base.__name__ for base in cls.__bases__)
    elif getattr(cls, "_is_protocol", False):
        head = ": Protocol"  # nobody calls it
    else:
        head = signature_of(cls)
    inherited = set().union(*map(members_of, bases))
    return [f"{name}{rest}" for rest in [head, *sorted(members_of(cls) - inherited)]]


def api():
    lines = [
        f"lossnoise.corrections.CORRECTIONS[{name!r}]"
        for name in sorted(lossnoise.corrections.CORRECTIONS)
    ]
    for name in sorted(set(PUBLIC) - DATA):
        value = PUBLIC[name]
        is_class = inspect.isclass(value)
        lines += lines_for_class(name, value) if is_class else [f"{name}{signature_of(value)}"]
    return lines


def test_names_and_signatures_are_the_frozen_ones():
    frozen = FROZEN.read_text("utf-8").splitlines()
    assert api() == frozen, "where this is meant, run: python tests/test_public_api.py"


if __name__ == "__main__":
    FROZEN.write_text("\n".join(api()) + "\n", "utf-8")
