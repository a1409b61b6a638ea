"""Claims: what theory or a paper expects, beside what the run measured.

One rule gives every verdict. The run yields a measurement with a standard error, and with it the
interval ``measured ± z * se``:

* *reproduced* when the expected value (the law) lies inside and the alternative outside,
* *contradicted* when the law lies outside,
* *unresolved* when both lie inside.

``z`` is not chosen by hand: a book of at most :data:`MAX_CLAIMS` true claims is to raise a false
alarm in less than :data:`BOOK_FALSE_ALARM` of its runs, so each claim is tested at the level
``BOOK_FALSE_ALARM / MAX_CLAIMS`` (Bonferroni), split evenly over its points. With few degrees of
freedom Student's t takes the place of the normal.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from . import checks
from .notebook import plus_minus, show_html

BOOK_FALSE_ALARM = 0.01
MAX_CLAIMS = 200
LEVEL = BOOK_FALSE_ALARM / MAX_CLAIMS

STATUSES = ("theorem", "published", "derived", "exploratory")
VERDICTS = ("reproduced", "contradicted", "unresolved")
COLUMNS = ("Id", "Claim and source", "Expected", "Measured ± s.e.", "Verdict")
_MARKS = {"reproduced": "✓", "contradicted": "✗", "unresolved": "?"}


@dataclass(frozen=True)
class Claim:
    """One claim with its verdict; the numbers are those of its most strained point.

    Attributes
    ----------
    id : str
        Unique in the book, such as "A1".
    statement, source : str
        What is claimed, and who says so.
    status : str
        theorem, published, derived (in this book) or exploratory.
    expect : str or None
        Verdict that the build insists on; None leaves it open.
    law, alternative : str
        The expected value and the value it must be told apart from, as shown.
    measured : str
        The measurement and its standard error, as shown.
    test : str
        How the interval or p-value was formed.
    points : int
        Number of points that were compared.
    verdict : str
    value, se, law_value : float or None
        The measurement, its standard error and the expected value as numbers, for tables of many
        runs; None where there is none, as for a direction or a whole distribution.
    """

    id: str
    statement: str
    source: str
    status: str
    expect: str | None
    law: str
    alternative: str
    measured: str
    test: str
    points: int
    verdict: str
    value: float | None = None
    se: float | None = None
    law_value: float | None = None


def half_width(se: ArrayLike, *, df: ArrayLike = math.inf, points: int = 1) -> NDArray[np.float64]:
    """Half-width of the book's interval around a measurement.

    Parameters
    ----------
    se : array
        Standard error of the measurement.
    df : array
        Degrees of freedom of the standard error; infinite for the normal.
    points : int
        Number of comparisons that share one claim.

    Returns
    -------
    ndarray
        ``t_df(1 - LEVEL / (2 points)) * se``.
    """
    return stats.t.isf(LEVEL / (2 * points), df) * np.asarray(se, dtype=float)


class Ledger:
    """The claims of one chapter.

    >>> ledger = Ledger()
    >>> claim = ledger.check(
    ...     "A0", "a fair coin", "Bernoulli", law=0.5, alternative=0.0, measured=0.49, se=0.01
    ... )
    >>> claim.verdict
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
        alternative: ArrayLike,
        measured: ArrayLike,
        se: ArrayLike,
        alternative_name: str = "no effect",
        law_error: ArrayLike = 0.0,
        df: ArrayLike = math.inf,
        status: str = "derived",
        expect: str | None = None,
        at: Sequence[object] | None = None,
        test: str = "Monte-Carlo s.e.",
    ) -> Claim:
        """Compare a measurement with a law.

        Parameters
        ----------
        id, statement, source, status, expect
            See :class:`Claim`.
        law, alternative, measured, se : array, broadcastable
            One value per point. The alternative is excluded if it lies outside at one point at
            least; the law must lie inside at all of them. ``se = 0`` is for computations without
            chance, where `law_error` bounds the numerical error.
        alternative_name : str
            What the alternative stands for: no effect, or a rival formula.
        law_error : array
            Known error of a law that is itself an approximation; it widens the expectation.
        df : array
            Degrees of freedom behind `se`.
        at : sequence
            Labels of the points, such as generations.
        test : str
            Where the standard error comes from.

        Returns
        -------
        Claim

        Raises
        ------
        ValueError
            If a number is not finite, `se` is negative, there is no point or not one label for
            each, or the id was used before.
        """
        law, alternative, measured, se, law_error, df = (
            np.ravel(a)
            for a in np.broadcast_arrays(
                *(np.asarray(x, dtype=float) for x in (law, alternative, measured, se)),
                np.asarray(law_error, dtype=float),
                np.asarray(df, dtype=float),
            )
        )
        for name, values in (
            ("law", law), ("alternative", alternative), ("measured", measured), ("se", se),
            ("law_error", law_error),
        ):  # fmt: skip
            if not np.isfinite(values).all():
                raise ValueError(f"{name} of claim {id} must be finite, got {values}")
        if (se < 0).any() or (law_error < 0).any():
            raise ValueError(f"se and law_error of claim {id} must be >= 0, got {se}, {law_error}")
        if not (df > 0).all():
            raise ValueError(f"df of claim {id} must be > 0, got {df}")
        points = len(measured)
        if points == 0 or (at is not None and len(at) != points):
            raise ValueError(
                f"claim {id} must have at least one point and a label in `at` for each, got "
                f"{points} points, at={at}"
            )
        width = half_width(se, df=df, points=points)
        strain = np.abs(measured - law) - law_error
        law_inside = bool((strain <= width).all())
        excluded = np.abs(measured - alternative) > np.where(se > 0, width, law_error)
        verdict = _verdict(law_inside, bool(excluded.any()))
        with np.errstate(divide="ignore", invalid="ignore"):
            worst = int(np.argmax(np.nan_to_num(strain / width, nan=-np.inf, posinf=np.inf)))
        where = "" if points == 1 else f" ({at[worst] if at is not None else f'point {worst + 1}'})"
        expected = f"{law[worst]:.5g}"
        if law_error[worst] > 0:
            expected += f" ± {law_error[worst]:.2g}"
        return self._add(
            id, statement, source, status, expect,
            law=expected + where,
            alternative=f"{alternative[worst]:.4g} ({alternative_name})",
            measured=plus_minus(measured[worst], se[worst]),
            test=test,
            points=points,
            verdict=verdict,
            value=float(measured[worst]),
            se=float(se[worst]),
            law_value=float(law[worst]),
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
    ) -> Claim:
        """Test a claim about a direction on paired differences.

        The interval is ``mean ± t * se`` with n - 1 degrees of freedom (paired t-test). The law
        is "above zero" (or below), the alternative zero.

        Parameters
        ----------
        differences : array, shape (n,)
            One difference per pair (replicate, seed).
        greater : bool
            The claimed sign: positive, or negative.

        Returns
        -------
        Claim

        Raises
        ------
        ValueError
            If there are fewer than two differences or one is not finite.
        """
        d = np.asarray(differences, dtype=float)
        if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all():
            raise ValueError(f"differences of claim {id} must be two or more finite numbers: {d}")
        signed = d if greater else -d
        se = float(d.std(ddof=1) / math.sqrt(len(d)))
        width = float(half_width(se, df=len(d) - 1))
        low, high = signed.mean() - width, signed.mean() + width
        return self._add(
            id, statement, source, status, expect,
            law="> 0" if greater else "< 0",
            alternative="0 (no difference)",
            measured=f"{plus_minus(d.mean(), se)}; {int((signed > 0).sum())} of {len(d)}",
            test=f"paired t, n = {len(d)}",
            points=1,
            verdict=_verdict(high >= 0, low > 0),
            value=float(d.mean()),
            se=se,
        )  # fmt: skip

    def fit(
        self,
        id: str,
        statement: str,
        source: str,
        *,
        law: str,
        p_law: float,
        alternative: str,
        p_alternative: float,
        test: str,
        measured: str,
        status: str = "derived",
        expect: str | None = None,
    ) -> Claim:
        """Compare a whole distribution with a law by p-values of a goodness-of-fit test.

        Parameters
        ----------
        law, alternative : str
            The two distributions, as shown.
        p_law, p_alternative : float
            P-values of the test against each.
        test : str
            Name of the test.
        measured : str
            The statistic, as shown.

        Returns
        -------
        Claim
        """
        p_law = checks.real("p_law", p_law, 0, 1)
        p_alternative = checks.real("p_alternative", p_alternative, 0, 1)
        return self._add(
            id, statement, source, status, expect,
            law=law,
            alternative=alternative,
            measured=measured,
            test=f"{test}: p = {p_law:.2g} (law), {p_alternative:.2g} (alternative)",
            points=1,
            verdict=_verdict(p_law >= LEVEL, p_alternative < LEVEL),
        )  # fmt: skip

    def _add(self, id, statement, source, status, expect, **shown) -> Claim:
        if any(claim.id == id for claim in self.claims):
            raise ValueError(f"claim id {id!r} is used twice")
        checks.choice("status", status, STATUSES)
        if expect is not None:
            checks.choice("expect", expect, VERDICTS[:2])
        claim = Claim(id, statement, source, status, expect, **shown)
        self.claims.append(claim)
        return claim

    def show(self) -> None:
        """Display the claims as a table, with the data that the book's ledger collects."""
        rows = "".join(f"<tr>{cells(asdict(claim))}</tr>" for claim in self.claims)
        titles = "".join(f'<th scope="col">{title}</th>' for title in COLUMNS)
        table = (
            f'<div class="claims-box"><table class="claims"><thead><tr>{titles}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )
        text = "\n".join(
            f"{c.id}: {c.statement} | expected {c.law} | measured {c.measured} | {c.verdict}"
            for c in self.claims
        )
        show_html(table, text, {"kind": "claims", "claims": [asdict(c) for c in self.claims]})


def _verdict(law_inside: bool, alternative_excluded: bool) -> str:
    if not law_inside:
        return "contradicted"
    return "reproduced" if alternative_excluded else "unresolved"


def cells(claim: dict) -> str:
    """Table cells of one claim, given as a dict: the chapter's table and the book's ledger."""
    shown = {key: html.escape(str(value)) for key, value in claim.items()}
    points = f", {claim['points']} points" if claim["points"] > 1 else ""
    verdict = claim["verdict"]
    note = '<br><span class="claim-note">'
    return (
        f'<th scope="row" id="claim-{shown["id"]}">{shown["id"]}</th>'
        f"<td>{shown['statement']}{note}{shown['status']}: {shown['source']}</span></td>"
        f"<td>{shown['law']}{note}must exclude {shown['alternative']}</span></td>"
        f"<td>{shown['measured']}{note}{shown['test']}{points}</span></td>"
        f'<td><span class="verdict verdict-{verdict}">{_MARKS[verdict]} {verdict}</span></td>'
    )
