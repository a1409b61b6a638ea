"""The cache: what makes a notebook run again, and what does not."""

from __future__ import annotations

import json

import pytest
from conftest import Author

from collapse_book.cache import Store, cache_key
from collapse_book.closure import Library
from collapse_book.notebooks import read_notebook


def key(author: Author, chapter: str = "gaussian", **parameters) -> str:
    project = author.project
    notebook = read_notebook(project.notebook(chapter))
    return cache_key(project, notebook, parameters, Library(project.package))


def edit(author: Author, name: str, before: str, after: str) -> None:
    path = author.root / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@pytest.fixture
def chapter(author: Author) -> Author:
    author.chapter("gaussian", "from collapse_utils import gaussian", "md:Some prose.")
    return author


def test_prose_does_not_change_the_key(chapter: Author):
    before = key(chapter)
    edit(chapter, "notebooks/gaussian.ipynb", "Some prose.", "Other prose.")
    assert key(chapter) == before


def test_install_cell_does_not_change_the_key(chapter: Author):
    before = key(chapter)
    edit(chapter, "notebooks/gaussian.ipynb", "library is missing", "library is gone")
    assert key(chapter) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("notebooks/gaussian.ipynb", "result = ", "outcome = "),
        ("constraints.txt", "2.0", "2.1"),
        ("collapse_utils/gaussian.py", "loop", "loop  # edited"),
        ("collapse_utils/loop.py", "Replace", "Replace  # edited"),
        ("collapse_utils/workflows.py", "...", "...  # edited"),
        ("collapse_utils/__init__.py", "__name__}.", "__name__}.new."),
    ],
)
def test_what_the_outputs_depend_on_changes_the_key(chapter: Author, name, old, new):
    before = key(chapter)
    edit(chapter, name, old, new)
    assert key(chapter) != before


@pytest.mark.parametrize(
    ("name", "old"),
    [("collapse_utils/figures.py", "SCRIPT"), ("collapse_utils/player.js", "playing")],
)
def test_module_that_is_not_imported_does_not_change_the_key(chapter: Author, name, old):
    before = key(chapter)
    edit(chapter, name, old, f"{old}_")
    assert key(chapter) == before


def test_new_lazy_name_does_not_change_the_key_but_a_moved_one_does(chapter: Author):
    chapter.chapter("gaussian", "from collapse_utils import recurse")
    before = key(chapter)
    edit(chapter, "collapse_utils/__init__.py", '"gaussian", ', '"gaussian", "vae", ')
    edit(chapter, "collapse_utils/__init__.py", '{"recurse"', '{"Vae": "figures", "recurse"')
    assert key(chapter) == before
    edit(chapter, "collapse_utils/__init__.py", '"recurse": "loop"', '"recurse": "figures"')
    assert key(chapter) != before


def test_parameters_change_the_key(chapter: Author):
    assert len({key(chapter), key(chapter, seed=2), key(chapter, seed=3)}) == 3
    assert key(chapter, seed=2, n_samples=5) == key(chapter, n_samples=5, seed=2)


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import numpy as np", []),
        ("from collapse_utils import recurse", ["__init__", "loop", "workflows"]),
        ("from collapse_utils import Replace as R", ["__init__", "workflows"]),
        ("from collapse_utils import figures", ["__init__", "figures", "player.js"]),
        ("import collapse_utils.figures as f", ["__init__", "figures", "player.js"]),
        ("from collapse_utils.loop import recurse", ["__init__", "loop", "workflows"]),
        ("def f():\n    from collapse_utils import figures", ["__init__", "figures", "player.js"]),
        ("%matplotlib inline\nfrom collapse_utils import Replace", ["__init__", "workflows"]),
        ("from collapse_utils import __version__", ["__init__"]),
    ],
)
def test_closure_of_imports(author: Author, source, modules):
    files = Library(author.root / "collapse_utils").files_for([source])
    assert sorted(path.name.removesuffix(".py") for path in files) == modules


@pytest.mark.parametrize(
    "source",
    [
        "import collapse_utils",
        "from collapse_utils import *",
        "from collapse_utils import odd",
        "x =",
    ],
)
def test_unclear_import_depends_on_everything(author: Author, source):
    files = Library(author.root / "collapse_utils").files_for([source])
    assert len(files) == 6


def test_module_imported_at_once_by_the_package_is_a_dependency(author: Author):
    text = (author.root / "collapse_utils/__init__.py").read_text()
    author.write("collapse_utils/__init__.py", "from . import figures\n" + text)
    files = Library(author.root / "collapse_utils").files_for(
        ["from collapse_utils import Replace"]
    )
    assert "figures.py" in [path.name for path in files]


def test_data_file_that_no_module_names_is_a_dependency_of_all(author: Author):
    author.write("collapse_utils/table.csv", "1,2\n")
    files = Library(author.root / "collapse_utils").files_for(
        ["from collapse_utils import Replace"]
    )
    assert "table.csv" in [path.name for path in files]


def test_store_keeps_the_newest_and_the_seconds(tmp_path):
    import os

    store = Store(tmp_path, keep=2)
    for number in range(3):
        notebook = {"cells": [], "metadata": {"collapse_book": {"seconds": float(number)}}}
        path = store.put("gaussian", f"key{number}", notebook)
        os.utime(path, (number, number))
    assert sorted(path.stem for path in (tmp_path / "gaussian").iterdir()) == ["key1", "key2"]
    assert store.seconds() == {"gaussian": 2.0}
    assert store.get("gaussian", "key0") is None
    assert store.get("gaussian", "key2")["metadata"]["collapse_book"]["seconds"] == 2.0
    assert json.loads((tmp_path / "seconds.json").read_text()) == {"gaussian": 2.0}
