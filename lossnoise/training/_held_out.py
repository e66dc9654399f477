"""Networks in cross-validation: a fresh copy learns each fold. See `lossnoise.cross_val`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from lossnoise._fingerprint import fingerprint
from lossnoise._samples import LABEL_NAMES, is_mapping
from lossnoise._validation import invalid_data, invalid_parameter, to_numpy
from lossnoise.corrections._labelled import SECOND_IS_LABEL, are_shares, split_sample
from lossnoise.data._indexed import IndexedData, options_of
from lossnoise.exceptions import (
    InterruptedWarning,
    InvalidDataError,
    NonFiniteLossError,
    NoSeparableNoiseWarning,
)
from lossnoise.training._checks import check_data, check_trainer, has_trained
from lossnoise.training._divergence import broken_inputs
from lossnoise.training._forward import inputs_alone
from lossnoise.training.callbacks import watcher_of_validation
from lossnoise.training.trainer import NoisyLabelTrainer

_BATCH = 256  # of the pass that reads labels


class NetworkLearner:
    """A network with its settings, and its data.

    Parameters
    ----------
    trainer : NoisyLabelTrainer
        What `read_trainer` returned; copies of it learn.
    data : Dataset or DataLoader
        One sample a row. Of a loader, size and making of the batches count.
    targets : ndarray of shape (n,), optional
        Labels in place of the dataset's own.
    """

    def __init__(self, trainer: NoisyLabelTrainer, data: Any, targets: NDArray[Any] | None) -> None:
        self._trainer = trainer
        self._loader = data if isinstance(data, DataLoader) else None
        self._dataset = dataset_of(data)
        self._targets = targets
        self.rows = np.zeros(len(self._dataset))  # for splitters, which see no samples

    def predict_held_out(
        self, train: NDArray[np.intp], test: NDArray[np.intp], names: NDArray[Any], seed: int
    ) -> NDArray[np.float64]:
        """Learn some rows; return probabilities of the labels `names` for others."""
        trainer = copy_trainer(self._trainer, seed)
        taken = self._take(train, whole=False)
        with _as_a_fold():
            try:
                trainer.fit(taken)
            except NonFiniteLossError as error:  # it names positions among the rows of the fold
                raise _in_rows(error, taken, train) from None
        found = trainer.predict_proba(self._take(test)).astype(np.float64)[:, names]
        found = np.maximum(found, np.finfo(np.float32).tiny)  # a sum of 0 cannot be scaled
        scaled: NDArray[np.float64] = found / found.sum(axis=1, keepdims=True)
        return scaled

    def fingerprints(self) -> dict[str, str]:
        """Return what tells this model and these data from others, by parameter."""
        settings = self._trainer.get_params(deep=False)
        model = settings.pop("model")
        del settings["device"], settings["verbose"]
        parts = (type(self._trainer), settings, repr(model), model.state_dict())
        tensors = getattr(self._dataset, "tensors", None)  # of others, type and length must do
        data: Any = (type(self._dataset), len(self._dataset), tensors)
        if self._loader is not None:
            loader, shuffle = self._loader, isinstance(self._loader.sampler, RandomSampler)
            data = (*data, loader.batch_size, shuffle, loader.drop_last, loader.collate_fn)
        return {"estimator": fingerprint(parts), "X": fingerprint(data)}

    def _take(self, rows: NDArray[np.intp], *, whole: bool = True) -> DatasetRows | DataLoader[Any]:
        """Return some rows, of which a loader that drops its last batch may drop some."""
        targets = None if self._targets is None else self._targets[rows]
        taken, loader = DatasetRows(self._dataset, rows, targets), self._loader
        if loader is None:
            return taken
        return DataLoader(
            taken,
            loader.batch_size,
            shuffle=isinstance(loader.sampler, RandomSampler),
            collate_fn=loader.collate_fn,
            drop_last=loader.drop_last and not whole,
            **options_of(loader),
        )


def read_trainer(owner: str, estimator: nn.Module | NoisyLabelTrainer) -> NoisyLabelTrainer:
    """Return a trainer whose settings can be used for each fold; of a module, a plain one."""
    if isinstance(estimator, nn.Module):
        return NoisyLabelTrainer(estimator, correction="cross-entropy")
    check_trainer(estimator)
    if has_trained(estimator):
        expected = "a trainer whose model it has not trained, or the folds have seen every row"
        advice = "pass one with a fresh model, or, where it learnt from other data, a new trainer"
        raise invalid_parameter(owner, "estimator", expected, type(estimator), advice)
    if (watcher := watcher_of_validation(estimator.callbacks)) is not None:
        expected = "a trainer whose callbacks watch no validation set, which folds do not have"
        raise invalid_parameter(owner, "estimator", expected, type(watcher))
    if estimator.checkpoint_dir is not None:
        expected = f"a trainer without checkpoint_dir: {owner} has one of its own"
        raise invalid_parameter(owner, "estimator", expected, type(estimator))
    return estimator


def copy_trainer(trainer: NoisyLabelTrainer, seed: int) -> NoisyLabelTrainer:
    """Return a trainer of the same settings with a copy of the model, and a seed in any case."""
    # In one go: a ready optimizer then trains the copy, not the model that it was made for.
    settings = copy.deepcopy(trainer.get_params(deep=False))
    if settings["random_state"] is None:
        settings["random_state"] = seed
    return type(trainer)(**settings)


def _in_rows(
    error: NonFiniteLossError, taken: DatasetRows | DataLoader[Any], train: NDArray[np.intp]
) -> NonFiniteLossError:
    """Return the error for rows of the whole dataset, where their inputs are what is wrong."""
    broken = broken_inputs(IndexedData(taken, _BATCH).in_order())
    if not broken:
        return NonFiniteLossError(f"{error} Samples are counted within what this fold learns.")
    rows = train[broken].tolist()
    return NonFiniteLossError(
        f"The inputs of these rows of 'X' are not finite: {rows[:5]}, {len(rows)} in all."
    )


@contextmanager
def _as_a_fold() -> Iterator[None]:
    """Pass an interruption of the training on, and leave out warnings that are not for here."""
    with warnings.catch_warnings():
        # What the model has learnt is not looked at here, only what it predicts.
        warnings.simplefilter("ignore", NoSeparableNoiseWarning)
        # Of torch, where a ready schedule was copied with its optimizer.
        warnings.filterwarnings("ignore", r"Seems like `optimizer\.step", UserWarning)
        warnings.simplefilter("error", InterruptedWarning)
        try:
            yield
        except InterruptedWarning:
            raise KeyboardInterrupt from None


def dataset_of(data: Any) -> Any:
    """Return the dataset behind a loader, or the dataset itself."""
    return data.dataset if isinstance(data, DataLoader) else data


def read_data(owner: str, X: Any, model: nn.Module) -> Any:
    """Return a map-style dataset or a loader of one: as given, or of the rows of an array."""
    if isinstance(X, DataLoader):
        _check_loader(owner, X)
        return X
    table = isinstance(X, (Tensor, np.ndarray, list, tuple)) or hasattr(X, "to_numpy")
    if isinstance(X, IterableDataset) or hasattr(X, "tocsr"):
        expected = "an array, a tensor or a map-style dataset where 'estimator' is a network"
        raise invalid_parameter(owner, "X", expected, type(X))
    if not table or _are_samples(X):
        check_data("X", X)
        return X
    inputs = X if isinstance(X, Tensor) else to_numpy(X)
    if isinstance(inputs, np.ndarray) and (inputs.ndim == 0 or inputs.dtype.kind not in "fiub"):
        expected = "an array of numbers where 'estimator' is a network"
        raise invalid_parameter(owner, "X", expected, type(X))
    return inputs_alone(inputs, model)


def _check_loader(owner: str, loader: DataLoader[Any]) -> None:
    """Raise where the batches of some rows cannot be made as those of all."""
    check_data("X", loader)
    sampler = loader.sampler
    usual = isinstance(sampler, (RandomSampler, SequentialSampler))
    once = len(sampler) == len(loader.dataset) and not getattr(sampler, "replacement", False)  # type: ignore[arg-type]  # of map-style data
    if not usual or loader.batch_size is None or not once:
        expected = (
            "a DataLoader of a map-style dataset whose batches are of batch_size samples, in order "
            "or with shuffle=True, as those of a fold are made anew"
        )
        own = sampler if loader.batch_size is not None else loader.batch_sampler
        got = f"one of a {type(loader.dataset).__name__} with a {type(own).__name__}"
        raise invalid_data(owner, "X", expected, got)


def _are_samples(X: Any) -> bool:
    """Tell whether a list has dicts, or pairs (input, label), and no rows of numbers."""
    first = X[0] if isinstance(X, list) and X else None
    parts = first if isinstance(first, (tuple, list)) else ()
    nested = [inner for part in parts if isinstance(part, (tuple, list)) for inner in part]
    held = (*parts, *nested)
    return is_mapping(first) or any(isinstance(p, (Tensor, np.ndarray, dict)) for p in held)


def read_own_labels(data: Dataset[Any] | DataLoader[Any]) -> NDArray[np.int64]:
    """Return the labels of a dataset, by a pass over it."""
    loader = IndexedData(data, _BATCH).in_order()
    labels = torch.cat([split_sample(sample)[1].cpu() for _, sample in loader])
    return np.asarray(labels.numpy())


class DatasetRows(Dataset[Any]):
    """Some rows of a dataset, with labels in place of its own, or where it has none.

    Parameters
    ----------
    dataset : Dataset
        Of inputs alone, of pairs (input, label), or of dicts.
    rows : ndarray of shape (n,)
        Positions in it.
    labels : ndarray of shape (n,), optional
        Integers from 0. By default the labels stay as they are.
    """

    def __init__(
        self, dataset: Dataset[Any], rows: NDArray[np.intp], labels: NDArray[Any] | None
    ) -> None:
        self.dataset: Any = dataset
        self.rows = rows
        self.labels = labels
        if callable(getattr(dataset, "batch_at", None)):
            self.batch_at = self._batch_at  # the same shortcut that the dataset offers

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self._labelled(self.dataset[int(self.rows[index])], index)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples of a batch; torch's loader calls it where it exists."""
        rows = self.rows[list(indices)].tolist()
        many = getattr(self.dataset, "__getitems__", None)
        samples = many(rows) if callable(many) else [self.dataset[row] for row in rows]
        return [self._labelled(s, index) for s, index in zip(samples, indices, strict=True)]

    def _batch_at(self, indices: Sequence[int]) -> Any:
        inputs, labels = split_sample(self.dataset.batch_at(self.rows[list(indices)].tolist()))
        if self.labels is not None:
            labels = torch.as_tensor(self.labels[list(indices)], device=labels.device)
        return inputs, labels

    def _labelled(self, sample: Any, index: int) -> Any:
        return sample if self.labels is None else with_label(sample, int(self.labels[index]))


