"""
Losses only
===========

All that is needed is one loss for each sample: how much a model disagrees with the label that the
sample was given. This example goes from a vector of losses to the labels that somebody should look
at, without a network and without PyTorch::

    python examples/losses_only.py

It needs matplotlib (``pip install 'lossnoise[plot]'``), no download, and a few seconds.
"""

from __future__ import annotations

import textwrap
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lossnoise import BetaMixtureNoiseDetector, LossMixtureDisplay
from lossnoise.exceptions import NoSeparableNoiseWarning
from lossnoise.noise import inject_noise

# %%
# Losses from anywhere
# --------------------
# Here they come from a logistic regression on handwritten digits, a fifth of whose labels are
# flipped to another digit. Each digit is predicted by a model that has not seen it. Its loss is
# -log(probability of its given label): near 0 where the model agrees, large where it does not.
# ``changed`` tells which labels are wrong. In real life nobody knows.

digits = load_digits()
model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))
folds = StratifiedKFold(shuffle=True, random_state=0)
rows = np.arange(len(digits.target))


def held_out_losses(labels: np.ndarray) -> np.ndarray:
    probs = cross_val_predict(model, digits.data, labels, cv=folds, method="predict_proba")
    return -np.log(probs[rows, labels])


given, changed = inject_noise(digits.target, 0.2, include_true=False, random_state=0)
losses = held_out_losses(given)
print(f"{len(losses)} losses, from {losses.min():.3f} to {losses.max():.1f}")

# %%
# The detector
# ------------
# It is a scikit-learn estimator. ``fit`` describes the losses by two beta distributions, one for
# right and one for wrong labels. ``predict_proba`` has the columns P(label right) and
# P(label wrong).

detector = BetaMixtureNoiseDetector().fit(losses)
noise_proba = detector.predict_proba(losses)[:, 1]
low, high = detector.noise_rate_interval_
print(f"estimated share of wrong labels: {detector.noise_rate_:.1%} ({low:.1%} to {high:.1%})")
print(f"true share of wrong labels:      {changed.mean():.1%}")

# %%
# Look at the fit
# ---------------
# The bars are the losses, the two curves what was fitted to right and to wrong labels. The third
# curve is P(label wrong) for a loss, on the scale on the right. Where the curves of right and of
# wrong labels overlap, no loss can tell one from the other.

LossMixtureDisplay.from_estimator(detector, losses)
plt.show()

# %%
# Where to cut
# ------------
# ``threshold_`` is the loss at which a label is as likely wrong as right. ``threshold_for`` chooses
# a loss by what is needed, and says what to expect of it. A precision of 90 % means that nine of
# ten labels above the cut are wrong; a recall of 90 %, that nine of ten wrong labels are above it.
# A precision is met with caution: by a lower P(label wrong) than the one that is drawn.

print("need            loss from   labels   precision, recall: expected     true")
for need in ({"precision": 0.9}, {"recall": 0.9}, {"budget": 100}):
    cut = detector.threshold_for(**need)
    above = losses >= cut.threshold
    true = changed[above].mean(), changed[above].sum() / changed.sum()
    print(
        f"{', '.join(f'{k} {v}' for k, v in need.items()):<15} {cut.threshold:<11.2f} "
        f"{cut.count:<27} {cut.precision:.2f}, {cut.recall:.2f}   {true[0]:.2f}, {true[1]:.2f}"
    )

# %%
# The labels to look at
# ---------------------
# The highest losses come first. This is the list that somebody goes through. No P(label wrong)
# reaches 1, because any model is sure of some mistakes: a few of the highest losses are counted as
# hard examples with right labels.

worst = np.argsort(losses)[::-1]
print("row    label   P(label wrong)   really wrong")
for row in worst[:10]:
    answer = "yes" if changed[row] else "no"
    print(f"{row:<6} {given[row]:<7} {noise_proba[row]:<16.2f} {answer}")
print(f"of the first {changed.sum()} rows {changed[worst[: changed.sum()]].mean():.0%} are wrong")

# %%
# Where losses cannot tell
# ------------------------
# The same digits with the labels that they came with. There is no second heap of losses now. The
# detector does not make up a number: it warns that it cannot tell, and every P(label wrong) is 0.
# That is not a proof that all labels are right.

clean = held_out_losses(digits.target)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always", NoSeparableNoiseWarning)
    detector = BetaMixtureNoiseDetector().fit(clean)
print(textwrap.fill(str(said[0].message), 88))
low, high = detector.noise_rate_interval_
print(f"separable: {detector.separable_}, between {low:.1%} and {high:.1%} may be wrong")

LossMixtureDisplay.from_estimator(detector, clean)
plt.show()
