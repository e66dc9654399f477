"""Hugging Face's own trainer on texts of which half the labels were redrawn.

    python examples/with_huggingface.py

Compares plain training of a tiny BERT, from random weights, with dynamic bootstrapping as
`compute_loss_func`: the recorder tells it how probable it is that each label of the batch is wrong.
The texts are made up: each of four topics prefers words of its own. A minute; needs the extra
``huggingface``.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from lossnoise import audit
from lossnoise.corrections.losses import class_prior_divergence, dynamic_bootstrap
from lossnoise.integrations.huggingface import HuggingFaceLossRecorder
from lossnoise.noise import inject_noise

NUM_TOPICS, VOCABULARY, LENGTH, PADDING = 4, 500, 24, 0


def write_texts(n: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return texts of 8 to 24 token ids, and their topics."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, NUM_TOPICS, n)
    words = np.random.default_rng(0).permutation(np.arange(1, VOCABULARY))
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


def make_model() -> transformers.PreTrainedModel:
    """Return a classifier of texts from a configuration; nothing is downloaded."""
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        num_labels=NUM_TOPICS,
    )
    return transformers.BertForSequenceClassification(config)


def make_trainer(train_set: Any, epochs: int, seed: int, **settings: Any) -> transformers.Trainer:
    """Return a trainer with all that both runs have in common."""
    torch.manual_seed(seed)
    arguments = transformers.TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=epochs,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=500,
        learning_rate=2e-3,
        seed=seed,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    return transformers.Trainer(make_model(), arguments, train_dataset=train_set, **settings)


def accuracy(trainer: transformers.Trainer, test_set: Any) -> float:
    """Return the share of texts with the right topic."""
    found = trainer.predict(test_set)
    return float((found.predictions.argmax(axis=1) == found.label_ids).mean())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--noise", type=float, default=0.5, help="share of labels redrawn")
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=4, help="epochs that trust every label")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    texts, topics = write_texts(options.samples, seed=1)
    given, changed = inject_noise(topics, options.noise, random_state=options.seed)
    train_set, test_set = encode(texts, given), encode(*write_texts(500, seed=2))

    plain = make_trainer(train_set, options.epochs, options.seed)
    plain.train()

    recorder = HuggingFaceLossRecorder()

    def bootstrap_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        wrong = recorder.batch_noise_proba(warmup=options.warmup)
        losses = dynamic_bootstrap(outputs.logits, labels, wrong)
        items = len(labels) if num_items_in_batch is None else num_items_in_batch
        return losses.sum() / items + class_prior_divergence(outputs.logits)

    robust = make_trainer(train_set, options.epochs, options.seed, compute_loss_func=bootstrap_loss)
    recorder.attach(robust)
    robust.train()
    print(f"plain training: accuracy {accuracy(plain, test_set):.3f} on clean test labels")
    print(f"dynamic bootstrapping: accuracy {accuracy(robust, test_set):.3f}")
    print(audit(np.asarray(given), losses=recorder.losses_))
    print(f"in truth, {changed.sum()} labels are wrong")


if __name__ == "__main__":
    main()
