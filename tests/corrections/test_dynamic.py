"""What the dynamic bootstrapping methods share: warm-up, class prior, where w comes from."""

import copy
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

from lossnoise import NoisyLabelTrainer
from lossnoise.corrections import CORRECTIONS, CrossEntropy, MDDyrH, MDDyrSH, Mixup
from lossnoise.corrections._dynamic import DynamicBootstrap, PublishedLookup
from lossnoise.exceptions import (
    ClassPriorWarning,
    CollapseWarning,
    InvalidParameterError,
    ScheduleWarning,
)

METHODS = {n: m for n, m in CORRECTIONS.items() if issubclass(m, DynamicBootstrap)}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
PHASES = {"md-dyr-h": {"dynamic_mixup": 0}, "md-dyr-sh": {"dynamic_mixup": 0, "anneal": 1}}


def make(method, **given):
    """Return a correction that bootstraps from the first epoch after its warm-up on."""
    (name,) = (n for n, m in METHODS.items() if m is method)
    return method(**PHASES.get(name, {}) | given)


def mixes(method):
    return method.__name__.startswith("M")


def plain(method):
    """Return what a method does during warm-up."""
    return Mixup() if mixes(method) else CrossEntropy()


def test_these_are_the_methods():
    assert list(METHODS) == ["dyr-s", "dyr-h", "m-dyr-s", "m-dyr-h", "md-dyr-h", "md-dyr-sh"]


# -- warm-up ------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize(
    ("warmup", "epoch", "fitted"), [(3, 1, True), (3, 3, True), (0.5, 5, True), (0, 1, False)]
)
def test_during_warm_up_nothing_is_bootstrapped(
    method, warmup, epoch, fitted, make_batch, make_context, reference
):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    context = {"seed": 1, "epoch": epoch, "noise_proba": reference.posterior if fitted else None}
    ours, theirs = (
        correction.loss(model, batch, make_context(**context))
        for correction in (make(method, warmup=warmup), plain(method))
    )
    assert torch.equal(ours, theirs)


@every_method
@pytest.mark.parametrize(("warmup", "epochs"), [(10, 10), (30, 10), (1.0, 10)])
def test_a_warm_up_that_outlasts_the_run_is_told(method, warmup, epochs, make_context):
    message = (
        f"^{method.__name__} begins after {max(10, int(warmup))} epochs, and the run has 10: "
        r"it trains like its warm-up\. A warmup of less, or a float"
    )
    with pytest.warns(ScheduleWarning, match=message):
        set_up(make(method, warmup=warmup), make_context, num_epochs=epochs)
    set_up(make(method, warmup=epochs - 1), make_context, num_epochs=epochs)


def bootstrapped_epochs(correction, evidences, make_batch, make_context, reference, first=1):
    """Return the epochs that bootstrap, of a run whose mixtures have these evidences."""
    model, batch, found = torch.nn.Linear(2, 3), make_batch(), []
    for epoch, evidence in enumerate(evidences, first):
        noise_proba = None if evidence is None else reference.posterior
        context = make_context(
            epoch=epoch, num_epochs=9, noise_proba=noise_proba, evidence=evidence or 0.0
        )
        correction.begin_epoch(context)
        losses = correction.loss(model, batch, context)
        context = make_context(epoch=epoch, num_epochs=9)
        if not torch.equal(losses, plain(type(correction)).loss(model, batch, context)):
            found.append(epoch)
    return found


@every_method
@pytest.mark.parametrize(
    ("evidences", "first"),
    [
        ([None, 0.1, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9], 3),  # one half is enough
        ([None, 0.1, 0.9, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1], 3),  # and stays so, whatever follows
        ([None, 0.1, 0.1, 0.1, 0.1, 0.49, 0.49, 0.49, 0.49], 5),  # after half of 9 at the latest
        ([None, None, None, None, None, None, 0.9, 0.9, 0.9], 7),  # but not without a mixture
    ],
)
def test_a_warm_up_of_no_fixed_length(
    method, evidences, first, make_batch, make_context, reference
):
    tools = make_batch, make_context, reference
    correction = make(method, warmup="auto")
    assert bootstrapped_epochs(correction, evidences, *tools) == list(range(first, 10))


