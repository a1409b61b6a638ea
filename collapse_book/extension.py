"""What the site needs of Sphinx beyond its own: tables, lists and links that read well aloud.

Loaded by ``_config.yml``. Nothing here knows the chapters.
"""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from collapse_book.lite import OPENS, browser_chapters
from collapse_book.project import Project

#: A link of a page to something of the same site: neither a host, a path from the root, nor "#x".
RELATIVE = re.compile(r'\b(?P<key>href|src|action)="(?!/|#|[a-z][a-z0-9+.-]*:)(?P<path>[^"]+)"')

SILENT_CLASSES = {"collapse-colophon", "bibtex-citation"}


class HeadlessTables(SphinxTransform):
    """Markdown has no table without a head; where the head is empty, the first column is it."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        for group in self.document.findall(nodes.tgroup):
            heads = [child for child in group if isinstance(child, nodes.thead)]
            if heads and not any(head.astext().strip() for head in heads):
                for head in heads:
                    group.remove(head)
                next(group.findall(nodes.colspec))["stub"] = 1


class FirstUses(SphinxTransform):
    """Link the first use of each glossary term on a page, and list the page under it in the index.

    A link that the author wrote counts as the first use. Words of ``glossary_common`` are linked
    only where the author does it, because they have everyday meanings too.
    """

    default_priority = 600
    _SILENT = (nodes.literal, nodes.reference, nodes.title, nodes.raw, nodes.math, nodes.table)

    def apply(self, **_: Any) -> None:
        terms = glossary_terms(Path(self.app.srcdir) / "glossary.md")
        if not terms or self.env.docname in ("glossary", "references"):
            return
        used: dict[str, nodes.Node] = {}
        for link in self.document.findall(addnodes.pending_xref):
            term = terms.get(link.get("reftarget", "").lower())
            if link.get("reftype") == "term" and term:
                used.setdefault(term, link)
        common = {word.lower() for word in self.config.glossary_common}
        names = sorted(terms.keys() - common, key=len, reverse=True)
        pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, names))})s?(?![\w-])", re.I)
        for text in list(self.document.findall(nodes.Text)):
            if self._is_prose(text):
                self._link(text, pattern, terms, used)
        for term, link in used.items():
            place = f"use-{nodes.make_id(term)}"
            where = link.parent.index(link)
            link.parent.insert(where, nodes.target("", "", ids=[place]))
            link.parent.insert(where, addnodes.index(entries=[("single", term, place, "", None)]))

    def _is_prose(self, text: nodes.Text) -> bool:
        inside, node = False, text.parent
        while node is not None:
            if isinstance(node, (*self._SILENT, addnodes.pending_xref)):
                return False
            if SILENT_CLASSES & set(node.get("classes", ())):
                return False
            inside = inside or isinstance(node, nodes.paragraph)
            node = node.parent
        return inside

    def _link(
        self,
        text: nodes.Text,
        pattern: re.Pattern[str],
        terms: dict[str, str],
        used: dict[str, nodes.Node],
    ) -> None:
        said, pieces, end = text.astext(), [], 0
        for found in pattern.finditer(said):
            term = terms[found[1].lower()]
            if term in used:
                continue
            words = nodes.inline("", found[0], classes=["xref", "std", "std-term"])
            used[term] = addnodes.pending_xref(
                "",
                words,
                refdomain="std",
                reftype="term",
                reftarget=term,
                refexplicit=True,
                refwarn=True,
                refdoc=self.env.docname,
            )
            pieces += [nodes.Text(said[end : found.start()]), used[term]]
            end = found.end()
        if pieces:
            text.parent.replace(text, [*pieces, nodes.Text(said[end:])])


@cache
def glossary_terms(path: Path) -> dict[str, str]:
    """Terms of the glossary by their lower-case form; none if there is no such file."""
    if not path.is_file():
        return {}
    block = re.search(r"```\{glossary\}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    lines = block[1].splitlines() if block else []
    return {line.lower(): line for line in lines if line and line[0] not in " :"}


def name_places(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Let the index say in which chapters a term is used, in their order, then on which pages."""

    def places(links: list[tuple[str, str]]) -> list[tuple[str, str]]:
        found = []
        for _, link in links:
            document = link.partition("#")[0].removesuffix(".html")
            number = app.env.toc_secnumbers.get(document, {}).get("", ())
            title = app.env.titles[document].astext() if document in app.env.titles else document
            label = f"chapter {number[0]}" if number else title
            found.append((number or (math.inf,), label, link))
        return [(label, link) for _, label, link in sorted(found)]

    if page == "genindex":
        context["places"] = places


def name_lists(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the list of references the roles that screen readers know.

    docutils writes ``doc-biblioentry``, which is deprecated, and no child that a list may have.
    """
    if "citation-list" in context.get("body", ""):
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def offer_browser(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Add to the launch buttons of a chapter that needs no torch where it runs in the browser.

    The link leads to the published book, as those to Colab and Binder do, because the page cannot
    know whether ``collapse-book lite`` was run beside it.
    """
    menus = [
        button
        for button in context.get("header_buttons", [])
        if button.get("label") == "launch-buttons"
    ]
    chapter = page.removeprefix("notebooks/")
    if menus and app.config.html_baseurl and chapter in lite_chapters(Path(app.srcdir).parent):
        address = f"{app.config.html_baseurl.rstrip('/')}/{OPENS.format(chapter=chapter)}"
        menus[0]["buttons"].append(
            {
                "type": "link",
                "text": "This browser (loads tens of MB)",
                "tooltip": "The first start downloads tens of MB from Pyodide's CDN",
                "icon": "_static/images/logo_jupyterlite.svg",
                "url": address,
            }
        )


@cache
def lite_chapters(root: Path) -> frozenset[str]:
    """Chapters of the book at ``root`` that run in a browser."""
    return frozenset(browser_chapters(Project(root)))


def root_links(text: str, prefix: str) -> str:
    """HTML whose links inside the site start at the root: right wherever it is shown."""
    return RELATIVE.sub(lambda found: f'{found["key"]}="{prefix}{found["path"]}"', text)


def finish_not_found(app: Sphinx, error: Exception | None) -> None:
    """The page for unknown addresses is shown at any depth, so its links start at the root.

    sphinx-notfound-page does this for Sphinx's own links, and the theme's lists bypass it.
    """
    page = app.outdir / "404.html"
    if error is None and page.is_file():
        prefix = urlsplit(app.config.html_baseurl).path.rstrip("/") + "/"
        text = root_links(page.read_text(encoding="utf-8"), prefix)
        text = re.sub(r'data-content_root="[^"]*"', f'data-content_root="{prefix}"', text)
        page.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_transform(HeadlessTables)
    app.add_transform(FirstUses)
    app.add_config_value("glossary_common", [], "env", types=[list])
    app.connect("html-page-context", name_places)
    app.connect("html-page-context", name_lists)
    app.connect("html-page-context", offer_browser, priority=502)  # the theme's are added at 501
    app.connect("build-finished", finish_not_found)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
