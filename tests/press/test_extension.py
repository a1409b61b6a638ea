"""What the press adds to Sphinx: row headers, linked terms, launch buttons, a 404 page."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from collapse_book.extension import glossary_terms, offer

GLOSSARY = """# Glossary

```{glossary}
model collapse
  Forgetting. Needs no {term}`lineage`.

lineage
  One run.

mix
  A workflow.
```
"""
PAGE = """# A page about lineages

|  |  |
| --- | --- |
| **Time** | 5 minutes |

| a | b |
| --- | --- |
| 1 | 2 |

Model collapse in `lineage` and two lineages. Another lineage, a premix and a mix.
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A book of two pages, built strictly."""
    source = tmp_path_factory.mktemp("source")
    (source / "glossary.md").write_text(GLOSSARY)
    (source / "index.md").write_text(f"{PAGE}\n```{{toctree}}\nglossary\n```\n")
    out, warnings = source / "_out", io.StringIO()
    settings = {
        "extensions": ["myst_nb", "collapse_book.extension"],
        "exclude_patterns": ["_out"],
        "glossary_common": ["mix"],
        "html_baseurl": "https://example.org/mini/",
        "html_theme": "basic",
        "collapse_unknown": {"title": "Not here", "body": '<p id="b"><a href="#b">Here</a></p>'},
        "html_use_index": False,
        "nb_execution_mode": "off",
    }
    with docutils_namespace():
        app = Sphinx(
            source, None, out, out / ".trees", "html", settings, status=None, warning=warnings
        )
        app.build()
    assert warnings.getvalue() == ""
    return out


def test_first_column_heads_a_table_without_a_head(site):
    time, other = re.findall(r"<table.*?</table>", (site / "index.html").read_text(), re.DOTALL)
    assert "<thead>" not in time
    assert '<th class="stub"><p><strong>Time</strong></p></th>' in time
    assert "<thead>" in other
    assert "stub" not in other


def test_first_use_in_prose_is_linked_once_and_common_words_are_not(site):
    text = (site / "index.html").read_text()
    links = re.findall(r'href="glossary.html#(term-[\w-]+)".*?std-term">([^<]*)<', text)
    assert links == [("term-model-collapse", "Model collapse"), ("term-lineage", "lineages")]


def test_page_for_unknown_addresses_links_from_the_root(site):
    text = (site / "404.html").read_text()
    assert text.index('<head><base href="/mini/">') < text.index("href=")
    assert '<p id="b"><a href="404.html#b">Here</a></p>' in text
    assert not re.search(r'(href|src|action)="(#|\.\.)', text)


def test_without_a_glossary_there_are_no_terms(tmp_path):
    assert glossary_terms(tmp_path / "glossary.md") == {}


def offered(page: str = "notebooks/one", **config: object) -> dict[str, dict[str, str]]:
    """Addresses of the buttons of a page by group and text."""
    settings = {"collapse_repository": "", "collapse_branch": "gh-pages"}
    settings |= {"collapse_lite": [], "collapse_pdf": ""} | config
    groups = [{"label": "download-buttons", "buttons": []}, {"label": "fullscreen-button"}]
    context = {"header_buttons": groups, "pathto": lambda path, _: f"../{path}"}
    app = SimpleNamespace(config=SimpleNamespace(**settings))
    offer(app, page, "page.html", context, object())
    return {
        group["label"]: {button["text"]: button["url"] for button in group.get("buttons", [])}
        for group in context["header_buttons"]
    }


NOTHING = {"download-buttons": {}, "fullscreen-button": {}}


def test_without_an_address_no_button_leads_anywhere():
    assert offered() == NOTHING


def test_colab_opens_the_published_copy():
    address = "https://colab.research.google.com/github/a/b/blob/gh-pages/download/one.ipynb"
    assert offered(collapse_repository="a/b")["launch-buttons"] == {"Colab": address}
    assert offered("glossary", collapse_repository="a/b") == NOTHING


def test_browser_and_pdf_are_offered_where_they_are():
    lite = offered(collapse_lite=["one"])["launch-buttons"]
    assert lite == {
        "This browser (loads tens of MB)": "../lite/notebooks/index.html?path=one.ipynb"
    }
    assert offered("notebooks/two", collapse_lite=["one"]) == NOTHING
    pdf = offered("glossary", collapse_pdf="book.pdf")["download-buttons"]
    assert pdf == {"The book as PDF": "../book.pdf"}
