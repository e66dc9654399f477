"""Find wrong labels among losses that lie in many partitions, on a Dask cluster of two processes.

Each worker counts the losses of its partitions in a `LossHistogram` of half a megabyte. The
histograms are summed by a tree, one mixture is fitted to the sum, and the fitted detector goes
back to the partitions. No process ever holds all losses, except here to compare::

    pip install "lossnoise[dask]"
    python examples/audit_with_dask.py
"""

from __future__ import annotations

import argparse
from typing import Any

import dask.array as da
import numpy as np
from dask import compute, delayed
from dask.distributed import Client, LocalCluster

from lossnoise import BetaMixtureNoiseDetector, LossHistogram

WRONG = 0.3  # share of wrong labels
FAN_IN = 4  # histograms that are added up at a time


def make_losses(size: int, seed: int) -> np.ndarray:
    """Return made-up losses: wrong labels have the high ones, and some partitions more of them."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(size) < WRONG * rng.uniform(0.5, 1.5)
    return np.where(wrong, np.abs(rng.normal(4.0, 0.8, size)), rng.gamma(1.0, 0.2, size))


def count_losses(losses: np.ndarray) -> LossHistogram:
    return LossHistogram().fill(losses)


def tree_sum(histograms: list[Any]) -> Any:
    """Return the delayed sum of delayed histograms; the order changes nothing, sums are exact."""
    while len(histograms) > 1:
        groups = range(0, len(histograms), FAN_IN)
        histograms = [delayed(sum)(histograms[i : i + FAN_IN]) for i in groups]
    return histograms[0]


def examine(detector: BetaMixtureNoiseDetector, losses: np.ndarray) -> tuple[float, int]:
    """Return the mean of P(wrong) in one partition, and the number of labels called wrong."""
    wrong = detector.predict_proba(losses)[:, 1]
    return float(wrong.mean()), int((wrong > 0.5).sum())


def run(partitions: int, size: int) -> None:
    blocks = [delayed(make_losses)(size, seed) for seed in range(partitions)]
    losses = da.concatenate([da.from_delayed(block, (size,), dtype=float) for block in blocks])
    parts = losses.to_delayed().tolist()

    total = tree_sum([delayed(count_losses)(part) for part in parts]).compute()
    detector = BetaMixtureNoiseDetector().fit_histogram(total)
    low, high = detector.noise_rate_interval_
    print(f"{len(total)} losses in {partitions} partitions: {total}")
    print(f"noise rate {detector.noise_rate_:.4f}, 90 % interval {low:.4f} to {high:.4f}")

    shared = delayed(detector)  # in the graph once, not in every task
    found = compute(*[delayed(examine)(shared, part) for part in parts])
    for number, (wrong, flagged) in enumerate(found):
        print(f"partition {number}: mean P(wrong) {wrong:.4f}, {flagged} labels flagged")
    print(f"all partitions: {sum(flagged for _, flagged in found)} labels flagged")

    everything = losses.compute()  # to compare: what one would not do with real data
    print(f"equal to the histogram of one process: {count_losses(everything) == total}")
    direct = BetaMixtureNoiseDetector().fit(everything).noise_rate_
    difference = abs(direct - detector.noise_rate_)
    print(f"noise rate fitted to the raw losses: {direct:.4f}, difference {difference:.1e}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--size", type=int, default=1_000_000, help="losses in each partition")
    options = parser.parse_args(arguments)
    workers = {"n_workers": 2, "processes": True, "threads_per_worker": 1}
    with LocalCluster(**workers, dashboard_address=None) as cluster, Client(cluster):
        run(options.partitions, options.size)


if __name__ == "__main__":
    main()
