"""The audits of pictures, run as a user would run them."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossnoise import NoisyLabelTrainer

EXAMPLES = Path(__file__).parents[2] / "examples"

pytest.importorskip("jinja2")
pytest.importorskip("pandas")


def test_wrong_pictures_are_found_and_corrected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    found = runpy.run_path(str(EXAMPLES / "audit_images.py"))
    changed, flagged = found["changed"], found["flagged"]
    assert changed[flagged].mean() > 0.9
    assert changed[flagged].sum() > 0.9 * changed.sum()
    assert found["mended"] > 0.9
    assert found["after"] < found["before"] - 0.05
    page = Path("audit_images.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") >= 100
    assert "seven" in page


@pytest.fixture
def folder(tmp_path):
    """A folder of 60 pictures: red ones and blue ones, of which five lie in the wrong place."""
    rng = np.random.default_rng(0)
    root = tmp_path / "pictures"
    for i in range(60):
        blue = i % 2
        wrong = i < 5
        place = root / ("blue & <b>" if blue != wrong else "red")
        place.mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 80, (16, 16, 3), dtype=np.uint8)
        picture[:, :, 2 if blue else 0] += 150
        Image.fromarray(picture).save(place / f"{i:03d}.png")
    return root


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.LossNoiseWarning")
def test_a_folder_is_trained_on_resumed_and_reported(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = runpy.run_path(str(EXAMPLES / "train_folder.py"))
    out = tmp_path / "run"
    options = f"--model small --size 16 --epochs 3 --batch-size 10 --lr 0.02 --out {out}"
    example["main"]([str(folder), *options.split()])
    assert {path.name for path in out.iterdir()} == {
        "audit.html",
        "checkpoints",
        "history.csv",
        "issues.csv",
        "losses.npz",
        "trainer.pt",
    }
    with np.load(out / "losses.npz", allow_pickle=False) as file:
        losses = file["losses"]
        assert file["loss_history"].shape == (60, 3)
        assert sorted(set(file["labels"].tolist())) == [0, 1]
    assert "blue &amp; &lt;b&gt;" in (out / "audit.html").read_text("utf-8")
    rows = (out / "issues.csv").read_text("utf-8-sig").splitlines()
    assert len(rows) == 61
    assert ".png" in rows[1]
    assert "AuditReport: " in capsys.readouterr().out

    trained = []
    monkeypatch.setattr(NoisyLabelTrainer, "request_stop", lambda self: trained.append(1))
    example["main"]([str(folder), *options.split()])  # everything is there already
    assert not trained
    with np.load(out / "losses.npz", allow_pickle=False) as file:
        assert np.array_equal(file["losses"], losses)
