"""Argument checks, declared once: ``@checked(n_samples=whole(1), share=number(0, 1))``.

Each message names the parameter, the value and what is allowed.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Rule = Callable[[str, Any], Any]
T = TypeVar("T", bound=Callable)


def checked(**rules: Rule) -> Callable[[T], T]:
    """Decorate a function or a class: each named argument must satisfy its rule.

    A rule takes the name and the value and returns the value to use. An argument that is None by
    default may be None.
    """

    def decorate(target: T) -> T:
        if isinstance(target, type):
            target.__init__ = decorate(target.__init__)
            return target
        signature = inspect.signature(target)
        unknown = set(rules) - set(signature.parameters)
        if unknown:
            raise TypeError(f"{target.__qualname__} has no argument {', '.join(unknown)}")

        @functools.wraps(target)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            given = bound.arguments
            for name, rule in rules.items():
                if name in given:
                    optional = given[name] is None and signature.parameters[name].default is None
                    given[name] = None if optional else rule(name, given[name])
            return target(*bound.args, **bound.kwargs)

        return call  # type: ignore[return-value]

    return decorate


def whole(low: int = 0, high: int | None = None) -> Rule:
    """An integer from `low` to `high`."""
    allowed = f">= {low}" if high is None else f"between {low} and {high}"

    def rule(name: str, value: Any) -> int:
        ok = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not ok or not low <= value <= (math.inf if high is None else high):
            raise ValueError(f"{name} must be an integer {allowed}, got {value!r}")
        return int(value)

    return rule


def number(
    low: float = -math.inf, high: float = math.inf, *, above: bool = False, below: bool = False
) -> Rule:
    """A finite number from `low` to `high`; `above` and `below` leave out the end itself."""
    allowed = f"{'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"

    def rule(name: str, value: Any) -> float:
        ok = isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value)
        inside = ok and low <= value <= high and not isinstance(value, bool)
        if not inside or (above and value == low) or (below and value == high):
            raise ValueError(f"{name} must be a finite number in {allowed}, got {value!r}")
        return float(value)

    return rule


def share(name: str, value: Any) -> Any:
    """A number from 0 to 1, or a callable ``generation -> number``."""
    return value if callable(value) else number(0, 1)(name, value)


def one_of(*allowed: str) -> Rule:
    """One of a few words."""

    def rule(name: str, value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        return value

    return rule


def rng(name: str, value: Any) -> np.random.Generator:
    """A numpy generator."""
    if not isinstance(value, np.random.Generator):
        raise ValueError(
            f"{name} must be a numpy.random.Generator such as numpy.random.default_rng(0), "
            f"got {value!r}"
        )
    return value


def function(name: str, value: Any) -> Callable:
    """Anything that can be called."""
    if not callable(value):
        raise ValueError(f"{name} must be callable, got {value!r}")
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Texts, one after the other; a text itself is none, though Python would give its letters."""
    found = value
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        found = tuple(value)
        if all(isinstance(one, str) for one in found):
            return found
    raise ValueError(f"{name} must be a list of texts, got {short(found)}")


def metrics(name: str, value: Any) -> dict[str, Callable]:
    """A dict from names to things that can be called."""
    known = isinstance(value, Mapping)
    if not known or not all(isinstance(k, str) and callable(v) for k, v in value.items()):
        raise ValueError(f"{name} must be a dict of name -> callable, got {short(value)}")
    return dict(value)


def path(name: str, value: Any) -> Path:
    """The path of a file or a folder."""
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"{name} must be a path, got {short(value)}")
    return Path(value)


def writable(name: str, value: Any) -> Path:
    """The path of a file that can be written; makes its folder where it is missing."""
    file = path(name, value)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            file.open("r+b").close()
        with tempfile.TemporaryFile(dir=file.parent):
            return file
    except OSError as error:
        raise ValueError(
            f"{name} must name a file that can be written, got {str(file)!r} ({error.strerror})"
        ) from None


def short(value: Any) -> str:
    """A value on one line of moderate length."""
    said = " ".join(repr(value).split())
    return said if len(said) <= 80 else f"{said[:80]}..."


def workflow(
    name: str, value: Any, sizes: NDArray[np.int64] | None = None, n_real: int | None = None
) -> Any:
    """An object that composes training sets, and that accepts these sizes if it can tell."""
    if isinstance(value, type) or not callable(getattr(value, "compose", None)):
        raise ValueError(
            f"{name} must have compose(sources, n_samples), such as Replace(), got {value!r}"
        )
    if sizes is not None and hasattr(value, "check"):
        value.check(sizes, n_real)
    return value


def probabilities(name: str, p: Any) -> np.ndarray:
    """A non-empty list of probabilities; a sum within 1e-9 of one is accepted and rounded off."""
    try:
        values = np.asarray(p, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a list of numbers, got {p!r}") from None
    if values.ndim != 1 or values.size == 0:
        raise ValueError(
            f"{name} must be a non-empty list of probabilities, got shape {values.shape}"
        )
    for bad, rule in ((~np.isfinite(values), "be finite"), (values < 0, "not be negative")):
        if bad.any():
            where = int(bad.argmax())
            raise ValueError(f"{name} must {rule}, got {values[where]:g} at index {where}")
    total = float(values.sum())
    if abs(total - 1) > 1e-9:
        raise ValueError(f"{name} must sum to 1, got a sum of {total:.10g}")
    return values / total


Schedule = int | Sequence[int] | Callable[[int], int]


def schedule(n_samples: Schedule, n_generations: int, low: int = 1) -> NDArray[np.int64]:
    """Sample sizes by generation."""
    if callable(n_samples):
        sizes: Sequence[object] = [n_samples(g) for g in range(1, n_generations + 1)]
    elif isinstance(n_samples, (Sequence, np.ndarray)) and not isinstance(n_samples, str):
        sizes = list(n_samples)
        if len(sizes) != n_generations:
            raise ValueError(
                f"n_samples must give one size for each of the {n_generations} generations, "
                f"got {len(sizes)} sizes"
            )
    else:
        return np.full(n_generations, whole(low)("n_samples", n_samples), dtype=np.int64)
    return np.array([whole(low)(f"n_samples[{g}]", s) for g, s in enumerate(sizes, 1)], np.int64)


def first_line(error: BaseException) -> str:
    """First line of a library's message, to be part of one clear line."""
    return str(error).strip().split("\n")[0][:160]
