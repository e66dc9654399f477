"""
Audit a table
=============

A table of 1,797 rows came with labels, and some of them are wrong. Which ones? This example goes
from the table to a file of suspicious rows that somebody can look through, with a classifier of
scikit-learn and without a neural network::

    python examples/audit_table.py

It needs pandas and matplotlib (``pip install 'lossnoise[audit,plot]'``), no download, and a few
seconds.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lossnoise import LossMixtureDisplay, audit, cross_val_losses
from lossnoise.noise import inject_noise

# %%
# A table with labels
# -------------------
# Each row is a scan of a handwritten digit, each column the darkness of one of its 64 pixels. Rows
# have names, as the rows of real tables do, and labels are words.

digits = load_digits(as_frame=True)
names = pd.Index([f"scan-{i:04d}" for i in range(len(digits.data))], name="scan")
words = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
features = digits.data.set_index(names)
truth = pd.Series(words[digits.target], index=names)

# %%
# Some labels become wrong
# ------------------------
# The digits are labelled well. To know afterwards what was found, 15 % of the labels are flipped to
# a random other one. ``changed`` tells which: in real life nobody knows.

noisy, changed = inject_noise(truth, 0.15, include_true=False, random_state=0)
given = pd.Series(noisy, index=names, name="digit")
print(f"{len(given)} rows, of which {changed.sum()} have a wrong label\n")

# %%
# Losses of rows that the model has not seen
# ------------------------------------------
# A model that has learnt a wrong label by heart finds nothing wrong with it. So the rows are
# divided into five folds, and each fold is predicted by a model that has learnt the other four. The
# loss of a row is -log(probability of its given label): high where the model disagrees.
#
# Any classifier with ``predict_proba`` will do, and the better it predicts, the more is found.
# Where a fold takes hours, ``checkpoint_dir="folds"`` keeps those that are done.

model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))
losses, pred_probs = cross_val_losses(model, features, given, return_proba=True, random_state=0)
print(f"median loss of right labels {np.median(losses[~changed]):.2f}")
print(f"median loss of wrong labels {np.median(losses[changed]):.2f}\n")

# %%
# The audit
# ---------
# ``audit`` fits a mixture of two distributions to the losses and says how likely each label is to
# be wrong. Whole rows of probabilities say more than the losses alone: what the label should be,
# and that a label which is the model's own first choice is not suspicious.

report = audit(given, pred_probs=pred_probs)
print(report)

# %%
# The losses, and the two distributions that were fitted to them: what P(label wrong) comes from.

display = LossMixtureDisplay.from_estimator(report.detector, losses)
display.figure_.savefig("audit_table.png")

# %%
# Was it right?
# -------------
# Only because the labels were flipped here do we know. The first rows are nearly all wrong, and of
# the suggested labels most are the true ones.

print("\nrows to look at   really wrong")
for count in (50, 100, 200, int(changed.sum())):
    print(f"first {count:<12}{changed[report.order[:count]].mean():.0%}")

flagged = report.noisy_indices
suggested = report.table["suggested_label"]
found = changed[flagged].sum() / changed.sum()
mended = (suggested == truth[suggested.index]).to_numpy()[: len(flagged)].mean()
print(f"\n{len(flagged)} rows are flagged: {changed[flagged].mean():.0%} of them are really wrong,")
print(f"and {found:.0%} of all wrong labels are among them")
print(f"the estimated share of wrong labels is {report.summary['noise_rate']:.1%}")
print(f"{mended:.0%} of the labels suggested for flagged rows are the true ones")

# %%
# A file for whoever looks at them
# --------------------------------
# One line a row, the worst first, with the names that the rows came with.

report.to_csv("audit_table.csv")
print("\nwritten to audit_table.csv")
