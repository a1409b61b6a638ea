"""What the press adds to Sphinx: row headers, linked terms, an index with chapters, a 404 page."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from collapse_book.extension import glossary_terms, root_links

TEMPLATES = Path(__file__).parents[1] / "book" / "_templates"
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
        "extensions": ["myst_parser", "notfound.extension", "collapse_book.extension"],
        "exclude_patterns": ["_out"],
        "glossary_common": ["mix"],
        "html_baseurl": "https://example.org/mini/",
        "html_theme": "basic",
        "notfound_urls_prefix": "/mini/",
        "templates_path": [str(TEMPLATES)],
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


def test_index_leads_to_the_glossary_and_to_the_first_use(site):
    text = (site / "genindex.html").read_text()
    assert '<a href="glossary.html#term-lineage">lineage</a>' in text
    assert '<a href="index.html#use-lineage" aria-label="lineage, A page about lineages">' in text
    assert 'id="use-lineage"' in (site / "index.html").read_text()
    assert "<table" not in text


def test_page_for_unknown_addresses_links_from_the_root(site):
    text = (site / "404.html").read_text()
    assert not re.search(r'(href|src|action)="(?!"|/mini/|#|https?:)', text)
    assert 'data-content_root="/mini/"' in text


def test_only_links_inside_the_site_are_moved_to_the_root():
    text = '<a href="a.html"><a href="#x"><a href="/b"><img src="data:x"><a href="https://c.org">'
    assert root_links(text, "/mini/") == text.replace("a.html", "/mini/a.html")


def test_without_a_glossary_there_are_no_terms(tmp_path):
    assert glossary_terms(tmp_path / "glossary.md") == {}
