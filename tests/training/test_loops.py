"""Passes over a dataset: the sweep leaves the model as it was, and sorts what it found."""

import pytest
import torch
from torch import nn

from lossnoise.corrections import CrossEntropy
from lossnoise.corrections._logits import user_model
from lossnoise.corrections._modes import eval_mode
from lossnoise.data._indexed import IndexedData
from lossnoise.exceptions import InvalidDataError
from lossnoise.training._engine import Precision, TrainingEngine
from lossnoise.training._loops import restored_modes, sweep, train_epoch


@pytest.fixture
def make_engine(make_net):
    def make(model=None, precision="float32", num_models=1):
        return TrainingEngine(
            make_net() if model is None else model,
            num_models=num_models,
            optimizer=None,
            scheduler=None,
            device=torch.device("cpu"),
            precision=Precision(precision),
            num_epochs=4,
        )

    return make


def first_coordinate(model, batch):
    return batch.inputs[:, 0]


def logits(model, batch):
    return model(batch.inputs)


@pytest.mark.parametrize("batch_size", [1, 7, 96, 1000])
@pytest.mark.parametrize("shuffled", [False, True])
def test_results_have_the_order_of_the_dataset(make_engine, make_data, batch_size, shuffled):
    data, engine = make_data(), make_engine()
    generator = torch.Generator().manual_seed(1)
    indexed = IndexedData(data, batch_size)
    loader = indexed.shuffled(generator) if shuffled else indexed.in_order()
    assert torch.equal(sweep(engine, loader, first_coordinate), data.tensors[0][:, 0])
    table = sweep(engine, loader, logits)
    engine.model.eval()
    torch.testing.assert_close(table, engine.model(data.tensors[0]).detach())


def test_a_sweep_runs_in_eval_mode_without_gradients_and_changes_nothing(make_engine, make_data):
    engine = make_engine()
    engine.model.train()
    user_model(engine.model)[1].eval()  # a layer that the user has frozen
    modes = [module.training for module in engine.model.modules()]
    before = {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}
    seen = []

    def look(model, batch):
        seen.append((any(m.training for m in model.modules()), torch.is_grad_enabled()))
        return model(batch.inputs)

    sweep(engine, IndexedData(make_data(), 16).in_order(), look)
    assert seen == [(False, False)] * 6
    assert [module.training for module in engine.model.modules()] == modes
    for name, tensor in engine.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_modes_are_restored_after_an_error(make_net):
    model = make_net()
    model.train()
    model[3].eval()
    with pytest.raises(RuntimeError, match="inside"), eval_mode(model):
        raise RuntimeError("inside")
    assert [module.training for module in model] == [True, True, True, False, True]


def test_a_sweep_runs_in_the_precision_of_the_engine(make_engine, make_data):
    loader = IndexedData(make_data(), 16).in_order()
    assert sweep(make_engine(precision="bfloat16"), loader, logits).dtype == torch.bfloat16


def test_labels_are_checked_where_they_are_used(make_engine, make_data):
    data = make_data()
    data.tensors[1][20] = 3
    loader = IndexedData(data, 16).in_order()
    sweep(make_engine(), loader, logits)
    with pytest.raises(InvalidDataError, match="Got 3 at sample 20 instead"):
        sweep(make_engine(), loader, logits, num_classes=3)


def test_an_epoch_returns_the_mean_over_samples(make_engine, make_data):
    """With a learning rate of 0 it is the mean loss, though the batches differ in size."""

    class Context:
        epoch, num_classes, num_samples = 1, 3, 90
        record = staticmethod(lambda indices, losses: None)

    engine, data, batches = make_engine(nn.Linear(2, 3)), make_data(size=90), []
    engine.optimizers[0].param_groups[0].update(lr=0.0, weight_decay=0.0)
    loader = IndexedData(data, 40).in_order()
    mean = train_epoch(
        engine, loader, CrossEntropy(), Context, lambda *seen: batches.append(seen[-2:])
    )
    expected = nn.functional.cross_entropy(engine.model(data.tensors[0]), data.tensors[1])
    assert mean == pytest.approx(expected.item(), rel=1e-5)
    assert batches == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("training", [True, False])
def test_modes_are_restored_and_frozen_parts_stay_frozen(training):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model.train(training)
    model[1].eval()
    with restored_modes(model):
        assert model.training
        assert model[1].training == (not training)  # frozen on purpose only in a model that trains
    assert model.training == training
    assert not model[1].training
