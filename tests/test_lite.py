"""Chapters in the browser: which qualify, what their copies hold, where the site goes."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from conftest import Author

from collapse_book import lite, press
from collapse_book.cli import app
from collapse_book.closure import Library
from collapse_book.errors import BadInput
from collapse_book.extension import lite_chapters, offer_browser
from collapse_book.notebooks import read_notebook
from collapse_book.project import Project
from collapse_book.report import Report
from collapse_book.site import check_site, swap

BOOK = Project(Path(__file__).parents[1])


def found(author: Author, *cells: str) -> set[str]:
    project = author.project
    notebook = read_notebook(author.chapter("one", *cells))
    return lite.obstacles(Library(project.package), notebook)


@pytest.mark.parametrize(
    ("cell", "lacks"),
    [
        ("import numpy as np\nfrom scipy import stats", set()),
        ("from collapse_utils import recurse", set()),
        ("import torch", {"torch"}),
        ("def later():\n    from transformers import pipeline", {"transformers"}),
        ("import torch.nn as nn, pandas", {"torch"}),
        ("from concurrent.futures import ThreadPoolExecutor", {"concurrent"}),
        ("import json, subprocess", {"subprocess"}),
        ("%matplotlib inline\nimport polars", {"polars"}),
    ],
)
def test_an_import_that_a_browser_lacks_is_an_obstacle(author: Author, cell, lacks):
    assert found(author, cell) == lacks


def test_obstacles_are_followed_through_the_library(author: Author):
    author.write("collapse_utils/figures.py", "from . import gaussian\n")
    author.write("collapse_utils/gaussian.py", "def law():\n    import torch\n")
    assert found(author, "from collapse_utils import figures") == {"torch"}
    assert found(author, "from collapse_utils import workflows") == set()


def test_the_cell_that_installs_is_no_obstacle(author: Author):
    path = author.chapter("one")
    notebook = json.loads(path.read_text())
    notebook["cells"][1]["source"] = "import torch"
    assert lite.obstacles(Library(author.project.package), notebook) == set()


def test_only_published_chapters_in_their_order(author: Author):
    for name in ("last", "first", "heavy", "draft"):
        author.chapter(name, "import torch" if name == "heavy" else "import numpy")
    author.toc("first", "heavy", "last", "unwritten")
    assert lite.browser_chapters(author.project) == ["first", "last"]


def test_the_book_offers_what_needs_no_torch():
    offered = lite_chapters(BOOK.root)
    assert {"gaussian", "words", "scaling"} <= offered
    assert not {"digits", "language", "provenance", "your_own_model"} & offered


def test_the_copy_installs_the_wheel_and_has_no_outputs(author: Author):
    path = author.chapter("one", "1 + 1")
    notebook = read_notebook(path)
    notebook["cells"][-1] |= {"outputs": [{"output_type": "stream"}], "execution_count": 3}
    copy = lite.browser_copy(notebook)
    assert copy["cells"][1]["source"].endswith("%pip install -q collapse-utils")
    assert copy["cells"][-1]["outputs"] == [] and copy["cells"][-1]["execution_count"] is None
    assert copy["metadata"]["kernelspec"]["name"] == "python"
    assert "google.colab" in notebook["cells"][1]["source"]  # the original is left alone
    other = [cell["source"] for cell in copy["cells"] if cell is not copy["cells"][1]]
    assert other == [c["source"] for c in notebook["cells"] if c is not notebook["cells"][1]]


def test_wheels_that_are_fetched_are_pinned():
    pins = BOOK.constraints.read_text()
    for name in (*lite.WHEELS, "jupyterlite-core", "jupyterlite-pyodide-kernel"):
        assert re.search(rf"^{name}==", pins, re.MULTILINE), name


def page(chapter: str, label: str = "launch-buttons", baseurl: str = "https://example.org/b/"):
    app = SimpleNamespace(srcdir=str(BOOK.book), config=SimpleNamespace(html_baseurl=baseurl))
    context = {"header_buttons": [{"label": label, "buttons": []}]}
    offer_browser(app, chapter, "page.html", context, None)
    return context["header_buttons"][0]["buttons"]


def test_the_launch_menu_links_to_the_published_copy():
    (button,) = page("notebooks/gaussian")
    assert button["url"] == ("https://example.org/b/lite/notebooks/index.html?path=gaussian.ipynb")
    assert "MB" in button["text"] and "CDN" in button["tooltip"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("notebooks/digits",),
        ("glossary",),
        ("notebooks/gaussian", "other"),
        ("notebooks/gaussian", "launch-buttons", ""),
    ],
)
def test_other_pages_have_no_such_link(arguments):
    assert page(*arguments) == []


def test_without_a_site_or_jupyterlite_one_line_says_what_to_do(author: Author, monkeypatch):
    with pytest.raises(BadInput, match="collapse-book build"):
        lite.build_lite(author.project, Report())
    author.write("_build/html/index.html", "<h1>Front</h1>")
    monkeypatch.setattr(lite.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"\[lite\]"):
        lite.build_lite(author.project, Report())


def test_a_new_site_takes_the_notebooks_away_and_says_so(author: Author, monkeypatch):
    html = author.write("_build/html/index.html", "<h1>Old</h1>").parent
    author.write("_build/html/lite/index.html", "<h1>Notebooks</h1>")
    author.write("_build/new/index.html", "<h1>New</h1>")

    def build_book(project: Project, *_: object) -> Path:
        swap(project.build / "new", project.html)
        return project.html / "index.html"

    monkeypatch.setattr(press, "build_book", build_book)
    arguments = ["--project", str(author.root), "build"]
    said = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not (html / "lite").exists()
    assert "collapse-book lite" in said.output


def wheel(folder: Path, name: str) -> Path:
    """The least that the index of wheels can read."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        archive.writestr(f"{name}-1.0.dist-info/METADATA", metadata)
    return path


