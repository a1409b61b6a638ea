"""The built site: its settings, whole or not there, the same by parts as at once."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from miniature import Author
from test_pages import executed_copy

from collapse_book.copies import library_wheel
from collapse_book.messages import BadInput, BuildFailed
from collapse_book.notebooks import read_notebook
from collapse_book.pages import merge, write_pages
from collapse_book.site import (
    build_site,
    is_current,
    recover,
    settings,
    swap,
    vendor_mathjax,
)


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


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/some-one/a.book.git",
        "https://token@github.com/some-one/a.book",
        "git@github.com:some-one/a.book.git",
        "ssh://git@github.com/some-one/a.book/",
    ],
)
def test_repository_is_that_of_the_remote(author: Author, remote):
    assert author.project.repository is None
    subprocess.run(["git", "init", "-q", author.root], check=True)
    assert author.project.repository is None
    subprocess.run(["git", "-C", author.root, "remote", "add", "origin", remote], check=True)
    assert author.project.repository == "some-one/a.book"


@pytest.mark.parametrize(
    "remote", ["https://example.org/some-one/book", "https://notgithub.com/a/b", "/srv/book.git"]
)
def test_remote_elsewhere_is_no_repository(author: Author, remote):
    subprocess.run(["git", "init", "-q", author.root], check=True)
    subprocess.run(["git", "-C", author.root, "remote", "add", "origin", remote], check=True)
    assert author.project.repository is None


def test_repository_of_ci_counts_only_on_github(author: Author, monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "some-one/book")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://forge.example.org")
    assert author.project.repository is None
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    assert author.project.repository == "some-one/book"


def test_address_must_be_one(author: Author, monkeypatch):
    assert author.project.address is None
    monkeypatch.setenv("BOOK_ADDRESS", "https://example.org/book")
    assert author.project.address == "https://example.org/book/"
    for wrong in ("example.org/book", "file:///book", "https://example.org/?page=1"):
        monkeypatch.setenv("BOOK_ADDRESS", wrong)
        with pytest.raises(BadInput, match="is not the address of a site"):
            author.project.address  # noqa: B018


def test_settings_name_no_owner_unless_there_is_one(author: Author, monkeypatch):
    author.chapter("one")
    config = (author.root / "_config.yml").read_text()
    author.write("_config.yml", f"{config}published: {{extensions: [x], card: blue}}\n")
    alone = settings(author.project, [], None)
    assert "repository" not in alone and not alone["html"] and "published" not in alone
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "some-one/book")
    monkeypatch.setenv("BOOK_ADDRESS", "https://example.org/book")
    known = settings(author.project, [], None)
    assert known["repository"]["url"] == "https://github.com/some-one/book"
    assert known["html"]["use_edit_page_button"] is True
    assert known["html"]["baseurl"] == "https://example.org/book/"
    sphinx = known["sphinx"]["config"]
    assert sphinx["extensions"][-1] == "x" and sphinx["card"] == "blue"
    sources = sphinx["html_context"]["sources"]
    assert sources == {"notebooks/one.ipynb": "notebooks/one.ipynb"}


def glued(key: str, value: str):
    prefix = "application/papermill.record/"
    return {
        "output_type": "display_data",
        "data": {f"{prefix}text/plain": f"'{value}'"},
        "metadata": {"scrapbook": {"name": key, "mime_prefix": prefix}},
    }


@pytest.fixture
def small(author: Author) -> Author:
    """A book whose pages show each other's titles, numbers, labels and terms."""
    config = yaml.safe_load((author.root / "_config.yml").read_text())
    real = yaml.safe_load((Path(__file__).parents[2] / "_config.yml").read_text("utf-8"))
    config |= {"bibtex_bibfiles": ["references.bib"]}
    config |= {"parse": {"myst_enable_extensions": ["dollarmath"]}}
    config["sphinx"]["config"]["extensions"] += ["sphinxcontrib.bibtex", "collapse_book.extension"]
    config["sphinx"]["config"]["html_context"] = real["sphinx"]["config"]["html_context"]
    config["sphinx"]["recursive_update"] = True
    author.write("_config.yml", yaml.safe_dump(config))
    author.write("book/references.bib", "@misc{a, title={A}, author={B, C}, year={2001}}\n")
    quote = "The other page has {glue:text}`notebooks/one.ipynb::half:s`, see {eq}`eq-one`."
    author.write("book/index.md", f"(verdicts)=\n# Front\n\n{quote} {{doc}}`notebooks/one`\n")
    author.write("book/references.md", "# References\n\n```{bibliography}\n:filter: cited\n```\n")
    author.write("book/glossary.md", "# Terms\n\n```{glossary}\nlineage\n  One run.\n```\n")
    author.chapter("one", "1", "md:Of a lineage.\n\n$$\nx\n$$ (eq-one)\n", title="One")
    author.chapter("a_part/two", "2", "md:Text, {cite:t}`a`.", title="Two")
    author.toc("one", "two")
    toc = (author.root / "book/_toc.yml").read_text()
    author.write("book/_toc.yml", f"{toc}  - file: references\n  - file: glossary\n")
    return author


