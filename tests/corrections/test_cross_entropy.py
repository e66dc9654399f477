import torch
from torch.nn import functional as F

from lossnoise.corrections import CrossEntropy


def test_learns_from_the_labels_as_they_are(make_net, make_batch, make_context):
    model, batch, context = make_net(), make_batch(), make_context()
    losses = CrossEntropy().loss(model, batch, context)
    expected = F.cross_entropy(model(batch.inputs), batch.labels, reduction="none")
    torch.testing.assert_close(losses, expected)
    assert losses.requires_grad


def test_draws_nothing(make_net, make_batch, make_context):
    context = make_context()
    before = context.rng.bit_generator.state, context.generator.get_state()
    CrossEntropy().loss(make_net(), make_batch(), context)
    assert context.rng.bit_generator.state == before[0]
    assert torch.equal(context.generator.get_state(), before[1])
