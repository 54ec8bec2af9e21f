"""Every figure of an evaluation against a computation of its own, on few numbers or by simulation."""

import json
import math
import statistics

import cv2
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from agetrain.evaluation import report
from agetrain.evaluation.bootstrap import Bootstrap
from agetrain.evaluation.comparing import over_seeds
from agetrain.evaluation.figures import (
    Answers,
    decades,
    epsilon_error,
    evaluate,
    slope,
)

NAN = float("nan")


def answered(labels, estimates, *, label="real", train_median=34.0, subjects=None, attributes=None, **arrays):
    """`Answers` from lists; what is not given is not known."""
    n = len(labels)
    names = ("label_stds", "others", "other_stds", "lows", "highs")
    values = {name: np.array(arrays.get(name, [NAN] * n), float) for name in names}
    values["stds"] = np.array(arrays.get("stds", [4.0] * n), float)
    return Answers(
        labels=np.array(labels, float), estimates=np.array(estimates, float), label=label, train_median=train_median,
        subjects=np.array(subjects or [f"picture {i}" for i in range(n)]),
        attributes={k: np.array(v) for k, v in (attributes or {}).items()}, **values,
    )  # fmt: skip


def figures(*args, resamples=50, **kwargs):
    return evaluate(answered(*args, **kwargs), resamples=resamples)


# Errors


def test_a_picture_without_a_face_is_answered_with_the_training_median_and_counts():
    f = figures([20, 30, 40], [22, NAN, 37], train_median=34)
    assert f["n"] == 3
    assert f["mae"] == pytest.approx((2 + 4 + 3) / 3)
    assert f["mae_found"] == pytest.approx(2.5)
    assert f["rmse"] == pytest.approx(math.sqrt((4 + 16 + 9) / 3), abs=1e-4)
    assert f["bias"] == pytest.approx((2 + 4 - 3) / 3)
    assert f["slope"] == pytest.approx(15 / 20)
    assert f["median_error"] == 3
    assert f["detection_rate_percent"] == pytest.approx(200 / 3, abs=1e-4)
    assert f["mae_of_train_median"] == pytest.approx((14 + 4 + 6) / 3)
    # Its decade is that of the answer.
    assert f["by_predicted_decade"] == {"20-29": {"n": 1}, "30-39": {"n": 2}}


def test_the_cumulative_score_counts_errors_of_at_most_so_many_years():
    f = figures([30] * 8, [30, 30.5, 29, 35, 25, 24.9, 45, 45.1])
    expected = {0: 1, 1: 3, 2: 3, 3: 3, 4: 3, 5: 5, 6: 6, 14: 6, 15: 7}
    assert list(f["cs_curve_percent"]) == [str(k) for k in range(16)]
    assert {k: f["cs_curve_percent"][str(k)] for k in expected} == {k: 12.5 * n for k, n in expected.items()}
    assert f["cs5_percent"] == f["cs_curve_percent"]["5"]


YEARS = st.floats(0, 100).map(lambda v: round(v, 1))


@given(st.lists(st.tuples(YEARS, YEARS), min_size=2, max_size=20))
def test_the_slope_is_that_of_least_squares(pairs):
    labels, answers = np.array(pairs).T
    if labels.std() < 1:
        labels[0] += 10
    if labels.std() > 0:
        expected = scipy.stats.linregress(labels, answers).slope
        assert slope(labels, answers) == pytest.approx(expected, abs=1e-3)


def test_there_is_no_slope_over_one_age():
    assert slope(np.array([30.0, 30.0]), np.array([20.0, 40.0])) is None
    assert "- |" in report.markdown([record([30.0] * 3, [20.0, 30.0, 40.0])])


def test_the_epsilon_error_is_that_of_the_challenge():
    errors, stds = [0, 5, -3, 12, 0.05], [3, 5, 2, 4, 0]
    expected = [1 - math.exp(-(e**2) / (2 * s**2)) for e, s in zip(errors[:4], stds[:4], strict=True)]
    expected.append(1 - math.exp(-(0.05**2) / (2 * 0.1**2)))
    found = epsilon_error(np.array(errors, float), np.array(stds, float))
    assert found == pytest.approx(statistics.mean(expected), abs=1e-4)


