"""Workers of a Dask scheduler: which of them may run chapters, and what to say of the others."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata, util
from pathlib import Path
from typing import Any

from collapse_book.errors import BadInput

PACKAGES = ("collapse_utils", "collapse_book")
#: One worker for each core; with ``--nworkers auto`` Dask ignores ``--nthreads``.
START = "dask worker ADDRESS --nworkers -1 --nthreads 1"


def describe() -> dict[str, str]:
    """What must be the same everywhere: Python's minor version, and the sources of both packages.

    The digest tells apart two states of the sources that carry one version number.
    """
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        **{package: f"{_version()} ({_digest(package)})" for package in PACKAGES},
    }


def _version() -> str:
    try:
        return metadata.version("collapse-utils")
    except metadata.PackageNotFoundError:
        return "not installed"


def _digest(package: str) -> str:
    """Hash of every source and data file of an importable package."""
    spec = util.find_spec(package)
    if spec is None or spec.origin is None:
        return "missing"
    folder = Path(spec.origin).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


class Crew:
    """The workers at a scheduler that run the same sources with one thread each.

    Newcomers are looked at before they get work, because a cluster may grow at any time.
    """

    def __init__(self, client: Any, address: str) -> None:
        self.client = client
        self.address = address
        self.refused: dict[str, str] = {}
        self._accepted: set[str] = set()

    def muster(self, seconds: float) -> None:
        """Wait for the first worker, then look at all of them.

        Raises
        ------
        BadInput
            If nobody comes, or any worker has other sources, another Python or several threads.
        """
        try:
            self.client.wait_for_workers(1, timeout=seconds)
        except TimeoutError:
            start = START.replace("ADDRESS", self.address)
            raise BadInput(
                f"no worker has joined {self.address} in {seconds:g} s; start some: {start}"
            ) from None
        self.ready()
        if self.refused:
            raise BadInput("\n".join(f"worker {at}: {why}" for at, why in self.refused.items()))

    def ready(self) -> list[str]:
        """Addresses of the workers that are there now and may work."""
        threads: dict[str, int] = self.client.nthreads()
        new = [at for at in threads if at not in self._accepted and at not in self.refused]
        if new:
            here = describe()
            answers = self.client.run(describe, workers=new, on_error="return")
            for at, there in answers.items():
                why = _objection(here, there, threads[at])
                if why is None:
                    self._accepted.add(at)
                else:
                    self.refused[at] = why
        return [at for at in threads if at in self._accepted]


def _objection(here: dict[str, str], there: Any, threads: int) -> str | None:
    if isinstance(there, (OSError, TimeoutError)):
        return f"does not answer ({there})"
    if isinstance(there, BaseException):
        return f"cannot load collapse_book ({there}): install this book's environment there"
    other = [
        f"{name} {there[name]} there, {here[name]} here"
        for name in here
        if there[name] != here[name]
    ]
    if other:
        return f"{'; '.join(other)}: install the same commit and the same lock on both"
    if threads != 1:
        return f"has {threads} threads, and a chapter needs a process of its own: --nthreads 1"
    return None
