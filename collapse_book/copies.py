"""Copies of the notebooks that run elsewhere: downloaded, in Colab, or in the reader's browser.

They bring the library along as a wheel, which is written here, because pip would ask a package
index for what builds it: it holds `collapse_utils` and nothing of the press, and the same sources
give the same bytes.

Chapters that need no torch also run in the browser, in a static JupyterLite site of notebooks and
three wheels. Python itself (Pyodide) and the compiled packages come from Pyodide's CDN, and only
when the reader opens a notebook. Needs the extra ``lite``; nothing else does.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import sys
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata, util
from pathlib import Path
from typing import Any

from collapse_book import notebooks as nb
from collapse_book.cache import Library
from collapse_book.files import files_below, run_logged, write_atomic
from collapse_book.messages import BadInput, BuildFailed
from collapse_book.project import Project

#: What a chapter, and what it uses of the library, may import beside the standard library.
PACKAGES = {
    *("IPython", "PIL", "matplotlib", "numpy", "pandas", "scipy", "seaborn", "sklearn", "tqdm"),
    "wordfreq",  # not there, and the chapter that would use it goes on without
}
#: Modules of the standard library for which a browser has no processes, threads or sockets.
MISSING = {
    *("concurrent", "fcntl", "http", "multiprocessing", "resource"),
    *("socket", "subprocess", "threading", "urllib"),
}
#: Packages that Pyodide lacks; its kernel needs comm. With them here, no package index is asked.
WHEELS = ("comm", "seaborn")
INSTALL = """\
# This copy runs in your browser, slower than the page says; what you change stays in this browser.
# The library comes from the book's own site, Python and NumPy from Pyodide's CDN.
%pip install -q collapse-utils"""
KERNELSPEC = {"display_name": "Python (Pyodide)", "language": "python", "name": "python"}
KERNEL = "@jupyterlite/pyodide-kernel-extension"
#: The front page of the browser's Jupyter, and that no package index is asked.
SETTINGS = (Path(__file__).parent / "templates" / "jupyter-lite.json.j2").read_text("utf-8")


def library_wheel(project: Project) -> tuple[str, bytes]:
    """File name and bytes of the wheel of ``collapse_utils``.

    Raises
    ------
    BadInput
        If ``pyproject.toml`` or the version cannot be read.
    """
    try:
        settings = tomllib.loads((project.root / "pyproject.toml").read_text("utf-8"))["project"]
        init = (project.package / "__init__.py").read_text("utf-8")
        (version,) = re.findall(r'^__version__ = "(.+)"$', init, re.MULTILINE)
        lines = [f"Name: {settings['name']}", f"Version: {version}"]
        lines.append(f"Requires-Python: {settings['requires-python']}")
        lines += [f"Requires-Dist: {need}" for need in settings["dependencies"]]
    except (OSError, KeyError, ValueError) as error:
        raise BadInput(f"no wheel without pyproject.toml and a version: {error}") from None
    name = f"{project.package.name}-{version}"
    paths = files_below(project.package)
    files = {path.relative_to(project.root).as_posix(): path.read_bytes() for path in paths}
    files[f"{name}.dist-info/METADATA"] = "\n".join(["Metadata-Version: 2.1", *lines, ""]).encode()
    if (licence := project.root / "LICENSE-CODE").is_file():
        files[f"{name}.dist-info/LICENSE"] = licence.read_bytes()
    return _packed(name, files)


def installed_wheel(name: str) -> tuple[str, bytes]:
    """The same for a package of pure Python that is installed here.

    Raises
    ------
    BadInput
        If it is not installed.
    """
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise BadInput(f"{name} is not installed") from None
    left_out = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "WHEEL")
    files = {
        str(file): file.read_binary()
        for file in package.files or []
        if ".." not in file.parts and file.suffix != ".pyc" and file.name not in left_out
    }
    return _packed(f"{name.replace('-', '_')}-{package.version}", files)


def _packed(name: str, files: dict[str, bytes]) -> tuple[str, bytes]:
    """File name and bytes of a wheel of these files, and of ``WHEEL`` and ``RECORD``."""
    kind = "Wheel-Version: 1.0\nGenerator: collapse-book\nRoot-Is-Purelib: true\n"
    folder = f"{name}.dist-info"
    files[f"{folder}/WHEEL"] = f"{kind}Tag: py3-none-any\n".encode()
    record = ""
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        record += f"{path},sha256={digest},{len(content)}\n"
    files[f"{folder}/RECORD"] = f"{record}{folder}/RECORD,,\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compresslevel=9) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return f"{name}-py3-none-any.whl", packed.getvalue()


def copy_with(notebook: nb.Notebook, source: str) -> nb.Notebook:
    """Copy of a notebook without outputs, with another cell in the place of its install cell."""
    copy = nb.clean_copy(notebook)
    for cell in copy["cells"]:
        if nb.INSTALL_TAG in nb.tags(cell):
            cell["source"] = source
            cell["metadata"] |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
    return copy


def browser_chapters(project: Project) -> list[str]:
    """Chapters of the book that can run in a browser, in reading order."""
    library = Library(project.package)
    there = {
        n: nb.read_notebook(project.notebook(n)) for n in project.published if n in project.chapters
    }
    return [name for name, notebook in there.items() if not obstacles(library, notebook)]


def obstacles(library: Library, notebook: nb.Notebook) -> set[str]:
    """Modules that a notebook imports, itself or through the library, and a browser lacks.

    Every ``import`` counts, wherever it stands; a notebook without obstacles runs in a browser.
    """
    cells = nb.code_cells(notebook, without=nb.INSTALL_TAG)
    used = library.imported([cell["source"] for cell in cells])
    return used & MISSING | used - sys.stdlib_module_names - PACKAGES


def browser_copy(notebook: nb.Notebook) -> nb.Notebook:
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
    write_atomic(work / "jupyter-lite.json", SETTINGS)
    log = project.build / "lite.log"
    if run_logged([sys.executable, "-m", "jupyterlite_core", "build"], work, log):
        raise BuildFailed(f"JupyterLite was not built: {project.relative(log)}")
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
        copy = nb.dump_notebook(browser_copy(nb.read_notebook(project.notebook(chapter))))
        write_atomic(site / "lite" / "files" / f"{chapter}.ipynb", copy)
        sizes[f"{chapter}.ipynb"] = len(copy.encode())
    listing = json.dumps(directory(sizes, now), indent=1)
    write_atomic(site / "lite" / "api" / "contents" / "all.json", listing + "\n")


def _wheels(project: Project) -> dict[str, bytes]:
    """The library's wheel and those of packages that Pyodide lacks, by file name."""
    return dict([library_wheel(project), *map(installed_wheel, WHEELS)])


def _key(project: Project) -> str:
    """Hash of what JupyterLite is built from."""
    whole = hashlib.sha256(SETTINGS.encode())
    for name in ("jupyterlite-core", "jupyterlite-pyodide-kernel"):
        whole.update(f"{name} {metadata.version(name)}\n".encode())
    for name, content in _wheels(project).items():
        whole.update(name.encode() + hashlib.sha256(content).digest())
    return whole.hexdigest()


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
    notebook = common | {"type": "notebook", "format": None, "content": None}
    content = [notebook | {"name": n, "path": n, "size": s} for n, s in sorted(files.items())]
    folder = {"name": "", "path": "", "type": "directory", "format": "json", "size": None}
    return common | folder | {"content": content}
