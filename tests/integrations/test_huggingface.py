"""Hugging Face's own trainer, two epochs on the CPU, and every loss worked out by hand."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from lossnoise import BetaMixtureNoiseDetector, audit
from lossnoise.exceptions import CheckpointWarning, InvalidDataError

# What the framework warns of, such as processors without a GPU, is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

N = 22  # five batches of four and one of two


@pytest.fixture
def hf(load):
    return load("run_huggingface", "transformers", "accelerate", "datasets")


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        ({}, 2 * N),
        ({"dataloader_drop_last": True}, 2 * 20),
        ({"dataloader_num_workers": 2}, 2 * N),
        ({"gradient_accumulation_steps": 3}, 2 * N),
        ({"remove_unused_columns": False}, 2 * N),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_every_loss_is_the_one_worked_out_by_hand(hf, tmp_path, settings, seen):
    keeps_all = not settings.get("remove_unused_columns", True)
    data = hf.make_data(N).remove_columns("text") if keeps_all else hf.make_data(N)
    _, recorder, by_hand = hf.run(tmp_path, N, dataset=data, **settings)
    assert recorder.loss_history_.shape == (N, 2)
    assert by_hand.check(recorder.loss_history_) == seen


def test_a_dataset_of_torch_and_what_comes_of_its_losses(hf, tmp_path):
    samples = list(hf.make_data(N))
    _, recorder, by_hand = hf.run(tmp_path, N, dataset=samples)
    by_hand.check(recorder.loss_history_)
    np.testing.assert_array_equal(recorder.losses_, recorder.loss_history_[:, -1])
    np.testing.assert_allclose(recorder.reduce(), recorder.loss_history_.mean(axis=1), rtol=1e-6)
    detector = BetaMixtureNoiseDetector().fit(recorder.losses_)
    assert detector.predict_proba(recorder.losses_).shape == (N, 2)
    assert len(audit(hf.make_labels(N), losses=recorder.losses_).table) == N


def check_same_weights(found, expected):
    for name, value in expected.model.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], value, msg=name)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"label_smoothing_factor": 0.1},
        {"gradient_accumulation_steps": 3, "optim": "sgd", "learning_rate": 1.0},
    ],
    ids=["plain", "smooth", "accumulated"],
)
def test_training_is_what_it_is_without_a_recorder(hf, tmp_path, settings):
    plain = hf.make_trainer(tmp_path, N, **settings)
    plain.train()
    recorded, recorder, by_hand = hf.run(tmp_path, N, **settings)
    check_same_weights(recorded, plain)
    assert by_hand.check(recorder.loss_history_) == 2 * N


def test_the_loss_of_a_model_stays_its_own(hf, tmp_path):
    """Weights of classes, further terms: they are learned from, and not recorded."""

    class Doubled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = hf.make_model(0.0)

        def forward(self, input_ids, labels=None):
            output = self.bert(input_ids=input_ids, labels=labels)
            if labels is None:
                return {"logits": output.logits}
            return {"loss": 2.0 * output.loss + 1.0, "logits": output.logits}

    plain, recorded = (hf.make_trainer(tmp_path, N, model=Doubled()) for _ in range(2))
    recorder = hf.HuggingFaceLossRecorder().attach(recorded)
    losses = [trainer.train().training_loss for trainer in (plain, recorded)]
    assert losses[0] == losses[1] > 2.0
    check_same_weights(recorded, plain)
    assert np.nanmean(recorder.loss_history_) == pytest.approx((losses[0] - 1.0) / 2.0, rel=0.05)


def test_a_compute_loss_of_a_subclass_is_kept(hf, tmp_path, monkeypatch):
    """Also where it calls the model twice, the second time without ids, and turns the logits."""
    seen = []

    def compute_loss(self, model, inputs, num_items_in_batch=None, **kwargs):
        first = model(**inputs)
        second = model(input_ids=inputs["input_ids"], labels=inputs["labels"])
        seen.append(torch.stack([first.loss, second.loss]).mean().item())
        recorded = torch.nn.functional.cross_entropy(first.logits.detach(), inputs["labels"])
        by_hand.append(recorded.item())
        first.logits.data.zero_()
        return 3.0 * (first.loss + second.loss)

    by_hand = []

    trainer = hf.make_trainer(tmp_path, N)
    monkeypatch.setattr(type(trainer), "compute_loss", compute_loss)
    recorder = hf.HuggingFaceLossRecorder().attach(trainer)
    loss = trainer.train().training_loss
    assert loss == pytest.approx(6.0 * np.mean(seen), rel=1e-4)
    assert recorder.loss_history_.shape == (N, 2)
    sizes = np.tile([4, 4, 4, 4, 4, 2], 2)
    assert recorder.loss_history_.mean() == pytest.approx(np.average(by_hand, weights=sizes))
    assert recorder._seen is None
    assert recorder.batch_ids_ is None


@pytest.mark.parametrize("wrap", [lambda logits: logits, lambda logits: (None, logits)])
def test_a_model_whose_loss_is_computed_outside(hf, tmp_path, wrap):
    class Bare(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = hf.make_model()

        def forward(self, input_ids, labels=None):
            return wrap(self.bert(input_ids=input_ids).logits)

    def loss_of(outputs, labels, num_items_in_batch=None):
        logits = outputs if isinstance(outputs, torch.Tensor) else outputs[1]
        return torch.nn.functional.cross_entropy(logits, labels)

    trainer = hf.make_trainer(tmp_path, N, model=Bare(), compute_loss_func=loss_of)
    recorder = hf.HuggingFaceLossRecorder().attach(trainer)
    trainer.train()
    assert np.isfinite(recorder.loss_history_).all()


def test_a_model_that_gives_a_tuple_and_labels_of_another_name(hf, tmp_path):
    class Pairs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = hf.make_model()

        def forward(self, input_ids, which=None):
            output = self.bert(input_ids=input_ids, labels=which)
            return (output.logits,) if which is None else (output.loss, output.logits)

    samples = [{"input_ids": row["input_ids"], "which": row["label"]} for row in hf.make_data(N)]
    trainer = hf.make_trainer(tmp_path, N, model=Pairs(), dataset=samples, label_names=["which"])
    recorder = hf.HuggingFaceLossRecorder().attach(trainer)
    trainer.train()
    assert np.isfinite(recorder.loss_history_).all()
    assert recorder.loss_history_.shape == (N, 2)


def test_a_loss_of_ones_own_is_called_and_may_know_the_samples(hf, tmp_path):
    calls = []

    def own_loss(outputs, labels, num_items_in_batch=None):
        calls.append((recorder.batch_ids_, num_items_in_batch))
        return torch.nn.functional.cross_entropy(outputs.logits, labels)

    trainer = hf.make_trainer(tmp_path, N, compute_loss_func=own_loss, num_train_epochs=1)
    recorder = hf.HuggingFaceLossRecorder().attach(trainer)
    trainer.train()
    assert sorted(torch.cat([ids for ids, _ in calls]).tolist()) == list(range(N))
    assert [int(items) for _, items in calls] == [4, 4, 4, 4, 4, 2]
    calls.clear()
    trainer.evaluate()  # whose samples are none of the recorder's
    assert [ids for ids, _ in calls] == [None]
    assert recorder.loss_history_.shape == (N, 1)


def test_evaluation_between_epochs_is_not_recorded(hf, tmp_path):
    trainer, recorder, by_hand = hf.run(tmp_path, N, eval_strategy="epoch")
    assert sum("eval_loss" in entry for entry in trainer.state.log_history) == 2
    assert by_hand.check(recorder.loss_history_) == 2 * N


def test_the_training_data_can_be_predicted_before_and_after(hf, tmp_path):
    trainer = hf.make_trainer(tmp_path, N)
    recorder = hf.HuggingFaceLossRecorder().attach(trainer)
    assert trainer.predict(trainer.train_dataset).predictions.shape[0] == N
    trainer.train()
    history = recorder.loss_history_.copy()
    found = trainer.predict(trainer.train_dataset).predictions
    np.testing.assert_array_equal(found, trainer.predict(hf.make_data(N)).predictions)
    np.testing.assert_array_equal(recorder.loss_history_, history)


def test_workers_that_stay_alive_evaluate_the_training_data(hf, tmp_path):
    settings = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    trainer = hf.make_trainer(tmp_path, N, eval_strategy="epoch", **settings)
    recorder = hf.HuggingFaceLossRecorder().attach(trainer)
    trainer.eval_dataset = trainer.train_dataset
    trainer.train()
    assert np.isfinite(trainer.evaluate()["eval_loss"])
    assert recorder.loss_history_.shape == (N, 2)


def test_a_recorder_may_follow_a_second_trainer(hf, tmp_path):
    first, second = (hf.make_trainer(tmp_path, N) for _ in range(2))
    recorder = hf.HuggingFaceLossRecorder().attach(first).attach(second)
    for columns, trainer in ((2, first), (4, second), (6, first)):
        trainer.train()
        assert recorder.loss_history_.shape == (N, columns)


def test_a_trainer_whose_batches_have_no_ids_is_told(hf, tmp_path):
    trainer = hf.make_trainer(tmp_path, N)
    collator = trainer.data_collator
    hf.HuggingFaceLossRecorder().attach(trainer)
    trainer.train_dataset, trainer.data_collator = hf.make_data(N), collator
    message = (
        r"^HuggingFaceLossRecorder saw no losses in this run: its batches need the ids that the "
        r"train_dataset and the data_collator have since attach, and labels under 'labels' or one "
        r"of the trainer's label_names; its model has to give logits\.$"
    )
    with pytest.raises(InvalidDataError, match=message):
        trainer.train()
    assert trainer.state.global_step == 1  # and not at the end of a long run


def test_samples_grouped_by_length_are_refused(hf, tmp_path):
    old = "group_by_length" in {field.name for field in fields(hf.transformers.TrainingArguments)}
    grouped = {"group_by_length": True} if old else {"train_sampling_strategy": "group_by_length"}
    trainer = hf.make_trainer(tmp_path, N, **grouped)
    with pytest.raises(InvalidDataError) as caught:
        hf.HuggingFaceLossRecorder().attach(trainer)
    assert str(caught.value) == (
        "The 'trainer' parameter of HuggingFaceLossRecorder must be one that draws samples in any "
        "order. Got one with group_by_length instead."
    )


def test_a_cell_that_attaches_again_changes_nothing(hf, tmp_path):
    trainer = hf.make_trainer(tmp_path, N)
    recorder = hf.HuggingFaceLossRecorder().attach(trainer)
    assert recorder.attach(trainer) is recorder
    trainer.train()
    assert recorder.loss_history_.shape == (N, 2)


@pytest.mark.parametrize("step", [4, 6, 9], ids=["inside", "at the end", "in the second"])
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(hf, tmp_path, step):
    settings = {"save_strategy": "steps", "save_steps": step, "dataloader_num_workers": 0}
    _, whole, by_hand = hf.run(tmp_path, N, **settings)
    assert (tmp_path / f"checkpoint-{step}" / "lossnoise_losses.pt").exists()
    trainer = hf.make_trainer(tmp_path, N, **settings)
    recorder = hf.HuggingFaceLossRecorder().attach(trainer)
    trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert by_hand.check(recorder.loss_history_) == 2 * N
    np.testing.assert_array_equal(recorder.loss_history_, whole.loss_history_)


@pytest.mark.parametrize("foreign", [False, True], ids=["no file", "another file"])
def test_a_checkpoint_without_losses_is_told(hf, tmp_path, foreign):
    settings = {"save_strategy": "epoch"}
    hf.make_trainer(tmp_path, N, **settings).train()
    if foreign:
        torch.save({"weights": torch.zeros(2)}, tmp_path / "checkpoint-6" / "lossnoise_losses.pt")
    trainer = hf.make_trainer(tmp_path, N, **settings)
    recorder = hf.HuggingFaceLossRecorder().attach(trainer)
    with pytest.warns(CheckpointWarning, match=r"^HuggingFaceLossRecorder cannot read the losses"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert np.isnan(recorder.loss_history_[:, 0]).all()
    assert np.isfinite(recorder.losses_).all()


@pytest.mark.slow
@pytest.mark.parametrize("samples", [32, 27], ids=["even", "padded"])
def test_each_of_two_ranks_has_all_losses(hf, on_two_ranks, samples):
    first, second = on_two_ranks("run_huggingface.py", samples)
    np.testing.assert_array_equal(first["history"], second["history"])
    assert np.isfinite(first["history"]).all()
    rows = [first["by_hand"], second["by_hand"]]
    by_hand = hf.ByHand.merged(hf.make_labels(samples), rows)
    assert by_hand.check(first["history"]) == 2 * samples
