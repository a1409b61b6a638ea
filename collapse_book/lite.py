"""Chapters that need no torch, as a static JupyterLite site: they run in the reader's browser.

The site holds notebooks, JupyterLite and three wheels. Python itself (Pyodide) and the compiled
packages come from Pyodide's CDN, and only when the reader opens a notebook. No page of the book
loads any of it; the chapters concerned link to it. Needs the extra ``lite``; nothing else does.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

from collapse_book.closure import MAGIC, Library
from collapse_book.errors import BadInput
from collapse_book.files import write_atomic
from collapse_book.notebooks import (
    INSTALL_TAG,
    Notebook,
    clean_copy,
    dump_notebook,
    is_code,
    read_notebook,
    tags,
)
from collapse_book.project import Project
from collapse_book.report import Report
from collapse_book.site import swap
from collapse_book.wheel import build_wheel, call, pip

#: What a chapter, and what it uses of the library, may import beside the standard library.
PACKAGES = frozenset(
    {"IPython", "PIL", "matplotlib", "numpy", "pandas", "scipy", "seaborn", "sklearn", "tqdm"}
)
#: Modules of the standard library for which a browser has no processes, threads or sockets.
MISSING = frozenset(
    {
        "concurrent",
        "fcntl",
        "http",
        "multiprocessing",
        "resource",
        "socket",
        "subprocess",
        "threading",
        "urllib",
    }
)
#: Wheels that Pyodide lacks; its kernel needs comm. With them here, no package index is asked.
WHEELS = ("comm", "seaborn")
INSTALL = """\
# This copy runs in your browser, slower than the page says; what you change stays in this browser.
# The library comes from the book's own site, Python and NumPy from Pyodide's CDN.
%pip install -q collapse-utils"""
KERNELSPEC = {"display_name": "Python (Pyodide)", "language": "python", "name": "python"}
KERNEL = "@jupyterlite/pyodide-kernel-extension"
#: Where a chapter opens, below the address of the book.
OPENS = "lite/notebooks/index.html?path={chapter}.ipynb"


def browser_chapters(project: Project) -> list[str]:
    """Chapters of the book that can run in a browser, in reading order."""
    library = Library(project.package)
    chapters = [name for name in project.published if name in project.chapters]
    return [
        name for name in chapters if not obstacles(library, read_notebook(project.notebook(name)))
    ]


def obstacles(library: Library, notebook: Notebook) -> set[str]:
    """Modules that a notebook imports, itself or through the library, and a browser lacks.

    Every ``import`` counts, wherever it stands; a notebook without obstacles runs in a browser.
    """
    sources = [
        cell["source"]
        for cell in notebook["cells"]
        if is_code(cell) and INSTALL_TAG not in tags(cell)
    ]
    modules = [path for path in library.files_for(sources) if path.suffix == ".py"]
    sources += [path.read_text(encoding="utf-8") for path in modules]
    used = set().union(*map(_imported, sources)) - {library.package}
    return used & MISSING | used - sys.stdlib_module_names - PACKAGES


@cache
def _imported(source: str) -> frozenset[str]:
    """Packages and standard modules that a source imports, by the first part of their name."""
    names: list[str] = []
    for node in ast.walk(ast.parse(MAGIC.sub(r"\1pass", source))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.append(node.module)
    return frozenset(name.partition(".")[0] for name in names)


def browser_copy(notebook: Notebook) -> Notebook:
    """The notebook without outputs, for the kernel of the browser and with its install cell."""
    copy = clean_copy(notebook)
    for cell in copy["cells"]:
        if INSTALL_TAG in tags(cell):
            cell["source"] = INSTALL
    copy["metadata"]["kernelspec"] = dict(KERNELSPEC)
    return copy


def build_lite(project: Project, report: Report) -> tuple[int, int]:
    """Build the JupyterLite site into the folder ``lite`` of the built site.

    A build that changes the site removes it with the rest of the old one, so it cannot go stale.

    Returns
    -------
    files, bytes : int
        How many files it has, and their size.

    Raises
    ------
    BadInput
        If there is no built site or the extra ``lite`` is missing.
    BuildFailed
        If a wheel or the site cannot be built.
    """
    if not (project.html / "index.html").is_file():
        raise BadInput("there is no site yet: run `collapse-book build`")
    if not util.find_spec("jupyterlite_core") or not util.find_spec("jupyterlite_pyodide_kernel"):
        raise BadInput("JupyterLite is not installed: pip install -e '.[lite]'")
    with project.lock():
        work = project.build / "lite"
        chapters = browser_chapters(project)
        report.line(f"{len(chapters)} chapters run in a browser: {', '.join(chapters)}")
        wheels = _wheels(project, work)
        report.line("building JupyterLite")
        site = _build(work, wheels)
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        files = {
            f"{chapter}.ipynb": dump_notebook(
                browser_copy(read_notebook(project.notebook(chapter)))
            ).encode()
            for chapter in chapters
        }
        for name, content in files.items():
            write_atomic(site / "files" / name, content)
        contents = {name: len(content) for name, content in files.items()}
        listing = json.dumps(directory(contents, now), indent=1)
        write_atomic(site / "api" / "contents" / "all.json", listing + "\n")
        sizes = [path.stat().st_size for path in site.rglob("*") if path.is_file()]
        swap(site, project.lite)
    return len(sizes), sum(sizes)


def settings() -> dict[str, Any]:
    """Contents of ``jupyter-lite.json``: the front page, and that no package index is asked."""
    return {
        "jupyter-lite-schema-version": 0,
        "jupyter-config-data": {
            "appName": "Model Collapse",
            "appUrl": "./tree",
            "contentsAllJsonFile": "all.json",
            "faviconUrl": "./tree/favicon.ico",
            "litePluginSettings": {f"{KERNEL}:kernel": {"disablePyPIFallback": True}},
        },
    }


def directory(files: Mapping[str, int], when: str) -> dict[str, Any]:
    """Listing of a folder of notebooks as Jupyter Server's contents API gives it.

    JupyterLite's own way to write it needs Jupyter Server, thirty packages, for this one file.

    Parameters
    ----------
    files : mapping of str to int
        Size in bytes by name.
    when : str
        Time for all of them, in ISO 8601.
    """
    common = {"created": when, "last_modified": when, "mimetype": None, "writable": True}
    notebooks = [
        common
        | {"name": name, "path": name, "type": "notebook", "format": None, "content": None}
        | {"size": size}
        for name, size in sorted(files.items())
    ]
    return common | {
        "name": "",
        "path": "",
        "type": "directory",
        "format": "json",
        "content": notebooks,
        "size": None,
    }


def _wheels(project: Project, work: Path) -> list[Path]:
    """The library's wheel, built now, and the pinned ones that are fetched once."""
    library = build_wheel(project, work, Path(sys.executable))
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", project.constraints.read_text(), re.MULTILINE))
    kept = work / "fetched"
    kept.mkdir(exist_ok=True)
    wheels = [library]
    for name in WHEELS:
        wheel = kept / f"{name}-{pins[name]}-py3-none-any.whl"
        if not wheel.is_file():
            python = Path(sys.executable)
            pip(python, "download", "--no-deps", "-d", str(kept), f"{name}=={pins[name]}")
        wheels.append(wheel)
    return wheels


def _build(work: Path, wheels: Iterable[Path]) -> Path:
    """Run JupyterLite on an empty folder: two of its applications, no source maps."""
    folder = work / "build"
    shutil.rmtree(folder, ignore_errors=True)
    kernel = Path(sys.prefix) / "share" / "jupyter" / "labextensions" / KERNEL
    config = {
        "LiteBuildConfig": {
            "apps": ["notebooks", "tree"],
            "federated_extensions": [str(kernel)],
            "ignore_sys_prefix": True,  # other extensions that happen to be installed
            "no_sourcemaps": True,
            "no_unused_shared_packages": True,
            "output_dir": "site",
        },
        "PipliteAddon": {"piplite_urls": [str(wheel) for wheel in wheels]},
    }
    write_atomic(folder / "jupyter_lite_config.json", json.dumps(config))
    write_atomic(folder / "jupyter-lite.json", json.dumps(settings()))
    call(sys.executable, "-m", "jupyterlite_core", "build", cwd=folder)
    return folder / "site"
