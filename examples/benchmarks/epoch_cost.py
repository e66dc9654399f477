"""What an epoch of each correction costs, over a bare loop of cross-entropy.

    python examples/benchmarks/epoch_cost.py

The bare loop is written by hand: same network, same pictures, same batches, no library. Contenders
take turns in one process, another one first in each round; an epoch is measured from outside,
between two calls of a callback, with loss sweep, mixture and posterior in it, after the warm-up.
Peak memory is the most that torch holds on CUDA; on the CPU it is what a fresh process grows by
while it trains, beyond the pictures. On CUDA the size is that of CIFAR-10. The result goes to
``results/epoch_cost.json`` (``epoch_cost_cuda.json`` on CUDA).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the examples' networks

import _results
import numpy as np
import torch
from _memory import MEGABYTE, MemoryGrowth
from _reporting import environment, rounded, table
from numpy.typing import NDArray
from quickstart import small_network
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from train_cifar import small_cnn

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import CORRECTIONS, Correction, MDyrH
from lossnoise.corrections._dynamic import DynamicBootstrap
from lossnoise.detectors import BetaMixtureNoiseDetector
from lossnoise.exceptions import LossNoiseWarning
from lossnoise.models import preact_resnet18
from lossnoise.training import Callback, Precision
from lossnoise.training._posterior import PosteriorTable

NUM_CLASSES = 10
FLIPPED = 0.4
# Networks: how to make one, and the shape of its pictures.
MODELS = {
    "digits": (lambda num_classes: small_network(), (1, 8, 8)),
    "small": (small_cnn, (3, 32, 32)),
    "preact_resnet18": (preact_resnet18, (3, 32, 32)),
}
TARGETS = {"cpu": {"m-dyr-h": 1.25, "m-dyr-h, own sweep": 1.45}}
TARGETS["cuda"] = {"m-dyr-h": 1.45, "m-dyr-h, own sweep": 1.75}
DETECTOR_SAMPLES = 50_000

# Multiply-adds of a forward pass of PreAct ResNet-18 on one 32 x 32 picture, times two.
RESNET_FLOP = 2 * 0.557e9


def draw_pictures(n: int, shape: tuple[int, ...], seed: int = 0) -> TensorDataset:
    """Return pictures of ten patterns under noise, with 40 % of the labels flipped."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, NUM_CLASSES, n)
    patterns = rng.normal(size=(NUM_CLASSES, *shape)).astype(np.float32)
    pictures = 0.5 * patterns[classes] + rng.normal(size=(n, *shape)).astype(np.float32)
    flipped = (classes + rng.integers(1, NUM_CLASSES, n)) % NUM_CLASSES
    labels = np.where(rng.random(n) < FLIPPED, flipped, classes)
    return TensorDataset(torch.from_numpy(pictures), torch.from_numpy(labels))


