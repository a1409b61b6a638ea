"""The verdict rule, its false alarms and its power, and what a ledger shows."""

import doctest
import itertools
import json
import math
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest
from rounding import CALL, assert_within, bound
from scipy import stats

from collapse_utils import Ledger, claims, mean_se

ALARM = 1e-4


def check(ledger=None, **change):
    arguments = {"law": 0.0, "rival": 1.0, "measured": 0.0, "se": 0.01, **change}
    if "runs" in arguments:
        del arguments["measured"], arguments["se"]
    if not isinstance(arguments["rival"], tuple):
        arguments["rival"] = arguments["rival"], "no effect"
    ledger = ledger or Ledger()
    ledger.check(arguments.pop("id", "T1"), "s", "src", **arguments)
    return ledger.claims[-1]


def sign(**arguments):
    ledger = Ledger()
    ledger.sign("S", "s", "src", **arguments)
    return ledger.claims[-1]


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
    one_sided = claims.half_width(1.0, sides=1)
    # A tail falls by z^2 + 1 times the relative change of z, or df times under Student's t.
    for rejected, condition in (
        (2 * stats.norm.sf(z), z**2 + 1),
        (stats.norm.sf(one_sided), one_sided**2 + 1),
        (5 * 2 * stats.norm.sf(wider), wider**2 + 1),
        (2 * stats.t.sf(claims.half_width(1.0, df=4), 4), 4),
    ):
        np.testing.assert_allclose(rejected, claims.LEVEL, rtol=bound(2 * CALL, condition))
    np.testing.assert_array_equal(claims.half_width([1.0, 3.0]), [z, 3 * z])


@pytest.mark.parametrize("df", [3, 19, 1e5, math.inf])
@pytest.mark.parametrize("sides", [1, 2])
def test_a_noticeable_deviation_leaves_the_interval_nine_times_in_ten(df, sides):
    width = float(claims.half_width(1.0, df=df, points=4, sides=sides))
    shift = float(claims._noticeable(1.0, df=df, points=4, sides=sides))
    chance = stats.norm.sf(width - shift) if df == math.inf else stats.nct.sf(width, df, shift)
    assert chance == pytest.approx(claims.POWER, abs=1e-3)
    assert shift > width


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (0.0, "reproduced"),  # law inside, rival outside
        (0.99, "reproduced"),
        (1.01, "contradicted"),  # law outside, rival inside
        (-1.01, "contradicted"),  # both outside
        (-0.99, "reproduced"),
    ],
)
def test_one_point_far_from_the_rival(measured, verdict):
    width = float(claims.half_width(1.0))
    assert check(measured=measured * width, rival=5 * width, se=1.0).verdict == verdict


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(0.75, "unresolved"), (0.45, "reproduced"), (1.05, "contradicted"), (-0.51, "reproduced")],
)
def test_one_point_near_the_rival(measured, verdict):
    width = float(claims.half_width(1.0))
    assert check(measured=measured * width, rival=1.5 * width, se=1.0).verdict == verdict


def test_a_run_that_could_not_have_lost_is_unresolved():
    """The rival lies outside the interval by luck: it is too near to be told from the law."""
    width, noticed = float(claims.half_width(1.0)), float(claims._noticeable(1.0))
    for rival, verdict in ((0.99 * noticed, "unresolved"), (1.01 * noticed, "reproduced")):
        assert abs(-0.9 * width - rival) > width  # the old rule would have been content
        claim = check(measured=-0.9 * width, rival=rival, se=1.0)
        assert claim.verdict == verdict
        assert claim.deciding.noticed == noticed


def test_the_point_that_excludes_the_rival_must_itself_have_the_power():
    width, noticed = float(claims.half_width(1.0, points=2)), float(claims._noticeable(1, points=2))
    lucky = {"law": [0.0, 0.0], "rival": [0.9 * noticed, 2 * noticed], "se": [1.0, 1.0]}
    measured = [-0.9 * width, 0.9 * width]  # outside by luck at the first, with power at the second
    assert check(measured=measured, **lucky).verdict == "reproduced"
    claim = check(measured=measured, **{**lucky, "rival": [0.9 * noticed, 0.9 * noticed]})
    assert claim.verdict == "unresolved"


