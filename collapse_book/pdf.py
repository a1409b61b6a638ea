"""The whole book on paper: the articles of the built site in one document, printed by Chromium.

The site is taken as it is, so numbers of chapters, figures and equations are those of the site.
What is folded on the screen is open on paper, players show their strip, and every link inside the
book leads to a page of the PDF. Needs the extra ``pdf``; nothing else of the press does.
"""

from __future__ import annotations

import contextlib
import html
import io
import logging
import os
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

from collapse_book.errors import BadInput, BuildFailed, counted
from collapse_book.files import read_yaml, write_atomic
from collapse_book.notebooks import read_notebook
from collapse_book.pages import revision, when
from collapse_book.project import Project
from collapse_book.site import build_site, content, is_current, pdf_path

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: Attributes that hold ids of the same page.
REFERENCES = ("aria-labelledby", "aria-describedby", "for")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: No sandbox, because containers have none to give; the pages are our own.
FLAGS = ("--no-sandbox", "--disable-background-networking", "--no-first-run")
#: A host that does not exist: the pages come from a folder, so no port is opened for them.
HOST = "http://book.invalid/"


def find_chromium() -> str:
    """Path of the browser: what ``CHROMIUM`` says, or the first one on the path.

    Raises
    ------
    BadInput
        If there is none.
    """
    given = os.environ.get("CHROMIUM")
    found = next(filter(None, map(shutil.which, [given] if given else BROWSERS)), None)
    if found is None:
        what = f"CHROMIUM={given} is no program" if given else "no Chromium or Chrome found"
        raise BadInput(f"{what}: install chromium, or set CHROMIUM to the path of one")
    return found


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser, closed at the end.

    Raises
    ------
    BadInput
        If playwright or a browser is missing.
    BuildFailed
        If the browser does not start.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise BadInput("playwright is not installed: pip install -e '.[pdf]'") from None
    program = find_chromium()
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        except Error as error:
            first = str(error).strip().splitlines()[0]
            raise BuildFailed(f"{program} does not start: {first}") from None
        with contextlib.closing(browser):
            yield browser


def show_folder(page: Page, folder: Path, refuse: Callable[[str], None]) -> None:
    """Answer what a page asks ``HOST`` for from a folder; any other host is refused, and told."""

    def answer(route: Any) -> None:
        url = route.request.url
        path = folder / unquote(urlsplit(url).path.removeprefix("/"))
        if not url.startswith(HOST):
            refuse(url)
            route.abort()
        elif path.is_file():
            route.fulfill(path=path)
        else:
            route.fulfill(status=404, body="not found")

    page.route("**/*", answer)


@dataclass(frozen=True)
class Leaf:
    """One page of the site in reading order, with the caption of the part that it opens."""

    document: str
    part: str | None = None

    @property
    def name(self) -> str:
        """What its ids begin with."""
        return self.document.replace("/", "-").replace("_", "-")


def print_book(
    project: Project, output: Path | None, say: Callable[[str], None]
) -> tuple[Path, int]:
    """Print the built site.

    It is printed twice: first to learn on which page each chapter begins.

    Returns
    -------
    path : Path
        The PDF.
    pages : int
        How many pages it has.

    Raises
    ------
    BadInput
        If there is no site, no folder for the output, or the browser or a package is missing.
    """
    try:
        from pypdf import PdfReader, PdfWriter
    except ImportError:
        raise BadInput("pypdf is not installed: pip install -e '.[pdf]'") from None
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # Chromium miscounts its objects, harmlessly
    path = (output or pdf_path(project)).absolute()
    if not path.parent.is_dir():
        raise BadInput(f"no folder {path.parent} to write {path.name} to")
    with project.lock():
        if not is_current(project):
            raise BadInput("the site is not there or not up to date: run `collapse-book build`")
        leaves = list(reading_order(project))
        say(f"binding {counted(len(leaves), 'page')} of the site")
        write_atomic(project.build / "print.html", bound(project, leaves))
        with chromium() as browser:
            page = browser.new_page()
            show_folder(page, project.build, lambda url: None)
            page.goto(f"{HOST}print.html", wait_until="load", timeout=300_000)
            page.evaluate(
                "async () => { await MathJax.startup.promise; await document.fonts.ready; }"
            )
            say("printing, to count pages")
            draft = PdfReader(io.BytesIO(_printed(page)))
            numbers = {
                name.removeprefix("/"): draft.get_destination_page_number(place) + 1
                for name, place in draft.named_destinations.items()
            }
            page.evaluate(
                """(numbers) => {
                  for (const slot of document.querySelectorAll("[data-page-of]"))
                    slot.textContent = numbers[slot.dataset.pageOf] ?? "";
                }""",
                numbers,
            )
            say("printing, with the page numbers in the contents")
            final = _printed(page)
        (project.build / "print.html").unlink()
        writer = PdfWriter(clone_from=io.BytesIO(final))
        author = project.config.get("author", "")
        writer.add_metadata({"/Title": project.config["title"], "/Author": author})
        written = io.BytesIO()
        writer.write(written)
        write_atomic(path, written.getvalue())
        if path == pdf_path(project).absolute():
            say("linking it from the site")
            write_atomic(project.build / "pdf.sha256", content(project))
            build_site(project)
    return path, len(writer.pages)


def _printed(page: Page) -> bytes:
    return page.pdf(prefer_css_page_size=True, print_background=True, outline=True, tagged=True)


def reading_order(project: Project) -> Iterator[Leaf]:
    """The pages of the table of contents, the front page first."""
    contents = read_yaml(project.toc_file, project.relative(project.toc_file))
    yield Leaf(contents["root"])
    for part in contents.get("parts", [contents]):
        caption = part.get("caption")
        for chapter in part.get("chapters", []):
            yield Leaf(chapter["file"], caption)
            caption = None


