"""Every page of the built site as a browser shows it: `make audit`, after `make book`.

Requests to other hosts, errors, dead links, weight, width on a phone, accessibility (axe) in both
themes. What is folded is unfolded first, so that solutions and colophons are looked at too. Pages
come from a folder, not from a port. Not part of `make test`: it needs Chromium and the extra
`audit`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from collapse_book.pdf import HOST, chromium, show_folder
from collapse_book.project import Project

HTML = Project(Path(__file__).parents[1]).html
PAGES = [
    path.relative_to(HTML).as_posix()
    for path in sorted(HTML.rglob("*.html"))
    if path.relative_to(HTML).parts[0] not in ("_static", "_sources", "lite")
]
if not PAGES:
    pytest.exit("there is no site to audit: run `make book`", returncode=2)
#: Bytes of a page in one theme; scripts and styles are fetched once for all pages.
WEIGHT = 1_500_000
DARK_PICTURE = re.compile(rb'<img class="only-dark"[^>]*>')
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
#: Theme, size and rules of axe: all of them once, then those that theme or size can change.
LOOKS: list[tuple[str, dict[str, int], list[str]]] = [
    ("light", DESK, []),
    ("dark", DESK, ["color-contrast", "link-in-text-block", "image-alt"]),
    ("light", PHONE, ["scrollable-region-focusable", "target-size"]),
]
ORDER = ("heading-order", "page-has-heading-one")  # moderate to axe, not to us
UNFOLD = """async () => {
  for (const box of document.querySelectorAll("details")) box.open = true;
  for (const box of document.querySelectorAll(".toggle-hidden"))
    box.classList.remove("toggle-hidden");
  await window.MathJax?.startup?.promise;
}"""
#: Thousands of nodes say nothing new: glyphs of formulas, which have MathML beside them, and the
#: second and later words of a code block in the colour of an earlier one.
THIN = """() => {
  for (const glyphs of document.querySelectorAll("mjx-container > svg")) glyphs.remove();
  const seen = new Set();
  for (const word of document.querySelectorAll("pre span[class]")) {
    if (seen.has(word.className)) word.replaceWith(...word.childNodes);
    seen.add(word.className);
  }
}"""
THEME = """(theme) => {
  Object.assign(document.documentElement.dataset, {mode: theme, theme});
  for (const animation of document.getAnimations()) animation.finish();
}"""
BARE_TABLES = """() => [...document.querySelectorAll("main table:not([role=presentation])")]
  .filter((table) => table.checkVisibility() && !table.querySelector("th"))
  .map((table) => "table without a header: " + table.textContent.trim().slice(0, 60))"""
LINKS = """() => [...document.querySelectorAll("a[href], area[href]")]
  .map((link) => new URL(link.getAttribute("href"), document.baseURI).href)"""
#: Each exercise that checks itself takes the answer of the run, before its solution.
QUIZZES = """() => [...document.querySelectorAll("[data-quiz]")].map((box, k) => {
  const {answer, question} = JSON.parse(box.dataset.quiz);
  const form = document.querySelectorAll("form.quiz")[k];
  if (!form?.nextElementSibling.matches(".admonition.dropdown, .cell, form.quiz"))
    return "no field before the solution of: " + question;
  form.elements[`quiz-${k}`].value = answer;
  form.requestSubmit();
  const said = form.querySelector("output").textContent;
  return said.startsWith("Right") ? "" : `says "${said}" to the answer of: ${question}`;
}).filter(Boolean)"""
WIDTH = "() => document.scrollingElement.scrollWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def watched(browser: Browser, folder: Path) -> tuple[Page, list[str]]:
    """A new page that shows a folder, and what goes wrong on it from now on."""
    page = browser.new_page(viewport=DESK, reduced_motion="reduce")
    found: list[str] = []
    show_folder(page, folder, lambda url: found.append(f"asks another host for {url}"))
    page.on("response", lambda r: r.status >= 400 and found.append(f"status {r.status}: {r.url}"))
    page.on("pageerror", lambda error: found.append(f"script error: {error.message}"))
    page.on("console", lambda m: m.type == "error" and found.append(f"console: {m.text}"))
    return page, found


@cache
def anchors(page: Path) -> set[str]:
    """What a link can lead to on a page."""
    return set(re.findall(r'\b(?:id|name)="([^"]+)"', page.read_text("utf-8")))


def dead_links(folder: Path, urls: Iterable[str]) -> Iterator[str]:
    """Links of a page into the site that lead to no file of it, or to no place on its page."""
    for url in dict.fromkeys(url for url in urls if url.startswith(HOST)):
        parts = urlsplit(url)
        target, place = folder / unquote(parts.path[1:]), unquote(parts.fragment)
        if not target.exists() or (
            target.suffix == ".html" and place not in {"", *anchors(target)}
        ):
            yield f"links to {url.removeprefix(HOST)}, which is not there"


def look_at(browser: Browser, folder: Path, name: str) -> list[str]:
    """What is wrong with a page."""
    page, found = watched(browser, folder)
    page.goto(HOST + name, wait_until="load")
    page.evaluate(UNFOLD)
    found += page.evaluate(QUIZZES)
    found += [*page.evaluate(BARE_TABLES), *dead_links(folder, page.evaluate(LINKS))]
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(100)
    if page.evaluate(WIDTH) > PHONE["width"] + 1:
        found.append(f"is {page.evaluate(WIDTH)} px wide on a phone of {PHONE['width']} px")
    page.evaluate(THIN)
    for theme, size, rules in LOOKS:
        page.set_viewport_size(size)
        page.evaluate(THEME, theme)
        page.wait_for_timeout(50)
        # preload would fetch the @imports of style sheets from a wrong place
        options: dict[str, Any] = {"preload": False, "resultTypes": ["violations"]}
        options |= {"runOnly": rules} if rules else {}
        for violation in Axe().run(page, options=options).response["violations"]:
            if violation["impact"] in ("serious", "critical") or violation["id"] in ORDER:
                first = violation["nodes"][0]
                found.append(f"axe, {theme}: {violation['id']}, first {first['target']}")
    page.close()
    weight = len(DARK_PICTURE.sub(b"", (folder / name).read_bytes()))
    return found + [f"weighs {weight:,} bytes"] * (weight > WEIGHT)


@pytest.mark.parametrize("name", PAGES)
def test_page(browser, name):
    assert look_at(browser, HTML, name) == []


def test_search_finds_the_book(browser):
    page, found = watched(browser, HTML)
    page.goto(f"{HOST}search.html?q=collapse")
    page.locator("#search-results .search-summary", has_text=re.compile(r"\d")).wait_for()
    page.wait_for_load_state("networkidle")  # each result fetches its page for an excerpt
    assert found == []


GOOD = """<!DOCTYPE html><html lang="en"><head><title>A page</title></head><body><main>
<h1>A page</h1><h2>A section</h2><p>Words.</p>
<table><thead><tr><th scope="col">n</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>
<details><summary>More</summary><p>Folded words.</p></details>{}</main></body></html>"""
BAD = (
    '<h4>Too deep</h4><img src="https://example.org/a.png" alt="a">'
    "<script>console.error('broken'); undefined.x</script><img src='gone.png'>"
    "<table><tbody><tr><td>bare</td></tr></tbody></table><div style='width:600px'>wide</div>"
    "<details><summary>More</summary><p style='color:#ccc;background:#fff'>Pale.</p></details>"
    "<a href='gone.html'>Gone</a><a href='good.html#gone'>Gone</a><a href='good.html'>Here</a>"
    f"<!--{'x' * WEIGHT}-->"
)


def test_good_page_has_no_findings_and_each_kind_is_found_on_a_bad_one(browser, tmp_path):
    (tmp_path / "good.html").write_text(GOOD.format(""))
    assert look_at(browser, tmp_path, "good.html") == []
    (tmp_path / "bad.html").write_text(GOOD.format(BAD))
    said = "\n".join(look_at(browser, tmp_path, "bad.html"))
    for part in (
        "asks another host for https://example.org/a.png",
        "console: broken",
        "script error: Cannot read properties of undefined",
        f"status 404: {HOST}gone.png",
        "links to gone.html, which",
        "links to good.html#gone, which",
        "axe, light: heading-order",
        "table without a header: bare",
        "axe, light: image-alt",
        "axe, light: color-contrast",
        "axe, dark: color-contrast",
        "px wide on a phone of 390 px",
        "weighs 1,50",
    ):
        assert part in said
    assert "links to good.html," not in said