def test_the_law_must_hold_at_all_points_and_the_rival_fail_at_one():
    law, rival = [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]
    common = {"law": law, "rival": rival, "se": 0.01}
    good = check(measured=[0.0, 0.01, 0.02], **common)
    assert (good.verdict, good.points) == ("reproduced", 3)
    assert check(measured=[0.0, 0.2, 0.0], **common).verdict == "contradicted"
    assert check(measured=[0.0, 0.0, 1.0], **common).verdict == "contradicted"
    unresolved = check(measured=[0.0, 0.01, 0.02], **{**common, "rival": 0.0})
    assert unresolved.verdict == "unresolved"


def test_more_points_widen_each_interval():
    width = float(claims.half_width(1.0))
    strained = 1.05 * width
    assert check(measured=strained, rival=99, se=1.0).verdict == "contradicted"
    many = check(measured=[strained] + [0.0] * 19, rival=99, se=1.0)
    assert many.verdict == "reproduced"


def test_few_degrees_of_freedom_widen_the_interval():
    z = float(claims.half_width(1.0))
    assert check(measured=2 * z, rival=1e6, se=1.0).verdict == "contradicted"
    assert check(measured=2 * z, rival=1e6, se=1.0, df=3).verdict == "reproduced"


def test_the_error_of_a_law_widens_the_expectation_and_is_shown():
    z = float(claims.half_width(0.01))
    for law_error, verdict in ((0.0, "contradicted"), (0.5, "reproduced")):
        claim = check(measured=0.5 + 0.9 * z, rival=2.0, law_error=law_error)
        assert claim.verdict == verdict
    assert "± 0.5" in claim.expected
    assert check(measured=0.5 + 1.1 * z, rival=2.0, law_error=0.5).verdict == "contradicted"
    # The rival is a number, not a band: it is not excused by the error of the law.
    assert check(measured=0.4, rival=0.4, law_error=0.5).verdict == "unresolved"
    # A rival within the error of the law cannot be told from it, wherever the measurement lies.
    assert check(measured=-0.4, rival=0.4, law_error=0.5).verdict == "unresolved"


def test_an_identity_is_decided_by_the_numerical_error():
    assert check(se=0.0, measured=1e-9, law_error=1e-8).verdict == "reproduced"
    assert check(se=0.0, measured=1e-7, law_error=1e-8).verdict == "contradicted"
    assert check(se=0.0, measured=0.0, rival=1e-9, law_error=1e-8).verdict == "unresolved"
    claim = check(se=0.0)
    assert (claim.verdict, claim.test, claim.deciding.noticed) == ("reproduced", "no chance", 0.0)
    assert check(se=0.0, rival=0.0).verdict == "unresolved"


# ------------------------------------------------------------------ replicates


def test_runs_give_mean_standard_error_and_students_t():
    runs = np.random.default_rng(0).normal(3, 2, (2, 30))
    claim = check(law=3.0, rival=9.0, runs=runs, at={"n": [1, 2]})
    mean, se = mean_se(runs)
    same = check(law=3.0, rival=9.0, measured=mean, se=se, df=29, at={"n": [1, 2]})
    assert claim.strained == same.strained
    assert claim.deciding == same.deciding
    assert claim.test == "t, 30 replicates"
    limit = bound(2 * 2 * (30 + 4))  # a mean and a sum of squares of 30 runs, in both routes
    np.testing.assert_allclose(mean, runs.mean(axis=1), rtol=limit)
    np.testing.assert_allclose(se, stats.sem(runs, axis=1), rtol=limit)
    # Two runs: a difference, with the condition of one.
    condition = (np.abs(runs).sum(axis=0) / np.abs(np.diff(runs, axis=0))).max()
    pairs = mean_se(runs, axis=0)[1]
    np.testing.assert_allclose(pairs, stats.sem(runs, axis=0), rtol=bound(2 * 8, condition))


