"""Mixup as functions: the draws, the mixtures, the refusal of integers."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from lossnoise.corrections._logits import OR_UNCOMPILED, LogitsModel
from lossnoise.corrections.mixing import (
    draw_mixing_weight,
    draw_partners,
    dynamic_weights,
    forward_mixed,
    mix_inputs,
    mix_losses,
)
from lossnoise.exceptions import InvalidDataError


@pytest.mark.parametrize("alpha", [0.5, 32.0])
def test_mixing_weights_follow_the_beta_distribution(alpha):
    rng = np.random.default_rng(0)
    weights = [draw_mixing_weight(alpha, rng) for _ in range(2000)]
    assert stats.kstest(weights, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_partners_are_a_permutation_drawn_from_the_generator():
    first, again = (draw_partners(50, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.dtype == torch.int64
    assert first.sort().values.tolist() == list(range(50))
    assert first.tolist() != list(range(50))


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3, 3)])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_inputs_are_mixed_with_their_partners(shape, weight):
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    partners = torch.tensor([2, 3, 1, 0])
    before = inputs.clone()
    x = inputs.double().numpy()
    expected = weight * x + (1.0 - weight) * x[partners]
    np.testing.assert_allclose(mix_inputs(inputs, partners, weight), expected, atol=1e-6)
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_mixed_inputs_keep_their_type(dtype):
    assert mix_inputs(torch.ones(2, 3, dtype=dtype), torch.tensor([1, 0]), 0.4).dtype == dtype


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_losses_are_mixed_by_the_same_weight(weight):
    own, partner = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 7.0])
    expected = [weight + (1.0 - weight) * 3.0, weight * 2.0 + (1.0 - weight) * 7.0]
    np.testing.assert_allclose(mix_losses(own, partner, weight), expected, rtol=1e-6)


def test_without_mixing_nothing_changes():
    inputs, losses = torch.randn(4, 3), torch.rand(4)
    partners = torch.tensor([1, 0, 3, 2])
    assert torch.equal(mix_inputs(inputs, partners, 1.0), inputs)
    assert torch.equal(mix_losses(losses, losses[partners], 1.0), losses)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_integers_cannot_be_averaged(dtype):
    message = (
        f"The 'inputs' parameter of mixup must be floating-point tensors. Got {dtype} instead: "
        "inputs such as token ids cannot be averaged. Name the module whose output can be, such as "
        "mix_at='embedding', or use a correction that does not mix, such as 'dyr-h' or "
        "'cross-entropy'."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        mix_inputs(torch.ones(2, 3, dtype=dtype), torch.tensor([1, 0]), 0.5)


# -- dynamic weights ----------------------------------------------------------------------------


def test_the_shares_of_two_samples_are_those_of_their_labels_being_right():
    wrong, partners = torch.tensor([0.0, 0.5, 0.9, 0.2]), torch.tensor([1, 2, 3, 3])
    expected = [1.0 / 1.5, 0.5 / 0.6, 0.1 / 0.9, 0.5]
    np.testing.assert_allclose(dynamic_weights(wrong, partners), expected, atol=1e-4)


def test_surely_wrong_labels_do_not_divide_0_by_0():
    wrong, partners = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([1, 2, 3, 0])
    edge = 1e-4 / (1e-4 + 1.0 - 1e-4)
    weights = dynamic_weights(wrong, partners)
    np.testing.assert_allclose(weights, [0.5, edge, 0.5, 1.0 - edge], rtol=1e-3)


@given(st.lists(st.floats(0.0, 1.0, width=32), min_size=1, max_size=20), st.data())
def test_the_shares_of_a_pair_sum_to_1_and_the_surer_label_has_the_larger(first, data):
    size = len(first)
    second = data.draw(st.lists(st.floats(0.0, 1.0, width=32), min_size=size, max_size=size))
    wrong = torch.tensor(first + second)
    partners = torch.arange(2 * size).roll(size)  # each of the first with one of the second
    shares = dynamic_weights(wrong, partners)
    assert shares.dtype == torch.float32
    assert ((shares > 0.0) & (shares < 1.0)).all()
    torch.testing.assert_close(shares + shares[partners], torch.ones(2 * size))
    surer = wrong < wrong[partners] - 1e-3
    assert (shares[surer] > 0.5).all()


# -- one weight a sample, several inputs --------------------------------------------------------


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 3, 3)])
def test_each_sample_may_have_a_weight_of_its_own(shape):
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    partners, weights = torch.tensor([2, 3, 1, 0]), torch.tensor([0.0, 0.2, 0.7, 1.0])
    x, own = inputs.double().numpy(), weights.double().numpy()
    own = own.reshape(-1, *[1] * (len(shape) - 1))
    expected = own * x + (1.0 - own) * x[partners]
    np.testing.assert_allclose(mix_inputs(inputs, partners, weights), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_inputs_mixed_one_by_one_keep_their_type(dtype):
    mixed = mix_inputs(torch.ones(2, 3, dtype=dtype), torch.tensor([1, 0]), torch.rand(2))
    assert mixed.dtype == dtype


@pytest.mark.parametrize("weight", [0.25, torch.tensor([0.25, 0.25])])
def test_every_tensor_of_an_input_is_mixed(weight):
    image, extra, partners = torch.eye(2), torch.tensor([4.0, 8.0]), torch.tensor([1, 0])
    image_mixed, extra_mixed = [[0.25, 0.75], [0.75, 0.25]], [7.0, 5.0]
    mixed = mix_inputs({"image": image, "extra": extra}, partners, weight)
    assert list(mixed) == ["image", "extra"]
    assert [mixed["image"].tolist(), mixed["extra"].tolist()] == [image_mixed, extra_mixed]
    mixed = mix_inputs((image, [extra]), partners, weight)
    assert isinstance(mixed, tuple)
    assert [mixed[0].tolist(), mixed[1][0].tolist()] == [image_mixed, extra_mixed]


def test_one_integer_tensor_among_them_is_refused():
    with pytest.raises(InvalidDataError, match=r"Got torch\.int64 instead: inputs such as token"):
        mix_inputs({"x": torch.ones(2, 3), "mask": torch.ones(2, 3).long()}, torch.arange(2), 0.5)


# -- mixing inside a model ----------------------------------------------------------------------


class Reader(nn.Module):
    """Reads token ids, in the manner of language models; one module is never called."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 3)
        self.unused = nn.Linear(4, 4)

    def forward(self, input_ids, attention_mask):
        words = self.embedding(input_ids) * attention_mask[..., None]
        return {"logits": self.head(words.sum(dim=1))}


