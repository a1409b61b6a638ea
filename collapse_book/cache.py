"""Executed notebooks, kept under a key of everything that could change their outputs."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collapse_book.closure import Library
from collapse_book.files import write_atomic
from collapse_book.notebooks import (
    INSTALL_TAG,
    Notebook,
    dump_notebook,
    is_code,
    read_notebook,
    tags,
)
from collapse_book.project import Project

#: Tags that change how papermill runs a cell.
RUN_TAGS = {"parameters", "raises-exception", "skip-execution"}


def executed_sources(notebook: Notebook) -> list[str]:
    """Sources of the code cells that do something outside Colab."""
    return [
        cell["source"]
        for cell in notebook["cells"]
        if is_code(cell) and INSTALL_TAG not in tags(cell)
    ]


def cache_key(
    project: Project, notebook: Notebook, parameters: Mapping[str, Any], library: Library
) -> str:
    """Hash of code cells, parameters, the library modules used, the lock and Python's version.

    Prose is not part of it: editing prose refreshes a page without executing it.
    """
    cells = [
        [cell["source"], sorted(RUN_TAGS & set(tags(cell)))]
        for cell in notebook["cells"]
        if is_code(cell) and INSTALL_TAG not in tags(cell)
    ]
    files = library.files_for(executed_sources(notebook))
    content = {
        "cells": cells,
        "parameters": dict(sorted(parameters.items())),
        "library": {str(path.relative_to(library.folder)): library.digest(path) for path in files},
        "lock": _digest(project.constraints),
        "python": list(sys.version_info[:2]),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


class Store:
    """Executed notebooks at ``FOLDER/CHAPTER/KEY.ipynb``, the newest ``keep`` of each chapter."""

    def __init__(self, folder: Path, *, keep: int = 5) -> None:
        self.folder = folder
        self.keep = keep

    def path(self, chapter: str, key: str) -> Path:
        return self.folder / chapter / f"{key}.ipynb"

    def get(self, chapter: str, key: str) -> Notebook | None:
        """Executed notebook under this key, or None."""
        path = self.path(chapter, key)
        if not path.is_file():
            return None
        os.utime(path)  # the newest are kept
        return read_notebook(path)

    def put(self, chapter: str, key: str, notebook: Notebook) -> Path:
        """Store an executed notebook, whole or not at all, and drop the oldest ones."""
        path = self.path(chapter, key)
        write_atomic(path, dump_notebook(notebook))
        seconds = self.seconds() | {chapter: notebook["metadata"]["collapse_book"]["seconds"]}
        write_atomic(self._seconds_file, json.dumps(seconds, indent=1, sort_keys=True))
        entries = sorted(path.parent.glob("*.ipynb"), key=lambda entry: entry.stat().st_mtime)
        for old in entries[: -self.keep]:
            old.unlink()
        return path

    def seconds(self) -> dict[str, float]:
        """How long each chapter took the last time it ran."""
        if not self._seconds_file.is_file():
            return {}
        return json.loads(self._seconds_file.read_text())

    @property
    def _seconds_file(self) -> Path:
        return self.folder / "seconds.json"
