"""The comparison with cleanlab, run as a user would: what it prints adds up."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "compare_with_cleanlab.py"


def test_both_find_most_wrong_labels_and_the_parts_add_up(capsys):
    pytest.importorskip("cleanlab")
    runpy.run_path(str(EXAMPLE))["main"](["--noise", "0.2"])
    printed = capsys.readouterr().out
    wrong = int(re.search(r"1797 labels, (\d+) of them wrong", printed)[1])
    rows = re.findall(r"^(\S.*?)  +(\d+) +(\d+) +\d\.\d\d$", printed, re.M)
    flagged = {name: (int(count), int(right)) for name, count, right in rows}
    for name in ("lossnoise", "cleanlab"):
        whole = flagged[{"lossnoise": "lossnoise.audit"}.get(name, name)]
        parts = zip(flagged["both"], flagged[f"{name} alone"], strict=True)
        assert tuple(sum(part) for part in parts) == whole
        assert whole[1] > 0.8 * wrong
