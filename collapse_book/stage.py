"""From an executed copy to a page: merged, scrubbed, figures numbered, with a colophon."""

from __future__ import annotations

import html
import json
import math
import re
import subprocess
from importlib import metadata
from typing import Any

from collapse_book.files import write_atomic
from collapse_book.gate import collapse_data, is_figure
from collapse_book.notebooks import (
    INJECTED_TAG,
    INSTALL_TAG,
    Notebook,
    clean_copy,
    dump_notebook,
    is_code,
    joined,
    parameters_of,
    tags,
    title,
)
from collapse_book.parameters import Parameter
from collapse_book.project import Project

#: An author types how long a chapter takes to read; how long it takes to run, its run knows.
TO_READ = re.compile(r"\d+ minutes to read")
FIGCAPTION = re.compile(r"<figcaption>.*?</figcaption>", re.DOTALL)


def merge(current: Notebook, executed: Notebook) -> Notebook:
    """Put the outputs of an executed copy into the current notebook, cell by cell.

    The prose is the current one; the code must be what was executed.

    Raises
    ------
    ValueError
        If the code cells differ.
    """
    merged = clean_copy(current)
    ran = [cell for cell in executed["cells"] if is_code(cell) and INJECTED_TAG not in tags(cell)]
    cells = [cell for cell in merged["cells"] if is_code(cell)]
    same = len(ran) == len(cells) and all(
        INSTALL_TAG in tags(cell) or cell["source"] == joined(other["source"])
        for cell, other in zip(cells, ran, strict=True)
    )
    if not same:
        raise ValueError("the executed copy holds other code than the notebook")
    for cell, other in zip(cells, ran, strict=True):
        cell["execution_count"] = other["execution_count"]
        cell["outputs"] = [_scrub(output) for output in other["outputs"]]
    merged["metadata"]["collapse_book"] = executed["metadata"]["collapse_book"]
    return merged


def _scrub(output: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in output.items() if key != "transient"}


def page(merged: Notebook) -> Notebook:
    """The notebook that Sphinx reads: the time to run, and captions in Sphinx' own form."""
    result = json.loads(json.dumps(merged))
    first = result["cells"][0]
    seconds = math.ceil(merged["metadata"]["collapse_book"]["seconds"])
    run = rf"\g<0>, {seconds} s to run when this page was made"
    first["source"] = TO_READ.sub(run, first["source"], count=1)
    for cell in result["cells"]:
        for output in cell.get("outputs", []):
            if is_figure(output):
                _number_figure(cell, output)
    return result


def _number_figure(cell: dict[str, Any], output: dict[str, Any]) -> None:
    """Move the caption from the HTML to the cell's metadata, so that Sphinx numbers the figure."""
    data = collapse_data(output)
    cell["metadata"].setdefault("mystnb", {})["figure"] = {
        "name": data["name"],
        "caption": data["caption"],
    }
    output["data"]["text/html"] = FIGCAPTION.sub("", joined(output["data"]["text/html"]))


def colophon(chapter: str, merged: Notebook) -> str:
    """Markdown of the colophon: when, how long, seed, parameters, versions, machine."""
    record = merged["metadata"]["collapse_book"]
    parameters = parameters_of(merged)
    given = record["parameters"]
    seed = next((_value(p, given) for p in parameters if p.name == "seed"), "none")
    machine = record["machine"]
    rows = "\n".join(
        f"| `{p.name}` | `{_value(p, given)}` | {table_cell(p.help)} |" for p in parameters
    )
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        "```{admonition} Colophon: how this page was made\n"
        ":class: dropdown collapse-colophon\n\n"
        f"Executed {when(record)} UTC in {record['seconds']:.1f} s with seed {seed}, "
        f"on {machine['platform']}, {machine['cores']} cores, accelerator: "
        f"{machine['accelerator']}.\n\n"
        f"| parameter | value | meaning |\n| --- | --- | --- |\n{rows}\n\n"
        f"{versions}.\n\n"
        f'Run it yourself: <a href="../download/{html.escape(chapter)}.ipynb" download>'
        "download the notebook</a> without outputs, or, in a clone of the repository, "
        f"`collapse-book run {chapter} -p seed {_other_seed(seed)}`.\n"
        "```"
    )


def citation(project: Project, chapter: str, merged: Notebook) -> str:
    """Markdown of "Cite this page": a BibTeX entry with address, date of the run and commit."""
    record = merged["metadata"]["collapse_book"]
    book = project.config["title"]
    entry = {
        "author": f"{{{project.config.get('author', '')}}}",
        "title": re.sub(r"\b(?=[A-Z])(\w+)", r"{\1}", re.sub(r"[`*]", "", title(merged))),
        "booktitle": f"{{{book}}}",
        "year": record["executed"][:4],
        "url": f"{project.address}notebooks/{chapter}.html",
        "note": f"Executed {record['executed'][:10]}; {revision(project)}",
    }
    lines = "\n".join(f"  {key:<9} = {{{value}}}," for key, value in entry.items())
    return (
        "````{admonition} Cite this page\n"
        ":class: dropdown collapse-colophon collapse-cite\n\n"
        f"```bibtex\n@incollection{{collapse-{chapter.replace('_', '-')},\n{lines}\n}}\n```\n"
        "````"
    )


def revision(project: Project) -> str:
    """The commit that the book is built from, or its version where there is no repository."""
    command = ["git", "-C", str(project.root), "describe", "--always", "--exclude=*", "--dirty"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"version {metadata.version('collapse-utils')}"
    commit, _, changed = said.partition("-")
    return f"commit {commit}{' with changes' if changed else ''}"


def _value(parameter: Parameter, given: dict[str, Any]) -> Any:
    return given.get(parameter.name, parameter.default)


def _other_seed(seed: Any) -> int:
    return seed + 1 if isinstance(seed, int) else 1


def table_cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return text.replace("|", "\\|")


def when(record: dict[str, Any]) -> str:
    """Date and minute of an execution."""
    return record["executed"][:16].replace("T", " ")


def stage(project: Project, chapter: str, merged: Notebook) -> None:
    """Write the page of a chapter and the clean notebook to download."""
    result = page(merged)
    result["cells"].append(
        {
            "cell_type": "markdown",
            "id": "colophon",
            "metadata": {},
            "source": f"{colophon(chapter, merged)}\n\n{citation(project, chapter, merged)}",
        }
    )
    write_atomic(project.staged / f"{chapter}.ipynb", dump_notebook(result))
    download = clean_copy(merged)
    del download["metadata"]["collapse_book"]
    write_atomic(project.vendor / "download" / f"{chapter}.ipynb", dump_notebook(download))
