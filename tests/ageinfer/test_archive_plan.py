"""Every item is in one shard, shards have bounded sizes, and a change of one file leaves nearly all others alone."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ageinfer.archive import plan as planning
from ageinfer.archive.items import Item
from ageinfer.archive.plan import BYTES, Plan, groups_of, write_plan
from ageinfer.archive.store import Store
from ageinfer.errors import SourceError


def item(name, size=1000, stamp=1):
    return Item(f"/pictures/{name}.jpg", size, stamp, "picture")


ITEMS = [item(f"{n:05d}") for n in range(3000)]
names = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), unique=True, max_size=200)


@given(names, st.integers(1, 20))
def test_every_item_is_in_one_shard_in_its_order_and_shards_have_bounded_sizes(names, per_shard):
    items = [item(name) for name in names]
    groups = list(groups_of(items, per_shard))
    assert [each for group in groups for each in group] == items
    assert all(1 <= len(group) <= 2 * per_shard for group in groups)
    assert all(len(group) >= per_shard // 2 for group in groups[:-1])


def test_shards_have_the_size_that_was_asked_for_on_average():
    assert 3000 / len(list(groups_of(ITEMS, 32))) == pytest.approx(32, rel=0.15)


@given(st.sets(st.integers(0, 2999), min_size=1, max_size=3), st.booleans())
def test_a_file_more_or_less_changes_the_shards_near_it_alone(places, more):
    before = {tuple(group) for group in groups_of(ITEMS, 32)}
    changed = []
    for number, each in enumerate(ITEMS):
        if number not in places:
            changed.append(each)
        elif more:
            changed += [each, item(f"{number:05d}-new")]
    after = {tuple(group) for group in groups_of(changed, 32)}
    assert len(after - before) <= 8 * len(places)


def test_large_files_end_a_shard():
    items = [item(str(n), BYTES // 3) for n in range(10)]
    assert [len(group) for group in groups_of(items, 200)] == [4, 4, 2]


def test_films_are_in_small_shards_which_stay_when_one_comes_or_goes():
    films = [Item(f"/films/{n:04d}.mp4", 10**6, 1, "film") for n in range(800)]
    before = list(groups_of(films))
    assert 800 / len(before) == pytest.approx(3, rel=0.2)
    assert max(map(len, before)) == 8
    after = list(groups_of(films[:100] + films[101:]))
    assert sum(group not in before for group in after) <= 6


def test_a_plan_is_read_as_it_was_written_one_shard_at_a_time(tmp_path):
    items = [*ITEMS[:50], Item(os.fsdecode(b"/\xff.mp4"), -1, 0, "film"), Item("s3://b/x.tar?region=z", 7, 8, "tar")]
    plan = write_plan(Store(str(tmp_path)), items, {"a": 1}, 8)
    again = Plan(Store(str(tmp_path)))
    assert again.shards == plan.shards
    assert [each for shard in again.shards for each in again.items(shard.number)] == items
    assert sum(shard.films for shard in again.shards) == sum(shard.tars for shard in again.shards) == 1
    assert [shard.number for shard in again.shards] == list(range(len(again.shards)))


def test_shards_keep_their_numbers_and_changed_ones_get_new_names(tmp_path):
    store = Store(str(tmp_path))
    first = write_plan(store, ITEMS, {}, 32)
    touched = [item("01500", stamp=2) if each.path == item("01500").path else each for each in ITEMS]
    second = write_plan(store, touched, {}, 32, first)
    ours, theirs = {s.hash: s for s in first.shards}, {s.hash: s for s in second.shards}
    [new] = theirs.keys() - ours.keys()
    assert theirs[new].number == len(first.shards)
    assert all(theirs[key].part == ours[key].part for key in ours.keys() & theirs.keys())
    assert len(ours.keys() & theirs.keys()) == len(first.shards) - 1


@pytest.mark.parametrize("change", [{"size": 1001}, {"stamp": 2}])
def test_size_and_time_of_a_file_change_its_shard_and_so_do_the_answers(tmp_path, change):
    def hashes(name, items, answers):
        return [s.hash for s in write_plan(Store(str(tmp_path / name)), items, answers, 8).shards]

    before = hashes("a", ITEMS[:20], {"model": 1})
    assert hashes("b", ITEMS[:20], {"model": 1}) == before
    assert set(hashes("c", ITEMS[:20], {"model": 2})).isdisjoint(before)
    changed = hashes("d", [*ITEMS[:19], item("00019", **change)], {"model": 1})
    assert changed[:-1] == before[:-1]
    assert changed[-1] != before[-1]


def test_no_item_is_no_plan_and_a_broken_one_is_told(tmp_path):
    store = Store(str(tmp_path))
    with pytest.raises(SourceError, match="no picture"):
        write_plan(store, [], {})
    assert store.names() == []
    with pytest.raises(SourceError, match="no archive"):
        Plan(store)
    (tmp_path / planning.PLAN).write_bytes(b"PAR1 and nothing else")
    with pytest.raises(SourceError, match="broken"):
        Plan(store)
