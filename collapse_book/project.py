"""Where everything of the book lives."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from collapse_book.errors import BadInput, suggestion
from collapse_book.files import locked, read_yaml

#: What `git remote get-url` says of a repository on GitHub.
GITHUB = re.compile(
    r"(?:https://(?:[^@/]+@)?|(?:ssh://)?git@)github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?"
)


@dataclass(frozen=True)
class Project:
    """The folders of one book, all derived from its root."""

    root: Path

    @classmethod
    def find(cls, root: Path | None = None) -> Project:
        """Take the book at ``root``, or else the nearest one at or above the current folder.

        Raises
        ------
        BadInput
            If there is no folder with ``_config.yml`` and ``notebooks/``.
        """
        here = (root or Path.cwd()).resolve()
        installed = Path(__file__).resolve().parents[1]
        for folder in [here] if root else [here, *here.parents, installed]:
            if (folder / "_config.yml").is_file() and (folder / "notebooks").is_dir():
                return cls(folder)
        raise BadInput(f"no book in {here}: it needs _config.yml and notebooks/")

    @property
    def config_file(self) -> Path:
        return self.root / "_config.yml"

    @property
    def book(self) -> Path:
        return self.root / "book"

    @property
    def toc_file(self) -> Path:
        return self.book / "_toc.yml"

    @property
    def notebooks(self) -> Path:
        return self.root / "notebooks"

    @property
    def scenarios(self) -> Path:
        return self.root / "scenarios"

    @property
    def recorded(self) -> Path:
        """Numbers of runs that a build does not repeat: other machines, other environments."""
        return self.root / "recorded"

    @property
    def package(self) -> Path:
        return self.root / "collapse_utils"

    @property
    def constraints(self) -> Path:
        return self.root / "constraints.txt"

    @property
    def build(self) -> Path:
        return self.root / "_build"

    @property
    def html(self) -> Path:
        return self.build / "html"

    @property
    def staged(self) -> Path:
        return self.book / "notebooks"

    @property
    def generated(self) -> Path:
        return self.book / "generated"

    @property
    def vendor(self) -> Path:
        return self.book / "_vendor"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The parsed ``_config.yml``."""
        return self._mapping(self.config_file)

    @cached_property
    def repository(self) -> str | None:
        """``OWNER/NAME`` on GitHub, from CI or else from the remote ``origin``; None without one.

        It stands in no file, so that a fork never points to somebody else, nor to nobody.
        """
        if os.environ.get("GITHUB_SERVER_URL") == "https://github.com":
            return os.environ.get("GITHUB_REPOSITORY")
        if not (self.root / ".git").exists():
            return None
        command = ["git", "-C", str(self.root), "remote", "get-url", "origin"]
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return None
        found = GITHUB.fullmatch(said.strip())
        return found[1] if found else None

    @cached_property
    def address(self) -> str | None:
        """Where this build will be published, with a slash at the end; None if it will not be.

        The workflow that publishes says so in ``BOOK_ADDRESS``.

        Raises
        ------
        BadInput
            If it is not the address of a site.
        """
        given = os.environ.get("BOOK_ADDRESS")
        if not given:
            return None
        parts = urlsplit(given)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query:
            raise BadInput(f"BOOK_ADDRESS={given} is not the address of a site: https://host/path/")
        return given.rstrip("/") + "/"

    @property
    def prefix(self) -> str:
        """Path of the published book on its host, with slashes at both ends."""
        return urlsplit(self.address or "/").path

    @cached_property
    def chapters(self) -> list[str]:
        """Chapters that exist, in reading order: those the book publishes, then drafts by name."""
        found = self._notebooks.keys()
        published = [name for name in self.published if name in found]
        return published + sorted(found - set(published))

    @cached_property
    def _notebooks(self) -> dict[str, Path]:
        """Every notebook by its chapter's name, whatever folder of ``notebooks/`` it lies in."""
        found: dict[str, Path] = {}
        for path in sorted(self.notebooks.rglob("*.ipynb")):
            inside = path.relative_to(self.notebooks)
            if any(part.startswith(".") for part in inside.parts):
                continue
            other = found.setdefault(path.stem, path)
            if other != path:
                raise BadInput(
                    f"{self.relative(other)} and {self.relative(path)}: a chapter's name is unique"
                )
        return found

    @property
    def unwritten(self) -> list[str]:
        """Chapters that the table of contents names but nobody has written."""
        return [name for name in self.published if name not in self.chapters]

    @cached_property
    def published(self) -> list[str]:
        """Chapters that the table of contents names, in its order."""
        names: list[str] = []

        def walk(node: Any) -> None:
            if isinstance(node, dict):
                file = node.get("file") or node.get("root") or ""
                if file.startswith("notebooks/"):
                    names.append(file.removeprefix("notebooks/").removesuffix(".ipynb"))
                for value in node.values():
                    walk(value)
            elif isinstance(node, list):
                for item in node:
                    walk(item)

        walk(self._mapping(self.toc_file))
        return names

    def notebook(self, chapter: str) -> Path:
        """Path of a chapter's notebook.

        Raises
        ------
        BadInput
            If there is no such chapter; the message suggests the nearest name.
        """
        if chapter not in self.chapters:
            hint = suggestion(chapter, self.chapters, "chapters")
            raise BadInput(f"no chapter {chapter!r}{hint}")
        return self._notebooks[chapter]

    def relative(self, path: Path) -> str:
        """``path`` as the user sees it: relative to the book's root where it lies inside."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def _mapping(self, path: Path) -> dict[str, Any]:
        value = read_yaml(path, self.relative(path))
        if not isinstance(value, dict):
            raise BadInput(f"{self.relative(path)} must be a mapping of names to values")
        return value

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the book for one build; the lock falls with the process, however it dies.

        Raises
        ------
        BuildFailed
            If another build of this book is running.
        """
        with locked(self.build / ".lock", "another build of this book is running"):
            yield
