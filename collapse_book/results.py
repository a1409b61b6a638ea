"""What a run found, as a tidy table: a row for each claim and each glued number."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from collapse_book.gate import GLUE_PREFIX, claims_of, glue_key, outputs_of
from collapse_book.notebooks import Notebook, joined

if TYPE_CHECKING:
    import pandas as pd

#: Columns beside the parameters of the chapter, whose names must differ.
BEFORE = ("point",)
AFTER = (
    *("kind", "name", "at", "value", "se", "law", "rival", "noticed", "points", "text"),
    *("verdict", "expect", "status", "statement", "source", "test"),
)
NUMBERS = ("value", "se", "law", "rival", "noticed", "points")
TEXTS = tuple(name for name in AFTER if name not in NUMBERS)

_DIGITS = r"[+\-−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:e[+\-−]?\d+)?"
SHOWN = re.compile(rf"(?P<value>{_DIGITS})\s*%?(?:\s*±\s*(?P<se>{_DIGITS})\s*%?)?", re.IGNORECASE)


def read_number(text: str) -> tuple[float, float]:
    """Value and standard error of a number as a page shows it; NaN for what is not there.

    ``1,200``, ``12.5 %`` and ``0.51 ± 0.02`` are numbers; ``3 of 20`` and ``0.1 to 0.3`` are
    not. A percentage stays one. ``90 min`` is not one either: the next point may say ``2 h``.

    >>> read_number("0.51 ± 0.02")
    (0.51, 0.02)
    """
    found = SHOWN.fullmatch(text.strip())
    if found is None:
        return math.nan, math.nan
    return _float(found["value"]), _float(found["se"])


def _float(text: str | None) -> float:
    try:
        return float((text or "").replace(",", "").replace("−", "-"))
    except ValueError:
        return math.nan


def tidy(point: str, parameters: Mapping[str, Any], notebook: Notebook) -> pd.DataFrame:
    """Table of one executed notebook.

    Parameters
    ----------
    point : str
        Key of the run.
    parameters : mapping
        Value of every parameter of the chapter.
    notebook : dict
        The executed notebook.

    Returns
    -------
    pandas.DataFrame
        Columns: point, the parameters, and `AFTER`. ``kind`` is *claim*, *number* (a glued
        one) or *run* (the seconds it took). The numbers of a claim are those of its most strained
        point, ``at``. A notebook carries glued numbers as text only, so theirs are read from
        ``text``, as far as the page rounds it. NaN stands where there is no number.
    """
    import pandas as pd

    seconds = notebook["metadata"]["collapse_book"]["seconds"]
    rows = [_claim_row(claim) for claim in claims_of(notebook)]
    rows += [
        _number_row(key, output)
        for _, _, output in outputs_of(notebook)
        if (key := glue_key(output)) is not None
    ]
    rows.append({"kind": "run", "name": "seconds", "value": seconds, "text": f"{seconds} s"})
    blank: dict[str, Any] = {name: "" if name in TEXTS else math.nan for name in AFTER}
    head = {"point": point, **parameters}
    frame = pd.DataFrame([head | blank | row for row in rows])
    return frame.astype(dict.fromkeys(NUMBERS, float))


def _claim_row(claim: Mapping[str, Any]) -> dict[str, Any]:
    point = claim["strained"]
    shown = ("verdict", "status", "statement", "source", "test")
    return {
        "kind": "claim",
        "name": claim["id"],
        "text": claim["measured"],
        "points": claim["points"],
        "expect": claim["expect"] or "",
        **{key: claim[key] for key in shown},
        **{key: point[key] for key in ("at", "value", "se", "law", "rival", "noticed")},
    }


def _number_row(key: str, output: Mapping[str, Any]) -> dict[str, Any]:
    stored = joined(output["data"][f"{GLUE_PREFIX}text/plain"])
    text = str(ast.literal_eval(stored))
    value, se = read_number(text)
    return {"kind": "number", "name": key, "value": value, "se": se, "text": text}
