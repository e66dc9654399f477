"""The page: what it says, that nothing of the data becomes code, and its size."""

import builtins
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_predict
from sklearn.naive_bayes import GaussianNB

from lossnoise import BetaMixtureNoiseDetector, audit
from lossnoise.audit._charts import BARS, HEIGHT, draw_losses, draw_matrix, nice_ticks, shade
from lossnoise.audit._words import headline, percent
from lossnoise.exceptions import InvalidDataError, MissingExtraError

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "=1+2", "</textarea>"]


class Page(HTMLParser):
    """Elements as ``(tag, attributes)``, and the text outside scripts and styles."""

    def __init__(self, source):
        super().__init__()
        self.elements, self._texts, self._open, self.data = [], [], None, None
        self.feed(source)
        self.close()
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data):
        if self._open == "script":
            self.data = self.data or json.loads(data)
        elif self._open != "style":
            self._texts.append(data)

    def handle_endtag(self, tag):
        self._open = None

    def all(self, tag, name=None):
        found = [attrs for one, attrs in self.elements if one == tag]
        return [a for a in found if name is None or name in (a.get("class") or "").split()]


@pytest.fixture
def page_of(tmp_path):
    def read(report, inputs=None, **options):
        path = tmp_path / "report.html"
        report.to_html(path, inputs, **options)
        return Page(path.read_text("utf-8"))

    return read


def spoken(share):
    return percent(share).replace("\xa0", " ")


def make_losses(n=300, wrong=60):
    rng = np.random.default_rng(0)
    return np.r_[rng.gamma(1.0, 0.2, n - wrong), rng.normal(4.0, 0.5, wrong)]


def make_probs(labels, num_classes, wrong):
    """Return predictions that are sure of a label, and of the next class in wrong rows."""
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(len(labels)) < wrong, (labels + 1) % num_classes, labels)
    logits = rng.normal(size=(len(labels), num_classes))
    logits[np.arange(len(labels)), labels] += 6.0
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.fixture
def told():
    """A report of 300 rows of 3 classes with suggestions, 60 of them wrong."""
    labels = np.arange(300) % 3
    return audit(labels, pred_probs=make_probs(labels, 3, 60), class_names=["cat", "dog", "owl"])


# -- what it says -----------------------------------------------------------------------------


def test_the_page_says_what_the_summary_says(told, page_of):
    page, summary = page_of(told, budget=50, title="My labels"), told.summary
    count = summary["num_issues"]
    assert page.text.startswith("My labels Skip to the rows My labels")
    assert f"{count} of 300 labels are likely wrong" in page.text
    assert summary["verdict"] in page.text
    assert f"Wrong labels, estimated {spoken(summary['noise_rate'])}" in page.text
    assert "Expected precision" in page.text
    assert len(page.all("article", "card")) == 50
    for one in summary["per_class"]:
        name = told.show_label(one["label"])
        rate = spoken(one["noise_rate"])
        assert f"{name} {one['n']} {one['num_issues']} {rate}" in page.text


def test_cards_have_labels_probability_loss_and_id(page_of):
    report = audit(
        ["a", "b"], pred_probs=[[0.1, 0.9], [0.2, 0.8]], noise_proba=[0.97, 0.1], index=["r7", "r8"]
    )
    page = page_of(report)
    card = "97.0 % likely wrong index r7 loss 2.3 Suggested b 90.0 % Given a Other …"
    assert card in page.text
    assert [row["key"] for row in page.data["rows"]] == [
        f"row-{report.fingerprint}-7a5b-0",
        f"row-{report.fingerprint}-1e1b-1",
    ]


def test_flagged_rows_of_losses_that_cannot_tell_come_without_a_precision(page_of):
    flowers, labels = load_iris(return_X_y=True)  # on some of which any model errs
    probs = cross_val_predict(GaussianNB(), flowers, labels, method="predict_proba")
    with pytest.warns(UserWarning, match=r"How many of the \d rows that are flagged"):
        report = audit(labels, pred_probs=probs)
    assert report.summary["num_issues"] > 0
    text = page_of(report).text
    assert "Expected precision unknown because these losses cannot tell" in text
    assert "On this page 150 worst rows Review" in text
    assert "expected to be wrong" not in text
    assert "should be label errors" not in text


def test_losses_that_cannot_tell_say_so_and_never_look_clean(page_of):
    losses = np.random.default_rng(0).gamma(1.0, 0.2, 300)
    with pytest.warns(UserWarning, match="Cannot tell"):
        report = audit(np.arange(300) % 3, losses=losses)
    text = page_of(report).text
    verdict = "They look like one population, as is usual with so few rows. That is no proof"
    assert f"Cannot tell from these losses {verdict}" in text
    assert "Wrong labels, estimated unknown up to" in text
    assert "Flagged rows none because these losses cannot tell" in text
    assert "not evidence of wrong labels" in text
    assert "0 100 0 unknown" in text
    assert "likely wrong" not in text
    for word in ("clean", " 0.0 %"):
        assert word not in text


