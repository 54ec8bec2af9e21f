"""Zones and lines: how they are written, who is in, who crosses."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ageinfer.errors import UsageError
from ageinfer.people.places import Line, Path, Places, Zone

SIZE = (1000, 500)
UPWARDS = Line("door", ((0.5, 1.0), (0.5, 0.0)))  # whose right is that of the picture
fractions = st.integers(0, 10_000).map(lambda n: n / 10_000)


def at(x, y=250.0, side=100.0):
    return (x - side / 2, y - side / 2, side, side)


def crossings(line, *places, side=100.0):
    path = Path()
    return [c.to for i, p in enumerate(places) for c in path.crossed(at(*p, side=side), SIZE, [line], float(i))]


@pytest.mark.parametrize(
    "text",
    [
        "door", "door=", "=0,0;1,0;1,1", "door=0,0;1,1", "door=0,0;1,0;x,1", "door=0,0;1.1,0;1,1", "door=0,0;nan,0;1,1",
        "door=0,0;0.5,0.5;1,1", "a\nb=0,0;1,0;1,1", " door=0,0;1,0;1,1", "d=" + ";".join(["0,0"] * 65),
        "d" * 41 + "=0,0;1,0;1,1", "door=0,0,0;1,0;1,1", "<b>=0,0;1,0;1,1",
    ],
)  # fmt: skip
def test_what_is_no_zone_is_refused_with_the_form_of_one(text):
    with pytest.raises(UsageError, match=r"--zone .*(NAME=x,y;x,y;x,y|enclose nothing)"):
        Zone.parse(text)


@pytest.mark.parametrize("text", ["door", "door=0,0", "door=0,0;0,0", "door=0,0;1,0;1,1", "door=0,0;-0.1,0"])
def test_what_is_no_line_is_refused(text):
    with pytest.raises(UsageError, match="--line"):
        Line.parse(text)


@given(st.lists(st.tuples(fractions, fractions), min_size=2, max_size=2, unique=True))
def test_a_line_reads_what_it_writes(ends):
    line = Line("Tür 1", tuple((round(x, 4), round(y, 4)) for x, y in ends))
    assert Line.parse(str(line)) == line


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.05, 0.5), st.integers(3, 20), st.floats(0, 6))
def test_a_zone_holds_what_is_in_its_circle_and_not_what_is_out_of_it(x, y, radius, corners, turn):
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    zone = Zone("z", tuple((0.5 + radius * math.cos(a), 0.5 + radius * math.sin(a)) for a in angles))
    distance = math.hypot(x - 0.5, y - 0.5)
    if distance > radius:
        assert not zone.holds((x, y))
    if distance < radius * math.cos(math.pi / corners) * 0.999:
        assert zone.holds((x, y))


def test_a_zone_with_a_bay_does_not_hold_the_bay():
    zone = Zone.parse("u=0,0;0.3,0;0.3,0.7;0.7,0.7;0.7,0;1,0;1,1;0,1")
    assert zone.holds((0.1, 0.5))
    assert zone.holds((0.5, 0.9))
    assert not zone.holds((0.5, 0.5))


def test_a_face_is_where_its_centre_is():
    places = Places.parse(["left=0,0;0.5,0;0.5,1;0,1", "top=0,0;1,0;1,0.5;0,0.5"])
    assert places.zones_at(at(499, 100), SIZE) == ["left", "top"]
    assert places.zones_at(at(501, 300), SIZE) == []


@pytest.mark.parametrize("places", [([], ["a=0,0;1,1", "a=0,1;1,0"]), (["a=0,0;1,0;1,1"], ["a=0,1;1,0"])])
def test_names_are_given_once(places):
    with pytest.raises(UsageError, match="two places have the name a"):
        Places.parse(*places)


def test_there_may_be_so_many_places_and_no_more():
    texts = [f"l{i}=0,0;1,1" for i in range(33)]
    assert len(Places.parse(lines=texts[:32]).lines) == 32
    with pytest.raises(UsageError, match="33 zones and lines"):
        Places.parse(lines=texts)


def test_a_zone_may_have_so_many_corners():
    assert len(Zone.parse("d=" + ";".join(f"{i / 64},{(i / 64) ** 2}" for i in range(64))).corners) == 64


def test_left_and_right_are_those_of_somebody_who_looks_along_the_line():
    assert crossings(UPWARDS, (400,), (600,)) == ["right"]
    assert crossings(UPWARDS, (600,), (400,)) == ["left"]
    across = Line("l", ((0.0, 0.5), (1.0, 0.5)))  # looks to the right of the picture: its right is below
    assert crossings(across, (500, 100), (500, 400)) == ["right"]


def test_a_face_that_trembles_on_the_line_crosses_nothing():
    assert crossings(UPWARDS, (400,), (495,), (508,), (494,), (509,), (400,)) == []


def test_a_face_that_crosses_slowly_crosses_once():
    assert crossings(UPWARDS, *((x,) for x in range(400, 601, 3))) == ["right"]


def test_who_passes_beside_the_line_does_not_cross_it():
    short = Line("l", ((0.5, 1.0), (0.5, 0.6)))
    assert crossings(short, (400, 100), (600, 100)) == []
    assert crossings(short, (400, 100), (600, 100), (600, 400), (400, 400)) == ["left"]


def test_there_and_back_are_two_crossings():
    assert crossings(UPWARDS, (400,), (600,), (400,)) == ["right", "left"]


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=30), st.integers(10, 200))
def test_crossings_take_turns_and_end_on_the_side_where_the_face_is(xs, side):
    found = crossings(UPWARDS, *((x,) for x in xs), side=side)
    assert all(a != b for a, b in itertools.pairwise(found))
    clear = [x for x in xs if abs(x - 500) >= 0.1 * side]
    if found:
        assert found[-1] == ("right" if clear[-1] > 500 else "left")
    elif clear:
        assert (clear[0] > 500) == (clear[-1] > 500)
