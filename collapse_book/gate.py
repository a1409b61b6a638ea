"""What may not be in a notebook in git, and what may not be in an executed one in the book."""

from __future__ import annotations

import ast
import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from collapse_book import notebooks as nb
from collapse_book.cache import imports, parsed
from collapse_book.files import write_atomic
from collapse_book.messages import one_line
from collapse_book.project import Project

GLUE_ROLE = re.compile(r"\{glue(?::\w+)?\}`([^`]+)`")
GLUE_PREFIX = "application/papermill.record/"
IMAGE_TAG = re.compile(r"<(?:img|svg)\b", re.IGNORECASE)
CODE_FENCE = re.compile(r"^(`{3,}|~{3,})(?!\{).*?^\1\s*$", re.MULTILINE | re.DOTALL)

TIDY = "without outputs, counts and metadata but tags, with ids and the generated install cell"
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
NAME = re.compile(r"[a-z][a-z0-9_]*")
#: Modules that Colab lacks or that belong to the press.
NOT_IN_CHAPTERS = {"collapse_book", "myst_nb", "papermill"}

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
NOT_PROSE = re.compile(r"^\s*[|#].*$", re.MULTILINE)
NOT_WORDS = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$|`[^`\n]*`|\]\([^)]*\)", re.DOTALL)
#: Where every sentence that begins a paragraph or an item is a statement, not an illustration.
STATING = re.compile(r"^#+ .*(Takeaways|findings|Monday)", re.IGNORECASE)
EXERCISES = re.compile(r"^## Exercises$", re.MULTILINE)
ASKING = re.compile("Exercise|What if")
HEADING = re.compile(r"^#+ .*$", re.MULTILINE)
MONDAY = re.compile(r"[-* ]*\*\*[^*]*Monday")
ITEM = re.compile(r"([-*]|\d+\.)\s")
BLOCKS = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)|\n(?=#)")
BOLD = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
CLAIM = re.compile(r"\b[A-Z]+\d+[a-z]*\b")

#: A message, and the number of the cell that it is about, counted from 1, or None.
Problem = tuple[int | None, str]


def outputs_of(notebook: nb.Notebook) -> Iterable[tuple[int, nb.Cell, dict[str, Any]]]:
    """Every output with its cell and the cell's number, counted from 1."""
    for number, cell in enumerate(notebook["cells"], start=1):
        for output in cell.get("outputs", []):
            yield number, cell, output


def collapse_data(output: Mapping[str, Any]) -> dict[str, Any]:
    """What `collapse_utils` wrote about an output: a figure, a player or claims."""
    return output.get("metadata", {}).get("collapse") or {}


def is_figure(output: Mapping[str, Any]) -> bool:
    """Whether an output is a figure or player of ``collapse_utils.publishing``."""
    return collapse_data(output).get("kind") in ("figure", "player")


def glue_key(output: Mapping[str, Any]) -> str | None:
    """Key of a glued value, or None."""
    return (output.get("metadata", {}).get("scrapbook") or {}).get("name")


def glued_text(output: Mapping[str, Any]) -> Any:
    """What was glued, as the page shows it."""
    return ast.literal_eval(nb.joined(output["data"][f"{GLUE_PREFIX}text/plain"]))


def claims_of(notebook: nb.Notebook) -> list[dict[str, Any]]:
    """Claims that the chapter's ledgers show."""
    return [claim for _, _, output in outputs_of(notebook) for claim in _claims(output)]


def _claims(output: Mapping[str, Any]) -> list[dict[str, Any]]:
    data = collapse_data(output)
    return data["claims"] if data.get("kind") == "claims" else []


def _lines(chapter: str, notebook: nb.Notebook, problems: Iterable[Problem]) -> list[str]:
    """What is wrong, and where: one line each."""
    cells = notebook["cells"]
    return [
        f"{chapter}, cell {number} ({nb.first_line(cells[number - 1])}): {message}"
        if number
        else f"{chapter}: {message}"
        for number, message in problems
    ]


# ---------------------------------------------------------------- executed notebooks


def check_book(notebooks: Mapping[str, nb.Notebook], *, strict: bool) -> dict[str, list[str]]:
    """Check all executed chapters, and that claim ids are unique among them.

    Parameters
    ----------
    notebooks : mapping of chapter to notebook
        Current notebooks with the outputs of their executed copies.
    strict : bool
        The default parameters were used: a claim that is expected to be reproduced must be.
        Otherwise only the opposite verdict is refused, for a smaller run may leave it open.

    Returns
    -------
    dict
        A line for everything that is wrong, by chapter.
    """
    found = {name: check_chapter(name, done, strict=strict) for name, done in notebooks.items()}
    owners: dict[str, str] = {}
    for chapter, notebook in notebooks.items():
        for identity in dict.fromkeys(claim["id"] for claim in claims_of(notebook)):
            if (owner := owners.setdefault(identity, chapter)) != chapter:
                found[chapter].append(f"{chapter}: claim {identity} is also a claim of {owner}")
    return {chapter: lines for chapter, lines in found.items() if lines}


def check_chapter(chapter: str, notebook: nb.Notebook, *, strict: bool) -> list[str]:
    """Check one executed chapter; see `check_book`."""
    return _lines(chapter, notebook, _executed_problems(notebook, strict))


def _executed_problems(notebook: nb.Notebook, strict: bool) -> Iterator[Problem]:
    for number, cell in enumerate(notebook["cells"], start=1):
        if nb.is_code(cell):
            if cell.get("execution_count") is None:
                yield number, "was not executed"
            for message in _wrong_outputs(cell["outputs"], strict):
                yield number, message
    yield from _repeated_names(notebook)
    keys = {glue_key(output) for _, _, output in outputs_of(notebook)}
    for number, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] == "markdown":
            for target in GLUE_ROLE.findall(CODE_FENCE.sub("", cell["source"])):
                key = target.split(":")[0]
                # "page::key" belongs to another page: Sphinx checks it.
                if "::" not in target and key not in keys:
                    yield number, f"quotes {key!r}, which no cell glues"


def _wrong_outputs(outputs: list[dict[str, Any]], strict: bool) -> Iterator[str]:
    for output in outputs:
        yield from _wrong_output(output)
        for claim in _claims(output):
            expected, verdict = claim.get("expect"), claim["verdict"]
            fine = expected is None or verdict == expected
            if not fine and (strict or verdict != "unresolved"):
                yield (
                    f"claim {claim['id']} is {verdict}, expected {expected}: "
                    f"law {claim.get('expected')}, measured {claim.get('measured')}"
                )
    visible = [output for output in outputs if _is_visible(output)]
    figures = sum(is_figure(output) for output in visible)
    if figures > 1:
        yield f"shows {figures} figures: show one figure per cell"
    elif figures and len(visible) > 1:
        yield "shows a figure and other output: give the figure a cell of its own"


def _wrong_output(output: dict[str, Any]) -> Iterator[str]:
    kind = output["output_type"]
    if kind == "error":
        yield f"{output['ename']}: {one_line(output['evalue'])}"
    elif kind == "stream" and output["name"] == "stderr":
        text = nb.joined(output["text"]).strip()
        yield f"wrote to stderr: {text.splitlines()[0] if text else '(blank)'}"
    elif is_figure(output):
        data = collapse_data(output)
        for name, what in (("alt", "alt text"), ("caption", "caption"), ("name", "name")):
            if not str(data.get(name) or "").strip():
                yield f"figure without {what}"
    elif kind in ("display_data", "execute_result"):
        data = output["data"]
        images = [mime for mime in data if mime.startswith("image/")]
        if images or IMAGE_TAG.search(nb.joined(data.get("text/html", ""))):
            yield "shows an image without caption and alt text: use show(fig, ...)"


def _is_visible(output: dict[str, Any]) -> bool:
    if output["output_type"] in ("display_data", "execute_result"):
        return any(not mime.startswith(GLUE_PREFIX) for mime in output["data"])
    return True


def _repeated_names(notebook: nb.Notebook) -> Iterator[Problem]:
    seen: set[tuple[str, str]] = set()
    for number, _, output in outputs_of(notebook):
        names = [("claim", claim["id"]) for claim in _claims(output)]
        if is_figure(output):
            names.append(("figure name", collapse_data(output).get("name")))
        if key := glue_key(output):
            names.append(("glue key", key))
        for kind, name in names:
            if (kind, name) in seen:
                yield number, f"{kind} {name!r} is used twice"
            seen.add((kind, name))


# ---------------------------------------------------------------- notebooks in git


def check_notebook(project: Project, chapter: str) -> list[str]:
    """What is wrong with one notebook file, before anything is executed."""
    notebook, claims = nb.read_notebook(project.notebook(chapter)), known_claims(project)
    return _lines(chapter, notebook, _problems_in_git(chapter, notebook, claims))


def check_pages(project: Project) -> list[str]:
    """Statements of the pages in ``book/`` that name no claim behind them."""
    return [
        f"{project.relative(path)}: {message}"
        for path in sorted(project.book.glob("*.md"))
        for message in unbacked_statements(path.read_text("utf-8"), known_claims(project))
    ]


@cache
def known_claims(project: Project) -> set[str]:
    """Ids of claims that the code of any chapter spells out."""
    found: set[str] = set()
    for chapter in project.chapters:
        for cell in nb.code_cells(nb.read_notebook(project.notebook(chapter))):
            with suppress(SyntaxError):  # `check_notebook` says so
                texts = (getattr(node, "value", None) for node in ast.walk(parsed(cell["source"])))
                found |= {text for text in texts if isinstance(text, str) and CLAIM.fullmatch(text)}
    return found


def _problems_in_git(chapter: str, notebook: nb.Notebook, claims: set[str]) -> Iterator[Problem]:
    if not NAME.fullmatch(chapter):
        yield None, "the file name must be in snake_case"
    cells, clean = notebook["cells"], tidied(notebook)
    if not cells or cells[0]["cell_type"] != "markdown" or cells[0]["source"][:2] != "# ":
        yield None, "the first cell must begin with a heading `# Title`"
    if notebook != clean:
        pairs = enumerate(zip(cells, clean["cells"], strict=False), start=1)
        first = next((number for number, (one, other) in pairs if one != other), None)
        yield first, f"is not as git keeps it ({TIDY}): run `collapse-book check --fix`"
    yield from _quizzes(cells)
    used: set[str] = set()
    heading = ""
    for number, cell in enumerate(cells, start=1):
        wrong = _wrong_code(cell, used) if cell["cell_type"] == "code" else ()
        if cell["cell_type"] == "markdown":
            text = f"{heading}\n\n{cell['source']}"  # the section may have begun in another cell
            heading = (HEADING.findall(CODE_FENCE.sub("", text)) or [""])[-1]
            wrong = [*typed_values(cell["source"]), *unbacked_statements(text, claims)]
        yield from ((number, message) for message in wrong)
    try:
        parameters = nb.parameters_of(notebook)
    except ValueError as error:
        yield None, f"parameters cell: {error}"
        return
    if not any(p.name == "seed" and p.type == "int" and p.low == 0 for p in parameters):
        yield None, "parameters cell: needs `seed: int = ...  # ... [0..]`"
    for parameter in parameters:
        if parameter.name not in used:
            yield None, f"parameter {parameter.name} is never used"