def test_rows_that_were_left_out_are_said(page_of):
    report = audit([0.0, np.nan, 1.0], noise_proba=[0.9, 0.5, 0.1], on_nan="drop")
    page = page_of(report, ["first", "second", "third"])
    assert "1 further rows with missing values were left out." in page.text
    assert "first" in page.text
    assert "third" in page.text
    assert "second" not in page.text


def test_flagged_rows_that_are_not_on_the_page_are_said(told, page_of):
    count = told.summary["num_issues"]
    all_of_them = f"to_html(..., budget={count}) or lossnoise audit --budget {count} shows all"
    few, most = page_of(told, budget=10).text, page_of(told, budget=count - 1).text
    assert f"{count - 10} flagged rows are not on this page: {all_of_them} of them." in few
    assert f"1 flagged row is not on this page: {all_of_them} of them." in most
    for budget in (count, 200):
        assert "not on this page" not in page_of(told, budget=budget).text


def test_without_suggestions_there_is_no_matrix(page_of):
    page = page_of(audit(list("abab"), noise_proba=[0.9, 0.1, 0.8, 0.2]))
    assert page.all("table", "matrix") == page.all("section", "wall") == []
    assert {b["data-choose"] for b in page.all("button", "choice")} == {"given", "other"}
    assert page.data["rows"][0]["suggested"] == -1


@pytest.mark.parametrize(
    "labels",
    [
        np.array([True, False] * 6),
        np.array([0.5, 2.0] * 6),
        [None, (1, 2)] * 6,
        [b"x", b"y"] * 6,
        np.array(["2024-01-01", "2024-01-02"] * 6, "datetime64[D]"),
        pd.Series(["a", "b"] * 6, dtype="category"),
        pd.Series([1, 2] * 6, dtype="Int64"),
    ],
    ids=lambda labels: str(getattr(labels, "dtype", "list")),
)
def test_labels_of_all_types_are_shown_and_can_be_chosen(labels, page_of, tmp_path):
    options = {"noise_proba": np.linspace(0.9, 0.1, 12)}
    if not isinstance(labels, list):
        options["pred_probs"] = np.full((12, 2), 0.5)
    report = audit(labels, **options)
    page = page_of(report)
    assert len(page.all("article", "card")) == 12
    assert all("review" in label for label in page.data["labels"])
    row, choices = page.data["rows"][0], page.data["labels"]
    review = choices[1 - row["given"]]["review"]
    path = tmp_path / "review.csv"
    path.write_text(f'review,row_key\n"{review}",{row["key"]}\n', "utf-8")
    (change,) = report.apply_review(path).changes
    assert (change.position, change.new_label) == (0, list(labels)[1])


def test_none_may_be_a_suggested_label(page_of):
    probs = [[0.1, 0.9], [0.9, 0.1]]
    report = audit([1, 1], pred_probs=probs, noise_proba=[0.1, 0.9], class_names=[1, None])
    assert "Suggested None 10.0" in page_of(report).text


def test_the_matrix_is_for_few_classes_and_else_there_are_pairs(told, page_of):
    few = page_of(told)
    assert len(few.all("table", "matrix")) == 1
    counts = [b for b in few.all("button") if "data-given" in b]
    assert len(counts) == len(told.summary["given_to_suggested"])
    labels = np.arange(300) % 30
    many = page_of(audit(labels, pred_probs=make_probs(labels, 30, 60)))
    assert many.all("table", "matrix") == []
    assert "The most frequent pairs among the flagged rows." in many.text


def test_a_thousand_classes_do_not_fill_the_page(page_of):
    labels = np.arange(2000) % 1000
    page = page_of(audit(labels, noise_proba=np.linspace(0, 1, 2000)), budget=10)
    assert "The 200 of 1,000 classes with the most flagged rows." in page.text


def test_the_wall_shows_flagged_pictures_of_all_classes(told, page_of):
    page = page_of(told, np.random.default_rng(0).random((300, 8, 8)))
    walls = page.all("figure")[1:]  # the first is the chart
    assert len(walls) == 24
    assert "Before and after Each picture with the label it has" in page.text
    assert all(img["class"] == "pixels" for img in page.all("img"))
    assert page_of(told, ["a text"] * 300).all("figure")[1:] == []


def test_conflicts_are_shown_where_inputs_are_in_memory(told, page_of):
    texts = [f"text {i}" for i in range(300)]
    assert "None: no two equal inputs have different labels." in page_of(told, texts).text
    texts[1] = texts[3] = texts[6] = "the same"
    text = page_of(told, texts).text
    assert "3 rows in 1 group: in each, at least one label is wrong" in text
    assert "the same dog index 1 cat index 3 cat index 6" in text
    texts[:200] = ["many"] * 200
    assert "and 188 more" in page_of(told, texts).text
    assert "Equal inputs with different" not in page_of(told).text


