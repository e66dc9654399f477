"""Two processes on one machine, started as users start them: by torchrun, with gloo."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lossnoise import BetaMixtureNoiseDetector, NoisyLabelTrainer
from lossnoise.corrections import CORRECTIONS

SCRIPT = Path(__file__).with_name("two_ranks.py")
TIMEOUT = 240


def torchrun(script, *arguments, processes=2):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={processes}", str(script), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=TIMEOUT, env=environment
    )


def results(folder):
    return [np.load(folder / f"rank{rank}.npz", allow_pickle=False) for rank in (0, 1)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What both processes have after a run of M-DYR-H."""
    folder = tmp_path_factory.mktemp("ranks")
    done = torchrun(SCRIPT, "m-dyr-h", folder)
    assert done.returncode == 0, done.stderr
    return results(folder)


def test_both_ranks_end_with_the_same(finished):
    first, second = finished
    assert first.files == second.files
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_results_are_complete(finished):
    (first, _) = finished
    assert (
        first["losses"].shape == first["noise_proba"].shape == first["suggested"].shape == (1001,)
    )
    assert first["loss_history"].shape == (1001, 4)
    assert np.isfinite(first["losses"]).all()
    assert np.isfinite(first["loss_history"]).all()


def test_losses_and_mixture_are_those_of_one_process_with_the_same_weights(finished):
    first = finished[0]
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from two_ranks import make_data, make_net
    finally:
        sys.path.pop(0)
    net, data = make_net(), make_data()
    net.load_state_dict(
        {name: torch.from_numpy(first[f"weight {name}"]) for name in net.state_dict()}
    )
    net.eval()
    with torch.no_grad():
        logits = net(data.tensors[0])
    losses = nn.functional.cross_entropy(logits, data.tensors[1], reduction="none").numpy()
    np.testing.assert_allclose(first["losses"], losses, atol=1e-6)
    detector = BetaMixtureNoiseDetector(hard_fraction=0.0).fit(first["losses"])
    np.testing.assert_array_equal(detector.posterior(first["losses"]), first["noise_proba"])
    np.testing.assert_array_equal(detector.weights_, first["weights_"])
    np.testing.assert_array_equal(detector.alphas_, first["alphas_"])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(CORRECTIONS) - {"m-dyr-h"}))
def test_every_correction_trains_on_two_ranks(name, tmp_path):
    done = torchrun(SCRIPT, name, tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = results(tmp_path)
    for key in first.files:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def test_a_run_is_resumed_to_the_same_bits(finished, tmp_path):
    """The end was asked for by one process; the new processes have other first weights."""
    done = torchrun(SCRIPT, "resume", tmp_path)
    assert done.returncode == 0, done.stderr
    for resumed in results(tmp_path):
        for name in resumed.files:
            np.testing.assert_array_equal(resumed[name], finished[0][name], err_msg=name)


def test_a_second_fit_and_predictions_of_one_process(tmp_path):
    """Also with a validation set of fewer samples than processes."""
    done = torchrun(SCRIPT, "twice", tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = results(tmp_path)
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_a_process_that_dies_ends_the_others_with_a_clear_error(tmp_path):
    """Without torchrun, which may end the other one before it has said anything."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    common["TORCHELASTIC_RUN_ID"] = "by hand"
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), "die", str(tmp_path)],
            env=os.environ | common | {"OMP_NUM_THREADS": "1", "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    other, dead = [process.communicate(timeout=TIMEOUT)[1] for process in started]
    assert [process.returncode for process in started] == [1, 7], dead
    assert "DistributedError: " in other
    assert "lost the connection to another one" in other
    assert not list(tmp_path.glob("*.npz"))


def test_numbers_of_single_processes_are_agreed(tmp_path):
    """Else each would keep the model of another epoch, and end at another."""
    done = torchrun(SCRIPT, "own numbers", tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_dataset_that_reads_whole_batches_alone(tmp_path):
    done = torchrun(SCRIPT, "batches alone", tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_loader_that_gives_all_processes_the_same_is_refused(tmp_path):
    done = torchrun(SCRIPT, "unsharded", tmp_path)
    assert done.returncode != 0
    assert "every process would train on the same samples" in done.stderr


@pytest.mark.parametrize(
    ("task", "got"),
    [
        ("other lengths", "Got 1001, 1000 samples instead: give each of them all samples."),
        ("other labels", "Got other labels of"),
    ],
)
def test_processes_with_other_data_are_refused(task, got, tmp_path):
    done = torchrun(SCRIPT, task, tmp_path)
    assert done.returncode != 0
    assert (
        "The 'train' parameter of NoisyLabelTrainer must be the same whole dataset in every "
        f"process, which takes its own share of it. {got}"
    ) in done.stderr


def test_one_process_needs_no_group():
    assert not torch.distributed.is_initialized()
    NoisyLabelTrainer(nn.Linear(2, 3), epochs=1)
    assert not torch.distributed.is_initialized()


def test_a_wrapped_model_of_which_a_part_goes_unused(tmp_path):
    done = torchrun(SCRIPT, "partly used", tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = results(tmp_path)
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from two_ranks import PartlyUsed, make_data
    finally:
        sys.path.pop(0)
    bare = NoisyLabelTrainer(PartlyUsed()).load(tmp_path / "trainer0.pt")
    assert bare.score(make_data(100, 1)) == pytest.approx(first["val_accuracy"][-1])
