"""Data and models that are refused before the first epoch, and not by an error of torch."""

import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
)

from lossnoise.exceptions import InvalidDataError, InvalidParameterError, NonFiniteLossError
from lossnoise.training import Callback, EarlyStopping


def exactly(text):
    return f"^{re.escape(text)}$"


class Reshaped(Dataset):
    """The samples of a dataset, made into something else."""

    def __init__(self, dataset, change):
        self.dataset, self.change = dataset, change

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.change(*self.dataset[index], index)


@pytest.mark.parametrize(
    ("change", "got", "advice"),
    [
        (
            lambda x, y, i: {"input": x, "label": y, "idx": i},
            "dict of input, idx",
            "; those that it does not take are dropped in a collate_fn, or taken by **kwargs",
        ),
        (lambda x, y, i: ([*x.tolist(), 0.0], y), "list", ""),
    ],
)
def test_samples_that_the_model_cannot_be_called_with(build, make_data, change, got, advice):
    message = (
        "The datasets of NoisyLabelTrainer must yield inputs that the model takes. Got a "
        f"{got} instead: the entries of a dict become keyword arguments, those of a list or tuple "
        f"positional ones{advice}. The model says: "
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}"):
        build().fit(Reshaped(make_data(), change))


@pytest.mark.parametrize(
    ("name", "owner"), [("train", "The datasets"), ("val", "The 'val' dataset")]
)
def test_inputs_of_a_shape_that_the_model_does_not_take(build, make_data, name, owner):
    """Also those of validation, before the first epoch and not after it."""
    inputs, labels = make_data().tensors
    wider = TensorDataset(torch.cat([inputs, inputs[:, :1]], dim=1), labels)
    trainer = build()
    message = (
        f"{owner} of NoisyLabelTrainer must yield inputs that the model takes. Got a batch of "
        "shape (16, 3), at which it fails. The model says: "
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}"):
        trainer.fit(**{"train": make_data(), name: wider})
    assert not hasattr(trainer, "history_")


def test_inputs_of_another_shape_than_those_of_training(build, make_data):
    trainer = build().fit(make_data())
    inputs, labels = make_data().tensors
    with pytest.raises(InvalidDataError, match=r"Got a batch of shape \(16, 1\), at which it "):
        trainer.predict(inputs[:, :1])
    with pytest.raises(InvalidDataError, match=r"Got a batch of shape \(16, 1\), at which it "):
        trainer.score(TensorDataset(inputs[:, :1], labels))


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (nn.BatchNorm2d(2), "expected 4D input (got 2D input)"),
        (nn.Conv2d(2, 3, 1), "Expected 3D (unbatched) or 4D (batched) input to conv2d"),
        (nn.LayerNorm(5), "Given normalized_shape=[5]"),
        (nn.Unflatten(1, (4, 4)), "unflatten: Provided sizes [4, 4] don't multiply up to the size"),
    ],
)
def test_what_layers_say_of_the_shape_of_inputs(build, make_data, layer, says):
    found = re.escape(f"Got a batch of shape (16, 2), at which it fails. The model says: {says}")
    with pytest.raises(InvalidDataError, match=found):
        build(nn.Sequential(layer, nn.Linear(2, 3))).fit(make_data())


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("the device is busy"),
        ValueError("a sequence is longer than the model's maximum of 8"),
        torch.cuda.OutOfMemoryError("CUDA out of memory: try max_split_size_mb"),
    ],
)
def test_other_errors_of_the_model_are_left_alone(build, make_data, error):
    class Broken(nn.Linear):
        def forward(self, inputs):
            raise error

    inputs, labels = make_data().tensors
    with pytest.raises(type(error)) as raised:
        build(Broken(2, 3)).fit(TensorDataset(inputs.long(), labels))
    assert raised.value is error