def pressed(author: Author, number: str = "0.5", **missing: str) -> Path:
    """The folder of the site, built from what there is now."""
    project = author.project
    chapters = [name for name in project.published if name not in missing]
    notebooks = {}
    for name in chapters:
        notebook = read_notebook(project.notebook(name))
        notebooks[name] = merge(notebook, executed_copy(notebook, [glued("half", number)]))
    write_pages(project, notebooks)
    return build_site(project, missing=missing or None).parent


def edit(author: Author, name: str, before: str, after: str) -> None:
    path = author.root / name
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after), "utf-8")


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_build_of_what_changed_gives_the_site_of_a_whole_build(small: Author):
    work = small.root / "_build/sphinx/_build/html/notebooks"
    pressed(small)
    assert is_current(small.project)

    # Prose: its page alone is written again.
    before = (work / "one.html").stat().st_mtime_ns
    edit(small, "notebooks/a_part/two.ipynb", "A question.", "A better question.")
    html = pressed(small)
    assert "A better question." in (html / "notebooks/two.html").read_text("utf-8")
    assert (work / "one.html").stat().st_mtime_ns == before

    # The library alone: no page changes, and the copies to download do.
    edit(small, "collapse_utils/workflows.py", "...", '"""Replaced."""')
    name, wheel = library_wheel(small.project)
    assert (pressed(small) / "wheel" / name).read_bytes() == wheel

    # A number, a title, an equation and a citation: whatever shows them follows.
    edit(small, "notebooks/a_part/two.ipynb", "# Two", "# A title that changed")
    edit(small, "notebooks/a_part/two.ipynb", "{cite:t}`a`", "no work")
    edit(small, "notebooks/one.ipynb", "$$\\nx", "$$\\ny\\n$$ (eq-new)\\n\\n$$\\nx")
    html = pressed(small, number="0.7")
    front = (html / "index.html").read_text("utf-8")
    assert "0.7" in front and "0.5" not in front and "A title that changed" in front
    part = tree(html)
    shutil.rmtree(small.root / "_build/sphinx")
    whole = tree(pressed(small, number="0.7"))
    assert part.keys() == whole.keys()
    assert [name for name in whole if part[name] != whole[name]] == []


def links_lead_to_the_file_in_the_folder_of_its_part(html: Path) -> None:
    page = (html / "notebooks/two.html").read_text("utf-8")
    links = set(re.findall(r'href="([^"]+)"', page))
    assert {
        "https://github.com/some-one/book/edit/main/notebooks/a_part/two.ipynb",
        "https://colab.research.google.com/github/some-one/book/blob/gh-pages/download/two.ipynb",
        "../_sources/notebooks/two.ipynb",
        "../download/two.ipynb",
    } <= links
    front = (html / "index.html").read_text("utf-8")
    assert "https://github.com/some-one/book/edit/main/book/index.md" in front
    for listed in re.findall(r"\]\((\S+)\)", (html / "llms.txt").read_text("utf-8")):
        assert (html / listed).is_file() or listed.startswith("generated/parameters")
    name = "two.ipynb"
    for copy in (html / "_sources/notebooks" / name, html / "download" / name):
        assert read_notebook(copy)["cells"][0]["source"].startswith("# Two")


def test_links_are_right_and_a_preview_says_what_is_missing_and_leaves_the_site_alone(
    small: Author, monkeypatch
):
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "some-one/book")
    html = pressed(small)
    links_lead_to_the_file_in_the_folder_of_its_part(html)
    before = tree(html)
    preview = pressed(small, one="one, cell 3: Kernel\ndied")
    assert preview == small.root / "_build/preview"
    assert "this preview of the book lacks it: one, cell 3: Kernel died" in (
        preview / "notebooks/one.html"
    ).read_text("utf-8")
    assert "did not run" in (preview / "generated/status.html").read_text("utf-8")
    assert (preview / "notebooks/two.html").is_file()
    assert tree(html) == before
    assert tree(pressed(small)) == before


def test_mistake_is_found_again_until_it_is_mended(small: Author):
    edit(small, "notebooks/a_part/two.ipynb", "A question.", "{cite:t}`nobody`")
    for _ in range(2):
        with pytest.raises(BuildFailed, match="nobody"):
            pressed(small)