@every_method
def test_the_end_of_a_warm_up_of_no_fixed_length_is_resumed(
    method, make_batch, make_context, reference
):
    tools = make_batch, make_context, reference
    correction, resumed = make(method, warmup="auto"), make(method, warmup="auto")
    assert bootstrapped_epochs(correction, [None, 0.9], *tools) == [2]
    resumed.load_state_dict(correction.state_dict())
    assert bootstrapped_epochs(resumed, [0.1, 0.1], *tools, first=3) == [3, 4]
    assert resumed.state_dict() == correction.state_dict()
    resumed.setup(make_context())  # for another run
    assert resumed.state_dict() == make(method, warmup="auto").state_dict()


# -- w ------------------------------------------------------------------------------------------


@every_method
def test_w_is_scaled_by_the_evidence(method, make_batch, make_context, reference):
    model, batch = torch.nn.Linear(2, 3), make_batch()

    def loss(evidence, noise_proba):
        context = make_context(evidence=evidence, noise_proba=noise_proba)
        return make(method, warmup=0).loss(model, batch, context)

    scaled = loss(0.4, reference.posterior)
    torch.testing.assert_close(scaled, loss(1.0, lambda losses: 0.4 * reference.posterior(losses)))
    assert not torch.allclose(scaled, loss(1.0, reference.posterior))


@every_method
def test_a_w_of_0_leaves_the_given_labels(method, make_batch, make_context, reference):
    """Without evidence or class balance: cross-entropy, mixup, or mixup by halves."""
    model, batch = torch.nn.Linear(2, 3), make_batch()
    context = make_context(evidence=0.0, noise_proba=reference.posterior)
    losses = make(method, warmup=0, class_balance=0.0).loss(model, batch, context)
    if method.__name__.startswith("MDD"):
        expected = Mixup(alpha=1e12).loss(model, batch, make_context())
        torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    else:
        torch.testing.assert_close(losses, plain(method).loss(model, batch, make_context()))


@every_method
def test_what_is_suspended_trains_as_in_warm_up(method, make_batch, make_context, reference):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    correction = make(method, warmup=0)
    correction._pause = 1
    losses = correction.loss(model, batch, make_context(noise_proba=reference.posterior))
    assert torch.equal(losses, plain(method).loss(model, batch, make_context()))


# -- the class prior ----------------------------------------------------------------------------

PRIOR = [0.7, 0.3, 0.0]


def set_up(correction, make_context, **given):
    correction.setup(make_context(batch_size=12, **given))
    return correction


@every_method
@pytest.mark.parametrize("prior", [PRIOR, np.array(PRIOR), torch.tensor(PRIOR), "uniform"])
def test_the_prior_of_the_classes_is_that_of_the_regulariser(
    method, prior, make_batch, make_context, reference
):
    """R is of the batch that the loss is of: the mixed one, where inputs are mixed."""
    model, batch, logits = torch.nn.Linear(2, 3), make_batch(), []
    model.register_forward_hook(lambda _, __, output: logits.append(output))
    with_term, without = (
        set_up(make(method, warmup=0, **settings), make_context).loss(
            model, batch, make_context(noise_proba=reference.posterior)
        )
        for settings in ({"class_prior": prior, "class_balance": 0.5}, {"class_balance": 0.0})
    )
    log_h = reference.log_softmax(logits[-1].detach().double().numpy())
    expected = 0.5 * reference.divergence(log_h, None if isinstance(prior, str) else PRIOR)
    difference = (with_term - without).detach()
    np.testing.assert_allclose(difference, np.full(12, expected), atol=1e-6)