def test_the_epsilon_error_needs_the_deviation_of_every_label():
    def has_one(stds):
        return "epsilon_error" in figures([20, 30], [25, 25], label="apparent", label_stds=stds)

    assert has_one([3, 0])
    assert not has_one([3, NAN])
    assert not has_one([0, 0])


# Baselines


def test_constant_answers_as_baselines():
    b = figures([10, 20, 60], [1, 2, 3], train_median=30)["baselines"]
    assert b == {
        "train_median": pytest.approx((20 + 10 + 30) / 3),
        "own_median": pytest.approx((10 + 0 + 40) / 3, abs=1e-4),
    }


def test_a_single_rater_is_estimated_as_a_normal_answer_would_be():
    """By drawing a hundred thousand answers for each picture."""
    random = np.random.default_rng(0)
    labels, means, stds = np.array([20.0, 30, 40, 8]), np.array([23.0, 22, 40, 9]), np.array([3.0, 8, 5, 0.01])
    b = figures(labels, labels, others=means, other_stds=stds)["baselines"]
    drawn = np.abs(random.normal(means, stds, (100_000, 4)) - labels).mean()
    assert b["single_rater_estimate"] == pytest.approx(drawn, abs=0.03)
    assert b["crowd_mean"] == pytest.approx((3 + 8 + 0 + 1) / 4)
    assert b["single_rater_estimate"] > b["crowd_mean"]


def test_a_rater_who_never_varies_is_off_by_the_mean_error():
    b = figures([20, 30], [1, 2], others=[23, 25], other_stds=[0, 0])["baselines"]
    assert b["single_rater_estimate"] == b["crowd_mean"] == 4


def test_a_single_rater_beside_the_apparent_age():
    b = figures([20, 30], [1, 2], label="apparent", label_stds=[4, 6], others=[25, 25])["baselines"]
    assert b["single_rater_estimate"] == pytest.approx(5 * math.sqrt(2 / math.pi), abs=1e-4)
    assert "crowd_mean" not in b


def test_raters_are_left_out_where_they_were_not_asked_of_every_picture():
    assert set(figures([20, 30], [1, 2], others=[23, NAN], other_stds=[1, 1])["baselines"]) == {
        "train_median",
        "own_median",
    }
    assert "single_rater_estimate" not in figures([20, 30], [1, 2], others=[23, 24], other_stds=[1, NAN])["baselines"]


# Uncertainty, thresholds


def test_coverage_counts_found_faces_alone():
    u = figures([30] * 5, [32, 27, 34.1, 30, NAN], stds=[2, 1.5, 4, 1, NAN])["uncertainty"]
    # Errors in deviations: 1, 2, 1.025, 0.
    assert u == {"within_1_std_percent": 50, "within_2_std_percent": 100, "mean_std": 8.5 / 4}


def test_coverage_of_a_normal_error_is_that_of_the_books():
    random = np.random.default_rng(0)
    stds = random.uniform(2, 8, 20_000)
    u = figures(np.full(20_000, 40.0), 40 + random.normal(0, stds), stds=stds, resamples=2)["uncertainty"]
    assert u["within_1_std_percent"] == pytest.approx(68.3, abs=1)
    assert u["within_2_std_percent"] == pytest.approx(95.4, abs=0.6)


def test_there_is_no_coverage_without_faces_or_deviations():
    assert figures([30, 40], [NAN, NAN])["uncertainty"] == {}
    assert figures([30, 40], [30, 40], stds=[2, NAN])["uncertainty"] == {}