def bound(project: Project, leaves: list[Leaf]) -> str:
    """One HTML document that holds cover, contents and the article of every leaf."""
    inside = {leaf.document: leaf.name for leaf in leaves}
    articles = [(leaf, article(project, leaf, inside)) for leaf in leaves]
    entries, sheets = [], []
    for leaf, body in articles:
        heading = body.find("h1")
        title = heading.get_text(" ", strip=True) if heading else leaf.document
        title = re.sub(r"\s+", " ", title)
        if leaf.part:
            entries.append(f'<li class="print-part">{html.escape(leaf.part)}</li>')
        entries.append(
            f'<li><a href="#{leaf.name}">{html.escape(title)}</a>'
            f'<span class="print-dots"></span><span data-page-of="{leaf.name}"></span></li>'
        )
        running = title.replace("\\", "").replace('"', "'")
        sheets.append(f'@page {leaf.name} {{ @top-right {{ content: "{running}"; }} }}')
        sheets.append(f"#{leaf.name} {{ page: {leaf.name}; }}")
    front = BeautifulSoup((project.html / "index.html").read_text(encoding="utf-8"), "html.parser")
    head = "\n".join(
        str(_inside_html(link, "index")) for link in front.find_all("link", rel="stylesheet")
    )
    settings = next(s for s in front.find_all("script") if "window.MathJax" in s.text)
    mathjax = next(s for s in front.find_all("script", src=True) if "mathjax" in s["src"])
    bodies = "\n".join(str(body) for _, body in articles)
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light" data-mode="light" class="book-print">
<head>
<meta charset="utf-8">
<title>{html.escape(project.config["title"])}</title>
{head}
{settings}
{_inside_html(mathjax, "index")}
<style>{" ".join(sheets)}</style>
</head>
<body>
{cover(project)}
<nav class="print-contents"><h1 id="print-contents">Contents</h1><ol>{"".join(entries)}</ol>
<p>Code that only draws figures or fills tables is left out on paper; it stands on the site and in
the notebooks.</p></nav>
<main class="bd-main"><div class="bd-content"><div class="bd-article-container">
{bodies}
</div></div></main>
</body>
</html>
"""


def cover(project: Project) -> str:
    """Title, author, when the chapters were run, version and address."""
    notebooks = [read_notebook(project.staged / f"{name}.ipynb") for name in project.published]
    ran = max(when(notebook["metadata"]["collapse_book"]) for notebook in notebooks)
    name, _, rest = project.config["title"].partition(": ")
    github = project.repository and f"https://github.com/{project.repository}"
    picture = (project.html / "_static" / "cover.svg").is_file()
    image = '<img alt="" src="html/_static/cover.svg">' if picture else ""
    return f"""<header class="print-cover">
<p class="print-title">{html.escape(name)}</p>
<p class="print-subtitle">{html.escape(rest)}</p>
{image}
<p>{html.escape(project.config.get("author", ""))}</p>
<p class="print-imprint">Version {metadata.version("collapse-utils")},
{html.escape(revision(project))}. The last chapter was executed at {ran} UTC;
each says at its end when and on what it ran.<br>
{html.escape(project.address or github or "")}<br>
{html.escape(project.config.get("copyright", ""))}</p>
</header>"""


def article(project: Project, leaf: Leaf, inside: dict[str, str]) -> Tag:
    """The article of a page, made fit for a document that holds them all."""
    path = project.html / f"{leaf.document}.html"
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    body = soup.find("article")
    for gone in body.select(".headerlink, .only-dark, script:not([type^=math]), .collapse-cite"):
        gone.decompose()
    for details in body.find_all("details"):
        plumbing = details.find_parent(class_="tag_hide-input")
        if plumbing and not details.find_parent(id="exercises"):
            details.decompose()
            continue
        details["open"] = ""
        if "hide" in details.get("class", ()):
            details.find("summary").decompose()
            details.unwrap()
    for strip in body.select(".player-strip"):
        strip.attrs.pop("hidden", None)
    for element in body.find_all(id=True):
        if not element.find_parent("svg"):  # a drawing's names are its own in the whole book
            element["id"] = f"{leaf.name}--{element['id']}"
    for key in REFERENCES:
        for element in body.find_all(attrs={key: True}):
            element[key] = f"{leaf.name}--{element[key]}"
    for link in body.find_all("a", href=True):
        target = _link(link["href"], leaf, inside, project.address)
        if target:
            link["href"] = target
        else:
            del link["href"]
    for loaded in body.find_all(src=True):
        _inside_html(loaded, leaf.document)
    body.name = "section"
    body["class"] = ["bd-article", "print-leaf"]
    body["id"] = leaf.name
    body.attrs.pop("role", None)
    return body


def _link(url: str, leaf: Leaf, inside: dict[str, str], address: str | None) -> str | None:
    """Where a link leads on paper: into the PDF, or else to the published site, if there is one."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return url
    target = leaf.document
    if parts.path:
        folder = posixpath.dirname(leaf.document)
        target = posixpath.normpath(posixpath.join(folder, unquote(parts.path)))
        if target.removesuffix(".html") not in inside:
            return address and f"{address}{target}"
    name = inside[target.removesuffix(".html")]
    return f"#{name}--{parts.fragment}" if parts.fragment else f"#{name}"


def _inside_html(tag: Tag, document: str) -> Tag:
    """Let a tag of a page load its file from the folder of the site."""
    key = "href" if tag.name == "link" else "src"
    url = tag[key]
    if not urlsplit(url).scheme:
        tag[key] = posixpath.normpath(posixpath.join("html", posixpath.dirname(document), url))
    return tag
