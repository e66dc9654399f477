"""Held-out losses by networks: fresh weights a fold, labels of any kind, datasets of any kind."""

import re

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lossnoise import NoisyLabelTrainer, audit, cross_val_losses
from lossnoise.data.resident import ResidentImages
from lossnoise.exceptions import (
    InterruptedWarning,
    InvalidDataError,
    InvalidParameterError,
    NonFiniteLossError,
    SmallClassWarning,
)
from lossnoise.training import BestModel, Callback, EarlyStopping

FITS = []
FATAL = {"fit": 0, "error": None}


class Watching(Callback):
    """Notes each run, of all copies together, and what it began with; one of them may die."""

    def on_train_begin(self, trainer):
        FITS.append({name: p.detach().clone() for name, p in trainer.model.named_parameters()})

    def on_batch_end(self, trainer, batch, num_batches):
        if len(FITS) == FATAL["fit"]:
            raise FATAL["error"]


class Measuring(Callback):
    """Has a validation set of its own."""

    def on_epoch_end(self, trainer, record):
        record["val_accuracy"] = 0.5


@pytest.fixture(autouse=True)
def _nothing_counted():
    FITS.clear()
    FATAL.update(fit=0)


@pytest.fixture
def points(make_data):
    return make_data(noise=0.1)


@pytest.fixture
def build(make_net):
    def make(**given):
        settings = {"correction": "cross-entropy", "epochs": 3, "batch_size": 16, "device": "cpu"}
        return NoisyLabelTrainer(make_net(), **(settings | given))

    return make


@pytest.mark.filterwarnings("ignore:Cannot tell:UserWarning")
def test_a_network_is_trained_afresh_for_each_fold(make_net, points):
    X, y = points.tensors
    model = make_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses, probs = cross_val_losses(model, X, y, cv=3, return_proba=True, random_state=0)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert losses.shape == (96,)
    assert losses.dtype == probs.dtype == np.float64
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-14)
    given = probs[np.arange(96), y.numpy()]
    np.testing.assert_allclose(losses, -np.log(given), rtol=1e-12, atol=1e-15)
    assert (probs.argmax(axis=1) == y.numpy()).mean() > 0.8
    assert audit(y, pred_probs=probs).summary["num_issues"] > 0


def test_results_are_those_of_a_loop_by_hand(build, points):
    X, y = points.tensors
    folds = list(KFold(3, shuffle=True, random_state=0).split(X))
    _, probs = cross_val_losses(build(random_state=5), X, y, cv=folds, return_proba=True)
    for train, test in folds:
        trainer = build(random_state=5).fit(TensorDataset(X[train], y[train]))
        np.testing.assert_allclose(probs[test], trainer.predict_proba(X[test]), atol=1e-6)


def test_the_trainers_settings_are_copied_for_each_fold(build, points):
    callback = Watching()
    trainer = build(callbacks=[callback], correction="m-dyr-h")
    before = dict(vars(trainer))
    cross_val_losses(trainer, *points.tensors, cv=3, random_state=0)
    assert vars(trainer) == before
    assert trainer.callbacks == [callback]
    assert len(FITS) == 3
    initial = dict(trainer.model.named_parameters())
    for run in FITS:
        assert all(torch.equal(run[name], initial[name]) for name in run)


def test_a_ready_optimizer_and_schedule_train_the_copies(build, make_net, points):
    model = make_net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    ready = NoisyLabelTrainer(
        model, correction="cross-entropy", epochs=3, optimizer=optimizer, scheduler=schedule
    )
    made = NoisyLabelTrainer(
        make_net(),
        correction="cross-entropy",
        epochs=3,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1),
    )
    losses = [cross_val_losses(t, *points.tensors, cv=3, random_state=0) for t in (ready, made)]
    np.testing.assert_allclose(*losses)
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert not optimizer.state


def test_reproducible_and_the_global_generators_stay(build, points):
    before = torch.get_rng_state()

    def losses(random_state, **given):
        return cross_val_losses(build(**given), *points.tensors, cv=3, random_state=random_state)

    assert np.array_equal(losses(0), losses(0))
    assert not np.array_equal(losses(0), losses(1))
    assert torch.equal(torch.get_rng_state(), before)


class Dicts(Dataset):
    """Samples as a tokenizer gives them."""

    def __init__(self, tensors, name="labels"):
        self.tensors_of_it, self.name = tensors, name

    def __len__(self):
        return len(self.tensors_of_it[0])

    def __getitem__(self, index):
        X, y = self.tensors_of_it
        return (
            {"input": X[index]} if self.name is None else {"input": X[index], self.name: y[index]}
        )


