"""Argument checks, declared once: ``@checked(n_samples=whole(1), share=fraction())``.

Each message names the parameter, the value and what is allowed.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Sequence
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
        function = target.__init__ if isinstance(target, type) else target
        signature = inspect.signature(function)
        unknown = set(rules) - set(signature.parameters)
        if unknown:
            raise TypeError(f"{function.__qualname__} has no argument {', '.join(unknown)}")

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            given = bound.arguments
            for name, rule in rules.items():
                if name in given:
                    optional = given[name] is None and signature.parameters[name].default is None
                    given[name] = None if optional else rule(name, given[name])
            return function(*bound.args, **bound.kwargs)

        if isinstance(target, type):
            target.__init__ = call
            return target
        return call  # type: ignore[return-value]

    return decorate


def whole(low: int = 0, high: int | None = None) -> Rule:
    """An integer from `low` to `high`."""
    return lambda name, value: integer(name, value, low, high)


def number(
    low: float = -math.inf, high: float = math.inf, *, above: bool = False, below: bool = False
) -> Rule:
    """A finite number from `low` to `high`; `above` and `below` leave out the end itself."""
    return lambda name, value: real(name, value, low, high, open_low=above, open_high=below)


def fraction(*, above: bool = False, below: bool = False) -> Rule:
    """A number from 0 to 1."""
    return number(0, 1, above=above, below=below)


def share(name: str, value: Any) -> Any:
    """A number from 0 to 1, or a callable ``generation -> number``."""
    return value if callable(value) else real(name, value, 0, 1)


def one_of(*allowed: str) -> Rule:
    """One of a few words."""
    return lambda name, value: choice(name, value, allowed)


def rng(name: str, value: Any) -> np.random.Generator:
    """A numpy generator."""
    return generator(value)


def function(name: str, value: Any) -> Callable:
    """Anything that can be called."""
    if not callable(value):
        raise ValueError(f"{name} must be callable, got {value!r}")
    return value


def workflow(name: str, value: Any) -> Any:
    """An object that composes training sets."""
    if isinstance(value, type) or not callable(getattr(value, "compose", None)):
        raise ValueError(
            f"{name} must have compose(sources, n_samples), such as Replace(), got {value!r}"
        )
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


def integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return `value` as an int, or say what `name` must be."""
    allowed = f">= {low}" if high is None else f"between {low} and {high}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if (
        number is None
        or isinstance(value, bool)
        or number < low
        or (high is not None and number > high)
    ):
        raise ValueError(f"{name} must be an integer {allowed}, got {value!r}")
    return number


def real(
    name: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return `value` as a finite float within bounds, or say what `name` must be."""
    left, right = "(" if open_low else "[", ")" if open_high else "]"
    allowed = f"a finite number in {left}{low:g}, {high:g}{right}"
    ok = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    number = float(value) if ok else math.nan  # type: ignore[arg-type]
    if (
        not math.isfinite(number)
        or not (low < number or (number == low and not open_low))
        or not (number < high or (number == high and not open_high))
    ):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of `allowed`, else raise a ``ValueError`` that lists them."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    return str(value)


def generator(rng: object) -> np.random.Generator:
    """Return `rng` if it is a ``numpy.random.Generator``, else say how to make one."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"rng must be a numpy.random.Generator such as numpy.random.default_rng(0), got {rng!r}"
        )
    return rng


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
        return np.full(n_generations, integer("n_samples", n_samples, low), dtype=np.int64)
    checked = [integer(f"n_samples[{g}]", s, low) for g, s in enumerate(sizes, start=1)]
    return np.array(checked, dtype=np.int64)


def first_line(error: BaseException) -> str:
    """First line of a library's message, to be part of one clear line."""
    return str(error).strip().split("\n")[0][:160]
