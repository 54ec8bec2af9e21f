"""Operating points: chosen on one half of the people, measured on the other, and right about known errors."""

from dataclasses import replace
from fractions import Fraction
from math import comb
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ageinfer.engine.operating import OperatingPoint
from agetrain.evaluation.operating import (
    Answered,
    TooFewPeopleError,
    lower_share,
    most_hits,
    needed_people,
    operating_point,
    upper_share,
)  # fmt: skip

STD = 4.0


def answered(ages, errors, *, quality=0.9, people=None, first=None, groups=None):
    n = len(ages)
    return Answered(
        np.asarray(ages), np.asarray(ages, float) + errors, np.full(n, quality),
        np.array([f"p{i}" for i in range(n)] if people is None else people),
        np.arange(n) % 2 == 0 if first is None else first, groups or {}, ("made, all of it",), "0" * 64,
    )  # fmt: skip


def of_known_error(n, seed=0, years=(5, 40), std=STD):
    """People of ages that are all alike frequent, whose answers are wrong by a normal distribution."""
    random = np.random.default_rng(seed)
    return answered(random.integers(years[0], years[1] + 1, n), random.normal(0, std, n))


def point_of(told, years=18, **more) -> OperatingPoint:
    return operating_point(told, years, graph_sha256="g" * 64, detector="yunet-2023mar", **more)


def true_rate(cutoff, ages, std=STD):
    """The share of people of these ages whose answer is as of the cut-off or more, by the known error."""
    return 100 * np.mean([1 - NormalDist(age, std).cdf(cutoff) for age in ages])


@pytest.mark.parametrize("years", [18, 25])
def test_the_false_positives_of_a_model_with_a_known_error_come_out(years):
    point = point_of(of_known_error(40_000), years)
    below, above = range(years - 5, years), range(years, years + 13)
    assert point.below_years == (below[0], below[-1])
    assert point.above_years == (above[0], above[-1])
    known = true_rate(point.over_from_years, below)
    assert 3.8 < known <= 5.0  # as much as is stated, but for the room that certainty takes
    assert point.false_positive.percent == pytest.approx(known, abs=1.0)
    assert known < point.false_positive.upper_percent < known + 2.0
    known = 100 - true_rate(point.under_below_years, above)
    assert 3.8 < known <= 5.0
    assert point.false_negative.percent == pytest.approx(known, abs=0.8)
    between = true_rate(point.under_below_years, below) - true_rate(point.over_from_years, below)
    assert point.referred_below_percent == pytest.approx(between, abs=2.5)
    assert point.over_held is (point.false_positive.percent <= 5.0)
    assert point.under_held is (point.false_negative.percent <= 5.0)


def test_points_hold_on_the_other_half_as_often_as_is_promised():
    """Of many small samples the true rate is within what is stated in at least 95 %."""
    rates = [true_rate(point_of(of_known_error(2400, seed)).over_from_years, range(13, 18)) for seed in range(60)]
    assert np.mean(np.array(rates) <= 5.0) >= 0.9


def test_the_half_that_is_measured_has_no_part_in_the_choice():
    told = of_known_error(4000, seed=1)
    worse = replace(told, answers=np.where(told.first, told.answers, told.answers + 12))
    one, other = point_of(told), point_of(worse)
    assert (one.over_from_years, one.under_below_years) == (other.over_from_years, other.under_below_years)
    assert one.over_held
    assert one.under_held
    assert (other.over_held, other.under_held) == (False, True)  # who looks older is seldom under
    assert other.false_positive.percent > 30