def test_rows_of_runs_may_differ_in_length():
    rng = np.random.default_rng(1)
    rows = [rng.normal(0, 1, 4), rng.normal(0, 1, 4000)]
    claim = check(law=0.0, rival=5.0, runs=rows)
    assert claim.test == "t, 4 to 4,000 replicates"
    assert claim.deciding.at == "point 2"  # the long row decides; the short one could not
    (mean, se), df = np.transpose([mean_se(row) for row in rows]), [3, 3999]
    assert claim.strained == check(measured=mean, se=se, df=df, rival=5.0).strained
    assert check(law=0.0, rival=5.0, runs=rows[0]).points == 1


# ------------------------------------------------------------------ one side


@pytest.mark.parametrize(("side", "sign"), [("above", 1), ("below", -1)])
def test_a_bound_is_tested_on_one_side(side, sign):
    width = float(claims.half_width(1.0, sides=1))
    bound = {"law": 2.0, "rival": 2.0, "se": 1.0, "side": side}

    def verdict(distance, **change):
        return check(measured=2 + sign * distance * width, **{**bound, **change}).verdict

    assert verdict(100.0) == "reproduced"  # far beyond the bound is what the claim says
    assert verdict(1.01) == "reproduced"
    assert verdict(0.99) == verdict(-0.99) == "unresolved"
    assert verdict(-1.01) == "contradicted"
    # The error of the bound is on its side.
    assert verdict(-1.01, law_error=1.0) == "unresolved"
    # A rival on the forbidden side: the bound holds and the rival is excluded.
    far = 2 - sign * 20
    assert verdict(-0.5, rival=far) == "reproduced"
    assert verdict(-1.01, rival=far) == "contradicted"
    near = 2 - sign * 0.9 * float(claims._noticeable(1.0, sides=1))
    assert verdict(0.5, rival=near) == "unresolved"
    with pytest.raises(ValueError, match=f"rival of claim T1 must not lie {side} its law"):
        verdict(0.0, rival=2 + sign)


def test_bounds_show_their_direction():
    assert check(side="above", rival=0.0).expected == "> 0"
    assert check(side="below", rival=[5.0], law=4.5, at=["x"]).expected == "< 4.5 (x)"


# ------------------------------------------------------------------ what is shown


def test_both_points_are_shown():
    """The law is most strained at "a", the rival is excluded at "b"."""
    claim = check(law=[1.0, 2.0], rival=[1.001, 9.0], measured=[1.03, 2.01], se=0.01, at=["a", "b"])
    assert claim.verdict == "reproduced"
    assert (claim.expected, claim.measured) == ("1 (a)", "1.030 ± 0.010")
    strained, deciding = claim.strained, claim.deciding
    assert (strained.at, strained.value, strained.law, strained.rival) == ("a", 1.03, 1.0, 1.001)
    assert (deciding.at, deciding.value, deciding.law, deciding.rival) == ("b", 2.01, 2.0, 9.0)
    row = claims.cells(asdict(claim))
    for part in ("rival at b: 9 (no effect), law 2", "2.010 ± 0.010 at b", "noticed at b"):
        assert part in row


def test_the_most_strained_point_is_shown():
    df = [5, math.inf]
    claim = check(law=[1.0, 2.0], rival=9.0, measured=[1.0, 2.02], se=[0.5, 0.01], df=df)
    assert claim.expected == "2 (point 2)"
    assert claim.measured == "2.020 ± 0.010"
    assert check(law=[1, 2], rival=9, measured=[1, 2]).expected == "1 (point 1)"
    assert check(law=[0, 0], rival=9, measured=[0.0, 0.1], se=[0, 0]).expected == "0 (point 2)"


def test_claims_carry_their_numbers_unrounded():
    point = check(measured=1 / 3, se=1 / 70, law=2 / 7, law_error=1e-9, rival=1 / 9).strained
    assert (point.value, point.se, point.law, point.rival) == (1 / 3, 1 / 70, 2 / 7, 1 / 9)
    assert point.noticed == 1e-9 + claims._noticeable(1 / 70)


