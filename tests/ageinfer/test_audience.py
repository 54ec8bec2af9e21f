"""Counts by age over stretches of time."""

import gc
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_results import all_of, face, film, result, walk

from ageinfer.errors import UsageError
from ageinfer.people import BANDS, Audience, Band, Places
from ageinfer.people.bands import expected_count
from ageinfer.people.visits import Visit
from ageinfer.types import Age

PLACES = Places.parse(["left=0,0;0.5,0;0.5,1;0,1"], ["door=0.5,1;0.5,0"])
ages = st.builds(Age, st.floats(0, 100), st.floats(0.1, 30))


def counts(tally):
    return [band.count for band in tally.bands]


@pytest.mark.parametrize(
    "text", ["", "0-12", "0-12,14+", "0-12,12+", "1-12,13+", "0-12,13-5,6+", "0+,1+", "a", "0-12,13-17", "0-,1+", "-5+"]
)
def test_bands_that_leave_an_age_out_or_count_it_twice_are_refused(text):
    with pytest.raises(UsageError, match="--bands"):
        Band.parse_all(text)


def test_there_may_be_so_many_bands_and_no_more():
    text = ",".join(f"{i}-{i}" for i in range(39))
    assert len(Band.parse_all(text + ",39+")) == 40
    with pytest.raises(UsageError, match="41 bands"):
        Band.parse_all(text + ",39-39,40+")


@given(ages)
def test_every_age_is_in_one_band(age):
    assert sum(band.share(age) for band in BANDS) == pytest.approx(1)
    assert all(-1e-12 <= band.share(age) <= 1 for band in BANDS)


def test_completed_years_begin_half_way():
    """Models learn from completed years: who is 17 to the last day is 17 there."""
    assert Age(17.5, 3).at_least(18) == pytest.approx(0.5)
    assert Band(13, 17).share(Age(15, 0.1)) == pytest.approx(1)


@given(ages, st.integers(1, 99))
def test_quantiles_and_probabilities_agree(age, percent):
    years = age.quantile(percent / 100)
    if years > 0:
        assert age.at_least(years + 0.5) == pytest.approx(1 - percent / 100, abs=1e-6)


@given(st.lists(ages, max_size=30), st.sampled_from(BANDS))
def test_a_count_is_within_its_interval_and_that_within_nobody_and_everybody(people, band):
    count, low, high = expected_count(people, band)
    assert 0 <= low <= count + 1e-9
    assert count - 1e-9 <= high <= len(people)


def test_the_interval_holds_the_true_number_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside, tries = 0, 400
    band = Band(25, 34)
    for _ in range(tries):
        truth = rng.uniform(15, 60, 40)
        said = truth + rng.normal(0, 2.2) + rng.normal(0, (36 - 2.2**2) ** 0.5, 40)  # shared, and each one's own
        _, low, high = expected_count([Age(a, 6.0) for a in said], band)
        inside += low - 0.5 <= np.sum((truth >= 24.5) & (truth < 34.5)) <= high + 0.5
    assert 0.85 < inside / tries < 0.99


def test_a_sum_of_probabilities_is_nearer_than_a_count_of_means():
    """Means crowd in the middle; what they leave out at both ends, the sum of the distributions puts back."""
    rng = np.random.default_rng(1)
    truth = rng.normal(30, 12, 4000).clip(1, 90).round()
    seen = truth + rng.normal(0, 8, 4000)
    share = 12**2 / (12**2 + 8**2)
    means, std = 30 + share * (seen - 30), 8 * share**0.5
    true = [np.sum((truth >= band.low) & (truth <= (band.high or 200))) for band in BANDS]
    points = [np.sum((means.round() >= band.low) & (means.round() <= (band.high or 200))) for band in BANDS]
    sums = [expected_count([Age(m, std) for m in means], band)[0] for band in BANDS]
    wrong = lambda found: sum(abs(a - b) for a, b in zip(found, true, strict=True)) / 4000  # noqa: E731
    assert wrong(sums) < 0.04 < 0.15 < wrong(points)


def test_each_person_counts_once_and_numbers_of_windows_add_up():
    results = film(walk(1, 0, 9, age=10), walk(2, 3, 6, age=40), walk(3, 11, 19, age=70), to_s=24)
    [whole] = all_of(Audience(), results)
    windows = all_of(Audience(10), results)
    assert whole.everywhere.people == 3
    assert [w.everywhere.people for w in windows] == [2, 1, 0]
    assert sum(counts(whole.everywhere)) == pytest.approx(3)
    assert np.sum([counts(w.everywhere) for w in windows], 0) == pytest.approx(counts(whole.everywhere))
    assert sum(w.everywhere.seconds for w in windows) == pytest.approx(whole.everywhere.seconds)
    assert [(w.from_s, w.to_s) for w in windows] == [(0, 10), (10, 20), (20, 24)]


def test_what_is_told_of_a_window():
    [window] = all_of(Audience(places=PLACES), film(walk(1, 0, 4, age=15, std=2), walk(2, 2, 4), to_s=5))
    everywhere, [(name, left)] = window.everywhere, window.zones
    assert (window.frames, window.watched_s, window.unsure) == (51, 5, 0)
    assert (everywhere.people, everywhere.most_in_view) == (2, 2)
    assert everywhere.seconds == pytest.approx(6)
    assert everywhere.mean_in_view == pytest.approx(62 / 51)
    assert (name, left.people, left.most_in_view) == ("left", 2, 1)
    assert left.seconds == pytest.approx(3, abs=0.21)
    assert dict(window.lines) == {"door": {"left": 0, "right": 2}}
    teenager = next(band for band in everywhere.bands if str(band.band) == "13-17")
    assert 0.7 < teenager.count < 1


