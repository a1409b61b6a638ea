"""Checkpoints of a run: what makes two runs the same, and files that a crash cannot spoil."""

from __future__ import annotations

import copyreg
import functools
import hashlib
import importlib.metadata
import pickle
import sys
import types
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import _checks

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
#: Entries of a class that say nothing of what it does, or that Python adds when it is used.
_ASIDE = {"__dict__", "__weakref__", "__doc__", "__annotations__", "__slotnames__", "_abc_impl"}
#: Folders of installed packages: an environment's, a user's, Debian's.
_INSTALLED = {"site-packages", "dist-packages"}


def identity(thing: Any, name: str) -> str:
    """Digest of all that `thing` can do: code, constants, closures, arrays, attributes.

    Code of an installed package counts as its version. Equal in another process.
    """
    digest = hashlib.sha256()
    _Reader(digest).read(thing, name)
    return digest.hexdigest()


class _Reader:
    """Feeds a digest; a thing met a second time counts as the place of its first."""

    def __init__(self, digest: Any):
        self.digest = digest
        self.met: dict[int, int] = {}
        self.alive: list[Any] = []  # an id stays taken as long as its owner lives

    def put(self, *words: Any) -> None:
        self.digest.update((repr(words) + "\n").encode())

    def read(self, thing: Any, name: str) -> None:
        if isinstance(thing, _PLAIN):
            return self.put(type(thing).__name__, thing)
        if id(thing) in self.met:
            return self.put("again", self.met[id(thing)])
        self.met[id(thing)] = len(self.met)
        self.alive.append(thing)
        if isinstance(thing, types.ModuleType):
            self.put("module", thing.__name__, _version(thing.__name__))
        elif isinstance(thing, types.CodeType):
            self.code(thing, name)
        elif isinstance(thing, types.FunctionType):
            self.function(thing, name)
        elif isinstance(thing, type):
            self.kind(thing, name)
        elif isinstance(thing, np.ndarray) and thing.dtype != object:
            self.put("array", thing.shape, thing.dtype.str, np.ma.isMaskedArray(thing))
            self.digest.update(np.ascontiguousarray(thing).tobytes())
        elif isinstance(thing, (pd.DataFrame, pd.Series, pd.Index)):
            self.pandas(thing, name)
        elif thing is np.random.mtrand._rand:  # scipy's distributions hold numpy's global state
            self.put("global state of numpy.random")
        elif isinstance(thing, Mapping):
            self.put(type(thing).__name__, len(thing))
            for key, value in thing.items():
                self.read(key, name)
                self.read(value, f"{name}[{key!r}]")
        elif isinstance(thing, Set):
            self.put(type(thing).__name__, sorted(identity(one, name) for one in thing))
        elif isinstance(thing, (list, tuple)):
            self.put(type(thing).__name__, len(thing))
            self.each(thing, name)
        else:
            self.object(thing, name)

    def each(self, things: Any, name: str) -> None:
        for one in things:
            self.read(one, name)

    def pandas(self, thing: Any, name: str) -> None:
        """Names, types with their categories, and a hash of every row."""
        self.put(type(thing).__name__, thing.shape, getattr(thing, "name", None))
        self.read(list(getattr(thing, "columns", ())), name)
        for kind in thing.dtypes if thing.ndim == 2 else [thing.dtype]:
            self.put(str(kind), getattr(kind, "ordered", None))
            self.read(list(getattr(kind, "categories", ())), name)
        try:
            hashes = pd.util.hash_pandas_object(thing, categorize=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"checkpoint cannot read {name} ({error}): give columns of plain values, or no "
                "checkpoint"
            ) from error
        self.read(hashes.to_numpy(), name)

    def code(self, code: types.CodeType, name: str) -> None:
        self.put("code", code.co_code, code.co_names, code.co_varnames, code.co_flags)
        self.each(code.co_consts, name)

    def function(self, function: types.FunctionType, name: str) -> None:
        if _version(function.__module__):
            self.put("function", function.__module__, function.__qualname__)
            self.put(_version(function.__module__))
        else:
            self.code(function.__code__, name)
            for word in sorted(_names(function.__code__)):
                if word in function.__globals__:
                    self.put("global", word)
                    self.read(function.__globals__[word], f"{word}, which {name} uses")
        self.each((function.__defaults__, function.__kwdefaults__), name)
        cells = function.__closure__ or ()
        for word, cell in zip(function.__code__.co_freevars, cells, strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # a name that gets its value later
                continue
            self.read(value, f"{word}, which {name} uses")

    def kind(self, kind: type, name: str) -> None:
        self.put("class", kind.__module__, kind.__qualname__, _version(kind.__module__))
        if not _version(kind.__module__):
            self.each(kind.__bases__, name)
            for word, value in sorted(vars(kind).items()):
                if word not in _ASIDE:
                    if isinstance(value, (staticmethod, classmethod)):
                        value = value.__func__
                    elif isinstance(value, property):
                        value = (value.fget, value.fset)
                    elif type(value).__module__ in ("builtins", "_abc", "functools") and not (
                        callable(value) or isinstance(value, (*_PLAIN, list, tuple, dict, set))
                    ):
                        continue  # a slot, a cached property: what they hold is read elsewhere
                    self.put(word)
                    self.read(value, f"{name}.{word}")

    def object(self, thing: Any, name: str) -> None:
        self.read(type(thing), name)
        if callable(getattr(thing, "detach", None)) and callable(getattr(thing, "numpy", None)):
            return self.read(thing.detach().cpu().numpy(), name)  # a tensor of torch
        if str(type(thing).__module__).startswith("transformers.") and hasattr(thing, "to_dict"):
            return self.read(thing.to_dict(), name)  # its settings also hold a hash
        try:
            known = copyreg.dispatch_table.get(type(thing))
            reduced = known(thing) if known else thing.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise ValueError(
                f"checkpoint cannot tell whether {name} is the same when the run goes on "
                f"({type(thing).__name__}: {error}): give a function or a class that makes it, or "
                "no checkpoint"
            ) from error
        if isinstance(reduced, str):
            return self.put("global", reduced)
        for part in reduced[:3]:
            self.read(part, name)
        for items in reduced[3:5]:
            for item in items or ():
                self.read(item, name)


def _names(code: types.CodeType) -> set[str]:
    """Names that code looks up, that of functions inside it included."""
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))


