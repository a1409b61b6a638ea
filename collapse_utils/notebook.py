"""Numbers for the prose of a chapter."""

from __future__ import annotations

import math
from typing import Any


def glue(name: str, value: Any, form: str = "{}", *, se: float | None = None) -> None:
    """Store a number, or a text, so that the prose of the same page can quote it.

    Writes the output metadata of myst-nb's own ``glue`` (so the role ``{glue:text}`` finds it)
    and needs neither myst-nb nor a recent IPython. Beside the text it keeps the number itself,
    for tables that compare runs.

    Parameters
    ----------
    name : str
        Key, unique in its notebook.
    value : number or str
    form : str
        How the sentence should show it, as for `str.format`: ``"{:.2f}"``, ``"{:.0f} %"``.
    se : float, optional
        Standard error of the number: it is then shown as `plus_minus` does.

    Raises
    ------
    TypeError
        If `value` is neither a number nor a str.

    Examples
    --------
    >>> glue("share", 0.5, "{:.1%}")  # doctest: +SKIP
    """
    from IPython.display import display

    from .publishing import plus_minus

    prefix = "application/papermill.record/"
    metadata: dict[str, Any] = {"scrapbook": {"name": name, "mime_prefix": prefix}}
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, bool) or not isinstance(plain, (int, float, str)):
        raise TypeError(f"{name!r} must be glued as a number or a str, got {value!r}")
    text = form.format(plain) if se is None else plus_minus(plain, se)
    if not isinstance(plain, str):
        error = math.nan if se is None else float(se)
        number, error = (x if math.isfinite(x) else None for x in (plain, error))
        metadata["collapse"] = {"kind": "number", "value": number, "se": error}
    # repr, because myst-nb evaluates the stored text: "4,000" would become a tuple
    display({prefix + "text/plain": repr(text)}, raw=True, metadata=metadata)
