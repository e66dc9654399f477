"""What the tests of all recorders share."""

import importlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
TIMEOUT = 300

# No tests, and collecting them would need what they import.
collect_ignore = ["run_huggingface.py", "run_lightning.py"]


@pytest.fixture
def load(monkeypatch):
    """Import a module of this folder, with the packages that it needs or not at all."""

    def load(name, *frameworks):
        monkeypatch.syspath_prepend(HERE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what frameworks warn of on import is theirs
            for framework in frameworks:
                pytest.importorskip(framework)
            return importlib.import_module(name)

    return load


@pytest.fixture
def on_two_ranks(tmp_path, load):
    """Run a script of this folder on two processes; return what each has written."""

    def run(script, *arguments):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc_per_node=2", str(HERE / script), str(tmp_path), *map(str, arguments)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return [np.load(tmp_path / f"rank{rank}.npz") for rank in (0, 1)]

    return run
