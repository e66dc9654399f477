"""What a trained trainer answers, and what another one reads from its file."""

import pickle
import re
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lossnoise import AuditReport
from lossnoise.exceptions import InvalidDataError, InvalidParameterError, NonFiniteLossWarning

SECOND = (
    "the second part of a pair is taken for its label, and several inputs are one part, ((a, b),) "
    "without labels or ((a, b), label); of labels that are no classes, pass the inputs alone"
)


class Masked(nn.Linear):
    def forward(self, ids, mask=None):
        return super().forward(ids if mask is None else ids * mask)


class MustMask(Masked):
    def forward(self, ids, mask):
        return super().forward(ids, mask)


@pytest.fixture
def masked(build, make_data):
    """Return a function that trains a model of two inputs; and its inputs."""
    inputs, labels = make_data().tensors
    mask = (torch.arange(192).reshape(96, 2) % 3 > 0).float()
    parts = list(zip(inputs, mask, strict=True))
    samples = [(part, int(label)) for part, label in zip(parts, labels, strict=True)]
    return lambda kind: build(kind(2, 3), correction="cross-entropy").fit(samples), inputs, mask


@pytest.mark.parametrize("second", ["mask", "fractions"])
def test_a_second_input_is_no_label(masked, second):
    train, inputs, mask = masked
    other = mask if second == "mask" else torch.linspace(0.0, 1.0, 96)
    shape = (96, 2) if second == "mask" else (96,)
    message = (
        "The datasets of NoisyLabelTrainer must yield inputs, alone, in pairs (input, label) or in "
        "dicts, that collate to tensors, and labels, where there are some, to a vector. Got a "
        f"batch that is a list of (Tensor (96, 2), Tensor {shape}) instead: {SECOND}."
    )
    loader = DataLoader(TensorDataset(inputs, other), batch_size=96)
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        train(Masked).predict_proba(loader)


@pytest.mark.parametrize("rows", [torch.eye(3), torch.tensor([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])])
def test_labels_with_a_column_a_class_are_no_input(masked, rows):
    train, inputs, _ = masked
    trainer = train(Masked)
    soft = TensorDataset(inputs, rows[torch.arange(96) % len(rows)])
    np.testing.assert_array_equal(trainer.predict_proba(soft), trainer.predict_proba(inputs))


def test_several_inputs_without_labels_are_one_part(masked):
    train, inputs, mask = masked
    trainer = train(Masked)
    with torch.no_grad():
        expected = trainer.model(inputs, mask).softmax(dim=1).numpy()
    parts = list(zip(inputs, mask, strict=True))
    for samples in ([(part,) for part in parts], [(part, 0) for part in parts]):
        np.testing.assert_allclose(trainer.predict_proba(samples), expected, rtol=1e-5)
    with pytest.raises(InvalidDataError, match=r"instead: several inputs are .* without labels or"):
        trainer.predict(TensorDataset(inputs, mask, mask))


@pytest.mark.parametrize("unknown", [torch.nan, 1.0])
def test_a_vector_in_the_place_of_labels_may_be_anything_else(build, make_data, unknown):
    trainer, inputs = build().fit(make_data()), make_data().tensors[0]
    found = trainer.predict_proba(TensorDataset(inputs, torch.full((96,), unknown)))
    np.testing.assert_array_equal(found, trainer.predict_proba(inputs))
    samples = [{"input": x, "label": torch.ones(3)} for x in inputs]  # it says what it is
    np.testing.assert_array_equal(found, trainer.predict_proba(samples))


def test_a_model_that_lacks_an_input_is_told_where_it_went(masked):
    train, inputs, _ = masked
    message = f"positional ones; {SECOND}. The model says: "
    with pytest.raises(InvalidDataError, match=re.escape(message)):
        train(MustMask).predict(TensorDataset(inputs, torch.ones(96)))


@pytest.mark.parametrize("convert", [torch.Tensor.clone, torch.Tensor.numpy])
def test_a_loader_of_rows_is_of_inputs_alone(build, make_data, convert):
    trainer, inputs = build().fit(make_data()), make_data().tensors[0]
    loader = DataLoader(convert(inputs), batch_size=32)
    np.testing.assert_array_equal(trainer.predict(loader), trainer.predict(inputs))
    with pytest.raises(InvalidParameterError, match=r"yields \(input, label\), such as"):
        trainer.fit(loader)


