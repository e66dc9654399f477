"""What a run derives from its losses."""

import numpy as np
import pytest

from lossnoise.training._run import evidence


@pytest.mark.parametrize(
    ("noise_proba", "expected"),
    [
        ([0.0, 0.0, 1.0, 1.0], 1.0),
        ([0.3, 0.3, 0.3], 0.0),
        ([0.25, 0.75], 0.25),  # variance 1/16 of at most 1/4
        ([0.0, 0.0], 0.0),
        ([1.0, 1.0], 0.0),
    ],
)
def test_evidence(noise_proba, expected):
    assert evidence(np.array(noise_proba)) == pytest.approx(expected)
