"""An embedding bag on token ids, in dict batches as tokenizers make them.

    python examples/train_text.py

Token ids cannot be averaged, so that mixup mixes what the embedding makes of them
(``mix_at="embedding"``). The texts are made up: each of four topics prefers words of its own. 40 %
of the labels are redrawn. Some seconds.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import MDyrH
from lossnoise.noise import inject_noise

NUM_TOPICS, VOCABULARY, LENGTH, PADDING = 4, 500, 24, 0


def write_texts(n: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return texts of 8 to 24 token ids, and their topics."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, NUM_TOPICS, n)
    words = np.random.default_rng(0).permutation(np.arange(1, VOCABULARY)).reshape(-1)
    texts = []
    for topic in topics:
        own = words[topic * 60 : (topic + 1) * 60]
        length = rng.integers(8, LENGTH + 1)
        is_own = rng.random(length) < 0.4
        texts.append(np.where(is_own, rng.choice(own, length), rng.choice(words, length)))
    return texts, topics


def encode(texts: list[np.ndarray], labels: np.ndarray) -> list[dict[str, Any]]:
    """Return samples as a tokenizer and a data set of transformers would have them."""
    samples = []
    for text, label in zip(texts, labels, strict=True):
        ids = np.full(LENGTH, PADDING)
        ids[: len(text)] = text
        mask = np.arange(LENGTH) < len(text)
        samples.append(
            {
                "input_ids": torch.from_numpy(ids),
                "attention_mask": torch.from_numpy(mask),
                "labels": int(label),
            }
        )
    return samples


class BagOfEmbeddings(nn.Module):
    """Mean of the embeddings of a text, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 32, padding_idx=PADDING)
        self.head = nn.Linear(32, NUM_TOPICS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        present = attention_mask[:, :, None].float()
        mean = (self.embedding(input_ids) * present).sum(dim=1) / present.sum(dim=1)
        return {"logits": self.head(mean)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--noise", type=float, default=0.4, help="share of labels redrawn")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    texts, topics = write_texts(options.samples, seed=1)
    given, changed = inject_noise(topics, options.noise, random_state=options.seed)
    test_texts, test_topics = write_texts(500, seed=2)

    print("correction       accuracy on clean test labels   wrong labels flagged (precision)")
    for correction in ("cross-entropy", MDyrH(mix_at="embedding")):
        torch.manual_seed(options.seed)
        trainer = NoisyLabelTrainer(
            BagOfEmbeddings(),
            correction=correction,
            epochs=options.epochs,
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
            random_state=options.seed,
        )
        trainer.fit(encode(texts, given), encode(test_texts, test_topics))
        flagged = trainer.noisy_indices_
        precision = changed[flagged].mean() if len(flagged) else float("nan")
        print(
            f"{trainer.correction_.__class__.__name__:<16} "
            f"{trainer.history_[-1]['val_accuracy']:.3f}{'':<27}"
            f"{len(flagged)} of {changed.sum()} ({precision:.2f})"
        )


if __name__ == "__main__":
    main()
