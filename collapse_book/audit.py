"""The built site as a browser sees it: requests, errors, weight, phone width, accessibility.

Every page is opened in headless Chromium, on loopback and below the path it has on its host, and
every other host is refused. What is folded is unfolded first, so that solutions and colophons are
looked at too. Needs the extra ``audit``; nothing else of the press does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collapse_book.browser import chromium, served
from collapse_book.errors import BadInput, BuildFailed, counted, suggestion
from collapse_book.files import write_atomic
from collapse_book.project import Project

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Response

#: Bytes of HTML and pictures of a page in one theme. Scripts, styles and MathJax are fetched once
#: for all pages and not counted.
WEIGHT = 1_500_000
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
IMPACTS = ("serious", "critical")
#: Size, theme and rules of axe: all of them once, then those that theme or size can change.
LOOKS: dict[str, tuple[dict[str, int], str, tuple[str, ...]]] = {
    "light": (DESK, "light", ()),
    "dark": (DESK, "dark", ("color-contrast", "link-in-text-block", "image-alt")),
    "phone": (PHONE, "light", ("scrollable-region-focusable", "target-size")),
}


@dataclass(frozen=True)
class Allowed:
    """A finding of axe that stands: the rule, the elements, and why."""

    rule: str
    selector: str
    reason: str


ALLOWED: tuple[Allowed, ...] = ()

#: Unfold what the reader can unfold, and wait until the formulas are set.
_UNFOLD = """async () => {
  for (const box of document.querySelectorAll("details")) box.open = true;
  for (const box of document.querySelectorAll(".toggle-hidden"))
    box.classList.remove("toggle-hidden");
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  await document.fonts.ready;
}"""
_THEME = """(theme) => {
  document.documentElement.dataset.mode = theme;
  document.documentElement.dataset.theme = theme;
  for (const animation of document.getAnimations()) animation.finish();
}"""
#: Thousands of nodes say nothing new: glyphs of formulas, which have MathML beside them, and the
#: second and later words of a code block in the colour of an earlier one.
_THIN = """() => {
  for (const glyphs of document.querySelectorAll("mjx-container > svg")) glyphs.remove();
  const seen = new Set();
  for (const word of document.querySelectorAll("pre span[class]")) {
    if (seen.has(word.className)) word.replaceWith(...word.childNodes);
    seen.add(word.className);
  }
}"""
_AXE = """async ([allowed, rules]) => {
  const result = await axe.run(document, {
    preload: false, // it would fetch the @imports of style sheets from a wrong place
    resultTypes: ["violations"],
    ...(rules.length ? {runOnly: rules} : {}),
  });
  const stands = (rule, node) => {
    const element = document.querySelector([].concat(...node.target).at(-1));
    return allowed.some((one) => one.rule === rule && element && element.closest(one.selector));
  };
  return result.violations.map((violation) => ({
    rule: violation.id,
    impact: violation.impact,
    help: violation.help,
    nodes: violation.nodes.filter((node) => !stands(violation.id, node)).map((node) => ({
      target: [].concat(...node.target).join(" "),
      summary: (node.any.concat(node.all, node.none)[0] || {}).message || "",
    })),
  })).filter((violation) => violation.nodes.length);
}"""
_OUTLINE = """() => {
  const shown = (element) => element.checkVisibility();
  const name = (element) => element.textContent.replace(/[#\\s]+/g, " ").trim().slice(0, 60);
  const main = document.querySelector("main") || document.body;
  const headings = [...main.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(shown);
  const tables = [...main.querySelectorAll("table:not([role=presentation])")].filter(shown);
  return {
    headings: headings.map((heading) => [Number(heading.tagName[1]), name(heading)]),
    bare: tables.filter((table) => ![...table.querySelectorAll("th")].some(shown)).map(name),
  };
}"""
_SIDEWAYS = """() => {
  const width = document.documentElement.clientWidth;
  if (document.scrollingElement.scrollWidth <= width + 1) return [];
  const clipped = (element) => {
    for (let box = element.parentElement; box; box = box.parentElement)
      if (box !== document.body && getComputedStyle(box).overflowX !== "visible") return true;
    return false;
  };
  return [...document.body.querySelectorAll("*")]
    .filter((e) => e.getBoundingClientRect().right > width + 1 && !clipped(e))
    .slice(0, 3)
    .map((e) => e.tagName.toLowerCase() + (e.className ? "." + [...e.classList].join(".") : "")
      + " to " + Math.round(e.getBoundingClientRect().right) + " px")
    .concat(document.scrollingElement.scrollWidth + " px wide");
}"""
_HIDDEN_IMAGE = re.compile(rb'<img class="only-dark"[^>]*>')


@dataclass
class PageReport:
    """What was seen on one page."""

    page: str
    weight: int = 0
    requests: int = 0
    minor: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def audit_site(
    project: Project, names: Sequence[str], say: Callable[[str], None]
) -> list[PageReport]:
    """Open the pages of the built site (all, or those named) and look at each.

    Also writes the reports to ``_build/audit.json``.

    Raises
    ------
    BadInput
        If there is no site, a page does not exist, or the browser or its driver is missing.
    BuildFailed
        With one line for each finding.
    """
    pages = site_pages(project.html, names)
    script = _axe_script()
    reports: list[PageReport] = []
    with chromium() as browser, served(project.html, project.prefix) as address:
        for name in pages:
            context = browser.new_context(viewport=DESK, reduced_motion="reduce")
            report = look_at(context, address, name, script)
            context.close()
            reports.append(report)
            say(
                f"{name}: {report.weight / 1e6:.2f} MB, "
                f"{counted(report.requests, 'request')}, {counted(len(report.findings), 'finding')}"
            )
        if not names and (project.html / "search.html").is_file():
            reports.append(_search(browser.new_context(viewport=DESK), address))
    write_atomic(
        project.build / "audit.json", json.dumps([asdict(r) for r in reports], indent=1) + "\n"
    )
    found = [f"{report.page}: {line}" for report in reports for line in report.findings]
    if found:
        total = f"{counted(len(found), 'finding')} on {counted(len(pages), 'page')}"
        raise BuildFailed("\n".join([*found, total]))
    return reports


def site_pages(html: Path, names: Sequence[str] = ()) -> list[str]:
    """Pages of a site as paths below its root; ``names`` may leave out folder and suffix.

    Raises
    ------
    BadInput
        If there is no site or a name fits no page.
    """
    if not (html / "index.html").is_file():
        raise BadInput("there is no site yet: run `collapse-book build`")
    pages = [
        path.relative_to(html).as_posix()
        for path in sorted(html.rglob("*.html"))
        if path.relative_to(html).parts[0] not in ("_static", "_images", "_sources", "lite")
    ]
    if not names:
        return pages
    short = {page.removesuffix(".html").rsplit("/", 1)[-1]: page for page in pages}
    for name in names:
        if name not in pages and name not in short:
            hint = suggestion(name, short, "pages")
            raise BadInput(f"no page {name!r} in the site{hint}")
    return [name if name in pages else short[name] for name in names]


def _axe_script() -> str:
    try:
        package = resources.files("axe_playwright_python")
    except ModuleNotFoundError:
        raise BadInput(
            "axe-playwright-python is not installed: pip install -e '.[audit]'"
        ) from None
    return package.joinpath("axe.min.js").read_text(encoding="utf-8")


def look_at(context: BrowserContext, address: str, name: str, script: str) -> PageReport:
    """Open one page and look at it in both themes and at the width of a phone."""
    report = PageReport(name)
    page = context.new_page()
    responses = _watch(page, address, report)
    page.goto(address + name, wait_until="load")
    report.requests = len(responses)
    report.weight = sum(map(_weight, responses))
    page.evaluate(_UNFOLD)
    _outline(page, report)
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(100)
    wide = page.evaluate(_SIDEWAYS)
    if wide:
        report.findings.append(f"scrolls sideways at {PHONE['width']} px: {', '.join(wide)}")
    page.evaluate(_THIN)
    page.evaluate(script)
    for where, (size, theme, rules) in LOOKS.items():
        page.set_viewport_size(size)
        page.evaluate(_THEME, theme)
        page.wait_for_timeout(50)
        for violation in page.evaluate(_AXE, [[asdict(one) for one in ALLOWED], rules]):
            first = violation["nodes"][0]
            line = (
                f"axe, {where}: {violation['rule']} ({violation['impact']}), "
                f"{len(violation['nodes'])} x, first {first['target']}: {first['summary']}"
            )
            serious = violation["impact"] in IMPACTS
            (report.findings if serious else report.minor).append(line)
    if report.weight > WEIGHT:
        report.findings.append(
            f"weighs {report.weight / 1e6:.2f} MB, more than {WEIGHT / 1e6:.1f} MB"
        )
    return report


def _watch(page: Page, address: str, report: PageReport) -> list[Response]:
    """Refuse other hosts; write down errors, and collect the responses, from now on."""
    responses: list[Response] = []

    def on_request(route: Any) -> None:
        url = route.request.url
        if url.startswith(address):
            route.continue_()
        else:
            report.findings.append(f"asks another host for {url}")
            route.abort()

    def on_response(response: Response) -> None:
        if response.url.startswith(address):  # a data URL is already part of the document
            responses.append(response)
        if response.status >= 400:
            report.findings.append(f"status {response.status} for {response.url}")

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            report.findings.append(f"console error: {message.text}")

    page.route("**/*", on_request)
    page.on("response", on_response)
    page.on("pageerror", lambda error: report.findings.append(f"script error: {error.message}"))
    page.on("console", on_console)
    return responses


def _weight(response: Response) -> int:
    """Bytes of a document without the pictures of its dark theme, or of a picture."""
    kind = response.request.resource_type
    if kind == "document":
        return len(_HIDDEN_IMAGE.sub(b"", response.body()))
    return len(response.body()) if kind == "image" else 0


def _outline(page: Page, report: PageReport) -> None:
    outline = page.evaluate(_OUTLINE)
    levels = [level for level, _ in outline["headings"]]
    if levels.count(1) != 1:
        report.findings.append(f"has {levels.count(1)} headings of the first level, not one")
    previous = 0
    for level, name in outline["headings"]:
        if level > previous + 1:
            report.findings.append(f"heading {name!r} is of level {level} after level {previous}")
        previous = level
    report.findings += [f"table without a header: {name!r}" for name in outline["bare"]]


def _search(context: BrowserContext, address: str) -> PageReport:
    """Search for the first word of the front page's heading: the site must find itself."""
    from playwright.sync_api import TimeoutError

    report = PageReport("search")
    page = context.new_page()
    _watch(page, address, report)
    page.goto(f"{address}index.html")
    word = page.locator("h1").first.inner_text().split()[0].strip("#")
    page.goto(f"{address}search.html?q={word}")
    summary = page.locator("#search-results .search-summary", has_text=re.compile(r"\d"))
    try:
        summary.wait_for(timeout=20_000)
        page.wait_for_load_state("networkidle")  # each result fetches its page for an excerpt
    except TimeoutError:
        report.findings.append(f"the search for {word!r} finds nothing")
    return report
