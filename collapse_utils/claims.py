"""Claims: what theory or a paper expects, beside what the run measured.

One rule gives every verdict. The run yields a measurement with a standard error, and with it the
interval ``measured ± t * se``. Each claim has a *law* and a *rival*, the value that it must be told
apart from:

* *contradicted* when the law lies outside at one point at least,
* *reproduced* when the law lies inside everywhere and there is a point at which the rival lies
  outside **and** at which the run would have noticed a deviation as large as that from the law to
  the rival (with probability :data:`POWER`),
* *unresolved* otherwise: the run cannot tell the law from its rival.

``t`` is not chosen by hand: a book of at most :data:`MAX_CLAIMS` true claims is to raise a false
alarm in less than :data:`BOOK_FALSE_ALARM` of its runs, so each claim is tested at the level
``BOOK_FALSE_ALARM / MAX_CLAIMS`` (Bonferroni), split evenly over its points: on both sides of a
value, on one side of a bound or a direction. The quantile is Student's.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ._checks import one_of
from .metrics import mean_se
from .publishing import plus_minus, show_html

BOOK_FALSE_ALARM = 0.01
MAX_CLAIMS = 250
LEVEL = BOOK_FALSE_ALARM / MAX_CLAIMS
#: Chance with which a claim notices the smallest deviation that it states.
POWER = 0.9

STATUSES = ("theorem", "published", "derived", "exploratory")
VERDICTS = ("reproduced", "contradicted", "unresolved")
COLUMNS = ("Id", "Claim and source", "Expected", "Measured ± s.e.", "Verdict")
_MARKS = {"reproduced": "✓", "contradicted": "✗", "unresolved": "?"}
#: What a claim says of its law: the value itself, or a bound that the truth exceeds or stays below.
_SIDES = {"both": "", "above": "> ", "below": "< "}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Point:
    """One place at which a claim compares, such as "n = 10"; empty where there is only one.

    `se` is 0 for a computation without chance, `law_error` is the known error of the law, `rival`
    is what it must be told apart from, and `noticed` the smallest deviation from the law that the
    claim notices with probability `POWER`.
    """

    at: str
    value: float
    se: float
    law: float
    law_error: float
    rival: float
    noticed: float


@dataclass(frozen=True)
class Claim:
    """One claim with its verdict.

    - `id`, `statement`, `source`: Unique in the book, such as "A1"; what is claimed, and by whom.
    - `status`: theorem, published, derived (in this book) or exploratory.
    - `expect` (str or None): Verdict that the build insists on; None leaves it open.
    - `test`: Where the standard error or the p-values come from.
    - `expected`, `measured`, `rival`: As shown: law and measurement at the most strained point, and
      what the rival stands for.
    - `strained`, `deciding`: The point at which the law is most strained, and the one that excludes
      the rival best.
    """

    id: str
    statement: str
    source: str
    status: str
    expect: str | None
    verdict: str
    side: str
    test: str
    points: int
    expected: str
    measured: str
    rival: str
    strained: _Point
    deciding: _Point


def half_width(
    se: ArrayLike, *, df: ArrayLike = math.inf, points: int = 1, sides: int = 2
) -> Floats:
    """Half-width of the book's interval around a measurement.

    ``t_df(1 - LEVEL / (sides * points)) * se``, where `points` comparisons share one claim; `sides`
    is 2 for a value, 1 for a bound.
    """
    return -special.stdtrit(df, LEVEL / (sides * points)) * np.asarray(se, dtype=float)


def _noticeable(
    se: ArrayLike, *, df: ArrayLike = math.inf, points: int = 1, sides: int = 2
) -> Floats:
    """Smallest deviation that leaves the interval of `half_width` with probability `POWER`.

    By the non-central t law with the estimated standard error in place of the true one.
    """
    t = half_width(1.0, df=df, points=points, sides=sides)
    shift = np.where(np.isinf(df), t + special.ndtri(POWER), special.nctdtrinc(df, 1 - POWER, t))
    return shift * np.asarray(se, dtype=float)


def glue(name: str, value: Any, form: str = "{}", *, se: float | None = None) -> None:
    """Store a number, or a text, so that the prose of the same page can quote it.

    The output is that of myst-nb's own ``glue`` (so the role ``{glue:text}`` finds it). Beside the
    text it keeps the number itself, for tables that compare runs. A sentence shows it in the format
    `form`, such as ``"{:.0f} %"``, or with its standard error `se`.
    """
    from IPython.display import display

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


class Ledger:
    """The claims of one chapter.

    >>> ledger = Ledger()
    >>> ledger.check(
    ...     "A0", "a fair coin", "Bernoulli", law=0.5, rival=(0, "tails only"), runs=[0, 1] * 50
    ... )
    >>> ledger.claims[0].verdict
    'reproduced'
    """

    def __init__(self) -> None:
        self.claims: list[Claim] = []

    def check(
        self,
        id: str,
        statement: str,
        source: str,
        *,
        law: ArrayLike,
        rival: tuple[ArrayLike, str],
        runs: ArrayLike | Sequence[ArrayLike] | None = None,
        measured: ArrayLike | None = None,
        se: ArrayLike | None = None,
        df: ArrayLike = math.inf,
        law_error: ArrayLike = 0.0,
        side: str = "both",
        at: Mapping[str, ArrayLike] | Sequence[str] | None = None,
        status: str = "derived",
        expect: str | None = None,
        test: str | None = None,
    ) -> None:
        """Compare a measurement with a law.

        Numbers broadcast to one value per point. The law must hold at all points, the rival must
        fail at one.

        - `id, statement, source, status, expect, test`: See :class:`Claim`.
        - `rival` (tuple of (array, str)): What the law must be told apart from, and what that
          stands for.
        - `runs` (array, shape (points, replicates) or (replicates,)): Replicates of what is
          measured, of which the mean is compared; rows may differ in length.
        - `measured`, `se`, `df` (array): In place of `runs`, for what is no mean of replicates.
          ``se = 0`` is for computations without chance, where `law_error` bounds the numerical
          error.
        - `law_error` (array): Known error of a law that is itself an approximation.
        - `side` ({"both", "above", "below"}): The truth equals the law, exceeds it or stays below
          it. A bound is tested on one side, and may be its own rival: then it has to be exceeded.
        - `at` (dict of name -> values, or sequence of str): Where the points are: ``{"n": [1,
          10]}`` is shown as "n = 1", "n = 10".
        """
        if (runs is None) == (measured is None) or (measured is None) != (se is None):
            raise ValueError(f"claim {id} must have either runs, or measured and se")
        if runs is not None:
            measured, se, df, sizes = _means(id, runs)
            test = test or f"t, {sizes} replicates"
        one_of(*_SIDES)("side", side)
        rival, name = _named(id, "rival", rival)
        law, rival, measured, se, law_error, df = _broadcast(
            id, law=law, rival=rival, measured=measured, se=se, law_error=law_error, df=df
        )
        points = len(law)
        labels = _labels(id, at, points)
        sides = 2 if side == "both" else 1
        width = half_width(se, df=df, points=points, sides=sides)
        noticed = law_error + _noticeable(se, df=df, points=points, sides=sides)
        sign = 1 if side == "above" else -1

        def over(one: Floats, other: Floats) -> Floats:
            return np.abs(one - other) if side == "both" else sign * (one - other)

        strain, away, apart = over(law, measured), over(measured, rival), over(law, rival)
        if (apart < 0).any():
            raise ValueError(
                f"the rival of claim {id} must not lie {side} its law {law}, got {rival}"
            )
        holds = strain <= width + law_error
        limit = np.where(se > 0, width, law_error)
        told = (apart > noticed) | ((apart == 0) & (side != "both"))
        decides = (away > limit) & told
        power = np.where(told & (apart == 0), np.inf, _ratio(apart, noticed))
        worst = int(np.argmax(_ratio(strain, width + law_error)))
        best = int(np.argmax(np.where(decides, 2.0, 1.0) * np.minimum(_ratio(away, limit), power)))
        columns = (measured, se, law, law_error, rival, noticed)
        strained, deciding = (
            _Point(labels[i], *(float(a[i]) for a in columns)) for i in (worst, best)
        )
        where = f" ({labels[worst]})" if labels[worst] else ""
        error = f" ± {law_error[worst]:.2g}" if law_error[worst] > 0 else ""
        self._add(
            id, statement, source, status, expect,
            verdict=_verdict(bool(holds.all()), bool(decides.any())),
            side=side,
            test=test or ("Monte-Carlo s.e." if se.any() else "no chance"),
            points=points,
            expected=f"{_SIDES[side]}{law[worst]:.5g}{error}{where}",
            measured=plus_minus(measured[worst], se[worst]),
            rival=name,
            strained=strained,
            deciding=deciding,
        )  # fmt: skip

    def sign(
        self,
        id: str,
        statement: str,
        source: str,
        *,
        differences: ArrayLike,
        greater: bool = True,
        status: str = "derived",
        expect: str | None = None,
    ) -> None:
        """Test a claim about a direction on paired differences: a one-sided paired t-test.

        - `differences` (array, shape (n,)): One difference per pair (replicate, seed).
        - `greater`: The claimed sign: positive, or negative.
        """
        d = _row(id, "differences", differences)
        right = int(((d > 0) if greater else (d < 0)).sum())
        self.check(
            id, statement, source,
            law=0.0,
            rival=(0.0, "no difference"),
            runs=d,
            side="above" if greater else "below",
            status=status,
            expect=expect,
            test=f"paired t, {right} of {len(d)} differences have this sign",
        )  # fmt: skip

    def fit(
        self,
        id: str,
        statement: str,
        source: str,
        *,
        sample: ArrayLike,
        law: tuple[Callable[[Floats], Floats], str],
        rival: tuple[Callable[[Floats], Floats] | ArrayLike, str],
        status: str = "derived",
        expect: str | None = None,
    ) -> None:
        """Compare a whole distribution with a law by the Kolmogorov-Smirnov test.

        The measurement is D, the largest distance between the distribution functions of sample
        and law. What is noticed is a bound: D is at least the deviation at one place, where the
        share of the sample has a standard error of at most ``1 / (2 sqrt(n))``.

        - `sample` (array, shape (n,)): Independent draws from a continuous distribution.
        - `law` (tuple of (distribution function, name))
        - `rival` (tuple of (distribution function or sample, name))
        """
        from scipy import stats

        x = _row(id, "sample", sample)
        (law, law_name), (rival, name) = _named(id, "law", law), _named(id, "rival", rival)
        if callable(rival):
            other, expected = stats.kstest(x, rival), rival(x)
        else:
            drawn = _row(id, "rival", rival)
            other = stats.ks_2samp(x, drawn, method="asymp")
            expected = stats.ecdf(drawn).cdf.evaluate(x)
        found = stats.kstest(x, law)
        apart = float(np.abs(law(x) - expected).max())
        level, slack = stats.kstwobign.isf(LEVEL), stats.norm.isf(1 - POWER) / 2
        noticed = float(level + slack) / math.sqrt(len(x))
        point = _Point("", float(found.statistic), 0.0, 0.0, 0.0, apart, noticed)
        self._add(
            id, statement, source, status, expect,
            verdict=_verdict(found.pvalue >= LEVEL, other.pvalue < LEVEL and apart > noticed),
            side="both",
            test=f"Kolmogorov-Smirnov: p = {found.pvalue:.2g} (law), {other.pvalue:.2g} (rival)",
            points=1,
            expected=law_name,
            measured=f"D = {found.statistic:.4f}, {len(x):,} draws",
            rival=name,
            strained=point,
            deciding=point,
        )  # fmt: skip

    def _add(self, id, statement, source, status, expect, **shown) -> None:
        if any(claim.id == id for claim in self.claims):
            raise ValueError(f"claim id {id!r} is used twice")
        one_of(*STATUSES)("status", status)
        if expect is not None:
            one_of(*VERDICTS[:2])("expect", expect)
        self.claims.append(Claim(id, statement, source, status, expect, **shown))

    def show(self) -> None:
        """Display the claims as a table, with the data that the book's ledger collects."""
        claims = [asdict(claim) for claim in self.claims]
        rows = "".join(f"<tr>{cells(claim)}</tr>" for claim in claims)
        titles = "".join(f'<th scope="col">{title}</th>' for title in COLUMNS)
        table = (
            f'<div class="claims-box"><table class="claims"><thead><tr>{titles}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )
        text = "\n".join(
            f"{c.id}: {c.statement} | expected {c.expected} | measured {c.measured} | {c.verdict}"
            for c in self.claims
        )
        show_html(table, text, {"kind": "claims", "claims": claims})


def _verdict(law_holds: bool, rival_excluded: bool) -> str:
    if not law_holds:
        return "contradicted"
    return "reproduced" if rival_excluded else "unresolved"


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, where 0 / 0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(part == 0, 0.0, part / whole)


def _means(id: str, runs: ArrayLike | Sequence[ArrayLike]) -> tuple[Floats, Floats, Floats, str]:
    """Means, standard errors and degrees of freedom of the rows, and their lengths as shown."""
    rows = list(runs) if len(runs) and np.ndim(runs[0]) else [runs]
    rows = [_row(id, "runs", row) for row in rows]
    mean, se = np.array([mean_se(row) for row in rows]).T
    sizes = sorted({len(row) for row in rows})
    shown = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
    return mean, se, np.array([len(row) - 1.0 for row in rows]), shown


def _row(id: str, what: str, numbers: ArrayLike) -> Floats:
    row = np.asarray(numbers, dtype=float)
    if row.ndim != 1 or len(row) < 2 or not np.isfinite(row).all():
        raise ValueError(
            f"{what} of claim {id} must be two or more finite numbers in a row, got {numbers}"
        )
    return row


def _named(id: str, what: str, pair: tuple[Any, str]) -> tuple[Any, str]:
    if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], str)):
        raise ValueError(f"{what} of claim {id} must be a pair (what it says, name), got {pair!r}")
    return pair


