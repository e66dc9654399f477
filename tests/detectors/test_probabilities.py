"""Rows of probabilities are no history of losses, whatever type they come in."""

import warnings

import numpy as np
import pytest
import torch

from lossnoise import BetaMixtureNoiseDetector, audit
from lossnoise.exceptions import InvalidDataError, LossNoiseWarning, NoSeparableNoiseWarning

ROWS = "rows of 5 numbers that sum to 1 instead: these look like predicted probabilities"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_probabilities_are_known_in_every_type(dtype):
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    probs = logits.softmax(dim=1).to(getattr(torch, dtype))
    for given in (probs, probs.float(), probs.double().numpy()):
        with pytest.raises(InvalidDataError, match=f"Got 200 {ROWS}"):
            BetaMixtureNoiseDetector().fit(given)
    labels = torch.arange(200) % 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossNoiseWarning)  # at random, and rounded
        assert len(audit(labels, pred_probs=probs).noise_proba) == 200


def test_a_few_odd_rows_among_probabilities_hide_nothing():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(5), 100)
    odd = probs.copy()
    odd[:7] *= 2.0
    with pytest.raises(InvalidDataError, match=f"Got 93 {ROWS}"):
        BetaMixtureNoiseDetector().fit(odd)
    losses = np.concatenate([rng.gamma(1.0, 0.2, 700), rng.normal(4.0, 0.8, 300)])
    history = BetaMixtureNoiseDetector().fit(losses[:, None] * rng.uniform(0.9, 1.1, (1000, 5)))
    with pytest.raises(InvalidDataError, match=f"Got 100 {ROWS}"):
        history.predict_proba(probs)
    assert history.predict_proba(probs[:5]).shape == (5, 2)  # by chance, perhaps
    with pytest.warns(NoSeparableNoiseWarning):
        BetaMixtureNoiseDetector(loss_scale="any").fit(probs * np.linspace(0.8, 1.4, 100)[:, None])