class Timer(Callback):
    """Note when each epoch begins; the device has then finished the one before."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: list[float] = []

    def on_epoch_begin(self, trainer: NoisyLabelTrainer, epoch: int) -> None:
        self.times.append(now(self.device))

    def on_epoch_end(self, trainer: NoisyLabelTrainer, record: dict[str, Any]) -> None:
        if record["epoch"] == trainer.epochs:
            self.times.append(now(self.device))


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def bare_loop(net: nn.Module, data: TensorDataset, options: argparse.Namespace) -> list[float]:
    """Train with cross-entropy as one would without a library; return seconds of each epoch."""
    device = torch.device(options.device)
    if options.channels_last:
        net = net.to(memory_format=torch.channels_last)
    net.to(device).train()
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        fused=True if device.type == "cuda" else None,
    )
    pin = device.type == "cuda" and not data.tensors[0].is_cuda
    loader = DataLoader(data, options.batch_size, shuffle=True, pin_memory=pin)
    low = options.precision != "float32"
    dtype, layout = getattr(torch, options.precision), torch.preserve_format
    if options.channels_last:
        layout = torch.channels_last
    times = [now(device)]
    for _ in range(options.epochs):
        for pictures, labels in loader:
            pictures = pictures.to(device, non_blocking=True, memory_format=layout)
            labels = labels.to(device, non_blocking=True)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype=dtype, enabled=low):
                logits = net(pictures)
            nn.functional.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
        times.append(now(device))
    return np.diff(times).tolist()


def train(
    net: nn.Module, data: TensorDataset, correction: Correction, options: argparse.Namespace
) -> list[float]:
    """Train with a correction; return seconds of each epoch."""
    timer = Timer(torch.device(options.device))
    trainer = NoisyLabelTrainer(
        net,
        correction=with_clean_set(correction, data),
        epochs=options.epochs,
        batch_size=options.batch_size,
        device=options.device,
        precision=Precision(options.precision, options.channels_last, options.no_grad),
        callbacks=[timer],
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossNoiseWarning)
        trainer.fit(data)
    return np.diff(timer.times).tolist()


def with_clean_set(correction: Correction, data: TensorDataset) -> Correction:
    """Return a correction that has some samples as its clean set, where it needs one."""
    if correction.needs_clean_batch:
        pictures, labels = (tensor[:100] for tensor in data.tensors)
        correction.clean_set = TensorDataset(pictures, labels, labels.roll(1))  # some are wrong
    return correction


def make_contenders() -> dict[str, Callable[[], Correction]]:
    """Return every correction with one epoch of warm-up, and M-DYR-H with its own sweep."""

    def make(kind: type[Correction]) -> Callable[[], Correction]:
        def made() -> Correction:
            correction = kind()
            if isinstance(correction, DynamicBootstrap):
                correction.warmup = 1
            if hasattr(correction, "transition"):
                correction.transition = 0.9 * np.eye(NUM_CLASSES) + 0.01
            return correction

        return made

    contenders = {name: make(kind) for name, kind in CORRECTIONS.items()}
    return contenders | {"m-dyr-h, own sweep": lambda: MDyrH(warmup=1, sweep="epoch")}


def measure(model: str, options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return seconds of epochs and peak memory of each contender, over rounds of turns."""
    on_cuda = torch.device(options.device).type == "cuda"
    data = make_data(model, options)
    found: dict[str, dict[str, list[float]]] = {}
    names = ["bare loop", *(name for name in make_contenders() if name in options.corrections)]
    for turn in range(options.rounds + 1):
        first = turn % len(names)  # nobody is always the first, or after the same one
        for name in names[first:] + names[:first]:
            if on_cuda:
                torch.cuda.reset_peak_memory_stats()
            seconds = take_turn(model, name, data, options)
            if turn == 0:
                continue  # everything is slow for the first time
            entry = found.setdefault(name, {"seconds": [], "megabytes": []})
            entry["seconds"].append(float(np.median(seconds[options.skip :])))
            if on_cuda:
                entry["megabytes"].append(torch.cuda.max_memory_allocated() / MEGABYTE)
    if not on_cuda:
        for name in names:
            found[name]["megabytes"] = measure_memory(model, name, options)
    return {name: found[name] for name in names}


def make_data(model: str, options: argparse.Namespace) -> TensorDataset:
    data = draw_pictures(options.samples, MODELS[model][1])
    if options.resident:
        data = TensorDataset(*(tensor.to(options.device) for tensor in data.tensors))
    return data


def take_turn(
    model: str, name: str, data: TensorDataset, options: argparse.Namespace
) -> list[float]:
    """Train a new network as a contender does; return seconds of each epoch."""
    torch.manual_seed(0)
    net = compiled(MODELS[model][0](NUM_CLASSES), options.compile)
    if name == "bare loop":
        return bare_loop(net, data, options)
    return train(net, data, make_contenders()[name](), options)


def measure_memory(model: str, name: str, options: argparse.Namespace) -> list[float]:
    """Return the megabytes that a fresh process grows by; nothing where there is no /proc."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        grown = process.submit(probe_memory, model, name, options).result()
    return [] if grown is None else [grown]


def probe_memory(model: str, name: str, options: argparse.Namespace) -> float | None:
    """Return the megabytes that this process grows by while a contender trains."""
    data = make_data(model, options)
    torch.optim.SGD([nn.Parameter(torch.zeros(1))])  # imports half of torch, whoever trains
    with MemoryGrowth() as growth:
        take_turn(model, name, data, options)
    return growth.megabytes


def compiled(net: nn.Module, mode: str | None) -> nn.Module:
    """Return a network as it is, or compiled anew, in a mode of `torch.compile`."""
    if mode is None:
        return net
    torch.compiler.reset()
    return cast(nn.Module, torch.compile(net, mode=mode, dynamic=False))


def summarise(found: dict[str, dict[str, list[float]]], device: str) -> dict[str, Any]:
    """Return ratios over the bare loop, turn by turn."""
    bare = found["bare loop"]["seconds"]
    result = {}
    for name, entry in found.items():
        ratios = [own / other for own, other in zip(entry["seconds"], bare, strict=True)]
        summary: dict[str, Any] = {
            "seconds": _results.quartiles(entry["seconds"]),
            "over_bare_loop": _results.quartiles(ratios),
        }
        if entry["megabytes"]:
            summary["peak_megabytes"] = max(entry["megabytes"])
        target = TARGETS[device].get(name)
        if target is not None:
            met = summary["over_bare_loop"]["median"] <= target
            summary["target"] = {"at_most": target, "met": met}
        result[name] = summary
    return result


def measure_detector(device: str) -> dict[str, Any]:
    """Return what mixture, posterior and its table cost for 50,000 losses, in milliseconds.

    Of losses that tell right labels from wrong ones, and of others, which take longer: to find out
    that they do not, and for the mixture to converge.
    """
    rng, found = np.random.default_rng(0), {}
    wrong = rng.random(DETECTOR_SAMPLES) < FLIPPED
    right = rng.gamma(1.0, 0.2, len(wrong))
    kinds = {
        "apart": np.where(wrong, rng.normal(4.0, 0.8, len(wrong)).clip(0.0), right),
        "overlapping": np.where(wrong, rng.gamma(4.0, 0.6, len(wrong)), 3.0 * right),
    }
    for kind, losses in kinds.items():
        found[kind] = _results.quartiles(time_detector(losses.astype(np.float32), device))
    return {"samples": DETECTOR_SAMPLES, "milliseconds": found}


def time_detector(losses: NDArray[np.float32], device: str) -> list[float]:
    detector, times = BetaMixtureNoiseDetector(hard_fraction=0.0), []
    for _ in range(11):
        begun = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LossNoiseWarning)
            detector.fit(losses)
        PosteriorTable(detector, losses, torch.device(device))
        detector.posterior(losses)
        times.append(1e3 * (now(torch.device(device)) - begun))
    return times[1:]


def utilisation(model: str, summary: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return pictures a second, and the share of the device's measured peak, on CUDA."""
    if torch.device(options.device).type != "cuda" or model != "preact_resnet18":
        return {}
    peak = matrix_peak(options.precision)
    result: dict[str, Any] = {"measured_peak_teraflops": peak / 1e12}
    units = {"bare loop": 3, "m-dyr-h": 4, "m-dyr-h, own sweep": 5}
    for name in units.keys() & summary.keys():
        seconds = summary[name]["seconds"]["median"]
        work = units[name] * RESNET_FLOP * options.samples
        result[name] = {
            "pictures_per_second": options.samples / seconds,
            "share_of_peak": work / seconds / peak,
        }
    return result