def _broadcast(id: str, **numbers: ArrayLike) -> list[Floats]:
    """One number per point, checked."""
    arrays = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in numbers.values()))
    arrays = [np.ravel(array) for array in arrays]
    for name, array in zip(numbers, arrays, strict=True):
        rules = [("> 0", array > 0)] if name == "df" else [("finite", np.isfinite(array))]
        if name in ("se", "law_error"):
            rules.append((">= 0", array >= 0))
        for rule, kept in rules:
            if not kept.all():
                raise ValueError(f"{name} of claim {id} must be {rule}, got {array}")
    if arrays[0].size == 0:
        raise ValueError(f"claim {id} must have at least one point, got none")
    return arrays


def _labels(id: str, at: Mapping[str, ArrayLike] | Sequence[str] | None, points: int) -> list[str]:
    if at is None:
        return [""] if points == 1 else [f"point {i + 1}" for i in range(points)]
    if isinstance(at, Mapping):
        columns = [
            list(v) if np.iterable(v) and not isinstance(v, str) else [v] * points
            for v in at.values()
        ]
        if any(len(column) != points for column in columns):
            columns = [[]]
        labels = [
            ", ".join(f"{name} = {_short(value)}" for name, value in zip(at, row, strict=True))
            for row in zip(*columns, strict=True)
        ]
    else:
        labels = [str(label) for label in at]
    if len(labels) != points:
        raise ValueError(f"claim {id} must have a label in `at` for each of {points} points: {at}")
    return labels


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


