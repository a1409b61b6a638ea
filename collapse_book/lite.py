"""Chapters that need no torch, as a static JupyterLite site: they run in the reader's browser.

The site holds notebooks, JupyterLite and three wheels. Python itself (Pyodide) and the compiled
packages come from Pyodide's CDN, and only when the reader opens a notebook. No page of the book
loads any of it; the chapters concerned link to it. Needs the extra ``lite``; nothing else does.
"""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from collapse_book.closure import MAGIC, Library
from collapse_book.errors import BadInput, BuildFailed
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
from collapse_book.wheel import copy_with, installed_wheel, library_wheel

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
#: Packages that Pyodide lacks; its kernel needs comm. With them here, no package index is asked.
WHEELS = ("comm", "seaborn")
INSTALL = """\
# This copy runs in your browser, slower than the page says; what you change stays in this browser.
# The library comes from the book's own site, Python and NumPy from Pyodide's CDN.
%pip install -q collapse-utils"""
KERNELSPEC = {"display_name": "Python (Pyodide)", "language": "python", "name": "python"}
KERNEL = "@jupyterlite/pyodide-kernel-extension"


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
    copy = copy_with(notebook, INSTALL)
    copy["metadata"]["kernelspec"] = dict(KERNELSPEC)
    return copy


def build_lite(project: Project) -> None:
    """Build JupyterLite with the library's wheel, for the site to take in; no network is needed.

    Raises
    ------
    BadInput
        If the extra ``lite`` is missing.
    BuildFailed
        If JupyterLite fails.
    """
    if not util.find_spec("jupyterlite_core") or not util.find_spec("jupyterlite_pyodide_kernel"):
        raise BadInput("JupyterLite is not installed: pip install -e '.[lite]'")
    work = project.build / "lite"
    shutil.rmtree(work, ignore_errors=True)
    wheels = {work / "wheels" / name: content for name, content in _wheels(project).items()}
    for path, content in wheels.items():
        write_atomic(path, content)
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
        "PipliteAddon": {"piplite_urls": [str(path) for path in wheels]},
    }
    write_atomic(work / "jupyter_lite_config.json", json.dumps(config))
    write_atomic(work / "jupyter-lite.json", json.dumps(settings()))
    done = subprocess.run(
        [sys.executable, "-m", "jupyterlite_core", "build"],
        cwd=work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    write_atomic(project.build / "lite.log", done.stdout)
    if done.returncode:
        raise BuildFailed(
            f"JupyterLite was not built: {project.relative(project.build / 'lite.log')}"
        )
    write_atomic(work / "key", _key(project))


def current_chapters(project: Project) -> list[str]:
    """Chapters that the site can offer in a browser: none without JupyterLite for this library."""
    key = project.build / "lite" / "key"
    current = key.is_file() and key.read_text(encoding="utf-8") == _key(project)
    return browser_chapters(project) if current else []


def add_lite(project: Project, chapters: Sequence[str], site: Path) -> None:
    """Put JupyterLite into the folder ``lite`` of a built site, with copies of these chapters."""
    shutil.copytree(project.build / "lite" / "site", site / "lite")
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    sizes = {}
    for chapter in chapters:
        copy = dump_notebook(browser_copy(read_notebook(project.notebook(chapter))))
        write_atomic(site / "lite" / "files" / f"{chapter}.ipynb", copy)
        sizes[f"{chapter}.ipynb"] = len(copy.encode())
    listing = json.dumps(directory(sizes, now), indent=1)
    write_atomic(site / "lite" / "api" / "contents" / "all.json", listing + "\n")


def _wheels(project: Project) -> dict[str, bytes]:
    """The library's wheel and those of packages that Pyodide lacks, by file name."""
    return dict([library_wheel(project), *map(installed_wheel, WHEELS)])


def _key(project: Project) -> str:
    """Hash of what JupyterLite is built from."""
    whole = hashlib.sha256(json.dumps(settings(), sort_keys=True).encode())
    for name in ("jupyterlite-core", "jupyterlite-pyodide-kernel"):
        whole.update(f"{name} {metadata.version(name)}\n".encode())
    for name, content in _wheels(project).items():
        whole.update(name.encode() + hashlib.sha256(content).digest())
    return whole.hexdigest()


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