def test_validation_inputs_for_which_the_model_returns_no_logits(build, make_data):
    inputs, labels = make_data().tensors
    val = TensorDataset(inputs[:, None].repeat(1, 4, 1), labels)
    message = (
        "The 'val' dataset of NoisyLabelTrainer must yield inputs like those of training, for "
        "which the model returns 3 logits a sample. Got logits of shape (16, 4, 3) for a batch of "
        "16 samples instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build(nn.Linear(2, 3)).fit(make_data(), val)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("change", "first", "other"),
    [
        (
            lambda x, y, i: (x, None if i == 5 else y),
            "(Tensor (2,), a number)",
            "(Tensor (2,), None)",
        ),
        (
            lambda x, y, i: (x, None if i == 5 else float(y) if i == 2 else y),
            "(Tensor (2,), a number)",
            "(Tensor (2,), None)",
        ),
        (
            lambda x, y, i: (x[: 1 + (i < 5)], y),
            "(Tensor (2,), a number)",
            "(Tensor (1,), a number)",
        ),
        (
            lambda x, y, i: ([1] * (300 + i // 5), y),
            "(list of 300, a number)",
            "(list of 301, a number)",
        ),
        (
            lambda x, y, i: {"x": x, "label" if i < 5 else "y": y},
            "{'x': Tensor (2,), 'label': a number}",
            "{'x': Tensor (2,), 'y': a number}",
        ),
    ],
)
def test_samples_that_make_no_batch(build, make_data, change, first, other, workers):
    inputs, labels = make_data().tensors
    data = Reshaped(list(zip(inputs, labels.tolist(), strict=True)), change)
    message = (
        "The datasets of NoisyLabelTrainer must yield samples that make a batch: numbers, and "
        f"tensors or arrays of one shape. Got {first} for sample 0 and {other} for sample 5 "
        "instead. Where they differ on purpose, pass a DataLoader with a collate_fn. torch says: "
    )
    given = DataLoader(data, batch_size=16, num_workers=workers) if workers else data
    with pytest.raises(InvalidDataError, match=re.escape(message)):
        build().fit(given)


def test_samples_of_a_kind_of_which_there_are_no_batches(build, make_data):
    data = Reshaped(make_data(), lambda x, y, i: (x, None))
    with pytest.raises(InvalidDataError, match=r"Got \(Tensor \(2,\), None\) for sample 0 instead"):
        build().fit(data)


def test_a_type_error_inside_the_model_is_left_alone(build, make_data):
    class Broken(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs + "a")

    with pytest.raises(TypeError, match=r"unsupported operand|must be Tensor"):
        build(Broken(2, 3)).fit(make_data())


@pytest.mark.parametrize("dtype", ["int32", "int16", "bool", "float16"])
def test_types_that_most_models_do_not_take(build, make_data, dtype):
    inputs, labels = make_data().tensors
    with pytest.raises(InvalidDataError, match=f"Got {dtype} inputs, which most models do not: "):
        build().fit(TensorDataset(inputs.to(getattr(torch, dtype)), labels))


class Doubling(DataLoader):
    def __iter__(self):
        for inputs, labels in super().__iter__():
            yield 2.0 * inputs, labels


@pytest.mark.parametrize("name", ["train", "val"])
def test_a_loader_that_changes_its_batches_is_refused(build, make_data, name):
    """Its dataset, sampler and collate function alone would be used."""
    given = {"train": make_data(), name: Doubling(make_data(), batch_size=16)}
    message = (
        f"The {name!r} parameter of NoisyLabelTrainer must be a DataLoader without an __iter__ of "
        f"its own, as its parts alone are used. Got {Doubling} instead: pass its dataset, or "
        "change the samples there or in collate_fn."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        build().fit(**given)


class Named(nn.Linear):
    def forward(self, x):
        return super().forward(x)


def test_a_data_frame_becomes_samples_in_its_own_order(build, make_data):
    inputs, labels = make_data().tensors
    frame = pd.DataFrame({"x": list(inputs.numpy()), "label": labels.numpy()})
    frame = frame.sample(frac=1.0, random_state=0)
    advice = "a data frame of numbers becomes one by TensorDataset(torch.tensor("
    message = f"{pd.DataFrame} instead: {advice}"
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        build().fit(frame)
    trainer = build(Named(inputs.shape[1], 3)).fit(frame.to_dict("records"))
    np.testing.assert_array_equal(trainer.labels_, frame.label)


def test_targets_of_regression_are_no_labels(build, make_data):
    inputs, labels = make_data().tensors
    message = "integers. Got torch.float32 with fractions instead: they are classes, and regression"
    with pytest.raises(InvalidDataError, match=message):
        build().fit(TensorDataset(inputs, labels + 0.5))


DICT = {"inputs": torch.zeros(96, 2), "labels": torch.zeros(96, dtype=torch.int64)}


@pytest.mark.parametrize(
    ("columns", "advice"),
    [
        (
            DICT,
            "a dict of columns becomes a list of samples by [{name: column[i] for name, column in "
            "data.items()} for i in range(n)]",
        ),
        (sp.csr_array(np.eye(96)), "a sparse matrix becomes an array of inputs by .toarray()"),
    ],
)
def test_columns_are_no_samples(build, make_data, columns, advice):
    trainer = build().fit(make_data())
    message = f"{type(columns)} instead: {advice}."
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        trainer.predict(columns)
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        trainer.fit(columns)


def test_a_dict_of_samples_by_their_positions_is_a_dataset(build, make_data):
    data = make_data()
    samples = dict(enumerate(data))
    assert np.array_equal(build().fit(samples).losses_, build().fit(data).losses_)


class Endless(Sampler):
    def __iter__(self):
        return iter(range(32))


@pytest.mark.parametrize("name", ["sampler", "batch_sampler"])
def test_a_sampler_without_a_length_is_refused(build, make_data, name):
    message = (
        "The 'train' parameter of NoisyLabelTrainer must be a DataLoader whose sampler, or "
        f"batch_sampler, has __len__. Got {DataLoader} instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        build().fit(DataLoader(make_data(), **{name: Endless()}))


class OneShot(IterableDataset):
    def __init__(self, dataset):
        self.size = len(dataset)
        self.pairs = ((index, dataset[index]) for index in range(self.size))

    def __len__(self):
        return self.size

    def __iter__(self):
        return self.pairs


@pytest.mark.parametrize("name", ["train", "val"])
def test_a_stream_that_has_run_out_is_told(build, make_data, name):
    message = (
        "A pass over a dataset of NoisyLabelTrainer must yield batches. Got none instead: a "
        "sampler must yield positions in every pass, and an IterableDataset begin anew in each."
    )
    given = {"train": make_data(), name: OneShot(make_data())}
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build(correction="cross-entropy").fit(**given)


def test_lazy_layers_need_their_shapes(build, make_data):
    model = nn.Sequential(nn.LazyLinear(3))
    message = (
        "The 'model' parameter of NoisyLabelTrainer must be a model whose lazy layers have their "
        f"shapes, as after a call with one batch. Got {nn.Sequential} instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        build(model).fit(make_data())
    model(make_data().tensors[0])
    assert build(model).fit(make_data()).losses_.shape == (96,)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_needs_gradients(build, make_data, mode):
    with mode(), pytest.raises(InvalidParameterError, match="must be trained outside of torch"):
        build().fit(make_data())


def test_only_what_the_loader_of_the_validation_set_yields_is_looked_at(build, make_data):
    """The dataset may begin with samples that cannot be used, and that its sampler leaves out."""
    inputs, labels = make_data().tensors
    samples = [(inputs[i], None if i < 20 else labels[i]) for i in range(96)]
    val = DataLoader(samples, batch_size=16, sampler=SubsetRandomSampler(range(20, 96)))
    assert build().fit(make_data(), val).history_[-1]["val_accuracy"] > 0.3


class Begun(Callback):
    def __init__(self):
        self.epochs = []

    def on_epoch_begin(self, trainer, epoch):
        self.epochs.append(epoch)


class Short(IterableDataset):
    """A stream that says that it is longer than it is."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset) + 4

    def __iter__(self):
        return ((index, self.dataset[index]) for index in range(len(self.dataset)))


def without_some(data, inputs=0.0, label=1):
    """Return a loader that leaves out the first samples, of which the first is changed."""
    data.tensors[0][0] += inputs
    data.tensors[1][0] = label
    return DataLoader(data, batch_size=16, sampler=SubsetRandomSampler(range(20, len(data))))


@pytest.mark.parametrize("correction", ["cross-entropy", "mixup", "dyr-h"])
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (partial(without_some, label=-1), InvalidDataError, "Got -1 at sample 0 instead"),
        (partial(without_some, inputs=torch.nan), NonFiniteLossError, r"1 of 96 .*in epoch 1\."),
        (Short, InvalidDataError, "Got 4 of them never and 0 more than once instead"),
    ],
)
def test_samples_that_are_never_met_are_looked_at_in_the_first_epoch(
    build, make_data, correction, make, error, message
):
    """At the end of the run their losses are measured, and results would be lost."""
    begun = Begun()
    with pytest.raises(error, match=message):
        build(correction=correction, callbacks=[begun], epochs=3).fit(make(make_data()))
    assert begun.epochs == [1]


def test_a_validation_set_is_looked_at_before_the_first_epoch(build, make_data):
    inputs, labels = make_data().tensors
    begun = Begun()
    with pytest.raises(InvalidDataError, match=r"^The .val. dataset of NoisyLabelTrainer must "):
        build(callbacks=[begun]).fit(make_data(), TensorDataset(inputs, labels, labels))
    assert begun.epochs == []


class Detached(nn.Linear):
    def forward(self, inputs):
        return (inputs, super().forward(inputs)) if self.first else super().forward(inputs).detach()


@pytest.mark.parametrize("first", [False, True])
def test_a_loss_that_nothing_can_learn_from(build, make_data, first):
    """The logits are detached, or something else comes first."""
    model = Detached(8, 8)
    model.first = first
    message = (
        "The loss of NoisyLabelTrainer's correction depends on no parameter that learns: the "
        "model's logits are not the first of what it returns, or something was detached, as by "
        ".detach() or torch.no_grad()."
    )
    inputs = make_data().tensors[0].repeat(1, 8)[:, :8]
    data = TensorDataset(inputs, make_data().tensors[1])
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build(model, correction="cross-entropy").fit(data)


def test_a_schedule_that_needs_a_metric_has_another_place(build, make_data):
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    with pytest.raises(InvalidParameterError, match=r"instead: step it in the on_epoch_end of a c"):
        build(scheduler=plateau).fit(make_data())


def test_a_misspelt_number_of_the_history_is_named(build, make_data):
    callbacks = [EarlyStopping(monitor="val_acc")]
    with pytest.raises(InvalidParameterError, match="instead: the nearest is 'val_accuracy'"):
        build(callbacks=callbacks).fit(make_data(), make_data())
