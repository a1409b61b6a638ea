"""What the site needs of Sphinx beyond its own: tables and lists that read well aloud, links to
the glossary, buttons that lead where there is something, and builds that read only what changed.

Loaded by ``_config.yml``. Nothing here knows the chapters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util.index_entries import split_index_msg

SILENT_CLASSES = {"collapse-colophon", "bibtex-citation"}
COLAB = "https://colab.research.google.com/github"


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
    """Link the first use of each glossary term on a page.

    A link that the author wrote counts as the first use. Words of ``glossary_common`` are linked
    only where the author does it, because they have everyday meanings too.
    """

    default_priority = 600
    _SILENT = (
        *(nodes.literal, nodes.reference, nodes.title, nodes.raw, nodes.math, nodes.table),
        addnodes.pending_xref,
    )

    def apply(self, **_: Any) -> None:
        glossary = Path(self.app.srcdir) / "glossary.md"
        terms = glossary_terms(glossary)
        if not terms or self.env.docname in ("glossary", "references"):
            return
        self.env.note_dependency(str(glossary))
        links = self.document.findall(addnodes.pending_xref)
        used = {terms.get(link["reftarget"].lower()) for link in links if link["reftype"] == "term"}
        common = {word.lower() for word in self.config.glossary_common}
        names = sorted(terms.keys() - common, key=len, reverse=True)
        pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, names))})s?(?![\w-])", re.I)
        for text in filter(self._is_prose, list(self.document.findall(nodes.Text))):
            pieces, end = [], 0
            for found in pattern.finditer(text):
                if (term := terms[found[1].lower()]) in used:
                    continue
                used.add(term)
                words = nodes.inline("", found[0], classes=["xref", "std", "std-term"])
                to = {"refdomain": "std", "reftype": "term", "reftarget": term, "refexplicit": True}
                link = addnodes.pending_xref("", words, **to, refwarn=True, refdoc=self.env.docname)
                pieces += [nodes.Text(text[end : found.start()]), link]
                end = found.end()
            if pieces:
                text.parent.replace(text, [*pieces, nodes.Text(text[end:])])

    def _is_prose(self, text: nodes.Text) -> bool:
        node, above = text, []
        while node := node.parent:
            above.append(node)
        silent = any(isinstance(node, self._SILENT) for node in above)
        silent |= any(SILENT_CLASSES & set(node.get("classes", ())) for node in above)
        return not silent and any(isinstance(node, nodes.paragraph) for node in above)


@cache
def glossary_terms(path: Path) -> dict[str, str]:
    """Terms of the glossary by their lower-case form; none if there is no such file."""
    if not path.is_file():
        return {}
    block = re.search(r"```\{glossary\}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    lines = block[1].splitlines() if block else []
    return {line.lower(): line for line in lines if line and line[0] not in " :"}


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> set[str]:
    """Pages whose text is another than the one that was read, whatever their time says.

    The front page is always one of them: without any, Sphinx would not copy files to download.
    """
    before = getattr(env, "collapse_texts", {})
    env.collapse_texts = {
        page: hashlib.sha256(Path(env.doc2path(page)).read_bytes()).hexdigest()
        for page in env.found_docs
    }
    other = {page for page, text in env.collapse_texts.items() if before.get(page, text) != text}
    return other | {env.config.root_doc}


def forget_numbers(app: Sphinx, env: BuildEnvironment, page: str) -> None:
    """A page that is read again leaves no numbers behind which it no longer glues."""
    numbers = _numbers_folder(env) / f"{page}.glue.json"
    numbers.unlink(missing_ok=True)


def _numbers_folder(env: BuildEnvironment) -> Path:
    """Where MyST-NB keeps what notebooks glue, a file each."""
    return Path(env.mystnb_config.output_folder)


def stale(app: Sphinx, env: BuildEnvironment) -> set[str]:
    """All pages, if one changed in a way that others show: titles, numbers, labels, citations.

    Sphinx itself would leave them as they are: it follows neither the numbers that a page quotes
    from another, nor the titles in the lists of contents beside every page.
    """
    before = getattr(env, "collapse_shared", None)
    env.collapse_shared = hashlib.sha256(_plain(_shared(env)).encode()).hexdigest()
    return set() if before in (None, env.collapse_shared) else set(env.found_docs)


def _shared(env: BuildEnvironment) -> dict[str, Any]:
    """What pages can show of other pages."""
    kinds, data = ("labels", "anonlabels", "terms", "objects"), env.domaindata
    cited = data.get("cite", {}).get("citations", ())
    glued = _numbers_folder(env).rglob("*.glue.json")
    return {
        "titles": {page: title.astext() for page, title in env.titles.items()},
        "sections": env.toc_secnumbers,
        "figures": env.toc_fignumbers,
        "domains": {name: {kind: data[name].get(kind) for kind in kinds} for name in data},
        "citations": [(one.citation_id, one.key, one.formatted_entry.label) for one in cited],
        "numbers": {str(path): path.read_text(encoding="utf-8") for path in glued},
    }


def _plain(value: Any) -> str:
    """The same text for the same data, in whatever order it was collected."""
    if not isinstance(value, Mapping):
        return repr(value)
    return f"{{{','.join(sorted(f'{key!r}:{_plain(item)}' for key, item in value.items()))}}}"


def complete(app: Sphinx) -> list[Any]:
    """Add the 404 page, and to the search what Sphinx drops in a partial build."""
    indexer = app.builder.indexer
    indexer._index_entries = {}  # of the pages that were written now
    for page, entries in sorted(app.env.domaindata["index"]["entries"].items()):
        split = [(split_index_msg(kind, text), at, main) for kind, text, at, main, _ in entries]
        found = {(word, at, main) for words, at, main in split for word in words}
        indexer._index_entries[page] = sorted(found)
    for words in (indexer._mapping, indexer._title_mapping):
        for word in [word for word, pages in words.items() if not pages]:
            del words[word]
    return [("404", app.config.collapse_unknown, "page.html")]


def name_lists(app: Sphinx, page: str, template: str, context: dict[str, Any], _: Any) -> None:
    """Give the list of references the roles that screen readers know.

    docutils writes ``doc-biblioentry``, which is deprecated, and no child that a list may have.
    """
    if "citation-list" in context.get("body", ""):
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def offer(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Add the buttons of a chapter that run it elsewhere, and of the book as one file.

    Colab opens the copies on the branch that is published. "This browser" is there if the site
    has JupyterLite and the chapter runs in it, the PDF if it was printed from these pages.
    """
    buttons, pathto = context.get("header_buttons", []), context["pathto"]
    chapter, config = page.removeprefix("notebooks/"), app.config
    launch = []
    if chapter != page and doctree and config.collapse_repository:
        copies = f"{config.collapse_repository}/blob/{config.collapse_branch}/download"
        launch.append(_link("Colab", f"{COLAB}/{copies}/{chapter}.ipynb", "logo_colab.png"))
    if chapter in config.collapse_lite:
        place = pathto(f"lite/notebooks/index.html?path={chapter}.ipynb", 1)
        title = "The first start downloads tens of MB from Pyodide's CDN"
        text = "This browser (loads tens of MB)"
        launch.append(_link(text, place, "logo_jupyterlite.svg", title))
    if launch:
        group = {"type": "group", "tooltip": "Launch interactive content", "icon": "fas fa-rocket"}
        buttons.insert(0, group | {"buttons": launch, "label": "launch-buttons"})
    downloads = [group for group in buttons if group.get("label") == "download-buttons"]
    if downloads and config.collapse_pdf:
        icon = {"icon": "fas fa-book", "tooltip": "The whole book, printed"}
        whole = _link("The book as PDF", pathto(config.collapse_pdf, 1), "") | icon
        downloads[0]["buttons"].append(whole)