def test_what_is_no_data_to_predict(build, make_data):
    trainer, inputs = build().fit(make_data()), make_data().tensors[0]
    message = (
        "The 'X' parameter of NoisyLabelTrainer must be a map-style dataset with __len__ and "
        "__getitem__ that yields inputs, alone or with a label, a DataLoader of one, or inputs as "
        f"a tensor or an array. Got {tuple} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        trainer.predict((inputs, inputs))


def test_labels_are_no_argument_of_score(build, make_data):
    trainer, data = build().fit(make_data()), make_data()
    message = (
        r"such as torch.utils.data.TensorDataset\(inputs, labels\), or a DataLoader of one. Got"
    )
    with pytest.raises(InvalidParameterError, match=f"The 'X' parameter .* {message}"):
        trainer.score(*data.tensors)
    message = (
        "The 'y' parameter of NoisyLabelTrainer.score must be None: the labels are those of the "
        f"dataset 'X'. Got {torch.Tensor} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        trainer.score(data, data.tensors[1])


def test_nan_is_no_answer(build, make_data):
    trainer, data = build().fit(make_data()), make_data()
    inputs, labels = data.tensors
    broken = inputs.clone()
    broken[:48] = torch.nan
    answered = (trainer.predict(inputs)[48:] == labels[48:].numpy()).sum()
    assert trainer.score(TensorDataset(broken, labels)) == pytest.approx(answered / 96)
    with pytest.raises(InvalidDataError, match=r"48 of 96 for which it does \(such as \[0, 1, 2"):
        trainer.predict(broken)
    expected = (
        "The validation loss of epoch 1 is nan: the model has no finite loss for some samples of "
        "'val', whose inputs may not be finite. Such samples without an answer count as wrong in "
        "val_accuracy."
    )
    with pytest.warns(NonFiniteLossWarning) as caught:
        nothing = build().fit(data, TensorDataset(broken[:48], torch.zeros(48, dtype=torch.int64)))
    said = [str(w.message) for w in caught if w.category is NonFiniteLossWarning]
    assert said == [expected]  # once in a run
    assert nothing.history_[-1]["val_accuracy"] == 0.0


def test_what_was_trained_is_saved(build, make_data, make_net, tmp_path):
    """Of a compiled model the model itself; and no other one that was set since."""
    compiled = build(torch.compile(make_net(), backend="eager")).fit(make_data())
    expected = compiled.predict_proba(make_data())
    compiled.set_params(model=make_net(seed=5))
    compiled.save(tmp_path / "model.pt")
    for model in (make_net(seed=9), torch.compile(make_net(seed=9), backend="eager")):
        loaded = build(model).load(tmp_path / "model.pt")
        np.testing.assert_allclose(loaded.predict_proba(make_data()), expected, rtol=1e-5)


def test_a_saved_trainer_predicts_elsewhere(build, make_data, make_net, tmp_path):
    trainer = build(epochs=3).fit(make_data())
    trainer.save(tmp_path / "model.pt")
    other = build(make_net(seed=9)).load(tmp_path / "model.pt")
    np.testing.assert_array_equal(
        other.predict_proba(make_data(seed=4)), trainer.predict_proba(make_data(seed=4))
    )
    for name in ("losses_", "noise_proba_", "suggested_labels_", "noisy_indices_", "loss_history_"):
        np.testing.assert_array_equal(getattr(other, name), getattr(trainer, name))
    assert other.history_ == trainer.history_
    assert other.num_classes_ == 3
    assert other.score(make_data()) == trainer.score(make_data())
    other.save(tmp_path / "again.pt")


def test_a_fitted_trainer_with_factories_can_be_pickled(build, make_data):
    trainer = build(
        optimizer=partial(torch.optim.SGD, lr=0.1),
        scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=1),
    )
    trainer.fit(make_data())
    copied = pickle.loads(pickle.dumps(trainer))
    np.testing.assert_array_equal(copied.predict(make_data()), trainer.predict(make_data()))
    np.testing.assert_array_equal(copied.losses_, trainer.losses_)


def test_what_cannot_be_loaded_changes_nothing(build, make_data, make_net, tmp_path):
    build().fit(make_data()).save(tmp_path / "model.pt")
    larger = make_net(num_classes=4)
    before = {name: tensor.clone() for name, tensor in larger.state_dict().items()}
    with pytest.raises(InvalidDataError, match="has other parameters than the trainer's model"):
        build(larger).load(tmp_path / "model.pt")
    assert all(torch.equal(before[name], t) for name, t in larger.state_dict().items())
    (tmp_path / "damaged.pt").write_bytes(b"no file of torch")
    with pytest.raises(InvalidDataError, match=r"cannot be read as data \(BadZipFile\)"):
        build().load(tmp_path / "damaged.pt")
    torch.save({"weights": 1}, tmp_path / "other.pt")
    with pytest.raises(InvalidDataError, match="is of another kind"):
        build().load(tmp_path / "other.pt")
    torch.save({"kind": "lossnoise trainer 0"}, tmp_path / "other.pt")
    with pytest.raises(InvalidDataError, match="is of another version of lossnoise"):
        build().load(tmp_path / "other.pt")
    with pytest.raises(FileNotFoundError):
        build().load(tmp_path / "missing.pt")
    with pytest.raises(NotFittedError):
        build().save(tmp_path / "unfitted.pt")
    assert not (tmp_path / "unfitted.pt").exists()


def test_a_report_is_of_the_rows_that_were_learnt_in_their_order(build, make_data):
    data = make_data()
    trainer = build().fit(data)
    expected = AuditReport.from_trainer(trainer, data)
    np.testing.assert_array_equal(expected.losses, trainer.losses_)
    loader = DataLoader(data, batch_size=7, shuffle=True)  # its dataset has the order
    assert AuditReport.from_trainer(trainer, loader).summary == expected.summary
    inputs, labels = data.tensors
    other = labels.clone()
    other[[5, 8]] = (other[[5, 8]] + 1) % 3
    moved = torch.flip(labels, [0])
    for count, first, wrong in [
        (2, 5, TensorDataset(inputs, other)),
        (int((moved != labels).sum()), 0, TensorDataset(torch.flip(inputs, [0]), moved)),
    ]:
        message = (
            "The 'dataset' parameter of AuditReport.from_trainer must be the one that the trainer "
            f"was fitted to, in the same order. Got other labels in {count} of {len(labels)} rows, "
            f"first in row {first} instead: labels that were corrected since are audited by a "
            "trainer that has seen them."
        )
        with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
            AuditReport.from_trainer(trainer, wrong)
