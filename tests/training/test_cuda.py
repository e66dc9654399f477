"""On a CUDA device: every correction trains there, and no step waits for the device."""

import numpy as np
import pytest
import torch

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import CORRECTIONS
from lossnoise.training import Callback

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
every_correction = pytest.mark.parametrize("name", CORRECTIONS)


@pytest.fixture
def train(make_data, make_net):
    def run(name, *, resume=False, **given):
        settings = {"epochs": 4, "batch_size": 16, "random_state": 0} | given
        trainer = NoisyLabelTrainer(make_net(dropout=0.2), correction=name, **settings)
        return trainer.fit(make_data(), make_data(seed=1), resume=resume)

    return run


@every_correction
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_trains_on_the_device_and_answers_on_the_host(name, precision, train, make_data):
    trainer = train(name, precision=precision, epochs=8)
    assert next(trainer.model.parameters()).is_cuda
    assert np.isfinite(trainer.losses_).all()
    assert trainer.predict_proba(make_data().tensors[0]).shape == (96, 3)
    assert trainer.history_[-1]["val_accuracy"] > 0.5


class NoWaiting(Callback):
    """Make every wait for the device an error, from the first batch of an epoch to its last."""

    def on_batch_end(self, trainer, batch, num_batches):
        torch.cuda.set_sync_debug_mode("error" if batch < num_batches else "default")


@every_correction
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_steps_never_wait_for_the_device(name, precision, train):
    try:
        trainer = train(name, precision=precision, callbacks=[NoWaiting()])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(trainer.history_) == 4


@every_correction
def test_the_callers_generators_are_given_back(name, train):
    torch.manual_seed(3)
    expected = torch.rand(3, device="cuda").tolist()
    torch.manual_seed(3)
    train(name)
    assert torch.rand(3, device="cuda").tolist() == expected


@every_correction
def test_resumes_from_a_checkpoint(name, train, tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 2:
                trainer.request_stop()

    unbroken = train(name)
    train(name, checkpoint_dir=tmp_path, callbacks=[Stop()])
    resumed = train(name, checkpoint_dir=tmp_path, resume=True, random_state=None)
    assert len(resumed.history_) == 4
    np.testing.assert_allclose(resumed.losses_, unbroken.losses_, rtol=1e-3, atol=1e-4)
