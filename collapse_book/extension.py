"""What the site needs of Sphinx beyond its own: tables, lists and links that read well aloud.

Loaded by ``_config.yml``. Nothing here knows the chapters.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

#: A link of a page to something of the same site: neither a host, a path from the root, nor "#x".
RELATIVE = re.compile(r'\b(?P<key>href|src|action)="(?!/|#|[a-z][a-z0-9+.-]*:)(?P<path>[^"]+)"')


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


def name_lists(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the list of references the roles that screen readers know.

    docutils writes ``doc-biblioentry``, which is deprecated, and no child that a list may have.
    """
    if "citation-list" in context.get("body", ""):
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


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
    app.connect("html-page-context", name_lists)
    app.connect("build-finished", finish_not_found)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