@pytest.mark.parametrize(
    ("at", "labels"),
    [
        ({"n": [1, 50]}, ["n = 1", "n = 50"]),
        ({"n": np.array([1, 50]), "M": 100}, ["n = 1, M = 100", "n = 50, M = 100"]),
        ({"h": {0.25: "a", 1 / 3: "b"}}, ["h = 0.25", "h = 0.333333"]),
        (["here", "there"], ["here", "there"]),
        (None, ["point 1", "point 2"]),
    ],
)
def test_places_are_named(at, labels):
    for i, label in enumerate(labels):
        measured = [0.0, 0.0]
        measured[i] = 0.01
        assert check(measured=measured, at=at).strained.at == label
    assert check(at={"n": 7}).strained.at == "n = 7"


# ------------------------------------------------------------------ false alarms
# True claims at a raised level: the rule must contradict as often as it says, no more, no less.


@pytest.mark.parametrize("points", [1, 5])
@pytest.mark.parametrize("n", [4, 200])
def test_true_claims_are_contradicted_at_the_stated_rate(monkeypatch, n, points):
    level, trials = 0.1, 1500
    monkeypatch.setattr(claims, "LEVEL", level)
    rng = np.random.default_rng(n + points)
    samples = 3 + 2 * rng.standard_normal((trials, points, n))
    contradicted = sum(
        check(law=3.0, rival=1e9, runs=runs).verdict == "contradicted" for runs in samples
    )
    rate = 1 - (1 - level / points) ** points  # independent points; at most `level`
    assert rejections_are(contradicted, trials, rate)
    assert not rejections_are(contradicted, trials, 2 * rate)


def test_a_deviation_is_noticed_at_the_stated_rate(monkeypatch):
    """True value: law + noticed. The claim loses nine times in ten, and not more often."""
    monkeypatch.setattr(claims, "LEVEL", 0.05)
    rng, n, trials = np.random.default_rng(5), 6, 1500
    shift = float(claims._noticeable(1 / math.sqrt(n), df=n - 1))
    lost = sum(
        check(law=0.0, rival=1e9, runs=runs).verdict == "contradicted"
        for runs in rng.normal(shift, 1, (trials, n))
    )
    assert rejections_are(lost, trials, claims.POWER)


def test_a_rival_that_is_true_is_excluded_at_the_stated_rate(monkeypatch):
    """A law as far from the true rival as the run would notice, and a measurement on it."""
    monkeypatch.setattr(claims, "LEVEL", 0.1)
    rng = np.random.default_rng(0)
    verdicts = [
        check(law=3 * math.copysign(1, z), rival=0.0, measured=z, se=1.0).verdict
        for z in rng.standard_normal(3000)
    ]
    # The rival, 0, lies outside beyond 1.64; the law, +-3, inside beyond 1.36.
    outside = 2 * stats.norm.sf(stats.norm.isf(0.05))
    assert rejections_are(verdicts.count("reproduced"), 3000, outside)
    assert set(verdicts) == {"reproduced", "unresolved", "contradicted"}


def test_a_sign_is_found_or_denied_at_the_stated_rate(monkeypatch):
    monkeypatch.setattr(claims, "LEVEL", 0.05)
    rng = np.random.default_rng(1)
    verdicts = [sign(differences=rng.standard_normal(6)).verdict for _ in range(1500)]
    assert rejections_are(verdicts.count("reproduced"), 1500, 0.05)
    assert rejections_are(verdicts.count("contradicted"), 1500, 0.05)


def test_a_true_distribution_is_denied_at_the_stated_rate(monkeypatch):
    monkeypatch.setattr(claims, "LEVEL", 0.1)
    rng = np.random.default_rng(2)
    verdicts = [fit(sample=rng.normal(size=50)).verdict for _ in range(1000)]
    assert rejections_are(verdicts.count("contradicted"), 1000, 0.1)


# ------------------------------------------------------------------ signs and distributions


