"""A report of the labels that a trainer learned from."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from lossnoise._labels import has_collapsed
from lossnoise._losses import losses_from_probs
from lossnoise._validation import invalid_data, invalid_parameter
from lossnoise.audit._audit import audit
from lossnoise.audit._classes import UNRELATED, SureNames, rank_correlation, read_class_names
from lossnoise.audit._doubts import COLLAPSED, ONE_CLASS, OTHER_CLASSES, Evidence, doubt_of
from lossnoise.audit._report import AuditReport
from lossnoise.audit._summary import THRESHOLD, TRAINER
from lossnoise.exceptions import LossNoiseWarning

MANY = 0.1  # of the labels that look wrong: so many classes that no label has are no chance

# Of a probability in two passes over the same inputs: less is rounding. It is more where inputs are
# drawn anew, as augmented pictures are, or the model is another one.
SAME = 0.05


def audit_trainer(owner: str, trainer: Any, dataset: Any, **options: Any) -> AuditReport:
    """Audit labels by a trainer's own losses and probabilities."""
    if not hasattr(trainer, "_proba_and_labels"):
        raise invalid_parameter(owner, "trainer", "a NoisyLabelTrainer", type(trainer))
    check_is_fitted(trainer, ["losses_", "noise_proba_", "labels_"])  # not inside its `fit`
    pred_probs, labels = trainer._proba_and_labels(dataset)
    if len(labels) != len(trainer.labels_):
        expected = f"the one that the trainer was fitted to, of {len(trainer.labels_)} rows"
        raise invalid_data(owner, "dataset", expected, f"{len(labels)} rows")
    if len(others := np.flatnonzero(labels != trainer.labels_)):
        expected = "the one that the trainer was fitted to, in the same order"
        got = f"other labels in {len(others)} of {len(labels)} rows, first in row {others[0]}"
        advice = "labels that were corrected since are audited by a trainer that has seen them"
        raise invalid_data(owner, "dataset", expected, got, advice)
    options["class_names"] = _output_names(owner, options.get("class_names"), trainer.num_classes_)
    losses, wrong, detector = _judged(trainer, pred_probs)
    report = audit(labels, losses=losses, pred_probs=pred_probs, noise_proba=wrong, **options)
    report.detector = detector
    report._settings |= {"source": TRAINER, "detector": repr(detector)}
    predicted, classes = pred_probs.argmax(axis=1), np.unique(trainer.labels_)
    issues = predicted[wrong > THRESHOLD]
    doubt = ""
    if len(classes) == 1:
        doubt = ONE_CLASS
    elif has_collapsed(predicted, trainer.labels_):
        doubt = COLLAPSED
    elif len(issues) and np.mean(~np.isin(issues, classes)) > MANY:
        doubt = OTHER_CLASSES
    elif detector is not None:
        doubt = doubt_of(report._figures, detector, Evidence())
    if doubt:  # the verdict says it; the trainer has warned, where it could know
        report._settings[doubt] = True
    return report


def _output_names(owner: str, class_names: Any, num_classes: int) -> SureNames:
    """Return the names of a model's outputs; without any, their numbers."""
    outputs = list(range(num_classes))
    names = read_class_names(class_names) or outputs
    if len(names) != len(outputs):
        expected = f"one name for each of the model's {len(outputs)} outputs"
        raise invalid_data(owner, "class_names", expected, f"{len(names)} names")
    if set(names) == set(outputs) and names != outputs:
        expected = "in the order of the model's outputs, whose labels are 0, 1, ..."
        raise invalid_parameter(owner, "class_names", expected, names)
    return SureNames(names)


def _judged(trainer: Any, pred_probs: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], Any]:
    """Return losses, P(wrong) and their detector: the trainer's, or those of these predictions.

    Where both are of the same rows but say something else, the inputs or the model have changed,
    and two passes must not be mixed: a label that one of them is sure of would look wrong by the
    other.
    """
    losses, wrong = trainer.losses_, trainer.noise_proba_
    detector = getattr(trainer, "detector_", None)
    given = pred_probs[np.arange(len(losses)), trainer.labels_]
    related = rank_correlation(losses, given) >= UNRELATED  # False for NaN; said by `audit`
    if detector is None or not related or np.abs(np.exp(-losses) - given).max() <= SAME:
        return losses, wrong, detector
    losses = losses_from_probs(pred_probs.astype(np.float64), trainer.labels_)
    with warnings.catch_warnings():  # the verdict says it
        warnings.simplefilter("ignore", LossNoiseWarning)
        detector = clone(detector).fit(losses)
    return losses, detector.posterior(losses), detector
