"""The gate between papermill and Sphinx: what may not reach the book."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from collapse_book.notebooks import Cell, Notebook, first_line, is_code, joined

GLUE_ROLE = re.compile(r"\{glue(?::\w+)?\}`([^`]+)`")
GLUE_PREFIX = "application/papermill.record/"
IMAGE_TAG = re.compile(r"<(?:img|svg)\b", re.IGNORECASE)
CODE_FENCE = re.compile(r"^(`{3,}|~{3,})(?!\{).*?^\1\s*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and where; cells are counted from 1."""

    chapter: str
    message: str
    cell: int | None = None
    line: str = ""

    def __str__(self) -> str:
        where = f", cell {self.cell} ({self.line})" if self.cell else ""
        return f"{self.chapter}{where}: {self.message}"


def outputs_of(notebook: Notebook) -> Iterable[tuple[int, Cell, dict[str, Any]]]:
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


def claims_of(notebook: Notebook) -> list[dict[str, Any]]:
    """Claims that the chapter's ledgers show."""
    return [
        claim
        for _, _, output in outputs_of(notebook)
        if collapse_data(output).get("kind") == "claims"
        for claim in collapse_data(output)["claims"]
    ]


def check_book(notebooks: Mapping[str, Notebook], *, strict: bool) -> list[Finding]:
    """Check all executed chapters, and that claim ids are unique among them.

    Parameters
    ----------
    notebooks : mapping of chapter to notebook
        Current notebooks with the outputs of their executed copies.
    strict : bool
        The default parameters were used: a claim that is expected to be reproduced must be.
        Otherwise only the opposite verdict is refused, for a smaller run may leave it open.
    """
    findings = [
        finding
        for chapter, notebook in notebooks.items()
        for finding in check_chapter(chapter, notebook, strict=strict)
    ]
    owners: dict[str, str] = {}
    for chapter, notebook in notebooks.items():
        for identity in dict.fromkeys(claim["id"] for claim in claims_of(notebook)):
            if identity in owners:
                findings.append(
                    Finding(chapter, f"claim {identity} is also a claim of {owners[identity]}")
                )
            owners.setdefault(identity, chapter)
    return findings


def check_chapter(chapter: str, notebook: Notebook, *, strict: bool) -> list[Finding]:
    """Check one executed chapter; see `check_book`."""
    findings: list[Finding] = []

    def report(number: int, cell: Cell, message: str) -> None:
        findings.append(Finding(chapter, message, number, first_line(cell)))

    for number, cell in enumerate(notebook["cells"], start=1):
        if is_code(cell):
            if cell.get("execution_count") is None:
                report(number, cell, "was not executed")
            for message in _cell_messages(cell["outputs"], strict):
                report(number, cell, message)
    _check_unique(notebook, report)
    _check_glue_roles(notebook, report)
    return findings


def _cell_messages(outputs: list[dict[str, Any]], strict: bool) -> Iterable[str]:
    for output in outputs:
        yield from _output_messages(output)
        if collapse_data(output).get("kind") == "claims":
            for claim in collapse_data(output)["claims"]:
                yield from _claim_messages(claim, strict)
    visible = [output for output in outputs if _is_visible(output)]
    figures = [output for output in visible if is_figure(output)]
    if len(figures) > 1:
        yield f"shows {len(figures)} figures: show one figure per cell"
    elif figures and len(visible) > 1:
        yield "shows a figure and other output: give the figure a cell of its own"


def _output_messages(output: dict[str, Any]) -> Iterable[str]:
    kind = output["output_type"]
    if kind == "error":
        yield f"{output['ename']}: {' '.join(str(output['evalue']).split())}"
    elif kind == "stream" and output["name"] == "stderr":
        text = joined(output["text"]).strip()
        yield f"wrote to stderr: {text.splitlines()[0] if text else '(blank)'}"
    elif is_figure(output):
        data = collapse_data(output)
        for name, what in (("alt", "alt text"), ("caption", "caption"), ("name", "name")):
            if not str(data.get(name) or "").strip():
                yield f"figure without {what}"
    elif kind in ("display_data", "execute_result"):
        data = output["data"]
        images = [mime for mime in data if mime.startswith("image/")]
        if images or IMAGE_TAG.search(joined(data.get("text/html", ""))):
            yield "shows an image without caption and alt text: use show(fig, ...)"


def _claim_messages(claim: dict[str, Any], strict: bool) -> Iterable[str]:
    expected, verdict = claim.get("expect"), claim["verdict"]
    if expected is None or verdict == expected or (verdict == "unresolved" and not strict):
        return
    yield (
        f"claim {claim['id']} is {verdict}, expected {expected}: "
        f"law {claim.get('expected')}, measured {claim.get('measured')}"
    )


def _is_visible(output: dict[str, Any]) -> bool:
    if output["output_type"] in ("display_data", "execute_result"):
        return any(not mime.startswith(GLUE_PREFIX) for mime in output["data"])
    return True


def _check_unique(notebook: Notebook, report: Any) -> None:
    kinds = {
        "figure name": lambda output: [collapse_data(output).get("name")] * is_figure(output),
        "glue key": lambda output: [glue_key(output)] if glue_key(output) else [],
        "claim": lambda output: [
            claim["id"] for claim in (collapse_data(output).get("claims") or [])
        ],
    }
    for kind, names_in in kinds.items():
        seen: Counter[str] = Counter()
        for number, cell, output in outputs_of(notebook):
            for name in names_in(output):
                seen[name] += 1
                if seen[name] == 2:
                    report(number, cell, f"{kind} {name!r} is used twice")


def _check_glue_roles(notebook: Notebook, report: Any) -> None:
    keys = {glue_key(output) for _, _, output in outputs_of(notebook)}
    for number, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] == "markdown":
            for target in GLUE_ROLE.findall(CODE_FENCE.sub("", cell["source"])):
                key = target.split(":")[0]
                # "page::key" belongs to another page: Sphinx checks it.
                if "::" not in target and key not in keys:
                    report(number, cell, f"quotes {key!r}, which no cell glues")
