/* What scrolls sideways must be reachable from the keyboard, but only while it does scroll. */
addEventListener("DOMContentLoaded", () => {
  const names = {
    ".bd-article pre:not(.machine-app *)": "Code",
    ".claims-box": "Claims of this page",
    "div.cell_output .text_html": "Output",
    ".pst-scrollable-table-container": "Table",
    '.bd-article mjx-container[display="true"]': "Formula",
  };
  const update = (box, name) => {
    const scrolls = box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX !== "visible";
    const marks = { tabindex: "0", role: "group", "aria-label": name + ", scrolls sideways" };
    for (const [key, value] of Object.entries(marks))
      if (scrolls) box.setAttribute(key, value);
      else box.removeAttribute(key);
  };
  const watch = () => {
    for (const [selector, name] of Object.entries(names))
      for (const box of document.querySelectorAll(selector))
        new ResizeObserver(() => update(box, name)).observe(box);
  };
  const typeset = window.MathJax?.startup?.promise;
  if (typeset) typeset.then(watch);
  else watch();
});

/* Two menus above the claims ledger; without JavaScript the whole table stays visible. */
addEventListener("DOMContentLoaded", () => {
  const rows = [...document.querySelectorAll("table.claims tr[data-chapter]")];
  if (!rows.length) return;
  const bar = document.createElement("p");
  bar.className = "ledger-filter";
  const count = document.createElement("output");
  const show = () => {
    for (const row of rows)
      row.hidden = menus.some(([key, menu]) => menu.value && menu.value !== row.dataset[key]);
    count.textContent = rows.filter((row) => !row.hidden).length + " of " + rows.length + " claims";
  };
  const menus = ["chapter", "verdict"].map((key) => {
    const label = document.createElement("label");
    const menu = document.createElement("select");
    const values = [...new Set(rows.map((row) => row.dataset[key]))];
    menu.append(new Option("all", ""), ...values.map((value) => new Option(value, value)));
    menu.addEventListener("change", show);
    label.append(key[0].toUpperCase() + key.slice(1) + " ", menu);
    bar.append(label, " ");
    return [key, menu];
  });
  bar.append(count);
  rows[0].closest("table").parentElement.before(bar);
  show();
});

/* Exercises that check themselves: what `quiz` wrote into a solution is asked before the solution. */
addEventListener("DOMContentLoaded", () => {
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  /* 0.5, .5, 0,5, 1,000, 1e-3, 50 %; NaN for what is no number. */
  const number = (text) => {
    const plain = text.replace(/\s/g, "").replace("\u2212", "-"), bare = plain.replace(/%$/, "");
    const thousands = /^[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$/.test(bare);
    const value = bare.replace(/,/g, thousands ? "" : ".");
    if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(value)) return NaN;
    return Number(value) / (bare === plain ? 1 : 100);
  };
  const judge = (value, { answer, error, shown, hints, choices }) => {
    const near = (other, most) => Math.abs(value - other) <= most + 1e-9 * Math.abs(other);
    if (near(answer, error)) return `Right: ${shown}.`;
    const hint = hints.find(([other]) => near(other, choices ? 0 : 0.05 * Math.abs(other)));
    const side = value > answer ? "too high." : "too low.";
    if (choices) return "No. " + (hint?.[1] ?? "Try again, or look at the solution.");
    const close = near(answer, 3 * error) ? `Close, but ${side}` : side[0].toUpperCase() + side.slice(1);
    return close + (hint ? " " + hint[1] : "");
  };
  document.querySelectorAll("[data-quiz]").forEach((box, k) => {
    const data = JSON.parse(box.dataset.quiz), { question, choices, within } = data;
    const said = make("output", {});
    const input = make("input", { autocomplete: "off", id: `quiz-${k}` });
    const option = (text, value) =>
      make("label", {}, make("input", { type: "radio", name: `quiz-${k}`, value }), ` ${text}`);
    const field = choices
      ? make("fieldset", {}, make("legend", { textContent: question }), ...choices.map(option))
      : make("label", { htmlFor: input.id, textContent: `${question} (${within})` });
    const form = make("form", { className: "quiz", noValidate: true }, field);
    if (!choices) form.append(input);
    form.append(make("button", { textContent: "Check" }), said);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = choices ? (form.querySelector(":checked")?.value ?? "") : input.value.trim();
      const value = number(text);
      if (!text) said.textContent = choices ? "Choose one first." : "Type a number first.";
      else if (!Number.isFinite(value))
        said.textContent = `"${text}" is no number. Write 0.25, 1e-3 or 25 %.`;
      else said.textContent = judge(value, data);
      form.classList.toggle("quiz-right", said.textContent.startsWith("Right"));
    });
    const cell = box.closest(".cell") ?? box, solution = cell.previousElementSibling;
    (solution?.matches(".admonition.dropdown") ? solution : cell).before(form);
  });
});