@pytest.mark.parametrize("greater", [True, False])
def test_sign_of_paired_differences(greater):
    side = 1 if greater else -1
    noise = np.random.default_rng(0).standard_normal(30)

    def verdict(shift):
        return sign(differences=noise + shift, greater=greater)

    claim = verdict(5 * side)
    assert claim.verdict == "reproduced"
    assert claim.expected == ("> 0" if greater else "< 0")
    assert claim.test == "paired t, 30 of 30 differences have this sign"
    value = noise.mean() + 5 * side  # the noise is smaller than the shift
    np.testing.assert_allclose(claim.strained.value, value, rtol=bound(2 * (30 + 1), 2))
    assert verdict(0.1 * side).verdict == "unresolved"
    assert verdict(-5 * side).verdict == "contradicted"


def test_no_difference_at_all_proves_nothing():
    assert sign(differences=[0.0, 0.0]).verdict == "unresolved"


def fit(**change):
    arguments = {
        "sample": np.random.default_rng(3).normal(size=4000),
        "law": (stats.norm.cdf, "N(0, 1)"),
        "rival": (stats.t(2).cdf, "t(2)"),
        **change,
    }
    ledger = Ledger()
    ledger.fit("F1", "s", "src", **arguments)
    return ledger.claims[-1]


def test_distributions():
    claim = fit()
    assert claim.verdict == "reproduced"
    found = stats.kstest(np.random.default_rng(3).normal(size=4000), stats.norm.cdf)
    assert claim.strained.value == found.statistic
    assert claim.test.startswith(f"Kolmogorov-Smirnov: p = {found.pvalue:.2g} (law), ")
    assert (claim.expected, claim.rival) == ("N(0, 1)", "t(2)")
    assert fit(law=(stats.t(2).cdf, "t(2)"), rival=(stats.norm.cdf, "n")).verdict == "contradicted"
    drawn = stats.t(2).rvs(80_000, random_state=0)
    by_sample = fit(rival=(drawn, "t(2), drawn"))
    assert by_sample.verdict == "reproduced"
    between = stats.kstwobign.isf(ALARM) / math.sqrt(len(drawn))
    assert abs(by_sample.deciding.rival - claim.deciding.rival) < between


def test_distributions_without_power_are_unresolved():
    """A rival at a distance that the sample would not have noticed, however its p-value falls."""
    near = stats.norm(0.05).cdf
    sample = np.random.default_rng(3).normal(size=4000)
    claim = fit(sample=sample, rival=(near, "shifted"))
    # The laws differ most half-way, by a parabola with a second derivative below 0.05 times 0.4.
    missed = 0.05 * 0.4 * np.abs(sample - 0.025).min() ** 2 / 2
    most = 2 * stats.norm.cdf(0.025) - 1
    assert_within(claim.deciding.rival, most, missed + bound(4 * CALL))
    assert claim.deciding.rival < claim.deciding.noticed
    assert claim.verdict == "unresolved"


def test_what_a_distribution_notices_it_notices_nine_times_in_ten(monkeypatch):
    monkeypatch.setattr(claims, "LEVEL", 0.1)
    noticed = fit(sample=np.random.default_rng(0).normal(size=200)).deciding.noticed
    shift = 2 * stats.norm.isf(0.5 - noticed / 2)  # largest distance of the distribution functions
    rng = np.random.default_rng(4)
    lost = [fit(sample=rng.normal(shift, 1, 200)).verdict == "contradicted" for _ in range(300)]
    assert np.mean(lost) >= claims.POWER - 3 * np.sqrt(0.09 / 300)