def test_who_is_put_on_the_wrong_side_of_an_age():
    t = figures([10, 17.9, 17, 18, 30], [18, 12, 17.9, 17.9, 40])["thresholds"]
    assert t["18"] == {
        "younger": 3, "older": 2, "false_adult_percent": pytest.approx(33.33), "false_minor_percent": 50,
    }  # fmt: skip
    # Of the four below 21 and 25 nobody is answered as that old; the one who is older is answered so.
    assert t["21"] == t["25"] == {"younger": 4, "older": 1, "false_adult_percent": 0, "false_minor_percent": 0}


def test_a_side_without_people_has_no_share():
    t = figures([30, 40], [10, 40])["thresholds"]["18"]
    assert t == {"younger": 0, "older": 2, "false_adult_percent": None, "false_minor_percent": 50}


# Groups


def test_decades():
    years = np.array([-3, 0, 9.99, 10, 29.5, 79.9, 80, 104])
    expected = ["0-9", "0-9", "0-9", "10-19", "20-29", "70-79", "80+", "80+"]
    assert decades(years).tolist() == expected


def test_decades_come_in_their_order():
    f = figures([85, 5, 15, 95, 35], [1] * 5)
    assert list(f["by_true_decade"]) == ["0-9", "10-19", "30-39", "80+"]
    assert f["by_true_decade"]["80+"] == {"n": 2}


def test_a_group_has_figures_from_twenty_pictures_on():
    sexes = ["female"] * 20 + ["male"] * 19 + [""] * 3
    estimates = [30 + (i % 3) for i in range(20)] + [50] * 19 + [90] * 3
    estimates[0] = NAN
    f = figures([30] * 42, estimates, attributes={"sex": sexes}, train_median=40)["by_attribute"]["sex"]
    assert f["male"] == {"n": 19}
    errors = [10] + [i % 3 for i in range(1, 20)]
    women = f["female"]
    assert list(f) == ["female", "male"]
    assert (women["n"], women["detection_rate_percent"]) == (20, 95)
    assert women["mae"] == women["bias"] == pytest.approx(sum(errors) / 20)
    low, high = women["mae_interval_95"]
    assert 0 < low < women["mae"] < high < 3


# Intervals


def test_children_and_the_worst_group_are_named():
    """20 children answered 1 year off, 20 grown men 3, 20 women 8, and one man of 80 by 30, who is no group."""
    labels = [12] * 20 + [13] * 20 + [40] * 20 + [80]
    estimates = [13] * 20 + [16] * 20 + [48] * 20 + [50]
    sex = [""] * 20 + ["male"] * 20 + ["female"] * 20 + ["male"]
    f = figures(labels, estimates, attributes={"sex": sex})
    overall = (20 * 1 + 20 * 3 + 20 * 8 + 30) / 61
    assert f["children"] == {"n": 20, "mae": 1, "of_overall": pytest.approx(1 / overall, abs=1e-4)}
    assert f["worst_group"] == {"attribute": "age", "group": "40-49", "n": 20, "mae": 8}
    text = report.markdown([record(labels, estimates, attributes={"sex": sex})])
    assert "The worst group: age 40-49, MAE 8.00 (20)." in text
    assert f"Children below 13: MAE 1.00, {1 / overall:.2f} times that of all (20)." in text
    few = figures(labels[1:20], estimates[1:20])
    assert (few["children"], few["worst_group"]) == ({"n": 19}, None)


def test_the_interval_of_equal_errors_has_no_width():
    assert Bootstrap(np.array(["a", "b", "c"]), 100, 0).of_mean(np.array([2.0, 2.0, 2.0])) == [2, 2]


def test_an_interval_depends_on_its_seed_alone():
    values = np.random.default_rng(0).random(50)
    subjects = np.array([f"{i}" for i in range(50)])
    intervals = [Bootstrap(subjects, 200, seed).of_mean(values) for seed in (0, 0, 1)]
    assert intervals[0] == intervals[1] != intervals[2]


def test_with_a_picture_a_subject_it_is_the_ordinary_bootstrap():
    values = np.random.default_rng(0).exponential(5, 200)
    found = Bootstrap(np.arange(200).astype(str), 4000, 0).of_mean(values)
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", random_state=1)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert found == pytest.approx([*expected.confidence_interval], abs=0.06 * width)


