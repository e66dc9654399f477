"""Losses worked out apart from the recorders: who a sample is stands in its input."""

from collections import defaultdict

import numpy as np


class ByHand:
    """The cross-entropy of each sample in each epoch, from the logits of the training steps."""

    def __init__(self, labels):
        self.labels = np.asarray(labels)
        self.losses = defaultdict(list)  # (sample, epoch) -> its losses, several where it is padded

    def add(self, samples, logits, epoch):
        logits = logits.detach().numpy().astype(np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        for sample, row in zip(samples, log_probs, strict=True):
            self.losses[int(sample), epoch].append(-row[self.labels[int(sample)]])

    def check(self, history):
        """Compare with what was recorded; return how many losses there are."""
        assert {(s, e + 1) for s, e in np.argwhere(~np.isnan(history))} == set(self.losses)
        for (sample, epoch), losses in self.losses.items():
            assert np.abs(np.array(losses) - history[sample, epoch - 1]).min() < 1e-6
        return len(self.losses)

    def rows(self):
        return np.array([(s, e, x) for (s, e), found in self.losses.items() for x in found])

    @classmethod
    def merged(cls, labels, tables):
        merged = cls(labels)
        for sample, epoch, loss in np.concatenate(tables):
            merged.losses[int(sample), int(epoch)].append(loss)
        return merged
