"""What a notebook can reach, found without running anything: files of the library, packages."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path

from collapse_book.files import files_below
from collapse_book.messages import BadInput

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
