"""The paper's settings: at full length as published, and in the same shape when scaled."""

import re

import pytest
import torch

from lossnoise.corrections import CORRECTIONS
from lossnoise.corrections.base import resolve_epochs
from lossnoise.exceptions import InvalidParameterError
from lossnoise.training import paper_recipe
from lossnoise.training.trainer import NoisyLabelTrainer


def rates(settings, epochs):
    """Return the learning rate of each epoch."""
    optimizer = settings["optimizer"]([torch.nn.Parameter(torch.zeros(1))])
    scheduler, found = settings["scheduler"](optimizer), []
    for _ in range(epochs):
        found.append(round(optimizer.param_groups[0]["lr"], 6))
        optimizer.step()
        scheduler.step()
    return found


def test_with_mixup_it_is_the_papers():
    settings = paper_recipe("m-dyr-h")
    assert settings["epochs"] == 300
    assert rates(settings, 300) == [0.1] * 99 + [0.01] * 150 + [0.001] * 51
    correction = settings["correction"]
    assert resolve_epochs("", "", correction.warmup, 300) == 105


def test_without_mixup_it_is_the_papers():
    settings = paper_recipe("dyr-s")
    assert settings["epochs"] == 120
    assert rates(settings, 120) == [0.1] * 29 + [0.01] * 50 + [0.001] * 30 + [0.0001] * 11
    assert resolve_epochs("", "", settings["correction"].warmup, 120) == 30


def test_soft_to_hard_has_its_phases():
    correction = paper_recipe("md-dyr-sh")["correction"]
    for name, epochs in (("warmup", 105), ("dynamic_mixup", 5), ("anneal", 88)):
        assert resolve_epochs("", "", getattr(correction, name), 300) == epochs


def test_a_shorter_run_has_the_same_shape():
    assert rates(paper_recipe("mixup", epochs=30), 30) == [0.1] * 9 + [0.01] * 15 + [0.001] * 6


def test_what_starts_afresh_has_the_schedule_of_the_epochs_that_are_left():
    for name in ("forward", "backward", "joint-optimization"):
        assert "scheduler" not in paper_recipe(name)
    assert "scheduler" in paper_recipe("co-teaching-plus")


@pytest.mark.filterwarnings("ignore:D2L begins after")
@pytest.mark.parametrize("name", sorted(CORRECTIONS))
def test_every_correction_has_one_that_the_trainer_takes(name, make_data, make_net, with_clean_set):
    settings = paper_recipe(name, epochs=3)
    settings["correction"] = with_clean_set(settings["correction"])
    trainer = NoisyLabelTrainer(make_net(), device="cpu", random_state=0, **settings)
    assert len(trainer.fit(make_data()).history_) == 3


def test_errors():
    with pytest.raises(InvalidParameterError, match=r"^The 'correction' parameter of paper_recipe"):
        paper_recipe("m-dyr")
    message = "The 'epochs' parameter of paper_recipe must be an int in the range [1, inf). Got 0"
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        paper_recipe(epochs=0)