def cells(claim: Mapping[str, Any]) -> str:
    """Table cells of one claim, given as a dict: the chapter's table and the book's ledger."""
    shown = {key: html.escape(str(value)) for key, value in claim.items()}
    points = f", {claim['points']} points" if claim["points"] > 1 else ""
    verdict, strained, best = claim["verdict"], claim["strained"], claim["deciding"]
    note = '<br><span class="claim-note">'
    where = html.escape(f" at {best['at']}") if claim["points"] > 1 else ""
    law = seen = ""
    noticed = f"a deviation of {best['noticed']:.2g}" if best["noticed"] else "every deviation"
    if best != strained:
        law = f", law {best['law']:.4g}"
        seen = f"; {plus_minus(best['value'], best['se'])}{where}"
    return (
        f'<th scope="row" id="claim-{shown["id"]}">{shown["id"]}</th>'
        f"<td>{shown['statement']}{note}{shown['status']}: {shown['source']}</span></td>"
        f"<td>{shown['expected']}{note}rival{where}: {best['rival']:.4g} ({shown['rival']})"
        f"{law}</span></td>"
        f"<td>{shown['measured']}{seen}{note}{shown['test']}{points}; "
        f"{noticed} is noticed{where}</span></td>"
        f'<td><span class="verdict verdict-{verdict}">{_MARKS[verdict]} {verdict}</span></td>'
    )