def test_the_same_errors_of_fewer_subjects_have_a_wider_interval():
    values = np.repeat(np.random.default_rng(0).exponential(5, 20), 10)

    def width(subjects):
        low, high = Bootstrap(subjects, 500, 0).of_mean(values)
        return high - low

    alone, of_twenty = width(np.arange(200).astype(str)), width(np.repeat(np.arange(20), 10).astype(str))
    # Ten equal pictures of one subject say no more than one of them: the root of ten.
    assert of_twenty / alone == pytest.approx(math.sqrt(10), rel=0.15)


def test_subjects_count_as_often_as_they_have_pictures():
    values, subjects = np.array([0.0] * 30 + [10.0]), np.array(["many"] * 30 + ["one"])
    # Both are drawn twice, or each once: means of 0, 10 / 31 and 10.
    low, high = Bootstrap(subjects, 2000, 0).of_mean(values)
    assert (low, high) == (0, 10)
    drawn = Bootstrap(subjects, 1, 0)
    means = {Bootstrap(subjects, 1, seed).of_mean(values)[0] for seed in range(30)}
    assert means == {0, round(10 / 31, 4), 10}
    assert drawn.of_mean(values, np.array([True] * 30 + [False])) == [0, 0]


def test_the_interval_of_a_group_is_that_of_its_pictures_alone():
    random = np.random.default_rng(0)
    values, subjects = random.random(60), np.array([f"{i % 12:02d}" for i in range(60)])
    chosen = np.array([i % 12 in (1, 4, 7, 8) for i in range(60)])
    expected = Bootstrap(subjects[chosen], 300, 5).of_mean(values[chosen])
    assert Bootstrap(subjects, 300, 5).of_mean(values, chosen) == pytest.approx(expected)


def test_the_interval_holds_the_true_mean_in_about_95_of_100_cases():
    """Subjects differ among themselves: an interval over pictures, as if they were independent, holds it far less."""
    random = np.random.default_rng(3)
    subjects = np.repeat(np.arange(40), 5).astype(str)
    held = {"subjects": 0, "pictures": 0}
    cases = 200
    for case in range(cases):
        values = 5 + np.repeat(random.normal(0, 2, 40), 5) + random.normal(0, 1, 200)
        for name, of in (("subjects", subjects), ("pictures", np.arange(200).astype(str))):
            low, high = Bootstrap(of, 200, case).of_mean(values)
            held[name] += low <= 5 <= high
    assert 0.89 * cases <= held["subjects"] <= 0.99 * cases, held
    assert held["pictures"] < 0.8 * cases, held


def test_evaluate_resamples_subjects():
    labels, estimates = [30.0] * 60, [30.0] * 30 + [40.0] * 30
    alone = figures(labels, estimates, resamples=400)["mae_interval_95"]
    of_six = figures(labels, estimates, resamples=400, subjects=[f"{i // 10}" for i in range(60)])["mae_interval_95"]
    assert of_six[1] - of_six[0] > 2 * (alone[1] - alone[0])


def test_several_models_have_a_mean_and_a_deviation():
    results = [{"mae": 4.0}, {"mae": 5.0}, {"mae": 7.5}]
    found = over_seeds([r["mae"] for r in results])
    assert found == {"n": 3, "mean": 5.5, "sd": round(statistics.stdev([4, 5, 7.5]), 4)}
    assert over_seeds([results[0]["mae"]]) == {"n": 1, "mean": 4, "sd": 0}


# All together


@given(
    st.lists(st.tuples(YEARS, st.one_of(st.just(NAN), YEARS), st.sampled_from("abc")), min_size=1, max_size=40),
    st.sampled_from(["real", "apparent"]),
)
def test_any_answers_give_figures_that_are_json(rows, label):
    labels, estimates, subjects = zip(*rows, strict=True)
    f = figures(labels, estimates, subjects=list(subjects), label=label, resamples=10)
    assert json.loads(json.dumps(f, allow_nan=False)) == f
    assert f["cs_curve_percent"]["0"] <= f["cs_curve_percent"]["15"]
    assert sum(g["n"] for g in f["by_true_decade"].values()) == f["n"] == len(rows)
    assert sum(g["n"] for g in f["by_predicted_decade"].values()) == f["n"]
    for t in f["thresholds"].values():
        assert t["younger"] + t["older"] == f["n"]


