"""The verdict rule, its false alarms, and what a ledger shows."""

import doctest
import itertools
import json
import math
from html.parser import HTMLParser

import numpy as np
import pytest
from rounding import CALL, bound
from scipy import stats

from collapse_utils import Ledger, claims

ALARM = 1e-4


def check(ledger=None, **change):
    arguments = {"law": 0.0, "alternative": 1.0, "measured": 0.0, "se": 0.01, **change}
    return (ledger or Ledger()).check(arguments.pop("id", "T1"), "s", "src", **arguments)


@pytest.fixture
def displayed(monkeypatch):
    """What cells would display: (data, metadata) of each output."""
    outputs = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda data, *, raw, metadata: outputs.append((data, metadata)),
    )
    return outputs


def rejections_are(count, trials, rate):
    """Is this number of rejections what the stated rate gives (two-sided binomial test)?"""
    return stats.binomtest(count, trials, rate).pvalue > ALARM


# ------------------------------------------------------------------ the rule


def test_the_level_keeps_the_books_promise():
    np.testing.assert_allclose(
        claims.MAX_CLAIMS * claims.LEVEL, claims.BOOK_FALSE_ALARM, rtol=bound(2)
    )
    assert claims.BOOK_FALSE_ALARM <= 0.01
    z, wider = claims.half_width(1.0), claims.half_width(1.0, points=5)
    # A tail falls by z^2 + 1 times the relative change of z, or df times under Student's t.
    for rejected, condition in (
        (2 * stats.norm.sf(z), z**2 + 1),
        (5 * 2 * stats.norm.sf(wider), wider**2 + 1),
        (2 * stats.t.sf(claims.half_width(1.0, df=4), 4), 4),
    ):
        np.testing.assert_allclose(rejected, claims.LEVEL, rtol=bound(2 * CALL, condition))
    np.testing.assert_array_equal(claims.half_width([1.0, 3.0]), [z, 3 * z])


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (0.0, "reproduced"),  # law inside, alternative outside
        (0.99, "reproduced"),
        (1.01, "contradicted"),  # law outside, alternative inside
        (-1.01, "contradicted"),  # both outside
        (-0.99, "reproduced"),
    ],
)
def test_one_point_far_from_the_alternative(measured, verdict):
    width = float(claims.half_width(1.0))
    assert check(measured=measured * width, alternative=5 * width, se=1.0).verdict == verdict


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(0.75, "unresolved"), (0.45, "reproduced"), (1.05, "contradicted"), (-0.51, "reproduced")],
)
def test_one_point_near_the_alternative(measured, verdict):
    width = float(claims.half_width(1.0))
    alternative = 1.5 * width
    assert check(measured=measured * width, alternative=alternative, se=1.0).verdict == verdict


def test_the_law_must_hold_at_all_points_and_the_alternative_fail_at_one():
    law, alternative = [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]
    common = {"law": law, "alternative": alternative, "se": 0.01}
    good = check(measured=[0.0, 0.01, 0.02], **common)
    assert (good.verdict, good.points) == ("reproduced", 3)
    assert check(measured=[0.0, 0.2, 0.0], **common).verdict == "contradicted"
    assert check(measured=[0.0, 0.0, 1.0], **common).verdict == "contradicted"
    unresolved = check(measured=[0.0, 0.01, 0.02], **{**common, "alternative": 0.0})
    assert unresolved.verdict == "unresolved"


def test_claims_carry_their_numbers_unrounded():
    third = check(measured=1 / 3, se=1 / 70, law=2 / 7)
    assert (third.value, third.se, third.law_value) == (1 / 3, 1 / 70, 2 / 7)
    differences = np.array([1 / 3, 2 / 3, 1.0])
    way = Ledger().sign("S", "s", "s", differences=-differences, greater=False)
    assert way.value == -differences.mean()
    # Three deviations, half of the mean or larger, in both routes.
    np.testing.assert_allclose(
        way.se, differences.std(ddof=1) / np.sqrt(3), rtol=bound(2 * (3 + 4), 2)
    )
    assert way.law_value is None


def test_more_points_widen_each_interval():
    width = float(claims.half_width(1.0))
    strained = 1.05 * width
    assert check(measured=strained, alternative=99, se=1.0).verdict == "contradicted"
    many = check(measured=[strained] + [0.0] * 19, alternative=99, se=1.0)
    assert many.verdict == "reproduced"


def test_few_degrees_of_freedom_widen_the_interval():
    z = float(claims.half_width(1.0))
    assert check(measured=2 * z, alternative=1e6, se=1.0).verdict == "contradicted"
    assert check(measured=2 * z, alternative=1e6, se=1.0, df=3).verdict == "reproduced"


def test_the_error_of_a_law_widens_the_expectation_and_is_shown():
    z = float(claims.half_width(0.01))
    for law_error, verdict in ((0.0, "contradicted"), (0.5, "reproduced")):
        claim = check(measured=0.5 + 0.9 * z, alternative=2.0, law_error=law_error)
        assert claim.verdict == verdict
    assert "± 0.5" in claim.law
    assert check(measured=0.5 + 1.1 * z, alternative=2.0, law_error=0.5).verdict == "contradicted"
    # The alternative is a number, not a band: it is not excused by the error of the law.
    assert check(measured=0.4, alternative=0.4, law_error=0.5).verdict == "unresolved"


