"""Chapters in the browser: which qualify, what their copies hold, where the site goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import Author

from collapse_book import copies, press
from collapse_book.cache import Library
from collapse_book.messages import BadInput
from collapse_book.notebooks import read_notebook
from collapse_book.project import Project

BOOK = Project(Path(__file__).parents[2])


def found(author: Author, *cells: str) -> set[str]:
    project = author.project
    notebook = read_notebook(author.chapter("one", *cells))
    return copies.obstacles(Library(project.package), notebook)


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
    assert copies.obstacles(Library(author.project.package), notebook) == set()


def test_only_published_chapters_in_their_order(author: Author):
    for name in ("last", "first", "heavy", "draft"):
        author.chapter(name, "import torch" if name == "heavy" else "import numpy")
    author.toc("first", "heavy", "last", "unwritten")
    assert copies.browser_chapters(author.project) == ["first", "last"]


def test_the_book_offers_what_needs_no_torch():
    offered = set(copies.browser_chapters(BOOK))
    assert {"gaussian", "dimensions", "words", "two_words", "feedback", "scaling"} <= offered
    assert not {"diffusion", "digits", "language", "provenance", "your_own_model"} & offered


def test_the_copy_installs_the_wheel_and_has_no_outputs(author: Author):
    path = author.chapter("one", "1 + 1")
    notebook = read_notebook(path)
    notebook["cells"][-1] |= {"outputs": [{"output_type": "stream"}], "execution_count": 3}
    copy = copies.browser_copy(notebook)
    assert copy["cells"][1]["source"].endswith("%pip install -q collapse-utils")
    assert copy["cells"][-1]["outputs"] == [] and copy["cells"][-1]["execution_count"] is None
    assert copy["metadata"]["kernelspec"]["name"] == "python"
    assert "library is missing" in notebook["cells"][1]["source"]  # the original is left alone
    other = [cell["source"] for cell in copy["cells"] if cell is not copy["cells"][1]]
    assert other == [c["source"] for c in notebook["cells"] if c is not notebook["cells"][1]]


def test_without_a_site_or_jupyterlite_one_line_says_what_to_do(author: Author, monkeypatch):
    author.chapter("one")
    with pytest.raises(BadInput, match="collapse-book build"):
        press.build_lite(author.project)
    monkeypatch.setattr(copies.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"\[lite\]"):
        copies.build_lite(author.project)


def test_the_site_holds_notebooks_wheels_and_asks_no_index(author: Author, tmp_path):
    pytest.importorskip("jupyterlite_core", reason="needs the extra lite")
    pytest.importorskip("jupyterlite_pyodide_kernel", reason="needs the extra lite")
    author.chapter("light", "import numpy")
    author.chapter("heavy", "import torch")
    author.toc("light", "heavy")
    assert copies.current_chapters(author.project) == []
    copies.build_lite(author.project)
    assert copies.current_chapters(author.project) == ["light"]
    copies.add_lite(author.project, ["light"], tmp_path)
    site = tmp_path / "lite"
    files = [path for path in site.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25e6
    assert [path.name for path in (site / "files").iterdir()] == ["light.ipynb"]
    listing = json.loads((site / "api/contents/all.json").read_text())
    assert [entry["path"] for entry in listing["content"]] == ["light.ipynb"]
    assert (site / "notebooks/index.html").is_file()
    settings = json.loads((site / "jupyter-lite.json").read_text())["jupyter-config-data"]
    kernel = settings["litePluginSettings"][f"{copies.KERNEL}:kernel"]
    assert kernel["disablePyPIFallback"] is True and "pyodideUrl" not in kernel
    own = next(url for url in kernel["pipliteUrls"] if url.startswith("./pypi/all.json"))
    index = json.loads((site / own.partition("?")[0]).read_text())
    assert set(index) == {"collapse-utils", *copies.WHEELS}
    assert [entry["name"] for entry in settings["federated_extensions"]] == [copies.KERNEL]
    assert (site / settings["appUrl"] / "index.html").is_file()
    assert (site / settings["faviconUrl"]).is_file()
    assert not [path for path in files if path.suffix == ".map"]

    author.write("collapse_utils/workflows.py", "class Replace: pass\n")
    assert copies.current_chapters(author.project) == []  # its wheel is another one's
