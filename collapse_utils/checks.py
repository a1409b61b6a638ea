"""Argument checks whose messages name the parameter, the value and what is allowed."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Schedule = int | Sequence[int] | Callable[[int], int]


def integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return `value` as an int, or say what `name` must be.

    Parameters
    ----------
    name : str
        Parameter name for the message.
    value : object
        Anything that Python accepts as an index (``bool`` is refused).
    low, high : int
        Inclusive bounds; no upper bound when `high` is None.

    Raises
    ------
    ValueError
        If `value` is not an integer or lies outside the bounds.
    """
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
    """Return `value` as a finite float within bounds, or say what `name` must be.

    Parameters
    ----------
    name : str
        Parameter name for the message.
    value : object
        A real number (``bool`` and text are refused).
    low, high : float
        Bounds; inclusive unless `open_low` / `open_high`.

    Raises
    ------
    ValueError
        If `value` is not a finite real number within the bounds.
    """
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
    """Sample sizes by generation.

    Parameters
    ----------
    n_samples : int, sequence of int, or callable
        One size for all, one per generation, or ``generation -> size`` for generations 1..G.
    n_generations : int
        Number of generations G.
    low : int
        Smallest size allowed.

    Returns
    -------
    ndarray of int, shape (G,)
        Size for generation 1, 2, ..., G.

    Raises
    ------
    ValueError
        If a size is not an integer >= `low` or the sequence has the wrong length.
    """
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
