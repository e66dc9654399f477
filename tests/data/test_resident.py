"""Pictures on the device: those of the ordinary dataset, cropped as they should be."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate

from lossnoise import NoisyLabelTrainer
from lossnoise.data._indexed import IndexedData
from lossnoise.data.cifar import ImageArrayDataset
from lossnoise.data.resident import ResidentImages
from lossnoise.exceptions import InvalidDataError, InvalidParameterError


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (24, 8, 6, 3), dtype=np.uint8), np.arange(24) % 3


def test_pictures_are_those_of_the_ordinary_dataset(arrays):
    resident, plain = ResidentImages(*arrays, "cpu"), ImageArrayDataset(*arrays)
    assert len(resident) == 24
    pictures, labels = resident.batch_at([3, 0, 7])
    for picture, label, index in zip(pictures, labels, (3, 0, 7), strict=True):
        torch.testing.assert_close(picture, plain[index][0])
        assert int(label) == plain[index][1]
    torch.testing.assert_close(resident[5][0], plain[5][0])
    assert pictures.is_contiguous(memory_format=torch.channels_last)


def crops(image, padding):
    """Return every picture that cropping and flipping can give, by hand."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    height, width = image.shape[:2]
    for y in range(2 * padding + 1):
        for x in range(2 * padding + 1):
            cut = padded[y : y + height, x : x + width]
            yield cut.tobytes()
            yield cut[:, ::-1].tobytes()


def test_augmented_pictures_are_crops_and_flips_and_all_of_them_occur(arrays):
    images, labels = arrays
    resident = ResidentImages(
        images, labels, "cpu", augment=True, padding=2, mean=(0, 0, 0), std=(1, 1, 1)
    )
    torch.manual_seed(0)
    pictures, _ = resident.batch_at([4] * 2000)
    pixels = (255 * pictures.permute(0, 2, 3, 1)).round().to(torch.uint8).numpy()
    seen = {pixel.tobytes() for pixel in pixels}
    assert seen == set(crops(images[4], 2))


def test_a_batch_is_drawn_for_each_picture_by_itself(arrays):
    resident = ResidentImages(*arrays, "cpu", augment=True)
    pictures, _ = resident.batch_at([1, 1, 1, 1])
    assert not all(torch.equal(pictures[0], picture) for picture in pictures[1:])


def test_the_trainer_takes_whole_batches(arrays, monkeypatch):
    asked = []
    plain = ResidentImages.batch_at

    def batch_at(self, indices):
        asked.append(len(indices))
        return plain(self, indices)

    results = []
    for data in (ImageArrayDataset(*arrays), ResidentImages(*arrays, "cpu")):
        monkeypatch.setattr(ResidentImages, "batch_at", batch_at)
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
        trainer = NoisyLabelTrainer(net, epochs=2, batch_size=8, device="cpu", random_state=0)
        results.append(trainer.fit(data).losses_)
    np.testing.assert_allclose(*results, rtol=1e-3, atol=1e-5)
    assert set(asked) == {8}


def test_a_collate_function_of_the_user_is_used(arrays):
    def collate(samples):
        pictures, labels = default_collate(samples)
        return pictures + 100.0, labels

    loader = DataLoader(ResidentImages(*arrays, "cpu"), batch_size=5, collate_fn=collate)
    for made in (IndexedData(loader, 8).in_order(), IndexedData(loader, 8).as_given()):
        pictures = torch.cat([pictures for _, (pictures, _) in made])
        torch.testing.assert_close(pictures, torch.cat([p for p, _ in loader]))


@pytest.mark.parametrize(
    ("given", "name"), [({"mean": (0.5,)}, "mean"), ({"std": (0.2, 0.0, 0.2)}, "std")]
)
@pytest.mark.parametrize("kind", [ResidentImages, ImageArrayDataset])
def test_normalisation_needs_numbers_for_each_channel(kind, given, name):
    images, labels = np.zeros((2, 4, 4, 3), dtype=np.uint8), np.zeros(2, dtype=int)
    where = {"device": "cpu"} if kind is ResidentImages else {}
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of {kind.__name__}"):
        kind(images, labels, **where, **given)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            np.zeros((2, 3, 3, 1), dtype=np.float32),
            np.zeros(2, dtype=int),
            "The 'images' parameter of ResidentImages must be a 4-D array (n, h, w, channels) of "
            "uint8. Got an array of shape (2, 3, 3, 1) and dtype float32 instead.",
        ),
        (
            np.zeros((2, 3, 3, 1), dtype=np.uint8),
            np.zeros(3),
            "The 'labels' parameter of ResidentImages must be 2 integers. Got an array of shape "
            "(3,) and dtype float64 instead.",
        ),
    ],
)
def test_other_arrays_are_refused(images, labels, message):
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        ResidentImages(images, labels, "cpu")


def test_a_loop_over_the_set_ends(arrays):
    dataset = ResidentImages(*arrays, "cpu")
    assert [int(label) for _, label in dataset] == arrays[1].tolist()
    with pytest.raises(IndexError, match=r"^There are 24 pictures\. Got index 24 instead\.$"):
        dataset[24]


def test_pictures_that_are_no_array_are_told():
    message = (
        "The 'images' parameter of ResidentImages must be a 4-D array (n, h, w, channels) of "
        "uint8. Got a list instead."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        ResidentImages([[1]], [0], "cpu")