# ------------------------------------------------------------------ what a ledger refuses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"law": np.nan}, "law of claim T1 must be finite, got"),
        ({"rival": np.inf}, "rival of claim T1 must be finite"),
        ({"rival": (1.0, 2.0)}, r"rival of claim T1 must be a pair \(what it says, name\), got"),
        ({"measured": [0.0, np.nan]}, "measured of claim T1 must be finite"),
        ({"se": np.inf}, "se of claim T1 must be finite"),
        ({"se": -0.1}, "se of claim T1 must be >= 0"),
        ({"se": None}, "claim T1 must have either runs, or measured and se"),
        ({"measured": None, "se": None}, "claim T1 must have either runs, or measured and se"),
        ({"runs": []}, "runs of claim T1 must be two or more finite numbers in a row"),
        ({"runs": [1.0]}, "runs of claim T1 must be two or more finite numbers in a row"),
        ({"runs": [[1.0, np.nan]]}, "runs of claim T1 must be two or more finite numbers"),
        ({"runs": np.zeros((2, 2, 2))}, "runs of claim T1 must be two or more finite numbers"),
        ({"law_error": np.nan}, "law_error of claim T1 must be finite"),
        ({"law_error": -1.0}, "law_error of claim T1 must be >= 0"),
        ({"df": 0}, "df of claim T1 must be > 0, got"),
        ({"df": np.nan}, "df of claim T1 must be > 0, got"),
        ({"measured": []}, "claim T1 must have at least one point"),
        ({"measured": [0.0, 0.0], "at": ["a"]}, "a label in `at` for each of 2 points"),
        ({"measured": [0.0, 0.0], "at": {"n": [1, 2, 3]}}, "a label in `at` for each of 2 points"),
        ({"measured": [0.0, 0.0], "law": [1.0] * 3}, "shape"),
        ({"side": "left"}, "side must be one of both, above, below, got 'left'"),
        ({"status": "guess"}, "status must be one of theorem, published, .*, got 'guess'"),
        ({"expect": "unresolved"}, "expect must be one of reproduced, contradicted, got 'unres"),
    ],
)
def test_check_refuses_bad_values(change, message):
    ledger = Ledger()
    with pytest.raises(ValueError, match=message):
        check(ledger, **change)
    assert ledger.claims == []


def test_runs_and_a_measurement_exclude_each_other():
    with pytest.raises(ValueError, match="claim T1 must have either runs, or measured and se"):
        Ledger().check("T1", "s", "src", law=0, rival=(1, "x"), runs=[1.0, 2.0], measured=1, se=1)


@pytest.mark.parametrize("differences", [[], [1.0], [1.0, np.nan], [[1.0, 2.0]]])
def test_sign_refuses_bad_values(differences):
    with pytest.raises(ValueError, match="of claim S must be"):
        Ledger().sign("S", "s", "src", differences=differences)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample": [1.0, np.nan]}, "sample of claim F1 must be two or more finite numbers"),
        ({"sample": [[1.0, 2.0]]}, "sample of claim F1 must be two or more finite numbers"),
        ({"rival": ([np.inf, 1.0], "x")}, "rival of claim F1 must be two or more finite numbers"),
        ({"law": stats.norm.cdf}, "law of claim F1 must be a pair"),
    ],
)
def test_fit_refuses_bad_values(change, message):
    with pytest.raises(ValueError, match=message):
        fit(**change)


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


# ------------------------------------------------------------------ the table


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
    normal = np.random.default_rng(0).normal(size=100)
    law, rival = (stats.norm.cdf, "N"), (stats.t(2).cdf, "t")
    ledger.fit("F1", "s", "src", sample=normal, law=law, rival=rival)
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
        assert "is noticed" in row[3]
        assert claim.expected in row[2]
        assert claim.rival in row[2]
    assert data["text/plain"].count("\n") == 2
    collapse = metadata["collapse"]
    assert collapse["kind"] == "claims"
    assert json.loads(json.dumps(collapse, allow_nan=False)) == collapse
    read_by_the_press = {"id", "statement", "source", "status", "expect", "measured", "verdict"}
    assert all(read_by_the_press <= set(claim) for claim in collapse["claims"])
    numbers = {"at", "value", "se", "law", "law_error", "rival", "noticed"}
    assert all(set(c["strained"]) == set(c["deciding"]) == numbers for c in collapse["claims"])
    assert [c["expect"] for c in collapse["claims"]] == ["reproduced", None, None]


def test_every_verdict_has_its_mark():
    for holds, excluded in itertools.product((True, False), repeat=2):
        assert claims._verdict(holds, excluded) in claims._MARKS
    assert set(claims._MARKS) == set(claims.VERDICTS)


def test_the_docstring_example_runs():
    result = doctest.testmod(claims)
    assert result.attempted > 0
    assert result.failed == 0
