"""Reading YAML strictly and writing files whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from collapse_book.errors import BadInput, BuildFailed


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is written twice, where YAML would keep the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} is written twice", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, name: str) -> Any:
    """Parse a YAML file; ``name`` is how messages call it.

    Raises
    ------
    BadInput
        If it cannot be read or parsed; the message has the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{name} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadInput(f"cannot read {name}: {reason}") from None
    try:
        return yaml.load(text, _StrictLoader)  # yaml.SafeLoader with one more refusal
    except yaml.MarkedYAMLError as error:
        last = max(1, len(text.splitlines()))
        line = min(error.problem_mark.line + 1, last) if error.problem_mark else last
        raise BadInput(f"{name}, line {line}: broken YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise BadInput(f"{name}: broken YAML: {' '.join(str(error).split())}") from None


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut.

    Raises
    ------
    BuildFailed
        If it cannot be written: a full disk, a folder that may not be written to.
    """
    raw = data.encode() if isinstance(data, str) else data
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as handle:
            handle.write(raw)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise BuildFailed(f"cannot write {path}: {error.strerror or error}") from None
        raise


def write_changed(path: Path, data: str | bytes) -> None:
    """Write a file whole, or leave it alone, and its time too, if it holds just that."""
    raw = data.encode() if isinstance(data, str) else data
    if not path.is_file() or path.read_bytes() != raw:
        write_atomic(path, raw)


def remove_parts(folder: Path) -> None:
    """Remove the unfinished files that a killed process left behind.

    A file that is being written now, by whatever command, is younger than an hour.
    """
    for path in folder.rglob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()


@contextlib.contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file; the lock falls with the process, however it dies.

    Where the file system has no locks a line says so, and the work goes on.

    Raises
    ------
    BuildFailed
        With the message ``busy``, if somebody else holds it.
    BadInput
        If it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(open(path, "w"))
        except OSError as error:
            raise BadInput(f"cannot write to {path.parent}: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildFailed(busy) from None
        except OSError as error:
            print(
                f"collapse-book: {path.parent} cannot be locked ({error.strerror}): "
                "start nothing else there meanwhile",
                file=sys.stderr,
            )
        yield
