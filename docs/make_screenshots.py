"""Make docs/_static/audit_report.png: the report on scikit-learn's digits with wrong labels.

    python docs/make_screenshots.py

Needs the extras ``audit`` and ``test``, and a chromium or chrome.
"""

import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_predict
from sklearn.svm import SVC

from lossnoise import audit
from lossnoise.noise import inject_noise

TARGET = Path(__file__).parent / "_static" / "audit_report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, HEIGHT = 1180, 1350
FLIPPED = 0.15
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


def photograph(page_file: Path, target: Path) -> None:
    """Save a picture of the page, in 128 colours."""
    path = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(page_file.as_uri())
        page.screenshot(path=target)
        browser.close()
    Image.open(target).quantize(128).save(target, optimize=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write_report(Path(folder) / "report.html")
        photograph(Path(folder) / "report.html", TARGET)
