"""The page in a real browser, without a network: search, choose, download, and the way back."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest

from lossnoise import audit

sync_api = pytest.importorskip("playwright.sync_api")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "=1+2", 'say "hi", é\n']

# Filters a page of 2,000 cards in several ways, layout and all; returns the best of each in ms.
TIME_FILTERS = """() => {
  const search = document.getElementById("search");
  const set = (text) => {
    search.value = text;
    search.dispatchEvent(new Event("input", {bubbles: true}));
  };
  return ["7", "class 3", "no such row", ""].map((text) => {
    const times = [];
    for (let i = 0; i < 5; i++) {
      set(text === "" ? "no such row" : "");
      document.body.offsetHeight;
      const start = performance.now();
      set(text);
      document.body.offsetHeight;
      times.push(performance.now() - start);
    }
    return Math.min(...times);
  });
}"""


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        reason = f"no browser: none of {', '.join(BROWSERS)} is installed"
        if os.environ.get("LOSSNOISE_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Open a report's page offline; afterwards, nothing may have been said or asked."""
    contexts, said = [], []

    def listen(page):
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.accept()))
        page.on("request", lambda request: check_request(request.url))

    def check_request(url):
        if not url.startswith(("file:", "data:", "blob:")):
            said.append(url)

    def make(report, inputs=None, width=1280, **options):
        path = tmp_path / "report.html"
        scheme = options.pop("color_scheme", "light")
        report.to_html(path, inputs, **options)
        size = {"width": width, "height": 800}
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        listen(page)
        page.goto(path.as_uri())
        return page

    yield make
    for context in contexts:
        context.close()
    assert said == []


def make_report(labels, **options):
    """Return a report that suggests the next label for each; rows are worst first."""
    classes = list(dict.fromkeys(labels))
    codes = np.array([classes.index(label) for label in labels])
    probs = np.full((len(labels), len(classes)), 0.1 / len(classes))
    probs[np.arange(len(labels)), (codes + 1) % len(classes)] += 0.9
    wrong = np.linspace(0.99, 0.01, len(labels))
    return audit(
        np.array(labels, dtype=object),
        pred_probs=probs / probs.sum(axis=1, keepdims=True),
        noise_proba=wrong,
        class_names=classes,
        **options,
    )


@pytest.fixture
def report():
    labels = (["cat", "dog", "owl"] * 4)[:10]
    return make_report(labels, index=[f"id{i}" for i in range(10)])


@pytest.fixture
def inputs():
    return [f"text number {i} {'even' if i % 2 == 0 else 'odd'}" for i in range(10)]


def shown(page):
    """Return the ids of the cards that are to be seen, in order."""
    cards = page.locator(".card:visible .where bdi")
    return [int(text.removeprefix("id")) for text in cards.all_text_contents()]


def card(page, row):
    return page.locator(".card").filter(has=page.get_by_text(f"id{row}", exact=True))


def press(page, row, kind):
    card(page, row).locator(f'[data-choose="{kind}"]').click()


def review(page, tmp_path):
    with page.expect_download() as download:
        page.get_by_role("button", name="Download review.csv").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    return path


def changes_of(report, path):
    reviewed = report.apply_review(path)
    return {change.position: change.new_label for change in reviewed.changes}


# -- search, filter, sort ---------------------------------------------------------------------


def test_search_finds_ids_labels_and_texts(report, inputs, open_page):
    page = open_page(report, inputs)
    assert shown(page) == list(range(10))
    assert page.locator("#count").text_content() == "10 rows"
    for text, expected in [("id7", [7]), ("EVEN number", [0, 2, 4, 6, 8]), ("given", [])]:
        page.locator("#search").fill(text)
        assert shown(page) == expected
    assert page.locator("#count").text_content() == "0 of 10 rows"
    page.get_by_role("button", name="Show all rows").click()
    assert shown(page) == list(range(10))


def test_filters_by_label_and_by_state(report, inputs, open_page):
    page = open_page(report, inputs)
    page.locator("#given").select_option(label="dog (3)")
    assert shown(page) == [1, 4, 7]
    press(page, 4, "suggested")
    page.locator("#state").select_option("open")
    assert shown(page) == [1, 7]
    page.locator("#state").select_option("done")
    assert shown(page) == [4]
    page.locator("#suggested").select_option(label="cat (3)")
    assert shown(page) == []


def test_a_number_of_the_matrix_shows_its_rows(report, inputs, open_page):
    page = open_page(report, inputs)
    page.locator('.matrix button[title="cat → dog"]').click()
    assert shown(page) == [0, 3, 6, 9]


def test_sorting(report, inputs, open_page):
    page = open_page(report, inputs)
    page.locator("#sort").select_option("given")
    assert shown(page) == [0, 3, 6, 9, 1, 4, 7, 2, 5, 8]
    page.locator("#sort").select_option("position")
    assert shown(page) == list(range(10))


