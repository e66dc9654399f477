"""What users do without knowing it, and what would make a run wrong without a word."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from lossnoise import AuditReport, BetaMixtureNoiseDetector, NoisyLabelTrainer
from lossnoise.corrections import ForwardCorrection, LearningToReweight
from lossnoise.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    LayoutWarning,
    ModelOutputWarning,
    NoSeparableNoiseWarning,
    TrainedModelWarning,
)
from lossnoise.training import BestModel, EarlyStopping

N = 60
CHANGED = r"^\d+ of 60 samples, the first of them sample \d+, came with one label and then with ano"


class Points(Dataset):
    """Points of three classes; a subclass says which label comes at a time."""

    def __init__(self):
        self.inputs = torch.randn(N, 2, generator=torch.Generator().manual_seed(0))
        self.times = np.zeros(N, dtype=int)

    def __len__(self):
        return N

    def __getitem__(self, i):
        self.times[i] += 1
        return self.inputs[i], self.label(i)

    def label(self, i):
        return i % 3


# -- labels that do not stay ----------------------------------------------------------------------


class Drifting(Points):
    def label(self, i):
        return (i + (i == 17) * int(self.times[i] > 2)) % 3


class Unstable(Points):
    def label(self, i):
        return int(i + self.times[i]) % 3


def fill_up(samples):
    """Collate, with another sample at the end for the fourth, as if that were broken."""
    stand_in = next(sample for sample in samples if sample[1] != samples[3][1])
    return default_collate([*samples[:3], *samples[4:], stand_in])


@pytest.mark.parametrize("correction", ["cross-entropy", "m-dyr-h"])
@pytest.mark.parametrize("data", [Drifting, Unstable])
def test_a_label_that_does_not_stay_is_told(build, data, correction):
    with pytest.warns(LayoutWarning, match=CHANGED) as caught:
        build(correction=correction, epochs=4).fit(data())
    told = [str(w.message) for w in caught if w.category is LayoutWarning]
    assert len(told) == 1  # once in a run
    assert data is Unstable or told[0].startswith("1 of 60 samples, the first of them sample 17, ")


def test_samples_that_stand_in_for_others_are_told(build):
    with pytest.warns(LayoutWarning, match=CHANGED):
        build().fit(DataLoader(Points(), 20, shuffle=True, collate_fn=fill_up))


def test_a_sweep_is_compared_with_the_epoch_before_it(build):
    """One epoch is enough: the sweep has other batches."""
    trainer = build(correction="cross-entropy", epochs=1)
    with pytest.warns(LayoutWarning, match=CHANGED):
        trainer.fit(DataLoader(Points(), 20, shuffle=True, collate_fn=fill_up))


def test_labels_that_stay_are_not_told(build):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LayoutWarning)
        build(epochs=3).fit(DataLoader(Points(), 20, shuffle=True))


class Broken(Points):
    def __getitem__(self, i):
        return None if i in {23, 31, 41} else super().__getitem__(i)


def leave_out(samples):
    return default_collate([sample for sample in samples if sample is not None])


def fill_up_the_missing(samples):
    read = [sample for sample in samples if sample is not None]
    return default_collate(read + read[: len(samples) - len(read)])


@pytest.mark.parametrize(
    ("collate", "found"),
    [(leave_out, "18 of 20 instead"), (fill_up_the_missing, "2 of 20 samples that are None")],
)
def test_samples_that_cannot_be_read_are_not_left_to_a_collate_function(build, collate, found):
    message = f"^The collate function of NoisyLabelTrainer's loaders must keep every .* Got {found}"
    with pytest.raises(InvalidDataError, match=message):
        build().fit(DataLoader(Broken(), 20, collate_fn=collate))  # not in the first batch


# -- clones ---------------------------------------------------------------------------------------


def test_a_clone_of_a_fitted_trainer_knows_the_data(build, make_net):
    trainer = build(make_net(), correction="cross-entropy", epochs=1)
    clone(trainer)
    trainer.fit(Points())
    with pytest.warns(TrainedModelWarning, match="^A clone of a trainer that was fitted begins"):
        copied = clone(trainer)
    assert not hasattr(copied, "engine_")
    for found, trained in zip(copied.model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(found, trained)
    clone(trainer.set_params(model=make_net()))  # which is as new


# -- outputs that are no logits -------------------------------------------------------------------


def test_a_sigmoid_at_the_end_of_a_model_is_warned_of(build, make_net):
    with pytest.warns(
        ModelOutputWarning, match=r"^All outputs of the trained model are between 0\.\d"
    ):
        build(nn.Sequential(make_net(), nn.Sigmoid()), correction="cross-entropy").fit(Points())
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModelOutputWarning)
        build(nn.Sequential(make_net(), nn.ReLU()), correction="cross-entropy").fit(Points())


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("callback", [BestModel(), EarlyStopping()])
def test_there_is_no_best_epoch_before_the_first(callback):
    assert callback.best_epoch_ is None
    assert callback.best_value_ is None
    assert clone(NoisyLabelTrainer(nn.Linear(2, 3), callbacks=[callback])).callbacks


def test_a_share_is_no_percentile(build):
    trainer = build(correction=ForwardCorrection(percentile=0.97))
    with pytest.raises(InvalidParameterError, match=r"a float in the range \(1\.0, 100\.0\]"):
        trainer.fit(Points())


@pytest.mark.parametrize("name", ["float64", "bfloat16"])
@pytest.mark.parametrize("layer", [nn.Linear(2, 3), nn.Conv1d(2, 3, 1)])
def test_weights_of_another_type_than_the_inputs_are_named(build, make_data, name, layer):
    inputs = nn.Flatten() if isinstance(layer, nn.Linear) else nn.Unflatten(1, (2, 1))
    model = nn.Sequential(inputs, layer, nn.Flatten()).to(getattr(torch, name))
    with pytest.raises(InvalidDataError) as caught:
        build(model).fit(make_data())
    assert str(caught.value).startswith(
        "The 'model' parameter of NoisyLabelTrainer must have weights of the type of the inputs, "
        f"float32. Got weights of {name}: model.float() converts them, and precision='bfloat16' "
        "or 'float16' computes in fewer bits all the same. The model says: "
    )


def test_batch_norm_cannot_learn_from_single_samples(build, make_data):
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    with pytest.raises(InvalidDataError) as caught:
        build(model, correction="cross-entropy", batch_size=1).fit(make_data())
    assert str(caught.value).startswith(
        "The batches of NoisyLabelTrainer must have two samples or more for a model with BatchNorm "
        "in train mode. Got one of a single sample: a larger batch_size helps, or model.eval() for "
        "such layers. The model says: Expected more than 1 value per channel"
    )


def test_a_run_goes_on_with_its_own_seed(build, make_data, tmp_path):
    build(checkpoint_dir=tmp_path, random_state=1).fit(make_data())
    message = (
        f"The checkpoint in {tmp_path} was made with random_state = 1, and cannot be resumed "
        "with 2."
    )
    with pytest.raises(InvalidDataError) as caught:
        build(checkpoint_dir=tmp_path, random_state=2).fit(make_data(), resume=True)
    assert str(caught.value) == message
    for same in (1, np.int64(1), None, np.random.default_rng(2)):
        build(checkpoint_dir=tmp_path, random_state=same).fit(make_data(), resume=True)


def test_a_run_goes_on_with_its_own_clean_labels(build, make_data, tmp_path):
    clean = make_data(size=30, seed=1)
    build(correction=LearningToReweight(clean_set=clean), checkpoint_dir=tmp_path).fit(make_data())
    inputs, labels = clean.tensors
    other = TensorDataset(inputs, (labels + 1) % 3)
    with pytest.raises(InvalidDataError, match="was made with labels of the clean set = '"):
        build(correction=LearningToReweight(clean_set=other), checkpoint_dir=tmp_path).fit(
            make_data(), resume=True
        )
    trainer = build(correction=LearningToReweight(clean_set=clean), checkpoint_dir=tmp_path)
    trainer.fit(make_data(), resume=True)
    np.testing.assert_array_equal(trainer.correction_.clean_labels_, labels)


def test_inputs_of_other_samples_are_told_by_the_losses(build, make_data):
    data = make_data(size=900)
    trainer = build(epochs=10).fit(data)
    AuditReport.from_trainer(trainer, data)
    inputs, labels = data.tensors
    order = torch.randperm(900, generator=torch.Generator().manual_seed(0))
    with pytest.warns(LayoutWarning, match="The losses have little to do with the probabilities"):
        AuditReport.from_trainer(trainer, TensorDataset(inputs[order], labels))


ALL = (
    "All 96 labels look wrong by the losses of epoch 1: P(wrong) then chooses nothing. A network "
    "that has not begun to learn, or whose predictions have collapsed, gives such losses; a lower "
    "learning rate or a longer warmup may help."
)
NONE = (
    "None of the 96 labels looks wrong by the losses of epoch 1: P(wrong) then chooses nothing, "
    "and every label is trusted. If some are wrong, the network has not begun to tell them, or has "
    "memorised them already: end the warmup earlier."
)


@pytest.mark.parametrize(("proba", "message"), [(1.0, ALL), (0.01, NONE)])
def test_a_mixture_that_flags_all_or_none_is_told(build, make_data, monkeypatch, proba, message):
    """Once in a run; not where the method does not use it."""
    monkeypatch.setattr(
        BetaMixtureNoiseDetector, "posterior", lambda self, X: np.full(len(X), proba)
    )
    with pytest.warns(NoSeparableNoiseWarning) as seen:
        build(epochs=3).fit(make_data())
    assert [str(warning.message) for warning in seen].count(message) == 1
    build(epochs=1, correction="cross-entropy").fit(make_data())
