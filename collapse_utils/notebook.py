"""Numbers for the prose of a chapter."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import ArrayLike


def glue(name: str, text: str) -> None:
    """Store a formatted number so that the prose of the same page can quote it.

    Writes the output metadata of myst-nb's own ``glue`` (so the role ``{glue:text}`` finds it)
    and needs neither myst-nb nor a recent IPython.

    Parameters
    ----------
    name : str
        Key, unique in its notebook.
    text : str
        The number as the sentence should show it.

    Raises
    ------
    TypeError
        If `text` is not a str: format the number first.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str that is already formatted, got {text!r} for {name!r}")
    from IPython.display import display

    prefix = "application/papermill.record/"
    display(
        # repr, because myst-nb evaluates the stored text: "4,000" would become a tuple
        {prefix + "text/plain": repr(text)},
        raw=True,
        metadata={"scrapbook": {"name": name, "mime_prefix": prefix}},
    )


def show_html(html: str, text: str, metadata: dict[str, Any]) -> None:
    """Display HTML with a plain-text fallback and the metadata that the press reads."""
    from IPython.display import display

    display({"text/html": html, "text/plain": text}, raw=True, metadata={"collapse": metadata})


def plus_minus(value: ArrayLike, error: ArrayLike) -> str:
    """``value ± error`` with the error to two digits and the value to the same decimals."""
    v, e = float(value), float(error)  # type: ignore[arg-type]
    if e == 0 or not math.isfinite(e):
        return f"{v:.4g}"
    digits = max(0, 1 - math.floor(math.log10(e)))
    return f"{v:.{digits}f} ± {e:.{digits}f}"