def test_every_figure_is_that_of_a_plain_count():
    told = of_known_error(3000, seed=3)
    point = point_of(told)
    counted = {
        (half, kind): [
            answer for answer, age, first in zip(told.answers, told.ages, told.first, strict=True)
            if first == half and (13 <= age <= 17 if kind == "below" else 18 <= age <= 30)
        ]
        for half in (True, False) for kind in ("below", "above")
    }  # fmt: skip
    cutoff, floor = point.over_from_years, point.under_below_years
    chosen, young, old = counted[True, "below"], counted[False, "below"], counted[False, "above"]
    allowed = sum(answer >= cutoff for answer in chosen)
    assert upper_share(allowed, len(chosen)) <= 0.05 < upper_share(allowed + 1, len(chosen))
    assert sum(answer >= cutoff - 0.011 for answer in chosen) > allowed  # a lower one would let one more pass
    assert (point.false_positive.n, point.false_positive.hits) == (len(young), sum(a >= cutoff for a in young))
    assert (point.false_negative.n, point.false_negative.hits) == (len(old), sum(a < floor for a in old))
    referred = 100 * sum(floor <= a < cutoff for a in old) / len(old)
    assert point.referred_above_percent == pytest.approx(referred, abs=0.01)


def test_people_count_once_and_with_their_worst_picture():
    told = of_known_error(3000, seed=1)
    twice = Answered(
        np.repeat(told.ages, 2), np.stack([told.answers, told.answers - 9], 1).ravel(), np.repeat(told.quality, 2),
        np.repeat(told.people, 2), np.repeat(told.first, 2), {}, told.evidence, told.sha256,
    )  # fmt: skip
    one, other = point_of(told), point_of(twice)
    assert one.over_from_years == other.over_from_years
    assert one.false_positive == other.false_positive
    assert other.false_negative.n == one.false_negative.n


def test_a_group_that_is_surely_beyond_is_named_and_nothing_is_held():
    told = of_known_error(6000, seed=2)
    few = np.arange(len(told.ages)) % 12 < 2
    told = replace(told, groups={"gender": np.where(few, "female", "male")})
    assert point_of(told).over_held
    worse = replace(told, answers=np.where(few & ~told.first, told.answers + 4, told.answers))
    point = point_of(worse)
    assert point.worst.group == "gender: female"
    assert point.worst.percent > 10
    assert point.false_positive.percent < 8
    assert (point.over_held, point.under_held) == (False, True)


def test_faces_that_are_seen_badly_are_left_out_and_counted_as_referred():
    told = of_known_error(4000)
    bad = np.arange(len(told.ages)) % 4 < 2
    told = replace(told, quality=np.where(bad, 0.3, 0.9), answers=np.where(bad, 90.0, told.answers))
    point = point_of(told)
    assert point.false_positive.percent < 7
    assert point.referred_below_percent > 50
    assert point_of(told, least_quality=0.1).over_from_years > 90
    assert point_of(replace(told, quality=np.full(len(bad), np.nan))).least_quality is None


def test_nobody_who_looks_younger_than_an_age_is_answered_over():
    told = of_known_error(3000)
    point = point_of(replace(told, answers=np.full(len(told.ages), 3.0)))
    assert (point.over_from_years, point.under_below_years) == (18.0, 3.0)


def test_too_few_people_are_counted_in_the_message():
    told = of_known_error(400)
    with pytest.raises(TooFewPeopleError, match=r"\d+ people of 13 to 17 years to choose on; 59 are needed for 5 %"):
        point_of(told)
    with pytest.raises(TooFewPeopleError, match="to measure on"):
        point_of(replace(of_known_error(3000), first=np.ones(3000, bool)))


@given(st.integers(1, 300), st.integers(0, 300))
@settings(max_examples=60)
def test_the_bound_is_where_so_few_hits_become_unlikely(n, hits):
    hits = min(hits, n)
    upper = upper_share(hits, n)
    assert hits / n <= upper <= 1
    if hits < n:
        share = Fraction(upper).limit_denominator(10**9)
        chance = float(sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(hits + 1)))
        assert chance == pytest.approx(0.05, abs=1e-5)
    assert 0 <= lower_share(hits, n) <= hits / n
    assert lower_share(hits, n) == pytest.approx(1 - upper_share(n - hits, n))


def test_how_many_people_are_needed():
    assert (needed_people(5), needed_people(1), needed_people(10)) == (59, 299, 29)
    assert (most_hits(58, 5), most_hits(59, 5), most_hits(93, 5)) == (None, 0, 1)