class Pairs(Dicts):
    def __getitem__(self, index):
        X, y = self.tensors_of_it
        return X[index], int(y[index])


class Bare(Dicts):
    def __getitem__(self, index):
        return self.tensors_of_it[0][index]


def test_datasets_of_any_kind_give_what_arrays_give(build, points):
    X, y = points.tensors
    losses = cross_val_losses(build(), X, y, cv=3, random_state=0)
    for rows, labels in (
        (points, None),
        (points, y.tolist()),
        (Pairs((X, y)), None),
        (Pairs((X, y * 0)), y),
        ([Pairs((X, y))[row] for row in range(len(y))], None),
        (TensorDataset(X), y.numpy()),
        (X.numpy().astype(np.float64), y.numpy()),
        (X.tolist(), y.tolist()),
        (Bare((X, y)), y),
    ):
        found = cross_val_losses(build(), rows, labels, cv=3, random_state=0)
        assert np.array_equal(found, losses)


def test_a_network_of_doubles_takes_arrays_of_doubles(build, points):
    X, y = points.tensors
    trainer = build()
    trainer.model.double()
    losses = cross_val_losses(trainer, X.double().numpy(), y, cv=3, random_state=0)
    expected = cross_val_losses(trainer, X.double(), y, cv=3, random_state=0)
    assert np.array_equal(losses, expected)


def pad(samples):
    """Collate rows of several lengths, whose zeros are left away, to those of one length."""
    rows, labels = zip(*samples, strict=True)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor(labels)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_makes_the_batches_of_samples_of_several_lengths(build, points, given, shuffle):
    inputs, labels = points.tensors
    padded = torch.cat([inputs, torch.zeros_like(inputs[:, :1])], dim=1)
    rows = [(row if i % 2 else row[:-1], int(labels[i])) for i, row in enumerate(padded)]
    trainer = build().set_params(model=nn.Linear(padded.shape[1], 3))
    settings = {"y": labels.numpy() if given else None, "cv": 2, "random_state": 0}
    expected = cross_val_losses(
        trainer, DataLoader(TensorDataset(padded, labels), 10, shuffle=shuffle), **settings
    )
    loader = DataLoader(rows, 10, shuffle=shuffle, collate_fn=pad)
    np.testing.assert_array_equal(cross_val_losses(trainer, loader, **settings), expected)
    with pytest.raises(InvalidDataError, match="pass a DataLoader with a collate_fn"):
        cross_val_losses(trainer, rows, **settings)


def stack(samples):
    rows, labels = zip(*samples, strict=True)
    return torch.stack(rows), torch.stack(labels)


def test_a_loader_may_drop_batches_to_learn_from_but_none_to_predict(build, points):
    labels = points.tensors[1].numpy()
    loader = DataLoader(points, len(points) // 3, drop_last=True, collate_fn=stack)
    losses = cross_val_losses(build(), loader, labels, cv=5, random_state=0)
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(("name", "given"), [("labels", False), ("y", True), (None, True)])
def test_datasets_of_dicts(points, make_net, name, given):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make_net()

        def forward(self, input):
            return self.net(input)

    X, y = points.tensors
    trainer = NoisyLabelTrainer(Network(), correction="cross-entropy", epochs=2)
    settings = {"y": y if given else None, "cv": 3, "random_state": 0}
    found = cross_val_losses(trainer, Dicts((X, y), name), **settings)
    listed = [Dicts((X, y), name)[row] for row in range(len(y))]
    assert np.array_equal(cross_val_losses(trainer, listed, **settings), found)
    expected = cross_val_losses(
        NoisyLabelTrainer(make_net(), correction="cross-entropy", epochs=2),
        *(X, y),
        cv=3,
        random_state=0,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_whole_batches_of_resident_pictures():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(60, 4, 4, 3), dtype=np.uint8)
    labels = rng.integers(0, 2, size=60)
    images[labels == 1] //= 4
    dataset = ResidentImages(images, labels, "cpu")
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    trainer = NoisyLabelTrainer(network, correction="cross-entropy", epochs=2)
    own = cross_val_losses(trainer, dataset, cv=3, random_state=0)
    pictures, _ = dataset.batch_at(range(60))
    given = TensorDataset(pictures.contiguous(), torch.as_tensor(labels))
    np.testing.assert_allclose(own, cross_val_losses(trainer, given, cv=3, random_state=0), 1e-4)
    again = ResidentImages(images, 1 - labels, "cpu")
    expected = cross_val_losses(trainer, again, cv=3, random_state=0)
    for others in (1 - labels, (1 - labels).astype(object)):
        relabelled = cross_val_losses(trainer, dataset, others, cv=3, random_state=0)
        np.testing.assert_array_equal(relabelled, expected)


@pytest.mark.parametrize("names", [["b", "a", "c"], [(0,), (1,), (2,)], [-1, 0, 1]])
def test_labels_of_any_type(build, points, names):
    X, y = points.tensors
    labels = [names[code] for code in y.tolist()]
    losses, probs = cross_val_losses(build(), X, labels, cv=3, return_proba=True, random_state=0)
    columns = [sorted(names).index(label) for label in labels]
    np.testing.assert_allclose(losses, -np.log(probs[np.arange(96), columns]), atol=1e-12)


def test_integers_among_objects_are_integers(build, points):
    """As pandas gives them where a column once held other things."""
    X, y = points.tensors
    objects = y.numpy().astype(object)
    expected = cross_val_losses(build(), X, y, cv=3, random_state=0)
    assert np.array_equal(cross_val_losses(build(), X, objects, cv=3, random_state=0), expected)


def test_integers_are_columns_of_the_model(points, make_net):
    """A label that nobody has keeps its output, and gets no column."""
    X, y = points.tensors
    model = NoisyLabelTrainer(make_net(num_classes=6), correction="cross-entropy", epochs=2)
    _, probs = cross_val_losses(model, X, 2 * y, cv=3, return_proba=True, random_state=0)
    assert probs.shape == (96, 3)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-14)
    error = r"must be in the range \[0, 3\), as the model has 3 outputs. Got 4 at sample"
    with pytest.raises(InvalidDataError, match=error):
        cross_val_losses(make_net(), X, 2 * y, cv=3)