def with_label(sample: Any, label: int) -> Any:
    """Return a sample of `NoisyLabelTrainer` with a label instead of its own, if it has one."""
    if is_mapping(sample):
        kept = {key: sample[key] for key in sample.keys()}  # noqa: SIM118  # mapping-like
        names = [name for name in LABEL_NAMES if name in kept]
        name = (names or LABEL_NAMES)[0]
        return kept | {name: _alike(label, kept.get(name))}
    if isinstance(sample, (tuple, list)) and len(sample) in (1, 2):
        if len(sample) == 2 and isinstance(sample[1], (Tensor, np.ndarray)):
            _check_label(sample[1])
        return sample[0], _alike(label, sample[-1])
    return sample, label


def _check_label(given: Tensor | NDArray[Any]) -> None:
    """Raise where what a label would replace is a second input."""
    size = int(np.prod(given.shape))
    if size > 1 and not are_shares(torch.as_tensor(given)):
        raise InvalidDataError(
            "The datasets of cross_val_losses must yield inputs, alone or in pairs (input, label). "
            f"Got a pair whose second part has {size} numbers instead: {SECOND_IS_LABEL}."
        )


def _alike(label: int, other: Any) -> int | Tensor:
    """Return a label as a tensor where another one is, as a collate function may want it."""
    tensor = isinstance(other, Tensor) and other.ndim == 0 and not other.is_floating_point()
    return torch.tensor(label) if tensor else label
