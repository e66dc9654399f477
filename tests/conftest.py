import os
import sys

import pytest
from hypothesis import settings

# Set before anybody imports Matplotlib: tests draw, and nobody looks.
os.environ["MPLBACKEND"] = "Agg"

# Set before anybody imports torch: the networks of the tests are so small that a second thread
# only costs, and on a busy machine it costs a scheduler's time slice at every operation.
os.environ["OMP_NUM_THREADS"] = "1"

# A slow machine is no failure; in CI the same examples are drawn every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:  # most tests never import it
        sys.modules["matplotlib.pyplot"].close("all")
