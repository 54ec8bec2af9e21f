"""What a gate says of given answers: figures by hand, and laws that hold for all of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ageexport.gate import Gate, verdicts_of
from ageexport.gate_file import GateFile
from agetrain.datasets import Sample
from agetrain.evaluation import figures
from agetrain.evaluation.aev import wilson

BOUNDS = ("mae_years", "bias_years", "mae_ratio", "false_positive_percent")


def answers(*rows, median=40):
    """Answers to pictures, each given as sex, age, estimate (None: no face) and, optionally, who it is."""
    samples = [
        Sample(
            Path(f"{i}.jpg"), age if not isinstance(age, tuple) else age[0], subject=who[0] if who else None,
            attributes=(("sex", sex),), interval_years=age if isinstance(age, tuple) else None,
        )
        for i, (sex, age, _, *who) in enumerate(rows)
    ]  # fmt: skip
    estimates = np.array([np.nan if estimate is None else estimate for _, _, estimate, *_ in rows], float)
    return figures.answers_from(samples, estimates, estimates * 0 + 5, "real", median)


def judged(rows, **gate):
    """The verdicts by group."""
    found = verdicts_of(Gate("g", **{"groups": "sex", "least_n": 1, **gate}), answers(*rows), 50)
    return {verdict.group: verdict for verdict in found}


ROWS = [("f", 20, 23), ("f", 30, 29), ("m", 20, 28), ("m", 40, 50), ("", 10, 80)]


def test_the_mae_of_each_group_and_unknown_people_are_in_none():
    found = judged(ROWS, mae_years=5)
    assert [(v.group, v.n, v.figure, v.status) for v in found.values()] == [
        ("f", 2, 2.0, "kept"), ("m", 2, 9.0, "failed"),
    ]  # fmt: skip
    assert str(found["m"]).startswith("gate g: sex m: MAE: 9.00 years (8.00 to 10.00), at most 5 years, n 2: failed")
    assert judged(ROWS, mae_years=9)["m"].status == "kept"  # as large as the bound is not beyond it


def test_everybody_and_decades():
    assert [(v.people, v.n, v.figure) for v in judged(ROWS, groups="all", mae_years=5).values()] == [("all", 5, 18.4)]
    assert [(v.people, v.n, v.figure) for v in judged(ROWS, groups="age", mae_years=5).values()] == [
        ("age 10-19", 1, 70.0), ("age 20-29", 2, 5.5), ("age 30-39", 1, 1.0), ("age 40-49", 1, 10.0),
    ]  # fmt: skip


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bias_to_either_side(sign):
    rows = [("f", 30, 30 + sign * 6), ("f", 30, 30 + sign * 2), ("m", 30, 35), ("m", 30, 25)]
    found = judged(rows, bias_years=3)
    assert (found["f"].figure, found["f"].status) == (sign * 4, "failed")
    assert (found["m"].figure, found["m"].status) == (0, "kept")


def test_the_mae_of_a_group_over_that_of_everybody():
    found = judged(ROWS[:4], mae_ratio=1.5)
    assert found["f"].figure == round(2 / 5.5, 4)
    assert (found["m"].figure, found["m"].status) == (round(9 / 5.5, 4), "failed")
    assert found["m"].interval_95 == (round(8 / 5.5, 4), round(10 / 5.5, 4))
    assert judged([("f", 20, 20), ("m", 30, 30)], mae_ratio=1)["f"].figure == 0  # nobody has an error


def test_false_positives_are_of_the_five_years_below_the_legal_age():
    minors = [("f", age, 25) for age in (12, 12.9, 13, 15, 17.9, 18)] + [("f", 16, 24.99), ("f", 14, None)]
    found = judged(minors, false_positive_percent=50)["f"]
    assert (found.n, found.figure, found.status) == (4, 75.0, "failed")  # without a face there is no answer
    assert found.what == "false positives of 13 to 17 at cut-off 25"
    assert found.interval_95 == tuple(round(100 * end, 4) for end in wilson(3, 4))
    other = judged(minors, false_positive_percent=50, legal_years=15, cutoff_years=25.5)["f"]
    assert (other.n, other.figure) == (3, 0)  # 12, 12.9 and 13
    assert other.what == "false positives of 10 to 14 at cut-off 25.5"


def test_a_missed_face_counts_with_the_training_median():
    assert judged([("f", 30, None), ("f", 30, 34)], mae_years=1)["f"].figure == 7


def test_a_group_of_too_few_is_not_judged():
    rows = [("f", 30, 80)] * 3 + [("m", 30, 80)] * 2
    found = judged(rows, mae_years=1, least_n=3)
    assert found["f"].status == "failed"
    m = found["m"]
    assert (m.n, m.figure, m.interval_95, m.outcome) == (2, None, None, "not judged: 2 of 3")
    # Of false positives, those count that they are of.
    rows = [("f", 15, 80)] * 2 + [("f", 50, 80)] * 9
    assert judged(rows, false_positive_percent=1, least_n=3)["f"].outcome == "not judged: 2 of 3"


def test_surely_asks_that_all_of_the_interval_is_beyond():
    rows = [("f", 30, 30 + error) for error in (0, 0, 0, 0, 20)] * 3
    plain, surely = judged(rows, mae_years=3)["f"], judged(rows, mae_years=3, surely=True)["f"]
    assert plain.figure == surely.figure == 4
    assert plain.interval_95[0] < 3
    assert plain.status == "failed"
    assert surely.outcome == "kept: beyond the bound, but not surely"
    assert judged(rows, mae_years=0.1, surely=True)["f"].status == "failed"
    younger = [("f", 30, 30 - error) for error in (3, 4, 5)] * 5
    assert judged(younger, bias_years=2, surely=True)["f"].status == "failed"
    assert judged([("f", 30, 40), ("f", 30, 22)], bias_years=0, surely=True)["f"].status == "kept"


def test_pictures_of_one_person_are_resampled_together():
    alone = [("f", 15, age) for age in (20, 20, 20, 30)] * 10
    one = [("f", 15, age, f"person {i % 4}") for i, (_, _, age) in enumerate(alone)]
    few, many = (judged(rows, false_positive_percent=50)["f"].interval_95 for rows in (one, alone))
    assert few[1] - few[0] > many[1] - many[0]


def file_of(*gates):
    return GateFile(Path("dir/gates.toml"), "0" * 64, gates)


def test_ages_that_are_only_known_as_intervals_are_left_out():
    rows = [("f", 30, 34), ("f", (20, 29), 90), ("m", (20, 29), 90)]
    found = file_of(Gate("a", "sex", mae_years=5, least_n=1)).judge(answers(*rows), 50)
    assert [(v.group, v.n, v.figure) for v in found.verdicts] == [("f", 1, 4.0)]
    none = file_of(Gate("a", "sex", mae_years=5), Gate("b", "all", mae_years=5)).judge(answers(*rows[1:]), 50)
    assert [v.outcome for v in none.verdicts] == ["not judged: 0 of 30"] * 2
    assert none.unjudged == ("a", "b")


def test_what_is_said_of_a_file():
    gates = Gate("a", "sex", mae_years=5, bias_years=5, least_n=2), Gate("b", "all", mae_years=5, least_n=9)
    found = file_of(*gates).judge(answers(*ROWS, ("x", 20, 20)), 50)
    assert (found.file, found.sha256) == ("gates.toml", "0" * 64)
    assert [(v.group, v.key) for v in found.failed] == [("m", "mae_years"), ("m", "bias_years")]
    assert found.unjudged == ("b",)
    assert str(found) == "gates.toml: 2 kept, 2 failed, 3 not judged"


def test_figure_and_interval_are_those_of_the_evaluation():
    random = np.random.default_rng(0)
    rows = [(("f", "m")[i % 2], age, age + error) for i, (age, error) in enumerate(random.normal(40, 9, (80, 2)))]
    given = answers(*rows)
    by_sex = figures.evaluate(given, resamples=100)["by_attribute"]["sex"]
    for key, name in (("mae_years", "mae"), ("bias_years", "bias")):
        for verdict in verdicts_of(Gate("g", "sex", **{key: 5}), given, 100):
            assert verdict.figure == by_sex[verdict.group][name]
            if key == "mae_years":
                assert list(verdict.interval_95) == by_sex[verdict.group]["mae_interval_95"]


def test_an_attribute_without_any_value_is_not_judged_either():
    assert [(v.people, v.outcome) for v in judged([("", 30, 31)], mae_years=5).values()] == [
        ("sex", "not judged: 0 of 1")
    ]


PEOPLE = st.lists(
    st.tuples(
        st.sampled_from(["f", "m", ""]), st.integers(0, 99), st.one_of(st.none(), st.floats(0, 100)),
        st.sampled_from(["anna", "ben", "cleo", "dora"]),
    ),
    min_size=1, max_size=25,
)  # fmt: skip
YEARS = st.floats(0, 100)


@given(PEOPLE, st.sampled_from(BOUNDS), YEARS, YEARS, st.integers(1, 6), st.booleans())
def test_a_looser_bound_never_fails_what_a_tighter_one_let_pass(rows, key, one, other, least_n, surely):
    tight, loose = sorted((one, other))
    gate = Gate("g", "sex", least_n=least_n, surely=surely, **{key: tight})
    given = answers(*rows)
    for before, after in zip(
        verdicts_of(gate, given, 5), verdicts_of(replace(gate, **{key: loose}), given, 5), strict=True
    ):
        assert (before.group, before.n, before.figure) == (after.group, after.n, after.figure)
        assert (before.status == "not judged") == (after.status == "not judged") == (before.n < least_n)
        assert not (before.status != "failed" and after.status == "failed")


@given(PEOPLE, st.sampled_from(BOUNDS), YEARS, st.integers(1, 6))
def test_surely_fails_nobody_who_does_not_fail_anyhow(rows, key, bound, least_n):
    gate = Gate("g", "sex", least_n=least_n, **{key: bound})
    given = answers(*rows)
    plain, surely = (tuple(verdicts_of(replace(gate, surely=s), given, 5)) for s in (False, True))
    assert {v.group for v in surely if v.status == "failed"} <= {v.group for v in plain if v.status == "failed"}


@given(PEOPLE, st.integers(5, 60), st.integers(0, 30))
def test_people_and_false_positives_are_counted_exactly(rows, legal, above):
    gate = Gate("g", "sex", false_positive_percent=100, legal_years=legal, cutoff_years=legal + above, least_n=1)
    for verdict in verdicts_of(gate, answers(*rows), 5):
        minors = [
            answer for sex, age, answer, _ in rows
            if verdict.group and sex == verdict.group and legal - 5 <= age < legal and answer is not None
        ]  # fmt: skip
        assert verdict.n == len(minors)
        if minors:
            hits = sum(answer >= legal + above for answer in minors)
            assert verdict.figure == pytest.approx(100 * hits / len(minors), abs=1e-3)
    for verdict in verdicts_of(Gate("g", "sex", mae_years=1, least_n=1), answers(*rows), 5):
        assert verdict.n == sum(sex == verdict.group != "" for sex, *_ in rows)
