"""Pictures in memory: reading them, cropping and flipping them, clear errors."""

import numpy as np
import pytest
import torch
import torchvision.datasets

from lossnoise.data.cifar import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    ImageArrayDataset,
    ImageArrays,
    load_arrays,
    load_cifar10,
)
from lossnoise.exceptions import InvalidDataError, InvalidParameterError


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(6, 8, 8, 3), dtype=np.uint8)
    return ImageArrays(images, np.arange(6), images[:2], np.arange(2))


def normalised(image):
    return (image / 255.0 - np.array(CIFAR10_MEAN)) / np.array(CIFAR10_STD)


# -- reading ----------------------------------------------------------------------------------


def test_arrays_come_back(tmp_path, arrays):
    path = tmp_path / "pictures.npz"
    np.savez(path, **arrays._asdict(), more=1)
    for read, written in zip(load_arrays(path), arrays, strict=True):
        assert np.array_equal(read, written)
        assert read.dtype == written.dtype


ARCHIVE = "an .npz file with the arrays x_train, y_train, x_test and y_test"


def save_one_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


def save_objects(path):
    np.savez(path, x_train=np.array([{}], dtype=object))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no archive"),
        lambda path: path.write_bytes(b"PK\x03\x04 cut off"),
        save_one_array,
        save_objects,
    ],
    ids=["empty", "text", "damaged", "npy", "pickled"],
)
def test_another_file_is_refused(tmp_path, write):
    path = tmp_path / "pictures.npz"
    write(path)
    with pytest.raises(InvalidDataError) as caught:
        load_arrays(path)
    start = f"The 'path' parameter of load_arrays must be {ARCHIVE}. Got {path} ("
    assert str(caught.value).startswith(start)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "nowhere.npz")


def test_missing_arrays_are_named(tmp_path, arrays):
    path = tmp_path / "pictures.npz"
    np.savez(path, x_train=arrays.x_train, y_test=arrays.y_test)
    with pytest.raises(InvalidDataError) as caught:
        load_arrays(path)
    assert str(caught.value) == (
        f"The 'path' parameter of load_arrays must be {ARCHIVE}. "
        f"Got {path} without y_train, x_test instead."
    )


@pytest.mark.parametrize(
    ("change", "name", "expected", "got"),
    [
        (
            {"x_test": np.zeros((2, 8, 8, 3))},
            "x_test",
            "uint8 pictures (n, height, width, channels)",
            "an array of shape (2, 8, 8, 3) and dtype float64",
        ),
        (
            {"x_train": np.zeros((6, 192), np.uint8)},
            "x_train",
            "uint8 pictures (n, height, width, channels)",
            "an array of shape (6, 192) and dtype uint8",
        ),
        (
            {"y_train": np.arange(5)},
            "y_train",
            "6 integers, one a picture",
            "an array of shape (5,) and dtype int64",
        ),
        (
            {"y_test": np.array(["a", "b"])},
            "y_test",
            "2 integers, one a picture",
            "an array of shape (2,) and dtype <U1",
        ),
    ],
)
def test_arrays_are_checked(tmp_path, arrays, change, name, expected, got):
    path = tmp_path / "pictures.npz"
    np.savez(path, **(arrays._asdict() | change))
    with pytest.raises(InvalidDataError) as caught:
        load_arrays(path)
    assert str(caught.value) == (
        f"The '{name}' array of {path} must be {expected}. Got {got} instead."
    )


def test_cifar10_comes_from_torchvision(monkeypatch, tmp_path, arrays):
    calls = []

    class Fake:
        def __init__(self, root, train, download):
            calls.append((root, train, download))
            self.data = arrays.x_train if train else arrays.x_test
            self.targets = (arrays.y_train if train else arrays.y_test).tolist()

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fake)
    for read, expected in zip(load_cifar10(tmp_path, download=True), arrays, strict=True):
        assert np.array_equal(read, expected)
    assert calls == [(str(tmp_path), True, True), (str(tmp_path), False, True)]


# -- the dataset ------------------------------------------------------------------------------


