"""Speed and memory of the beta mixture detector.

    python examples/benchmarks/detector_speed.py

Five questions, each with the target that it was built to:

- EM by the published rule, on a grid of counts: how much faster than on every loss with SciPy, and
  how far are the parameters apart?
- `fit` as shipped, which does more: how much faster than that EM?
- `fit` and `predict_proba` from 10 million losses up, in units of one `np.histogram` pass.
- The extra memory of `fit` on a memory-mapped file.
- A table of seconds by number of losses.

Contenders take turns, each once in a repetition, so that a busy machine slows all of them. About
two minutes, 2 GB of memory, and 400 MB in the folder for temporary files. The result goes to
``results/detector_speed.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _results
import numpy as np
from _memory import MEGABYTE, MemoryGrowth
from _reporting import environment
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from lossnoise import BetaMixtureNoiseDetector
from lossnoise.detectors._beta import beta_features, beta_log_density, beta_moments
from lossnoise.detectors._grid import bin_losses, nodes

FloatArray = NDArray[np.float64]
Seconds = dict[str, list[float]]

WRONG = 0.3  # share of wrong labels
CHUNK = 10_000_000  # losses drawn at a time
PIECE = 1_000_000  # losses predicted from a file at a time

# The published rule: two betas with these parameters and weights at the start, 10 iterations.
START_PARAMS = ((1.0, 2.0), (2.0, 1.0))
START_WEIGHTS = (0.5, 0.5)
ITERATIONS = 10
EDGE = 1e-4
N_CELLS = 1000

# Times faster than EM on every loss, from so many losses on.
EM_TARGETS = {50_000: 40.0, 1_000_000: 100.0}
FIT_TARGETS = {50_000: 10.0, 1_000_000: 50.0}
# At most so many passes of np.histogram, from so many losses on.
PASSES = {"fit": 2.0, "predict_proba": 3.0}
PASSES_FROM = 10_000_000
PARAMETER_TARGET = 1e-3  # relative difference of the parameters, at most
MEMORY_TARGET = 300.0  # megabytes, at most
MEASURED = (
    "fit(np.load(path, mmap_mode='r')) in a fresh process after all imports. rss_anon_growth_mb: "
    "highest RssAnon of /proc/self/status (resident memory without the pages of files), read by a "
    "thread every half millisecond, less its value before. traced_peak_mb: peak of what Python and "
    "NumPy allocate, by tracemalloc, in a second fit. 1 MB is 10^6 bytes."
)


# -- losses ---------------------------------------------------------------------------------------


def draw_losses(n: int, seed: int = 0) -> FloatArray:
    """Return losses of right and wrong labels in random order."""
    rng = np.random.default_rng(seed)
    losses = rng.gamma(1.0, 0.2, n)
    wrong = np.flatnonzero(rng.random(n) < WRONG)
    losses[wrong] = np.abs(rng.normal(4.0, 0.8, len(wrong)))
    return losses


def write_losses(path: Path, n: int) -> None:
    """Write float32 losses to an .npy file, a piece at a time."""
    file = np.lib.format.open_memmap(path, "w+", np.float32, (n,))
    for seed, start in enumerate(range(0, n, CHUNK)):
        file[start : start + CHUNK] = draw_losses(min(CHUNK, n - start), seed)
    file.flush()


# -- EM by the published rule ---------------------------------------------------------------------


def trim_and_normalise(losses: FloatArray) -> FloatArray:
    """Return the losses between the 5th and the 95th percentile, on the scale [0, 1]."""
    low, high = np.percentile(losses, [5.0, 95.0])
    kept = losses[(losses >= low) & (losses <= high)]
    low += 1e-5
    values = (kept - low) / (high - low + 1e-6)
    values[values >= 1.0] = 1.0 - 1e-3
    values[values <= 0.0] = 1e-3
    return np.clip(values, EDGE, 1.0 - EDGE)


def scipy_em(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return parameters (2, 2) and weights (2,), by the formulae as they stand on every loss."""
    params, weights = np.array(START_PARAMS), np.array(START_WEIGHTS)
    for _ in range(ITERATIONS):
        joint = np.stack(
            [weights[k] * stats.beta.pdf(values, params[k, 0], params[k, 1]) for k in range(2)]
        )
        responsibility = joint / joint.sum(axis=0)
        for k in range(2):
            total = responsibility[k].sum()
            mean = (responsibility[k] * values).sum() / total
            variance = (responsibility[k] * (values - mean) ** 2).sum() / total
            a = mean * (mean * (1.0 - mean) / variance - 1.0)
            params[k] = a, a * (1.0 - mean) / mean
        weights = responsibility.mean(axis=1)
    return params, weights


class AlreadyNormalised:
    """The scale of losses that lie on [0, 1]: all of it that binning asks for."""

    @staticmethod
    def precision(losses: FloatArray) -> type[np.float64]:
        return np.float64

    @staticmethod
    def normalise(losses: FloatArray, out: FloatArray) -> FloatArray:
        out[:] = losses
        return out