def test_without_chance_the_numerical_error_decides():
    assert check(se=0.0, measured=1e-9, law_error=1e-8).verdict == "reproduced"
    assert check(se=0.0, measured=1e-7, law_error=1e-8).verdict == "contradicted"
    assert check(se=0.0, measured=0.0, alternative=1e-9, law_error=1e-8).verdict == "unresolved"
    assert check(se=0.0).verdict == "reproduced"


@pytest.mark.parametrize("sizes", [{"df": [5, math.inf]}, {}], ids=["df", "same"])
def test_the_most_strained_point_is_shown(sizes):
    claim = check(
        law=[1.0, 2.0],
        alternative=9.0,
        measured=[1.0, 2.02],
        se=[0.5, 0.01],
        at=["a", "b"],
        **sizes,
    )
    assert claim.law == "2 (b)"
    assert claim.measured == "2.020 ± 0.010"
    assert claim.alternative == "9 (no effect)"
    assert (claim.value, claim.se, claim.law_value) == (2.02, 0.01, 2.0)
    assert check(law=[1, 2], alternative=9, measured=[1, 2]).law == "1 (point 1)"
    assert check(law=[0, 0], alternative=9, measured=[0.0, 0.1], se=[0, 0]).law == "0 (point 2)"


# ------------------------------------------------------------------ false alarms
# True claims at a raised level: the rule must contradict as often as it says, no more, no less.


@pytest.mark.parametrize("points", [1, 5])
@pytest.mark.parametrize("n", [4, 200])
def test_true_claims_are_contradicted_at_the_stated_rate(monkeypatch, n, points):
    level, trials = 0.1, 1500
    monkeypatch.setattr(claims, "LEVEL", level)
    rng = np.random.default_rng(n + points)
    samples = 3 + 2 * rng.standard_normal((trials, points, n))
    se = samples.std(axis=-1, ddof=1) / np.sqrt(n)
    contradicted = sum(
        check(law=3.0, alternative=1e9, measured=m, se=s, df=n - 1).verdict == "contradicted"
        for m, s in zip(samples.mean(axis=-1), se, strict=True)
    )
    rate = 1 - (1 - level / points) ** points  # independent points; at most `level`
    assert rejections_are(contradicted, trials, rate)
    assert not rejections_are(contradicted, trials, 2 * rate)


def test_an_alternative_that_is_true_is_excluded_at_the_stated_rate(monkeypatch):
    monkeypatch.setattr(claims, "LEVEL", 0.1)
    rng = np.random.default_rng(0)
    verdicts = [
        check(law=z, alternative=0.0, measured=z, se=1.0).verdict for z in rng.standard_normal(1500)
    ]
    assert set(verdicts) == {"reproduced", "unresolved"}
    assert rejections_are(verdicts.count("reproduced"), 1500, 0.1)


def test_a_sign_is_found_or_denied_at_the_stated_rate(monkeypatch):
    monkeypatch.setattr(claims, "LEVEL", 0.1)
    rng = np.random.default_rng(1)
    verdicts = [
        Ledger().sign("S", "s", "src", differences=rng.standard_normal(6)).verdict
        for _ in range(1500)
    ]
    assert rejections_are(verdicts.count("reproduced"), 1500, 0.05)
    assert rejections_are(verdicts.count("contradicted"), 1500, 0.05)


def test_a_true_distribution_is_denied_at_the_stated_rate(monkeypatch):
    monkeypatch.setattr(claims, "LEVEL", 0.1)
    rng = np.random.default_rng(2)
    p_values = [stats.kstest(rng.random(50), "uniform").pvalue for _ in range(1000)]
    verdicts = [fit(p_law=p, p_alternative=0.0).verdict for p in p_values]
    assert rejections_are(verdicts.count("contradicted"), 1000, 0.1)


# ------------------------------------------------------------------ signs and distributions


def fit(**change):
    arguments = {
        "law": "t(2)", "alternative": "N(0, 1)", "test": "KS", "measured": "D = .01",
        "p_law": 0.5, "p_alternative": 1e-9, **change,
    }  # fmt: skip
    return Ledger().fit("F1", "s", "src", **arguments)


@pytest.mark.parametrize("greater", [True, False])
def test_sign_of_paired_differences(greater):
    side = 1 if greater else -1
    noise = np.random.default_rng(0).standard_normal(30)

    def verdict(shift):
        return Ledger().sign("S", "s", "src", differences=noise + shift, greater=greater)

    claim = verdict(5 * side)
    assert claim.verdict == "reproduced"
    assert claim.law == ("> 0" if greater else "< 0")
    assert claim.test == "paired t, n = 30"
    assert claim.measured.endswith("; 30 of 30")
    assert verdict(0.1 * side).verdict == "unresolved"
    assert verdict(-5 * side).verdict == "contradicted"


