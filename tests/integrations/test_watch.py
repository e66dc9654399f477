"""What a recorder says of labels that do not stay, and of outputs that are no logits."""

import warnings

import numpy as np
import pytest
import torch

from lossnoise.exceptions import LayoutWarning
from lossnoise.integrations import _recording as recording

N, CLASSES = 40, 4
LABELS = torch.arange(N) % CLASSES


def logits_for(labels, width=CLASSES):
    """Return outputs that are largest at the labels."""
    return 3.0 * torch.nn.functional.one_hot(labels, width).float()


def train(log, epoch, labels=LABELS, outputs=None, loss_fn=None):
    """Give a log the steps of an epoch, in batches of ten in another order."""
    outputs = logits_for(LABELS) if outputs is None else outputs
    log.begin(epoch)
    for rows in torch.randperm(N, generator=torch.Generator().manual_seed(epoch)).split(10):
        log.add_output(rows, outputs[rows], labels[rows], loss_fn)
    log.end()


@pytest.fixture
def log():
    log = recording.EpochLog("Recorder")
    log.hold(N)
    return log


def test_labels_that_change_are_told_once(log):
    other = LABELS.clone()
    other[[7, 31]] = (other[[7, 31]] + 1) % CLASSES
    train(log, 1)
    with pytest.warns(LayoutWarning) as caught:
        train(log, 2, other)
    train(log, 3)
    (told,) = caught
    assert str(told.message) == (
        "Recorder: 2 of 40 samples, the first of them sample 7, came with one label and then with "
        "another, in this run or the one that it resumes: their losses are of different samples or "
        "against different labels. A dataset must give a sample the same label each time, and not "
        "another sample for one that it cannot read; corrected labels need a new recorder."
    )


def test_a_sample_that_comes_twice_in_an_epoch_keeps_its_label_too(log):
    log.begin(1)
    log.add_output(torch.tensor([3, 3]), torch.zeros(2, CLASSES), torch.tensor([3, 1]), None)
    with pytest.warns(LayoutWarning, match="1 of 40 samples, the first of them sample 3, came"):
        log.end()


@pytest.mark.parametrize("steps", [0, 2])
def test_a_resumed_run_knows_the_labels_of_its_first_part(log, steps):
    train(log, 1)
    log.begin(2)
    for rows in torch.arange(N).split(10)[:steps]:  # of the epoch in which it is saved
        log.add_output(rows, logits_for(LABELS)[rows], LABELS[rows], None)
    other = recording.EpochLog("Recorder")
    other.load_state_dict(log.state_dict())
    with pytest.warns(LayoutWarning, match="40 of 40 samples"):
        train(other, 2, (LABELS + 1) % CLASSES)


def test_samples_without_a_class_have_no_label_to_keep(log):
    other = LABELS.clone()
    other[:5] = recording.IGNORED
    for epoch, labels in enumerate([LABELS, other, LABELS], 1):
        with warnings.catch_warnings():
            warnings.simplefilter("error", LayoutWarning)
            train(log, epoch, labels)


def test_an_epoch_that_was_broken_off_is_forgotten(log):
    log.begin(1)
    log.add_output(torch.tensor([0]), torch.zeros(1, CLASSES), torch.tensor([3]), None)
    train(log, 1)  # begun again, in which sample 0 has the label 0


def test_embeddings_are_told_from_logits(log):
    embeddings = torch.randn(N, 64, generator=torch.Generator().manual_seed(0)).relu()
    train(log, 1, outputs=embeddings)  # so may those of an untrained network look
    with pytest.warns(LayoutWarning) as caught:
        train(log, 2, outputs=embeddings)
    train(log, 3, outputs=embeddings)
    (told,) = caught
    strange = np.mean(embeddings.argmax(dim=1).numpy() >= CLASSES)
    assert str(told.message) == (
        f"Recorder: of {strange:.0%} of the samples the largest of 64 outputs is that of a class "
        "that no label has; the labels are of 4 classes. Outputs that are trained as logits are "
        "not like that, but embeddings are: a loss_fn can take the logits out of what the model "
        "gives."
    )


def test_a_network_may_have_more_outputs_than_there_are_classes(log):
    for epoch in (1, 2):
        train(log, epoch, outputs=logits_for(LABELS, width=1000))


def test_what_a_function_of_the_user_takes_need_not_be_logits(log):
    outputs = torch.randn(N, 64, generator=torch.Generator().manual_seed(0))
    for epoch in (1, 2):
        train(log, epoch, outputs=outputs, loss_fn=lambda outputs, labels: outputs[:, 0])