def _quizzes(cells: list[nb.Cell]) -> Iterator[Problem]:
    """Exercises whose answers the page cannot check, or gives away."""
    asked = False
    for number, cell in enumerate(cells, start=1):
        for call in _calls(cell, "quiz"):
            asked = True
            if "hide-cell" not in nb.tags(cell):
                yield number, "gives an answer away: a cell with quiz(...) needs the tag hide-cell"
            if len(call.args) > 1 and isinstance(call.args[1], ast.Constant):
                yield number, f"types the answer {call.args[1].value!r} of a quiz: compute it"
    if not asked and any(EXERCISES.search(cell["source"]) for cell in cells):
        yield None, "no exercise checks its answer: end a solution with quiz(question, answer)"


def _calls(cell: nb.Cell, name: str) -> Iterator[ast.Call]:
    if nb.is_code(cell) and f"{name}(" in cell["source"]:
        with suppress(SyntaxError):  # `_wrong_code` says so
            for node in ast.walk(parsed(cell["source"])):
                if isinstance(node, ast.Call) and getattr(node.func, "id", None) == name:
                    yield node


def typed_values(text: str) -> Iterator[str]:
    """Sentences of Markdown that type what only a run can know, and cite nobody.

    A time, in table rows too, because a run takes what it takes; and beside words of measurement a
    decimal number.
    """
    text = NOT_WORDS.sub(" ", CODE_FENCE.sub("", text))
    for sentence in SENTENCES.split(text):
        if (time := DURATION.search(sentence)) and not CITED.search(sentence):
            yield (
                f"types the time {one_line(time[0])!r}: the page itself says how long its "
                "run took; glue another time from the run, or cite its source in the sentence"
            )
    for sentence in SENTENCES.split(NOT_PROSE.sub("", text)):
        number = NUMBER.search(sentence)
        if number and MEASURED.search(sentence) and not CITED.search(sentence):
            yield (
                f"types the measured number {number[0].strip()!r}: glue it from the run, "
                "or cite its source in the sentence"
            )


