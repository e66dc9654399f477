"""
Text
====

Messages to a shop were filed under four topics, half of them by chance. A small network on token
ids learns the topics in spite of that, and lists the messages in the wrong place, to be read::

    python examples/train_text.py

It needs pandas and matplotlib (``pip install 'lossnoise[audit,plot]'``), no download, and some
seconds. The batches are dicts, as tokenizers make them, so that a model of Hugging Face could take
the place of this one.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

from lossnoise import AuditReport, LossHistoryDisplay, NoisyLabelTrainer
from lossnoise.corrections import MDyrH
from lossnoise.noise import inject_noise

# %%
# The texts
# ---------
# They are made up, so that nothing has to be downloaded: a middle that tells the topic, a beginning
# and an end that say nothing, and an order number. By its number a network can learn a wrong label
# by heart.

BEGINNINGS = (
    "hello",
    "good morning",
    "dear team",
    "hi there",
    "to whom it may concern",
    "hello again",
)
ENDS = (
    "please help",
    "thank you in advance",
    "can you look into it",
    "what should i do now",
    "i look forward to your answer",
    "this is the second time that i write",
)
TOPICS = {
    "billing": (
        ("my card was charged", "the invoice shows", "i was billed", "the receipt lists"),
        ("twice", "the wrong amount", "a fee that i never agreed to", "tax that does not apply"),
    ),
    "delivery": (
        ("the parcel", "my package", "the courier", "the shipment"),
        ("has not arrived", "went to a neighbour", "is stuck at customs", "came two days late"),
    ),
    "account": (
        ("i try to log in", "the reset link", "my password", "the login page"),
        ("and it fails", "does not work", "sends me in circles", "shows an error"),
    ),
    "returns": (
        ("the shoes", "the jacket", "the lamp that i bought", "the second pair"),
        ("do not fit", "arrived broken", "should go back", "is not the colour that i chose"),
    ),
}
NAMES = tuple(TOPICS)


def write_messages(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    topics = rng.integers(len(NAMES), size=n)
    middles = [" ".join(rng.choice(part) for part in TOPICS[NAMES[topic]]) for topic in topics]
    texts = [
        f"{rng.choice(BEGINNINGS)} {middle} {rng.choice(ENDS)} order {seed}{i:03d}"
        for i, middle in enumerate(middles)
    ]
    return texts, topics


texts, topics = write_messages(800, seed=1)
test_texts, test_topics = write_messages(500, seed=2)
given, changed = inject_noise(topics, 0.5, random_state=0)
print(f"{texts[0]!r} is filed under {NAMES[given[0]]!r}")
print(f"{len(texts)} messages, of which {changed.sum()} are in the wrong place")

# %%
# Token ids
# ---------
# Every word has a number, and 0 fills up the short texts. A sample is a dict: all but its label
# goes into the model by name.

vocabulary = {word: i for i, word in enumerate(sorted({w for t in texts for w in t.split()}), 1)}
LENGTH = max(len(text.split()) for text in texts)


def encode(texts: list[str], labels: np.ndarray) -> list[dict[str, Any]]:
    samples = []
    for text, label in zip(texts, labels, strict=True):
        ids = [vocabulary.get(word, 0) for word in text.split()][:LENGTH]
        padded = torch.tensor(ids + [0] * (LENGTH - len(ids)))
        samples.append({"input_ids": padded, "attention_mask": padded != 0, "labels": int(label)})
    return samples


class BagOfWords(nn.Module):
    """The mean of what a text's words are embedded as, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(vocabulary) + 1, 32, padding_idx=0)
        self.head = nn.Linear(32, len(NAMES))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        present = attention_mask[:, :, None].float()
        mean = (self.embedding(input_ids) * present).sum(dim=1) / present.sum(dim=1)
        return {"logits": self.head(mean)}


# %%
# Train
# -----
# M-DYR-H mixes inputs, and token ids cannot be mixed: there is no word between two words. What the
# embedding makes of them can. ``mix_at`` names the layer.


def train(correction: Any) -> NoisyLabelTrainer:
    torch.manual_seed(0)
    trainer = NoisyLabelTrainer(
        BagOfWords(),
        correction=correction,
        epochs=30,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.03),
        random_state=0,
    )
    return trainer.fit(encode(texts, given), encode(test_texts, test_topics))


plain = train("cross-entropy")
corrected = train(MDyrH(mix_at="embedding"))
for name, trainer in (("plain training", plain), ("M-DYR-H", corrected)):
    found = changed[trainer.noisy_indices_].sum() / changed.sum()
    accuracy = trainer.history_[-1]["val_accuracy"]
    print(f"{name:<15} accuracy on messages in the right place: {accuracy:.3f}, ", end="")
    print(f"of the wrong labels {found:.0%} are found")

# %%
# Plain training learns the wrong labels by heart: their losses fall towards those of right ones,
# and say little in the end. With the correction they rise.

LossHistoryDisplay.from_trainer({"plain training": plain, "M-DYR-H": corrected}, changed)
plt.show()

# %%
# Messages to read
# ----------------
# ``AuditReport.from_trainer`` makes a report of the trainer's findings, the most suspicious first.
# The index may be anything that names the samples: here the texts themselves.

report = AuditReport.from_trainer(corrected, encode(texts, given), index=texts, class_names=NAMES)
worst = report.table.head(8)
for text, label, rather in zip(
    worst.index, worst["given_label"], worst["suggested_label"], strict=True
):
    print(f"{text}\n    filed under {NAMES[label]}, rather {NAMES[rather]}")

# %%
# Was it right?
# -------------

flagged = report.noisy_indices
suggested = corrected.suggested_labels_[flagged]
print(f"{len(flagged)} are flagged: {changed[flagged].mean():.0%} of them are in the wrong place,")
print(f"and {changed[flagged].sum() / changed.sum():.0%} of all that are have been found")
print(f"{(suggested == topics[flagged]).mean():.0%} of the suggested topics are the true ones")

# %%
# Real texts are harder than these. ``report.to_html("audit.html", inputs=texts)`` writes a page on
# which somebody reads them and picks the right topics.