def test_no_difference_at_all_proves_nothing():
    assert Ledger().sign("S", "s", "src", differences=[0.0, 0.0]).verdict == "unresolved"


def test_distributions_by_p_values():
    assert fit().verdict == "reproduced"
    assert fit(p_law=claims.LEVEL / 2).verdict == "contradicted"
    assert fit(p_alternative=0.2).verdict == "unresolved"
    assert fit(p_law=0.0, p_alternative=1.0).verdict == "contradicted"
    assert fit().test == "KS: p = 0.5 (law), 1e-09 (alternative)"


# ------------------------------------------------------------------ what a ledger refuses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"law": np.nan}, "law of claim T1 must be finite, got"),
        ({"alternative": np.inf}, "alternative of claim T1 must be finite"),
        ({"measured": [0.0, np.nan]}, "measured of claim T1 must be finite"),
        ({"se": np.inf}, "se of claim T1 must be finite"),
        ({"se": -0.1}, "se and law_error of claim T1 must be >= 0"),
        ({"law_error": np.nan}, "law_error of claim T1 must be finite"),
        ({"law_error": -1.0}, "se and law_error of claim T1 must be >= 0"),
        ({"df": 0}, "df of claim T1 must be > 0, got"),
        ({"df": np.nan}, "df of claim T1 must be > 0, got"),
        ({"measured": []}, "claim T1 must have at least one point"),
        ({"measured": [0.0, 0.0], "at": ["a"]}, "a label in `at` for each, got 2 points"),
        ({"measured": [0.0, 0.0], "law": [1.0] * 3}, "shape"),
        ({"status": "guess"}, "status must be one of theorem, published, .*, got 'guess'"),
        ({"expect": "unresolved"}, "expect must be one of reproduced, contradicted, got 'unres"),
    ],
)
def test_check_refuses_bad_values(change, message):
    ledger = Ledger()
    with pytest.raises(ValueError, match=message):
        check(ledger, **change)
    assert ledger.claims == []


@pytest.mark.parametrize("differences", [[], [1.0], [1.0, np.nan], [[1.0, 2.0]]])
def test_sign_refuses_bad_values(differences):
    with pytest.raises(ValueError, match="differences of claim S must be two or more finite"):
        Ledger().sign("S", "s", "src", differences=differences)


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan, None])
def test_fit_refuses_bad_p_values(p):
    with pytest.raises(ValueError, match=r"p_law must be a finite number in \[0, 1\]"):
        fit(p_law=p)
    with pytest.raises(ValueError, match=r"p_alternative must be a finite number in \[0, 1\]"):
        fit(p_alternative=p)


def test_an_id_is_used_once():
    ledger = Ledger()
    check(ledger)
    for again in (
        lambda: check(ledger),
        lambda: ledger.sign("T1", "s", "src", differences=[1.0, 2.0]),
    ):
        with pytest.raises(ValueError, match="claim id 'T1' is used twice"):
            again()
    assert len(ledger.claims) == 1
    check(ledger, id="T2")
    assert [c.id for c in ledger.claims] == ["T1", "T2"]


# ------------------------------------------------------------------ what a ledger shows


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.rows = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "br":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.rows[-1][-1] += data


def test_show_gives_a_table_text_and_json(displayed):
    ledger = Ledger()
    check(ledger, id="<T&1>", measured=[0.0, 0.1], expect="reproduced", status="theorem")
    ledger.sign("S1", "a < b & c", "src", differences=[1.0, 2.0, 3.0])
    ledger.fit(
        "F1",
        "s",
        "src",
        law="t",
        p_law=1,
        alternative="N",
        p_alternative=0,
        test="KS",
        measured="D",
    )
    ledger.show()
    ((data, metadata),) = displayed
    assert set(data) == {"text/html", "text/plain"}
    table = Cells()
    table.feed(data["text/html"])
    assert table.open == []
    assert [len(row) for row in table.rows] == [5] * 4
    assert [row[0] for row in table.rows[1:]] == ["<T&1>", "S1", "F1"]
    assert table.rows[2][1].startswith("a < b & c")
    for claim, row in zip(ledger.claims, table.rows[1:], strict=True):
        assert claim.verdict in row[4]
        assert claim.measured in row[3]
        assert claim.law in row[2]
    assert data["text/plain"].count("\n") == 2
    collapse = metadata["collapse"]
    assert collapse["kind"] == "claims"
    assert json.loads(json.dumps(collapse, allow_nan=False)) == collapse
    read_by_the_press = {"id", "statement", "source", "status", "expect", "measured", "verdict"}
    assert all(read_by_the_press <= set(claim) for claim in collapse["claims"])
    assert [c["expect"] for c in collapse["claims"]] == ["reproduced", None, None]


def test_every_verdict_has_its_mark():
    for inside, excluded in itertools.product((True, False), repeat=2):
        assert claims._verdict(inside, excluded) in claims._MARKS
    assert set(claims._MARKS) == set(claims.VERDICTS)


def test_the_docstring_example_runs():
    result = doctest.testmod(claims)
    assert result.attempted > 0
    assert result.failed == 0
