"""Where everything of the book lives."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from collapse_book.files import locked, read_yaml
from collapse_book.messages import BadInput, suggestion

#: What `git remote get-url` says of a repository on GitHub.
GITHUB = re.compile(
    r"(?:https://(?:[^@/]+@)?|(?:ssh://)?git@)github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?"
)


class Project:
    """The folders of one book, all derived from its root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config_file = root / "_config.yml"
        self.book = root / "book"
        self.toc_file = self.book / "_toc.yml"
        self.notebooks = root / "notebooks"
        self.scenarios = root / "scenarios"
        self.recorded = root / "recorded"  # runs that a build does not repeat
        self.package = root / "collapse_utils"
        self.build = root / "_build"
        self.html = self.build / "html"
        # What a build writes for Sphinx to read: chapters, pages that nobody wrote, other files.
        self.staged = self.book / "notebooks"
        self.generated = self.book / "generated"
        self.vendor = self.book / "_vendor"

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

    @cached_property
    def config(self) -> dict[str, Any]:
        """The parsed ``_config.yml``."""
        return self._mapping(self.config_file)

    def git(self, *command: str) -> str | None:
        """What git says of this repository; None if there is no git, or no repository."""
        if not (self.root / ".git").exists():
            return None
        command = ("git", "-C", str(self.root), *command)
        try:
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    @cached_property
    def repository(self) -> str | None:
        """``OWNER/NAME`` on GitHub, from CI or else from the remote ``origin``; None without one.

        It stands in no file, so that a fork never points to somebody else, nor to nobody.
        """
        if os.environ.get("GITHUB_SERVER_URL") == "https://github.com":
            return os.environ.get("GITHUB_REPOSITORY")
        found = GITHUB.fullmatch(self.git("remote", "get-url", "origin") or "")
        return found and found[1]

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

    @cached_property
    def chapters(self) -> list[str]:
        """Chapters that exist, in reading order: those the book publishes, then drafts by name."""
        published = [name for name in self.published if name in self._notebooks]
        return published + sorted(self._notebooks.keys() - set(published))

    @cached_property
    def _notebooks(self) -> dict[str, Path]:
        """Every notebook by its chapter's name, whatever folder of ``notebooks/`` it lies in."""
        found: dict[str, Path] = {}
        for path in sorted(self.notebooks.rglob("*.ipynb")):
            if "/." in f"/{path.relative_to(self.notebooks)}":  # an editor's own copies
                continue
            if (other := found.setdefault(path.stem, path)) != path:
                both = f"{self.relative(other)} and {self.relative(path)}"
                raise BadInput(f"{both}: a chapter's name is unique")
        return found

    @property
    def unwritten(self) -> list[str]:
        """Chapters that the table of contents names but nobody has written."""
        return [name for name in self.published if name not in self.chapters]

    @cached_property
    def pages(self) -> list[tuple[str, str | None]]:
        """Pages of the table of contents in its order, each with the last caption before it."""
        found: list[tuple[str, str | None]] = []
        caption = None

        def walk(node: Any) -> None:
            nonlocal caption
            if isinstance(node, dict):
                caption = node.get("caption", caption)
                if file := node.get("root") or node.get("file"):
                    found.append((str(file).removesuffix(".ipynb"), caption))
                node = list(node.values())
            if isinstance(node, list):
                for item in node:
                    walk(item)

        walk(self._mapping(self.toc_file))
        return found

    @cached_property
    def published(self) -> list[str]:
        """Chapters that the table of contents names, in its order."""
        pages = (page for page, _ in self.pages)
        return [p.removeprefix("notebooks/") for p in pages if p.startswith("notebooks/")]

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