def grid_em(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return parameters (2, 2) and weights (2,), by the same rule on counts."""
    counts = bin_losses(values, None, AlreadyNormalised(), N_CELLS)
    points, share = nodes(N_CELLS), counts / counts.sum()
    features = beta_features(points)
    params, weights = np.array(START_PARAMS), np.array(START_WEIGHTS)
    for _ in range(ITERATIONS):
        log_density = beta_log_density(features, params)
        upper = expit(log_density[1] - log_density[0] + np.log(weights[1] / weights[0]))
        mass = np.stack([1.0 - upper, upper]) * share
        params, weights = beta_moments(points, mass, params), mass.sum(axis=1)
    return params, weights


def fit(losses: NDArray[Any]) -> BetaMixtureNoiseDetector:
    return BetaMixtureNoiseDetector().fit(losses)


# -- seconds --------------------------------------------------------------------------------------


def interleave(contenders: dict[str, Callable[[], object]], repeat: int) -> Seconds:
    """Return the seconds of each contender in each repetition, after one that is not counted."""
    seconds: Seconds = {name: [] for name in contenders}
    for repetition in range(-1, repeat):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            elapsed = time.perf_counter() - start
            if repetition >= 0:
                seconds[name].append(elapsed)
    return seconds


def summarise(seconds: Seconds) -> dict[str, dict[str, float]]:
    return {name: _results.quartiles(values) for name, values in seconds.items()}


def ratio(seconds: Seconds, over: str, under: str) -> dict[str, Any]:
    """Return how many times longer one contender takes than another."""
    pairs = zip(seconds[over], seconds[under], strict=True)
    medians = np.median(seconds[over]) / np.median(seconds[under])
    return {
        "of_medians": float(f"{medians:.4g}"),
        "per_repetition": _results.quartiles([a / b for a, b in pairs]),
    }


def at_least(found: dict[str, Any], target: float | None) -> dict[str, Any]:
    """Return a ratio with its target, where the number of losses has one."""
    met = None if target is None else found["of_medians"] >= target
    return {**found, "target": target, "met": met}


def at_most(found: dict[str, Any], target: float | None) -> dict[str, Any]:
    """Return a ratio with its target, where the number of losses has one."""
    met = None if target is None else found["of_medians"] <= target
    return {**found, "target": target, "met": met}


# -- what is compared -----------------------------------------------------------------------------


def compare_em(n: int, repeat: int) -> dict[str, Any]:
    """Compare the two ways to follow the published rule, from normalised losses on."""
    values = trim_and_normalise(draw_losses(n))
    contenders = {"scipy": lambda: scipy_em(values), "grid": lambda: grid_em(values)}
    plain, ours = scipy_em(values), grid_em(values)
    difference = max(float(np.abs(b / a - 1.0).max()) for a, b in zip(plain, ours, strict=True))
    seconds = interleave(contenders, repeat)
    return {
        "n": n,
        "n_fitted": len(values),
        "n_cells": N_CELLS,
        "seconds": summarise(seconds),
        "speedup": at_least(ratio(seconds, "scipy", "grid"), EM_TARGETS.get(n)),
        "parameters": {
            name: {"a": params[:, 0].tolist(), "b": params[:, 1].tolist(), "weights": w.tolist()}
            for name, (params, w) in (("scipy", plain), ("grid", ours))
        },
        "largest_relative_difference": difference,
        "difference_target": PARAMETER_TARGET,
        "difference_met": difference <= PARAMETER_TARGET,
    }


def compare_fit(n: int, repeat: int) -> dict[str, Any]:
    """Compare `fit` as shipped with the plain EM, both from raw losses on."""
    losses = draw_losses(n)
    contenders = {
        "scipy": lambda: scipy_em(trim_and_normalise(losses)),
        "fit": lambda: fit(losses),
    }
    seconds = interleave(contenders, repeat)
    return {
        "n": n,
        "seconds": summarise(seconds),
        "speedup": at_least(ratio(seconds, "scipy", "fit"), FIT_TARGETS.get(n)),
    }


def count_passes(losses: NDArray[Any], repeat: int) -> dict[str, Any]:
    """Time `fit` and `predict_proba`, also in passes of `np.histogram` over the same losses.

    Losses that lie in a file are predicted a piece at a time: the result would fill the memory.
    """
    detector = fit(losses)
    piece = PIECE if isinstance(losses, np.memmap) else len(losses)

    def predict() -> None:
        for start in range(0, len(losses), piece):
            detector.predict_proba(losses[start : start + piece])

    contenders: dict[str, Callable[[], object]] = {
        "histogram": lambda: np.histogram(losses, 1000),
        "fit": lambda: fit(losses),
        "predict_proba": predict,
    }
    seconds = interleave(contenders, repeat)
    passes = {
        name: at_most(
            ratio(seconds, name, "histogram"), most if len(losses) >= PASSES_FROM else None
        )
        for name, most in PASSES.items()
    }
    return {
        "n": len(losses),
        "dtype": str(losses.dtype),
        "from": "file" if isinstance(losses, np.memmap) else "memory",
        "seconds": summarise(seconds),
        "passes": passes,
    }


# -- memory ---------------------------------------------------------------------------------------


def measure_memory(path: Path, n: int) -> dict[str, Any]:
    """Return the extra memory of `fit` on a file of losses, measured in a fresh process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--probe", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)
    grown = found["rss_anon_growth_mb"]
    worst = max(found["traced_peak_mb"], grown or 0.0)
    return {
        "n": n,
        "file_mb": path.stat().st_size / MEGABYTE,
        **found,
        "measured": MEASURED,
        "target_mb": MEMORY_TARGET,
        "met": worst < MEMORY_TARGET,
    }


def probe_memory(path: Path) -> dict[str, float | None]:
    """Fit to a memory-mapped file twice: once watched, once traced."""
    losses = np.load(path, mmap_mode="r")
    with MemoryGrowth() as growth:
        fit(losses)
    tracemalloc.start()
    fit(losses)
    traced = tracemalloc.get_traced_memory()[1] / MEGABYTE
    return {"rss_anon_growth_mb": growth.megabytes, "traced_peak_mb": traced}


# -- all of it ------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; every part prints its line as soon as it is known."""
    result: dict[str, Any] = {"em": [], "fit": [], "passes": [], "cost": []}
    for n in options.em_sizes:
        result["em"].append(compare_em(n, options.repeat))
        show_speedup("EM", result["em"][-1])
    for n in options.em_sizes:
        result["fit"].append(compare_fit(n, options.repeat))
        show_speedup("fit", result["fit"][-1])
    for n in options.pass_sizes:
        for dtype in (np.float32, np.float64):
            result["passes"].append(count_passes(draw_losses(n).astype(dtype), options.repeat))
            show_passes(result["passes"][-1])
    for n in options.table_sizes:
        losses = draw_losses(n).astype(np.float32)
        result["cost"].append(count_passes(losses, options.repeat))
        show_passes(result["cost"][-1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "losses.npy"
        write_losses(path, options.largest)
        result["memory"] = measure_memory(path, options.largest)
        show_memory(result["memory"])
        losses = np.load(path, mmap_mode="r")
        result["cost"].append(count_passes(losses, options.repeat))
        show_passes(result["cost"][-1])
        del losses  # Windows deletes no file that is open
    return result


def show_speedup(name: str, part: dict[str, Any]) -> None:
    found = part["speedup"]
    times = (f"{key} {value['median'] * 1e3:.2f} ms" for key, value in part["seconds"].items())
    line = f"{name:<4}{part['n']:>12,} losses: {', '.join(times)}, "
    line += f"{found['of_medians']:.1f} times faster{_target(found)}"
    if "largest_relative_difference" in part:
        line += f", parameters differ by {part['largest_relative_difference']:.1e}"
    print(line, flush=True)


def show_passes(part: dict[str, Any]) -> None:
    line = f"{part['n']:>16,} {part['dtype']} in {part['from']}: "
    line += ", ".join(
        f"{name} {part['seconds'][name]['median']:.4f} s = {found['of_medians']:.2f} passes"
        f"{_target(found)}"
        for name, found in part["passes"].items()
    )
    print(line, flush=True)


def show_memory(part: dict[str, Any]) -> None:
    grown = part["rss_anon_growth_mb"]
    resident = "unknown" if grown is None else f"{grown:.1f} MB"
    traced = f"{part['traced_peak_mb']:.1f} MB"
    print(
        f"memory of fit on {part['n']:,} losses: resident {resident}, traced {traced}", flush=True
    )


def _target(found: dict[str, Any]) -> str:
    if found["target"] is None:
        return ""
    return f" (target {found['target']:g}: {'met' if found['met'] else 'MISSED'})"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=11, help="repetitions of each comparison")
    sizes: dict[str, Any] = {"type": int, "nargs": "+", "metavar": "N"}
    parser.add_argument("--em-sizes", default=[50_000, 1_000_000], **sizes)
    parser.add_argument("--pass-sizes", default=[10_000_000, 30_000_000], **sizes)
    parser.add_argument("--table-sizes", default=[10**k for k in range(4, 8)], **sizes)
    parser.add_argument(
        "--largest", type=int, default=100_000_000, metavar="N", help="losses in a file"
    )
    parser.add_argument("--out", type=Path, default=_results.RESULTS / "detector_speed.json")
    parser.add_argument("--probe", type=Path, help=argparse.SUPPRESS)  # what a fresh process does
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    if options.probe is not None:
        print(json.dumps(probe_memory(options.probe)))
        return
    settings = {
        "repeat": options.repeat,
        "losses": "gamma(1, 0.2), and |normal(4, 0.8)| for 30 % of them, in random order",
        "order": "contenders take turns in each repetition, after one round that is not counted",
        "cost": "float32 losses; the largest from a memory-mapped file in the page cache, and "
        f"predicted {PIECE:,} at a time",
        "passes": "in units of one np.histogram(losses, 1000) over the same losses",
    }
    start = time.perf_counter()
    result = run(options)
    settings["seconds_in_all"] = round(time.perf_counter() - start)
    content = {"environment": environment(options), "settings": settings, **result}
    _results.write(options.out, content)


if __name__ == "__main__":
    main()
