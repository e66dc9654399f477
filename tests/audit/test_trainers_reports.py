"""Reports of trainers whose model, inputs or file are not those of their losses."""

import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from lossnoise import AuditReport, NoisyLabelTrainer
from lossnoise.exceptions import (
    InvalidDataError,
    InvalidParameterError,
    LossNoiseWarning,
    NoSeparableNoiseWarning,
)

ALIKE = 0.25  # distance of the centres at which the losses cannot tell


class Blurred(Dataset):
    """Inputs that are drawn anew in every pass, as those of augmented pictures are."""

    def __init__(self, data, spread):
        self.data, self.spread = data, spread

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        inputs, label = self.data[index]
        return inputs + self.spread * torch.randn(inputs.shape), label


@pytest.fixture(scope="module")
def wrong():
    return torch.rand(400, generator=torch.Generator().manual_seed(1)) < 0.3


def make_data(wrong, apart=3.0):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 3
    inputs = apart * torch.eye(3)[labels] + torch.randn(400, 3, generator=generator)
    return TensorDataset(inputs, torch.where(wrong, (labels + 1) % 3, labels))


def make_trainer(**given):
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
    for weights in model.parameters():
        torch.nn.init.uniform_(weights, -0.5, 0.5, generator=generator)
    settings = {"correction": "dyr-h", "epochs": 8, "batch_size": 32, "device": "cpu"}
    return NoisyLabelTrainer(model, random_state=0, **(settings | given))


def test_a_loaded_trainer_says_the_same(wrong, tmp_path):
    data = make_data(wrong)
    trainer = make_trainer().fit(data)
    trainer.save(tmp_path / "model.pt")
    expected = AuditReport.from_trainer(trainer, data)
    found = AuditReport.from_trainer(make_trainer().load(tmp_path / "model.pt"), data)
    assert found.summary["separable"] is expected.summary["separable"] is True
    assert found.summary["noise_rate_interval"] == expected.summary["noise_rate_interval"]
    np.testing.assert_array_equal(found.noise_proba, expected.noise_proba)
    assert found.threshold_for(precision=0.9) == expected.threshold_for(precision=0.9)


def test_a_loaded_trainer_cannot_tell_either(wrong, tmp_path):
    data = make_data(torch.zeros_like(wrong), apart=ALIKE)
    with pytest.warns(NoSeparableNoiseWarning):
        make_trainer().fit(data).save(tmp_path / "model.pt")
    loaded = make_trainer().load(tmp_path / "model.pt")
    assert loaded.detector_.separable_ is False
    assert "Cannot tell" in AuditReport.from_trainer(loaded, data).summary["verdict"]


def test_a_trainer_with_another_detector_does_not_claim_the_results_of_the_first(wrong, tmp_path):
    make_trainer().fit(make_data(wrong)).save(tmp_path / "model.pt")
    loaded = make_trainer(detector="gaussian").load(tmp_path / "model.pt")
    assert not hasattr(loaded, "detector_")
    assert AuditReport.from_trainer(loaded, make_data(wrong)).summary["separable"] is None


def test_what_was_learned_from_augmented_inputs_is_judged_by_plain_ones(wrong):
    data = make_data(wrong)
    trainer = make_trainer(epochs=15).fit(Blurred(data, 1.0))
    report = AuditReport.from_trainer(trainer, data)
    given = report.table["label_score"].sort_index().to_numpy()
    np.testing.assert_allclose(np.exp(-report.losses), given, atol=1e-6)
    truth = wrong.numpy()
    blurred, plain = (np.mean((p - truth) ** 2) for p in (trainer.noise_proba_, report.noise_proba))
    assert plain < 0.7 * blurred
    assert report.summary["separable"] is True


def test_of_another_model_its_own_losses_count(wrong):
    data = make_data(wrong)
    trainer = make_trainer().fit(data)
    for weights in trainer.model.parameters():
        weights.data *= 0.5
    report = AuditReport.from_trainer(trainer, data)
    expected = trainer.predict_proba(data)[np.arange(400), trainer.labels_]
    np.testing.assert_allclose(np.exp(-report.losses), expected, atol=1e-6)


def test_of_equal_losses_a_loaded_trainer_says_the_same(wrong, tmp_path):
    data = make_data(wrong)

    def still():
        trainer = make_trainer(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.0))
        for weights in trainer.model.parameters():
            weights.data.zero_()
        return trainer

    with pytest.warns(NoSeparableNoiseWarning):
        trainer = still().fit(data)
    trainer.save(tmp_path / "model.pt")
    loaded = still().load(tmp_path / "model.pt")
    reports = [AuditReport.from_trainer(each, data) for each in (trainer, loaded)]
    expected, found = (report.summary["verdict"] for report in reports)
    assert found == expected
    assert "Cannot tell" in expected


def test_the_columns_of_a_trainer_are_in_order(wrong):
    data = make_data(wrong)
    trainer = make_trainer().fit(data)
    for weights in trainer.model[2].parameters():  # it now says the next class
        weights.data = weights.data.roll(1, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossNoiseWarning)
        report = AuditReport.from_trainer(trainer, data)
    assert "the columns were in another order" not in report.summary["verdict"]
    begin = "The 'class_names' parameter of AuditReport.from_trainer must be"
    message = f"{begin} in the order of the model's outputs, whose labels are 0, 1, .... Got [1, 2,"
    with pytest.raises(InvalidParameterError) as caught:
        AuditReport.from_trainer(trainer, data, class_names=[1, 2, 0])
    assert str(caught.value) == f"{message} 0] instead."
    message = f"{begin} one name for each of the model's 3 outputs. Got 2 names instead."
    with pytest.raises(InvalidDataError) as caught:
        AuditReport.from_trainer(trainer, data, class_names=["a", "b"])
    assert str(caught.value) == message
