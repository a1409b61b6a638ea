"""Executed notebooks, kept under a key of everything that could change their outputs.

What a notebook can reach, files of the library and packages, is found without running anything.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from collapse_book import notebooks as nb
from collapse_book.files import files_below, locked, remove_parts, write_atomic
from collapse_book.messages import BadInput, BuildFailed, one_line
from collapse_book.project import Project

# ---------------------------------------------------------------- what a notebook reaches

MAGIC = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)
INIT = "__init__"


def parsed(source: str) -> ast.Module:
    """The syntax tree of a cell, whose magics are left out.

    Raises
    ------
    SyntaxError
        If it is not Python.
    """
    return ast.parse(MAGIC.sub(r"\1pass", source))


@cache
def imports(source: str) -> list[tuple[str, str | None]]:
    """Modules that a source imports, anywhere in it: ``(module, name)`` of ``from``, or None."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found += [(module, alias.name) for alias in node.names]
    return found


class Library:
    """The modules of one package, its data files, and the static imports between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder.name
        files = files_below(folder)
        self.modules = {self._name(path): path for path in files if path.suffix == ".py"}
        self.texts = {name: path.read_text("utf-8") for name, path in self.modules.items()}
        self.data = [path for path in files if path.suffix != ".py"]

    def _name(self, path: Path) -> str:
        """``models.language`` of a module below; a package has the name of its folder."""
        parts = path.relative_to(self.folder).with_suffix("").parts
        return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == INIT else parts)

    def files_for(self, sources: Iterable[str]) -> list[Path]:
        """Files that code cells depend on, directly or through other modules.

        A cell that cannot be parsed, a star import, and ``import collapse_utils`` as a whole
        count as a dependency on every module.
        """
        queue = set().union(*(self._reached(source) for source in sources))
        if not queue:
            return []
        found: set[str] = set()
        queue.add(INIT)  # it runs first, whatever is imported
        while queue:
            name = queue.pop()
            found.add(name)
            queue |= self._links[name] - found
        # and the data files that they mention by name, and those that no module mentions
        data = [
            path
            for path in self.data
            if any(path.name in self.texts[name] for name in found)
            or not any(path.name in text for text in self.texts.values())
        ]
        return [self.modules[name] for name in sorted(found)] + data

    def imported(self, sources: Sequence[str]) -> set[str]:
        """What code cells import, themselves or through the library, by its first name."""
        code = [path.read_text("utf-8") for path in self.files_for(sources) if path.suffix == ".py"]
        names: set[str] = set()
        for source in [*sources, *code]:
            with contextlib.suppress(SyntaxError):  # the run will say so
                names |= {module.partition(".")[0] for module, _ in imports(source)}
        return names - {self.package, ""}

    def digest(self, path: Path) -> str:
        """Hash of a file; of ``__init__.py`` without its tables of lazy names.

        What a table says about a name that is used is in the list of files already, so a new
        module or a new name need not execute the book again.
        """
        if path != self.modules[INIT]:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        tables = (ast.Dict, ast.List, ast.Set, ast.Tuple)
        body = [
            ast.dump(node)
            for node in self._read_init().body
            if not (isinstance(node, ast.Assign) and isinstance(node.value, tables))
        ]
        return hashlib.sha256("\n".join(body).encode()).hexdigest()

    def changed(self, digests: Mapping[str, str]) -> list[str]:
        """Files whose content is no longer the one that `digest` saw."""
        return [
            f"{self.package}/{name}"
            for name, digest in digests.items()
            if not (self.folder / name).is_file() or self.digest(self.folder / name) != digest
        ]

    @cached_property
    def _links(self) -> dict[str, set[str]]:
        """Modules that each module imports; lazy names of ``__init__.py`` are followed when used.

        What ``__init__.py`` imports inside of a function it imports later.
        """
        at_once = [n for n in self._read_init().body if isinstance(n, (ast.Import, ast.ImportFrom))]
        texts = self.texts | {INIT: ast.unparse(ast.Module(at_once, []))}
        return {name: self._reached(text) for name, text in texts.items()}

    def _read_init(self) -> ast.Module:
        try:
            return ast.parse(self.modules[INIT].read_text("utf-8"))
        except SyntaxError as error:
            where = f"{self.package}/__init__.py, line {error.lineno}"
            raise BadInput(f"{where} is not Python: {error.msg}") from None

    @cached_property
    def _exports(self) -> dict[str, str]:
        """Public name -> module, from the literal dictionaries and imports of ``__init__.py``."""
        exports: dict[str, str] = {}
        for node in ast.walk(self._read_init()):
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
                exports |= {alias.asname or alias.name: node.module for alias in node.names}
            elif isinstance(node, ast.Dict) and all(
                isinstance(part, ast.Constant) for part in [*node.keys, *node.values]
            ):
                exports |= ast.literal_eval(node)  # {"recurse": "loop"}
        return {name: module for name, module in exports.items() if module in self.modules}

    def _reached(self, source: str) -> set[str]:
        """Modules of the library that a source imports."""
        try:
            found = [(*module.partition("."), name) for module, name in imports(source)]
        except SyntaxError:
            return set(self.modules)
        bases = [(b.lstrip("."), n) for p, _, b, n in found if p in ("", self.package)]
        return set().union(*(self._modules_of(base, name) for base, name in bases))

    def _modules_of(self, base: str, name: str | None) -> set[str]:
        """Modules behind ``from package.base import name``; all, if that is not clear."""
        if base:  # a relative import in a folder leaves the folder out
            found = {key for key in self.modules if f".{key}".endswith(f".{base}")}
            below = {f"{key}.{name}" for key in found} & self.modules.keys()
            parents = {key.rpartition(".")[0] for key in found} - {""}
            return found | below | parents or set(self.modules)
        if name in self.modules:
            return {name}
        if name in self._exports:
            return {self._exports[name]}
        return {INIT} if name and name.startswith("__") else set(self.modules)


# ---------------------------------------------------------------- the key

#: Tags that change how papermill runs a cell.
RUN_TAGS = {"parameters", "raises-exception", "skip-execution"}


def code_inputs(notebook: nb.Notebook, library: Library) -> dict[str, Any]:
    """What the outputs of a notebook depend on, whatever its parameters, by kind and name.

    Its code cells, the files of the library that they reach, the installed versions of the
    packages that both reach, and Python's minor version. Prose is not part of it: editing prose
    refreshes a page without executing it.
    """
    cells = [
        [cell["source"], sorted(RUN_TAGS & set(nb.tags(cell)))]
        for cell in nb.code_cells(notebook, without=nb.INSTALL_TAG)
    ]
    sources = [source for source, _ in cells]
    return {
        "cells": cells,
        "library": {
            str(path.relative_to(library.folder)): library.digest(path)
            for path in library.files_for(sources)
        },
        "packages": installed(library.imported(sources)),
        "python": list(sys.version_info[:2]),
    }


def data_inputs(declared: Iterable[nb.Parameter], values: Mapping[str, Any]) -> dict[str, str]:
    """Hash of every file that lies behind a parameter: a path, or a data set by its name."""
    found = {}
    for parameter in declared:
        value = values[parameter.name]
        if parameter.type != "str" or parameter.place == "folder" or not value:
            continue
        if parameter.place == "path" and os.path.exists(value):
            files = files_below(Path(value)) or [Path(value)]
        else:
            from collapse_utils.data import stored

            files = stored(value)
        for path in filter(Path.is_file, files):
            status = path.stat()
            found[str(path)] = _file_digest(path, status.st_size, status.st_mtime_ns)
    return found


@cache
def _file_digest(path: Path, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(inputs: Mapping[str, Any]) -> str:
    """Hash of everything that a run depends on."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:24]


