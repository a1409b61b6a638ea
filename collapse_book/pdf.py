"""The whole book on paper: the articles of the built site in one document, printed by Chromium.

The site is taken as it is, so numbers of chapters, figures and equations are those of the site.
What is folded on the screen is open on paper, players show their strip, and every link inside the
book leads to a page of the PDF. Needs the extra ``pdf``; nothing else of the press does.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import posixpath
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

from collapse_book.files import write_atomic
from collapse_book.messages import BadInput, BuildFailed, counted, one_line, say
from collapse_book.notebooks import read_notebook
from collapse_book.pages import record_of, render, revision, when
from collapse_book.project import Project
from collapse_book.site import PRINTED, build_site, content, is_current, pdf_path

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
    """One page of the site, made fit for a document that holds them all."""

    document: str
    part: str  # caption of the part that it opens, if it opens one
    title: str
    body: Tag


def name_of(document: str) -> str:
    """What the ids of a page begin with."""
    return document.replace("/", "-").replace("_", "-")


def print_book(project: Project, output: Path | None) -> tuple[Path, int]:
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
        If there is no site, or the browser or a package is missing.
    """
    try:
        from pypdf import PdfReader, PdfWriter
    except ImportError:
        raise BadInput("pypdf is not installed: pip install -e '.[pdf]'") from None
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # Chromium miscounts its objects, harmlessly
    path = (output or pdf_path(project)).absolute()
    with project.lock():
        if not is_current(project):
            raise BadInput("the site is not there or not up to date: run `collapse-book build`")
        say("binding the pages of the site")
        whole, count = bound(project)
        write_atomic(project.build / "print.html", whole)
        with chromium() as browser:
            page = browser.new_page()
            show_folder(page, project.build, lambda url: None)
            page.goto(f"{HOST}print.html", wait_until="load", timeout=300_000)
            page.evaluate(
                "async () => { await MathJax.startup.promise; await document.fonts.ready; }"
            )
            say(f"printing {counted(count, 'page')} of the site, to count those of the paper")
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
            write_atomic(project.build / PRINTED, content(project))
            build_site(project)
    return path, len(writer.pages)


def _printed(page: Page) -> bytes:
    return page.pdf(prefer_css_page_size=True, print_background=True, outline=True, tagged=True)


def bound(project: Project) -> tuple[str, int]:
    """One HTML document that holds cover, contents and every article, and how many there are."""
    leaves, before = [], None
    for document, part in project.pages:
        title, body = bind(project, document)
        leaves.append(Leaf(document, part if part and part != before else "", title, body))
        before = part
    front = _soup(project, "index")
    head = [
        *front.find_all("link", rel="stylesheet"),
        next(s for s in front.find_all("script") if "window.MathJax" in s.text),
        next(s for s in front.find_all("script", src=True) if "mathjax" in s["src"]),
    ]
    notebooks = [read_notebook(project.staged / f"{name}.ipynb") for name in project.published]
    github = project.repository and f"https://github.com/{project.repository}"
    page = render(
        "print.html",
        book=project.config,
        head="\n".join(str(_inside_html(tag, "index")) for tag in head),
        leaves=leaves,
        picture=(project.html / "_static" / "cover.svg").is_file(),
        version=metadata.version("collapse-utils"),
        revision=revision(project),
        executed=max(when(record_of(notebook)) for notebook in notebooks),
        address=project.address or github or "",
    )
    return page, len(leaves)


def _soup(project: Project, document: str) -> BeautifulSoup:
    text = (project.html / f"{document}.html").read_text(encoding="utf-8")
    return BeautifulSoup(text, "html.parser")


def bind(project: Project, document: str) -> tuple[str, Tag]:
    """Title and article of a page: what is folded is open, and links stay inside the book."""
    name, body = name_of(document), _soup(project, document).find("article")
    heading = body.find("h1")
    title = heading.get_text(" ", strip=True).removesuffix("#") if heading else document
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
            element["id"] = f"{name}--{element['id']}"
    for key in REFERENCES:
        for element in body.find_all(attrs={key: True}):
            element[key] = f"{name}--{element[key]}"
    for link in body.find_all("a", href=True):
        if target := _target(project, document, link["href"]):
            link["href"] = target
        else:
            del link["href"]
    for loaded in body.find_all(src=True):
        _inside_html(loaded, document)
    body.name = "section"
    body.attrs = {"class": ["bd-article", "print-leaf"], "id": name}
    return one_line(title), body


def _target(project: Project, document: str, url: str) -> str | None:
    """Where a link leads on paper: into the PDF, or else to the published site, if there is one."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return url
    folder, path = posixpath.dirname(document), unquote(parts.path)
    target = posixpath.normpath(posixpath.join(folder, path)) if path else document
    page = target.removesuffix(".html")
    if page not in dict(project.pages):
        return project.address and f"{project.address}{target}"
    return f"#{name_of(page)}--{parts.fragment}" if parts.fragment else f"#{name_of(page)}"


def _inside_html(tag: Tag, document: str) -> Tag:
    """Let a tag of a page load its file, if it does, from the folder of the site."""
    key = "href" if tag.name == "link" else "src"
    url = tag.get(key)
    if url and not urlsplit(url).scheme:
        tag[key] = posixpath.normpath(posixpath.join("html", posixpath.dirname(document), url))
    return tag