@every_method
def test_the_prior_of_the_labels_is_their_frequencies(method, make_batch, make_context, reference):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    labels = torch.tensor([0] * 7 + [1] * 3)

    def sweep(function):
        return function(None, SimpleNamespace(labels=labels))

    from_labels, given = (
        set_up(make(method, warmup=0, class_prior=prior), make_context, sweep=sweep).loss(
            model, batch, make_context(noise_proba=reference.posterior)
        )
        for prior in ("labels", PRIOR)
    )
    torch.testing.assert_close(from_labels, given)
    from_labels.mean().backward()
    assert model.weight.grad.isfinite().all()


FREQUENCIES = "'uniform', 'labels', or 3 frequencies of the classes that sum to 1"
BALANCE = "a float in the range [0.0, inf)"


@every_method
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("class_prior", "even", "one of 'labels', 'uniform'"),
        ("class_prior", [0.5, 0.5], FREQUENCIES),
        ("class_prior", [0.5, 0.6, -0.1], FREQUENCIES),
        ("class_prior", [0.5, 0.4, 0.2], FREQUENCIES),
        ("class_prior", [0.5, 0.5, float("nan")], FREQUENCIES),
        ("class_prior", [[0.5], [0.5, 0.0]], FREQUENCIES),
        ("class_prior", None, FREQUENCIES),
        ("class_balance", "on", "'auto' or a float >= 0"),
        ("class_balance", -1.0, BALANCE),
        ("class_balance", True, BALANCE),
        ("class_balance", float("inf"), BALANCE),
        ("sweep", "never", "one of 'epoch', 'running'"),
        ("compat", "paper", "one of 'published'"),
        (
            "warmup",
            "never",
            "'auto', a number of epochs (int >= 0) or a fraction of the run in [0.0, 1.0]",
        ),
    ],
)
def test_parameters_out_of_range(method, name, value, expected, make_context):
    message = (
        f"The {name!r} parameter of {method.__name__} must be {expected}. Got {value!r} instead."
    )
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        method(**{name: value}).setup(make_context())


@pytest.mark.parametrize("method", [m for m in METHODS.values() if mixes(m)])
@pytest.mark.parametrize(
    ("name", "value"), [("alpha", 0.0), ("mix_at", "embedding"), ("mix_at", 0)]
)
def test_mixing_parameters_out_of_range(method, name, value, make_net, make_context):
    expected = {
        "alpha": "a float in the range (0.0, inf)",
        "mix_at": "the name of a module of the model ('0', '1', '2', '3', '4')",
    }[name]
    message = (
        f"The {name!r} parameter of {method.__name__} must be {expected}. Got {value!r} instead."
    )
    context = make_context(engine=SimpleNamespace(model=make_net()))
    with pytest.raises(InvalidParameterError, match=f"^{re.escape(message)}$"):
        method(**{name: value}).setup(context)


# -- compat="published" -------------------------------------------------------------------------


@pytest.fixture
def worn_net(make_net):
    """A network whose BatchNorm has statistics of its own, and a part that is frozen."""
    model = make_net()
    model[1].running_mean += 0.3
    model[1].running_var *= 2.0
    model[3].eval()
    return model


def losses_of_a_run(size=96):
    generator = torch.Generator().manual_seed(5)
    wrong = torch.rand(size, generator=generator) < 0.3
    return torch.where(wrong, 2.0, 0.2) + torch.rand(size, generator=generator)


def log_probs(model, inputs):
    return torch.nn.functional.log_softmax(model(inputs), dim=1).detach().double().numpy()


