/* What scrolls sideways must be reachable from the keyboard, but only while it does scroll. */
addEventListener("DOMContentLoaded", () => {
  const names = {
    ".bd-article pre": "Code",
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
