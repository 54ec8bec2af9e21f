"""The figures of age verification, counted again by other code, and on people whose errors are known."""

import csv
import json
import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from aev_by_hand import main as by_hand
from hypothesis import given
from hypothesis import strategies as st

from agetrain.evaluate import main
from agetrain.evaluation import aev, aev_report
from agetrain.evaluation.aev_document import document
from agetrain.evaluation.rows import Row, write_rows


def row(age, answer, i=0, *, found=True, subject="", **groups):
    return Row(
        "m.onnx", "faces", "valid", f"{i}.jpg", subject, age, None, None, round(answer, 4), 5.0 if found else None,
        answer - age, found, tuple(groups.items()),
    )  # fmt: skip


def as_document(record):
    """The document of a record that was measured on nothing."""
    about = {"model_sha256": "0" * 64, "label": "real", "split": "made", "split_sha256": "1" * 64,
             "detector": "yunet", "seen_in_training": "other data"}  # fmt: skip
    return document([about | record])


def population(n=6000, deviation=4.0, bias=0.0, seed=0, missed=0.02):
    """People of 5 to 60 years whose answers have a normal error; women are answered as 2 years older."""
    random = np.random.default_rng(seed)
    ages = random.uniform(5, 60, n)
    women = random.random(n) < 0.5
    answers = np.clip(ages + random.normal(bias, deviation, n) + 2 * women, 0, 100)
    found = random.random(n) >= missed
    return [
        row(float(age), float(answer), i, found=bool(f), sex="female" if woman else "male")
        for i, (age, answer, f, woman) in enumerate(zip(ages, answers, found, women, strict=True))
    ]


@pytest.fixture(scope="module")
def rows():
    return population()


@pytest.fixture(scope="module")
def record(rows):
    return aev.report(rows)


def expected_false_positive(cutoff, bias=0.0, deviation=4.0):
    """Of people evenly spread over 13 to 17, half of whom are answered as 2 years older."""
    ages = np.linspace(13, 18, 501)[:-1]
    chances = [1 - NormalDist(bias + shift, deviation).cdf(cutoff - age) for age in ages for shift in (0, 2)]
    return 100 * float(np.mean(chances))


@pytest.mark.parametrize("cutoff", aev.CUTOFFS_YEARS)
def test_a_known_error_gives_its_false_positives(record, cutoff):
    found = record["cutoffs"][str(cutoff)]["false_positive"]["minors"]
    low, high = found["interval_95"]
    assert low - 1 <= expected_false_positive(cutoff) <= high + 1
    assert low <= found["percent"] <= high


def test_other_code_counts_the_same(rows, record, tmp_path):
    write_rows(tmp_path / "rows.csv", rows)
    [counted] = by_hand(tmp_path / "rows.csv").values()

    def told(figures):
        return None if "percent" not in figures else [figures["percent"], *figures["interval_95"]]

    assert (record["n"], told(record["no_answer"]["all"])) == (counted["n"], counted["no_answer"])
    for years, at in record["cutoffs"].items():
        again = counted["cutoffs"][years]
        positive, negative = at["false_positive"], at["false_negative"]
        assert told(positive["minors"]) == again["minors"]
        assert told(negative["adults"]) == again["adults"]
        for age, figures in {**positive["by_age"], **negative["by_age"]}.items():
            assert told(figures) == again[age]
        for sex in ("female", "male"):
            assert told(positive["groups"]["sex"][sex]) == again[sex]
    for percent, at in record["at_false_positive_percent"].items():
        assert [at["cutoff_years"], told(at["false_negative"])] == counted["at"][percent]


def test_a_face_that_is_not_found_is_no_adult():
    people = population(missed=0.0)
    unseen = [row(15.0, 40.0, i, found=False) for i in range(500)]
    without, together = aev.report(people), aev.report(people + unseen)
    for years, at in without["cutoffs"].items():
        again = together["cutoffs"][years]
        assert again["false_positive"]["minors"] == at["false_positive"]["minors"]
        assert again["false_negative"] == at["false_negative"]
    assert together["no_answer"]["minors"]["hits"] == 500
    assert without["no_answer"]["all"]["hits"] == 0


def test_people_with_an_interval_of_ages_are_left_out(rows):
    interval = Row("m.onnx", "faces", "valid", "i.jpg", "", None, 15, 25, 30.0, 5.0, 5.0, True, ())
    assert aev.report([*rows, interval])["n"] == len(rows)


def test_few_people_are_marked_and_have_no_rate():
    record = aev.report([row(15.0, 20.0, i) for i in range(19)] + [row(25.0, 26.0, i) for i in range(30)])
    minors = record["cutoffs"]["18"]["false_positive"]["minors"]
    assert minors == {"n": 19, "hits": 19, "too_few": True}
    assert record["at_false_positive_percent"]["5"] == {"cutoff_years": None, "n": 19, "too_few": True}
    assert "too few (19)" in aev_report.markdown(as_document(record))


