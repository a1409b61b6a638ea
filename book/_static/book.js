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
