"""What the verdict says beside the rate: of losses of training, of models that are often wrong."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_predict
from sklearn.naive_bayes import GaussianNB
from torch import nn
from torch.utils.data import TensorDataset

from lossnoise import NoisyLabelTrainer, audit
from lossnoise.audit import AuditReport
from lossnoise.exceptions import NoSeparableNoiseWarning


def two_blobs(num_samples, wrong):
    rng = np.random.default_rng(0)
    labels = np.arange(num_samples) % 2
    inputs = rng.normal(size=(num_samples, 2)) + 6.0 * labels[:, None]
    given = np.where(rng.random(num_samples) < wrong, 1 - labels, labels)
    return torch.as_tensor(inputs, dtype=torch.float32), torch.as_tensor(given)


def test_losses_of_training_have_no_interval_of_90_percent(tmp_path):
    """Labels that the network has learned look right, and no interval knows of them."""
    data = TensorDataset(*two_blobs(1000, 0.2))
    trainer = NoisyLabelTrainer(nn.Linear(2, 2), correction="mixup", epochs=5, random_state=0)
    report = AuditReport.from_trainer(trainer.fit(data), data)
    assert report.summary["separable"]
    low, high = (100.0 * end for end in report.summary["noise_rate_interval"])
    expected = f"({low:.1f} to {high:.1f} % by its losses, and more if it learned wrong ones)"
    assert expected in report.summary["verdict"]
    report.to_html(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text("utf-8")
    assert "by its losses:" in page
    assert "interval" not in page.split("</h1>")[1].split("<h2>")[0]


@pytest.mark.parametrize(("wrong", "said"), [(0.1, False), (0.3, True)])
def test_a_model_that_contradicts_many_labels_is_told(wrong, said):
    inputs, given = two_blobs(2000, wrong)
    sure = 1.0 / (1.0 + np.exp(18.0 - 3.0 * inputs.numpy().sum(axis=1)))
    report = audit(given.numpy(), pred_probs=np.column_stack([1.0 - sure, sure]))
    agreement = report.summary["agreement"]
    assert agreement == pytest.approx((sure.round() == given.numpy()).mean())
    sentence = f"The model itself gives {100.0 * agreement:.0f} % of all labels."
    assert (sentence in report.summary["verdict"]) is said


def test_rows_are_ranked_where_none_is_flagged():
    report = audit([0, 1, 2, 0], noise_proba=[0.1, 0.2, 0.3, 0.4])
    assert report.summary["verdict"] == (
        "By the given probabilities, 25.0 % of the labels are wrong. 0 of 4 rows are flagged: no "
        "label is more likely wrong than right. The rows are ranked, worst first."
    )
    assert (
        audit([0, 1], noise_proba=[0.0, 0.0])
        .summary["verdict"]
        .endswith("0 of 2 rows are flagged. The rows are ranked, worst first.")
    )


def test_no_precision_is_promised_where_losses_cannot_tell():
    """A model errs on some flowers; nothing says how many of the flagged labels are wrong."""
    flowers, labels = load_iris(return_X_y=True)
    probs = cross_val_predict(GaussianNB(), flowers, labels, method="predict_proba")
    with pytest.warns(NoSeparableNoiseWarning) as told:
        summary = audit(labels, pred_probs=probs).summary
    count, high = summary["num_issues"], 100.0 * summary["noise_rate_interval"][1]
    assert count > 1
    assert summary["verdict"] == (
        "Cannot tell from these losses: they look like one population, as is usual with so few "
        f"rows. That is no proof that the labels are right; up to {high:.1f} % could be wrong, "
        "and more if the wrong ones follow the inputs. "
        f"By whole rows of probabilities, {100.0 * summary['noise_rate']:.1f} % look wrong. "
        f"{count} of 150 rows are flagged: if labels are wrong, most likely these, but all may be "
        "errors of the model."
    )
    assert [str(warning.message) for warning in told] == [
        "Cannot tell right from wrong labels from the losses of these probabilities: they look "
        "like one population, which is no proof that the labels are right. How many of the "
        f"{count} rows that are flagged are errors of the model is not known: look at the first of "
        "them."
    ]