@every_method
def test_the_published_w_comes_from_eval_mode_and_z_from_train_mode(
    method, worn_net, make_batch, make_context, reference, monkeypatch
):
    """With a mixing share of 1 for what is mixed, the loss is that of the unmixed batch."""
    monkeypatch.setattr("lossnoise.corrections.m_dyr_h.draw_mixing_weight", lambda *draw: 1.0)
    monkeypatch.setattr(
        "lossnoise.corrections.md_dyr_h.draw_partners", lambda size, _: torch.arange(size)
    )
    batch, losses = make_batch(), losses_of_a_run()
    train, judge = copy.deepcopy(worn_net), copy.deepcopy(worn_net)
    train_log_h = log_probs(train, batch.inputs)
    if mixes(method):  # the unmixed forward pass came first, and moved the running statistics
        judge(batch.inputs)
    else:
        judge.load_state_dict(train.state_dict())
    judge_log_h = log_probs(judge.eval(), batch.inputs)
    assert not np.allclose(train_log_h, judge_log_h, atol=0.1)
    table = PublishedLookup(losses, torch.device("cpu"))
    eval_losses = -judge_log_h[np.arange(12), batch.labels]
    w = table(torch.tensor(eval_losses)).double().numpy()[:, None]
    soft = {"DyrS": 1.0, "MDyrS": 1.0, "MDDyrSH": 1.0}.get(method.__name__)
    z = np.exp(train_log_h) if soft else reference.one_hot(train_log_h.argmax(axis=1))
    targets = (1.0 - w) * reference.one_hot(batch.labels) + w * z

    correction = make(method, warmup=0, class_balance=0.0, compat="published")
    context = make_context(noise_proba=reference.posterior, losses=losses, evidence=0.0)
    correction.begin_epoch(context)
    ours = correction.loss(worn_net, batch, context).detach()
    np.testing.assert_allclose(ours, -(targets * train_log_h).sum(axis=1), rtol=1e-4)


@every_method
def test_the_published_second_pass_leaves_the_model_as_it_was(
    method, worn_net, make_batch, make_context, reference
):
    passes, recorded = [], []
    modes = [module.training for module in worn_net.modules()]
    worn_net.register_forward_hook(
        lambda module, _, output: passes.append((module.training, output.requires_grad))
    )
    correction = make(method, warmup=0, compat="published")
    context = make_context(
        noise_proba=reference.posterior,
        losses=losses_of_a_run(),
        record=lambda *pair: recorded.append(pair),
    )
    correction.begin_epoch(context)
    correction.loss(worn_net, make_batch(), context).mean().backward()
    first = (True, not mixes(method))  # of the unmixed batch, without gradient where another comes
    assert passes == [first, (False, False)] + [(True, True)] * mixes(method)
    assert [module.training for module in worn_net.modules()] == modes
    assert worn_net[1].num_batches_tracked == 1 + mixes(method)
    assert recorded == []  # the mixture is fitted to losses in eval mode, from a sweep


@every_method
def test_the_published_second_pass_is_not_made_during_warm_up(
    method, make_net, make_batch, make_context, reference
):
    model, modes = make_net(), []
    model.register_forward_hook(lambda module, *_: modes.append(module.training))
    correction = make(method, warmup=3, compat="published")
    context = make_context(epoch=3, noise_proba=reference.posterior, losses=losses_of_a_run())
    correction.begin_epoch(context)
    correction.loss(model, make_batch(), context)
    assert modes == [True]


@pytest.mark.parametrize("kind", [MDDyrH, MDDyrSH])
def test_a_stage_that_does_not_bootstrap_is_no_collapse(kind, make_batch, make_context, reference):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    correction = kind(warmup=1, dynamic_mixup=2)
    for epoch in (1, 2, 3, 4):  # all guess one class from the second on, bootstrapped in the fourth
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[3.0, 0.0], [-3.0, 3.0], [-3.0, -3.0]]))
            model.bias.copy_(torch.tensor([100.0 * (epoch > 1), 0.0, 0.0]))
        context = make_context(epoch=epoch, noise_proba=reference.posterior)
        correction.begin_epoch(context)
        correction.loss(model, batch, context)
        if epoch == 4:
            with pytest.warns(CollapseWarning, match=r"in epoch 4, .* for 1 to 2 epochs\."):
                correction.end_epoch(context)
        else:
            correction.end_epoch(context)