def test_a_class_that_was_not_learnt_gets_nothing(build, points):
    X, y = points.tensors
    first = (y == 0).numpy()
    folds = [(np.flatnonzero(~first), np.flatnonzero(first)), (first, ~first)]
    with pytest.warns(SmallClassWarning, match="have them: 0, 1, 2"):
        losses, probs = cross_val_losses(build(), X, y, cv=folds, return_proba=True)
    assert (probs[first, 0] == 0.0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-14)
    assert (probs[~first] == [1.0, 0.0, 0.0]).all()  # there was nothing to learn but one class
    assert (losses == -np.log(1e-12)).all()


def test_classifiers_of_scikit_learn_take_tensors_too(points):
    X, y = points.tensors
    losses = cross_val_losses(GaussianNB(), X, y, random_state=0)
    expected = cross_val_losses(GaussianNB(), X.numpy(), y.numpy(), random_state=0)
    assert np.array_equal(losses, expected)


# -- resume -----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_killed_run_goes_on_after_the_folds_that_were_done(build, points, tmp_path, error):
    settings = {"cv": 4, "checkpoint_dir": tmp_path, "random_state": 0}
    FATAL.update(fit=3, error=error)
    with pytest.raises(error):
        cross_val_losses(build(callbacks=[Watching()]), *points.tensors, **settings)
    assert len(FITS) == 3
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(InvalidParameterError, match="made with another 'estimator'"):
        cross_val_losses(build(callbacks=[]), *points.tensors, **settings)
    FITS.clear()
    FATAL.update(fit=0)
    losses = cross_val_losses(build(callbacks=[Watching()]), *points.tensors, **settings)
    assert len(FITS) == 2
    assert np.array_equal(losses, cross_val_losses(build(), *points.tensors, cv=4, random_state=0))


def test_an_interrupted_fold_is_not_kept(build, points, tmp_path):
    """The trainer itself would make do with what the model has learnt so far."""
    trainer = build(callbacks=[Watching()])
    FATAL.update(fit=1, error=KeyboardInterrupt)
    with pytest.warns(InterruptedWarning):
        trainer.fit(points)
    FITS.clear()
    with pytest.raises(KeyboardInterrupt):
        cross_val_losses(
            build(callbacks=[Watching()]), *points.tensors, cv=3, checkpoint_dir=tmp_path
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("estimator", lambda trainer, X: (trainer.model[0].weight.data.mul_(1.5), X)[1]),
        ("estimator", lambda trainer, X: (trainer.set_params(epochs=4), X)[1]),
        ("X", lambda trainer, X: TensorDataset(X.tensors[0] + 1.0, X.tensors[1])),
        ("X", lambda trainer, X: Pairs(X.tensors)),
    ],
)
def test_folds_of_another_call_are_refused(build, points, tmp_path, name, change):
    trainer = build()
    settings = {"cv": 2, "checkpoint_dir": tmp_path, "random_state": 0}
    cross_val_losses(trainer, points, **settings)
    cross_val_losses(trainer.set_params(verbose=1), points, **settings)
    with pytest.raises(InvalidParameterError, match=f"were made with another {name!r}"):
        cross_val_losses(trainer, change(trainer, points), **settings)