@functools.cache
def _version(module: str | None) -> str | None:
    """Version of the installed package that `module` belongs to; None for the user's own code."""
    if module in (None, "__main__", "__mp_main__"):
        return None
    top = str(module).partition(".")[0]
    if top in sys.stdlib_module_names:
        return sys.version
    found = sys.modules.get(str(module))
    file = getattr(found, "__file__", None)
    if top == __package__:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    if file is None or not _installed(top, file):
        return None
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:  # its distribution has another name
        return str(getattr(sys.modules[top], "__version__", "")) or file


def _installed(top: str, file: str) -> bool:
    """Whether an installer put a package where its file is: by the folder, or by its records."""
    parents = Path(file).parents
    return not _INSTALLED.isdisjoint(parents[0].parts) or any(
        f"\n{top}/" in "\n" + (one.read_text("RECORD") or "")
        for place in {str(parent) for parent in parents}.intersection(sys.path)
        for one in importlib.metadata.distributions(path=[place])
    )


def load(path: Path, run: dict[str, str], sizes: list[int]) -> Any:
    """The state that `save` wrote; None if there is none, but a place for it."""
    try:
        content = _checks.writable("checkpoint", path).read_bytes()
    except FileNotFoundError:
        return None
    try:
        saved, done, state = pickle.loads(content)
        if not isinstance(saved, dict):
            raise ValueError(f"it holds {type(saved).__name__}")
    except (pickle.UnpicklingError, EOFError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"checkpoint {str(path)!r} is not a checkpoint: {error}") from error
    other = [name for name in run if saved.get(name) != run[name]]
    if done != sizes[: len(done)]:
        other.append("n_samples" if len(done) <= len(sizes) else "n_generations")
    if other:
        raise ValueError(
            f"checkpoint {str(path)!r} belongs to another run (not the same: {', '.join(other)}; "
            "code, constants and arrays count): delete it or name another file"
        )
    return state


def save(path: Path, run: dict[str, str], done: list[int], state: Any) -> None:
    """Write at once or not at all; `done` are the sizes of the generations that are finished."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        try:
            pickle.dump((run, done, state), file)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"checkpoint needs a model and rows that can be pickled: {error}; locks, open "
                "files and classes made inside a function cannot"
            ) from error
    part.replace(path)
