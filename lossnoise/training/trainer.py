"""`NoisyLabelTrainer`: store the settings, wire the parts, run the epochs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lossnoise.corrections import Correction
from lossnoise.data._indexed import IndexedData
from lossnoise.detectors import LossMixtureDetector
from lossnoise.training._checks import (
    MIN_SAMPLES,
    check_data,
    check_labelled,
    check_no_nan,
    check_trainable,
    check_trainer,
    check_validation,
    read_checkpoint_dir,
    warn_of_trained,
)
from lossnoise.training._distributed import process_group, rank_and_size
from lossnoise.training._engine import OptimizerFactory, Precision, SchedulerFactory
from lossnoise.training._forward import (
    evaluate,
    predict_labelled_rows,
    predict_rows,
    read_inputs,
)
from lossnoise.training._loops import restored_modes
from lossnoise.training._params import Estimator
from lossnoise.training._random import seeded_globals
from lossnoise.training._run import NO_RESULTS, RESULTS, Data, TrainingRun
from lossnoise.training._saved import read_saved, write_saved
from lossnoise.training._session import train_epochs
from lossnoise.training._shares import check_shares
from lossnoise.training._wiring import draw_seed, make_run
from lossnoise.training.callbacks import Callback
from lossnoise.training.checkpoint import Checkpoints


class NoisyLabelTrainer(Estimator):
    """Train a torch model on labels of which some are wrong, and find those.

    Every epoch, the loss of each training sample is measured, a mixture fitted to these losses
    gives P(label wrong), and the correction uses that probability to choose what to learn from.

    Parameters
    ----------
    model : torch.nn.Module
        Maps a batch of inputs to logits of shape ``(batch, num_classes)``: as a tensor, as the
        first of a tuple, or as the entry or attribute ``logits``. A batch that is a dict becomes
        keyword arguments. Trained in place.
    correction : str or Correction, default="m-dyr-h"
        What to learn from: a name in ``lossnoise.corrections.CORRECTIONS``, or an instance of
        one of its classes, which carries its own settings. An instance is copied.
    epochs : int, default=100
        Passes over the training set.
    batch_size : int, default=64
        Samples a batch, of each process. A trailing batch of one sample joins the one before it.
    optimizer : callable or torch.optim.Optimizer, optional
        A factory from parameters to an optimizer, or a ready optimizer of `model`. Default: SGD
        with learning rate 0.1, momentum 0.9, weight decay 1e-4.
    scheduler : callable or LRScheduler, optional
        A factory from an optimizer to a schedule, or a ready one; stepped once an epoch.
        Default: a tenth of the learning rate at 1/2 and again at 5/6 of the run.
    detector : {"beta", "gaussian", "auto"} or LossMixtureDetector, default="beta"
        What turns losses into P(label wrong). An instance is cloned; a name gives a detector
        with ``hard_fraction=0``. One family throughout a run: w would jump where it changed.
    device : str or torch.device, optional
        Where to train. Default: CUDA where there is one, else the CPU; under ``torchrun`` the
        GPU of each process.
    precision : {"float32", "bfloat16", "float16"} or Precision, default="float32"
        Type of the forward passes (autocast), and layout of pictures; losses are float32 always.
    callbacks : sequence of Callback, default=()
        Observers of the run.
    checkpoint_dir : str, Path or Checkpoints, optional
        Folder for a checkpoint after every epoch; the last two are kept, or as `Checkpoints`
        says. A folder that holds checkpoints already is refused, unless `fit` is told to resume;
        and one into which another run writes, in any case.
    random_state : int, numpy.random.Generator or None, default=None
        Source of all randomness of a run. ``fit`` seeds the global generators of torch, numpy
        and Python from it, and gives the caller's state back at the end.
    verbose : int, default=0
        With 1, a progress bar (where tqdm is installed) and one line an epoch, on stderr.

    Attributes
    ----------
    history_ : list of dict
        One entry an epoch: ``epoch``, ``train_loss`` (of the correction), ``val_loss`` (the mean
        cross-entropy) and ``val_accuracy`` (None without a validation set), ``noise_rate`` (the
        mean of P(label wrong)) and ``separable`` (as of the detector of the epoch; None
        without a mixture), ``learning_rate``, ``seconds`` (of it all, sweep and fit included).
    losses_ : ndarray of shape (n_samples,), float32
        Cross-entropy of each training sample against its given label after the last epoch, in
        eval mode, in the order of the dataset.
    noise_proba_ : ndarray of shape (n_samples,), float64
        P(label wrong) of each training sample: the plain posterior of the mixture, also where the
        losses cannot tell (``detector_.separable_`` is False). Then it ranks the
        samples, and says little about how many labels are wrong.
    noisy_indices_ : ndarray of shape (n_flagged,), int64
        Samples whose label is more likely wrong than right, the most suspicious first.
    labels_ : ndarray of shape (n_samples,), int64
        The given label of each training sample.
    suggested_labels_ : ndarray of shape (n_samples,), int64
        The most probable class of each training sample other than the given one.
    loss_history_ : ndarray of shape (n_samples, n_epochs), float32
        Losses of the training samples in every epoch that knew them, NaN in others: those of the
        training steps, in train mode, where these see unmixed samples, and else swept ones.
        Without columns after mixup, or a correction of one's own, that has neither.
    recorder_ : LossRecorder
        Keeps them; ``recorder_.reduce()`` is the mean loss of each sample over the epochs that knew
        it, which a detector takes.
    detector_ : LossMixtureDetector
        The mixture fitted to `losses_`.
    correction_ : Correction
        The correction that was used.
    num_classes_ : int
        Number of classes: columns of the model's output.

    References
    ----------
    .. [1] E. Arazo, D. Ortego, P. Albert, N. O'Connor, K. McGuinness, "Unsupervised Label Noise
       Modeling and Loss Correction", ICML 2019, arXiv:1904.11238.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> from lossnoise import NoisyLabelTrainer
    >>> _ = torch.manual_seed(0)
    >>> inputs = torch.randn(200, 2)
    >>> labels = (inputs[:, 0] > 0).long()
    >>> labels[:20] = 1 - labels[:20]
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    >>> trainer = NoisyLabelTrainer(model, epochs=10, random_state=0)
    >>> trainer.fit(TensorDataset(inputs, labels)).noise_proba_.shape
    (200,)
    >>> trainer.predict_proba(inputs[:3]).shape
    (3, 2)
    """

    losses_: NDArray[np.float32]
    noise_proba_: NDArray[np.float64]
    labels_: NDArray[np.int64]
    suggested_labels_: NDArray[np.int64]

    def __init__(
        self,
        model: nn.Module,
        *,
        correction: str | Correction = "m-dyr-h",
        epochs: int = 100,
        batch_size: int = 64,
        optimizer: OptimizerFactory | Optimizer | None = None,
        scheduler: SchedulerFactory | LRScheduler | None = None,
        detector: str | LossMixtureDetector = "beta",
        device: str | torch.device | None = None,
        precision: str | Precision = "float32",
        callbacks: Sequence[Callback] = (),
        checkpoint_dir: str | Path | Checkpoints | None = None,
        random_state: int | np.random.Generator | None = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.correction = correction
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.detector = detector
        self.device = device
        self.precision = precision
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, train: Data, val: Data | None = None, *, resume: bool = False
    ) -> NoisyLabelTrainer:
        """Train the model, and find the wrong labels of the training set.

        Calling it again goes on from the model's present weights with a new optimizer, schedule
        and history; a ready optimizer or schedule goes on from its present state.

        Parameters
        ----------
        train : Dataset or DataLoader
            A map-style dataset of ``(input, label)`` pairs, or of dicts with a label; labels are
            integers from 0; at least 10 samples. It stays as it is; so do its transforms. A ready
            loader keeps its sampler, collate function and workers. An `IterableDataset` needs
            ``__len__`` and yields ``(index, (input, label))``.
        val : Dataset or DataLoader, optional
            Accuracy on it is recorded after every epoch. Nothing is chosen by it.
        resume : bool, default=False
            Go on from the newest checkpoint in `checkpoint_dir`, or start where there is none.

        Returns
        -------
        self : NoisyLabelTrainer

        Raises
        ------
        InvalidParameterError
            A parameter of the constructor cannot be used.
        InvalidDataError
            The data and the model do not fit together.
        NonFiniteLossError
            Training diverged; the last checkpoint stays.
        DistributedError
            Another process of a distributed run died.

        Warns
        -----
        NoSeparableNoiseWarning
            The losses cannot tell: those of the trained model, or those of an epoch are all equal,
            or all labels look wrong by them, or none.
        CollapseWarning
            Predictions concentrate on few classes.
        ScheduleWarning, SmallBatchWarning
            The run or its batches are too small for a part of the method, or the run is much
            shorter than the `scheduler`.
        ModelOutputWarning
            The model returns probabilities instead of logits.
        NonFiniteLossWarning, CheckpointWarning
            The validation loss is not finite; a damaged checkpoint was passed over.
        SmallClassWarning
            The correction's `clean_set` has no sample of some class.
        InterruptedWarning
            The run was ended from the keyboard; the trainer can be used.

        Notes
        -----
        Under ``torchrun`` the same call trains on all processes with torch's own
        `DistributedDataParallel`; results are complete and the same on each.
        """
        check_trainer(self)
        check_trainable(self.model)
        checkpoints = read_checkpoint_dir(self.checkpoint_dir, resume)
        check_data("train", train, MIN_SAMPLES)
        check_validation(val, self.callbacks)
        with process_group():
            check_shares("train", train)
            seed = draw_seed(self.random_state)
            with restored_modes(self.model), seeded_globals(seed + rank_and_size()[0]):
                train_epochs(self, self._start(train, val, seed), checkpoints, resume=resume)
        return self

    def predict_proba(self, X: Data | torch.Tensor | NDArray[Any]) -> NDArray[np.float32]:
        """Return the model's class probabilities.

        Parameters
        ----------
        X : Dataset, DataLoader, or Tensor or ndarray of shape (n_samples, ...)
            As for `fit`, but labels are not used and may be missing: ``(input,)``, the input
            alone, or a dict without one. Of a pair, the second part is the label; several inputs
            are one part, ``((a, b),)`` or ``((a, b), label)``.

        Returns
        -------
        proba : ndarray of shape (n_samples, num_classes), float32
            Rows in the order of `X`, or of the whole dataset behind a loader.
        """
        check_is_fitted(self)
        return predict_rows(self.engine_, IndexedData(read_inputs(X, self.model), self.batch_size))

    def _proba_and_labels(self, X: Data) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return class probabilities and labels of the same pass over a dataset."""
        check_data("dataset", X)
        return predict_labelled_rows(
            self.engine_, IndexedData(X, self.batch_size), self.num_classes_
        )

    def predict(self, X: Data | torch.Tensor | NDArray[Any]) -> NDArray[np.int64]:
        """Return the most probable class of each sample, shape (n_samples,).

        Parameters
        ----------
        X : Dataset, DataLoader, or Tensor or ndarray of shape (n_samples, ...)
            As for `predict_proba`.

        Returns
        -------
        classes : ndarray of shape (n_samples,), int64

        Raises
        ------
        InvalidDataError
            The model returns NaN for some samples, such as those whose inputs are NaN.
        """
        proba = self.predict_proba(X)
        check_no_nan("X", proba)
        classes: NDArray[np.int64] = proba.argmax(axis=1)
        return classes

    def score(self, X: Data, y: None = None) -> float:
        """Return the accuracy on a dataset with labels; what the model has no answer for is wrong.

        Parameters
        ----------
        X : Dataset or DataLoader
            As for `fit`. Of a loader, only what it yields counts.
        y : None
            The labels are those of `X`.

        Returns
        -------
        accuracy : float
        """
        check_is_fitted(self)
        check_labelled(X, y)
        data = IndexedData(X, self.batch_size)
        return evaluate(self.engine_, data.as_given(), self.num_classes_, alone=True).accuracy

    @property
    def noisy_indices_(self) -> NDArray[np.int64]:
        """Samples whose label is more likely wrong than right, the most suspicious first."""
        check_is_fitted(self, "noise_proba_", msg=NO_RESULTS)
        worst_first = np.argsort(-self.noise_proba_, kind="stable")
        flagged: NDArray[np.int64] = worst_first[self.noise_proba_[worst_first] > 0.5]
        return flagged

    @property
    def loss_history_(self) -> NDArray[np.float32]:
        """Losses of each sample in each epoch, (n_samples, n_epochs); NaN where none were known."""
        check_is_fitted(self)
        history: NDArray[np.float32] = self.recorder_.loss_history_
        return history

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trained model and what was found to a file, whole or not at all.

        Parameters
        ----------
        path : str or path-like
            Tensors and plain data, which `load` reads; an existing file is replaced.

        Raises
        ------
        NotFittedError
            Not all is found before `fit` ends; `Checkpoints` and `BestModel` keep single epochs.
        """
        check_is_fitted(self, RESULTS, msg=NO_RESULTS)
        write_saved(self, path)

    def load(self, path: str | os.PathLike[str]) -> NoisyLabelTrainer:
        """Read a file of `save` into this trainer's model, to predict.

        Parameters
        ----------
        path : str or path-like
            Read as data; no code in it is run.

        Returns
        -------
        self : NoisyLabelTrainer
            With the model's weights, `losses_`, `noise_proba_`, `labels_`, `suggested_labels_`,
            `loss_history_`, `history_` and `num_classes_`.

        Raises
        ------
        InvalidDataError
            The file is not one of `save`, or of another model.
        """
        check_trainer(self)
        read_saved(self, path)
        return self

    def request_stop(self) -> None:
        """End the run after the present epoch; for callbacks."""
        self.stop_requested_ = True

    # -- inside -----------------------------------------------------------------------------
    def __sklearn_clone__(self) -> NoisyLabelTrainer:
        """Return what scikit-learn's `clone` makes, and warn where the model has learned."""
        warn_of_trained(self)
        return super().__sklearn_clone__()  # type: ignore[no-any-return]  # it ships no types

    def _start(self, train: Data, val: Data | None, seed: int) -> TrainingRun:
        run = make_run(self, train, val, seed)
        run.correction.setup(run.context)
        self.engine_, self.correction_, self.detector_ = run.engine, run.correction, run.detector
        self.num_classes_ = run.context.num_classes
        self.history_: list[dict[str, Any]] = []
        self.recorder_ = run.recorder
        for name in RESULTS:
            self.__dict__.pop(name, None)  # of an earlier fit
        return run