def matrix_peak(precision: str) -> float:
    """Return floating-point operations a second of a large matrix product."""
    size, dtype = 8192, getattr(torch, precision)
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(12):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(5):
            a @ b
        torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - begun) / 5)
    return 2 * size**3 / best


def show(model: str, summary: dict[str, Any]) -> None:
    rows = []
    for name, entry in summary.items():
        ratio, target = entry["over_bare_loop"], entry.get("target")
        goal = "" if target is None else f"at most {target['at_most']}: {target['met']}"
        quartiles = f"{ratio['q1']:.2f} .. {ratio['q3']:.2f}"
        rows.append([name, entry["seconds"]["median"], ratio["median"], quartiles, goal])
    print(table([model, "seconds", "over bare loop", "quartiles", "target"], rows), flush=True)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--device", choices=["cpu", "cuda"], default="cuda" if cuda else "cpu")
    add("--corrections", nargs="+", default=list(make_contenders()))
    add("--models", nargs="+", choices=list(MODELS))
    add("--samples", type=int)
    add("--batch-size", type=int, default=128)
    add("--epochs", type=int, default=4)
    add("--skip", type=int, default=2, help="epochs at the beginning that do not count")
    add("--rounds", type=int, default=7)
    add("--precision", choices=["float32", "bfloat16"])
    add("--no-grad", choices=["float32", "bfloat16"], help="the library's passes without gradient")
    add("--channels-last", action=argparse.BooleanOptionalAction, default=None)
    add("--compile", metavar="MODE", help="of torch.compile: default, reduce-overhead")
    add("--resident", action="store_true", help="the pictures lie on the device")
    add("--out", type=Path)
    options = parser.parse_args(arguments)
    on_gpu = options.device == "cuda"
    options.models = options.models or (["preact_resnet18"] if on_gpu else ["digits", "small"])
    options.samples = options.samples or (50_000 if on_gpu else 2_000)
    options.precision = options.precision or ("bfloat16" if on_gpu else "float32")
    if options.channels_last is None:
        options.channels_last = on_gpu
    name = "epoch_cost_cuda.json" if on_gpu else "epoch_cost.json"
    options.out = options.out or _results.RESULTS / name
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    models: dict[str, Any] = {}
    for model in options.models:
        summary = summarise(measure(model, options), options.device)
        show(model, summary)
        models[model] = {"summary": summary, "utilisation": utilisation(model, summary, options)}
    names = ["samples", "batch_size", "epochs", "skip", "rounds", "precision", "channels_last"]
    names += ["resident", "compile", "no_grad"]
    settings = {name: getattr(options, name) for name in names}
    detector = measure_detector(options.device)
    for kind, times in detector["milliseconds"].items():
        print(f"mixture and posterior of {DETECTOR_SAMPLES:,} losses, {kind}: {times} ms")
    result = {"environment": environment(options), "settings": settings, "models": models}
    result["detector"] = detector
    _results.write(options.out, rounded(result))


if __name__ == "__main__":
    main()