def values_of(notebook: nb.Notebook, given: Mapping[str, Any]) -> dict[str, Any]:
    """Value of every parameter: a default that is written out is the same run."""
    return {p.name: given.get(p.name, p.default) for p in nb.parameters_of(notebook)}


def installed(imported: Iterable[str]) -> dict[str, str]:
    """Installed versions of the distributions behind imported names, and of what they require."""
    queue = [name for module in imported for name in _distributions().get(module, [])]
    found: dict[str, str] = {}
    while queue:
        name = canonicalize_name(queue.pop())
        if name not in found:
            version, needs = distribution(name)
            found |= {name: version} if version else {}
            queue += needs
    return dict(sorted(found.items()))


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


@cache
def distribution(name: str) -> tuple[str, list[str]]:
    """Version of a package, empty if it is not installed, and the names that it requires."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return "", []
    needs = [Requirement(line) for line in distribution.requires or ()]
    needed = [r.name for r in needs if r.marker is None or r.marker.evaluate({"extra": ""})]
    return distribution.version, needed


# ---------------------------------------------------------------- the store


class Store:
    """Executed notebooks at ``executed/CHAPTER/KEY.ipynb`` under a folder or a URL of fsspec.

    Parameters
    ----------
    address : str or Path
        Made when something is first written.
    keep : int, optional
        How many notebooks of a chapter stay: those that were used last. All, if not given.

    Raises
    ------
    BadInput
        If fsspec does not know the protocol or lacks the package for it, or the address is empty
        or that of a file.
    """

    def __init__(self, address: str | Path, *, keep: int | None = None) -> None:
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        self.address = str(address).rstrip("/") or str(address)
        self.keep = keep
        if not self.address.strip():
            raise BadInput("--out is empty: give a folder or a URL")
        try:
            self._files, root = fsspec.core.url_to_fs(self.address)
        except (ValueError, ImportError) as error:
            raise BadInput(f"--out {address}: {error}") from None
        self._root = root.rstrip("/")
        self._folder = Path(root) if isinstance(self._files, LocalFileSystem) else None
        if self._folder is not None and self._folder.exists() and not self._folder.is_dir():
            raise BadInput(f"--out {address} is a file: give a folder")

    def place(self, name: str) -> str:
        """Address of a file, for messages."""
        return f"{self.address}/{name}"

    def name(self, chapter: str, key: str) -> str:
        """Where an executed notebook lies, below the address."""
        return f"executed/{chapter}/{key}.ipynb"

    def keys(self, chapter: str) -> set[str]:
        """Keys of the executed notebooks of a chapter."""
        folder = f"executed/{chapter}"
        self._files.invalidate_cache()
        with self._reaching("list", folder):
            try:
                paths = self._files.ls(f"{self._root}/{folder}", detail=False)
            except FileNotFoundError:
                return set()
        names = [path.rsplit("/", 1)[-1] for path in paths]
        return {name.removesuffix(".ipynb") for name in names if name.endswith(".ipynb")}

    def get(self, chapter: str, key: str) -> nb.Notebook | None:
        """Executed notebook under this key, or None.

        Raises
        ------
        BuildFailed
            If it cannot be read, or is no notebook.
        """
        name = self.name(chapter, key)
        with self._reaching("read", name):
            try:
                notebook = json.loads(self._files.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise ValueError(f"damaged, delete it and run again: {error}") from None
            if self._folder is not None and self.keep is not None:
                os.utime(self._folder / name)  # those used last are kept
        for cell in notebook["cells"]:
            cell["source"] = nb.joined(cell["source"])
        return notebook

    def put(self, chapter: str, key: str, notebook: nb.Notebook) -> None:
        """Store an executed notebook, and drop those that were not used for long."""
        name = self.name(chapter, key)
        self.write(name, nb.dump_notebook(notebook).encode())
        if self.keep is not None and self._folder is not None:
            entries = (self._folder / name).parent.glob("*.ipynb")
            for old in sorted(entries, key=lambda entry: entry.stat().st_mtime)[: -self.keep]:
                old.unlink(missing_ok=True)

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that it is there whole or not at all, as object stores do anyway."""
        if self._folder is not None:
            write_atomic(self._folder / name, data)
            return
        path = f"{self._root}/{name}"
        with self._reaching("write", name):
            self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self._files.pipe_file(path, data)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._reaching("remove", name), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{name}")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second sweep out of a local folder; elsewhere there is no lock to hold."""
        if self._folder is None:
            yield
            return
        with locked(self._folder / ".lock", f"another sweep is writing to {self.address}"):
            remove_parts(self._folder)
            yield

    @contextlib.contextmanager
    def _reaching(self, verb: str, name: str) -> Iterator[None]:
        """Every file system has errors of its own; all of them end in one line."""
        try:
            yield
        except Exception as error:
            what = f"{type(error).__name__}: {one_line(error)}"
            raise BuildFailed(f"cannot {verb} {self.place(name)}: {what}") from None


#: Seconds that chapters took: here with their defaults, and when somebody last recorded it.
SECONDS, RECORDED = "executed/seconds.json", "seconds.json"


def measured_seconds(project: Project) -> dict[str, float]:
    """How long each chapter took here, with its defaults."""
    return _read_seconds(project.build / SECONDS)


def expected_seconds(project: Project) -> dict[str, float]:
    """How long each chapter may take: as it did here, or else as it is recorded."""
    return _read_seconds(project.recorded / RECORDED) | measured_seconds(project)


def remember_seconds(project: Project, chapter: str, seconds: float) -> None:
    """Keep how long a chapter took with its defaults."""
    content = measured_seconds(project) | {chapter: seconds}
    write_atomic(project.build / SECONDS, json.dumps(content, indent=1, sort_keys=True) + "\n")


def _read_seconds(path: Path) -> dict[str, float]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {path}: {error}") from None