# -- errors -----------------------------------------------------------------------------------


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("X", "error"),
    [
        (
            Stream(),
            "an array, a tensor or a map-style dataset where 'estimator' is a network. Got "
            f"{Stream} instead.",
        ),
        (
            sp.csr_matrix(np.eye(4)),
            "an array, a tensor or a map-style dataset where 'estimator' is a network. Got "
            f"{sp.csr_matrix} instead.",
        ),
        (
            [["a"], ["b"]],
            "an array of numbers where 'estimator' is a network. Got <class 'list'> instead.",
        ),
    ],
)
def test_data_that_a_network_cannot_use(make_net, X, error):
    start = "The 'X' parameter of cross_val_losses must be "
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(start + error)}$"):
        cross_val_losses(make_net(), X, [0, 1, 0, 1])


LOADER = (
    "The 'X' parameter of cross_val_losses must be a DataLoader of a map-style dataset whose "
    "batches are of batch_size samples, in order or with shuffle=True, as those of a fold are made "
    "anew. Got one of a "
)


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({"sampler": WeightedRandomSampler([1.0] * 4, 4)}, "WeightedRandomSampler"),
        ({"sampler": RandomSampler(range(4), replacement=True)}, "RandomSampler"),
        ({"sampler": RandomSampler(range(4), num_samples=2)}, "RandomSampler"),
        ({"batch_sampler": BatchSampler(range(4), 2, False)}, "BatchSampler"),
    ],
)
def test_loaders_whose_batches_cannot_be_made_anew(make_net, options, got):
    loader = DataLoader(TensorDataset(torch.eye(4)), **options)
    with pytest.raises(InvalidDataError) as error:
        cross_val_losses(make_net(), loader, [0, 1, 0, 1])
    assert str(error.value) == f"{LOADER}TensorDataset with a {got} instead."


def test_an_array_brings_no_labels(make_net):
    error = (
        "The 'y' parameter of cross_val_losses must be labels, one per row of 'X': only a torch "
        "Dataset brings its own. Got None instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(error)}$"):
        cross_val_losses(make_net(), torch.eye(4))


def test_one_folder_for_checkpoints_is_enough(build, points, tmp_path):
    error = (
        "The 'estimator' parameter of cross_val_losses must be a trainer without checkpoint_dir: "
        f"cross_val_losses has one of its own. Got {NoisyLabelTrainer} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(error)}$"):
        cross_val_losses(build(checkpoint_dir=tmp_path), points)


def test_settings_of_a_trainer_are_checked_before_anything_else(build, points):
    with pytest.raises(InvalidParameterError, match="The 'epochs' parameter of NoisyLabelTrainer"):
        cross_val_losses(build(epochs=0), points, cv="wrong")


def test_a_model_that_has_seen_every_row_judges_none(build, points, make_net, tmp_path):
    trainer = build().fit(points)
    trainer.save(tmp_path / "model.pt")
    error = (
        "The 'estimator' parameter of cross_val_losses must be a trainer whose model it has not "
        f"trained, or the folds have seen every row. Got {NoisyLabelTrainer} instead: pass one "
        "with a fresh model, or, where it learnt from other data, a new trainer."
    )
    for trained in (trainer, build().load(tmp_path / "model.pt")):
        with pytest.raises(InvalidParameterError, match=f"^{re.escape(error)}$"):
            cross_val_losses(trained, points)
    fresh = cross_val_losses(trainer.set_params(model=make_net()), points, cv=2, random_state=0)
    assert np.array_equal(fresh, cross_val_losses(build(), points, cv=2, random_state=0))


def test_broken_inputs_are_named_by_their_rows(build, points):
    points.tensors[0][[57, 60]] = float("nan")
    error = "The inputs of these rows of 'X' are not finite: [57, 60], 2 in all."
    folds = [(range(48, 96), range(48)), (range(48), range(48, 96))]
    with pytest.raises(NonFiniteLossError, match=f"^{re.escape(error)}$"):
        cross_val_losses(build(), points, cv=folds)


@pytest.mark.parametrize("callback", [BestModel(), EarlyStopping()])
def test_folds_have_no_validation_set(build, points, callback):
    error = (
        "The 'estimator' parameter of cross_val_losses must be a trainer whose callbacks watch no "
        f"validation set, which folds do not have. Got {type(callback)} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(error)}$"):
        cross_val_losses(build(callbacks=[callback]), points)
    cross_val_losses(build(callbacks=[Measuring(), callback]), points, cv=2)
