"""Argument checks, declared once: ``@checked(n_samples=whole(1), share=fraction())``.

Each message names the parameter, the value and what is allowed.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .checks import Schedule, choice, generator, integer, real, schedule

__all__ = ["Schedule", "checked", "fraction", "function", "number", "one_of", "rng", "schedule"]
__all__ += ["whole", "workflow"]

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