IDS = torch.tensor([[1, 2], [3, 4], [5, 6]])
MASK = torch.tensor([[1, 1], [1, 0], [1, 1]])
PARTNERS = torch.tensor([1, 2, 0])
READ = {"input_ids": IDS, "attention_mask": MASK}


@pytest.mark.parametrize("weight", [0.3, torch.tensor([0.3, 0.5, 1.0])])
@pytest.mark.parametrize("inputs", [READ, (IDS, MASK)], ids=["dict", "tuple"])
def test_token_ids_are_mixed_where_they_have_become_vectors(inputs, weight):
    reader = Reader()
    logits = forward_mixed(LogitsModel(reader), inputs, PARTNERS, weight, "embedding")
    table, head, bias = (p.detach().double().numpy() for p in list(reader.parameters())[:3])
    words = table[IDS.numpy()]
    own = np.asarray(weight, dtype=np.float64).reshape(-1, 1, 1)
    words = (own * words + (1.0 - own) * words[PARTNERS.numpy()]) * MASK.numpy()[..., None]
    np.testing.assert_allclose(logits.detach(), words.sum(axis=1) @ head.T + bias, atol=1e-6)
    logits.sum().backward()
    assert reader.embedding.weight.grad.abs().sum() > 0.0


def test_with_a_share_of_1_the_model_is_as_it_is_and_no_hook_stays():
    model = LogitsModel(Reader())
    plain = model(READ)
    torch.testing.assert_close(forward_mixed(model, READ, PARTNERS, 1.0, "embedding"), plain)
    assert not torch.allclose(forward_mixed(model, READ, PARTNERS, 0.5, "embedding"), plain)
    assert torch.equal(model(READ), plain)


def test_without_a_name_the_inputs_are_mixed():
    model, x, partners = nn.Linear(2, 3), torch.randn(4, 2), torch.tensor([1, 2, 3, 0])
    expected = model(0.3 * x + 0.7 * x[partners])
    torch.testing.assert_close(forward_mixed(model, x, partners, 0.3), expected)


class Recurrent(nn.Module):
    """Has the steps first, and the samples second, inside."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(2, 4)
        self.first_step = nn.Identity()

    def forward(self, inputs):
        steps, _ = self.gru(inputs.transpose(0, 1))
        return self.first_step(steps)[0]


@pytest.mark.parametrize(
    ("name", "returned"), [("gru", "a tuple"), ("first_step", "a tensor of shape (3, 2, 4)")]
)
def test_what_is_mixed_has_one_row_a_sample(name, returned):
    message = (
        "The 'mix_at' parameter of mixup must name a module that returns one tensor with one row "
        f"a sample. Got {name!r} instead, which returns {returned} for a batch of 2 samples."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        forward_mixed(Recurrent(), torch.randn(2, 3, 2), torch.tensor([1, 0]), 0.5, name)


def test_a_module_that_is_not_called_mixes_nothing():
    """A run that silently is plain training would be taken for mixup."""
    message = (
        "The 'mix_at' parameter of mixup must name a module that the model calls. Got 'unused' "
        f"instead, which it does not call: nothing was mixed. Name another module{OR_UNCOMPILED}."
    )
    with pytest.raises(InvalidDataError, match=f"^{re.escape(message)}$"):
        forward_mixed(LogitsModel(Reader()), READ, PARTNERS, 0.5, "unused")


def test_an_error_in_the_model_leaves_no_hook():
    reader = Reader()
    with pytest.raises(IndexError):
        forward_mixed(LogitsModel(reader), (IDS + 7, MASK), PARTNERS, 0.5, "embedding")
    assert not reader.embedding._forward_hooks
    with pytest.raises(InvalidDataError, match=r"^The 'inputs' parameter of mixup must be float"):
        forward_mixed(nn.Sequential(nn.Identity()), IDS, PARTNERS, 0.5, "0")