# The report


def record(labels, estimates, **known):
    """A record as the command makes it."""
    return {
        "model": "best.pth", "answers": "real", "dataset": "some-faces", "part": "valid", "label": "real",
        "split": "official", "split_sha256": "0123456789abcdef" * 4, "detector": "yunet-2023mar", "crop": {},
        "seen_in_training": "other data", **figures(labels, estimates, **known),
    }  # fmt: skip


def many():
    """100 pictures of all ages with errors of -2, 0 and 2 years, three without a face."""
    labels = np.arange(100) * 0.8 + 3
    estimates = labels + 2 * (np.arange(100) % 3 - 1)
    estimates[[5, 50, 95]] = NAN
    return labels.tolist(), estimates.tolist()


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def table(text, first):
    """The rows of the table whose head begins with this, by their first cell."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} "))
    rows = []
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(cells(line))
    return {row[0]: row[1:] for row in rows}


def test_the_document_says_what_was_measured():
    labels, estimates = many()
    r = record(
        labels, estimates, attributes={"sex": ["female"] * 90 + ["male"] * 10}, others=labels, other_stds=[5] * 100
    )
    text = report.markdown([r])
    row = table(text, "model")["best.pth"]
    assert row[:4] == ["some-faces valid", "real", "100", f"{r['mae']:.2f}"]
    assert row[-1] == "97.0 %"
    beside = table(text, "beside it")
    assert beside["this model"] == [f"{r['mae']:.2f}"]
    assert beside["always answering the training median"] == [f"{r['baselines']['train_median']:.2f}"]
    assert beside["the mean of all raters"] == ["0.00"]
    assert next(v for k, v in beside.items() if "single rater" in k) == ["3.99"]
    sexes = table(text, "sex")
    assert sexes["male"][:2] == ["10", "too few"]
    assert sexes["female"][:2] == ["90", f"{r['by_attribute']['sex']['female']['mae']:.2f}"]
    assert table(text, "threshold")["18"][0] == str(sum(v < 18 for v in labels))
    assert "0123456789abcdef" in text
    assert "Epsilon" not in text


def test_a_line_for_the_terminal():
    labels, estimates = many()
    r = record(labels, estimates)
    line = report.line(r)
    assert "best.pth on some-faces valid" in line
    assert f"MAE {r['mae']:.2f}" in line
    assert f"bias {r['bias']:+.2f}" in line
    assert "face found 97.0 %" in line


@pytest.mark.parametrize("robust", [False, True])
def test_the_picture_has_a_row_for_each_evaluation(tmp_path, robust):
    labels, estimates = many()
    records = [record(labels, estimates), record(labels[:3], [NAN] * 3)]
    if robust:
        row = {"n": 5, "mae": 4.0, "bias": 0.0, "detection_rate_percent": 100.0}
        records[0]["robustness"] = [
            {"change": "none", "value": 0, **row}, {"change": "blur, sigma in px", "value": 2, **row, "mae": 9.0},
        ]  # fmt: skip
        assert table(report.markdown(records), "change")["blur, sigma in px"][:3] == ["2", "5", "9.00"]
    of_records = [answered(labels, estimates), answered(labels[:3], [NAN] * 3)]
    report.draw(tmp_path / "new" / "e.png", records, of_records)
    picture = cv2.imread(str(tmp_path / "new" / "e.png"))
    height, width = picture.shape[:2]
    assert height / width == pytest.approx(2 * 4.2 / (4.6 * (4 if robust else 3)), rel=0.02)
    for row in np.array_split(picture, 2):
        assert row.std() > 5
