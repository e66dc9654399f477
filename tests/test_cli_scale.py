"""Losses other than cross-entropy, on the command line."""

import json

import numpy as np
import pytest

from lossnoise.audit._file_audit import Limits, audit_file
from lossnoise.cli import main
from lossnoise.exceptions import InvalidParameterError


@pytest.fixture
def sums(tmp_path):
    """Sums over twenty tokens; three of ten labels are wrong."""
    rng = np.random.default_rng(0)
    losses = 20.0 * np.concatenate([rng.gamma(1.0, 0.2, 700), rng.normal(4.0, 0.8, 300)])
    np.savez(tmp_path / "sums.npz", labels=np.arange(1000) % 3, losses=losses)
    return tmp_path / "sums.npz"


def test_the_warning_names_the_option_that_helps(sums, capsys):
    assert main(["audit", str(sums)]) == 0
    assert "(--loss-scale any on the command line)" in capsys.readouterr().err
    assert main(["audit", str(sums), "--loss-scale", "any", "--json"]) == 0
    found = capsys.readouterr()
    assert "warning" not in found.err
    assert json.loads(found.out)["noise_rate"] == pytest.approx(0.3, abs=0.03)


def test_a_file_in_pieces_has_the_same_scale(sums):
    whole, pieces = (
        audit_file(sums, loss_scale="any", limits=limits).report.summary["noise_rate"]
        for limits in (None, Limits(rows=100, chunk=500))
    )
    assert pieces == pytest.approx(whole, abs=0.01)


def test_probabilities_have_no_other_scale(tmp_path, capsys):
    proba = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    np.savez(tmp_path / "rows.npz", labels=np.arange(50) % 3, pred_probs=proba)
    message = (
        "The 'loss_scale' parameter of audit_file must be 'cross-entropy' where there are "
        "probabilities. Got 'any' instead."
    )
    with pytest.raises(InvalidParameterError) as caught:
        audit_file(tmp_path / "rows.npz", loss_scale="any")
    assert str(caught.value) == message
    assert main(["audit", str(tmp_path / "rows.npz"), "--loss-scale", "any"]) == 2
    assert message in capsys.readouterr().err
