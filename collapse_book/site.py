"""Sphinx, strictly, in a folder of its own; then the swap into place."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from collapse_book.copies import add_lite, current_chapters
from collapse_book.files import files_below, run_logged, write_atomic, write_changed
from collapse_book.messages import BadInput, BuildFailed
from collapse_book.pages import write_stubs
from collapse_book.project import Project

#: The branch that readers are invited to edit; the workflows publish it.
BRANCH = "main"
#: Files of the build folder that say what the site was built from, and the printed book.
STAMP, PRINTED = "site.sha256", "pdf.sha256"
WARNING = re.compile(r": (WARNING|ERROR|CRITICAL|SEVERE): |^(WARNING|ERROR): |^[\w.]+Error: \S")


def vendor_mathjax(project: Project) -> None:
    """Copy MathJax, one file, from its Python package to where ``mathjax_path`` points.

    Raises
    ------
    BadInput
        If the package has no such file.
    """
    settings = project.config.get("sphinx", {}).get("config", {})
    name = Path(settings.get("mathjax_path", "tex-svg.js")).name
    files = metadata.files("sphinx-mathjax-offline") or []
    found = next((file for file in files if file.name == name), None)
    if found is None:
        raise BadInput(f"sphinx-mathjax-offline has no file {name}")
    write_changed(project.vendor / "mathjax" / name, Path(found.locate()).read_bytes())


def extras(project: Project) -> tuple[list[str], Path | None]:
    """What stands beside the pages: chapters for the browser, and the printed book, if current."""
    path, stamp = pdf_path(project), read_stamp(project.build / PRINTED)
    printed = path.is_file() and stamp == content(project)
    return current_chapters(project), path if printed else None


def settings(project: Project, lite: list[str], pdf: Path | None) -> dict[str, Any]:
    """What ``_config.yml`` says, and what only this build knows: the addresses, and what is there.

    ``published`` in that file holds settings of Sphinx for a site with an address.
    """
    config = copy.deepcopy(project.config)
    published = config.pop("published", {})
    sphinx = config.setdefault("sphinx", {}).setdefault("config", {})
    extensions, pages = sphinx.setdefault("extensions", []), config.setdefault("html", {})
    if project.repository:
        url = f"https://github.com/{project.repository}"
        config["repository"] = {"url": url, "branch": BRANCH, "path_to_book": ""}
        buttons = ("use_repository_button", "use_edit_page_button", "use_issues_button")
        pages |= dict.fromkeys(buttons, True)
        paths = {name: project.relative(project.notebook(name)) for name in project.chapters}
        sources = {f"notebooks/{name}.ipynb": path for name, path in paths.items()}
        sphinx.setdefault("html_context", {})["sources"] = sources
    if project.address:
        pages["baseurl"] = project.address
        extensions += published.pop("extensions", [])
        sphinx |= published | {"ogp_site_url": project.address}
    if "collapse_book.extension" in extensions:
        sphinx["collapse_repository"] = project.repository or ""
        sphinx["collapse_lite"] = lite
        sphinx["collapse_pdf"] = pdf.name if pdf else ""
    return config


def content(project: Project) -> str:
    """One hash of the pages and of everything else that Sphinx reads."""
    vendor_mathjax(project)
    return _hash(project, files_below(project.book))


def _frame(project: Project) -> str:
    """The same without the text of the pages: when this changes, all of them are read again."""
    files = files_below(project.book)
    names = hashlib.sha256("\n".join(map(str, files)).encode()).hexdigest()
    fixed = (file for file in files if file.suffix not in (".md", ".ipynb"))
    return names + _hash(project, [file for file in fixed if project.vendor not in file.parents])


def _hash(project: Project, files: Iterable[Path]) -> str:
    """Hash of files of the book, of the settings, and of the press and the packages it uses."""
    config = json.dumps(project.config, sort_keys=True, default=str)
    known = f"{_packages()} {config} {project.repository} {project.address}"
    whole = hashlib.sha256(known.encode())
    for path in [*files, *files_below(Path(__file__).parent)]:
        whole.update(f"\n{path}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


@cache
def _packages() -> list[str]:
    """What is installed, with versions."""
    return sorted(f"{package.name} {package.version}" for package in metadata.distributions())


def read_stamp(path: Path) -> str:
    """What a file in the build folder says of what something was made from; empty if nothing."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def is_current(project: Project) -> bool:
    """Whether the site was built from these pages, with what is there to be added to it."""
    built = (project.html / "index.html").is_file() and read_stamp(project.build / STAMP)
    return bool(built) and built == f"{content(project)} {extras(project)}"


def pdf_path(project: Project) -> Path:
    """Where the book is printed to, to be linked from the site."""
    return project.build / f"{project.config.get('project', 'book')}.pdf"


def build_site(project: Project, *, missing: Mapping[str, str] | None = None) -> Path:
    """Build the site strictly, and put it in place of the previous one.

    Sphinx works in a folder of its own, which it keeps, so that the next build reads what changed.
    The previous site stays whole until the new one is. A build that failed, that is published or
    that lacks chapters starts from nothing.

    Parameters
    ----------
    missing : mapping of str to str
        Chapters that did not run, with the reason; not None asks for a preview. It goes into
        ``_build/preview``, with a page for each of them, and what quotes them is no error.

    Returns
    -------
    Path
        The front page.

    Raises
    ------
    BuildFailed
        If Sphinx warns.
    """
    preview = missing is not None
    work, log = project.build / "sphinx", project.build / "site.log"
    frame = work / "frame.sha256"
    write_stubs(project, missing or {})
    lite, pdf = extras(project)
    stamp, wanted = f"{content(project)} {(lite, pdf)}", _frame(project)
    if read_stamp(frame) != wanted or preview or project.address:
        shutil.rmtree(work, ignore_errors=True)
    frame.unlink(missing_ok=True)
    shutil.rmtree(work / "_build" / "html" / "_static", ignore_errors=True)  # all of it is copied
    write_atomic(work / "config.yml", yaml.safe_dump(settings(project, lite, pdf), sort_keys=False))
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(project.book), "--path-output", str(work)]
    command += ["--config", str(work / "config.yml")]
    command += [] if preview else ["-W", "-n", "--keep-going"]
    if run_logged(command, project.root, log):
        raise BuildFailed("\n".join(_warnings(project, log.read_text("utf-8", "replace"))))
    new = project.build / "new"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(work / "_build" / "html", new)
    if lite:
        add_lite(project, lite, new)
    if pdf:
        shutil.copy(pdf, new)
    place = project.build / "preview" if preview else project.html
    swap(new, place)
    if not preview:
        write_atomic(frame, wanted)
        write_atomic(project.build / STAMP, stamp)
    return place / "index.html"


def _warnings(project: Project, output: str) -> list[str]:
    """The lines of Sphinx's output that say what is wrong."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output).replace(f"{project.root}/", "").splitlines()
    lines = [line for line in plain if WARNING.search(line)]
    lines = lines or [line for line in plain if line.strip(" =")][-3:]
    where = f"the site was not built; all of Sphinx's output is in {project.build.name}/site.log"
    return [*dict.fromkeys(lines[:30]), where]


def swap(new: Path, place: Path) -> None:
    """Put a folder in place of another by renaming; `recover` undoes a half-done swap."""
    old = place.with_name(f"{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def recover(place: Path) -> None:
    """After a kill in the middle of `swap`: take the previous folder back."""
    old = place.with_name(f"{place.name}.old")
    if old.exists():
        if place.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(place)