@pytest.mark.filterwarnings("ignore:Only 0% of the labels")  # each is contradicted, by a rule
def test_two_thousand_cards_are_filtered_at_once(open_page):
    labels = [f"class {i % 10}" for i in range(2000)]
    pictures = np.random.default_rng(0).integers(256, size=(2000, 8, 8, 3), dtype=np.uint8)
    page = open_page(make_report(labels), pictures, budget=2000)
    assert page.locator(".card").count() == 2000
    assert max(page.evaluate(TIME_FILTERS)) < 200.0


# -- choosing ---------------------------------------------------------------------------------


def test_choices_come_back_as_exactly_these_changes(report, inputs, open_page, tmp_path):
    page = open_page(report, inputs)
    download = page.get_by_role("button", name="Download review.csv")
    assert download.is_disabled()
    press(page, 0, "suggested")
    press(page, 1, "given")
    press(page, 2, "other")
    page.get_by_role("button", name="dog", exact=True).click()
    press(page, 3, "suggested")
    press(page, 3, "suggested")  # and back
    press(page, 4, "given")
    press(page, 4, "suggested")  # another mind
    assert page.locator("#progress").text_content() == "4 of 10 chosen"
    path = review(page, tmp_path)
    assert path.name == "review.csv"
    assert changes_of(report, path) == {0: "dog", 2: "dog", 4: "owl"}
    assert report.apply_review(path).num_reviewed == 4
    frame = pd.read_csv(path)
    assert list(frame) == ["index", "given_label", "suggested_label", "review", "row_key"]
    assert frame["index"].tolist() == ["id0", "id1", "id2", "id4"]
    assert page.locator("#progress").text_content() == "4 choices downloaded"


def test_hostile_names_are_harmless_and_come_back(open_page, tmp_path):
    report = make_report(HOSTILE * 3, index=[f"{name}{i}" for i, name in enumerate(HOSTILE * 3)])
    page = open_page(report, HOSTILE * 3, title=HOSTILE[1])
    assert page.title() == HOSTILE[1]
    assert page.locator("body img").count() == 0
    for at in range(8):
        page.locator(".card").nth(at).locator('[data-choose="suggested"]').click()
    page.locator("#search").fill("onerror")
    assert page.locator(".card:visible").count() == 6
    page.locator(".card").nth(8).locator('[data-choose="other"]').dispatch_event("click")
    page.locator("#options button").nth(2).click()
    path = review(page, tmp_path)
    expected = {at: (HOSTILE * 3)[at + 1] for at in range(8)} | {8: HOSTILE[2]}
    assert changes_of(report, path) == expected
    first = path.read_text("utf-8-sig").splitlines()[3]
    assert first.startswith("'=1+22,'=1+2,")


def test_a_label_that_no_file_can_name_cannot_be_chosen(open_page):
    page = open_page(audit([1, "1", "x"], noise_proba=[0.9, 0.8, 0.7]))
    assert page.locator(".choice:disabled").count() == 2
    page.locator('[data-choose="other"]').first.click()
    assert page.locator("#options button").all_text_contents() == ["x"]


def test_class_names_are_shown_and_integer_labels_come_back(open_page, tmp_path):
    labels = np.arange(6) % 2
    report = audit(
        labels,
        pred_probs=np.full((6, 2), 0.5),
        noise_proba=np.linspace(0.9, 0.1, 6),
        class_names=["cat", "dog"],
    )
    page = open_page(report)
    page.locator('[data-choose="suggested"]').first.click()
    assert changes_of(report, review(page, tmp_path)) == {0: 1}


def test_choices_survive_a_reload_and_belong_to_these_labels(report, inputs, open_page, tmp_path):
    page = open_page(report, inputs)
    press(page, 0, "suggested")
    press(page, 2, "other")
    page.get_by_role("button", name="dog", exact=True).click()
    review(page, tmp_path)  # so that leaving asks nothing
    page.wait_for_timeout(500)  # the browser writes down what is stored when it finds time
    page.reload()
    assert page.locator("#progress").text_content() == "2 of 10 chosen"
    assert card(page, 2).locator('[aria-pressed="true"]').text_content() == "Other dog"
    assert changes_of(report, review(page, tmp_path)) == {0: "dog", 2: "dog"}
    page.evaluate("() => { localStorage.setItem(localStorage.key(0), 'no JSON'); }")
    page.reload()
    assert page.locator("#progress").text_content() == "0 of 10 chosen"


