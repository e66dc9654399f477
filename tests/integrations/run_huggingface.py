"""A tiny BERT on made-up texts in Hugging Face's own trainer; a script for torchrun, too.

torchrun --nproc_per_node=2 run_huggingface.py FOLDER SAMPLES
"""

import os
import sys
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers
from by_hand import ByHand

from lossnoise.integrations.huggingface import HuggingFaceLossRecorder

NUM_CLASSES, LENGTH, VOCABULARY = 3, 6, 64


def make_labels(n):
    return np.random.default_rng(0).integers(0, NUM_CLASSES, n)


def make_data(n):
    """Texts whose first token is the number of the sample, with a column for nobody."""
    rng = np.random.default_rng(1)
    ids = rng.integers(0, VOCABULARY, (n, LENGTH))
    ids[:, 0] = np.arange(n)
    columns = {
        "input_ids": ids.tolist(),
        "label": make_labels(n).tolist(),
        "text": [f"text {i}" for i in range(n)],
    }
    return datasets.Dataset.from_dict(columns)


def make_model(dropout=0.1):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=LENGTH,
        num_labels=NUM_CLASSES,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return transformers.BertForSequenceClassification(config)


def make_trainer(
    folder, n, *, model=None, dataset=None, compute_loss_func=None, dropout=0.1, **settings
):
    defaults = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return transformers.Trainer(
        make_model(dropout) if model is None else model,
        transformers.TrainingArguments(output_dir=str(folder), **defaults | settings),
        train_dataset=make_data(n) if dataset is None else dataset,
        eval_dataset=make_data(7),
        compute_loss_func=compute_loss_func,
    )


class Watch(transformers.TrainerCallback):
    """Works out by hand what a recorder should record."""

    def __init__(self, labels, model):
        self.by_hand = ByHand(labels)
        self.epoch = 0
        model.register_forward_hook(self.see, with_kwargs=True)

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.epoch += 1

    def see(self, model, inputs, named, output):
        if model.training:
            self.by_hand.add(named["input_ids"][:, 0], output["logits"], self.epoch)


def run(folder, n, **settings):
    trainer = make_trainer(folder, n, **settings)
    watch = Watch(make_labels(n), trainer.model)
    trainer.add_callback(watch)
    recorder = HuggingFaceLossRecorder().attach(trainer)
    trainer.train()
    return trainer, recorder, watch.by_hand


def main(folder, samples):
    saving = {"save_strategy": "steps", "save_steps": 1}  # in the middle of epochs
    _, recorder, by_hand = run(folder, int(samples), gradient_accumulation_steps=2, **saving)
    out = Path(folder) / f"rank{os.environ['RANK']}.npz"
    np.savez(out, history=recorder.loss_history_, by_hand=by_hand.rows())


if __name__ == "__main__":
    main(*sys.argv[1:])
