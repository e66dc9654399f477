"""`NoisyLabelTrainer`: store the settings, wire the parts, run the epochs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset, TensorDataset

from lossnoise.corrections import CORRECTIONS, Correction
from lossnoise.data._indexed import IndexedData
from lossnoise.detectors import LossMixtureDetector
from lossnoise.detectors._choice import make_detector
from lossnoise.training._checks import (
    MIN_SAMPLES,
    check_checkpoint_dir,
    check_dataset,
    check_schedule,
    check_trainer,
    read_precision,
)
from lossnoise.training._engine import (
    OptimizerFactory,
    Precision,
    SchedulerFactory,
    TrainingEngine,
)
from lossnoise.training._loops import restored_modes, sweep
from lossnoise.training._random import RunGenerators, seeded_globals
from lossnoise.training._run import TrainingRun, accuracy
from lossnoise.training.callbacks import Callback, Progress
from lossnoise.training.checkpoint import (
    check_same_settings,
    load_newest_checkpoint,
    save_checkpoint,
)

# A network is fitted to the very labels whose losses it gives, and few right ones stay hard for it.
TRAINING_HARD_FRACTION = 0.0


class NoisyLabelTrainer(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Train a torch model on labels of which some are wrong, and find those.

    Every epoch, the loss of each training sample is measured, a mixture fitted to these losses
    gives P(label wrong), and the correction uses that probability to choose what to learn from.

    Parameters
    ----------
    model : torch.nn.Module
        Maps a batch of inputs to logits of shape ``(batch, num_classes)``. Trained in place.
    correction : str or Correction, default="m-dyr-h"
        What to learn from: a name in ``lossnoise.corrections.CORRECTIONS``, or an instance of
        one of its classes, which carries its own settings. An instance is copied.
    epochs : int, default=100
        Passes over the training set.
    batch_size : int, default=64
        Samples a batch. A trailing batch of one sample joins the batch before it.
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
        Where to train. Default: CUDA where there is one, else the CPU.
    precision : {"float32", "bfloat16", "float16"} or Precision, default="float32"
        Type of the forward passes (autocast), and layout of pictures; losses are float32 always.
    callbacks : sequence of Callback, default=()
        Observers of the run.
    checkpoint_dir : str or Path, optional
        Folder for a checkpoint after every epoch; the last two are kept. A folder that holds
        checkpoints already is refused, unless `fit` is told to resume from them.
    random_state : int, numpy.random.Generator or None, default=None
        Source of all randomness of a run. ``fit`` seeds the global generators of torch, numpy
        and Python from it, and gives the caller's state back at the end.
    verbose : int, default=0
        With 1, a progress bar (where tqdm is installed) and one line an epoch, on stderr.

    Attributes
    ----------
    history_ : list of dict
        One entry an epoch: ``epoch``, ``train_loss`` (of the correction), ``val_accuracy`` (None
        without a validation set), ``noise_rate`` (the mean of P(label wrong)) and ``separable``
        (whether the losses show two populations; both None without a mixture), ``seconds`` (of
        the whole epoch, sweep and fit included).
    losses_ : ndarray of shape (n_samples,), float32
        Cross-entropy of each training sample against its given label after the last epoch, in
        eval mode, in the order of the dataset.
    noise_proba_ : ndarray of shape (n_samples,), float64
        P(label wrong) of each training sample: the plain posterior of the mixture, also where the
        losses look like one population (``detector_.separable_`` is False). Then it ranks the
        samples, and says little about how many labels are wrong.
    noisy_indices_ : ndarray of shape (n_flagged,), int64
        Samples whose label is more likely wrong than right, the most suspicious first.
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
        checkpoint_dir: str | Path | None = None,
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
        self, train: Dataset[Any], val: Dataset[Any] | None = None, *, resume: bool = False
    ) -> NoisyLabelTrainer:
        """Train the model, and find the wrong labels of the training set.

        Calling it again goes on from the model's present weights with a new optimizer, schedule
        and history; a ready optimizer or schedule goes on from its present state.

        Parameters
        ----------
        train : map-style Dataset
            Yields ``(input, label)``, labels integers from 0; at least 10 samples. It stays as
            it is; so do its transforms.
        val : map-style Dataset, optional
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
            Training diverged.

        Warns
        -----
        NoSeparableNoiseWarning
            The losses of an epoch are all equal.
        """
        check_trainer(self)
        check_checkpoint_dir(self.checkpoint_dir, resume)
        check_dataset("train", train, MIN_SAMPLES)
        if val is not None:
            check_dataset("val", val)
        seed = int(np.random.default_rng(self.random_state).integers(2**31))
        with seeded_globals(seed), restored_modes(self.model):
            run = self._start(train, val, seed)
            first = self._resume(run) if resume else 1
            self._train(run, first)
        return self

    def predict_proba(self, X: Dataset[Any] | torch.Tensor) -> NDArray[np.float32]:
        """Return the model's class probabilities.

        Parameters
        ----------
        X : map-style Dataset or Tensor of shape (n_samples, ...)
            A dataset of ``(input, label)`` pairs, whose labels are not used, or inputs alone.

        Returns
        -------
        proba : ndarray of shape (n_samples, num_classes), float32
            Rows in the order of `X`.
        """
        check_is_fitted(self)
        dataset = TensorDataset(X, torch.zeros(len(X))) if isinstance(X, torch.Tensor) else X
        data = IndexedData(check_dataset("X", dataset), self.batch_size)
        logits = sweep(self.engine_, data.in_order(), lambda model, batch: model(batch.inputs))
        proba: NDArray[np.float32] = logits.float().softmax(dim=1).cpu().numpy()
        return proba

    def predict(self, X: Dataset[Any] | torch.Tensor) -> NDArray[np.int64]:
        """Return the most probable class of each sample, shape (n_samples,).

        Parameters
        ----------
        X : map-style Dataset or Tensor of shape (n_samples, ...)
            As for `predict_proba`.

        Returns
        -------
        classes : ndarray of shape (n_samples,), int64
        """
        classes: NDArray[np.int64] = self.predict_proba(X).argmax(axis=1)
        return classes

    def score(self, X: Dataset[Any]) -> float:
        """Return the accuracy on a dataset of ``(input, label)`` pairs.

        Parameters
        ----------
        X : map-style Dataset
            Yields ``(input, label)``.

        Returns
        -------
        accuracy : float
        """
        check_is_fitted(self)
        data = IndexedData(check_dataset("X", X), self.batch_size)
        return accuracy(self.engine_, data, self.num_classes_)

    def request_stop(self) -> None:
        """End the run after the present epoch; for callbacks."""
        self._stop = True

    # -- inside -----------------------------------------------------------------------------

    def _start(self, train: Dataset[Any], val: Dataset[Any] | None, seed: int) -> TrainingRun:
        correction = self._make_correction()
        device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        engine = TrainingEngine(
            self.model,
            num_models=correction.num_models,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            device=device,
            precision=read_precision(self.precision),
            num_epochs=self.epochs,
            keep_initial=correction.needs_restart,
        )
        for scheduler in engine.schedulers:
            check_schedule(scheduler)
        run = TrainingRun(
            engine,
            correction,
            make_detector("NoisyLabelTrainer", self.detector, hard_fraction=TRAINING_HARD_FRACTION),
            train,
            val,
            batch_size=self.batch_size,
            num_epochs=self.epochs,
            generators=RunGenerators(seed, device),
        )
        correction.setup(run.context)
        self.engine_, self.correction_, self.detector_ = engine, correction, run.detector
        self.num_classes_ = run.context.num_classes
        self.history_: list[dict[str, Any]] = []
        for name in ("losses_", "noise_proba_", "noisy_indices_"):
            self.__dict__.pop(name, None)  # of an earlier fit
        return run

    def _train(self, run: TrainingRun, first: int) -> None:
        self._stop = False
        callbacks = [*self.callbacks, *([Progress()] if self.verbose else [])]
        for callback in callbacks:
            callback.on_train_begin(self)
        for epoch in range(first, self.epochs + 1):
            self._run_epoch(run, epoch, callbacks)
            if self._stop:
                break
        run.refit()
        self._publish(run)
        for callback in callbacks:
            callback.on_train_end(self)

    def _run_epoch(self, run: TrainingRun, epoch: int, callbacks: list[Callback]) -> None:
        for callback in callbacks:
            callback.on_epoch_begin(self, epoch)

        def on_batch_end(batch: int, num_batches: int) -> None:
            for callback in callbacks:
                callback.on_batch_end(self, batch, num_batches)

        record = run.epoch(epoch, on_batch_end)
        self.history_.append(record)
        if run.losses is not None:
            self._publish(run)
        if self.checkpoint_dir is not None:
            self._save(run, epoch)
        for callback in callbacks:
            callback.on_epoch_end(self, record)

    def _publish(self, run: TrainingRun) -> None:
        assert run.losses is not None  # the callers have swept
        self.losses_ = run.losses
        self.noise_proba_: NDArray[np.float64] = run.noise_proba()
        worst_first = np.argsort(-self.noise_proba_, kind="stable")
        self.noisy_indices_ = worst_first[self.noise_proba_[worst_first] > 0.5]

    def _save(self, run: TrainingRun, epoch: int) -> None:
        assert self.checkpoint_dir is not None  # the caller asked
        state = {
            "epoch": epoch,
            "history": self.history_,
            "settings": self._settings(run),
            "run": run.state_dict(),
        }
        save_checkpoint(Path(self.checkpoint_dir), epoch, state)

    def _resume(self, run: TrainingRun) -> int:
        assert self.checkpoint_dir is not None  # checked with the parameters
        state = load_newest_checkpoint(Path(self.checkpoint_dir))
        if state is None:
            return 1
        check_same_settings(state["settings"], self._settings(run), str(self.checkpoint_dir))
        run.load_state_dict(state["run"])
        self.history_ = state["history"]
        return int(state["epoch"]) + 1

    def _settings(self, run: TrainingRun) -> dict[str, Any]:
        """Return what a resumed run must have in common with the one that was interrupted."""
        return {
            "correction": repr(self._make_correction()),
            "detector": repr(run.detector),
            "precision": str(self.precision),
            "epochs": int(self.epochs),
            "batch_size": int(self.batch_size),
            "number of samples": run.context.num_samples,
            "number of classes": run.context.num_classes,
            "shapes of the parameters": [list(p.shape) for p in self.model.parameters()],
        }

    def _make_correction(self) -> Correction:
        if isinstance(self.correction, Correction):
            return copy.deepcopy(self.correction)
        return CORRECTIONS[self.correction]()