def test_choices_of_rows_that_a_page_does_not_show_are_kept(report, inputs, open_page, tmp_path):
    page = open_page(report, inputs)
    press(page, 1, "suggested")
    press(page, 8, "suggested")
    review(page, tmp_path)
    report.to_html(tmp_path / "report.html", inputs, budget=3)
    page.reload()
    assert page.locator("#progress").text_content() == "1 of 3 chosen"
    press(page, 0, "given")
    review(page, tmp_path)
    report.to_html(tmp_path / "report.html", inputs)
    page.reload()
    assert page.locator("#progress").text_content() == "3 of 10 chosen"


def test_a_page_without_storage_works(report, browser, tmp_path):
    context = browser.new_context(offline=True)
    forbid = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }});"
    context.add_init_script(forbid)
    page = context.new_page()
    report.to_html(tmp_path / "report.html")
    page.goto((tmp_path / "report.html").as_uri())
    press(page, 0, "suggested")
    assert changes_of(report, review(page, tmp_path)) == {0: "dog"}
    context.close()


def test_leaving_with_choices_that_were_not_downloaded_asks(report, browser, tmp_path):
    context = browser.new_context(offline=True)
    page = context.new_page()
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    report.to_html(tmp_path / "report.html")
    page.goto((tmp_path / "report.html").as_uri())
    page.reload()
    press(page, 0, "suggested")
    review(page, tmp_path)
    page.reload()
    assert asked == []
    press(page, 1, "suggested")
    page.reload()
    assert asked == ["beforeunload"]
    context.close()


# -- keys -------------------------------------------------------------------------------------


def test_a_review_by_keys_alone(report, inputs, open_page, tmp_path):
    page = open_page(report, inputs)
    for key in ["s", "s", "g", "j", "k", "o"]:  # the first one goes to the first row
        page.keyboard.press(key)
    page.keyboard.type("do")
    page.keyboard.press("Enter")
    for key in ["j", "s", "k", "u", "/"]:
        page.keyboard.press(key)
    page.keyboard.type("id9")
    page.keyboard.press("Enter")
    page.keyboard.press("g")
    assert page.locator("#progress").text_content() == "4 of 10 chosen"
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()
    assert changes_of(report, review(page, tmp_path)) == {0: "dog", 2: "dog"}


def test_a_key_pressed_as_the_list_closes_is_not_undone(report, inputs, open_page):
    page = open_page(report, inputs)
    page.keyboard.press("j")
    page.keyboard.press("o")
    on_second = """() => {
        document.getElementById("chooser").close();
        const key = new KeyboardEvent("keydown", {key: "j", bubbles: true});
        document.activeElement.dispatchEvent(key);
        return new Promise((done) => setTimeout(() => {
            done([...document.querySelectorAll(".card")].indexOf(document.activeElement));
        }, 100));
    }"""
    assert page.evaluate(on_second) == 1


def test_every_control_is_reached_by_tab(report, inputs, open_page):
    page = open_page(report, inputs)
    page.locator("#sort").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.locator("#progress").text_content() == "1 of 10 chosen"


def test_the_list_of_labels_is_walked_by_arrows(report, open_page):
    page = open_page(report)
    press(page, 0, "other")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert card(page, 0).locator('[aria-pressed="true"] .label').text_content() == "dog"
    press(page, 1, "given")
    press(page, 1, "other")
    page.get_by_role("button", name="Take the choice back").click()
    assert page.locator("#progress").text_content() == "1 of 10 chosen"


# -- looks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 390, 800])
def test_narrow_screens_never_scroll_sideways(width, open_page):
    labels = ["a-very-long-label-without-any-space-" * 3, "short", "x" * 200, *map(str, range(9))]
    report = make_report(labels * 5, index=[f"{'path/' * 30}{i}.png" for i in range(60)])
    for inputs in (None, ["word" * 300] * 60, np.zeros((60, 30)), np.zeros((60, 4, 4))):
        page = open_page(report, inputs, width=width, title="T" * 300)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_mode_changes_the_colours(report, open_page):
    def colours(page):
        style = "getComputedStyle(document.body)"
        return page.evaluate(f"[{style}.backgroundColor, {style}.color]")

    light, dark = (colours(open_page(report, color_scheme=s)) for s in ("light", "dark"))
    assert light[0] != dark[0]
    assert light[1] != dark[1]


def test_print_has_all_cards_dark_on_white_and_no_controls(report, inputs, open_page):
    page = open_page(report, inputs, color_scheme="dark")
    page.locator("#search").fill("id3")
    page.emulate_media(media="print")
    assert page.locator(".card:visible").count() == 10
    for control in ("#filters", "#bar", "nav"):
        assert not page.locator(control).is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf()[:5] == b"%PDF-"


def test_long_texts_open(open_page):
    page = open_page(make_report(["a", "b"]), ["word " * 300, "short"])
    text = page.locator(".card .text").first
    before = text.bounding_box()["height"]
    page.get_by_role("button", name="Show all", exact=True).click()
    assert text.bounding_box()["height"] > before
