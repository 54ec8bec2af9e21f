"""One record a person: when they leave, what is counted, how sure their age is."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_results import all_of, face, film, result, walk

from ageinfer.people import People, Places
from ageinfer.people.visits import FusedAge
from ageinfer.pipeline import Pipeline
from ageinfer.sources import open_source
from ageinfer.types import Age

SAMPLES = Path(__file__).parents[2] / "samples"
PLACES = Places.parse(["left=0,0;0.5,0;0.5,1;0,1"], ["door=0.5,1;0.5,0"])


def test_a_person_is_told_of_when_the_track_has_ended_and_not_before():
    people = People()
    results = film(walk(1, 0, 2), walk(2, 0, 5), to_s=6)
    left = {round(r.time_s, 1): [p.track for p in people.add(r)] for r in results}
    assert [time for time, tracks in left.items() if tracks] == [3.1]
    assert left[3.1] == [1]
    assert [p.track for p in people.end()] == [2]
    assert people.end() == []


def test_what_is_told_of_a_person():
    [person] = all_of(People(PLACES), film(walk(7, 1, 3, age=40, std=6, quality=0.9), to_s=5))
    assert (person.track, person.source, person.model) == (7, "film.mp4", "m@int8")
    assert (person.first_s, person.last_s, person.frames, person.estimates) == (1, 3, 21, 21)
    assert person.in_view_s == pytest.approx(2)
    assert person.age.age_years == pytest.approx(40, abs=0.13)
    assert person.age.std_years == pytest.approx(6)
    assert person.age.quality == pytest.approx(0.9)
    assert (person.unsure, person.largest_face_px, person.good_view_share) == (False, 100, 1)
    assert dict(person.zones_s)["left"] == pytest.approx(1, abs=0.11)
    assert [(c.line, c.to) for c in person.crossings] == [("door", "right")]
    assert person.crossings[0].time_s == pytest.approx(2, abs=0.11)


def test_time_out_of_sight_is_not_time_in_view():
    [person] = all_of(People(), film(walk(1, 0, 1), walk(1, 1.8, 3), to_s=5))
    assert (person.first_s, person.last_s) == (0, 3)
    assert person.in_view_s == pytest.approx(2.2)


def test_an_age_that_is_shown_again_is_no_further_estimate():
    steps = [result(i / 10, face(1, 100, lag_s=(i % 5) / 10)) for i in range(21)]
    [person] = all_of(People(), steps)
    assert (person.frames, person.estimates) == (21, 5)


@pytest.mark.parametrize(("count", "unsure"), [(4, True), (5, False)])
def test_few_estimates_are_marked(count, unsure):
    [person] = all_of(People(), [result(i / 10, face(1, 100)) for i in range(count)])
    assert person.unsure is unsure


def test_estimates_of_bad_views_are_left_out_on_request():
    steps = [result(i / 10, face(1, 100, age=60 if i % 2 else 30, quality=0.2 if i % 2 else 0.9)) for i in range(20)]
    [every] = all_of(People(), steps)
    [good] = all_of(People(least_quality=0.5), steps)
    assert (good.estimates, good.age.age_years) == (10, pytest.approx(30, abs=0.13))
    assert every.estimates == 20
    [nobody] = all_of(People(least_quality=0.95), steps)
    assert (nobody.age, nobody.estimates, nobody.unsure, nobody.good_view_share) == (None, 0, True, None)
    assert nobody.to_record()["age"] is None
    assert nobody.to_record()["at_least"]["18"] is None


def test_another_source_and_a_new_beginning_end_everybody():
    people = People()
    for i in range(10):
        assert people.add(result(i / 10, face(1, 100))) == []
    assert [p.track for p in people.add(result(0.0, face(1, 500)))] == [1]
    assert [p.frames for p in people.add(result(0.1, face(1, 500), source="other.mp4"))] == [1]


def test_slow_sources_keep_their_people():
    """Of a camera that gives a picture every five seconds, who is there in each is one person."""
    people = all_of(People(), [result(5.0 * i, face(1, 100), index=i) for i in range(6)])
    assert [(p.frames, p.in_view_s) for p in people] == [(6, 25)]


def test_faces_without_a_track_are_nobody():
    assert all_of(People(), [result(None, face(None, 100)), result(0.1, face(None, 100))]) == []


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.5, 30), st.floats(0.05, 1)), min_size=1, max_size=60))
def test_a_fused_age_is_among_its_estimates_and_never_surer_than_half_their_variance(estimates):
    fused = FusedAge()
    for i, (age, std, quality) in enumerate(estimates):
        fused.add(Age(age, std, quality), i / 10)
    ages, stds = [e[0] for e in estimates], [e[1] for e in estimates]
    assert min(ages) - 0.13 <= fused.age.age_years <= max(ages) + 0.13
    assert min(stds) * 0.5**0.5 - 1e-6 <= fused.age.std_years <= max(stds) + 1e-6
    assert 0 < fused.age.quality <= 1 + 1e-9


def test_what_differs_from_frame_to_frame_is_averaged_away_and_what_does_not_stays():
    rng = np.random.default_rng(0)
    still, lively, brief = FusedAge(), FusedAge(), FusedAge()
    for i in range(300):
        still.add(Age(30, 6), i / 10)
        lively.add(Age(rng.normal(30, 3), 6), i / 10)
        brief.add(Age(rng.normal(30, 3), 6), i / 3000)
    assert still.age.std_years == pytest.approx(6)
    assert lively.age.std_years == pytest.approx((36 - 9) ** 0.5, abs=0.4)
    assert brief.age.std_years == pytest.approx(6, abs=0.1)


def test_a_few_odd_estimates_do_not_move_the_age():
    fused = FusedAge()
    for i in range(50):
        fused.add(Age(70 if i % 7 == 0 else 30, 5), i / 10)
    assert fused.age.age_years == pytest.approx(30, abs=0.5)


def test_people_of_a_real_film():
    source = open_source(str(SAMPLES / "clip.mp4"))
    people = all_of(People(PLACES), (r for _, r in Pipeline.default().run(source)))
    assert [p.track for p in people] == list(range(1, 9))
    assert all(p.age.quality > 0.9 and not p.unsure for p in people)
    assert [c.to for p in people for c in p.crossings] == ["left"] * 6  # all walk to the left of the picture


def test_those_in_view_are_told_as_far_as_they_are_known():
    people = People(PLACES)
    steps = film(walk(1, 0, 2, age=30), walk(2, 1, 3, age=50), to_s=2.5)
    seen = {each.time_s: (people.add(each), [person.track for person in people.in_view()])[1] for each in steps}
    assert (seen[0.5], seen[1.5], seen[2.5]) == ([1], [1, 2], [2])
    [person] = people.in_view()
    assert (person.in_view_s, person.frames) == (pytest.approx(1.5), 16)
    assert person.age.age_years == pytest.approx(50, abs=0.3)
    people.end()
    assert people.in_view() == []