# -- charts -----------------------------------------------------------------------------------


def test_the_histogram_counts_all_rows_and_marks_the_threshold():
    losses = make_losses()
    report = audit(np.arange(300) % 3, losses=losses)
    chart = draw_losses(report)
    counted = [re.search(r": ([\d,]+) rows, (\d+) flagged", bar.title) for bar in chart.bars]
    assert sum(int(found[1]) for found in counted) == 300
    assert sum(int(found[2]) for found in counted) == report.summary["num_issues"]
    assert set(chart.curves) == {"right", "wrong"}
    assert chart.cut == pytest.approx(report.detector.threshold_)
    assert 0.0 < chart.cut_x < 1000.0
    assert chart.ticks[0] == "0"
    assert all(0.0 <= bar.height <= HEIGHT for bar in chart.bars)


@pytest.mark.parametrize(
    "losses", [np.full(20, 0.5), np.r_[np.zeros(200), 5.0], np.r_[make_losses(), [900.0]]]
)
def test_strange_losses_are_drawn(losses):
    report = audit(np.arange(len(losses)) % 2, losses=losses, noise_proba=np.full(len(losses), 0.2))
    assert draw_losses(report).bars
    report.detector = BetaMixtureNoiseDetector().fit(np.r_[make_losses(), losses])
    chart = draw_losses(report)
    assert all("nan" not in path and "inf" not in path for path in chart.curves.values())
    assert chart.has_tail == (losses.max() == 900.0)


def test_probabilities_are_drawn_where_losses_are_not_known(page_of):
    page = page_of(audit([0, 1, 0, 1], noise_proba=[0.9, 0.1, 0.6, 0.2]))
    assert "Probabilities" in page.text
    assert "threshold 0.5" in page.text


def test_groups_are_said(page_of):
    labels = np.arange(300) % 3
    report = audit(labels, losses=make_losses(), groups=labels)
    assert "Each group has a curve and a threshold of its own" in page_of(report).text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 7.1, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (0.02, 0.9, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3.0, 30.0, [-5, 0, 5, 10, 15, 20, 25, 30]),
        (2.0, 2.0, [2.0, 2.1]),
    ],
)
def test_ticks_are_round(low, high, expected):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert ticks[: len(expected)] == pytest.approx(expected[: len(ticks)])


def test_the_matrix_has_columns_for_labels_that_nobody_has():
    matrix = draw_matrix([{"given": "a", "suggested": "z", "count": 4}], ["a", "b"])
    assert [[cell.number for cell in line] for line in matrix] == [[0, 0, 4], [0, 0, 0], [0, 0, 0]]
    assert [shade(n, 100) for n in (0, 1, 50, 100)] == [0, 1, 4, 8]
    assert len(make_losses()) > BARS


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (None, "unknown"),
        (0.0, "0.0 %"),
        (0.0004, "<0.1 %"),
        (0.123, "12.3 %"),
        (0.9997, ">99.9 %"),
        (1.0, "100.0 %"),
    ],
)
def test_percent(share, expected):
    assert spoken(share) == expected


def test_headlines():
    summary = {"separable": None, "num_issues": 1, "n": 1200}
    assert headline(summary) == "1 of 1,200 labels is likely wrong"
    none = headline(summary | {"num_issues": 0})
    assert none == "None of 1,200 labels is more likely wrong than right"


# -- nothing of the data becomes code ---------------------------------------------------------


@pytest.fixture
def hostile():
    labels = np.array(HOSTILE * 5, dtype=object)
    probs = np.full((20, 4), 0.1)
    probs[np.arange(20), (np.arange(20) + 1) % 4] = 0.7
    index = [f"{label} {i}" for i, label in enumerate(labels)]
    return audit(
        labels,
        pred_probs=probs,
        noise_proba=np.linspace(1, 0, 20),
        index=pd.Index(index, name=HOSTILE[0]),
        class_names=HOSTILE,
    )