@every_method
@pytest.mark.parametrize("compat", [None, "published"])
def test_nothing_is_suspended_where_it_is_as_published(
    method, compat, make_batch, make_context, reference, recwarn
):
    model, batch = torch.nn.Linear(2, 3), make_batch()
    correction = make(method, warmup=0, compat=compat)
    for epoch in (1, 2):
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[3.0, 0.0], [-3.0, 3.0], [-3.0, -3.0]]))
            model.bias.copy_(torch.tensor([100.0 * (epoch == 2), 0.0, 0.0]))
        context = make_context(
            epoch=epoch, noise_proba=reference.posterior, losses=losses_of_a_run()
        )
        correction.begin_epoch(context)
        correction.loss(model, batch, context)
        correction.end_epoch(context)
    assert correction.state_dict()["least"] == (compat is None)
    assert [w.category for w in recwarn] == [CollapseWarning] * (compat is None)


# -- uneven labels ------------------------------------------------------------------------------


@pytest.fixture
def told_of_prior(make_uneven, make_net):
    """Train on some labels of each class, and return what is said of the class prior."""

    def run(counts, method, *, batch_size=16, epochs=4, even=False, **given):
        settings = {"epochs": epochs, "batch_size": batch_size, "device": "cpu", "random_state": 0}
        trainer = NoisyLabelTrainer(make_net(), correction=make(method, **given), **settings)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            data = make_uneven(counts)
            weights = 1.0 / data.tensors[1].bincount()[data.tensors[1]]
            draws = torch.Generator().manual_seed(0)
            sampler = WeightedRandomSampler(weights, len(data), generator=draws)
            trainer.fit(DataLoader(data, batch_size, sampler=sampler) if even else data)
        return [str(w.message) for w in caught if w.category is ClassPriorWarning]

    return run


@every_method
def test_a_uniform_prior_for_uneven_labels_is_told_once(method, told_of_prior):
    (message,) = told_of_prior((60, 12, 8), method, warmup=1)
    assert message.startswith(
        f"{method.__name__} supposes that all classes are alike frequent (class_prior='uniform'). "
        "The given labels are not: the share of a class is 0.1 to 0.75."
    )


@pytest.mark.parametrize(
    ("counts", "given"),
    [
        ((60, 12, 8), {"class_prior": "labels"}),
        ((60, 12, 8), {"class_balance": 0.0}),
        ((60, 12, 8), {"compat": "published"}),
        ((60, 12, 8), {"batch_size": 4}),  # the term is off
        ((20, 5, 2), {}),  # by chance, perhaps
        ((40, 30, 20), {}),
    ],
)
def test_other_priors_and_nearly_even_labels_are_not_told(told_of_prior, counts, given):
    assert told_of_prior(counts, CORRECTIONS["dyr-h"], warmup=1, **given) == []


def test_even_batches_and_a_prior_of_the_labels_are_told_once(told_of_prior):
    settings = {"class_prior": "labels", "warmup": 1, "even": True}
    (message,) = told_of_prior((60, 12, 8), CORRECTIONS["dyr-h"], **settings)
    assert message == (
        "DyrH takes the classes to be as frequent as in the given labels (class_prior='labels'), "
        "0.1 to 0.75, and the sampler draws them evenly: predictions for such batches are pulled "
        "back to the frequent classes. Use one of the two, the sampler or class_prior='labels'."
    )
    settings["class_prior"] = [0.75, 0.15, 0.1]  # which somebody knows
    assert told_of_prior((60, 12, 8), CORRECTIONS["dyr-h"], **settings) == []
    settings["class_prior"] = "labels"
    assert told_of_prior((40, 30, 20), CORRECTIONS["dyr-h"], **settings) == []
