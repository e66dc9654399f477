"""What every benchmark writes beside its figures: where, when and with what they were made."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
import torch

import lossnoise
from lossnoise._files import atomic_open

RESULTS = Path(__file__).parent / "results"


def environment() -> dict[str, Any]:
    """Return commit, versions and hardware of this run."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {m.__name__: m.__version__ for m in (lossnoise, np, scipy, sklearn, torch)},
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str:
    """Return the checked-out commit, marked where the tree differs from it."""
    folder = Path(__file__).parent
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False
    )
    if head.returncode != 0:
        return "unknown"
    changes = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "--", "../.."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return head.stdout.strip() + (" and changes" if changes.stdout.strip() else "")


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def spread(values: list[float]) -> dict[str, float]:
    """Return mean, sample standard deviation, minimum and maximum."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {
        "mean": float(np.mean(values)),
        "std": deviation,
        "min": min(values),
        "max": max(values),
    }


def quartiles(values: list[float]) -> dict[str, float]:
    """Return median, quartiles, minimum and maximum to four digits: for times, which are skewed."""
    names = ("min", "q1", "median", "q3", "max")
    found = np.quantile(values, [0.0, 0.25, 0.5, 0.75, 1.0])
    return {name: float(f"{value:.4g}") for name, value in zip(names, found, strict=True)}


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a result whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1) + "\n")
