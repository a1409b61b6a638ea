"""Notebooks as files: their cells, their parameters, the cell that Colab needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from collapse_book.errors import BadInput
from collapse_book.parameters import Parameter, read_cell
from collapse_book.project import Project

Notebook = dict[str, Any]
Cell = dict[str, Any]

INSTALL_TAG = "colab-install"
PARAMETERS_TAG = "parameters"
INJECTED_TAG = "injected-parameters"
#: Defines an exception that a notebook shows as one sentence, without a traceback.
STOP = """\
class Stop(Exception):
    def _render_traceback_(self):
        return [str(self)]
"""
#: The cell tagged `colab-install` as git keeps it: it names no address, so no copy is misled.
INSTALL_CELL = f"""\
# Stops where the book's library is missing. The copies on the book's site bring it along.
from importlib.util import find_spec


{STOP}

if find_spec("collapse_utils") is None:
    raise Stop(
        "The book's library is missing: open this chapter from the book's site, "
        "or run `pip install .` in a clone of the repository."
    )"""


def read_notebook(path: Path) -> Notebook:
    """Load a notebook with every cell's source joined to one string.

    Raises
    ------
    BadInput
        If the file is not a notebook.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path.name} is not a notebook: {error}") from None
    match notebook:
        case {"cells": [*cells], "metadata": {}} if all(map(_is_cell, cells)):
            for cell in cells:
                cell["source"] = joined(cell["source"])
            return notebook
    raise BadInput(f"{path.name} is not a notebook: it lacks cells, or a cell its source")


def _is_cell(cell: Any) -> bool:
    match cell:
        case {"cell_type": str(), "source": str(), "metadata": {}}:
            return True
        case {"cell_type": str(), "source": [*lines], "metadata": {}}:
            return all(isinstance(line, str) for line in lines)
    return False


def dump_notebook(notebook: Notebook) -> str:
    """Write a notebook as Jupyter does, so that a later save changes little."""
    cells = [
        cell | {"source": joined(cell["source"]).splitlines(keepends=True)}
        for cell in notebook["cells"]
    ]
    return (
        json.dumps(notebook | {"cells": cells}, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    )


def joined(text: str | list[str]) -> str:
    """Notebook text, which may be stored as a list of lines, as one string."""
    return text if isinstance(text, str) else "".join(text)


def tags(cell: Cell) -> list[str]:
    """Tags of a cell."""
    return cell.get("metadata", {}).get("tags", [])


def is_code(cell: Cell) -> bool:
    """Whether a cell holds code to execute; an empty code cell does not."""
    return cell["cell_type"] == "code" and bool(cell["source"].strip())


def first_line(cell: Cell) -> str:
    """First line that says something, shortened: it tells an author which cell is meant."""
    for line in cell["source"].splitlines():
        if line.strip():
            return line.strip() if len(line.strip()) <= 60 else line.strip()[:57] + "..."
    return "(empty)"


def title(notebook: Notebook) -> str:
    """Text of the first heading."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for line in cell["source"].splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
    return ""


def parameters_of(notebook: Notebook) -> list[Parameter]:
    """Typed parameters of a notebook.

    Raises
    ------
    ValueError
        If there is not exactly one cell tagged ``parameters`` or it is malformed.
    """
    cells = [cell for cell in notebook["cells"] if PARAMETERS_TAG in tags(cell)]
    if len(cells) != 1:
        raise ValueError(f"needs one cell tagged {PARAMETERS_TAG!r}, has {len(cells)}")
    return read_cell(cells[0]["source"])


def chapter_parameters(project: Project, chapter: str) -> list[Parameter]:
    """Typed parameters of a chapter.

    Raises
    ------
    BadInput
        If the chapter does not exist or its parameters cell is malformed.
    """
    path = project.notebook(chapter)
    try:
        return parameters_of(read_notebook(path))
    except ValueError as error:
        raise BadInput(f"{project.relative(path)}: parameters cell: {error}") from None


def clean_copy(notebook: Notebook) -> Notebook:
    """Copy of a notebook without outputs, as it is kept in git."""
    copy = json.loads(json.dumps(notebook))
    for cell in copy["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
            cell["execution_count"] = None
    return copy