def _link(text: str, url: str, icon: str, tooltip: str | None = None) -> dict[str, str]:
    said = {"text": text, "tooltip": tooltip or f"Launch on {text}"}
    return {"type": "link", **said, "url": url, "icon": f"_static/images/{icon}"}


def finish(app: Sphinx, error: Exception | None) -> None:
    """Leave no picture that no page shows; links of the 404 page start at the root of the site.

    That page is shown at any depth, in the place of the one that is missing.
    """
    if error is not None or app.builder.name != "html":
        return
    shown = {name for _, name in app.env.images.values()}
    for picture in (app.outdir / "_images").glob("*.*"):
        if picture.name not in shown:
            picture.unlink()
    page, root = app.outdir / "404.html", urlsplit(app.config.html_baseurl).path or "/"
    text = page.read_text("utf-8").replace('href="#', 'href="404.html#')
    page.write_text(re.sub("(?<=<head>)", f'<base href="{root}">', text, count=1), "utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_transform(HeadlessTables)
    app.add_transform(FirstUses)
    app.add_config_value("glossary_common", [], "env", types=[list])
    html = {"repository": "", "branch": "gh-pages", "lite": [], "pdf": "", "unknown": {}}
    for name, default in html.items():
        app.add_config_value(f"collapse_{name}", default, "html", types=[type(default)])
    app.connect("env-get-outdated", outdated)
    app.connect("env-purge-doc", forget_numbers)
    app.connect("env-get-updated", stale, priority=900)  # when all numbers are given
    app.connect("html-collect-pages", complete)
    app.connect("html-page-context", name_lists)
    app.connect("html-page-context", offer, priority=502)  # the theme's are added at 501
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