def unbacked_statements(text: str, claims: Collection[str]) -> Iterator[str]:
    """Takeaways, findings, advice for Monday and rules in bold of a page that name no claim.

    Bold of less than five words is a term or a label; questions, exercises and what-ifs state
    nothing.
    """
    heading = ""
    for block in BLOCKS.split(CODE_FENCE.sub("", text)):
        block = block.strip()
        if block.startswith("#"):
            heading = block.splitlines()[0]
        bolds = [bold for bold in BOLD.findall(block) if not bold.endswith("?")]
        rules = [bold for bold in bolds if len(bold.split()) >= 5]
        states = (STATING.match(heading) and ITEM.match(block)) or MONDAY.match(block)
        ruled = rules and not ASKING.search(heading) and not block.startswith(("#", "|"))
        if (states or ruled) and not set(CLAIM.findall(block)) & set(claims):
            yield f"states {one_line((rules or [block])[0])[:60]!r} and names no claim behind it"


def _wrong_code(cell: nb.Cell, used: set[str]) -> Iterator[str]:
    """What is wrong with a code cell; the names that it uses are added to ``used``."""
    if not cell["source"].strip():
        yield "is an empty code cell"
    try:
        tree = parsed(cell["source"])
    except SyntaxError as error:
        yield f"line {error.lineno} is not Python: {error.msg}"
        return
    for module, _ in imports(cell["source"]):
        if module.split(".")[0] in NOT_IN_CHAPTERS:
            yield f"imports {module}, which a reader on Colab does not have"
    if nb.PARAMETERS_TAG not in nb.tags(cell):
        used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def tidied(notebook: nb.Notebook) -> nb.Notebook:
    """The notebook as git keeps it: nothing of a run, and the install cell in second place."""
    tidy = nb.clean_copy(notebook)
    tidy["nbformat"], tidy["nbformat_minor"] = 4, 5
    tidy["metadata"] = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    ids: set[str] = set()
    for cell in tidy["cells"]:
        if not cell.get("id") or cell["id"] in ids:
            cell["id"] = uuid.uuid4().hex[:8]
        ids.add(cell["id"])
        cell["metadata"] = {"tags": nb.tags(cell)} if nb.tags(cell) else {}
    installs = [cell for cell in tidy["cells"] if nb.INSTALL_TAG in nb.tags(cell)]
    first, *others = [cell for cell in tidy["cells"] if nb.INSTALL_TAG not in nb.tags(cell)] or [
        None
    ]
    install = {"cell_type": "code", "id": "colab-install", "outputs": [], "execution_count": None}
    install |= installs[0] if installs else {}
    install |= {"source": nb.INSTALL_CELL, "metadata": {"tags": [nb.INSTALL_TAG, "remove-cell"]}}
    tidy["cells"] = [cell for cell in (first, install, *others) if cell]
    return tidy


def fix_notebook(project: Project, chapter: str) -> bool:
    """Write a notebook as git keeps it; True if that changed it."""
    path = project.notebook(chapter)
    after = nb.dump_notebook(tidied(nb.read_notebook(path)))
    if after == path.read_text(encoding="utf-8"):
        return False
    write_atomic(path, after)
    return True
