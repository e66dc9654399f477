"""Models and data as users have them: dicts, tuples, loaders, streams, token ids."""

import re
from collections import UserDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from lossnoise.corrections import CORRECTIONS, Correction, Mixup
from lossnoise.exceptions import InvalidDataError, InvalidParameterError


def exactly(text):
    return f"^{re.escape(text)}$"


# -- what models return ---------------------------------------------------------------------------


class Returns(nn.Module):
    """A model whose output is wrapped as users' are."""

    def __init__(self, net, wrap):
        super().__init__()
        self.net, self.wrap = net, wrap

    def forward(self, inputs):
        return self.wrap(self.net(inputs))


class Keyed:
    """What a tokenizer or a framework calls a mapping: keys, and what they stand for."""

    def __init__(self, **entries):
        self._entries = entries

    def keys(self):
        return self._entries.keys()

    def __getitem__(self, key):
        return self._entries[key]


WRAPPERS = {
    "tuple": lambda logits: (logits, None),
    "dict": lambda logits: {"loss": None, "logits": logits},
    "user's dict": lambda logits: UserDict(hidden=None, logits=logits),
    "mapping-like": lambda logits: Keyed(hidden=None, logits=logits),
    "object": lambda logits: SimpleNamespace(logits=logits, hidden=None),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_logits_are_found_in_what_models_return(build, make_data, make_net, kind):
    plain = build(make_net()).fit(make_data())
    wrapped = build(Returns(make_net(), WRAPPERS[kind])).fit(make_data())
    np.testing.assert_array_equal(wrapped.losses_, plain.losses_)
    np.testing.assert_array_equal(wrapped.predict(make_data()), plain.predict(make_data()))


# -- what datasets yield --------------------------------------------------------------------------


class Renamed(Dataset):
    """Samples of a dataset of pairs in another form."""

    def __init__(self, data, form):
        self.data, self.form = data, form

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.form(*self.data[index])


FORMS = {
    "list": lambda x, y: [x, y],
    "dict": lambda x, y: {"points": x, "label": y},
    "dict with the model's own name": lambda x, y: {"input": x, "labels": y},
    "numpy": lambda x, y: (x.numpy(), np.int32(y)),
    "int": lambda x, y: (x, int(y)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("correction", ["m-dyr-h", "cross-entropy"])
def test_samples_may_have_many_forms(build, make_data, make_net, form, correction):
    plain = build(make_net(), correction=correction).fit(make_data())
    data = Renamed(make_data(), FORMS[form])
    other = build(make_net(), correction=correction).fit(data, data)
    np.testing.assert_array_equal(other.losses_, plain.losses_)
    np.testing.assert_array_equal(other.predict(data), plain.predict(make_data()))
    assert other.score(data) == plain.score(make_data())


def test_a_list_of_pairs_is_a_dataset(build, make_data):
    pairs = [(x, int(y)) for x, y in make_data()]
    assert build().fit(pairs).losses_.shape == (96,)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(1, 3), nn.Linear(1, 3)

    def forward(self, a, b):
        return self.first(a) + 2.0 * self.second(b)


def test_several_inputs_are_named_or_in_order(build, make_data):
    results = []
    for form in (
        lambda x, y: {"b": x[1:], "a": x[:1], "label": y},
        lambda x, y: ((x[:1], x[1:]), y),
    ):
        torch.manual_seed(0)
        trainer = build(TwoInputs(), correction="m-dyr-h").fit(Renamed(make_data(), form))
        results.append(trainer.losses_)
    np.testing.assert_array_equal(*results)


def test_predictions_need_no_labels(build, make_data):
    trainer = build().fit(make_data())
    unlabelled = Renamed(make_data(), lambda x, y: {"points": x})
    np.testing.assert_array_equal(trainer.predict(unlabelled), trainer.predict(make_data()))


@pytest.mark.parametrize("size", [33, 47, 96])
@pytest.mark.parametrize("correction", ["m-dyr-h", "md-dyr-sh", "dyr-h"])
def test_odd_batches_and_a_last_batch_of_one(build, make_data, size, correction):
    """33 = 2 x 16 + 1: BatchNorm cannot learn from one sample."""
    for data in (make_data(size), DataLoader(make_data(size), batch_size=16, shuffle=True)):
        trainer = build(correction=correction).fit(data)
        assert trainer.losses_.shape == (size,)
        assert np.isfinite(trainer.losses_).all()


# -- loaders --------------------------------------------------------------------------------------


def test_a_ready_loader_keeps_its_own_ways(build, make_data):
    """Its collate function is called, with its batch size, in the order of its sampler."""
    seen = []

    def collate(samples):
        seen.append(len(samples))
        xs, ys = zip(*samples, strict=True)
        return {"points": torch.stack(xs), "label": torch.tensor(ys)}

    loader = DataLoader(make_data(), batch_size=24, shuffle=True, collate_fn=collate)
    trainer = build(correction="cross-entropy", epochs=1).fit(loader)
    assert set(seen) == {24}
    assert trainer.losses_.shape == (96,)
    assert trainer.score(loader) == trainer.score(make_data())


def test_losses_have_the_order_of_the_dataset_whatever_the_sampler(build, make_data, make_net):
    data = make_data()
    loader = DataLoader(data, batch_size=16, sampler=WeightedRandomSampler(torch.ones(96), 96))
    trainer = build(make_net(), correction="m-dyr-h", epochs=3).fit(loader)
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(data.tensors[0])
    expected = nn.functional.cross_entropy(logits, data.tensors[1], reduction="none")
    np.testing.assert_allclose(trainer.losses_, expected, rtol=1e-4, atol=1e-6)


def test_a_loader_with_workers(build, make_data):
    loader = DataLoader(make_data(), batch_size=16, shuffle=True, num_workers=2)
    plain = DataLoader(make_data(), batch_size=16, shuffle=True)
    results = [build(correction="cross-entropy").fit(data).losses_ for data in (loader, plain)]
    np.testing.assert_array_equal(*results)


def test_a_loader_with_a_generator_of_its_own_is_resumed(build, make_data, make_net, tmp_path):
    from lossnoise.training import Callback

    class Stop(Callback):
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 2:
                trainer.request_stop()

    def loader():
        generator = torch.Generator().manual_seed(3)
        return DataLoader(make_data(), batch_size=16, shuffle=True, generator=generator)

    unbroken = build(epochs=4).fit(loader())
    build(epochs=4, checkpoint_dir=tmp_path, callbacks=[Stop()]).fit(loader())
    resumed = build(make_net(seed=9), epochs=4, checkpoint_dir=tmp_path)
    resumed.fit(loader(), resume=True)
    np.testing.assert_array_equal(resumed.losses_, unbroken.losses_)


def test_a_loader_of_ready_batches_is_refused(build, make_data):
    loader = DataLoader(make_data(), batch_size=None)
    message = (
        "The 'train' parameter of NoisyLabelTrainer must be a DataLoader that makes batches "
        "itself (batch_size is not None). Got <class 'torch.utils.data.dataloader.DataLoader'> "
        "instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        build().fit(loader)


# -- streams --------------------------------------------------------------------------------------


class Stream(IterableDataset):
    """The samples of a dataset one after the other, with or without their positions."""

    def __init__(self, data, form=lambda i, sample: (i, sample), length=None):
        self.data, self.form = data, form
        self.length = len(data) if length is None else length

    def __len__(self):
        return self.length

    def __iter__(self):
        for i in torch.randperm(len(self.data)).tolist():
            yield self.form(i, self.data[i])


@pytest.mark.parametrize("correction", ["m-dyr-h", "cross-entropy"])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: DataLoader(s, batch_size=32)])
def test_a_stream_with_positions(build, make_data, correction, wrap):
    data = make_data(97)
    trainer = build(correction=correction).fit(wrap(Stream(data)))
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(data.tensors[0])
    expected = nn.functional.cross_entropy(logits, data.tensors[1], reduction="none")
    np.testing.assert_allclose(trainer.losses_, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("form", "length", "message"),
    [
        (
            lambda i, sample: sample,
            None,
            "An IterableDataset of NoisyLabelTrainer must yield (index, (input, label)), because a "
            "stream does not say which sample is which. Got a tuple that begins with a Tensor, "
            "not with an int instead.",
        ),
        (
            lambda i, sample: (i + 1, sample),
            None,
            "The indices of an IterableDataset of NoisyLabelTrainer must be in the range [0, 96), "
            "as its length says. Got 96 instead.",
        ),
        (
            lambda i, sample: (i // 2, sample),
            None,
            "A pass over the dataset of NoisyLabelTrainer must meet each of its 96 samples once. "
            "Got 48 of them never and 48 more than once instead.",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LayoutWarning")
def test_a_stream_must_say_which_sample_is_which(build, make_data, form, length, message):
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build(correction="cross-entropy").fit(Stream(make_data(), form, length))


def test_a_stream_without_a_length_is_refused(build, make_data):
    class Endless(IterableDataset):
        def __iter__(self):
            yield 0, make_data()[0]

    message = (
        "The 'train' parameter of NoisyLabelTrainer must be a dataset that says which sample is "
        "which: map-style, or an IterableDataset with __len__ that yields (index, (input, label))."
    )
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        build().fit(Endless())


# -- token ids ------------------------------------------------------------------------------------


class Tagger(nn.Module):
    """A classifier of token ids, as those of transformers: keyword arguments, an output object."""

    def __init__(self, num_classes=2):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(20, 8)
        self.head = nn.Linear(8, num_classes)

    def forward(self, input_ids, attention_mask=None):
        weights = attention_mask[:, :, None].float()
        mean = (self.embedding(input_ids) * weights).sum(1) / weights.sum(1)
        return SimpleNamespace(logits=self.head(mean))


def make_texts(n=120, noise=0.2):
    generator = torch.Generator().manual_seed(0)
    clean = torch.arange(n) % 2
    ids = torch.randint(0, 10, (n, 6), generator=generator) + 10 * clean[:, None]
    labels = torch.where(torch.rand(n, generator=generator) < noise, 1 - clean, clean)
    texts = [
        {"input_ids": i, "attention_mask": torch.ones(6, dtype=torch.int64), "labels": int(label)}
        for i, label in zip(ids, labels, strict=True)
    ]
    return texts, clean


def sort_by_length(samples):
    return default_collate(sorted(samples, key=lambda sample: -int(sample["input_ids"].sum())))


@pytest.mark.parametrize(
    ("collate", "message"),
    [
        (sort_by_length, "must keep the order of the samples"),
        (lambda samples: default_collate(samples[1:]), "must keep every sample. Got 15 of 16"),
    ],
    ids=["sorts", "drops"],
)
def test_batches_of_dicts_of_other_samples_are_refused(build, collate, message):
    loader = DataLoader(make_texts()[0], batch_size=16, collate_fn=collate)
    with pytest.raises(InvalidDataError, match=message):
        build(Tagger()).fit(loader)


@pytest.mark.parametrize("name", sorted(CORRECTIONS))
def test_token_ids_train_with_every_correction(build, name, with_clean_set):
    texts, clean = make_texts()
    right = [text | {"labels": int(label)} for text, label in zip(texts, clean, strict=True)]
    correction = with_clean_set(CORRECTIONS[name](), right[:40])
    if hasattr(correction, "mix_at"):
        correction.mix_at = "embedding"
    trainer = build(Tagger(), correction=correction, epochs=8).fit(texts)
    assert (trainer.predict(texts) == clean.numpy()).mean() > 0.9


def test_token_ids_cannot_be_averaged(build):
    with pytest.raises(InvalidDataError, match=r"Got torch.int64 instead: inputs such as token"):
        build(Tagger(), correction="mixup").fit(make_texts()[0])


def test_a_module_to_mix_at_must_exist(build):
    message = (
        "The 'mix_at' parameter of Mixup must be the name of a module of the model ('embedding', "
        "'head'). Got 'embeddings' instead."
    )
    with pytest.raises(InvalidParameterError, match=exactly(message)):
        build(Tagger(), correction=Mixup(mix_at="embeddings")).fit(make_texts()[0])


@pytest.mark.parametrize("reduction", ["mean", "pairs"])
def test_a_correction_must_return_a_loss_for_each_sample(build, make_data, reduction):
    class Own(Correction):
        def loss(self, model, batch, context):
            losses = nn.functional.cross_entropy(model(batch.inputs), batch.labels)
            return losses if reduction == "mean" else losses.expand(len(batch.labels), 2)

    with pytest.raises(InvalidDataError, match="Own must return one loss a sample from `loss`"):
        build(correction=Own()).fit(make_data())


@pytest.mark.parametrize(("kind", "name"), [(None, "NoneType"), (tuple, "tuple"), (float, "float")])
def test_what_a_correction_returns_is_a_tensor(build, make_data, kind, name):
    class Own(Correction):
        def loss(self, model, batch, context):
            return None if kind is None else kind([1.0] if kind is tuple else 1.0)

    message = (
        "Own must return one loss a sample from `loss` and `train_step`, as torch's losses do with "
        f"reduction='none'. Got a {name} for a batch of 16 samples instead."
    )
    with pytest.raises(InvalidDataError, match=exactly(message)):
        build(correction=Own()).fit(make_data())


@pytest.mark.parametrize("layout", [False, True])
def test_pictures_in_any_layout(build, layout):
    from lossnoise.training import Precision

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    data = TensorDataset(torch.randn(40, 1, 4, 4), torch.arange(40) % 2)
    trainer = build(net, precision=Precision("float32", channels_last=layout)).fit(data)
    assert np.isfinite(trainer.losses_).all()
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last) or not layout


def test_validation_and_score_see_what_their_loader_yields(build, make_data):
    """The common split of one dataset by two samplers."""
    data = make_data(noise=0.0)
    data.tensors[1][60:] = (data.tensors[1][60:] + 1) % 3  # what was learned fails there
    train = DataLoader(data, 16, sampler=SubsetRandomSampler(range(60)))
    val = DataLoader(data, 16, sampler=SubsetRandomSampler(range(60, 96)))
    trainer = build(correction="cross-entropy", epochs=12).fit(train, val)
    expected = (trainer.predict(data)[60:] == data.tensors[1][60:].numpy()).mean()
    assert trainer.history_[-1]["val_accuracy"] == pytest.approx(expected)
    assert trainer.score(val) == pytest.approx(expected)
    assert trainer.score(train) > 0.9 > 0.3 > expected


def test_validation_changes_nothing_whatever_its_loader_draws(build, make_data, make_net):
    """Without a generator of its own, a loader that shuffles draws from torch's global one."""
    data = make_data()

    def losses(val):
        return build(make_net(dropout=0.5), epochs=3).fit(data, val).losses_

    shuffled = DataLoader(make_data(seed=1), batch_size=16, shuffle=True)
    np.testing.assert_array_equal(losses(shuffled), losses(None))


def test_predictions_of_a_loader_are_those_of_its_dataset(build, make_data):
    data = make_data()
    trainer = build().fit(data)
    some = DataLoader(data, batch_size=16, sampler=SubsetRandomSampler(range(40)), drop_last=True)
    np.testing.assert_array_equal(trainer.predict(some), trainer.predict(data))


def test_a_dataset_of_inputs_alone_can_be_predicted(build, make_data):
    data = make_data()
    trainer = build().fit(data)
    expected = trainer.predict(data)
    for inputs in (TensorDataset(data.tensors[0]), data.tensors[0], data.tensors[0].numpy()):
        np.testing.assert_array_equal(trainer.predict(inputs), expected)
    np.testing.assert_array_equal(
        trainer.predict(data.tensors[0].numpy().astype(np.float64)), expected
    )
