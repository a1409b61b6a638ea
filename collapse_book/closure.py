"""Which source files of the library a notebook depends on, found without running anything."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from collapse_book.errors import BadInput

MAGIC = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)


def imported_names(source: str) -> set[str]:
    """First parts of the names that a source imports; none if it is not Python."""
    try:
        tree = ast.parse(MAGIC.sub(r"\1pass", source))
    except SyntaxError:
        return set()
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.append(node.module)
    return {name.partition(".")[0] for name in names}


class Library:
    """The sources of one package and the static imports between its modules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder.name
        self.modules = {
            self._module_name(path): path
            for path in sorted(folder.rglob("*.py"))
            if "__pycache__" not in path.parts
        }
        self.data = [
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix not in (".py", ".pyc")
        ]

    def files_for(self, sources: Iterable[str]) -> list[Path]:
        """Files that code cells depend on, directly or through other modules.

        A cell that cannot be parsed, a star import, and ``import collapse_utils`` as a whole
        count as a dependency on every module.
        """
        needed: set[str] = set()
        for source in sources:
            needed |= self._imported(MAGIC.sub(r"\1pass", source), "")
        if not needed:
            return []
        found = {""}  # __init__.py runs first, whatever is imported
        queue = [*needed, ""]
        while queue:
            name = queue.pop()
            below = self._eager if name == "" else self._links[name]
            parents = {".".join(name.split(".")[:i]) for i in range(1, name.count(".") + 1)}
            for other in ({name} | below | parents) - found:
                found.add(other)
                queue.append(other)
        return [self.modules[name] for name in sorted(found)] + self._data_of(found)

    def packages(self, sources: Iterable[str]) -> set[str]:
        """Packages of others that code cells import, themselves or through the library."""
        sources = list(sources)
        code = [path for path in self.files_for(sources) if path.suffix == ".py"]
        names: set[str] = set()
        for text in [*sources, *(path.read_text(encoding="utf-8") for path in code)]:
            names |= imported_names(text)
        return names - sys.stdlib_module_names - {self.package}

    def digest(self, path: Path) -> str:
        """Hash of a file; of ``__init__.py`` without its tables of lazy names.

        What a table says about a name that is used is in the list of files already, so a new
        module or a new name need not execute the book again.
        """
        if path != self.modules[""]:
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

    def _data_of(self, names: set[str]) -> list[Path]:
        """Data files that these modules mention by name, and those that no module mentions."""
        texts = {name: path.read_text(encoding="utf-8") for name, path in self.modules.items()}
        return [
            path
            for path in self.data
            if any(path.name in texts[name] for name in names)
            or not any(path.name in text for text in texts.values())
        ]

    @cached_property
    def _links(self) -> dict[str, set[str]]:
        return {
            name: self._imported(path.read_text(encoding="utf-8"), name)
            for name, path in self.modules.items()
        }

    @cached_property
    def _init(self) -> ast.Module:
        return self._read_init()

    def _read_init(self) -> ast.Module:
        try:
            return ast.parse(self.modules[""].read_text(encoding="utf-8"))
        except SyntaxError as error:
            where = f"{self.package}/__init__.py, line {error.lineno}"
            raise BadInput(f"{where} is not Python: {error.msg}") from None

    @cached_property
    def _eager(self) -> set[str]:
        """Modules that ``__init__.py`` imports at once; its lazy names are followed when used."""
        at_once = [
            node for node in self._init.body if isinstance(node, (ast.Import, ast.ImportFrom))
        ]
        return self._imported(ast.unparse(ast.Module(at_once, [])), "")

    @cached_property
    def _exports(self) -> dict[str, str]:
        """Public name -> module, from the literal dictionaries and imports of ``__init__.py``."""
        exports: dict[str, str] = {}
        for node in ast.walk(self._init):
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
                exports |= {alias.asname or alias.name: node.module for alias in node.names}
            elif isinstance(node, ast.Dict):
                try:
                    content = ast.literal_eval(node)
                except ValueError:
                    continue
                for key, value in content.items():
                    if isinstance(value, str):  # {"recurse": "loop"}
                        exports[key] = value.lstrip(".").removeprefix(f"{self.package}.")
                    elif isinstance(value, (list, tuple, set)):  # {"loop": ("recurse", ...)}
                        exports |= {name: key.lstrip(".") for name in value}
        return {name: module for name, module in exports.items() if module in self.modules}

    def _module_name(self, path: Path) -> str:
        parts = path.relative_to(self.folder).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _imported(self, source: str, importer: str) -> set[str]:
        """Names of the library's modules that ``source`` imports anywhere in it."""
        try:
            tree = ast.parse(source)
        except SyntaxError:
            return set(self.modules)
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name == self.package:
                        found |= set(self.modules)
                    elif alias.name.startswith(f"{self.package}."):
                        found |= self._resolve(alias.name.removeprefix(f"{self.package}."), None)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node, importer)
                if base is not None:
                    for alias in node.names:
                        found |= self._resolve(base, alias.name)
        return found

    def _base(self, node: ast.ImportFrom, importer: str) -> str | None:
        """Module inside the package that a ``from`` names; None when it is another package."""
        module = node.module or ""
        if node.level == 0:
            if module == self.package:
                return ""
            if module.startswith(f"{self.package}."):
                return module.removeprefix(f"{self.package}.")
            return None
        parts = importer.split(".") if importer else []
        is_package = importer == "" or self.modules.get(importer, Path()).name == "__init__.py"
        up = node.level - 1 if is_package else node.level
        parts = parts[: len(parts) - up] if up else parts
        return ".".join([*parts, *([module] if module else [])])

    def _resolve(self, base: str, name: str | None) -> set[str]:
        inside = f"{base}.{name}" if base and name else (name or base)
        if inside in self.modules:
            return {inside}
        if base == "" and name in self._exports:
            return {self._exports[name]}
        if base == "" and name and name.startswith("__"):
            return {""}
        if base in self.modules and base != "":
            return {base}
        return set(self.modules)