def test_pictures_of_one_person_do_not_make_the_interval_narrow():
    alone = [row(15.0, 17.0 + 3 * (i % 2), i, subject=str(i)) for i in range(200)]
    often = [row(15.0, 17.0 + 3 * (i % 2), i, subject=str(i % 4)) for i in range(200)]
    widths = []
    for people in (alone, often):
        low, high = aev.report(people)["cutoffs"]["18"]["false_positive"]["minors"]["interval_95"]
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_spread_says_how_groups_differ(record):
    at = record["cutoffs"]["21"]["false_positive"]
    rates = [figures["percent"] for figures in at["groups"]["sex"].values()]
    assert at["spread"]["sex"]["ratio"] == pytest.approx(min(rates) / max(rates), abs=1e-4)
    assert at["spread"]["sex"]["gini"] == pytest.approx((max(rates) - min(rates)) / sum(rates), abs=1e-4)
    assert at["groups"]["sex"]["female"]["percent"] > at["groups"]["sex"]["male"]["percent"]
    assert "age" not in at["spread"]
    assert set(at["groups"]["sex at 16-17"]) == {"female", "male"}


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_holds_the_share_and_stays_within_0_and_1(hits, n):
    hits = min(hits, n)
    low, high = aev.wilson(hits, n)
    assert 0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1
    mirrored = aev.wilson(n - hits, n)
    assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=9))
def test_gini_is_0_where_all_are_alike_and_at_most_1(rates):
    assert -1e-9 <= aev.gini(rates) <= 1 + 1e-9
    assert aev.gini([rates[0]] * len(rates)) == pytest.approx(0, abs=1e-9)
    assert aev.gini(rates) == pytest.approx(aev.gini([3 * rate for rate in rates]))


@given(st.lists(st.tuples(st.floats(13, 30.9), st.floats(0, 90)), min_size=45, max_size=80))
def test_a_higher_cut_off_never_lets_more_minors_pass(people):
    record = aev.report([row(age, answer, i) for i, (age, answer) in enumerate(people)], resamples=10)
    hits = [at["false_positive"]["minors"]["hits"] for at in record["cutoffs"].values()]
    assert hits == sorted(hits, reverse=True)
    positives, negatives = ([point[i] for point in record["curve"]] for i in (1, 2))
    assert positives == sorted(positives, reverse=True)
    assert negatives == sorted(negatives)
    for percent, at in record["at_false_positive_percent"].items():
        if at["cutoff_years"] is not None:
            assert at["false_positive"]["percent"] <= float(percent)


def test_small_and_turned_faces_are_groups_of_their_own():
    people = [
        replace(row(15.0, 17.0 + 10 * (i % 2), i), view=(("size_px", 40.0 if i % 2 else 100.0), ("yaw", 0.2 * (i % 2))))
        for i in range(200)
    ]
    at = aev.report(people)["cutoffs"]["21"]["false_positive"]
    assert {name: figures["percent"] for name, figures in at["groups"]["face, px"].items()} == {
        "below 48": 100, "96 to 192": 0,
    }  # fmt: skip
    assert {name: figures["n"] for name, figures in at["groups"]["turn to the side"].items()} == {
        "below 0.1": 100, "from 0.2": 100,
    }  # fmt: skip
    assert "quality" not in at["groups"]


def test_the_report_has_json_text_a_page_and_a_plot(record, tmp_path):
    aev_report.save(tmp_path, as_document(record))
    assert json.loads((tmp_path / "aev.json").read_text())["aev"][0]["n"] == record["n"]
    text = (tmp_path / "aev.md").read_text()
    at = record["cutoffs"]["25"]["false_positive"]["minors"]
    assert f"| 25 | {at['percent']:.1f} (" in text
    assert "do not verify anybody's age" in text
    page = (tmp_path / "aev.html").read_text()
    assert page.count("<table>") == 7
    assert "http" not in page.replace("data:image/png", "")
    assert (tmp_path / "aev.png").read_bytes().startswith(b"\x89PNG")
    assert not any(math.isnan(value) for point in record["curve"] for value in point)


def test_names_of_groups_cannot_break_the_page(tmp_path):
    people = [row(15.0, 20.0, i, sex="<b>|x") for i in range(30)] + [row(25.0, 20.0, i, sex="male") for i in range(30)]
    aev_report.save(tmp_path, as_document(aev.report(people)))
    assert "<b>" not in (tmp_path / "aev.html").read_text()
    assert "\\|x" in (tmp_path / "aev.md").read_text()


def test_the_command_writes_it_beside_the_evaluation(appa_real, tmp_path, capsys):
    arguments = ["models/age-small.onnx", "--dataset", f"appa-real={appa_real}", "--resamples", "50"]
    assert main([*arguments, "--out", str(tmp_path), "--report", "aev"]) == 0
    [record] = json.loads((tmp_path / "aev.json").read_text())["aev"]
    assert (record["model"], record["dataset"], record["n"]) == ("age-small.onnx", "appa-real", 8)
    assert set(record["no_answer"]["groups"]) >= {"age", "face, px", "sharpness", "quality"}
    with (tmp_path / "rows.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert all(0 < float(r["face_quality"]) <= 1 and float(r["face_size_px"]) > 20 for r in rows)
    assert "aev.html" in capsys.readouterr().out
    assert main([*arguments, "--report", "aev"]) == 2
    assert "--report writes into a folder; name it with --out DIR" in capsys.readouterr().err
