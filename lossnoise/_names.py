"""Which name belongs to which label: by its text, in any case, or as a number."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lossnoise._validation import invalid_data

# Python reads more texts as numbers than files mean as such: 1_2, nan, and digits of any script.
_WHOLE = re.compile(r"[+-]?\d{1,300}", re.ASCII)
_WHOLE_AS_FLOAT = re.compile(r"[+-]?\d{1,300}(\.0+)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)

# Soft hyphen, zero-width space, word joiner and byte-order mark are not seen; others shape what is.
_UNSEEN: dict[int, int | None] = dict.fromkeys([0xAD, 0x200B, 0x2060, 0xFEFF])
_UNSEEN |= {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}  # ASCII in wide form


class Match(NamedTuple):
    """Whose names they are.

    Attributes
    ----------
    places : list of int or None
        For each name the place of its label; None for a name of another label.
    ends : list of str
        The names without what all of them begin with.
    """

    places: list[int | None]
    ends: list[str]


def number_of(text: str) -> int | float | None:
    """Return the finite number that a text is in a file; None where it is none."""
    stripped = text.strip()
    if _WHOLE.fullmatch(stripped):
        return int(stripped)
    value = float(stripped) if _NUMBER.fullmatch(stripped) else math.inf
    return value if math.isfinite(value) else None


def loosely(text: str) -> Any:
    """Return what is the same for texts that differ by case, or as spellings of a number."""
    number = number_of(text)
    return text.strip().casefold() if number is None else number


def spelling(text: str) -> Any:
    """Return what is the same for texts that people may take for one.

    They differ by case or spaces, by the codes of the same characters (as an umlaut has on
    different systems, and letters in wide form), by characters that nobody sees, or as a whole
    number that became a float.
    """
    seen = unicodedata.normalize("NFC", text).translate(_UNSEEN)
    words = " ".join(seen.split()).lower()
    return int(words.partition(".")[0]) if _WHOLE_AS_FLOAT.fullmatch(words) else words


def barely(text: str) -> Any:
    """Return the letters and digits of a text: p_self_harm is the column of "self-harm".

    Of a number, whose sign and point count, what `loosely` returns.
    """
    number = number_of(text)
    return ("".join(filter(str.isalnum, text.casefold())) or text) if number is None else number


def name_of(label: Any) -> str:
    """Return the text of a label; whole numbers are read as floats where some cell was empty."""
    whole = isinstance(label, float) and label.is_integer()
    return str(int(label) if whole else label)


def match_names(labels: Sequence[Any], names: Sequence[Any]) -> Match | None:
    """Return whose names they are; None where not each label has exactly one of them.

    All names may begin with the same characters, as in p_cat and p_dog.
    """
    due, found = list(map(name_of, labels)), list(map(name_of, names))
    # p_cat is the column of CAT.
    ways: tuple[Callable[[str], Any], ...] = (str, str.casefold, loosely, barely)
    for alike in ways:
        place = {alike(label): i for i, label in enumerate(due)}
        for cut in _shared(found):
            ends = [name[cut:] for name in found]
            keys = list(map(alike, ends))
            if len(place) == len(due) and len(set(keys)) == len(keys) and place.keys() <= set(keys):
                return Match(list(map(place.get, keys)), ends)
    return None


def without_name(labels: Sequence[Any], names: Sequence[Any]) -> list[Any]:
    """Return the labels that no name is for, where at least half of them have one.

    Nothing where the names are numbered, as tables have it by themselves.
    """
    due, found = list(map(name_of, labels)), list(map(name_of, names))
    best: set[int] = set()
    for cut in _shared(found):
        ends = [name[cut:] for name in found]
        numbers = [number_of(end) for end in ends]
        if numbers in (list(range(len(ends))), list(range(1, len(ends) + 1))):
            return []
        for alike in (str, str.casefold, loosely, barely):
            keys = set(map(alike, ends))
            known = {i for i, label in enumerate(due) if alike(label) in keys}
            best = max(best, known, key=len)
    if 2 * len(best) < len(due):
        return []
    return [label for i, label in enumerate(labels) if i not in best]


def check_order(owner: str, parameter: str, kind: str, names: list[Any], wanted: list[Any]) -> None:
    """Refuse the names of columns, or of rows, that are those of all labels in another order."""
    found = match_names(wanted, names) if len(names) == len(wanted) else None
    if found is not None and found.places != list(range(len(wanted))):
        raise invalid_data(owner, parameter, f"in the {kind} order {wanted}", str(names))


def _shared(names: list[str]) -> list[int]:
    """Return how many characters all names may begin with in common, most first."""
    lengths = range(min(map(len, names), default=0) + 1)
    return [n for n in lengths if len({name[:n] for name in names}) <= 1][::-1]
