(() => {
  "use strict";
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("data").textContent);
  const { labels, rows } = data;
  const cards = [...document.querySelectorAll(".card")];
  const grid = find("cards");
  const controls = ["search", "given", "suggested", "state", "sort"];
  const collator = new Intl.Collator(undefined, { numeric: true });
  let order = rows.map((row, at) => at); // cards as they stand on the page

  // -- choices: row -> label, kept in this browser ---------------------------------------------

  const STORE = `lossnoise-review-${data.mark}`;
  const choices = new Map();
  let elsewhere = {}; // choices in rows that this page does not show
  let isSaved = true;

  function remember() {
    const chosen = { ...elsewhere };
    choices.forEach((label, at) => { chosen[rows[at].key] = labels[label].text; });
    try {
      localStorage.setItem(STORE, JSON.stringify({ chosen, isSaved }));
    } catch { /* no storage for files in this browser, or it is full */ }
  }

  function recall() {
    let stored;
    try {
      stored = JSON.parse(localStorage.getItem(STORE)) || {};
    } catch {
      return;
    }
    const places = new Map(rows.map((row, at) => [row.key, at]));
    const numbers = new Map();
    labels.forEach((label, number) => { if ("review" in label) numbers.set(label.text, number); });
    for (const [key, text] of Object.entries(stored.chosen || {})) {
      if (!places.has(key)) elsewhere[key] = text;
      else if (numbers.has(text)) choices.set(places.get(key), numbers.get(text));
    }
    isSaved = stored.isSaved !== false;
  }

  const canChoose = (label) => label >= 0 && "review" in labels[label];

  function choose(at, label) {
    if (!canChoose(label)) return false;
    choices.set(at, label);
    changed(at);
    return true;
  }

  function takeBack(at) {
    if (choices.delete(at)) changed(at);
  }

  function changed(at) {
    isSaved = false;
    remember();
    showChoice(at);
    showProgress();
  }

  function showChoice(at) {
    const row = rows[at];
    const chosen = choices.get(at);
    const kind = chosen === undefined ? null
      : chosen === row.suggested ? "suggested"
        : chosen === row.given ? "given" : "other";
    cards[at].classList.toggle("done", kind !== null);
    for (const button of cards[at].querySelectorAll(".choice")) {
      const isPressed = button.dataset.choose === kind;
      button.setAttribute("aria-pressed", isPressed);
      if (button.dataset.choose === "other") {
        button.querySelector(".label").textContent = isPressed ? labels[chosen].text : "…";
      }
    }
  }

  function showProgress(note = "") {
    const count = choices.size;
    find("progress").textContent = note || `${count} of ${rows.length} chosen`;
    find("download").disabled = count === 0;
  }

  // -- the file that apply_review reads --------------------------------------------------------

  const quote = (cell) => (/[",;\t\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

  function reviewFile() {
    const lines = [data.header];
    rows.forEach((row, at) => {
      if (!choices.has(at)) return;
      const suggested = row.suggested < 0 ? "" : labels[row.suggested].cell;
      const review = labels[choices.get(at)].review;
      lines.push([row.index, labels[row.given].cell, suggested, review, row.key]);
    });
    return `\ufeff${lines.map((line) => line.map(quote).join(",")).join("\r\n")}\r\n`;
  }

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([reviewFile()], { type: "text/csv;charset=utf-8" }));
    link.download = "review.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    isSaved = true;
    remember();
    showProgress(`${choices.size} ${choices.size === 1 ? "choice" : "choices"} downloaded`);
  }

  // -- search, filters, order ------------------------------------------------------------------

  const texts = rows.map((row, at) => {
    const input = cards[at].querySelector(".input");
    const parts = [row.find, labels[row.given].text, row.suggested < 0 ? "" : labels[row.suggested].text];
    return [...parts, input ? input.textContent : ""].join("\n").toLowerCase();
  });
  const valueOf = (name) => (find(name) ? find(name).value : "");

  function filter() {
    const words = valueOf("search").toLowerCase().split(/\s+/).filter(Boolean);
    const [given, suggested, state] = ["given", "suggested", "state"].map(valueOf);
    let count = 0;
    rows.forEach((row, at) => {
      const fits = (given === "" || row.given === Number(given))
        && (suggested === "" || row.suggested === Number(suggested))
        && (state === "" || choices.has(at) === (state === "done"))
        && words.every((word) => texts[at].includes(word));
      if (cards[at].hidden === fits) cards[at].hidden = !fits;
      count += fits;
    });
    find("count").textContent = count === rows.length ? `${count} rows` : `${count} of ${rows.length} rows`;
    find("empty").hidden = count > 0;
  }

  const textOf = (label) => (label < 0 ? "" : labels[label].text);
  const falling = (name) => (a, b) => (rows[b][name] ?? -Infinity) - (rows[a][name] ?? -Infinity) || a - b;
  const byLabel = (name) => (a, b) => collator.compare(textOf(rows[a][name]), textOf(rows[b][name])) || a - b;
  const orders = {
    rank: (a, b) => a - b,
    loss: falling("loss"),
    confidence: falling("confidence"),
    given: byLabel("given"),
    suggested: byLabel("suggested"),
    position: (a, b) => rows[a].position - rows[b].position,
  };

  function sort() {
    order = order.sort(orders[find("sort").value]);
    grid.append(...order.map((at) => cards[at]));
  }

  function showAll() {
    controls.slice(0, 4).forEach((name) => { if (find(name)) find(name).value = ""; });
    filter();
  }

  function showPair({ given, suggested }) {
    showAll();
    find("given").value = given;
    if (find("suggested")) find("suggested").value = suggested;
    filter();
    find("review").scrollIntoView();
  }

  function fillFilter(name) {
    const counts = new Map();
    rows.forEach((row) => counts.set(row[name], (counts.get(row[name]) || 0) + 1));
    labels.forEach((label, number) => {
      // Also labels without a row here: the matrix counts all rows.
      if (find(name)) find(name).append(new Option(`${label.text} (${counts.get(number) || 0})`, number));
    });
  }

  // -- the list of all labels ------------------------------------------------------------------

  const chooser = find("chooser");
  let asking = null; // the row that the list is open for

  function fillOptions() {
    labels.forEach((label, number) => {
      if (!canChoose(number)) return;
      const option = document.createElement("button");
      option.type = "button";
      option.value = number;
      option.textContent = label.text;
      find("options").append(option);
    });
  }

  function narrow() {
    const word = find("chooser-search").value.trim().toLowerCase();
    for (const option of find("options").children) {
      option.hidden = !option.textContent.toLowerCase().includes(word);
    }
  }

  function ask(at) {
    asking = at;
    find("chooser-search").value = "";
    narrow();
    find("chooser-undo").hidden = !choices.has(at);
    chooser.showModal();
    find("chooser-search").focus();
  }

  function answer(option) {
    if (!option) return;
    choose(asking, Number(option.value));
    chooser.close();
  }

  function moveInList(event) {
    const shown = [...find("options").children].filter((option) => !option.hidden);
    const at = shown.indexOf(document.activeElement);
    if (event.key === "ArrowDown") shown[Math.min(at + 1, shown.length - 1)]?.focus();
    else if (event.key === "ArrowUp") (at > 0 ? shown[at - 1] : find("chooser-search")).focus();
    else if (event.key === "Enter" && at < 0) answer(shown[0]);
    else return;
    event.preventDefault();
  }

  // -- keys ------------------------------------------------------------------------------------

  const current = () => cards.indexOf(document.activeElement?.closest(".card"));

  function step(by) {
    const shown = order.filter((at) => !cards[at].hidden);
    const place = shown.indexOf(current());
    const next = place < 0 ? 0 : Math.min(Math.max(place + by, 0), shown.length - 1);
    cards[shown[next]]?.focus({ preventScroll: true });
    cards[shown[next]]?.scrollIntoView({ block: "nearest", behavior: "instant" });
  }

  const keysOfPage = {
    j: () => step(1),
    k: () => step(-1),
    "/": () => find("search").focus(),
    "?": () => find("keys").showModal(),
  };
  const keysOfCard = {
    s: (at) => choose(at, rows[at].suggested) && step(1),
    g: (at) => choose(at, rows[at].given) && step(1),
    o: (at) => ask(at),
    u: (at) => takeBack(at),
  };

  function onKey(event) {
    const isTyping = event.target.closest("input, select, dialog");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (Object.hasOwn(keysOfPage, key)) keysOfPage[key]();
    else if (!Object.hasOwn(keysOfCard, key)) return;
    else if (current() >= 0) keysOfCard[key](current());
    else step(1); // to the first row: there is none to act on yet
    event.preventDefault();
  }

  // -- wiring ----------------------------------------------------------------------------------

  function onChoice(event) {
    const button = event.target.closest(".choice");
    if (!button) return;
    const at = cards.indexOf(button.closest(".card"));
    const kind = button.dataset.choose;
    if (kind === "other") ask(at);
    else if (button.getAttribute("aria-pressed") === "true") takeBack(at);
    else choose(at, rows[at][kind]);
  }

  function readyCards() {
    cards.forEach((card, at) => {
      for (const kind of ["suggested", "given"]) {
        const button = card.querySelector(`[data-choose="${kind}"]`);
        if (!button || canChoose(rows[at][kind])) continue;
        button.disabled = true;
        button.title = "A file cannot tell this label from another or from none.";
      }
    });
    document.querySelectorAll(".text.long").forEach((text) => {
      const more = document.createElement("button");
      more.type = "button";
      more.className = "more";
      more.textContent = "Show all";
      more.addEventListener("click", () => {
        more.textContent = text.classList.toggle("open") ? "Show less" : "Show all";
      });
      text.after(more);
    });
  }

  grid.addEventListener("click", onChoice);
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  find("filters").addEventListener("input", (event) => (event.target.id === "sort" ? sort() : filter()));
  find("search").addEventListener("keydown", (event) => { if (event.key === "Enter") step(1); });
  find("reset").addEventListener("click", showAll);
  find("download").addEventListener("click", download);
  find("help").addEventListener("click", () => find("keys").showModal());
  find("chooser-search").addEventListener("input", narrow);
  find("options").addEventListener("click", (event) => answer(event.target.closest("button")));
  find("chooser-undo").addEventListener("click", () => { takeBack(asking); chooser.close(); });
  chooser.addEventListener("keydown", moveInList);
  chooser.addEventListener("close", () => {
    // The event comes late: a quick key may have gone on to another row, which keeps the focus.
    if (current() < 0 || current() === asking) cards[asking]?.focus({ preventScroll: true });
  });
  document.querySelectorAll("[data-given]").forEach((button) => {
    button.addEventListener("click", () => showPair(button.dataset));
  });
  document.addEventListener("keydown", onKey);
  addEventListener("beforeunload", (event) => {
    if (!isSaved && choices.size) event.preventDefault();
  });

  ["given", "suggested"].forEach(fillFilter);
  fillOptions();
  readyCards();
  recall();
  choices.forEach((label, at) => showChoice(at));
  find("filters").hidden = false;
  find("bar").hidden = false;
  // Browsers put back what stood in the controls before a reload.
  if (find("sort").value !== "rank") sort();
  filter();
  showProgress();
})();
