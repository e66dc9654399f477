"""On a CUDA device: every correction trains there, and no step waits for the device."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import CORRECTIONS
from lossnoise.data.resident import ResidentImages
from lossnoise.exceptions import InvalidDataError
from lossnoise.training import Callback, Precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning"),
]
EPOCHS = 8  # all corrections have begun by then
every_correction = pytest.mark.parametrize("name", CORRECTIONS)


@pytest.fixture
def train(make_data, make_net, with_clean_set):
    def run(name, *, resume=False, **given):
        settings = {"epochs": EPOCHS, "batch_size": 16, "random_state": 0} | given
        correction = with_clean_set(name)
        trainer = NoisyLabelTrainer(make_net(dropout=0.2), correction=correction, **settings)
        return trainer.fit(make_data(), make_data(seed=1), resume=resume)

    return run


@every_correction
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_trains_on_the_device_and_answers_on_the_host(name, precision, train, make_data):
    trainer = train(name, precision=precision)
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
    assert len(trainer.history_) == EPOCHS


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
    assert len(resumed.history_) == EPOCHS
    np.testing.assert_allclose(resumed.losses_, unbroken.losses_, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_resident_pictures_in_every_precision(dtype, channels_last):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8), np.arange(96) % 3
    images[labels == 1] //= 4
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 3))
    data = ResidentImages(images, labels, "cuda", augment=True, padding=1)
    precision = Precision(dtype, channels_last)
    callbacks = [] if dtype == "float16" else [NoWaiting()]  # its scaler has to wait
    settings = {"epochs": 4, "batch_size": 16, "random_state": 0, "precision": precision}
    try:
        trainer = NoisyLabelTrainer(net, callbacks=callbacks, **settings).fit(data)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(trainer.losses_).all()
    assert trainer.losses_.dtype == np.float32


def test_tensors_on_the_device_are_not_waited_for(make_data, make_net):
    data = TensorDataset(*(tensor.cuda() for tensor in make_data().tensors))
    try:
        trainer = NoisyLabelTrainer(make_net(), epochs=4, callbacks=[NoWaiting()]).fit(data)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(trainer.losses_).all()


def test_labels_on_the_device_are_checked_before_training():
    images = np.zeros((20, 8, 8, 3), dtype=np.uint8)
    data = ResidentImages(images, np.arange(20) % 4, "cuda")
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    with pytest.raises(InvalidDataError, match="Got 3 at sample 3 instead"):
        NoisyLabelTrainer(net, epochs=1).fit(data)


@pytest.mark.filterwarnings("ignore")  # what the compiler warns of differs from release to release
@pytest.mark.parametrize("name", ["cross-entropy", "m-dyr-h", "co-teaching-plus"])
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_model_trains_and_answers(name, mode, make_data, make_net):
    torch._dynamo.reset()
    found = []
    for model in (make_net(), torch.compile(make_net(), mode=mode, dynamic=False)):
        settings = {"epochs": EPOCHS, "batch_size": 16, "random_state": 0}
        trainer = NoisyLabelTrainer(model, correction=name, **settings)
        trainer.fit(make_data(), make_data(seed=1))
        found.append((trainer.losses_, trainer.predict_proba(make_data(seed=3))))
    for expected, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0.02, atol=0.01)
