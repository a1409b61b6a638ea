"""What a notebook in git must look like, and the repairs a machine can make."""

from __future__ import annotations

import ast
import re
import uuid
from collections.abc import Iterable

from collapse_book.closure import MAGIC
from collapse_book.files import write_atomic
from collapse_book.gate import CODE_FENCE, Finding
from collapse_book.notebooks import (
    INSTALL_CELL,
    INSTALL_TAG,
    PARAMETERS_TAG,
    Cell,
    Notebook,
    clean_copy,
    dump_notebook,
    first_line,
    is_code,
    parameters_of,
    read_notebook,
    tags,
)
from collapse_book.project import Project

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
NAME = re.compile(r"[a-z][a-z0-9_]*")
#: Modules that Colab lacks or that belong to the press.
NOT_IN_CHAPTERS = ("collapse_book", "myst_nb", "papermill")

#: What is not a sentence of ours: code, mathematics, roles, links, table rows, headings.
NOT_PROSE = re.compile(
    r"^(`{3,}|~{3,}|:{3,}).*?^\1\s*$|\$\$.*?\$\$|\$[^$\n]+\$|\{[\w:]+\}`[^`]*`|`[^`]*`"
    r"|\]\([^)]*\)|^\s*\|.*$|^#.*$",
    re.MULTILINE | re.DOTALL,
)
MEASURED = re.compile(
    r"\b(we (?:find|found|measured?|get|got|observed?|see|saw)|measured|this run|our run|in the run"
    r"|the simulation|simulated|estimated?|standard errors?|replicates? (?:give|gave|end))\b|±",
    re.IGNORECASE,
)
NUMBER = re.compile(r"(?<![\w.,/-])\d+\.\d+(?!\.?\d)(?:e[+-]?\d+)?\s?%?|±\s*\d")
CITED = re.compile(r"\{cite")
#: A duration. "A second" and "in an hour" are left alone, for they are also figures of speech.
DURATION = re.compile(
    r"\b(?:\d[\d.,]*|few|some|several|half an?|two|three|four|five|ten|fifteen|twenty|thirty)\s+"
    r"(?:(?:milli|micro|nano)?seconds?|minutes?|hours?|days?)\b(?!\s+to\s+read)"
    r"|(?<![\w.,/-])\d[\d.,]*\s(?:ms|s|min|h)\b(?!\.\w)"
)
SENTENCES = re.compile(r"\n\s*\n|\n(?=\s*\|)|(?<=[.!?])\s+(?=[A-Z])")
NOT_WORDS = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$|`[^`\n]*`|\]\([^)]*\)", re.DOTALL)


def check_notebook(project: Project, chapter: str) -> list[Finding]:
    """Findings about one notebook file, before anything is executed."""
    notebook = read_notebook(project.notebook(chapter))
    findings = [Finding(chapter, message) for message in _file_messages(chapter, notebook)]
    ids: set[str] = set()
    for number, cell in enumerate(notebook["cells"], start=1):
        for message in [*_cell_messages(cell), *_id_messages(cell, ids)]:
            findings.append(Finding(chapter, message, number, first_line(cell)))
    findings += _order_findings(chapter, notebook)
    findings += _parameter_findings(chapter, notebook)
    return findings


def _file_messages(chapter: str, notebook: Notebook) -> Iterable[str]:
    if not NAME.fullmatch(chapter):
        yield "the file name must be in snake_case"
    if (notebook.get("nbformat"), notebook.get("nbformat_minor")) != (4, 5):
        yield "must be nbformat 4.5"
    metadata = notebook.get("metadata", {})
    if metadata.get("kernelspec", {}).get("name") != "python3":
        yield "kernelspec must be python3"
    for name in ("papermill", "widgets", "collapse_book"):
        if name in metadata:
            yield f"metadata holds {name!r}, which an execution left behind"


def _id_messages(cell: Cell, seen: set[str]) -> Iterable[str]:
    identity = cell.get("id")
    if not identity:
        yield "has no cell id"
    elif identity in seen:
        yield f"cell id {identity!r} is used twice"
    else:
        seen.add(identity)


def _cell_messages(cell: Cell) -> Iterable[str]:
    if cell["cell_type"] == "markdown":
        yield from _typed_numbers(cell["source"])
        yield from typed_durations(cell["source"])
        return
    if cell["cell_type"] != "code":
        return
    if cell.get("outputs") or cell.get("execution_count") is not None:
        yield "holds outputs or an execution count; git keeps none"
    if not cell["source"].strip():
        yield "is an empty code cell"
    try:
        tree = ast.parse(MAGIC.sub(r"\1pass", cell["source"]))
    except SyntaxError as error:
        yield f"line {error.lineno} is not Python: {error.msg}"
        return
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            if module.split(".")[0] in NOT_IN_CHAPTERS:
                yield f"imports {module}, which a reader on Colab does not have"


def _typed_numbers(source: str) -> Iterable[str]:
    """Sentences that speak of a measurement and hold a typed decimal number."""
    cited = CITED.search
    for paragraph in re.split(r"\n\s*\n", source):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph):
            prose = NOT_PROSE.sub(" ", sentence)
            number = NUMBER.search(prose)
            if number and MEASURED.search(prose) and not cited(sentence):
                yield (
                    f"types the measured number {number[0].strip()!r}: glue it from the run, "
                    "or cite its source in the sentence"
                )


def typed_durations(text: str) -> Iterable[str]:
    """Sentences and table rows of Markdown that promise a time: a run takes what it takes."""
    for sentence in SENTENCES.split(NOT_WORDS.sub(" ", CODE_FENCE.sub("", text))):
        found = DURATION.search(sentence)
        if found and not CITED.search(sentence):
            yield (
                f"types the time {' '.join(found[0].split())!r}: the page itself says how long its "
                "run took; glue another time from the run, or cite its source in the sentence"
            )


def _order_findings(chapter: str, notebook: Notebook) -> Iterable[Finding]:
    cells = notebook["cells"]
    first = cells[0] if cells else {"cell_type": "", "source": ""}
    if first["cell_type"] != "markdown" or not first["source"].lstrip().startswith("# "):
        yield Finding(chapter, "the first cell must begin with a heading `# Title`")
    tagged = [number for number, cell in enumerate(cells) if INSTALL_TAG in tags(cell)]
    if tagged != [1]:
        yield Finding(chapter, f"the second cell, and no other, must have the tag {INSTALL_TAG!r}")
    elif cells[1]["source"] != INSTALL_CELL or "remove-cell" not in tags(cells[1]):
        yield Finding(
            chapter,
            "the install cell is not the generated one: run `collapse-book check --fix`",
            2,
            first_line(cells[1]),
        )


