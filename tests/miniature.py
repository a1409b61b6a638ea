"""A miniature book in a temporary folder, for the tests of the press."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from collapse_book.notebooks import INSTALL_CELL
from collapse_book.project import Project

# A deadline in milliseconds would fail a test on a machine that has other work.
settings.register_profile("book", deadline=None)
settings.load_profile("book")

PARAMETERS = """\
seed: int = 1  # seed of the run [0..]
n_samples: int = 100  # training-set size M per generation [2..1000000]
rate: float = 0.5  # learning rate, a "#" is no end [0.0..1.0]
dataset: str = "digits"  # images to learn [digits|mnist]
quick: bool = False  # skip the slow part
"""
USE = "result = (seed, n_samples, rate, dataset, quick)"


class Author:
    """Writes files of a miniature book."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def project(self) -> Project:
        """A fresh look at the files."""
        return Project(self.root)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    def chapter(
        self,
        name: str,
        *cells: str | tuple[str, Sequence[str]],
        title: str = "A chapter",
        parameters: str = PARAMETERS,
    ) -> Path:
        """A clean notebook; a cell that starts with ``md:`` is prose."""
        path = self.root / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        written: list[dict[str, Any]] = []

        def add(source: str, tags: Sequence[str] = ()) -> None:
            metadata = {"tags": list(tags)} if tags else {}
            cell = {"id": f"cell-{len(written)}", "metadata": metadata, "source": source}
            if source.startswith("md:"):
                cell |= {"cell_type": "markdown", "source": source.removeprefix("md:")}
            else:
                cell |= {"cell_type": "code", "outputs": [], "execution_count": None}
            written.append(cell)

        add(f"md:# {title}\n\nA question.")
        add(INSTALL_CELL, ["colab-install", "remove-cell"])
        add(parameters, ["parameters"])
        add(USE)
        for cell in cells:
            if isinstance(cell, str):
                add(cell)
            else:
                add(*cell)
        notebook = {
            "cells": written,
            "metadata": {
                "kernelspec": {
                    "display_name": "Python 3",
                    "language": "python",
                    "name": "python3",
                },
                "language_info": {"name": "python"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        path.write_text(json.dumps(notebook, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return path

    def toc(self, *chapters: str) -> None:
        files = [f"notebooks/{chapter}" for chapter in chapters]
        files += ["generated/ledger", "generated/status"]
        entries = "".join(f"  - file: {file}\n" for file in files)
        self.write("book/_toc.yml", f"format: jb-book\nroot: index\nchapters:\n{entries}")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests run as in a clone that came from nowhere, also where CI names a repository."""
    for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "BOOK_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def author(tmp_path: Path) -> Author:
    """An empty book: settings, a front page, a library of four modules."""
    author = Author(tmp_path / "book")
    author.write(
        "_config.yml",
        """
        title: A miniature book
        only_build_toc_files: true
        exclude_patterns: [".*", "_build", "_vendor"]
        execute: {execute_notebooks: "off"}
        sphinx:
          config:
            extensions: [myst_nb, jupyter_book, sphinx_external_toc, sphinx.ext.intersphinx,
              sphinx_design, sphinx_togglebutton, sphinx_comments, sphinx_book_theme,
              sphinx_jupyterbook_latex, sphinx_multitoc_numbering]
            html_extra_path: [_vendor]
            mathjax_path: ../mathjax/tex-svg.js
        """,
    )
    author.write("book/index.md", "(verdicts)=\n# Front\n\nWelcome.\n")
    author.toc()
    author.write("constraints.txt", "numpy==2.0\n")
    author.write(
        "pyproject.toml",
        """
        [project]
        name = "collapse-utils"
        requires-python = ">=3.11"
        dependencies = ["numpy>=2.0"]
        """,
    )
    author.write(
        "collapse_utils/__init__.py",
        """
        from importlib import import_module

        __version__ = "0.1.0"
        _EXPORTS = {"recurse": "loop", "Replace": "workflows"}
        _MODULES = ("figures", "gaussian", "loop", "workflows")


        def __getattr__(name):
            return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
        """,
    )
    author.write("collapse_utils/loop.py", "from .workflows import Replace\n\nrecurse = Replace\n")
    author.write("collapse_utils/workflows.py", "class Replace: ...\n")
    author.write("collapse_utils/gaussian.py", "def law():\n    from . import loop\n")
    author.write("collapse_utils/figures.py", 'SCRIPT = "player.js"\n')
    author.write("collapse_utils/player.js", "let playing;\n")
    (author.root / "notebooks").mkdir()
    (author.root / "scenarios").mkdir()
    return author