def test_pictures_are_normalised(arrays):
    dataset = ImageArrayDataset(arrays.x_train, arrays.y_train)
    image, label = dataset[4]
    assert (image.shape, image.dtype, label, len(dataset)) == ((3, 8, 8), torch.float32, 4, 6)
    assert type(label) is int
    expected = normalised(arrays.x_train[4]).transpose(2, 0, 1)
    np.testing.assert_allclose(image.numpy(), expected, atol=1e-5)


def test_augmented_pictures_are_crops_of_the_padded_one_flipped_or_not(arrays):
    dataset = ImageArrayDataset(arrays.x_train, arrays.y_train, augment=True)
    padded = normalised(np.pad(arrays.x_train[2], ((4, 4), (4, 4), (0, 0)))).transpose(2, 0, 1)
    torch.manual_seed(0)
    seen = set()
    for _ in range(1500):
        image = dataset[2][0].numpy()
        seen.add(image.tobytes())
        assert image.shape == (3, 8, 8)
    crops = [padded[:, i : i + 8, j : j + 8] for i in range(9) for j in range(9)]
    expected = np.array(crops + [crop[..., ::-1] for crop in crops], dtype=np.float32)
    found = np.array([np.frombuffer(b, np.float32).reshape(3, 8, 8) for b in seen])
    assert len(found) == 162  # 9 x 9 shifts, each flipped and not
    distance = np.abs(found[:, None] - expected[None]).max(axis=(2, 3, 4))
    assert (distance.min(axis=1) < 1e-5).all()
    assert (distance.min(axis=0) < 1e-5).all()


def test_augmentation_draws_from_torchs_global_generator(arrays):
    dataset = ImageArrayDataset(arrays.x_train, arrays.y_train, augment=True)
    torch.manual_seed(1)
    first = torch.stack([dataset[i][0] for i in range(6)])
    torch.manual_seed(1)
    assert torch.equal(first, torch.stack([dataset[i][0] for i in range(6)]))


def test_without_augmentation_nothing_is_drawn(arrays):
    before = torch.get_rng_state()
    assert torch.equal(
        ImageArrayDataset(arrays.x_train, arrays.y_train)[0][0],
        ImageArrayDataset(arrays.x_train, arrays.y_train)[0][0],
    )
    assert torch.equal(before, torch.get_rng_state())


def test_the_given_arrays_are_copied(arrays):
    images, labels = arrays.x_train.copy(), arrays.y_train.copy()
    dataset = ImageArrayDataset(images, labels)
    images[:], labels[:] = 0, 9
    assert dataset[1][1] == 1
    assert len(dataset[1][0].unique()) > 1


def test_other_numbers_of_channels():
    dataset = ImageArrayDataset(np.full((2, 5, 7, 1), 255, np.uint8), [0, 1], mean=[0.5], std=[0.5])
    assert torch.allclose(dataset[0][0], torch.ones(1, 5, 7))


def test_a_loader_batches_it(arrays):
    loader = torch.utils.data.DataLoader(
        ImageArrayDataset(arrays.x_train, arrays.y_train, augment=True), batch_size=6
    )
    images, labels = next(iter(loader))
    assert images.shape == (6, 3, 8, 8)
    assert labels.tolist() == list(range(6))


@pytest.mark.parametrize(
    ("options", "name", "expected", "got"),
    [
        ({"mean": [0.5]}, "mean", "3 numbers, one a channel", "[0.5]"),
        ({"std": [0.5]}, "std", "3 numbers above 0, one a channel", "[0.5]"),
        ({"std": [1, 0, 1]}, "std", "3 numbers above 0, one a channel", "[1, 0, 1]"),
    ],
)
def test_normalisation_is_checked(arrays, options, name, expected, got):
    with pytest.raises(InvalidParameterError) as caught:
        ImageArrayDataset(arrays.x_train, arrays.y_train, **options)
    assert str(caught.value) == (
        f"The '{name}' parameter of ImageArrayDataset must be {expected}. Got {got} instead."
    )


def test_pictures_and_labels_are_checked(arrays):
    with pytest.raises(InvalidDataError) as caught:
        ImageArrayDataset(arrays.x_train, [0, 1])
    assert str(caught.value) == (
        "The 'labels' parameter of ImageArrayDataset must be 6 integers, one a picture. "
        "Got an array of shape (2,) and dtype int64 instead."
    )