def test_the_site_holds_notebooks_wheels_and_asks_no_index(author: Author, monkeypatch, tmp_path):
    pytest.importorskip("jupyterlite_core", reason="needs the extra lite")
    pytest.importorskip("jupyterlite_pyodide_kernel", reason="needs the extra lite")
    author.chapter("light", "import numpy")
    author.chapter("heavy", "import torch")
    author.toc("light", "heavy")
    author.write("_build/html/index.html", "<h1>Front</h1>")
    author.write("_build/html/lite/old.txt", "from the last time")
    wheels = [wheel(tmp_path, name) for name in ("collapse_utils", "comm")]
    monkeypatch.setattr(lite, "_wheels", lambda project, work: wheels)
    files, size = lite.build_lite(author.project, Report())
    site = author.project.lite
    assert files == sum(path.is_file() for path in site.rglob("*")) and size < 25e6
    assert not (site / "old.txt").exists()
    assert [path.name for path in (site / "files").iterdir()] == ["light.ipynb"]
    listing = json.loads((site / "api/contents/all.json").read_text())
    assert [entry["path"] for entry in listing["content"]] == ["light.ipynb"]
    assert (site / lite.OPENS.partition("?")[0].removeprefix("lite/")).is_file()
    settings = json.loads((site / "jupyter-lite.json").read_text())["jupyter-config-data"]
    kernel = settings["litePluginSettings"][f"{lite.KERNEL}:kernel"]
    assert kernel["disablePyPIFallback"] is True and "pyodideUrl" not in kernel
    own = next(url for url in kernel["pipliteUrls"] if url.startswith("./pypi/all.json"))
    index = json.loads((site / own.partition("?")[0]).read_text())
    assert set(index) == {"collapse-utils", "comm"}
    assert [entry["name"] for entry in settings["federated_extensions"]] == [lite.KERNEL]
    assert (site / settings["appUrl"] / "index.html").is_file()
    assert (site / settings["faviconUrl"]).is_file()
    assert not list(site.rglob("*.map"))
    assert not [line for line in check_site(site) if "another host" in line]