def test_hostile_names_are_text(hostile, page_of):
    plain = page_of(audit(list("abcd") * 5, noise_proba=np.linspace(1, 0, 20)))
    page = page_of(hostile, HOSTILE * 5, title=HOSTILE[1])
    allowed = {tag for tag, _ in plain.elements} | {"table", "ul"}
    assert {tag for tag, _ in page.elements} <= allowed
    assert len(page.all("script")) == 2
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on") or name in ("style", "action")]
        for name in ("src", "href"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/"))
    for text in HOSTILE:
        assert page.text.count(" ".join(text.split())) > 20


def test_hostile_rows_and_frames_are_text(hostile, page_of):
    frame = pd.DataFrame({HOSTILE[0]: HOSTILE * 5, HOSTILE[1]: range(20)})
    assert len(page_of(hostile, frame).all("script")) == 2


def test_the_page_forbids_itself_to_load_anything(told, tmp_path):
    told.to_html(tmp_path / "a.html", np.zeros((300, 4, 4)))
    source = (tmp_path / "a.html").read_text("utf-8")
    assert "http:" not in source
    assert "https:" not in source
    assert "url(" not in source
    assert "@import" not in source
    page = Page(source)
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_what_no_page_may_hold_is_replaced(page_of, tmp_path):
    labels = ["n\0ul", "half\ud800", "ok", " "]
    report = audit(labels, noise_proba=[0.9, 0.8, 0.7, 0.6], index=["\x1b", "b", "c", "d"])
    page = page_of(report, ["\0", "x", "y", "z"])
    assert "n\N{REPLACEMENT CHARACTER}ul" in page.text
    assert "half\N{REPLACEMENT CHARACTER}" in page.text
    can_be_chosen = [label["text"] for label in page.data["labels"] if "review" in label]
    assert can_be_chosen == ["ok"]


def test_labels_that_look_alike_cannot_be_chosen(page_of):
    page = page_of(audit([1, "1", "x"], noise_proba=[0.9, 0.8, 0.7]))
    assert ["review" in label for label in page.data["labels"]] == [False, False, True]


def test_cells_of_the_review_file_are_harmless(hostile, page_of):
    page = page_of(hostile)
    assert page.data["header"] == [
        HOSTILE[0],
        "given_label",
        "suggested_label",
        "review",
        "row_key",
    ]
    assert {label["review"] for label in page.data["labels"]} == {*HOSTILE[:2], "'=1+2", HOSTILE[3]}


# -- size, errors, notebooks ------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::lossnoise.exceptions.NoSeparableNoiseWarning")
def test_two_hundred_small_pictures_stay_under_two_megabytes(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    report = audit(labels, pred_probs=make_probs(labels, 3, 200))
    report.to_html(tmp_path / "a.html", rng.integers(256, size=(300, 32, 32, 3), dtype=np.uint8))
    assert (tmp_path / "a.html").stat().st_size < 2_000_000  # of noise, which no file shortens


def test_errors_in_full(told, tmp_path):
    path = tmp_path / "a.html"
    with pytest.raises(InvalidDataError) as caught:
        told.to_html(path, ["a"])
    assert str(caught.value) == (
        "The 'inputs' parameter of AuditReport.to_html must be of length 300, one entry per label. "
        "Got length 1 instead."
    )
    with pytest.raises(ValueError, match="'budget' parameter of AuditReport"):
        told.to_html(path, budget=0)
    assert not path.exists()


def test_a_page_needs_jinja_and_a_notebook_does_not(told, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "jinja2":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(
        "lossnoise._validation.import_module", lambda name: without(name) or real(name)
    )
    with pytest.raises(MissingExtraError, match="jinja2, which is not installed"):
        told.to_html(tmp_path / "a.html")
    assert "<table>" in told._repr_html_()


def test_notebooks_show_the_verdict_and_ten_rows(told, hostile):
    page = Page(told._repr_html_())
    assert told.summary["verdict"] in page.text
    assert "index given label suggested label P(wrong) loss" in page.text
    assert len(page.all("tr")) == 11
    assert "and 290 more rows" in page.text
    assert {tag for tag, _ in Page(hostile._repr_html_()).elements} == {
        *("div", "p", "strong", "br", "table", "thead", "tr", "th", "tbody", "td")
    }


def test_notebooks_say_where_losses_cannot_tell():
    with pytest.warns(UserWarning, match="Cannot tell"):
        report = audit([0] * 300, losses=np.random.default_rng(0).gamma(1.0, 0.2, 300))
    text = Page(report._repr_html_()).text
    assert text.startswith("Cannot tell from these losses They look like one population")
    assert "0.0" not in text


@pytest.mark.parametrize("unit", ["D", "us", "ns", "category"])
def test_dates_stay_dates_on_the_page(page_of, unit):
    days = np.array(["2024-01-01", "2024-01-02"], "datetime64[ns]")[np.arange(12) % 2]
    labels = pd.Categorical(days) if unit == "category" else days.astype(f"datetime64[{unit}]")
    report = audit(labels, pred_probs=[[0.1, 0.9]] * 12, noise_proba=[0.9, 0.1] * 6)
    assert all("2024-01-0" in one["label"] for one in report.summary["per_class"])
    page = page_of(report)
    assert "170406" not in page.text
    places = {b["data-given"] for b in page.all("button") if "data-given" in b}
    assert places == {str(page.data["rows"][0]["given"])}
