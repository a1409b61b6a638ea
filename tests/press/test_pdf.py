"""The bound book: pages in reading order, links that stay inside, a PDF with a cover."""

from __future__ import annotations

import importlib.util
import os
import re

import pytest
from miniature import Author

from collapse_book import pdf
from collapse_book.messages import BadInput

PAGE = """<html><head><link rel="stylesheet" href="_static/a.css">
<script>window.MathJax = {{}}; MathJax.startup = {{promise: Promise.resolve()}};</script>
<script src="mathjax/tex-svg.js"></script></head><body><article class="bd-article">
<h1 id="top">{title}<a class="headerlink" href="#top">#</a></h1>
{body}</article></body></html>"""


@pytest.fixture
def built(author: Author) -> Author:
    """A site of three pages as Sphinx would have written it."""
    author.write(
        "_config.yml",
        """
        title: "A miniature: in print"
        author: Nobody
        project: miniature
        """,
    )
    author.write(
        "book/_toc.yml",
        """
        format: jb-book
        root: index
        parts:
          - caption: First part
            chapters:
              - file: notebooks/one
              - file: about
        """,
    )
    author.write(
        "book/notebooks/one.ipynb",
        '{"cells": [], "metadata": {"collapse_book": {"executed": "2026-01-02T03:04:05+00:00"}}}',
    )
    links = '<a href="notebooks/one.html#part">one</a> <a href="download/one.ipynb">file</a>'
    author.write("_build/html/index.html", PAGE.format(title="Front", body=links))
    body = """<section id="part"><h2>Part</h2></section><a href="../about.html">about</a>
    <img class="only-dark" src="dark.png"><img class="only-light" src="../_images/light.png">
    <div class="cell tag_hide-input"><details class="hide"><summary>s</summary>plumbing</details>
    </div><section id="exercises"><details class="hide"><summary>s</summary>solution</details>
    </section><div class="player-strip" hidden>stills</div>
    <svg><defs><path id="fig-a-letter"></path></defs><use xlink:href="#fig-a-letter"></use></svg>
    <div class="collapse-cite">cite</div>"""
    author.write("_build/html/notebooks/one.html", PAGE.format(title="1. One", body=body))
    author.write("_build/html/about.html", PAGE.format(title="About", body="<p>The end.</p>"))
    return author


def test_book_is_bound_in_reading_order_with_parts(built: Author):
    text, count = pdf.bound(built.project)
    assert count == 3
    places = [text.index(f'id="{name}"') for name in ("index", "notebooks-one", "about")]
    assert places == sorted(places)
    assert re.findall(r'<li class="print-part">([^<]*)</li>\s*<li><a href="#([\w-]+)', text) == [
        ("First part", "notebooks-one")
    ]
    assert '@page notebooks-one { @top-right { content: "1. One"; } }' in text
    assert "2026-01-02 03:04 UTC" in text


def test_links_lead_into_the_book_or_to_the_published_site(built: Author, monkeypatch):
    alone, _ = pdf.bound(built.project)
    assert "<a>file</a>" in alone and "http" not in alone
    monkeypatch.setenv("BOOK_ADDRESS", "https://example.org/miniature/")
    text, _ = pdf.bound(built.project)
    assert '<a href="#notebooks-one--part">one</a>' in text
    assert '<section id="notebooks-one--part">' in text
    assert '<a href="#about">about</a>' in text
    assert '<a href="https://example.org/miniature/download/one.ipynb">file</a>' in text
    assert 'src="html/_images/light.png"' in text


def test_paper_has_solutions_and_stills_but_no_plumbing_and_no_dark_figures(built: Author):
    text, _ = pdf.bound(built.project)
    assert "solution" in text
    assert '<div class="player-strip">stills' in text
    assert 'id="fig-a-letter"' in text and 'xlink:href="#fig-a-letter"' in text
    for gone in ("plumbing", "dark.png", "headerlink", "<summary", "cite</div>"):
        assert gone not in text


def test_pdf_has_a_page_for_each_leaf_and_numbers_in_the_contents(
    built: Author, tmp_path, monkeypatch
):
    monkeypatch.setattr(pdf, "is_current", lambda project: True)
    if any(importlib.util.find_spec(name) is None for name in ("playwright", "pypdf")):
        pytest.skip("the extra `pdf` is not installed: nothing is printed")
    try:
        pdf.find_chromium()
    except BadInput as error:
        pytest.skip(f"{error}: nothing is printed")
    from pypdf import PdfReader

    css = ".print-leaf, .print-contents {break-before: page}"
    built.write("_build/html/_static/a.css", css)
    built.write("_build/html/mathjax/tex-svg.js", "")
    path, pages = pdf.print_book(built.project, tmp_path / "mini.pdf")
    reader = PdfReader(path)
    assert pages == len(reader.pages) == 5
    assert reader.metadata.title == "A miniature: in print"
    contents = reader.pages[1].extract_text()
    assert re.findall(r"(Front|One|About)\s*(\d+)", contents) == [
        ("Front", "3"),
        ("One", "4"),
        ("About", "5"),
    ]
    assert not (built.root / "_build/print.html").exists()


def test_cover_shows_the_drawing_that_the_site_has(built: Author):
    assert 'alt=""' not in pdf.bound(built.project)[0]
    built.write("_build/html/_static/cover.svg", "<svg/>")
    (source,) = re.findall(r'<img alt="" src="([^"]+)">', pdf.bound(built.project)[0])
    assert (built.project.build / source).is_file()


def test_without_a_current_site_nothing_is_printed(built: Author):
    pytest.importorskip("pypdf")
    with pytest.raises(BadInput, match="run `collapse-book build`"):
        pdf.print_book(built.project, None)


def test_missing_browser_is_one_line(monkeypatch):
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    with pytest.raises(BadInput, match="CHROMIUM=/nowhere/chromium is no program: install"):
        pdf.find_chromium()
    monkeypatch.delenv("CHROMIUM")
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(BadInput, match="no Chromium or Chrome found: install chromium"):
        pdf.find_chromium()
