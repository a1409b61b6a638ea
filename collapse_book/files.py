"""Reading YAML as its version 1.2 has it, and writing files whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from collapse_book.messages import BadInput, BuildFailed, one_line

#: Nobody writes a longer file or number by hand, and some files (/dev/zero) have no end.
LONGEST_FILE = 1_000_000
LONGEST_NUMBER = 400

#: The core schema of YAML 1.2, section 10.3.2: what is none of these is text.
CORE_SCHEMA = (
    (re.compile(r"|~|null|Null|NULL"), lambda text: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (
        re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
        lambda text: float(text.replace(".", "")),
    ),
)


def read_scalar(text: str) -> int | float | str | bool | None:
    """Read a number, a truth value or nothing as YAML 1.2 does; other text stays text.

    ``010`` is ten, ``1e-3`` a number; ``12:30``, ``1_000``, ``yes`` and ``2020-01-31`` are text.

    Raises
    ------
    ValueError
        If a number is longer than anybody writes.
    """
    for pattern, read in CORE_SCHEMA:
        if pattern.fullmatch(text):
            if len(text) > LONGEST_NUMBER:
                raise ValueError(f"a number of {len(text):,} characters")
            return read(text)
    return text


class _Loader(yaml.BaseLoader):
    """Marks plain scalars, whose type their text decides; quoted ones are text."""

    def resolve(self, kind: type, value: str, implicit: tuple[bool, bool]) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return "plain"
        return super().resolve(kind, value, implicit)


def _build(node: yaml.Node, done: dict[int, Any]) -> Any:
    """Data of a node. A node with aliases is built once, or aliases of aliases would explode."""
    if id(node) in done:
        return done[id(node)]
    match node, node.tag.removeprefix("tag:yaml.org,2002:"):
        case yaml.MappingNode(), "map":
            done[id(node)] = _build_mapping(node, done)
        case yaml.SequenceNode(), "seq":
            done[id(node)] = [_build(item, done) for item in node.value]
        case yaml.ScalarNode(), "plain" | "str" as kind:
            try:
                done[id(node)] = read_scalar(node.value) if kind == "plain" else node.value
            except ValueError as error:
                raise _wrong(node, str(error)) from None
        case _:
            raise _wrong(node, f"the tag {node.tag!r} is not allowed")
    return done[id(node)]


def _build_mapping(node: yaml.MappingNode, done: dict[int, Any]) -> dict[Any, Any]:
    own: dict[Any, Any] = {}
    merged: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        value = _build(value_node, done)
        if key_node.tag == "plain" and key_node.value == "<<":
            for base in value if isinstance(value, list) else [value]:
                if not isinstance(base, dict):
                    raise _wrong(value_node, "`<<` takes a mapping or a list of them")
                merged = base | merged
            continue
        key = _build(key_node, done)
        if not isinstance(key, Hashable):
            raise _wrong(key_node, "a key must be a single value")
        if key in own:
            raise _wrong(key_node, f"{key!r} is written twice")
        own[key] = value
    return merged | own


def _wrong(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def read_yaml(path: Path, name: str) -> Any:
    """Parse a YAML file, or standard input if it is ``-``; ``name`` is how messages call it.

    Raises
    ------
    BadInput
        If it cannot be read or parsed; the message has the line.
    """
    try:
        with click.open_file(str(path), "rb") as handle:
            text = handle.read(LONGEST_FILE + 1)
    except (OSError, ValueError, RuntimeError) as error:  # a null in the name, no standard input
        raise BadInput(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from None
    if len(text) > LONGEST_FILE:
        raise BadInput(f"cannot read {name}: longer than {LONGEST_FILE:,} bytes")
    try:
        node = yaml.compose(text, _Loader)
        return None if node is None else _build(node, {})
    except yaml.MarkedYAMLError as error:
        last = max(1, len(text.splitlines()))
        line = min(error.problem_mark.line + 1, last) if error.problem_mark else last
        raise BadInput(f"{name}, line {line}: broken YAML: {error.problem}") from None
    except RecursionError:
        raise BadInput(f"{name}: broken YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise BadInput(f"{name}: broken YAML: {one_line(error)}") from None


def files_below(folder: Path) -> list[Path]:
    """Every file in a folder, at whatever depth, in order; none that Python has compiled."""
    found = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return sorted(path for path in found if path.is_file())


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
            why = f"{path.parent} cannot be locked ({error.strerror})"
            print(f"collapse-book: {why}: start nothing else there meanwhile", file=sys.stderr)
        yield


def try_to_write(path: Path) -> None:
    """Find out whether `write_atomic` could write a file; leaves nothing behind.

    Raises
    ------
    BadInput
        If not, with the reason that the operating system gives.
    """
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"cannot write {path}: it is no file")
        name = f".{path.name}."
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=name, suffix=".part"):
            pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"cannot write {path}: {why}") from None


def run_logged(command: list[str], folder: Path, log: Path) -> int:
    """Run a program in a folder, all that it says in a file; its exit status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as said:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": subprocess.STDOUT}
        environment = os.environ | {"NO_COLOR": "1"}
        return subprocess.run(command, cwd=folder, env=environment, check=False, **quiet).returncode
