"""What `NoisyLabelTrainer` refuses, and in which words."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset, default_collate

from lossnoise import AuditReport, LossHistoryDisplay, NoisyLabelTrainer
from lossnoise.corrections import CORRECTIONS, MDyrH
from lossnoise.exceptions import (
    CollapseWarning,
    InvalidDataError,
    InvalidParameterError,
    ModelOutputWarning,
    NonFiniteLossError,
    NoSeparableNoiseWarning,
)
from lossnoise.training import BestModel, Callback, EarlyStopping
from lossnoise.training._checks import EXAMPLES
from lossnoise.training._engine import Precision


def exactly(text):
    return f"^{re.escape(text)}$"


DATASET = (
    "a map-style dataset with __len__ and __getitem__ that yields (input, label), such as "
    "torch.utils.data.TensorDataset(inputs, labels), or a DataLoader of one"
)
CORRECTION = f"one of {', '.join(map(repr, sorted(CORRECTIONS)))}, or an instance of Correction"
PRECISION = "one of 'float32', 'bfloat16', 'float16', or a Precision of types of these names"
BAD_SETTINGS = [
    ("epochs", 0, "an int in the range [1, inf)"),
    ("epochs", 2.5, "an int in the range [1, inf)"),
    ("batch_size", 0, "an int in the range [1, inf)"),
    ("precision", "int8", PRECISION),
    ("precision", Precision("half"), PRECISION),
    ("correction", "divide and mix", CORRECTION),
    (
        "detector",
        "gamma",
        "one of 'auto', 'beta', 'gaussian', or an instance of LossMixtureDetector",
    ),
    ("callbacks", None, "a sequence of instances of Callback"),
    ("verbose", "yes", "an int in the range [0, inf)"),
    ("checkpoint_dir", 3, "the path of a folder"),
    ("optimizer", "adam", f"a factory such as {EXAMPLES['optimizer']}, a ready Optimizer or None"),
    ("scheduler", 0.1, f"a factory such as {EXAMPLES['scheduler']}, a ready LRScheduler or None"),
]


@pytest.mark.parametrize(("name", "value", "expected"), BAD_SETTINGS)
def test_settings_out_of_range(build, make_data, name, value, expected):
    shown = value if isinstance(value, type) else repr(value)
    message = (
        f"The {name!r} parameter of NoisyLabelTrainer must be {expected}. Got {shown} instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        build(**{name: value}).fit(make_data())


def test_a_class_of_corrections_is_not_one_of_them(build, make_data):
    with pytest.raises(InvalidParameterError, match=r"MDyrH\(\) makes one of this"):
        build(correction=MDyrH).fit(make_data())


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("M-DYR-H", "m-dyr-h"), ("md_dyr_sh", "md-dyr-sh"), ("coteaching-plus", "co-teaching-plus")],
)
def test_a_correction_that_is_nearly_one_gets_its_name(build, make_data, name, nearest):
    message = rf"Got '{name}' instead: the nearest is '{nearest}'\.$"
    with pytest.raises(InvalidParameterError, match=message):
        build(correction=name).fit(make_data())


def test_the_model_must_be_a_module(make_data):
    message = (
        "The 'model' parameter of NoisyLabelTrainer must be a torch.nn.Module. "
        "Got 'resnet' instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        NoisyLabelTrainer("resnet").fit(make_data())


@pytest.mark.parametrize("frozen", [True, False])
def test_a_model_must_have_something_to_learn(make_data, frozen):
    model = nn.Linear(2, 3).requires_grad_(False) if frozen else nn.Flatten()
    message = (
        "The 'model' parameter of NoisyLabelTrainer must be a model of which some parameter "
        f"requires a gradient. Got {type(model)} instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        NoisyLabelTrainer(model).fit(make_data())


@pytest.mark.parametrize("seed", [-1, "a", 1.5, True])
def test_a_seed_is_checked_before_training(build, make_data, seed):
    with pytest.raises(InvalidParameterError, match="The 'random_state' parameter of NoisyLabelT"):
        build(random_state=seed).fit(make_data())


@pytest.mark.parametrize("kind", [EarlyStopping, BestModel])
@pytest.mark.parametrize("name", ["val_accuracy", "val_loss"])
def test_a_missing_validation_set_is_told_before_the_first_epoch(build, make_data, kind, name):
    begun = []
    epochs = Callback()
    epochs.on_epoch_begin = lambda trainer, epoch: begun.append(epoch)
    message = (
        f"The 'val' parameter of NoisyLabelTrainer must be a validation set, for {kind.__name__} "
        f"watches {name!r}. Got None instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build(callbacks=[kind("train_loss"), kind(name), epochs]).fit(make_data())
    assert not begun
    measuring = Callback()  # what it records may be watched after it
    measuring.on_epoch_end = lambda trainer, record: record.update({name: 0.5})
    build(epochs=2, callbacks=[measuring, kind(name)]).fit(make_data())


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_batch_end", "on_epoch_end"])
@pytest.mark.parametrize("correction", ["cross-entropy", "m-dyr-h"])
def test_what_is_not_found_yet_is_not_saved(build, make_data, tmp_path, hook, correction):
    """Inside a run, nor where it was ended by an error."""
    calls = Callback()
    setattr(calls, hook, lambda trainer, *_: trainer.save(tmp_path / "trainer.pt"))
    trainer = build(correction=correction, callbacks=[calls])
    message = (
        "This NoisyLabelTrainer has no complete results: they come when fit ends, before the "
        "on_train_end of its callbacks."
    )
    for attempt in (lambda: trainer.fit(make_data()), lambda: trainer.save(tmp_path / "file.pt")):
        with pytest.raises(NotFittedError, match=exactly(message)):
            attempt()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "ask", [LossHistoryDisplay.from_trainer, lambda trainer: trainer.noisy_indices_]
)
def test_nobody_is_asked_for_probabilities_before_there_are_any(build, make_data, ask):
    asking = Callback()
    asking.on_epoch_end = lambda trainer, record: ask(trainer)
    with pytest.raises(NotFittedError):
        build(correction="cross-entropy", callbacks=[asking]).fit(make_data())


@pytest.mark.parametrize("correction", ["cross-entropy", "m-dyr-h"])
def test_labels_are_not_audited_before_all_is_found(build, make_data, correction):
    asking, data = Callback(), make_data()
    asking.on_epoch_end = lambda trainer, record: AuditReport.from_trainer(trainer, data)
    with pytest.raises(NotFittedError):
        build(correction=correction, callbacks=[asking]).fit(data)


def test_results_are_complete_when_training_ends(build, make_data, tmp_path):
    saving = Callback()
    saving.on_train_end = lambda trainer: trainer.save(tmp_path / "trainer.pt")
    trainer = build(callbacks=[saving]).fit(make_data())
    loaded = build().load(tmp_path / "trainer.pt")
    np.testing.assert_array_equal(loaded.noisy_indices_, trainer.noisy_indices_)


def test_callbacks_must_be_callbacks(build, make_data):
    message = (
        "The 'callbacks' parameter of NoisyLabelTrainer must be a sequence of instances of "
        "Callback. Got <built-in function print> instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        build(callbacks=[print]).fit(make_data())


@pytest.mark.parametrize("data", [iter([]), torch.zeros(50, 2), np.zeros((50, 2)), 5])
@pytest.mark.parametrize("name", ["train", "val"])
def test_datasets_must_be_map_style(build, make_data, name, data):
    given = {"train": make_data()} | {name: data}
    message = (
        f"The {name!r} parameter of NoisyLabelTrainer must be {DATASET}. Got {type(data)} instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        build().fit(**given)


@pytest.mark.parametrize("name", ["train", "val"])
def test_datasets_must_not_be_empty(build, make_data, name):
    given = {"train": make_data()} | {name: make_data(size=0)}
    message = (
        f"The {name!r} parameter of NoisyLabelTrainer must be a dataset of at least "
        f"{10 if name == 'train' else 1} samples. Got 0 instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build().fit(**given)


def test_ready_objects_must_belong_to_the_model(build, make_data, make_net):
    other = torch.optim.SGD(make_net(seed=1).parameters(), lr=0.1)
    message = "The 'optimizer' parameter of NoisyLabelTrainer must be an optimizer of the model's"
    with pytest.raises(InvalidParameterError, match=message):
        build(optimizer=other).fit(make_data())
    message = "The 'scheduler' parameter of NoisyLabelTrainer must be a factory, or a ready sched"
    with pytest.raises(InvalidParameterError, match=message):
        build(scheduler=torch.optim.lr_scheduler.StepLR(other, 1)).fit(make_data())
    message = "The 'scheduler' parameter of NoisyLabelTrainer must be a schedule that steps without"
    with pytest.raises(InvalidParameterError, match=message):
        build(scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau).fit(make_data())


LABELS = "The labels of NoisyLabelTrainer's datasets must be "
IN_RANGE = "in the range [0, 3), as the model has 3 outputs. "
WHOLE = ": whole numbers become integers by .long(), or .astype(np.int64)."
FROM_0 = " instead: labels begin at 0, and the model needs an output for each class."
LEFT_OUT = " instead: samples without a label (ignore_index) are to be left out of the dataset, "
LEFT_OUT += "such as by torch.utils.data.Subset."


@pytest.mark.parametrize(
    ("label", "dtype", "message"),
    [
        (3, torch.int64, LABELS + IN_RANGE + "Got 3 at sample 40" + FROM_0),
        (-100, torch.int64, LABELS + IN_RANGE + "Got -100 at sample 40" + LEFT_OUT),
        (1, torch.float32, LABELS + "integers. Got torch.float32 instead" + WHOLE),
        (1, torch.bool, LABELS + "integers. Got torch.bool instead" + WHOLE),
    ],
)
@pytest.mark.parametrize("name", ["train", "val"])
def test_labels_must_be_columns_of_the_output(build, make_data, name, label, dtype, message):
    inputs, labels = make_data().tensors
    labels = labels.to(dtype)
    labels[40] = label
    given = {"train": make_data()} | {name: TensorDataset(inputs, labels)}
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build().fit(**given)


PAIRS = (
    "The datasets of NoisyLabelTrainer must yield pairs (input, label), or dicts with one of "
    "'labels', 'label', 'targets', 'target', 'y', that collate to tensors and a vector of integer "
    "labels. Got a batch that is a "
)

MULTI = ": a sample has one class, and several at once (multi-label) are not supported"
SWAPPED = ": of a pair, the input comes first"
SEVERAL = ": several inputs are a part of their own, ((a, b), label)"


@pytest.mark.parametrize(
    ("tensors", "got", "advice"),
    [
        ((torch.zeros(20, 2),), "(16, 2)", ""),
        (
            (torch.zeros(20, 2), torch.zeros(20, 1)),
            "(16, 2), (16, 1)",
            ": a column of labels becomes a vector by .squeeze(1)",
        ),
        (
            (torch.zeros(20, 2), torch.eye(3)[torch.arange(20) % 3]),
            "(16, 2), (16, 3)",
            ": labels with one column a class become integers by .argmax(dim=1)",
        ),
        ((torch.zeros(20, 2), torch.ones(20, 3)), "(16, 2), (16, 3)", MULTI),
        ((torch.arange(20), torch.full((20, 3), 0.7)), "(16,), (16, 3)", SWAPPED),
        ((torch.zeros(20, 1),) * 3, "(16, 1), (16, 1), (16, 1)", SEVERAL),
    ],
)
def test_samples_must_be_pairs(build, tensors, got, advice):
    message = f"{PAIRS}list of ({got.replace('(', 'Tensor (')}) instead{advice}."
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build().fit(TensorDataset(*tensors))


def test_a_sample_that_is_no_tuple(build, make_data):
    data = make_data()
    data.__class__ = type("Unpaired", (TensorDataset,), {"__getitem__": lambda self, i: {"x": i}})
    with pytest.raises(
        InvalidDataError, match=exactly(f"{PAIRS}dict of (x: Tensor (16,)) instead.")
    ):
        build().fit(data)


def test_labels_that_are_names(build):
    data = list(zip(torch.zeros(20, 2), ["cat", "dog"] * 10, strict=True))
    message = "tuple) instead: names become integers by sklearn.preprocessing.LabelEncoder."
    with pytest.raises(InvalidDataError, match=f"{re.escape(message)}$"):
        build().fit(data)


class Nested(nn.Linear):
    def forward(self, inputs):
        return {"scores": super().forward(inputs)}


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), "a tensor of shape (16,)"),
        (nn.Sequential(nn.Linear(2, 2), nn.Unflatten(1, (2, 1))), "a tensor of shape (16, 2, 1)"),
    ],
)
def test_the_model_must_return_logits(build, make_data, model, got):
    message = (
        "The 'model' parameter of NoisyLabelTrainer must return logits of shape (batch, "
        f"num_classes). Got {got} for a batch of 16 samples instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build(model).fit(make_data())


def test_logits_must_be_found_in_what_the_model_returns(build, make_data):
    message = (
        "The 'model' parameter of NoisyLabelTrainer must return logits: a tensor, a tuple that "
        "begins with it, or an object or dict with 'logits'. Got a dict with 'scores' instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build(Nested(2, 3)).fit(make_data())


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score"])
def test_predictions_need_a_fit_and_data(build, make_data, method):
    trainer = build()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(trainer, method)(make_data())
    trainer.fit(make_data())
    alone = "a dataset, or inputs alone as an array, such as X.to_numpy(dtype='float32')"
    expected = DATASET if method == "score" else alone
    message = f"The 'X' parameter of NoisyLabelTrainer must be {expected}. Got "
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InvalidParameterError) as error:
        getattr(trainer, method)(pandas.DataFrame({"a": [1.0] * 5}))
    assert "frame.DataFrame" in str(error.value) or "pandas.DataFrame" in str(error.value)
    assert str(error.value).startswith(message)


def test_inputs_alone_that_do_not_fit_are_told(build, make_data):
    trainer = build(nn.Linear(2, 3)).fit(make_data())
    message = (
        "The 'X' parameter of NoisyLabelTrainer must have samples like those of training, a single "
        "one as X[None]. Got logits of shape (3,) for a batch of 2 samples instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        trainer.predict(np.zeros(2, dtype=np.float32))
    assert trainer.predict(np.zeros((1, 2), dtype=np.float32)).shape == (1,)
    with pytest.raises(InvalidDataError, match=r"Got int64 inputs, which most models do not: conv"):
        trainer.predict(np.zeros((4, 2), dtype=np.int64))


@pytest.mark.parametrize("correction", ["mixup", "m-dyr-h"])
def test_integer_inputs_cannot_be_mixed(build, correction):
    model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2))
    data = TensorDataset(torch.randint(10, (40, 3)), torch.arange(40) % 2)
    with pytest.raises(InvalidDataError, match=r"Got torch.int64 instead: inputs such as token"):
        build(model, correction=correction).fit(data)
    assert build(model, correction="cross-entropy").fit(data).losses_.shape == (40,)


class Poison(Callback):
    """Break two samples in the middle of an epoch."""

    def __init__(self, inputs, epoch):
        self.inputs, self.epoch = inputs, epoch

    def on_batch_end(self, trainer, batch, num_batches):
        if len(trainer.history_) + 1 == self.epoch:
            self.inputs[[7, 50]] = float("nan")


@pytest.mark.parametrize(("correction", "epoch"), [(MDyrH(sweep="epoch"), 1), ("cross-entropy", 2)])
def test_losses_that_are_not_finite_are_named(build, make_data, correction, epoch):
    data = make_data()
    message = (
        f"The losses of 2 of 96 samples (such as [7, 50]) are not finite in epoch {epoch}. The "
        "inputs of these samples are not: [7, 50], 2 in all."
    )
    trainer = build(
        nn.Linear(2, 3),  # without BatchNorm, which would spread the NaN over the batch
        correction=correction,
        callbacks=[Poison(data.tensors[0], epoch)],
        batch_size=96,  # one step an epoch, before the poison
    )
    with pytest.raises(NonFiniteLossError, match=exactly(message)):
        trainer.fit(data)


@pytest.mark.parametrize("correction", ["mixup", "cross-entropy", "forward"])
def test_broken_inputs_are_named_whatever_they_have_spread_to(build, make_data, correction):
    data = make_data()
    data.tensors[0][33] = float("inf")
    with pytest.raises(NonFiniteLossError, match=r"inputs of these samples are not: \[33\], 1 in"):
        build(correction=correction, epochs=3).fit(data)


def test_a_learning_rate_that_is_too_high_is_blamed(build, make_data, tmp_path):
    def optimizer(parameters):
        return torch.optim.SGD(parameters, lr=1e38)

    trainer = build(nn.Linear(2, 3), optimizer=optimizer, checkpoint_dir=tmp_path, epochs=9)
    with pytest.raises(NonFiniteLossError, match="rate may be too high"):
        trainer.fit(make_data())


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cdua", "a device such as 'cpu', 'cuda' or 'cuda:1'"),
        ("cuda", "a device of this machine, on which torch sees no CUDA"),
    ],
)
def test_devices_are_named(build, make_data, device, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = (
        f"The 'device' parameter of NoisyLabelTrainer must be {expected}. Got {device!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        build(device=device).fit(make_data())


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [("float64", "convert them with"), ("uint8", "images of bytes"), ("int64", "convert numbers")],
)
def test_inputs_of_a_type_that_the_model_does_not_take_are_explained(
    build, make_data, dtype, advice
):
    inputs, labels = make_data().tensors
    data = TensorDataset(inputs.abs().to(getattr(torch, dtype)), labels)
    message = f"Got {dtype} inputs, which most models do not: {advice}"
    with pytest.raises(InvalidDataError, match=message):
        build().fit(data)


def test_errors_of_the_model_itself_are_left_alone(build, make_data):
    class Broken(nn.Linear):
        def forward(self, inputs):
            raise RuntimeError("these weights have another dtype, BFloat16")

    inputs, labels = make_data().tensors
    with pytest.raises(RuntimeError, match=r"^these weights"):
        build(Broken(2, 3)).fit(TensorDataset(inputs.to(torch.int64), labels))


def test_a_softmax_at_the_end_of_a_model_is_warned_of(build, make_data, make_net):
    message = (
        "The model returns probabilities: its rows sum to 1. NoisyLabelTrainer needs logits, to "
        "which it applies the softmax itself; leave out the one at the end of the model."
    )
    with pytest.warns(ModelOutputWarning, match=exactly(message)):
        build(nn.Sequential(make_net(), nn.Softmax(dim=1))).fit(make_data())
    build(nn.Sequential(make_net(), nn.LogSoftmax(dim=1))).fit(make_data())


def test_a_model_that_predicts_one_class_is_warned_of(build, make_data):
    net = nn.Linear(2, 3)
    net.bias.data[1] = 1e4
    with pytest.warns(CollapseWarning, match=r"^The trained model predicts 1\.0 classes \(effec"):
        build(net, correction="cross-entropy", epochs=1).fit(make_data())


def test_losses_that_cannot_tell_are_warned_of(build, make_data):
    trainer = build(correction="cross-entropy", epochs=1)
    with pytest.warns(NoSeparableNoiseWarning, match="^The losses of the trained model cannot"):
        trainer.fit(make_data())
    assert not trainer.detector_.separable_


@pytest.mark.parametrize("samples", [range(96), range(50)])
def test_what_is_advised_then_can_be_done(build, make_data, samples):
    """There is no mean loss of samples that no epoch has met, but for those of the last sweep."""
    loader = DataLoader(make_data(), batch_size=16, sampler=SubsetRandomSampler(samples))
    slow = partial(torch.optim.SGD, lr=1e-4)  # nothing is learned
    trainer = build(correction="cross-entropy", optimizer=slow)
    with pytest.warns(NoSeparableNoiseWarning, match=r"recorder_\.reduce\(\), their mean") as told:
        trainer.fit(loader)
    assert ("after recorder_.record_epoch(losses_)" in str(told[0].message)) is (len(samples) < 96)
    if len(samples) < 96:
        trainer.recorder_.record_epoch(trainer.losses_)
    assert trainer.recorder_.reduce().shape == (96,)


def test_a_loader_without_a_batch_is_refused(build, make_data):
    loader = DataLoader(make_data(size=20), batch_size=64, drop_last=True)
    with pytest.raises(InvalidDataError, match=r"a loader of at least one batch\. Got one without"):
        build().fit(loader)


@pytest.mark.parametrize(
    ("collate", "message"),
    [
        (lambda b: default_collate(sorted(b, key=lambda s: float(s[0][0]))), "the order of the"),
        (lambda b: default_collate(b[:-1]), r"every sample. Got 15 of 16 instead"),
    ],
)
def test_a_collate_function_must_keep_samples_and_order(build, make_data, collate, message):
    loader = DataLoader(make_data(), batch_size=16, collate_fn=collate)
    with pytest.raises(InvalidDataError, match=f"must keep {message}"):
        build().fit(loader)
