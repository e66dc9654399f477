"""A report of the labels that a trainer learned from."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from lossnoise._labels import has_collapsed
from lossnoise._validation import invalid_data
from lossnoise.audit._audit import audit
from lossnoise.audit._report import AuditReport
from lossnoise.audit._summary import COLLAPSED


def audit_trainer(owner: str, trainer: Any, dataset: Any, **options: Any) -> AuditReport:
    """Audit labels by a trainer's own losses and probabilities."""
    check_is_fitted(trainer, ["losses_", "noise_proba_", "labels_"])  # not inside its `fit`
    pred_probs = trainer.predict_proba(dataset)
    if len(pred_probs) != len(trainer.labels_):
        expected = f"the one that the trainer was fitted to, of {len(trainer.labels_)} rows"
        raise invalid_data(owner, "dataset", expected, f"{len(pred_probs)} rows")
    options.setdefault("class_names", range(trainer.num_classes_))
    report = audit(
        trainer.labels_,
        losses=trainer.losses_,
        pred_probs=pred_probs,
        noise_proba=trainer.noise_proba_,
        **options,
    )
    report.detector = getattr(trainer, "detector_", None)
    report._settings |= {"source": "trainer", "detector": repr(report.detector)}
    if has_collapsed(pred_probs.argmax(axis=1), trainer.labels_):
        report._settings[COLLAPSED] = True
    return report
