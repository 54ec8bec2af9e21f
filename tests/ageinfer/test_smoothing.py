import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ageinfer.tracking.age import AgeFusion
from ageinfer.types import Age


def fused(ages, *, std=6.0, fps=25.0, fusion=None, start_s=0.0):
    fusion = fusion or AgeFusion()
    return np.array([fusion.add(Age(float(age), std), start_s + i / fps) for i, age in enumerate(ages)])


def noisy(mean, seconds, *, spread=3.0, correlation_s=0.4, seed=0, fps=25):
    """Ages as single frames give them: their errors go on for a while."""
    random = np.random.default_rng(seed)
    keep = np.exp(-1 / (fps * correlation_s))
    errors, error = [], random.normal(0, spread)
    for _ in range(int(seconds * fps)):
        error = keep * error + random.normal(0, spread * (1 - keep**2) ** 0.5)
        errors.append(mean + error)
    return np.array(errors)


def test_the_first_frame_is_answered_at_once():
    assert AgeFusion().add(Age(41.0, 5.0), 7.0) == pytest.approx(41, abs=0.2)


@pytest.mark.parametrize("seed", range(5))
def test_the_age_settles_and_stays(seed):
    ages = noisy(35, 30, seed=seed)
    shown = fused(ages)
    settled = shown[50:]
    assert settled.max() - settled.min() < 1.5 < ages.max() - ages.min()
    assert abs(shown[-1] - np.median(ages)) < 2.2
    assert (np.diff(settled) == 0).mean() > 0.9  # it stands still, not only nearly


def test_grimaces_do_not_move_it():
    ages = np.full(250, 30.0)
    ages[::3] = 75
    assert fused(ages)[-1] == pytest.approx(30, abs=0.2)


def test_a_frame_that_the_model_is_sure_of_counts_more():
    fusion = AgeFusion()
    for i in range(40):
        sure = i % 2 == 0
        shown = fusion.add(Age(30.0 if sure else 34.0, 2.0 if sure else 20.0), i / 25)
    assert 30 < shown < 30.6


@pytest.mark.parametrize(("before", "after"), [(25, 60), (70, 32), (50, 35)])
@pytest.mark.parametrize("seed", range(3))
def test_another_person_in_the_same_place_is_seen_within_two_seconds(before, after, seed):
    fusion = AgeFusion()
    fused(noisy(before, 20, seed=seed), fusion=fusion)
    shown = fused(noisy(after, 2, seed=seed + 10), fusion=fusion, start_s=20.0)
    assert abs(shown[-1] - after) < 5


def test_a_grimace_of_half_a_second_is_not_another_person():
    fusion = AgeFusion()
    fused(np.full(250, 30.0), fusion=fusion)
    shown = fused(np.full(13, 60.0), fusion=fusion, start_s=10.0)
    assert shown[-1] == pytest.approx(30, abs=0.5)


def test_the_frame_rate_does_not_matter():
    for fps in (3.0, 10.0, 60.0):
        ages = noisy(45, 20, fps=int(fps), seed=3)
        assert abs(fused(ages, fps=fps)[-1] - np.median(ages)) < 2.2


def test_the_memory_does_not_grow_and_forgets():
    fusion = AgeFusion()
    fused(np.full(5000, 30.0), fusion=fusion)
    held = sum(len(v) for v in vars(fusion).values() if hasattr(v, "__len__"))
    fused(np.full(5000, 35.0), fusion=fusion, start_s=200.0)  # not far enough for another person
    assert sum(len(v) for v in vars(fusion).values() if hasattr(v, "__len__")) == held
    assert fusion.add(Age(35.0, 6.0), 400.0) > 32.5


@given(st.lists(st.tuples(st.floats(0, 120), st.floats(0.01, 40), st.floats(0, 3)), min_size=1, max_size=60))
def test_it_is_always_within_what_was_seen(frames):
    fusion, time_s = AgeFusion(), 0.0
    ages = [age for age, _, _ in frames]
    for age, std, gap in frames:
        time_s += gap
        shown = fusion.add(Age(age, std), time_s)
        assert min(ages) - 0.25 <= shown <= max(ages) + 0.25
