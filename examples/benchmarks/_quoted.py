"""The committed results that the documentation quotes, and how a table of them is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
QUOTED = (
    "detector_rates",
    "detector_unseen",
    "detector_training_losses",
    "detector_calibration",
    "detector_speed",
    "audit_benchmark",
    "methods_digits",
    "methods_digits_bfloat16",
    "methods_cifar",
    "methods_cifar_long",
    "methods_imbalanced",
    "epoch_cost",
    "epoch_cost_bfloat16",
    "epoch_cost_cuda",
    "epoch_cost_cuda_512",
    "epoch_cost_cuda_graphs",
    "cifar10/cross-entropy_0.5_30_0",
    "cifar10/m-dyr-h_0.5_30_0",
    "cifar10/cross-entropy_0.5_100_0",
    "cifar10/m-dyr-h_0.5_100_0",
    "cifar10/cross-entropy_0.8_30_0",
    "cifar10/m-dyr-h_0.8_30_0",
    "cifar10/m-dyr-h_0.8_100_0",
)
METHODS = {
    "beta": "`BetaMixtureNoiseDetector`",
    "posterior": "its `posterior`",
    "gaussian": "`GaussianMixtureNoiseDetector`",
    "audit": "`audit(pred_probs=)`",
    "cleanlab": "cleanlab",
    "dividemix": "DivideMix's mixture",
    "published": "published betas",
    "cut": "p < .05",
}
SETS = {
    "cifar10": "CIFAR-10",
    "imdb": "IMDB",
    "digits_logistic": "digits, logistic regression",
    "digits_forest": "digits, random forest",
    "digits_svm": "digits, SVM",
    "digits_neighbours": "digits, nearest neighbours",
    "digits_mlp": "digits, MLP",
    "breast_cancer": "breast cancer",
    "wine": "wine",
    "iris": "iris",
}
NOISE_NAMES = {
    "symmetric-0": "0 %",
    "symmetric-0.2": "20 %",
    "symmetric-0.5": "50 %",
    "symmetric-0.8": "80 %",
    "symmetric-0.9": "90 %",
    "symmetric-0.4-excl": "40 % others",
    "pair-0.4": "40 % moved",
    "instance-0.4": "40 % instance",
    "open-set-0.4": "40 % replaced",
}


def result(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return content


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
