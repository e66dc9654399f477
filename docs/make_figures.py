"""Make the figures of the explanations, docs/_static/how_*.png and limits_*.png.

    python docs/make_figures.py [FOLDER]

Needs the extra ``plot``, and half a minute. The digits and the network are those of
examples/quickstart.py.
"""

import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import beta as beta_distribution

from lossnoise import BetaMixtureNoiseDetector, LossMixtureDisplay
from lossnoise.exceptions import LossNoiseWarning

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from quickstart import load_noisy_digits, train

SCALE = 2.5  # of the normalised loss, 1 - exp(-loss / 2.5)
EPOCHS = (1, 10, 80)


def plain_losses(noise: float, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Train plainly; return the losses of every epoch and which labels are wrong."""
    digits = load_noisy_digits(noise, seed=0)
    trainer = train(digits, "cross-entropy", 0, epochs=epochs)
    return trainer.loss_history_, digits.changed


def draw(losses: np.ndarray, title: str, *, legend: bool) -> Figure:
    figure, ax = plt.subplots(figsize=(4.2, 3.2), layout="constrained")
    detector = BetaMixtureNoiseDetector().fit(losses)
    display = LossMixtureDisplay.from_estimator(detector, losses, ax=ax)
    ax.set_title(title, fontsize="medium")
    display.proba_ax_.get_legend().set_visible(legend)
    return figure


def turning_point() -> Figure:
    """Draw P(wrong) by Bayes alone, which turns, and as the detector has it."""
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.gamma(6.0, 0.04, 900), rng.gamma(1.3, 1.6, 100)])
    detector = BetaMixtureNoiseDetector(hard_fraction=0.0).fit(losses)
    grid = np.linspace(0.0, 1.5, 500)[1:]
    joint = [
        weight * beta_distribution.pdf(1.0 - np.exp(-grid / SCALE), a, b)
        for weight, a, b in zip(detector.weights_, detector.alphas_, detector.betas_, strict=True)
    ]
    figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
    ax.hist(losses, np.linspace(0.0, 1.5, 60), density=True, color="#cfd8dc", label="losses")
    ax.set(xlabel="loss", ylabel="density", xlim=(0.0, 1.5))
    right = ax.twinx()
    right.plot(grid, joint[1] / (joint[0] + joint[1]), "--", color="#c8553d", label="Bayes alone")
    right.plot(grid, detector.posterior(grid), color="#2a6f97", label="held constant")
    right.set(ylabel="P(label wrong)", ylim=(0.0, 1.05))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def main(folder: Path) -> None:
    plt.switch_backend("agg")  # no window
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossNoiseWarning)  # that it cannot tell is what is shown
        history, _ = plain_losses(0.5, EPOCHS[-1])
        clean, _ = plain_losses(0.0, 2)
        memorised = f"45 % of the labels wrong, after epoch {EPOCHS[-1]}"
        figures = {
            "how_posterior_turns": turning_point(),
            "limits_clean": draw(clean[:, -1], "all labels right, after epoch 2", legend=True),
            "limits_memorised": draw(history[:, -1], memorised, legend=False),
        }
        for epoch in EPOCHS:
            title, two_heaps = f"after epoch {epoch}", epoch == EPOCHS[1]
            figures[f"how_epoch_{epoch}"] = draw(history[:, epoch - 1], title, legend=two_heaps)
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110)
        Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(*sys.argv[1:2]) if sys.argv[1:] else Path(__file__).parent / "_static")