def test_a_person_who_stays_over_a_window_counts_in_the_first_and_is_in_view_in_both():
    one, two = all_of(Audience(5), film(walk(1, 1, 9), to_s=9.9))
    assert (one.everywhere.people, two.everywhere.people) == (1, 0)
    assert one.everywhere.seconds == pytest.approx(4, abs=0.11)
    assert two.everywhere.seconds == pytest.approx(4, abs=0.11)
    assert two.everywhere.most_in_view == 1


def test_who_enters_a_zone_later_counts_there_in_the_window_of_that_time():
    one, two = all_of(Audience(5, places=PLACES), film(walk(1, 1, 9, from_x=950, to_x=50), to_s=9.9))
    assert (dict(one.zones)["left"].people, dict(two.zones)["left"].people) == (0, 1)


def test_brief_tracks_are_no_people():
    results = film(walk(1, 0, 0.3), walk(2, 0, 4), to_s=5)
    [window] = all_of(Audience(), results)
    assert (window.everywhere.people, window.unsure) == (1, 1)


def test_bad_views_do_not_count_on_request():
    results = film(walk(1, 0, 4, quality=0.3), walk(2, 0, 4, quality=0.9), to_s=5)
    [window] = all_of(Audience(least_quality=0.5), results)
    assert (window.everywhere.people, window.unsure) == (1, 1)


def test_windows_begin_with_the_quarter_of_an_hour_of_the_clock():
    audience = Audience(900, clock_s=1_800_000_000 + 600.0)  # ten past
    windows = all_of(audience, [result(t, face(1, 100), index=int(t)) for t in range(0, 600, 5)])
    assert [(w.from_s, w.to_s) for w in windows] == [(-600, 300), (300, 595)]


def test_a_stretch_without_frames_has_no_window():
    times = [*range(5), *range(100, 105)]
    windows = all_of(Audience(10), [result(float(t), index=i) for i, t in enumerate(times)])
    assert [(w.from_s, w.frames) for w in windows] == [(0, 5), (100, 5)]
    assert [w.watched_s for w in windows] == [4, 4]


def test_each_face_of_single_pictures_is_a_person():
    pictures = [result(None, face(None, 100, age=10), face(None, 300, age=70), source=f"{i}.jpg") for i in range(3)]
    [window] = all_of(Audience(), pictures)
    assert (window.everywhere.people, window.frames) == (6, 3)
    assert sum(counts(window.everywhere)) == pytest.approx(6)


def test_the_window_that_goes_on_can_be_looked_at():
    audience = Audience(100)
    assert audience.so_far() is None
    for each in film(walk(1, 0, 4), to_s=4):
        audience.add(each)
    so_far = audience.so_far()
    assert so_far.everywhere.people == 1
    assert audience.end() == [so_far]


def test_of_those_who_have_left_only_the_ages_are_kept():
    """A window may be as long as a day, and hold tens of thousands of people."""
    visits = lambda: sum(isinstance(one, Visit) for one in gc.get_objects())  # noqa: E731
    audience, before = Audience(places=PLACES), visits()
    for each in film(*(walk(i + 1, 3 * i, 3 * i + 2, age=30 + i) for i in range(20)), to_s=70):
        audience.add(each)
    assert visits() <= before
    [window] = audience.end()
    assert window.everywhere.people == dict(window.zones)["left"].people == 20


@pytest.mark.parametrize("every_s", [0, -1, math.nan, math.inf])
def test_a_window_has_a_length(every_s):
    with pytest.raises(UsageError, match="above 0"):
        Audience(every_s)


def crowd(**numbers):
    """So many people of each age, all at once."""
    walks = []
    for name, number in numbers.items():
        walks += [walk(len(walks) + i + 1, 0, 2, age=float(name[1:]), std=0.1) for i in range(number)]
    return film(*walks, to_s=3)


def hidden_bands(tally):
    return [str(band.band) for band in tally.bands if band.count is None]


def test_small_numbers_are_hidden():
    [window] = all_of(Audience(least_people=5, places=PLACES), crowd(a15=6, a30=7, a40=3, a60=4))
    assert window.everywhere.people == 20
    assert not {"13-17", "25-34"} & set(hidden_bands(window.everywhere))
    assert {"35-44", "55-64", "0-12"} <= set(hidden_bands(window.everywhere))
    assert dict(window.lines)["door"] == {"left": None, "right": 20}


def test_a_single_hidden_number_is_not_the_rest_of_all_others():
    bands = Band.parse_all("0-17,18-49,50+")
    [window] = all_of(Audience(bands=bands, least_people=5), crowd(a10=2, a30=9, a60=7))
    assert hidden_bands(window.everywhere) == ["0-17", "50+"]


@given(st.lists(st.integers(0, 12), min_size=3, max_size=3), st.integers(2, 6))
def test_what_is_hidden_all_together_is_no_small_number(numbers, least):
    bands = Band.parse_all("0-17,18-49,50+")
    [window] = all_of(
        Audience(bands=bands, least_people=least),
        crowd(**dict(zip(("a10", "a30", "a60"), numbers, strict=True))),
    )
    tally = window.everywhere
    if sum(numbers) < least:
        assert tally.people is None
        assert tally.seconds is None
        assert counts(tally) == [None] * 3
        return
    hidden = sum(n for n, band in zip(numbers, tally.bands, strict=True) if band.count is None)
    shown = [n for n, band in zip(numbers, tally.bands, strict=True) if band.count is not None]
    assert all(n >= least for n in shown)
    assert hidden == 0 or hidden >= least
