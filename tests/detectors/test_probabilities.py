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
    probs = rng.dirichlet(np.ones(5), 1000)
    for odd in (slice(0, 40), slice(600, 640)):
        given = probs.copy()
        given[odd] *= 2.0
        with pytest.raises(InvalidDataError, match=f"Got 960 {ROWS}"):
            BetaMixtureNoiseDetector().fit(given)
    probs[3, 2] = np.nan
    with pytest.raises(InvalidDataError, match="NaN"):  # the clearer message
        BetaMixtureNoiseDetector().fit(probs)


def test_histories_whose_rows_sum_to_one_by_chance_are_histories():
    rng = np.random.default_rng(0)
    rounded = np.round(rng.exponential(0.01, (1000, 100)), 2)  # to one within half a digit each
    varied = rng.dirichlet(np.ones(5), 100) * np.linspace(0.8, 1.4, 100)[:, None]
    for history, scale in ((rounded, "cross-entropy"), (varied, "any")):
        with pytest.warns(NoSeparableNoiseWarning):
            BetaMixtureNoiseDetector(loss_scale=scale).fit(history)
    losses = np.concatenate([rng.gamma(1.0, 0.2, 700), rng.normal(4.0, 0.8, 300)])
    history = BetaMixtureNoiseDetector().fit(losses[:, None] * rng.uniform(0.9, 1.1, (1000, 5)))
    assert history.predict_proba(rng.dirichlet(np.ones(5), 20)).shape == (20, 2)
