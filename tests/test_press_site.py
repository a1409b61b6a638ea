"""The built site: nothing from other hosts, no broken link, whole or not there."""

from __future__ import annotations

import json
import subprocess

import pytest
from conftest import Author

from collapse_book import site
from collapse_book.errors import BadInput, BuildFailed
from collapse_book.site import check_links, check_site, recover, swap, vendor_mathjax


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example.org/x.js"></script>',
        '<script src="//cdn.example.org/x.js"></script>',
        '<link rel="stylesheet" href="https://fonts.example.org/css">',
        '<img src="http://example.org/x.png">',
        '<img srcset="a.png 1x, https://example.org/b.png 2x">',
        '<iframe src="https://example.org"></iframe>',
        "<style>@import 'https://example.org/x.css';</style>",
        "<p style='background: url(https://example.org/x.png)'>",
    ],
)
def test_request_to_another_host_is_found(tmp_path, html):
    (tmp_path / "a.png").touch()
    (tmp_path / "index.html").write_text(html)
    (found,) = check_site(tmp_path)
    assert found.startswith("index.html loads ")
    assert found.endswith(" from another host")


def test_style_sheet_that_loads_a_remote_font_is_found(tmp_path):
    (tmp_path / "book.css").write_text("@font-face {src: url('https://example.org/a.woff2')}")
    assert check_site(tmp_path) == ["book.css loads https://example.org/a.woff2 from another host"]


def test_broken_link_is_found(tmp_path):
    (tmp_path / "index.html").write_text('<a href="gone.html#x">x</a><img src="gone.png">')
    assert check_site(tmp_path) == [
        "index.html links to gone.png, which is not there",
        "index.html links to gone.html#x, which is not there",
    ]


def test_link_to_a_missing_anchor_is_found(tmp_path):
    (tmp_path / "other.html").write_text('<p id="here">')
    (tmp_path / "index.html").write_text('<a href="other.html#here"></a><a href="other.html#no">')
    assert check_site(tmp_path) == ["index.html links to other.html#no, which is not there"]


def test_links_of_a_good_page_pass(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/page.html").write_text(
        '<a href="../index.html?v=1">up</a><a href="https://example.org">out</a><a href="#top">'
        '<img src="data:image/png;base64,iVBO"><link rel="canonical" href="https://example.org">'
        '<p id="top"><a href="mailto:a@example.org"></a>'
    )
    (tmp_path / "index.html").write_text('<a href="sub/page.html">down</a>')
    assert check_site(tmp_path) == []


def test_swap_replaces_and_recover_takes_back(tmp_path):
    new, place = tmp_path / "new", tmp_path / "html"
    for text in ("first", "second"):
        new.mkdir()
        (new / "index.html").write_text(text)
        swap(new, place)
        assert (place / "index.html").read_text() == text
    place.rename(tmp_path / "html.old")  # killed between the two renames
    recover(place)
    assert (place / "index.html").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["html"]


def test_mathjax_is_one_local_file(author: Author):
    vendor_mathjax(author.project)
    (file,) = (author.root / "book/_vendor").rglob("*.*")
    assert file.name == "tex-svg.js"
    assert file.stat().st_size > 1_000_000


def test_missing_mathjax_file_is_bad_input(author: Author):
    config = (author.root / "_config.yml").read_text()
    author.write("_config.yml", config.replace("tex-svg.js", "tex-gone.js"))
    with pytest.raises(BadInput, match=r"has no file tex-gone\.js"):
        vendor_mathjax(author.project)


def test_links_from_the_root_must_begin_with_the_path_of_the_site(tmp_path):
    (tmp_path / "index.html").write_text('<p id="top">')
    (tmp_path / "404.html").write_text(
        '<a href="/book/index.html#top"></a><a href="/index.html"></a><a href="/book/gone.html">'
    )
    assert check_site(tmp_path, "/book/") == [
        "404.html links to /index.html, which is not there",
        "404.html links to /book/gone.html, which is not there",
    ]


@pytest.mark.parametrize("status", ["working", "redirected", "broken", "timeout"])
def test_broken_external_links_are_listed(author: Author, monkeypatch, status):
    links = [
        {"filename": "a.md", "lineno": 3, "status": "unchecked", "uri": "#here", "info": ""},
        {"filename": "a.md", "lineno": 4, "status": "working", "uri": "https://a.org", "info": ""},
        {
            "filename": "b.md",
            "lineno": 5,
            "status": status,
            "uri": "https://b.org",
            "info": "4\n04",
        },
    ]

    def jupyter_book(project, work, *options):
        assert options == ("--builder", "linkcheck")
        report = work / "_build" / "html" / "output.json"
        report.parent.mkdir(parents=True)
        report.write_text("".join(json.dumps(link) + "\n" for link in links))
        return subprocess.CompletedProcess(options, 1, stdout="")

    monkeypatch.setattr(site, "_jupyter_book", jupyter_book)
    with pytest.raises(BadInput, match="there are no pages yet"):
        check_links(author.project)
    author.project.staged.mkdir(parents=True)
    if status in ("working", "redirected"):
        assert check_links(author.project) == 2
        return
    with pytest.raises(BuildFailed) as failed:
        check_links(author.project)
    assert str(failed.value).splitlines() == [
        "b.md, line 5: https://b.org: 4 04",
        "1 of 2 links broken",
    ]
