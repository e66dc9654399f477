"""
Audit images
============

A network is trained on pictures, a third of whose labels are wrong, and tells which ones: by the
losses of its own training, without held-out predictions. The result is a page that somebody opens
in a browser to look at the suspicious pictures and to correct their labels::

    python examples/audit_images.py

It needs pandas and jinja2 (``pip install 'lossnoise[audit]'``), ``quickstart.py`` beside it, and
half a minute.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from quickstart import small_network
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from lossnoise import AuditReport, NoisyLabelTrainer
from lossnoise.noise import inject_noise

# %%
# Pictures with labels
# --------------------
# 1,797 scans of handwritten digits, of 8 by 8 pixels. A third of the labels is flipped to a random
# other digit, so that we know afterwards what was found. ``changed`` tells which labels are wrong:
# in real life nobody knows.

# sphinx_gallery_thumbnail_path = '_static/audit_report.png'
digits = load_digits()
given, changed = inject_noise(digits.target, 1 / 3, include_true=False, random_state=0)
pictures = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)
dataset = TensorDataset(pictures, torch.as_tensor(given))

# %%
# Training that does not memorise
# -------------------------------
# Trained as usual, a network learns the wrong labels by heart, and then has no losses left to tell
# them by. M-DYR-H fits a mixture to the losses in every epoch, and lets the network's own
# prediction take the place of labels that look wrong.

torch.manual_seed(0)
trainer = NoisyLabelTrainer(small_network(), correction="m-dyr-h", epochs=40, random_state=0)
trainer.fit(dataset)

# %%
# The report
# ----------
# Losses, probabilities and suggested labels come from the trainer; the class names are shown in
# place of the numbers 0 to 9.

words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
report = AuditReport.from_trainer(trainer, dataset, class_names=words)
print(report)

# %%
# Was it right?
# -------------

flagged = report.noisy_indices
table = report.table.loc[flagged]
mended = (table["suggested_label"].to_numpy() == digits.target[flagged]).mean()
print(
    f"\n{len(flagged)} labels are flagged: {changed[flagged].mean():.0%} of them are really wrong,"
)
print(f"and {changed[flagged].sum() / changed.sum():.0%} of all wrong labels are among them")
print(f"{mended:.0%} of the labels suggested for them are the true ones")

# %%
# A page to look at, and the way back
# -----------------------------------
# ``audit_images.html`` is one file without anything from elsewhere. Whoever opens it picks a label
# for each picture and downloads the choices as a CSV file, which ``apply_review`` takes. The same
# works with a spreadsheet and the file of ``to_csv``. Here, a person is played by the truth.

report.to_html("audit_images.html", inputs=digits.images.astype(np.uint8) * 15, budget=100)
report.to_csv("audit_images.csv")

sheet = pd.read_csv("audit_images.csv", dtype=str, keep_default_na=False).head(
    100
)  # as many as somebody looked at
sheet["review"] = [words[digits.target[int(position)]] for position in sheet["index"]]
sheet.to_csv("audit_images_reviewed.csv", index=False)

reviewed = report.apply_review("audit_images_reviewed.csv")
before, after = (given != digits.target).mean(), (reviewed.labels != digits.target).mean()
print(f"\n{len(reviewed.changes)} labels of {reviewed.num_reviewed} that were looked at changed:")
print(f"{before:.1%} of all labels were wrong, {after:.1%} are now")