def _parameter_findings(chapter: str, notebook: Notebook) -> Iterable[Finding]:
    try:
        parameters = parameters_of(notebook)
    except ValueError as error:
        yield Finding(chapter, f"parameters cell: {error}")
        return
    seeds = [p for p in parameters if p.name == "seed" and p.type == "int" and p.low == 0]
    if not seeds:
        yield Finding(chapter, "parameters cell: needs `seed: int = ...  # ... [0..]`")
    used = {
        node.id
        for cell in notebook["cells"]
        if is_code(cell) and PARAMETERS_TAG not in tags(cell)
        for node in _names(cell["source"])
    }
    for parameter in parameters:
        if parameter.name not in used:
            yield Finding(chapter, f"parameter {parameter.name} is never used")


def _names(source: str) -> list[ast.Name]:
    try:
        tree = ast.parse(MAGIC.sub(r"\1pass", source))
    except SyntaxError:
        return []  # reported with its cell
    return [node for node in ast.walk(tree) if isinstance(node, ast.Name)]


def fix_notebook(project: Project, chapter: str) -> bool:
    """Strip outputs, give ids, set the kernel, write the install cell; True if it changed."""
    path = project.notebook(chapter)
    before = path.read_text(encoding="utf-8")
    notebook = clean_copy(read_notebook(path))
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    notebook["metadata"] = {
        "kernelspec": KERNELSPEC,
        "language_info": {"name": "python"},
    }
    ids: set[str] = set()
    for cell in notebook["cells"]:
        if not cell.get("id") or cell["id"] in ids:
            cell["id"] = uuid.uuid4().hex[:8]
        ids.add(cell["id"])
        cell["metadata"] = {"tags": tags(cell)} if tags(cell) else {}
    installs = [cell for cell in notebook["cells"] if INSTALL_TAG in tags(cell)]
    others = [cell for cell in notebook["cells"] if INSTALL_TAG not in tags(cell)]
    install = installs[0] if installs else {"cell_type": "code", "id": "colab-install"}
    install |= {
        "source": INSTALL_CELL,
        "metadata": {"tags": [INSTALL_TAG, "remove-cell"]},
        "outputs": [],
        "execution_count": None,
    }
    notebook["cells"] = [*others[:1], install, *others[1:]]
    after = dump_notebook(notebook)
    if after == before:
        return False
    write_atomic(path, after)
    return True
