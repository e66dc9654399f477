"""Make docs/_static/audit_report.png and docs/_static/notebook.png.

    python docs/make_screenshots.py

The first is the report on scikit-learn's digits with wrong labels, the second what a notebook
shows. Needs the extras ``all`` and ``test``, ``pip install nbconvert ipykernel``, and a chromium or
chrome.
"""

import re
import shutil
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image
from playwright.sync_api import sync_playwright
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_predict
from sklearn.svm import SVC

from lossnoise import audit
from lossnoise.noise import inject_noise

STATIC = Path(__file__).parent / "_static"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, HEIGHT = 1180, 1350
NOTEBOOK_WIDTH = 900
FLIPPED = 0.15
CELLS = [
    """\
import torch
from lossnoise import AuditReport, LossMixtureDisplay, NoisyLabelTrainer
from lossnoise.noise import inject_noise
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

digits = load_digits()
images = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)
labels, changed = inject_noise(digits.target, 0.5, random_state=0)
train_set = TensorDataset(images, torch.as_tensor(labels))

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 16, 3, padding=1),
    torch.nn.BatchNorm2d(16),
    torch.nn.ReLU(),
    torch.nn.AdaptiveAvgPool2d(4),
    torch.nn.Flatten(),
    torch.nn.Linear(256, 10),
)
trainer = NoisyLabelTrainer(model, epochs=5, random_state=0, verbose=1)
trainer.fit(train_set)""",
    "LossMixtureDisplay.from_estimator(trainer.detector_, trainer.losses_);",
    "AuditReport.from_trainer(trainer, train_set)",
]
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def write_report(path: Path) -> None:
    """Audit digits of which some have another digit's label, by held-out predictions."""
    digits = load_digits()
    labels, _ = inject_noise(
        digits.target, FLIPPED, num_classes=10, include_true=False, random_state=0
    )
    model = CalibratedClassifierCV(SVC(), ensemble=False)
    pred_probs = cross_val_predict(model, digits.data, labels, cv=5, method="predict_proba")
    report = audit(labels, pred_probs=pred_probs, class_names=NAMES)
    report.to_html(path, digits.images, title="Handwritten digits, 15 % of the labels flipped")


def write_notebook(path: Path) -> None:
    """Run the cells, and write what a notebook shows of them."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    NotebookClient(notebook, coalesce_streams=True).execute()
    for output in (output for cell in notebook.cells for output in cell.outputs):
        if output.output_type == "stream":  # a live notebook writes over what a \r leads back to
            output.text = re.sub(r"[^\n]*\r", "", output.text)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    path.write_text(page, "utf-8")


def photograph(page_file: Path, target: Path, width: int, height: int | None = None) -> None:
    """Save a picture of the page, or of its upper part, in 128 colours."""
    path = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height or 800})
        page.goto(page_file.as_uri())
        page.screenshot(path=target, full_page=height is None)
        browser.close()
    Image.open(target).quantize(128).save(target, optimize=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        report, notebook = Path(folder) / "report.html", Path(folder) / "notebook.html"
        write_report(report)
        photograph(report, STATIC / "audit_report.png", WIDTH, HEIGHT)
        write_notebook(notebook)
        photograph(notebook, STATIC / "notebook.png", NOTEBOOK_WIDTH)
